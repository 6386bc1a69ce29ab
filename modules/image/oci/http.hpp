// HTTP exchanges with libcurl, blocking, one connection pool a client.
#pragma once

#include "base.hpp"

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace gantry::image_oci {

struct HttpOptions {
  std::chrono::nanoseconds connect{};  // to establish a connection
  std::chrono::nanoseconds stall{};    // longest time without a byte
  std::string certificates;            // directory <host:port>/ca.crt, client.cert, client.key; empty: the system's authorities
};

struct HttpRequest {
  std::string url;
  std::vector<std::string> headers;  // "Name: value"
  std::optional<std::string> form;   // POST, application/x-www-form-urlencoded
  std::uint64_t from = 0;            // first byte wanted
  bool verify = true;                // the server's certificate
  std::string registry;              // "host:port", for `certificates`
};

struct HttpAnswer {
  long status = 0;
  std::string body;  // without a sink, or if it is no success
  std::string content_type;
  std::string content_digest;           // Docker-Content-Digest
  std::vector<std::string> challenges;  // WWW-Authenticate
  std::chrono::nanoseconds retry_after{};
  std::uint64_t range_from = 0;  // of a 206
};

class Http {
 public:
  explicit Http(const HttpOptions& options);
  ~Http();
  // The content of a success (200, 206) as it comes; the answer's head is complete by then. An error ends the transfer with it.
  using Sink = std::function<Status(const HttpAnswer& head, const char* data, std::size_t size)>;
  // Any answer of a server is a value; errors are those of the transfer: UNAVAILABLE (no connection, broken off),
  // DEADLINE_EXCEEDED (stalled), FAILED_PRECONDITION (certificates), CANCELLED, and the sink's own. They do not name the URL.
  // Without a sink more than `limit` bytes are RESOURCE_EXHAUSTED.
  [[nodiscard]] Result<HttpAnswer> exchange(const HttpRequest& request, std::size_t limit, const Sink& sink, const Cancelled& cancelled);

 private:
  HttpOptions options_;
  std::unique_ptr<void, void (*)(void*)> easy_;
};

// RFC 3986, everything but letters, digits and "-._~".
[[nodiscard]] std::string percent_encode(std::string_view text);

}  // namespace gantry::image_oci
