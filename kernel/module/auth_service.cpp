#include "kernel/module/auth_service.hpp"

#include <gantry/authenticator_generated.h>

namespace gantry::module {
namespace {

namespace fa = fb::authenticator;
using Method = fa::Method;
constexpr base::Nanos kPatience = std::chrono::seconds(10);

void finish(const ServiceReply& reply, const Error& error) {
  reply(static_cast<gantry_code>(error.code), pack_error(error));
}

}  // namespace

void AuthService::request(const ServiceRequest& request, ServiceReply reply) {
  const bool sound = request.method == static_cast<std::uint32_t>(Method::AUTHENTICATE) ? view<fa::Credentials>(request.body) != nullptr
                     : request.method == static_cast<std::uint32_t>(Method::CHALLENGE)  ? view<fa::Challenge>(request.body) != nullptr
                                                                                        : true;
  if (request.method != static_cast<std::uint32_t>(Method::AUTHENTICATE) && request.method != static_cast<std::uint32_t>(Method::CHALLENGE))
    return finish(reply, fail(Code::unimplemented, "service AUTH has no method " + std::to_string(request.method)));
  if (!sound) return finish(reply, fail(Code::invalid_argument, "malformed question to the service AUTH"));
  ask(request.method, std::make_shared<Buffer>(request.body), std::move(reply), 0);
}

void AuthService::ask(std::uint32_t method, const std::shared_ptr<Buffer>& body, ServiceReply reply, std::size_t from) {
  const auto all = authenticators_();
  if (from >= all.size())
    return finish(reply, fail(Code::unauthenticated, all.empty() ? "no authenticator module is configured; nobody can be let in"
                                                                 : "no authenticator knows this scheme"));
  all[from]->call(method, Buffer(Bytes(*body)),
                  [this, method, body, reply = std::move(reply), from, alive = alive_](gantry_code code, Bytes answer) {
                    if (!*alive || code == GANTRY_MORE) return;
                    if (code == GANTRY_UNIMPLEMENTED) return ask(method, body, reply, from + 1);
                    if (code == GANTRY_OK && method == static_cast<std::uint32_t>(Method::AUTHENTICATE)) {
                      const auto* identity = view<fa::Identity>(answer);
                      if (!identity || text(identity->principal()).empty())
                        return finish(reply, fail(Code::internal, "the authenticator's answer names nobody"));
                    }
                    reply(code, answer);
                  },
                  CallOptions{loop_.now() + kPatience, {}});
}

}  // namespace gantry::module
