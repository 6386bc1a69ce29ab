// A registry that speaks the distribution protocol (Docker registry v2, OCI distribution-spec 1.1), with its mirrors.
#pragma once

#include "credentials.hpp"
#include "digest.hpp"
#include "http.hpp"
#include "reference.hpp"
#include "source.hpp"

#include <map>
#include <mutex>

namespace gantry::image_oci {

struct RegistryOptions {
  HttpOptions http;
  std::map<std::string, std::vector<std::string>> mirrors;  // registry -> base URLs, in order
  std::vector<std::string> insecure;                        // "host:port", "host", "*.domain"
  unsigned attempts = 5;                                    // without progress, before a transfer is given up
  std::chrono::milliseconds back_off{250};                  // doubles up to 10 s
};

// Whether a registry may be spoken to without TLS or with a certificate nobody vouches for: it is listed, or on this machine.
[[nodiscard]] bool is_insecure(const std::string& host_port, const std::vector<std::string>& listed);

// What "Bearer realm=..., service=..." or "Basic ..." asks for. Empty scheme: neither.
struct Challenge {
  std::string scheme;  // "bearer", "basic"
  std::map<std::string, std::string> parameters;
};
[[nodiscard]] Challenge parse_challenge(std::string_view header);

class Registry final : public Source {
 public:
  // `accounts` in order of precedence; `account` before all of them, for the image's own registry.
  Registry(Reference reference, RegistryOptions options, std::optional<Account> account, std::vector<Credentials> accounts);

  Result<Resolved> resolve(const Platform& platform, const Cancelled& cancelled) override;
  bool remote() const override { return true; }
  Result<std::shared_ptr<Transfer>> open(const Descriptor& layer, const std::string& path) override;
  void bring(const Descriptor& layer, Transfer& into, const Cancelled& cancelled) override;

 private:
  struct Endpoint {
    std::string base;        // "https://host:port"
    std::string host;        // "host:port"
    std::string credential;  // registry its account is looked up under
    bool verify = true;
    bool mirror = false;
  };
  struct Document {
    std::string body, digest, media_type;
  };
  [[nodiscard]] std::vector<Endpoint> endpoints() const;
  [[nodiscard]] Result<Document> manifest(const std::string& version, const std::string& expected, const Cancelled& cancelled);
  [[nodiscard]] Result<std::string> small_blob(const Descriptor& d, const Cancelled& cancelled);
  // One exchange with authentication; statuses other than 200 and 206 become errors.
  [[nodiscard]] Result<HttpAnswer> get(Http& http, const Endpoint& e, HttpRequest request, std::size_t limit, const Http::Sink& sink,
                                       const Cancelled& cancelled);
  // The same at whichever endpoint answers, beginning with the one that did last; again after passing errors.
  [[nodiscard]] Result<HttpAnswer> get_anywhere(Http& http, const std::string& path, const std::vector<std::string>& headers,
                                                std::size_t limit, const Cancelled& cancelled);
  [[nodiscard]] Status fetch(Http& http, const Endpoint& e, const Descriptor& layer, Transfer& into, Hasher& hasher,
                             const Cancelled& cancelled);
  [[nodiscard]] Result<std::string> authorize(Http& http, const Endpoint& e, const std::vector<std::string>& challenges,
                                              const Cancelled& cancelled);
  [[nodiscard]] Result<std::optional<Account>> account_of(const Endpoint& e, const Cancelled& cancelled) const;

  const Reference reference_;
  const RegistryOptions options_;
  const std::optional<Account> account_;
  const std::vector<Credentials> accounts_;
  const std::vector<Endpoint> endpoints_;
  std::mutex mutex_;
  std::map<std::string, std::string> authorization_;  // base -> value of the header
  std::size_t answered_ = 0;                          // index of the endpoint that did last
};

// Waits before attempt number `failed` (1, 2, ...) is repeated; false: cancelled.
[[nodiscard]] bool back_off(unsigned failed, std::chrono::milliseconds first, std::chrono::nanoseconds at_least,
                            const Cancelled& cancelled);
// Whether trying again may help.
[[nodiscard]] bool passing(const Error& e);

}  // namespace gantry::image_oci
