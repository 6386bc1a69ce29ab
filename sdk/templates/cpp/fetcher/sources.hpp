// Where artifacts come from: this is the place for your own scheme. Blocking; runs on the offload pool.
#pragma once

#include "sandbox.hpp"

#include <atomic>
#include <chrono>
#include <string>

namespace @NAME_ID@ {

struct Limits {
  std::chrono::milliseconds stall{60'000};
  std::uint64_t max_size = 0;
};

// The name a URI's artifact gets; an error for what this fetcher does not serve.
[[nodiscard]] gantry::Result<std::string> artifact_name(const std::string& uri);

// Brings the bytes of a URI into `to`. Looks at `cancelled` at least ten times a second.
[[nodiscard]] gantry::Status bring(const std::string& uri, const std::optional<Owner>& owner, const Limits& limits,
                                   const std::atomic<bool>& cancelled, Sandbox::File& to);

// Unpacks the tar archive in `from` into the sandbox: files, directories and links, and no name that leads out.
[[nodiscard]] gantry::Status unpack_tar(int from, const Sandbox& sandbox);

}  // namespace @NAME_ID@
