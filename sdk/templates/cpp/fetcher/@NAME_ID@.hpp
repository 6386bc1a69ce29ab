// Fetcher `@NAME@`. The contract: docs/fetcher.md and schema/fetcher.fbs of the SDK. Sources are in sources.cpp, what
// keeps writing below the sandbox in sandbox.cpp.
#pragma once

#include "sources.hpp"

#include <gantry/fetcher.hpp>

#include <map>
#include <memory>

namespace @NAME_ID@ {

class @CLASS@ final : public gantry::Fetcher {
 public:
  gantry::Task<gantry::Status> configure(gantry::Settings settings) override;
  gantry::Task<gantry::Status> stop() override;
  gantry::Task<gantry::Status> fetch(gantry::Request<gantry::fb::fetcher::Fetch>, std::uint64_t token) override;
  void cancelled(std::uint64_t token) override;

 private:
  Limits limits_;
  bool stopped_ = false;
  // Set from the strand, read on the pool; a call under way is an entry.
  std::map<std::uint64_t, std::shared_ptr<std::atomic<bool>>> running_;
  gantry::Promise<bool> idle_;
};

}  // namespace @NAME_ID@
