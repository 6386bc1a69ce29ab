// Images `@NAME@`. The contract: docs/image.md and schema/image.fbs of the SDK.
#pragma once

#include "records.hpp"

#include <gantry/image.hpp>

namespace @NAME_ID@ {

class @CLASS@ final : public gantry::Images {
 public:
  gantry::Task<gantry::Status> configure(gantry::Settings settings) override;
  void pull(gantry::Request<gantry::fb::image::Pull> request, gantry::Responder responder) override;
  gantry::Task<gantry::Status> release(gantry::Request<gantry::fb::image::Release> request) override;
  gantry::Task<gantry::Result<gantry::fb::image::ImageT>> inspect(gantry::Request<gantry::fb::image::Inspect> request) override;
  gantry::Task<gantry::Result<gantry::fb::image::ImagesT>> list(gantry::Request<gantry::fb::image::List>) override;
  gantry::Task<gantry::Result<gantry::fb::image::PrunedT>> prune(gantry::Request<gantry::fb::image::Prune> request) override;
  gantry::Task<gantry::Result<gantry::fb::image::RecoveredT>> recover(gantry::Request<gantry::fb::image::Recover> request) override;

 private:
  gantry::Result<gantry::fb::image::ImageT> bring(const gantry::fb::image::Pull& request);
  [[nodiscard]] gantry::fb::image::ImageT describe(const std::string& name) const;

  std::string root_;
  Records images_;  // name -> ""
  Records users_;   // container -> name of its image
};

}  // namespace @NAME_ID@
