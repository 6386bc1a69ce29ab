// One transfer with libcurl.
#pragma once

#include "tree.hpp"

#include <chrono>

namespace gantry::fetcher_curl {

struct Limits {
  std::chrono::nanoseconds stall{};    // longest time without a byte
  std::chrono::nanoseconds connect{};
  std::uint64_t max_size = 0;
};

// Downloads http, https, ftp or ftps `url` into `fd`, blocking. Errors name the URL (without credentials) and, for HTTP,
// the status: NOT_FOUND for 404 and 410, PERMISSION_DENIED for 401 and 403, UNAVAILABLE for the rest and for the network,
// DEADLINE_EXCEEDED for stalls, RESOURCE_EXHAUSTED over max_size, CANCELLED.
[[nodiscard]] Status download(const std::string& url, int fd, const Limits& limits, const Cancelled& cancelled);

// The URL without user name and password, for messages.
[[nodiscard]] std::string without_credentials(const std::string& url);

}  // namespace gantry::fetcher_curl
