#include "ledger.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <set>

namespace gantry::isolator_gpu {

Status Ledger::load() {
  taken_.clear();
  DIR* dir = ::opendir(directory_.c_str());
  if (!dir) return fail(Code::internal, "cannot read " + directory_ + ": " + std::strerror(errno));
  Status result = ok;
  while (const dirent* e = ::readdir(dir)) {
    const std::string id = e->d_name;
    if (id[0] == '.') {
      if (id.ends_with(".new")) ::unlink(path(id).c_str());  // an earlier life ended while it wrote
      continue;
    }
    std::ifstream in(path(id));
    std::vector<std::string> uuids;
    for (std::string line; std::getline(in, line);)
      if (!line.empty()) uuids.push_back(line);
    if (uuids.empty()) result = fail(Code::data_loss, path(id) + " names no card; the cards of container " + id + " may be given twice");
    taken_[id] = std::move(uuids);
  }
  ::closedir(dir);
  return result;
}

Result<std::vector<std::string>> Ledger::take(const std::string& id, unsigned count, const std::vector<Card>& cards) {
  if (const auto* has = of(id)) {
    if (has->size() == count) return *has;
    return fail(Code::already_exists,
                "container " + id + " has " + std::to_string(has->size()) + " cards already, not " + std::to_string(count));
  }
  std::set<std::string_view> gone;
  for (const auto& [other, uuids] : taken_) gone.insert(uuids.begin(), uuids.end());
  std::vector<std::string> free;
  std::size_t ill = 0;
  for (const auto& card : cards) {
    if (!card.problem.empty())
      ++ill;
    else if (!gone.count(card.uuid))
      free.push_back(card.uuid);
  }
  if (free.size() < count)
    return fail(Code::resource_exhausted, "gpus = " + std::to_string(count) + " are wanted, but of " + std::to_string(cards.size()) +
                                              " cards " + std::to_string(free.size()) + " are free and " + std::to_string(ill) +
                                              " out of order; see [isolator.gpu] cards and the agent's resources");
  free.resize(count);
  return taken_[id] = std::move(free);
}

Status Ledger::record(const std::string& id, const std::vector<std::string>& uuids) const {
  std::string text;
  for (const auto& uuid : uuids) text += uuid + "\n";
  const std::string fresh = directory_ + "/." + id + ".new";  // ids do not begin with a dot
  const int fd = ::open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  const bool written = fd >= 0 && ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()) && ::fsync(fd) == 0;
  const int e = errno;
  if (fd >= 0) ::close(fd);
  if (written && ::rename(fresh.c_str(), path(id).c_str()) == 0) return ok;
  const int why = written ? errno : e;
  ::unlink(fresh.c_str());
  return fail(Code::internal, "cannot write down the cards of a container in " + path(id) + ": " + std::strerror(why));
}

Status Ledger::give_back(const std::string& id) {
  if (::unlink(path(id).c_str()) != 0 && errno != ENOENT)
    return fail(Code::internal, "cannot remove " + path(id) + ": " + std::strerror(errno));
  taken_.erase(id);
  return ok;
}

const std::vector<std::string>* Ledger::of(const std::string& id) const {
  const auto it = taken_.find(id);
  return it == taken_.end() ? nullptr : &it->second;
}

}  // namespace gantry::isolator_gpu
