#include "walk.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

namespace gantry::isolator_disk {
namespace {

class Descriptor {
 public:
  explicit Descriptor(int fd = -1) : fd_(fd) {}
  Descriptor(Descriptor&& o) noexcept : fd_(std::exchange(o.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& o) noexcept {
    std::swap(fd_, o.fd_);
    return *this;
  }
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  [[nodiscard]] int get() const { return fd_; }

 private:
  int fd_;
};

// A directory on the way down: what of it is still to be entered.
struct Level {
  dev_t device;
  ino_t inode;
  std::string path;  // below the root; "" for the root
  std::vector<std::string> below;
};

Entry entry_of(int directory, const char* name, const struct stat& st) {
  return {directory,
          name,
          S_ISDIR(st.st_mode),
          S_ISREG(st.st_mode),
          static_cast<std::uint64_t>(st.st_blocks),
          st.st_dev,
          st.st_ino,
          static_cast<std::uint64_t>(st.st_nlink)};
}

}  // namespace

Result<bool> walk(const std::string& root, const std::set<std::string>& exclude, const std::atomic<bool>& cancelled,
                  const std::function<void(const Entry&)>& visit) {
  constexpr int how = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC | O_NOATIME;
  const auto open_directory = [](int at, const char* name) {
    const int fd = ::openat(at, name, how);
    return fd >= 0 || errno != EPERM ? fd : ::openat(at, name, how & ~O_NOATIME);  // only owners may leave the time alone
  };
  Descriptor here(open_directory(AT_FDCWD, root.c_str()));
  struct stat st {};
  if (here.get() < 0 || ::fstat(here.get(), &st) != 0)
    return fail(errno == ENOENT ? Code::not_found : Code::internal, "cannot look into " + root + ": " + std::strerror(errno));
  const dev_t device = st.st_dev;
  visit(entry_of(here.get(), ".", st));
  bool whole = true;

  // Reads the directory `here`: tells of what is in it and remembers where to go on.
  const auto enter = [&](Level& level) {
    const int fd = ::openat(here.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR* dir = fd < 0 ? nullptr : ::fdopendir(fd);
    if (!dir) {
      if (fd >= 0) ::close(fd);
      whole = false;
      return;
    }
    while (const dirent* e = ::readdir(dir)) {
      if (std::strcmp(e->d_name, ".") == 0 || std::strcmp(e->d_name, "..") == 0) continue;
      if (!exclude.empty() && exclude.count(level.path.empty() ? e->d_name : level.path + "/" + e->d_name)) continue;
      struct stat of {};
      if (::fstatat(here.get(), e->d_name, &of, AT_SYMLINK_NOFOLLOW) != 0 || of.st_dev != device) continue;  // has gone, or is a mount
      visit(entry_of(here.get(), e->d_name, of));
      if (S_ISDIR(of.st_mode)) level.below.emplace_back(e->d_name);
    }
    ::closedir(dir);
  };

  std::vector<Level> levels;
  levels.push_back({st.st_dev, st.st_ino, "", {}});
  enter(levels.back());
  while (!levels.empty()) {
    if (cancelled) return fail(Code::cancelled, "looking into " + root + " was given up");
    Level& level = levels.back();
    if (level.below.empty()) {
      levels.pop_back();
      if (levels.empty()) break;
      // Up again. If the directory has been moved meanwhile, ".." is another one, perhaps outside.
      Descriptor up(open_directory(here.get(), ".."));
      if (up.get() < 0 || ::fstat(up.get(), &st) != 0 || st.st_dev != levels.back().device || st.st_ino != levels.back().inode)
        return false;
      here = std::move(up);
      continue;
    }
    const std::string name = std::move(level.below.back());
    level.below.pop_back();
    Descriptor down(open_directory(here.get(), name.c_str()));
    if (down.get() < 0) {
      if (errno != ENOENT) whole = false;
      continue;
    }
    if (::fstat(down.get(), &st) != 0 || st.st_dev != device) continue;
    Level next{st.st_dev, st.st_ino, level.path.empty() ? name : level.path + "/" + name, {}};
    here = std::move(down);
    enter(next);
    levels.push_back(std::move(next));
  }
  return whole;
}

Result<Space> space_of(const std::string& root, const std::set<std::string>& exclude, const std::atomic<bool>& cancelled) {
  Space out;
  std::set<std::uint64_t> seen;  // inodes with several names; one device only
  GANTRY_TRY(out.whole, walk(root, exclude, cancelled, [&](const Entry& e) {
               if (!e.is_directory && e.names > 1 && !seen.insert(e.inode).second) return;
               out.bytes += e.blocks * 512;
             }));
  return out;
}

}  // namespace gantry::isolator_disk
