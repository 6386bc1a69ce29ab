#include "manifest.hpp"

#include "digest.hpp"
#include "json.hpp"

#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>

#include <sys/utsname.h>

#include <algorithm>

namespace gantry::image_oci {
namespace {

bool has(std::string_view s, std::string_view part) { return s.find(part) != std::string_view::npos; }

Result<Descriptor> read_descriptor(const Fields& f) {
  Descriptor d;
  GANTRY_TRY(d.media_type, f.text("mediaType"));
  GANTRY_TRY(d.digest, f.text("digest"));
  if (Status s = check_digest(d.digest); !s) return std::move(s).error().because(f.where() + ".digest");
  GANTRY_TRY(d.size, f.number("size"));
  GANTRY_TRY(const Fields platform, f.object("platform"));
  GANTRY_TRY(d.platform.os, platform.text("os"));
  GANTRY_TRY(d.platform.architecture, platform.text("architecture"));
  GANTRY_TRY(d.platform.variant, platform.text("variant"));
  GANTRY_TRY(const Fields annotations, f.object("annotations"));
  GANTRY_TRY(d.name, annotations.text("org.opencontainers.image.ref.name"));
  if (d.name.empty()) {
    GANTRY_TRY(d.name, annotations.text("io.containerd.image.name"));
  }
  return d;
}

Result<std::vector<Descriptor>> read_descriptors(const Fields& f, std::string_view key) {
  std::vector<Descriptor> out;
  GANTRY_TRY(const auto each, f.objects(key));
  if (each.size() > kMaxLayers)
    return fail(Code::resource_exhausted,
                f.where() + " " + std::string(key) + ": " + std::to_string(each.size()) + ", at most " + std::to_string(kMaxLayers));
  for (const Fields& one : each) {
    GANTRY_TRY(Descriptor d, read_descriptor(one));
    out.push_back(std::move(d));
  }
  return out;
}

Result<Manifest> read_image(const Fields& f) {
  Manifest m;
  GANTRY_TRY(const Fields config, f.object("config"));
  GANTRY_TRY(m.config, read_descriptor(config));
  const std::string& type = m.config.media_type;
  if (!type.empty() && !has(type, "container.image") && !has(type, "image.config"))
    return fail(Code::invalid_argument, "it is no image of a container: its configuration is of type " + type);
  GANTRY_TRY(m.layers, read_descriptors(f, "layers"));
  for (const Descriptor& d : m.layers) {
    if (has(d.media_type, "encrypted")) return fail(Code::unimplemented, "layer " + d.digest + " is encrypted, which is not supported");
    if (d.size > std::uint64_t{1} << 50)
      return fail(Code::invalid_argument, "layer " + d.digest + " claims " + std::to_string(d.size) + " bytes");
  }
  return m;
}

// Docker's old form: newest layer first, the configuration inside the newest entry of its history.
Result<Manifest> read_schema1(const Fields& f) {
  Manifest m;
  m.form = Manifest::Form::schema1;
  GANTRY_TRY(const auto blobs, f.objects("fsLayers"));
  GANTRY_TRY(const auto history, f.objects("history"));
  if (blobs.empty() || blobs.size() != history.size())
    return fail(Code::invalid_argument,
                f.where() + " " + std::to_string(blobs.size()) + " fsLayers and " + std::to_string(history.size()) + " entries of history");
  if (blobs.size() > kMaxLayers) return fail(Code::resource_exhausted, f.where() + " fsLayers: more than " + std::to_string(kMaxLayers));
  for (std::size_t i = blobs.size(); i-- > 0;) {
    GANTRY_TRY(const std::string text, history[i].text("v1Compatibility"));
    GANTRY_TRY(json::object v1, parse_object(text, history[i].where() + ".v1Compatibility"));
    const Fields entry(v1, history[i].where() + ".v1Compatibility");
    GANTRY_TRY(const bool throwaway, entry.flag("throwaway"));
    if (!throwaway) {
      Descriptor d;
      GANTRY_TRY(d.digest, blobs[i].text("blobSum"));
      if (Status s = check_digest(d.digest); !s) return std::move(s).error().because(blobs[i].where() + ".blobSum");
      m.layers.push_back(std::move(d));
    }
    if (i == 0) {
      for (const char* key : {"id", "parent", "Size", "parent_id", "layer_id", "throwaway", "rootfs"}) v1.erase(key);
      m.config_text = json::serialize(v1);
    }
  }
  return m;
}

// How well a manifest's platform serves: 0 not at all.
int fit(const Platform& p, const Platform& wanted) {
  if (p.os.empty() && p.architecture.empty()) return 1;  // not told: better than nothing
  if (p.os != wanted.os || p.architecture != wanted.architecture) return 0;
  if (p.variant == wanted.variant) return 4;
  if (p.variant.empty() || wanted.variant.empty()) return 3;
  // Of arm an older variant runs on a newer machine.
  if (p.architecture == "arm" && p.variant.size() == 2 && wanted.variant.size() == 2 && p.variant < wanted.variant) return 2;
  return 0;
}

}  // namespace

std::string Platform::text() const { return os + "/" + architecture + (variant.empty() ? "" : "/" + variant); }

Result<Platform> Platform::parse(std::string_view text) {
  Platform p;
  const std::size_t first = text.find('/');
  const std::size_t second = first == std::string_view::npos ? first : text.find('/', first + 1);
  p.os = text.substr(0, first);
  if (first != std::string_view::npos)
    p.architecture = text.substr(first + 1, second == std::string_view::npos ? second : second - first - 1);
  if (second != std::string_view::npos) p.variant = text.substr(second + 1);
  if (p.os.empty() || p.architecture.empty() || has(p.variant, "/"))
    return fail(Code::invalid_argument, "\"" + std::string(text) + "\" is no platform; write it as linux/arm64 or linux/arm/v7");
  return p;
}

Platform Platform::here() {
  utsname u{};
  ::uname(&u);
  const std::string_view m = u.machine;
  Platform p{"linux", std::string(m), {}};
  if (m == "x86_64")
    p.architecture = "amd64";
  else if (m == "aarch64")
    p.architecture = "arm64", p.variant = "v8";
  else if (m.starts_with("armv") && m.size() > 4)
    p.architecture = "arm", p.variant = "v" + std::string(m.substr(4, 1));
  else if (m == "i686" || m == "i586" || m == "i386")
    p.architecture = "386";
  else if (m == "loongarch64")
    p.architecture = "loong64";
  return p;
}

Result<Manifest> parse_manifest(std::string_view text, std::string_view media_type) {
  GANTRY_TRY(const json::object object, parse_object(text, "the manifest"));
  const Fields f(object, "the manifest:");
  GANTRY_TRY(const std::string own_type, f.text("mediaType"));
  GANTRY_TRY(const std::uint64_t version, f.number("schemaVersion"));
  const bool image = f.has("layers") || f.has("config"), list = f.has("manifests"), old = f.has("fsLayers");
  // Whoever reads such a thing as the one is told another story than whoever reads it as the other.
  if (image + list + old > 1) return fail(Code::invalid_argument, "the manifest has the fields of several forms");
  const std::string_view type = own_type.empty() ? media_type : std::string_view(own_type);
  const bool says_list = has(type, "image.index") || has(type, "manifest.list");
  const bool says_image = has(type, "image.manifest.v1") || has(type, "distribution.manifest.v2");
  if ((says_list && !list) || (says_image && !image))
    return fail(Code::invalid_argument, "the manifest is not what its type " + std::string(type) + " says");
  Result<Manifest> m = fail(Code::invalid_argument, "the manifest has neither layers nor manifests nor fsLayers");
  if (image) m = read_image(f);
  if (old)
    m = version == 1 ? read_schema1(f)
                     : Result<Manifest>(fail(Code::invalid_argument, "the manifest has fsLayers, but is not of schema 1"));
  if (list) {
    Manifest l;
    l.form = Manifest::Form::list;
    GANTRY_TRY(l.manifests, read_descriptors(f, "manifests"));
    m = std::move(l);
  }
  return m;
}

Result<Descriptor> choose(const std::vector<Descriptor>& manifests, const Platform& wanted) {
  const Descriptor* best = nullptr;
  int best_fit = 0;
  std::string there;
  for (const Descriptor& d : manifests) {
    if (d.platform.os == "unknown") continue;  // attestations of a builder
    const int now = fit(d.platform, wanted);
    const bool newer = now == best_fit && now == 2 && d.platform.variant > best->platform.variant;
    if (now > best_fit || newer) best = &d, best_fit = now;
    there += (there.empty() ? "" : ", ") + d.platform.text();
  }
  if (!best) return fail(Code::not_found, "there is none for " + wanted.text() + ", only for: " + (there.empty() ? "nothing" : there));
  return *best;
}

Result<std::string> signed_part(std::string_view text) {
  GANTRY_TRY(const json::object object, parse_object(text, "the manifest"));
  GANTRY_TRY(const auto signatures, Fields(object, "the manifest:").objects("signatures"));
  if (signatures.empty()) return std::string(text);
  GANTRY_TRY(const std::string coded, signatures[0].text("protected"));
  GANTRY_TRY(const std::string header, base64_decode(coded));
  GANTRY_TRY(const json::object fields, parse_object(header, "the manifest's signature"));
  const Fields f(fields, "the manifest's signature:");
  GANTRY_TRY(const std::uint64_t length, f.number("formatLength"));
  GANTRY_TRY(const std::string coded_tail, f.text("formatTail"));
  GANTRY_TRY(const std::string tail, base64_decode(coded_tail));
  if (length > text.size()) return fail(Code::invalid_argument, "the manifest's signature is of more bytes than there are");
  return std::string(text.substr(0, length)) + tail;
}

Result<ImageConfig> parse_config(std::string_view text) {
  GANTRY_TRY(const json::object object, parse_object(text, "the image's configuration"));
  const Fields f(object, "the image's configuration:");
  ImageConfig c;
  GANTRY_TRY(c.platform.os, f.text("os"));
  GANTRY_TRY(c.platform.architecture, f.text("architecture"));
  GANTRY_TRY(c.platform.variant, f.text("variant"));
  GANTRY_TRY(const Fields rootfs, f.object("rootfs"));
  GANTRY_TRY(c.diff_ids, rootfs.texts("diff_ids"));
  if (c.diff_ids.size() > kMaxLayers)
    return fail(Code::resource_exhausted,
                "the image has " + std::to_string(c.diff_ids.size()) + " layers, at most " + std::to_string(kMaxLayers));
  for (const std::string& id : c.diff_ids)
    if (Status s = check_digest(id); !s) return std::move(s).error().because("the image's configuration: rootfs.diff_ids");
  GANTRY_TRY(const Fields run, f.object("config"));
  GANTRY_TRY(c.entrypoint, run.texts("Entrypoint"));
  GANTRY_TRY(c.cmd, run.texts("Cmd"));
  GANTRY_TRY(c.env, run.texts("Env"));
  GANTRY_TRY(c.working_dir, run.text("WorkingDir"));
  GANTRY_TRY(c.user, run.text("User"));
  GANTRY_TRY(c.stop_signal, run.text("StopSignal"));
  GANTRY_TRY(c.ports, run.keys("ExposedPorts"));
  GANTRY_TRY(c.volumes, run.keys("Volumes"));
  GANTRY_TRY(c.labels, run.map("Labels"));
  return c;
}

}  // namespace gantry::image_oci
