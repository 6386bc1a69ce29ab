#include "local.hpp"

#include "digest.hpp"
#include "json.hpp"
#include "reference.hpp"
#include "tree.hpp"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace gantry::image_oci {
namespace {

constexpr std::size_t kMaxMembers = 100'000;

class Directory final : public Files {
 public:
  explicit Directory(Fd root) : root_(std::move(root)) {}
  Result<Region> open(const std::string& name) const override {
    GANTRY_TRY(Fd file, open_below(root_.get(), name));
    struct stat st {};
    if (::fstat(file.get(), &st) != 0) return os_error("read " + name, errno);
    if (!S_ISREG(st.st_mode)) return fail(Code::invalid_argument, name + " is no file");
    return Region{std::make_shared<const Fd>(std::move(file)), 0, static_cast<std::uint64_t>(st.st_size)};
  }

 private:
  Fd root_;
};

class Tar final : public Files {
 public:
  Tar(Fd file, std::map<std::string, Member> members) : file_(std::make_shared<const Fd>(std::move(file))), members_(std::move(members)) {}
  Result<Region> open(const std::string& name) const override {
    auto it = members_.find(name);
    for (int hops = 0; it != members_.end() && !it->second.link.empty(); ++hops) {
      if (hops == 8) return fail(Code::invalid_argument, name + " is a link to links without end");
      it = members_.find(it->second.link);
    }
    if (it == members_.end()) return fail(Code::not_found, "the archive has no " + name);
    return Region{file_, it->second.offset, it->second.size};
  }

 private:
  std::shared_ptr<const Fd> file_;
  std::map<std::string, Member> members_;
};

// "a/./b/../c" -> "a/c"; empty if it leads out.
std::string cleaned(std::string_view path) {
  std::vector<std::string_view> parts;
  for (std::size_t at = 0; at <= path.size();) {
    const std::size_t end = std::min(path.find('/', at), path.size());
    const std::string_view part = path.substr(at, end - at);
    at = end + 1;
    if (part.empty() || part == ".") continue;
    if (part != "..") {
      parts.push_back(part);
    } else {
      if (parts.empty()) return {};
      parts.pop_back();
    }
  }
  std::string out;
  for (const auto part : parts) (out += out.empty() ? "" : "/") += part;
  return out;
}

using ArchiveHandle = std::unique_ptr<archive, int (*)(archive*)>;

Error archive_problem(archive* a, const char* what) {
  const char* why = archive_error_string(a);
  return fail(Code::invalid_argument, std::string(what) + ": " + (why ? why : "not readable"));
}

// Undoes gzip, zstd, bzip2 or xz around an archive, into an unnamed file.
Result<Fd> decompress(int fd, const std::string& spool, std::uint64_t limit, const Cancelled& cancelled) {
  const ArchiveHandle a(archive_read_new(), &archive_read_free);
  archive_read_support_filter_gzip(a.get());
  archive_read_support_filter_zstd(a.get());
  archive_read_support_filter_bzip2(a.get());
  archive_read_support_filter_xz(a.get());
  archive_read_support_format_raw(a.get());
  archive_entry* e = nullptr;
  if (::lseek(fd, 0, SEEK_SET) < 0) return os_error("read", errno);
  if (archive_read_open_fd(a.get(), fd, 128 * 1024) != ARCHIVE_OK || archive_read_next_header(a.get(), &e) != ARCHIVE_OK)
    return archive_problem(a.get(), "decompress it");
  Fd out(::open(spool.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!out) return os_error("create " + spool, errno);
  ::unlink(spool.c_str());
  std::string block(128 * 1024, '\0');
  for (std::uint64_t total = 0;;) {
    if (cancelled()) return cancelled_error();
    const la_ssize_t n = archive_read_data(a.get(), block.data(), block.size());
    if (n < 0) return archive_problem(a.get(), "decompress it");
    if (n == 0) return out;
    total += static_cast<std::uint64_t>(n);
    if (total > limit)
      return fail(Code::resource_exhausted, "it decompresses to more than " + std::to_string(limit) + " bytes (max_layer_size)");
    GANTRY_CHECK(write_all(out.get(), block.data(), static_cast<std::size_t>(n)));
  }
}

}  // namespace

Result<std::map<std::string, Member>> index_tar(int fd, const Cancelled& cancelled) {
  const ArchiveHandle a(archive_read_new(), &archive_read_free);
  archive_read_support_format_tar(a.get());
  if (::lseek(fd, 0, SEEK_SET) < 0) return os_error("read", errno);
  struct stat st {};
  if (::fstat(fd, &st) != 0) return os_error("read", errno);
  if (archive_read_open_fd(a.get(), fd, 10240) != ARCHIVE_OK) return archive_problem(a.get(), "read it as tar");
  std::map<std::string, Member> out;
  for (archive_entry* e = nullptr;;) {
    if (cancelled()) return cancelled_error();
    const int r = archive_read_next_header(a.get(), &e);
    if (r == ARCHIVE_EOF) return out;
    if (r != ARCHIVE_OK && r != ARCHIVE_WARN) return archive_problem(a.get(), "read it as tar");
    if (out.size() == kMaxMembers)
      return fail(Code::resource_exhausted, "the archive has more than " + std::to_string(kMaxMembers) + " members");
    const char* raw = archive_entry_pathname(e);
    if (!raw) raw = archive_entry_pathname_utf8(e);
    const std::string name = cleaned(raw ? raw : "");
    if (name.empty() || name.size() > 4096) continue;
    Member m;
    if (const char* hard = archive_entry_hardlink(e)) {
      m.link = cleaned(hard);
    } else if (archive_entry_filetype(e) == AE_IFLNK) {
      const char* to = archive_entry_symlink(e);
      const std::size_t slash = name.rfind('/');
      m.link = cleaned((slash == std::string::npos ? std::string() : name.substr(0, slash + 1)) + (to ? to : ""));
    } else if (archive_entry_filetype(e) == AE_IFREG) {
      // The header is consumed, the content not: the format reader stands at its first byte.
      m.offset = static_cast<std::uint64_t>(archive_filter_bytes(a.get(), 0));
      m.size = static_cast<std::uint64_t>(archive_entry_size(e));
      if (archive_entry_sparse_count(e) > 0) continue;  // not in one piece; nobody writes images so
      if (m.offset + m.size < m.offset || m.offset + m.size > static_cast<std::uint64_t>(st.st_size))
        return fail(Code::data_loss, "the archive ends within " + name);
    } else {
      continue;
    }
    if (m.link.empty() && archive_entry_filetype(e) == AE_IFLNK) continue;
    out.insert_or_assign(name, std::move(m));
  }
}

Result<std::unique_ptr<Files>> Files::at(const std::string& path, const std::string& spool, std::uint64_t limit,
                                         const Cancelled& cancelled) {
  Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat st {};
  if (!file || ::fstat(file.get(), &st) != 0) return os_error("read " + path, errno);
  if (S_ISDIR(st.st_mode)) return std::unique_ptr<Files>(std::make_unique<Directory>(std::move(file)));
  if (!S_ISREG(st.st_mode)) return fail(Code::invalid_argument, path + " is neither a directory nor a file");
  unsigned char head[6] = {};
  (void)!::pread(file.get(), head, sizeof head, 0);
  const bool packed = (head[0] == 0x1f && head[1] == 0x8b) || std::memcmp(head, "\x28\xb5\x2f\xfd", 4) == 0 ||
                      std::memcmp(head, "BZh", 3) == 0 ||
                      std::memcmp(head,
                                  "\xfd"
                                  "7zXZ",
                                  5) == 0;
  if (packed) {
    GANTRY_TRY(file, decompress(file.get(), spool, limit, cancelled));
  }
  GANTRY_TRY(auto members, index_tar(file.get(), cancelled));
  return std::unique_ptr<Files>(std::make_unique<Tar>(std::move(file), std::move(members)));
}

Result<std::string> Archive::text(const std::string& name) const {
  GANTRY_TRY(const Region r, files_->open(name));
  if (r.size > kMaxJson) return fail(Code::resource_exhausted, name + " is larger than " + std::to_string(kMaxJson) + " bytes");
  std::string out(static_cast<std::size_t>(r.size), '\0');
  const auto n = Transfer::of_region(r.file, r.offset, r.size)->peek(0, out.data(), out.size());
  if (!n) return std::move(n.error()).because(name);
  return out;
}

Result<std::string> Archive::blob(const Descriptor& d) const {
  GANTRY_TRY(std::string out, text("blobs/" + std::string(algorithm_of(d.digest)) + "/" + std::string(hex_of(d.digest))));
  const std::string digest = digest_of(out, algorithm_of(d.digest));
  if (digest != d.digest) return fail(Code::data_loss, "blob " + d.digest + " is not what its digest says: it has " + digest);
  return out;
}

bool Archive::is_wanted(const std::string& name) const {
  if (name == tag_ || name.ends_with(":" + tag_)) return true;
  const auto a = parse_reference(name), b = parse_reference(tag_);
  return a && b && a->text() == b->text();
}

Result<Resolved> Archive::resolve(const Platform& platform, const Cancelled&) {
  if (files_->open("index.json") && files_->open("oci-layout")) return resolve_layout(platform);
  if (files_->open("manifest.json")) return resolve_saved(platform);
  return fail(Code::invalid_argument, "neither an OCI layout (oci-layout, index.json) nor an archive of docker save (manifest.json)");
}

Result<Resolved> Archive::resolve_layout(const Platform& platform) {
  GANTRY_TRY(const std::string layout, text("oci-layout"));
  GANTRY_TRY(const json::object version, parse_object(layout, "oci-layout"));
  GANTRY_TRY(const std::string number, Fields(version, "oci-layout:").text("imageLayoutVersion"));
  if (!number.starts_with("1.")) return fail(Code::unimplemented, "a layout of version \"" + number + "\", only 1.x is known");
  GANTRY_TRY(const std::string index, text("index.json"));
  GANTRY_TRY(Manifest m, parse_manifest(index, ""));
  if (m.form != Manifest::Form::list) return fail(Code::invalid_argument, "index.json is no index");
  if (!tag_.empty() && (must_ || m.manifests.size() > 1)) {
    std::string there;
    for (const Descriptor& d : m.manifests) there += (there.empty() ? "" : ", ") + (d.name.empty() ? d.digest : d.name);
    std::erase_if(m.manifests, [&](const Descriptor& d) { return !is_wanted(d.name) && d.digest != tag_; });
    if (m.manifests.empty())
      return fail(Code::not_found, "there is no \"" + tag_ + "\" in it, only: " + (there.empty() ? "nothing" : there));
  } else if (std::count_if(m.manifests.begin(), m.manifests.end(), [](const Descriptor& d) { return !d.name.empty(); }) > 1) {
    return fail(Code::invalid_argument, "there are several images in it; name one: path:tag");
  }
  Resolved r;
  for (int depth = 0; m.form == Manifest::Form::list; ++depth) {
    if (depth == 4) return fail(Code::invalid_argument, "lists of manifests within lists, more than three deep");
    GANTRY_TRY(const Descriptor one, choose(m.manifests, platform));
    if (r.digest.empty()) r.digest = one.digest;
    GANTRY_TRY(const std::string document, blob(one));
    GANTRY_TRY(m, parse_manifest(document, one.media_type));
  }
  if (m.form == Manifest::Form::schema1) return fail(Code::invalid_argument, "a schema 1 manifest in a layout");
  r.config_digest = m.config.digest;
  GANTRY_TRY(r.config_text, blob(m.config));
  r.layers = std::move(m.layers);
  GANTRY_CHECK(check_resolved(r, platform, false));
  return r;
}

Result<Resolved> Archive::resolve_saved(const Platform& platform) {
  GANTRY_TRY(const std::string document, text("manifest.json"));
  // A list at the top, which the reader of objects does not take.
  GANTRY_TRY(const json::object object, parse_object("{\"images\": " + document + "}", "manifest.json"));
  GANTRY_TRY(const auto images, Fields(object, "manifest.json:").objects("images"));
  const Fields* chosen = images.size() == 1 && (tag_.empty() || !must_) ? images.data() : nullptr;
  std::string there;
  for (const Fields& each : images) {
    GANTRY_TRY(const auto tags, each.texts("RepoTags"));
    for (const std::string& t : tags) {
      there += (there.empty() ? "" : ", ") + t;
      if (!tag_.empty() && !chosen && is_wanted(t)) chosen = &each;
    }
  }
  if (!chosen && tag_.empty())
    return fail(Code::invalid_argument, "there are " + std::to_string(images.size()) + " images in it; name one: path:tag, of " + there);
  if (!chosen) return fail(Code::not_found, "there is no \"" + tag_ + "\" in it, only: " + (there.empty() ? "images without name" : there));
  Resolved r;
  GANTRY_TRY(const std::string config, chosen->text("Config"));
  GANTRY_TRY(r.config_text, text(cleaned(config)));
  r.config_digest = digest_of(r.config_text);
  // The file is called by its digest, if by anything.
  std::string_view stem = std::string_view(config).substr(config.rfind('/') + 1);
  if (stem.ends_with(".json")) stem.remove_suffix(5);
  if (stem.size() == 64 && check_digest("sha256:" + std::string(stem)) && hex_of(r.config_digest) != stem)
    return fail(Code::data_loss, "the configuration " + config + " is not what its digest says: it has " + r.config_digest);
  GANTRY_TRY(const auto layers, chosen->texts("Layers"));
  GANTRY_TRY(const ImageConfig parsed, parse_config(r.config_text));
  if (layers.size() != parsed.diff_ids.size())
    return fail(Code::invalid_argument, "its manifest has " + std::to_string(layers.size()) + " layers, its configuration " +
                                            std::to_string(parsed.diff_ids.size()));
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const std::string path = cleaned(layers[i]);
    GANTRY_TRY(const Region region, files_->open(path));
    Descriptor d;
    d.digest = parsed.diff_ids[i];
    d.size = region.size;
    paths_[d.digest] = path;
    r.layers.push_back(std::move(d));
  }
  GANTRY_CHECK(check_resolved(r, platform, false));
  return r;
}

Result<std::shared_ptr<Transfer>> Archive::open(const Descriptor& layer, const std::string&) {
  const auto it = paths_.find(layer.digest);
  GANTRY_TRY(const Region r, files_->open(it != paths_.end() ? it->second
                                                             : "blobs/" + std::string(algorithm_of(layer.digest)) + "/" +
                                                                   std::string(hex_of(layer.digest))));
  return Transfer::of_region(r.file, r.offset, r.size);
}

}  // namespace gantry::image_oci
