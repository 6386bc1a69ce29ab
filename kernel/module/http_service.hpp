// The host service HTTP (sdk/schema/host.fbs): modules listen, answer and fetch through the kernel's sockets.
//
// What an instance opened is its own: nobody else can answer its requests, and when its LISTEN call ends - cancelled, or
// because the instance stopped - the listener and the requests that came through it end too.
#pragma once

#include "kernel/module/module.hpp"
#include "kernel/net/net.hpp"

#include <memory>
#include <string>

namespace gantry::module {

// An Authorization header to be judged: kind `authenticator`, message Credentials.
struct AuthQuestion {
  std::string scheme;      // lower case
  std::string parameters;  // what follows it
  std::string realm;
};

// Runs on the loop, as do all callbacks.
class HttpService final : public Service {
 public:
  // Asks the authenticator modules and answers with the principal, once, at any time. UNAUTHENTICATED (and
  // UNIMPLEMENTED, from a scheme nobody knows) become a 401, any other error a 503.
  using Authenticate = Function<void(AuthQuestion, Function<void(Result<std::string>)>)>;

  // Without `authenticate`, a LISTEN with a realm is refused.
  explicit HttpService(net::RealLoop& loop, Authenticate authenticate = nullptr);
  ~HttpService() override;
  void request(const ServiceRequest& request, ServiceReply reply) override;
  void cancelled(std::uint64_t id) override;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace gantry::module
