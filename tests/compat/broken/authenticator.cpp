// What can be wrong with an authenticator: authenticator/basic with another answer.
#include "shim.hpp"

#include "basic.hpp"

namespace broken {
namespace {

namespace fa = gantry::fb::authenticator;

class AuthenticatorShim final : public Shim {
 public:
  using Shim::Shim;

  void call(const gantry_call& c) override {
    if (c.method != 16) return pass(c);
    auto credentials = gantry::unpack<fa::Credentials>(gantry::from_abi(c.body));
    if (!credentials) return pass(c);
    const std::uint64_t token = c.token;
    if (fault("takes_every_scheme")) credentials->scheme.clear();
    if (fault("remembers_the_last")) {
      if (credentials->principal == last_ && !last_.empty()) return let_in(token, last_);
    }
    if (fault("logs_secrets")) {
      gantry::fb::LogRecordT r;
      r.message = "asked for " + credentials->principal + " with secret " + credentials->secret;
      const Buffer b = gantry::pack(r);
      real_->log(real_->ctx, GANTRY_LOG_WARNING, gantry::to_abi(b));
    }
    own_call(c.method, gantry::pack(*credentials), [this, token, asked = *credentials](gantry_code code, Bytes body) {
      if (fault("lets_everyone_in") && code != GANTRY_OK) return let_in(token, asked.principal.empty() ? "somebody" : asked.principal);
      if (fault("empty_secret_opens") && asked.secret.empty() && asked.scheme.empty()) return let_in(token, asked.principal);
      if (fault("tells_who_exists") && code == GANTRY_UNAUTHENTICATED && asked.principal == "conformance") {
        const Buffer e = gantry::pack_error(gantry::fail(gantry::Code::unauthenticated, "wrong secret"));
        return answer(token, code, e);
      }
      if (fault("names_nobody") && code == GANTRY_OK) return let_in(token, "");
      if (code == GANTRY_OK) last_ = asked.principal;
      if (fault("answers_late")) {
        auto kept = std::make_shared<Buffer>(body);
        return later(12'000, [this, token, code, kept] { answer(token, code, *kept); });
      }
      answer(token, code, body);
    });
  }

 private:
  void let_in(std::uint64_t token, const std::string& principal) {
    fa::IdentityT i;
    i.principal = principal;
    answer(token, GANTRY_OK, gantry::pack(i));
  }
  std::string last_;
};

}  // namespace

gantry_provider inner_provider() { return gantry::provider<gantry::authenticator_basic::Basic>("basic"); }
std::unique_ptr<Shim> make_shim(const gantry_host* real) { return std::make_unique<AuthenticatorShim>(real); }

}  // namespace broken
