// What an image consists of, as registries, layouts and archives write it: image manifests (Docker schema 2, OCI), lists of
// them for several platforms, Docker's schema 1, and the image's configuration. Sources: OCI image-spec 1.1, the distribution
// project's manifest specifications; facts only. Everything here is text of strangers: pure functions, no crash, bounded.
#pragma once

#include <gantry/result.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace gantry::image_oci {

inline constexpr std::size_t kMaxLayers = 500;  // as many as the overlay file system takes

struct Platform {
  std::string os, architecture, variant;
  [[nodiscard]] std::string text() const;  // "linux/arm64/v8"
  // "linux/arm64/v8"; INVALID_ARGUMENT otherwise. Names as Go has them.
  [[nodiscard]] static Result<Platform> parse(std::string_view text);
  // This machine's.
  [[nodiscard]] static Platform here();
};

struct Descriptor {
  std::string media_type;
  std::string digest;      // checked
  std::uint64_t size = 0;  // 0: not told
  Platform platform;       // empty: not told
  std::string name;        // annotation org.opencontainers.image.ref.name, or containerd's
};

struct Manifest {
  enum class Form { image, list, schema1 };
  Form form = Form::image;
  Descriptor config;                  // image
  std::vector<Descriptor> layers;     // image and schema1, lowest first
  std::vector<Descriptor> manifests;  // list
  std::string config_text;            // schema1: made from its history
};

// What form it has is seen from its fields; if `media_type` (may be empty) says another, it is refused.
[[nodiscard]] Result<Manifest> parse_manifest(std::string_view text, std::string_view media_type);

// The manifest of a list that fits best; NOT_FOUND names the platforms there are.
[[nodiscard]] Result<Descriptor> choose(const std::vector<Descriptor>& manifests, const Platform& wanted);

// The bytes a schema 1 manifest's digest is of: without its signatures. The text itself if it has none.
[[nodiscard]] Result<std::string> signed_part(std::string_view text);

struct ImageConfig {
  Platform platform;
  std::vector<std::string> diff_ids;  // lowest first, checked; none for schema 1
  std::vector<std::string> entrypoint, cmd, env, ports, volumes;
  std::string working_dir, user, stop_signal;
  std::vector<std::pair<std::string, std::string>> labels;
};
[[nodiscard]] Result<ImageConfig> parse_config(std::string_view text);

}  // namespace gantry::image_oci
