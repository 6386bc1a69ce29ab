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

namespace {

// What lies where. On a disk that is one volume as a whole, the same path serves one role today and another tomorrow.
struct Place {
  std::string owner;  // role and id
  bool disk = false;  // a whole disk: its root stays
  std::unique_ptr<fb::ResourceT> resource;
};
using Places = std::map<std::string, Place>;

std::string owner_of(const fb::ResourceT& r) { return r.reservations.back()->role + '\0' + r.disk->persistence->id; }
std::string words_of(const fb::ResourceT& r) { return "volume '" + r.disk->persistence->id + "' of role " + r.reservations.back()->role; }

void add(Places& to, const std::string& work_dir, std::unique_ptr<fb::ResourceT> r) {
  auto path = volume_path(work_dir, *r);
  if (path.empty()) return;
  Place p{owner_of(*r), whole_disk(*r), {}};
  p.resource = std::move(r);
  to.insert_or_assign(std::move(path), std::move(p));
}

std::string record_file(const std::string& work_dir) { return work_dir + "/meta/volumes"; }
// Whole disks with data of a registry that is no more; nobody may delete it, and nobody else may get it.
std::string kept_file(const std::string& work_dir) { return work_dir + "/meta/volumes.kept"; }
std::string trash_file(const std::string& work_dir) { return work_dir + "/meta/volumes.trash"; }

// False: it is there and cannot be understood.
bool read_places(const std::string& work_dir, const std::string& file, Places& out, std::string* registry = nullptr) {
  const auto bytes = base::read_file(file, std::size_t{64} << 20);
  if (!bytes) return bytes.error().code == Code::not_found;
  auto known = unpack<fb::record::ReservationRecord>(Bytes(reinterpret_cast<const std::uint8_t*>(bytes->data()), bytes->size()));
  if (!known) return false;
  if (registry) *registry = known->agent_id;
  for (auto& r : known->resources) add(out, work_dir, std::move(r));
  return true;
}

Status write_places(const std::string& file, const Places& places, std::string_view registry) {
  fb::record::ReservationRecordT record;
  record.agent_id = registry;
  for (const auto& [path, p] : places) record.resources.push_back(std::make_unique<fb::ResourceT>(*p.resource));
  const Buffer bytes = pack(record);
  return base::write_whole(file, {reinterpret_cast<const char*>(Bytes(bytes).data()), Bytes(bytes).size()}, true);
}

// A name beside what is moved away that nothing has.
std::string free_name(const std::string& prefix) {
  for (unsigned n = 0;; ++n) {
    std::string name = prefix + std::to_string(::getpid()) + "-" + std::to_string(n);
    struct stat there {};
    if (::lstat(name.c_str(), &there) != 0) return name;
  }
}

bool is_kept(const fs::path& path) {
  struct stat there {};
  return path.filename().string().starts_with(".gantry-kept-") && ::lstat(path.c_str(), &there) == 0 && S_ISDIR(there.st_mode) &&
         there.st_uid == ::geteuid() && (there.st_mode & 077) == 0;
}

// Everything below `disk` into one new folder of it that only the agent's account may enter; renaming takes no time, and what is
// written to the disk from now on has nothing to do with it. What was kept before stays where it is.
Status move_aside(const std::string& disk, const std::string& aside) {
  std::error_code e;
  std::vector<fs::path> all;
  for (fs::directory_iterator it(disk, e), end; !e && it != end; it.increment(e))
    if (!is_kept(it->path())) all.push_back(it->path());
  if (e) return fail(Code::internal, "cannot list " + disk + ": " + e.message());
  if (all.empty()) return ok;
  if (::mkdir(aside.c_str(), 0700) != 0) return fail(Code::internal, "cannot make " + aside + ": " + std::strerror(errno));
  for (const auto& path : all)
    if (::rename(path.c_str(), (aside + "/" + path.filename().string()).c_str()) != 0)
      return fail(Code::internal, "cannot move " + path.string() + " out of the way: " + std::strerror(errno));
  return ok;
}

// Trash that an earlier life of the agent had no time to delete; and what is to come, before it is made.
class Trash {
 public:
  explicit Trash(std::string file) : file_(std::move(file)) {
    const auto text = base::read_file(file_, std::size_t{16} << 20);
    if (!text) return;
    was_ = true;
    for (std::size_t at = 0; at < text->size();) {
      const auto end = text->find('\0', at);
      if (end == std::string::npos) break;
      std::string path = text->substr(at, end - at);
      struct stat there {};
      if (::lstat(path.c_str(), &there) == 0) paths_.push_back(std::move(path));
      at = end + 1;
    }
  }
  Status expect(const std::string& path) {
    paths_.push_back(path);
    return write();
  }
  Status write() {
    if (paths_.empty() && !was_) return ok;
    std::string text;
    for (const auto& p : paths_) text += p + '\0';
    was_ = true;
    return base::write_whole(file_, text, true);
  }
  std::vector<std::string> take() {
    std::erase_if(paths_, [](const std::string& p) {
      struct stat there {};
      return ::lstat(p.c_str(), &there) != 0;
    });
    return paths_;
  }

 private:
  const std::string file_;
  bool was_ = false;
  std::vector<std::string> paths_;
};

// The volume at `path` is no more. Its data is out of the way at once, so that a new volume there begins empty.
Status discard(const std::string& path, const Place& place, Trash& trash) {
  if (place.disk) {
    const std::string aside = free_name(path + "/.gantry-trash-");
    GANTRY_CHECK(trash.expect(aside));
    return move_aside(path, aside);
  }
  const std::string root = path.substr(0, path.find("/volumes/roles/")) + "/volumes/trash";
  std::error_code e;
  fs::create_directories(root, e);
  const std::string aside = free_name(root + "/");
  GANTRY_CHECK(trash.expect(aside));
  if (::rename(path.c_str(), aside.c_str()) != 0 && errno != ENOENT)
    return fail(Code::internal, "cannot remove the volume " + path + ": " + std::strerror(errno));
  return ok;
}

}  // namespace

VolumeChanges change_volumes(const std::string& work_dir, const fb::link::SetResources& said, std::string_view registry) {
  VolumeChanges out;
  Places before, kept, now;
  std::string registry_before;
  if (!read_places(work_dir, record_file(work_dir), before, &registry_before))
    out.problems.push_back("the record " + record_file(work_dir) + " is damaged; volumes that are no longer wanted may stay");
  (void)read_places(work_dir, kept_file(work_dir), kept);
  const std::size_t kept_before = kept.size();
  if (said.total())
    for (const auto* r : *said.total()) add(now, work_dir, std::unique_ptr<fb::ResourceT>(r->UnPack()));
  Trash trash(trash_file(work_dir));
  if (before.empty() && now.empty()) {
    out.trash = trash.take();
    return out;
  }
  std::error_code e;
  fs::create_directories(work_dir + "/meta", e);
  const bool replaced = !registry_before.empty() && registry_before != registry;

  for (auto& [path, place] : before) {
    const auto wanted = now.find(path);
    if (wanted != now.end() && wanted->second.owner == place.owner) continue;
    if (replaced) {  // not somebody's will but somebody's loss
      out.problems.push_back("the master's registry is another one and does not know the volume " + path + "; its data stays where it is");
      if (place.disk) kept.insert_or_assign(path, Place{place.owner, true, std::make_unique<fb::ResourceT>(*place.resource)});
      continue;
    }
    if (auto s = discard(path, place, trash); s) {
      out.removed.push_back(path);
    } else {
      out.problems.push_back(s.error().message);
      // Recorded as it was: nobody else gets the disk, and the next word of the master tries again.
      if (place.disk && wanted != now.end()) wanted->second = Place{place.owner, true, std::make_unique<fb::ResourceT>(*place.resource)};
    }
  }
  for (auto& [path, place] : now) {
    const auto was = before.find(path);
    if (const auto k = kept.find(path); k != kept.end()) {
      if (k->second.owner != place.owner) {
        const std::string aside = free_name(path + "/.gantry-kept-");
        const auto whose = words_of(*k->second.resource);
        if (auto s = move_aside(path, aside); !s) {
          out.problems.push_back(s.error().message);
          place = Place{k->second.owner, true, std::make_unique<fb::ResourceT>(*k->second.resource)};
          continue;
        }
        out.problems.push_back("data of the " + whose + ", which the master's registry does not know, was moved to " + aside);
      }
      kept.erase(k);
    }
    if (was != before.end() && was->second.owner == place.owner) continue;
    if (auto s = make(path); !s) out.problems.push_back(s.error().message);
    else out.made.push_back(path);
  }
  if (!kept.empty() || kept_before)
    if (auto s = write_places(kept_file(work_dir), kept, registry); !s) out.problems.push_back(s.error().message);
  if (auto s = write_places(record_file(work_dir), now, registry); !s) out.problems.push_back(s.error().message);
  out.trash = trash.take();
  if (auto s = trash.write(); !s) out.problems.push_back(s.error().message);
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
    if (whole_disk(*r)) {
      Places known;
      (void)read_places(work_dir, record_file(work_dir), known);
      if (const auto it = known.find(path); it != known.end() && it->second.owner != owner_of(*r))
        return fail(Code::failed_precondition, "the disk " + path + " could not be cleared of the " + words_of(*it->second.resource) + " yet");
    }
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
