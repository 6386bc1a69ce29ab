#include "records.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

namespace @NAME_ID@ {

using namespace gantry;
namespace fs = std::filesystem;

bool is_file_name(const std::string& name) {
  return !name.empty() && name.size() <= 200 && name != "." && name != ".." && name.find('/') == std::string::npos && name.find('\0') == std::string::npos;
}

Result<Records> Records::open(const std::string& directory) {
  Records r;
  r.directory_ = directory;
  std::error_code ec;
  fs::create_directories(directory, ec);
  for (const auto& each : fs::directory_iterator(directory, ec)) {
    if (each.path().extension() == ".new") continue;  // never finished
    std::ifstream in(each.path(), std::ios::binary);
    r.all_[each.path().filename().string()] = {std::istreambuf_iterator<char>(in), {}};
  }
  if (ec) return fail(Code::internal, directory + ": " + ec.message());
  return r;
}

Status Records::put(const std::string& name, const std::string& value) {
  const std::string path = directory_ + "/" + name, aside = path + ".new";
  const int fd = ::open(aside.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  const bool written = fd >= 0 && ::write(fd, value.data(), value.size()) == static_cast<ssize_t>(value.size()) && ::fsync(fd) == 0;
  const int error = errno;
  if (fd >= 0) ::close(fd);
  if (!written || ::rename(aside.c_str(), path.c_str()) != 0) return fail(Code::internal, path + ": " + std::strerror(error));
  all_[name] = value;
  return ok;
}

Status Records::remove(const std::string& name) {
  const auto it = all_.find(name);
  if (it == all_.end()) return ok;
  if (::unlink((directory_ + "/" + name).c_str()) != 0 && errno != ENOENT) return fail(Code::internal, directory_ + "/" + name + ": " + std::strerror(errno));
  all_.erase(it);
  return ok;
}

}  // namespace @NAME_ID@
