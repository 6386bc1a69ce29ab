// Module fetcher/curl: artifacts of a task, one after the other, into its sandbox.
#pragma once

#include "cache.hpp"
#include "download.hpp"

#include <gantry/fetcher.hpp>

#include <atomic>
#include <map>
#include <memory>

namespace gantry::fetcher_curl {

// Where a URI comes from and what it will be called.
struct Source {
  bool local = false;
  std::string location;  // path or URL
  std::string name;      // last part of its path, empty if there is none
};
// INVALID_ARGUMENT names the URI and the schemes that work.
[[nodiscard]] Result<Source> parse_source(const std::string& uri);

class CurlFetcher final : public Fetcher {
 public:
  Task<Status> configure(Settings settings) override;
  Task<Status> stop() override;
  void cancelled(std::uint64_t token) override;
  Task<Status> fetch(Request<fb::fetcher::Fetch> request, std::uint64_t token) override;
  [[nodiscard]] const Cache& cache() const { return *cache_; }

 private:
  // Shared with the blocking pool, which may outlive a cancelled call.
  std::shared_ptr<Cache> cache_ = std::make_shared<Cache>();
  Limits limits_;
  std::map<std::uint64_t, std::shared_ptr<std::atomic<bool>>> running_;
  std::optional<Promise<bool>> drained_;
  Metric fetched_, failed_;
};

}  // namespace gantry::fetcher_curl
