// Names of images: as Docker has them, or paths of archives and layouts.
#pragma once

#include <gantry/result.hpp>

#include <string>
#include <string_view>

namespace gantry::image_oci {

// The registry of names without one, as people write it; its API answers under another host name.
inline constexpr std::string_view kDockerHub = "docker.io";
inline constexpr std::string_view kDockerHubApi = "registry-1.docker.io";

struct Reference {
  std::string registry;    // "docker.io", "registry.example:5000"
  std::string repository;  // "library/alpine", "team/app"
  std::string tag;         // "latest" if the name gave neither tag nor digest; may stand beside a digest, which counts
  std::string digest;      // "sha256:..." or empty

  // "docker.io/library/alpine:latest": the name in full, the same for all ways to write it.
  [[nodiscard]] std::string text() const;
  // Without registry where that is Docker's own, without library/ and without :latest: as people write it.
  [[nodiscard]] std::string familiar() const;
  // What a registry is asked for.
  [[nodiscard]] const std::string& version() const { return digest.empty() ? tag : digest; }
};

// "alpine", "team/app:1.2", "localhost:5000/app@sha256:...". What comes before the first slash is a registry if it has a dot, a
// colon or an upper-case letter or is "localhost"; else the name belongs to `default_registry`. INVALID_ARGUMENT names what is
// wrong. Source: the grammar of the distribution project's reference package, facts only.
[[nodiscard]] Result<Reference> parse_reference(std::string_view name, std::string_view default_registry = kDockerHub);

// An archive or a layout on this machine: "/images/app.tar", "file:///images/layout:1.2". The tag is what comes behind the last
// colon, if no slash does and `path` is not there with it.
struct LocalName {
  std::string path;
  std::string tag;
};
[[nodiscard]] bool is_local(std::string_view name);
[[nodiscard]] Result<LocalName> parse_local(std::string_view name);

}  // namespace gantry::image_oci
