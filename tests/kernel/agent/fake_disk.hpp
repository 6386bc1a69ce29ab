// A disk in memory that can be full, read-only or torn.
#pragma once

#include "kernel/agent/checkpoint.hpp"

#include <map>

namespace gantry::agent {

class FakeDisk final : public Disk {
 public:
  using Content = std::shared_ptr<std::vector<std::uint8_t>>;

  Status make_directory(const std::string& path) override { return change(path); }
  Result<std::vector<std::uint8_t>> read(const std::string& path) override {
    const auto it = files.find(path);
    if (it == files.end()) return fail(Code::not_found, "cannot open " + path + ": No such file or directory");
    return *it->second;
  }
  Result<std::shared_ptr<AppendFile>> open(const std::string& path, bool fresh) override {
    GANTRY_CHECK(change(path));
    auto& content = files[path];
    if (!content || fresh) content = std::make_shared<std::vector<std::uint8_t>>();
    return std::shared_ptr<AppendFile>(std::make_shared<File>(*this, path, content));
  }
  Status rename(const std::string& from, const std::string& to) override {
    GANTRY_CHECK(change(to));
    files[to] = files[from];
    files.erase(from);
    return ok;
  }
  Status remove(const std::string& path) override {
    files.erase(path);
    return ok;
  }
  Status lock(const std::string& path) override {
    if (locked) return fail(Code::failed_precondition, "another gantryd uses " + path);
    return ok;
  }

  std::map<std::string, Content> files;
  bool read_only = false, locked = false;
  bool truncate_fails = false;
  std::size_t space = SIZE_MAX;   // bytes that can still be written
  std::size_t writes = 0, syncs = 0;

 private:
  class File final : public AppendFile {
   public:
    File(FakeDisk& disk, std::string path, Content content)
        : disk_(disk), path_(std::move(path)), content_(std::move(content)) {}
    Status write(Bytes bytes) override {
      ++disk_.writes;
      const std::size_t n = std::min(bytes.size(), disk_.space);
      content_->insert(content_->end(), bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(n));
      if (disk_.space != SIZE_MAX) disk_.space -= n;
      if (n < bytes.size())
        return fail(Code::resource_exhausted, "cannot write " + path_ + ": No space left on device");
      return ok;
    }
    Status truncate(std::uint64_t size) override {
      if (disk_.truncate_fails) return fail(Code::internal, "cannot truncate " + path_ + ": Input/output error");
      if (disk_.space != SIZE_MAX && size < content_->size()) disk_.space += content_->size() - size;
      content_->resize(size);
      return ok;
    }
    Status sync() override {
      ++disk_.syncs;
      return ok;
    }

   private:
    FakeDisk& disk_;
    std::string path_;
    Content content_;
  };
  Status change(const std::string& path) const {
    if (read_only) return fail(Code::permission_denied, "cannot open " + path + ": Read-only file system");
    return ok;
  }
};

}  // namespace gantry::agent
