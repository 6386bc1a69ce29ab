#include "kernel/agent/checkpoint.hpp"

#include "kernel/base/fd.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace gantry::agent {

namespace {

constexpr std::string_view magic = "GANTRYJ1";
constexpr std::size_t frame_header = 8;
constexpr std::uint64_t compact_minimum = 1u << 20;

void put32(std::vector<std::uint8_t>& out, std::uint32_t v) {
  for (int shift = 0; shift < 32; shift += 8) out.push_back(static_cast<std::uint8_t>(v >> shift));
}
std::uint32_t get32(const std::uint8_t* p) {
  return p[0] | (std::uint32_t{p[1]} << 8) | (std::uint32_t{p[2]} << 16) | (std::uint32_t{p[3]} << 24);
}

void put_frame(std::vector<std::uint8_t>& out, const fb::record::EntryT& entry) {
  const Buffer payload = pack(entry);
  put32(out, static_cast<std::uint32_t>(payload.size()));
  put32(out, crc32(payload));
  out.insert(out.end(), payload.data(), payload.data() + payload.size());
}

Error system_error(const std::string& what, const std::string& path, int code) {
  const Code c = code == ENOENT                       ? Code::not_found
                 : code == ENOSPC || code == EDQUOT   ? Code::resource_exhausted
                 : code == EROFS || code == EACCES || code == EPERM ? Code::permission_denied
                                                      : Code::internal;
  return fail(c, "cannot " + what + " " + path + ": " + std::strerror(code));
}

class RealFile final : public AppendFile {
 public:
  RealFile(base::Fd fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}
  Status write(Bytes bytes) override {
    while (!bytes.empty()) {
      const ssize_t n = ::write(fd_.get(), bytes.data(), bytes.size());
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return system_error("write", path_, errno);
      bytes = bytes.subspan(static_cast<std::size_t>(n));
    }
    return ok;
  }
  Status truncate(std::uint64_t size) override {
    if (::ftruncate(fd_.get(), static_cast<off_t>(size)) != 0) return system_error("truncate", path_, errno);
    return ok;
  }
  Status sync() override {
    if (::fdatasync(fd_.get()) != 0) return system_error("sync", path_, errno);
    return ok;
  }

 private:
  base::Fd fd_;
  std::string path_;
};

class RealDisk final : public Disk {
 public:
  Status make_directory(const std::string& path) override {
    for (std::size_t slash = path.find('/', 1);; slash = path.find('/', slash + 1)) {
      const std::string part = path.substr(0, slash);
      if (::mkdir(part.c_str(), 0755) != 0 && errno != EEXIST) {
        const int error = errno;
        struct stat st {};
        if (::stat(part.c_str(), &st) != 0) return system_error("create directory", part, error);
      }
      if (slash == std::string::npos) return ok;
    }
  }
  Result<std::vector<std::uint8_t>> read(const std::string& path) override {
    const base::Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd) return system_error("open", path, errno);
    std::vector<std::uint8_t> out;
    std::array<std::uint8_t, 65536> block;
    for (;;) {
      const ssize_t n = ::read(fd.get(), block.data(), block.size());
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return system_error("read", path, errno);
      if (n == 0) return out;
      out.insert(out.end(), block.begin(), block.begin() + n);
    }
  }
  Result<std::shared_ptr<AppendFile>> open(const std::string& path, bool fresh) override {
    base::Fd fd(::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | (fresh ? O_TRUNC : 0), 0600));
    if (!fd) return system_error("open", path, errno);
    return std::shared_ptr<AppendFile>(std::make_shared<RealFile>(std::move(fd), path));
  }
  Status rename(const std::string& from, const std::string& to) override {
    if (::rename(from.c_str(), to.c_str()) != 0) return system_error("rename to", to, errno);
    const base::Fd dir(::open(to.substr(0, to.rfind('/')).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (dir) (void)::fsync(dir.get());
    return ok;
  }
  Status remove(const std::string& path) override {
    if (::unlink(path.c_str()) != 0 && errno != ENOENT) return system_error("remove", path, errno);
    return ok;
  }
  Status lock(const std::string& path) override {
    base::Fd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (!fd) return system_error("open", path, errno);
    if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
      return fail(Code::failed_precondition, "another gantryd uses " + path.substr(0, path.rfind('/')) +
                                                 "; stop it, or give this one a kernel.work_dir of its own");
    }
    lock_ = std::move(fd);
    return ok;
  }

 private:
  base::Fd lock_;
};

}  // namespace

std::unique_ptr<Disk> make_real_disk() { return std::make_unique<RealDisk>(); }

std::uint32_t crc32(Bytes bytes) {
  static const auto table = [] {
    std::array<std::uint32_t, 256> t{};
    for (std::uint32_t i = 0; i < 256; ++i) {
      std::uint32_t c = i;
      for (int bit = 0; bit < 8; ++bit) c = (c & 1) ? 0xEDB88320u ^ (c >> 1) : c >> 1;
      t[i] = c;
    }
    return t;
  }();
  std::uint32_t c = 0xFFFFFFFFu;
  for (const std::uint8_t b : bytes) c = table[(c ^ b) & 0xFF] ^ (c >> 8);
  return c ^ 0xFFFFFFFFu;
}

Result<std::unique_ptr<Journal>> Journal::open(Disk& disk, const std::string& directory,
                                               const std::function<void(const fb::record::Entry&)>& on_entry,
                                               Opened* opened) {
  const auto hint = [&](Error e) -> Error {
    if (e.code == Code::permission_denied) {
      e.message += "; make " + directory + " writable for this user or set kernel.work_dir to a directory that is";
    } else if (e.code == Code::resource_exhausted) {
      e.message += "; free some space there";
    }
    return e;
  };
  if (auto s = disk.make_directory(directory); !s) return hint(s.error());
  if (auto s = disk.lock(directory + "/lock"); !s) return hint(s.error());

  std::unique_ptr<Journal> journal(new Journal(disk, directory + "/journal"));
  if (auto s = disk.remove(journal->path_ + ".new"); !s) return hint(s.error());
  std::vector<std::uint8_t> bytes;
  if (auto read = disk.read(journal->path_); read) {
    bytes = std::move(*read);
  } else if (read.error().code != Code::not_found) {
    return hint(read.error());
  }

  std::size_t good = 0;
  Opened report;
  const std::string_view head(reinterpret_cast<const char*>(bytes.data()), std::min(bytes.size(), magic.size()));
  if (head == magic) {
    good = magic.size();
    while (bytes.size() - good >= frame_header) {
      const std::uint32_t length = get32(&bytes[good]), sum = get32(&bytes[good + 4]);
      if (length == 0 || length > bytes.size() - good - frame_header) break;
      const Bytes payload(&bytes[good + frame_header], length);
      if (crc32(payload) != sum) break;
      // A flatbuffer must be aligned to be read by everything the compiler may make of it.
      const std::vector<std::uint8_t> aligned(payload.begin(), payload.end());
      const auto* entry = view<fb::record::Entry>(aligned);
      if (!entry) break;
      on_entry(*entry);
      ++report.entries;
      good += frame_header + length;
    }
  } else if (!magic.starts_with(head)) {
    return fail(Code::data_loss,
                journal->path_ +
                    " is not a journal of this version of Gantry; move it away to start as a new agent, "
                    "or use the version that wrote it");
  }
  if (good < bytes.size() && good >= magic.size()) {
    const Bytes rest(&bytes[good], bytes.size() - good);
    report.warning = "the last " + std::to_string(rest.size()) + " bytes of " + journal->path_ +
                     " are torn or corrupt and were cut off; they are kept in journal.cut";
    if (auto cut = disk.open(journal->path_ + ".cut", true); !cut || !(*cut)->write(rest)) {
      report.warning = "the last " + std::to_string(rest.size()) + " bytes of " + journal->path_ +
                       " are torn or corrupt and were cut off";
    }
  }

  auto file = disk.open(journal->path_, false);
  if (!file) return hint(std::move(file).error());
  journal->file_ = std::move(*file);
  if (good < bytes.size()) {
    if (auto s = journal->file_->truncate(good); !s) return hint(s.error());
  }
  if (good == 0) {
    if (auto s = journal->file_->write(as_bytes(magic)); !s) {
      (void)journal->file_->truncate(0);
      return hint(s.error());
    }
    good = magic.size();
  }
  journal->size_ = good;
  journal->compact_at_ = std::max<std::uint64_t>(compact_minimum, good);  // first chance soon after a start
  if (opened) *opened = std::move(report);
  return journal;
}

Status Journal::append(const fb::record::EntryT& entry) {
  if (torn_) {
    GANTRY_CHECK(file_->truncate(size_));
    torn_ = false;
  }
  std::vector<std::uint8_t> frame;
  put_frame(frame, entry);
  if (auto s = file_->write(frame); !s) {
    torn_ = !file_->truncate(size_).has_value();
    return s;
  }
  size_ += frame.size();
  return ok;
}

Status Journal::compact(const std::vector<fb::record::EntryT>& entries) {
  std::vector<std::uint8_t> bytes(magic.begin(), magic.end());
  for (const auto& entry : entries) put_frame(bytes, entry);
  const std::string fresh = path_ + ".new";
  // Whatever happens, not again before the file has grown further.
  compact_at_ = std::max(compact_minimum, size_ + size_ / 2);
  const auto write = [&]() -> Status {
    GANTRY_TRY(auto file, disk_.open(fresh, true));
    GANTRY_CHECK(file->write(bytes));
    GANTRY_CHECK(file->sync());
    GANTRY_CHECK(disk_.rename(fresh, path_));
    file_ = std::move(file);
    return ok;
  };
  if (auto s = write(); !s) {
    (void)disk_.remove(fresh);
    return s;
  }
  size_ = bytes.size();
  torn_ = false;
  compact_at_ = std::max<std::uint64_t>(compact_minimum, 4 * size_);
  return ok;
}

}  // namespace gantry::agent
