#include "kernel/agent/volumes.hpp"

#include "kernel/base/fd.hpp"
#include "kernel/base/file.hpp"

#include <gantry/message.hpp>
#include <gantry/record_generated.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <map>

namespace gantry::agent {
namespace fs = std::filesystem;
namespace {

bool plain(const std::string& name) {
  return !name.empty() && name != "." && name != ".." && name.find('/') == std::string::npos && name.find('\0') == std::string::npos;
}

// Roles may have slashes; their directories lie side by side, as scripts expect them.
std::string role_directory(std::string role) {
  std::replace(role.begin(), role.end(), '/', ' ');
  return role;
}

bool whole_disk(const fb::ResourceT& r) {
  return r.disk && r.disk->source && r.disk->source->type == fb::DiskSourceType::MOUNT;
}

Status make(const std::string& path) {
  std::error_code e;
  fs::create_directories(path, e);
  if (e) return fail(Code::internal, "cannot create the volume " + path + ": " + e.message());
  return ok;
}

// All of it or nothing; over after a power cut as well.
Status write_whole(const std::string& path, Bytes bytes) {
  const std::string fresh = path + ".new";
  const base::Fd fd(::open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  std::size_t done = 0;
  while (fd && done < bytes.size()) {
    const ssize_t n = ::write(fd.get(), bytes.data() + done, bytes.size() - done);
    if (n < 0 && errno != EINTR) break;
    if (n > 0) done += static_cast<std::size_t>(n);
  }
  if (!fd || done < bytes.size() || ::fdatasync(fd.get()) != 0 || ::rename(fresh.c_str(), path.c_str()) != 0)
    return fail(Code::internal, "cannot write " + path + ": " + std::strerror(errno));
  return ok;
}

}  // namespace

std::string volume_path(const std::string& work_dir, const fb::ResourceT& r) {
  if (!r.disk || !r.disk->persistence || r.reservations.empty()) return {};
  const std::string& id = r.disk->persistence->id;
  const std::string role = role_directory(r.reservations.back()->role);
  if (!plain(id) || !plain(role)) return {};
  if (whole_disk(r)) {
    const std::string& root = r.disk->source->mount_root;
    return root.empty() || root[0] == '/' ? root : work_dir + "/" + root;
  }
  std::string root = work_dir;
  if (r.disk->source && r.disk->source->type == fb::DiskSourceType::PATH && !r.disk->source->path_root.empty()) {
    const std::string& below = r.disk->source->path_root;
    root = below[0] == '/' ? below : work_dir + "/" + below;
  }
  return root + "/volumes/roles/" + role + "/" + id;
}

VolumeChanges change_volumes(const std::string& work_dir, const fb::link::SetResources& said, std::string_view registry) {
  VolumeChanges out;
  const std::string meta = work_dir + "/meta", file = meta + "/volumes";
  struct Place {
    bool disk = false;  // the whole of it: its root stays
  };
  std::map<std::string, Place> before, now;
  std::string registry_before;
  if (const auto bytes = base::read_file(file, std::size_t{64} << 20); bytes) {
    const auto known = unpack<fb::record::ReservationRecord>(
        Bytes(reinterpret_cast<const std::uint8_t*>(bytes->data()), bytes->size()));
    if (known) {
      registry_before = known->agent_id;
      for (const auto& r : known->resources)
        if (auto path = volume_path(work_dir, *r); !path.empty()) before[path] = {whole_disk(*r)};
    } else {
      out.problems.push_back("the record " + file + " is damaged; volumes that are no longer wanted may stay");
    }
  }
  fb::record::ReservationRecordT record;
  record.agent_id = registry;
  if (said.total()) {
    for (const auto* r : *said.total()) {
      std::unique_ptr<fb::ResourceT> t(r->UnPack());
      if (auto path = volume_path(work_dir, *t); !path.empty()) {
        now[path] = {whole_disk(*t)};
        record.resources.push_back(std::move(t));
      }
    }
  }
  if (before.empty() && now.empty()) return out;
  for (const auto& [path, place] : now) {
    if (before.contains(path)) continue;
    if (auto s = make(path); !s) out.problems.push_back(s.error().message);
    else out.made.push_back(path);
  }
  const bool replaced = !registry_before.empty() && registry_before != registry;
  for (const auto& [path, place] : before) {
    if (now.contains(path)) continue;
    if (replaced) {
      out.problems.push_back("the master's registry is another one and does not know the volume " + path +
                             "; its data stays where it is");
      continue;
    }
    out.removed.push_back(path);
    std::error_code e;
    if (place.disk) {
      for (fs::directory_iterator it(path, e), end; !e && it != end; it.increment(e)) out.trash.push_back(it->path().string());
      continue;
    }
    // Out of the way at once, so that a new volume of that name begins empty.
    const std::string root = path.substr(0, path.find("/volumes/roles/")) + "/volumes/trash";
    fs::create_directories(root, e);
    std::string aside;
    for (int n = 0; n < 10'000; ++n) {
      aside = root + "/" + std::to_string(::getpid()) + "-" + std::to_string(n);
      if (::access(aside.c_str(), F_OK) != 0) break;
    }
    if (::rename(path.c_str(), aside.c_str()) == 0) out.trash.push_back(aside);
    else if (errno != ENOENT) out.problems.push_back("cannot remove the volume " + path + ": " + std::strerror(errno));
  }
  std::error_code e;
  fs::create_directories(meta, e);
  const Buffer bytes = pack(record);
  if (auto s = write_whole(file, bytes); !s) out.problems.push_back(s.error().message);
  return out;
}

void remove_trash(const std::vector<std::string>& trash) {
  for (const auto& path : trash) {
    std::error_code e;
    fs::remove_all(path, e);
  }
}

Status link_volumes(const std::string& work_dir, const std::string& sandbox,
                    const std::vector<std::unique_ptr<fb::ResourceT>>& resources, const Account& account) {
  for (const auto& r : resources) {
    if (!r->disk || !r->disk->persistence) continue;
    const std::string path = volume_path(work_dir, *r);
    if (path.empty()) return fail(Code::invalid_argument, "the volume '" + r->disk->persistence->id + "' has no valid id or role");
    const std::string name = r->disk->volume ? r->disk->volume->container_path : std::string();
    if (!plain(name))
      return fail(Code::invalid_argument, "the volume '" + r->disk->persistence->id + "' cannot be mounted at '" + name +
                                              "': its container_path must be a plain name in the sandbox");
    GANTRY_CHECK(make(path));
    if (account.change && !r->shared && ::chown(path.c_str(), account.uid, account.gid) != 0)
      return fail(Code::permission_denied,
                  "cannot give to user \"" + account.name + "\" the volume " + path + ": " + std::strerror(errno));
    const std::string link = sandbox + "/" + name;
    if (::symlink(path.c_str(), link.c_str()) == 0) continue;
    std::error_code e;
    if (errno == EEXIST && fs::read_symlink(link, e) == path && !e) continue;  // a second task of its executor
    return fail(Code::failed_precondition, "cannot put the volume '" + r->disk->persistence->id + "' at " + link + ": " +
                                               std::strerror(errno));
  }
  return ok;
}

}  // namespace gantry::agent
