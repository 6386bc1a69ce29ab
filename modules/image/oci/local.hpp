// Images in files of this machine: OCI layouts (directories, or a tar of one) and archives of `docker save`.
#pragma once

#include "source.hpp"

#include <map>

namespace gantry::image_oci {

// Bytes of an open file.
struct Region {
  std::shared_ptr<const Fd> file;
  std::uint64_t offset = 0;
  std::uint64_t size = 0;
};

// Files by name: of a directory, or the members of a tar archive, read where they lie.
class Files {
 public:
  virtual ~Files() = default;
  // NOT_FOUND if there is none. Names are relative; neither ".." nor symbolic links lead out of a directory.
  [[nodiscard]] virtual Result<Region> open(const std::string& name) const = 0;

  // A directory or an archive. A compressed archive is unpacked into `spool` (a path that is free, and is removed again) first,
  // up to `limit` bytes.
  [[nodiscard]] static Result<std::unique_ptr<Files>> at(const std::string& path, const std::string& spool, std::uint64_t limit,
                                                         const Cancelled& cancelled);
};

// Members of an uncompressed tar archive and where their bytes begin; links are resolved. For at(), and tests.
struct Member {
  std::uint64_t offset = 0, size = 0;
  std::string link;  // to another member, instead of bytes
};
[[nodiscard]] Result<std::map<std::string, Member>> index_tar(int fd, const Cancelled& cancelled);

class Archive final : public Source {
 public:
  // `tag` chooses among several images; empty: there has to be one only. A full reference is a tag, too. Unless it `must` be the
  // one, a single image serves whatever it is called.
  Archive(std::unique_ptr<Files> files, std::string tag, bool must) : files_(std::move(files)), tag_(std::move(tag)), must_(must) {}
  Result<Resolved> resolve(const Platform& platform, const Cancelled& cancelled) override;
  bool remote() const override { return false; }
  Result<std::shared_ptr<Transfer>> open(const Descriptor& layer, const std::string& path) override;
  void bring(const Descriptor&, Transfer&, const Cancelled&) override {}

 private:
  [[nodiscard]] Result<std::string> text(const std::string& name) const;
  [[nodiscard]] Result<std::string> blob(const Descriptor& d) const;
  [[nodiscard]] Result<Resolved> resolve_layout(const Platform& platform);
  [[nodiscard]] Result<Resolved> resolve_saved(const Platform& platform);
  [[nodiscard]] bool is_wanted(const std::string& name) const;

  std::unique_ptr<Files> files_;
  const std::string tag_;
  const bool must_;
  std::map<std::string, std::string> paths_;  // digest of a layer -> its file
};

}  // namespace gantry::image_oci
