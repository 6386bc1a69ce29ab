#include "unpack.hpp"

#include "digest.hpp"
#include "tree.hpp"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <memory>

namespace gantry::image_oci {
namespace {

// A header of an entry may come with long names, attributes and a map of holes; this is far more than any real one has.
constexpr std::uint64_t kMaxHeader = 8 << 20;
// What is remembered until the end: directories with their attributes, implied ones, links to other layers.
constexpr std::uint64_t kMaxNotes = 128 << 20;

using ArchiveHandle = std::unique_ptr<archive, int (*)(archive*)>;

bool may_keep(std::string_view xattr) {
  return xattr == "security.capability" || (xattr.starts_with("user.") && !xattr.starts_with("user.overlay."));
}

class Unpacking {
 public:
  Unpacking(const Pull& pull, Tree& tree, const UnpackLimits& limits, const Cancelled& cancelled, std::string_view algorithm)
      : pull_(pull), tree_(tree), limits_(limits), cancelled_(cancelled), hasher_(algorithm), buffer_(256 * 1024, '\0') {}

  Result<Unpacked> run() {
    // Two readers, the inner one takes the compression off: the digest is of what is in between.
    inner_.reset(archive_read_new());
    outer_.reset(archive_read_new());
    if (!inner_ || !outer_) return fail(Code::resource_exhausted, "out of memory");
    // Only what is built in: libarchive would start external programs for others.
    archive_read_support_filter_gzip(inner_.get());
    archive_read_support_filter_zstd(inner_.get());
    archive_read_support_filter_bzip2(inner_.get());
    archive_read_support_filter_xz(inner_.get());
    archive_read_support_format_raw(inner_.get());
    archive_read_support_format_empty(inner_.get());
    archive_read_support_format_tar(outer_.get());
    archive_read_support_format_empty(outer_.get());
    if (Status s = all(); !s) return problem_ ? std::move(s).error() : std::move(problem_).error();
    out_.diff_id = hasher_.digest();
    out_.left_out += tree_.left_out;
    out_.implied = std::move(tree_.implied);
    // A directory that got its entry later is not implied.
    std::erase_if(out_.implied, [&](const std::string& d) { return directories_.count(d) != 0; });
    return std::move(out_);
  }

 private:
  Status all() {
    archive_entry* e = nullptr;
    if (archive_read_open(inner_.get(), this, nullptr, &read_packed, nullptr) != ARCHIVE_OK) return error_of(inner_.get(), "decompress");
    const int r = archive_read_next_header(inner_.get(), &e);
    if (r != ARCHIVE_EOF && r != ARCHIVE_OK && r != ARCHIVE_WARN) return error_of(inner_.get(), "decompress");
    ended_ = r == ARCHIVE_EOF;
    if (archive_read_open(outer_.get(), this, nullptr, &read_plain, nullptr) != ARCHIVE_OK) return error_of(outer_.get(), "read");
    for (;;) {
      if (cancelled_()) return cancelled_error();
      header_ = 0;
      in_header_ = true;
      const int h = archive_read_next_header(outer_.get(), &e);
      in_header_ = false;
      if (h == ARCHIVE_EOF) break;
      if (h != ARCHIVE_OK && h != ARCHIVE_WARN) return error_of(outer_.get(), "read");
      if (++out_.entries > limits_.max_entries)
        return fail(Code::resource_exhausted, "it has more than " + std::to_string(limits_.max_entries) + " entries (max_layer_entries)");
      const char* raw = archive_entry_pathname_utf8(e);
      if (!raw) raw = archive_entry_pathname(e);
      const std::string name = raw ? raw : "";
      Status s = one(e, name);
      if (s) s = count_implied();
      if (!s) return std::move(s).error().because("entry \"" + name.substr(0, 300) + "\"");
      // What an entry has that was not wanted: read here, so that it is no part of the next one's header.
      const int skipped = archive_read_data_skip(outer_.get());
      if (skipped != ARCHIVE_OK && skipped != ARCHIVE_WARN && skipped != ARCHIVE_EOF) return error_of(outer_.get(), "read");
    }
    // The padding behind the last entry belongs to the digest.
    const void* data = nullptr;
    for (;;) {
      if (cancelled_()) return cancelled_error();
      const la_ssize_t n = plain(&data);
      if (n < 0) return error_of(inner_.get(), "decompress");
      if (n == 0) break;
    }
    // Attributes of directories last: writing into them changes their times. Backwards, as a mode may lock us out of what is below.
    for (auto it = directories_.rbegin(); it != directories_.rend(); ++it) {
      if (Status s = tree_.set_directory(it->first, it->second); !s) {
        if (s.error().code == Code::not_found || s.error().code == Code::invalid_argument) continue;  // replaced by something else since
        return std::move(s).error().because("entry \"" + it->first.substr(0, 300) + "\"");
      }
    }
    return ok;
  }

  // ---- bytes
  static la_ssize_t read_packed(archive* a, void* self, const void** data) {
    auto& u = *static_cast<Unpacking*>(self);
    const auto n = u.pull_(u.buffer_.data(), u.buffer_.size());
    if (!n) {
      u.problem_ = n.error();
      archive_set_error(a, EIO, "%s", "source");
      return -1;
    }
    *data = u.buffer_.data();
    return static_cast<la_ssize_t>(*n);
  }
  static la_ssize_t read_plain(archive* a, void* self, const void** data) {
    auto& u = *static_cast<Unpacking*>(self);
    const la_ssize_t n = u.plain(data);
    if (n < 0) {
      if (u.problem_) u.problem_ = u.error_of(u.inner_.get(), "decompress");
      archive_set_error(a, EIO, "%s", "source");
    }
    return n;
  }
  la_ssize_t plain(const void** data) {
    std::size_t size = 0;
    la_int64_t at = 0;
    while (!ended_ && size == 0) {
      const int r = archive_read_data_block(inner_.get(), data, &size, &at);
      if (r == ARCHIVE_EOF)
        ended_ = true;
      else if (r != ARCHIVE_OK && r != ARCHIVE_WARN)
        return -1;
    }
    if (ended_) return 0;
    total_ += size;
    if (in_header_) header_ += size;
    if (total_ > limits_.max_size)
      problem_ = fail(Code::resource_exhausted, "it unpacks to more than " + std::to_string(limits_.max_size) + " bytes (max_layer_size)");
    if (header_ > kMaxHeader)
      problem_ = fail(Code::resource_exhausted, "an entry has a header of more than " + std::to_string(kMaxHeader) + " bytes");
    if (!problem_) return -1;
    hasher_.add(*data, size);
    return static_cast<la_ssize_t>(size);
  }
  Error error_of(archive* a, const char* what) {
    if (!problem_) return problem_.error();
    const char* why = archive_error_string(a);
    return fail(Code::invalid_argument, std::string(what) + ": " + (why ? why : "not a readable archive"));
  }

  // ---- entries
  Status one(archive_entry* e, const std::string& raw) {
    GANTRY_TRY(const std::string path, clean_path(raw));
    const std::size_t slash = path.rfind('/');
    const std::string name = slash == std::string::npos ? path : path.substr(slash + 1);
    if (name.starts_with(".wh.")) return removal(path, name);
    const auto type = archive_entry_filetype(e);
    Attributes a = attributes(e);
    if (path.empty()) {
      if (type != AE_IFDIR) return fail(Code::invalid_argument, "the root is something else than a directory");
      return note(path, std::move(a));
    }
    GANTRY_TRY(const Tree::Place at, tree_.place(path));
    if (const char* hard = archive_entry_hardlink_utf8(e) ? archive_entry_hardlink_utf8(e) : archive_entry_hardlink(e))
      return hard_link(path, hard);
    if (type == AE_IFDIR) return directory(path, at, std::move(a));
    GANTRY_TRY([[maybe_unused]] const bool hidden, tree_.clear(at));
    switch (type) {
      case AE_IFREG:
        return file(e, at, a);
      case AE_IFLNK: {
        const char* to = archive_entry_symlink_utf8(e) ? archive_entry_symlink_utf8(e) : archive_entry_symlink(e);
        if (!to || !*to) return fail(Code::invalid_argument, "a symbolic link to nothing");
        if (::symlinkat(to, at.directory, at.name.c_str()) != 0) return os_error("make the symbolic link", errno);
        return tree_.set_link(at, a);
      }
      case AE_IFIFO:
        if (::mkfifoat(at.directory, at.name.c_str(), 0600) != 0) return os_error("make the fifo", errno);
        return tree_.set_link(at, a);
      case AE_IFCHR:
      case AE_IFBLK:
        return device(e, at, a, type);
      default:
        return fail(Code::invalid_argument, "an entry of unknown type");
    }
  }

  static Attributes attributes(archive_entry* e) {
    Attributes a;
    a.mode = static_cast<mode_t>(archive_entry_perm(e)) & 07777;
    a.uid = static_cast<uid_t>(archive_entry_uid(e));
    a.gid = static_cast<gid_t>(archive_entry_gid(e));
    // Files of no time are of 1970, and times that are none cannot be set.
    const long ns = archive_entry_mtime_nsec(e);
    a.mtime = {std::clamp<time_t>(archive_entry_mtime(e), -(1LL << 31), 1LL << 34), ns >= 0 && ns < 1'000'000'000 ? ns : 0};
    const char* name = nullptr;
    const void* value = nullptr;
    std::size_t size = 0;
    for (archive_entry_xattr_reset(e); archive_entry_xattr_next(e, &name, &value, &size) == ARCHIVE_OK;)
      if (name && may_keep(name)) a.xattrs.emplace_back(name, std::string(static_cast<const char*>(value), size));
    return a;
  }

  Status remember(std::uint64_t bytes) {
    notes_ += bytes;
    if (notes_ > kMaxNotes)
      return fail(Code::resource_exhausted, "its directories take more than " + std::to_string(kMaxNotes) + " bytes of memory");
    return ok;
  }

  // Directories nobody mentioned are as good as entries: a single long name makes two thousand of them.
  Status count_implied() {
    for (; implied_ < tree_.implied.size(); ++implied_) {
      GANTRY_CHECK(remember(100 + tree_.implied[implied_].size()));
      ++out_.entries;
    }
    return ok;
  }

  Status note(const std::string& path, Attributes a) {
    std::uint64_t bytes = 200 + 2 * path.size();
    for (const auto& [name, value] : a.xattrs) bytes += 64 + name.size() + value.size();
    GANTRY_CHECK(remember(bytes));
    directories_.insert_or_assign(path, std::move(a));  // of several entries for one directory the last counts
    return ok;
  }

  Status directory(const std::string& path, const Tree::Place& at, Attributes a) {
    if (!tree_.is_directory(at)) {
      GANTRY_TRY(const bool hidden, tree_.clear(at));
      if (::mkdirat(at.directory, at.name.c_str(), 0700) != 0) return os_error("make the directory", errno);
      // Removed and made anew in one layer: what is below stays removed.
      if (hidden) GANTRY_CHECK(tree_.hide_below(path));
    }
    return note(path, std::move(a));
  }

  // ".wh.x" removes x of the layers below, not what this layer itself has, whichever comes first in the archive.
  Status removal(const std::string& path, const std::string& name) {
    const std::string above = path.substr(0, path.size() - name.size());
    if (name == ".wh..wh..opq") return tree_.hide_below(above.empty() ? above : above.substr(0, above.size() - 1));
    if (name.starts_with(".wh..wh.")) return ok;  // of the file system that invented them, about itself
    const std::string hidden = name.substr(4);
    if (hidden.empty() || hidden == "." || hidden == "..") return fail(Code::invalid_argument, "a whiteout of nothing");
    GANTRY_TRY(const Tree::Place at, tree_.place(above + hidden));
    struct stat st {};
    if (::fstatat(at.directory, at.name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) return tree_.whiteout(at);
    if (S_ISDIR(st.st_mode)) return tree_.hide_below(above + hidden);
    return ok;
  }

  Status hard_link(const std::string& path, const std::string& target) {
    GANTRY_TRY(const std::string to, clean_path(target));
    if (to == path) return ok;
    const auto from = tree_.find(to);
    struct stat st {};
    const bool here =
        from && ::fstatat(from->directory, from->name.c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0 && !(S_ISCHR(st.st_mode) && st.st_rdev == 0);
    if (!here) {
      GANTRY_CHECK(remember(200 + path.size() + to.size()));
      out_.links.emplace_back(path, to);
      return ok;
    }
    if (S_ISDIR(st.st_mode)) return fail(Code::invalid_argument, "a hard link to the directory \"" + to + "\"");
    const Fd source(::dup(from->directory));  // find() and place() share one descriptor
    const std::string source_name = from->name;
    GANTRY_TRY(const Tree::Place at, tree_.place(path));
    GANTRY_TRY([[maybe_unused]] const bool hidden, tree_.clear(at));
    if (::linkat(source.get(), source_name.c_str(), at.directory, at.name.c_str(), 0) != 0)
      return os_error("link it to \"" + to + "\"", errno);
    return ok;
  }

  Status device(archive_entry* e, const Tree::Place& at, const Attributes& a, unsigned type) {
    const dev_t number = ::makedev(static_cast<unsigned>(archive_entry_rdevmajor(e)), static_cast<unsigned>(archive_entry_rdevminor(e)));
    if (type == AE_IFCHR && number == 0) return fail(Code::invalid_argument, "a character device 0:0 is a whiteout, not a file");
    if (::mknodat(at.directory, at.name.c_str(), (type == AE_IFCHR ? S_IFCHR : S_IFBLK) | 0600, number) != 0) {
      if (errno != EPERM) return os_error("make the device", errno);
      ++out_.left_out;  // no right to: images have them out of habit, and containers get their devices from the agent
      return ok;
    }
    return tree_.set_link(at, a);
  }

  Status file(archive_entry* e, const Tree::Place& at, const Attributes& a) {
    const auto claimed = archive_entry_size_is_set(e) ? static_cast<std::uint64_t>(archive_entry_size(e)) : 0;
    if (claimed > limits_.max_size)
      return fail(Code::resource_exhausted, "a file of " + std::to_string(claimed) + " bytes, more than max_layer_size");
    const Fd fd(::openat(at.directory, at.name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!fd) return os_error("create it", errno);
    std::uint64_t end = 0;
    for (;;) {
      if (cancelled_()) return cancelled_error();
      const void* data = nullptr;
      std::size_t size = 0;
      la_int64_t offset = 0;
      const int r = archive_read_data_block(outer_.get(), &data, &size, &offset);
      if (r == ARCHIVE_EOF) {
        end = std::max(end, static_cast<std::uint64_t>(offset));  // a hole at the end
        break;
      }
      if (r != ARCHIVE_OK && r != ARCHIVE_WARN) return error_of(outer_.get(), "read");
      const auto reached = static_cast<std::uint64_t>(offset) + size;
      if (offset < 0 || reached > limits_.max_size) return fail(Code::resource_exhausted, "a file of more than max_layer_size");
      end = std::max(end, reached);
      out_.size += size;
      const auto* p = static_cast<const char*>(data);
      while (size > 0) {
        const ssize_t n = ::pwrite(fd.get(), p, size, offset);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return os_error("write", errno);
        p += n;
        offset += n;
        size -= static_cast<std::size_t>(n);
      }
    }
    end = std::max(end, claimed);
    struct stat st {};
    if (::fstat(fd.get(), &st) == 0 && static_cast<std::uint64_t>(st.st_size) != end && ::ftruncate(fd.get(), static_cast<off_t>(end)) != 0)
      return os_error("write", errno);
    return tree_.set(fd.get(), a);
  }

  const Pull& pull_;
  Tree& tree_;
  const UnpackLimits limits_;
  const Cancelled& cancelled_;
  Hasher hasher_;
  std::string buffer_;
  ArchiveHandle inner_{nullptr, &archive_read_free}, outer_{nullptr, &archive_read_free};
  Status problem_;  // behind an error that libarchive passes on
  bool ended_ = false, in_header_ = false;
  std::uint64_t total_ = 0, header_ = 0, notes_ = 0;
  std::map<std::string, Attributes> directories_;
  std::size_t implied_ = 0;  // of tree_.implied, how many are counted
  Unpacked out_;
};

// Of a file below `root`, and what is set on it elsewhere.
Result<Attributes> attributes_of(int fd) {
  struct stat st {};
  if (::fstat(fd, &st) != 0) return os_error("look at a file of a layer below", errno);
  Attributes a{st.st_mode & 07777, st.st_uid, st.st_gid, st.st_mtim, {}};
  std::string names(64 * 1024, '\0'), value(64 * 1024, '\0');
  const ssize_t n = ::flistxattr(fd, names.data(), names.size());
  for (ssize_t at = 0; at < n;) {
    const std::string name = names.c_str() + at;
    at += static_cast<ssize_t>(name.size()) + 1;
    if (!may_keep(name)) continue;
    const ssize_t size = ::fgetxattr(fd, name.c_str(), value.data(), value.size());
    if (size >= 0) a.xattrs.emplace_back(name, value.substr(0, static_cast<std::size_t>(size)));
  }
  return a;
}

// The topmost file of a name in a stack of layers as the overlay file system would show it, opened; none if it is hidden or
// nowhere.
Fd look_up(const std::vector<std::string>& below, const std::string& path) {
  for (auto layer = below.rbegin(); layer != below.rend(); ++layer) {
    const Fd root(::open(layer->c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!root) continue;
    Fd at(::dup(root.get()));
    bool hidden = false, here = true;
    for (std::size_t begin = 0; begin <= path.size();) {
      const std::size_t end = std::min(path.find('/', begin), path.size());
      const std::string part = path.substr(begin, end - begin);
      begin = end + 1;
      char mark = 0;
      if (::fgetxattr(at.get(), "trusted.overlay.opaque", &mark, 1) == 1 && mark == 'y') hidden = true;
      struct stat st {};
      if (::fstatat(at.get(), part.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) {
        here = false;
        break;
      }
      const bool last = begin > path.size();
      if ((last && !S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode)) || (!last && !S_ISDIR(st.st_mode))) return Fd();  // a whiteout, a link
      Fd next(::openat(at.get(), part.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | (last ? O_NONBLOCK : O_DIRECTORY)));
      if (!next) return Fd();
      at = std::move(next);
    }
    if (here) return at;
    if (hidden) return Fd();
  }
  return Fd();
}

}  // namespace

Status complete(const Unpacked& layer, const std::string& directory, const std::vector<std::string>& below) {
  Fd root(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!root) return os_error("open " + directory, errno);
  Tree tree(std::move(root), ::geteuid() == 0);
  for (const auto& [name, to] : layer.links) {
    const auto link = [&, &path = name, &target = to]() -> Status {
      const auto own = tree.find(target);
      struct stat st {};
      if (own && ::fstatat(own->directory, own->name.c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode)) {
        const Fd from(::dup(own->directory));
        const std::string from_name = own->name;
        GANTRY_TRY(const Tree::Place at, tree.place(path));
        GANTRY_TRY([[maybe_unused]] const bool hidden, tree.clear(at));
        if (::linkat(from.get(), from_name.c_str(), at.directory, at.name.c_str(), 0) != 0)
          return os_error("link it to \"" + target + "\"", errno);
        return ok;
      }
      // A file of a layer below cannot be linked to from here: it is as if it had been copied up first.
      const Fd source = look_up(below, target);
      if (!source || ::fstat(source.get(), &st) != 0 || !S_ISREG(st.st_mode))
        return fail(Code::invalid_argument, "a hard link to \"" + target + "\", which is in no layer");
      GANTRY_TRY(const Tree::Place at, tree.place(path));
      GANTRY_TRY([[maybe_unused]] const bool hidden, tree.clear(at));
      const Fd copy(::openat(at.directory, at.name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
      if (!copy) return os_error("create it", errno);
      for (off_t left = st.st_size; left > 0;) {
        const ssize_t n = ::copy_file_range(source.get(), nullptr, copy.get(), nullptr, static_cast<std::size_t>(left), 0);
        if (n <= 0) return os_error("copy it", n < 0 ? errno : EIO);
        left -= n;
      }
      GANTRY_TRY(const Attributes a, attributes_of(source.get()));
      return tree.set(copy.get(), a);
    };
    if (Status s = link(); !s) return std::move(s).error().because("entry \"" + name.substr(0, 300) + "\"");
  }
  std::vector<std::string> implied = layer.implied;
  implied.insert(implied.end(), tree.implied.begin(), tree.implied.end());
  for (auto it = implied.rbegin(); it != implied.rend(); ++it) {
    const Fd source = look_up(below, *it);
    struct stat st {};
    if (!source || ::fstat(source.get(), &st) != 0 || !S_ISDIR(st.st_mode)) continue;
    GANTRY_TRY(const Attributes a, attributes_of(source.get()));
    if (Status s = tree.set_directory(*it, a); !s && s.error().code != Code::not_found && s.error().code != Code::invalid_argument)
      return s;
  }
  return ok;
}

Result<Unpacked> unpack(const Pull& pull, const std::string& directory, const UnpackLimits& limits, const Cancelled& cancelled,
                        std::string_view algorithm) {
  Fd root(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!root) return os_error("open " + directory, errno);
  Tree tree(std::move(root), ::geteuid() == 0);
  return Unpacking(pull, tree, limits, cancelled, algorithm).run();
}

}  // namespace gantry::image_oci
