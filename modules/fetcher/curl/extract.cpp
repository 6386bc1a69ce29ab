#include "extract.hpp"

#include <archive.h>
#include <archive_entry.h>

#include <array>
#include <cerrno>
#include <memory>

namespace gantry::fetcher_curl {
namespace {

constexpr std::array<std::string_view, 8> kArchives = {".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".zip"};

bool holds_tree(std::string_view name) {
  for (const auto suffix : kArchives)
    if (name.size() > suffix.size() && name.ends_with(suffix)) return true;
  return false;
}

Error archive_error(const std::string& name, archive* a) {
  const char* why = archive_error_string(a);
  return fail(Code::invalid_argument, "unpack " + name + ": " + (why ? why : "not a readable archive"));
}

// The name as UTF-8 where the archive says so; the bytes as they are otherwise, whatever the locale.
std::string entry_path(archive_entry* e) {
  const char* p = archive_entry_pathname_utf8(e);
  if (!p) p = archive_entry_pathname(e);
  return p ? p : "";
}

class Unpacking {
 public:
  Unpacking(const Tree& tree, const std::string& name, std::uint64_t limit, const Cancelled& cancelled)
      : tree_(tree), name_(name), limit_(limit), cancelled_(cancelled) {}

  Status run(archive* a, bool single) {
    archive_entry* e = nullptr;
    for (;;) {
      if (cancelled_()) return cancelled_error();
      const int r = archive_read_next_header(a, &e);
      if (r == ARCHIVE_EOF) return ok;
      if (r != ARCHIVE_OK && r != ARCHIVE_WARN) return archive_error(name_, a);
      const std::string path = single ? name_.substr(0, name_.size() - 3) : entry_path(e);
      if (Status s = one(a, e, path, single); !s) return std::move(s).error().because("unpack " + name_ + ", entry '" + path + "'");
    }
  }

 private:
  Status one(archive* a, archive_entry* e, const std::string& path, bool single) {
    if (const char* target = archive_entry_hardlink(e)) return tree_.hardlink(path, target);
    const auto mode = static_cast<mode_t>(archive_entry_perm(e));
    switch (single ? static_cast<mode_t>(AE_IFREG) : archive_entry_filetype(e)) {
      case AE_IFDIR: return tree_.directory(path, mode);
      case AE_IFLNK: {
        const char* target = archive_entry_symlink_utf8(e);
        if (!target) target = archive_entry_symlink(e);
        if (!target || !*target) return fail(Code::invalid_argument, "a link without target");
        return tree_.symlink(path, target);
      }
      case AE_IFREG: {
        GANTRY_TRY(Fd file, tree_.create(path, single ? 0644 : mode | 0400));
        return contents(a, file.get());
      }
      default: return fail(Code::invalid_argument, "devices, fifos and sockets are not unpacked");
    }
  }

  Status contents(archive* a, int fd) {
    std::uint64_t end = 0;
    for (;;) {
      if (cancelled_()) return cancelled_error();
      const void* data = nullptr;
      std::size_t size = 0;
      la_int64_t at = 0;
      const int r = archive_read_data_block(a, &data, &size, &at);
      if (r != ARCHIVE_EOF && r != ARCHIVE_OK && r != ARCHIVE_WARN) return archive_error(name_, a);
      // Holes count, too: they are the cheapest bomb.
      const std::uint64_t reached = r == ARCHIVE_EOF ? end : static_cast<std::uint64_t>(at) + size;
      if (reached > end) {
        total_ += reached - end;
        end = reached;
      }
      if (total_ > limit_) return fail(Code::resource_exhausted, "unpacks to more than max_size (" + std::to_string(limit_) + " bytes)");
      if (r == ARCHIVE_EOF) {
        if (::ftruncate(fd, static_cast<off_t>(end)) != 0) return os_error("write", errno);
        return ok;
      }
      const auto* p = static_cast<const char*>(data);
      while (size > 0) {
        const ssize_t n = ::pwrite(fd, p, size, at);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return os_error("write", errno);
        p += n;
        at += n;
        size -= static_cast<std::size_t>(n);
      }
    }
  }

  const Tree& tree_;
  const std::string& name_;
  std::uint64_t limit_;
  const Cancelled& cancelled_;
  std::uint64_t total_ = 0;
};

}  // namespace

bool is_archive(std::string_view name) { return holds_tree(name) || (name.size() > 3 && name.ends_with(".gz")); }

Status extract(int fd, const std::string& name, const Tree& tree, std::uint64_t limit, const Cancelled& cancelled) {
  const bool single = !holds_tree(name);
  const std::unique_ptr<archive, int (*)(archive*)> a(archive_read_new(), &archive_read_free);
  if (!a) return fail(Code::resource_exhausted, "out of memory");
  // Only what is built in: libarchive would start external programs for others.
  archive_read_support_filter_gzip(a.get());
  archive_read_support_filter_bzip2(a.get());
  archive_read_support_filter_xz(a.get());
  if (single) {
    archive_read_support_format_raw(a.get());
  } else {
    archive_read_support_format_tar(a.get());
    archive_read_support_format_zip(a.get());
  }
  if (::lseek(fd, 0, SEEK_SET) < 0) return os_error("read " + name, errno);
  if (archive_read_open_fd(a.get(), fd, 128 * 1024) != ARCHIVE_OK) return archive_error(name, a.get());
  return Unpacking(tree, name, limit, cancelled).run(a.get(), single);
}

}  // namespace gantry::fetcher_curl
