// Where an image comes from: a registry, or files of this machine. Used by several threads at once.
#pragma once

#include "base.hpp"
#include "manifest.hpp"
#include "transfer.hpp"

#include <memory>

namespace gantry::image_oci {

// One image, found at its source.
struct Resolved {
  std::string digest;         // what the name means there; empty for archives of docker save
  std::string config_digest;  // the image's id
  std::string config_text;    // bytes checked against config_digest
  ImageConfig config;
  std::vector<Descriptor> layers;  // lowest first
};

class Source {
 public:
  virtual ~Source() = default;
  [[nodiscard]] virtual Result<Resolved> resolve(const Platform& platform, const Cancelled& cancelled) = 0;

  // A layer's bytes, readable as far as they have come; `path` is where they may be kept for the time being, and may hold a
  // beginning of them from an earlier attempt. Somebody else has to call bring() on another thread if `remote`.
  [[nodiscard]] virtual bool remote() const = 0;
  [[nodiscard]] virtual Result<std::shared_ptr<Transfer>> open(const Descriptor& layer, const std::string& path) = 0;
  // Brings what is missing and ends the transfer: with OK only if the bytes are what the digest says.
  virtual void bring(const Descriptor& layer, Transfer& into, const Cancelled& cancelled) = 0;
};

// Fills in the rest: platform and number of layers must fit.
[[nodiscard]] Status check_resolved(Resolved& image, const Platform& wanted, bool schema1);

}  // namespace gantry::image_oci
