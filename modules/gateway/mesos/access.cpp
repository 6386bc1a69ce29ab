#include "access.hpp"

#include <gantry/authenticator_generated.h>

#include <algorithm>

namespace gantry::gateway_mesos {
namespace {

namespace fz = fb::authorizer;
namespace fa = fb::authenticator;

constexpr std::size_t kMaxKnown = 1u << 16;
constexpr std::chrono::seconds kAgain{1};
// How long credentials that were right need not be shown to the authenticator again.
constexpr std::chrono::seconds kTrust{5};
constexpr std::size_t kMaxTrusted = 4096;

}  // namespace

std::string Access::key(std::string_view principal, std::string_view action, std::string_view object) {
  std::string out;
  out.reserve(principal.size() + action.size() + object.size() + 2);
  out.append(action).append(1, '\0').append(object).append(1, '\0').append(principal);
  return out;
}

void Access::start() { follow(); }

void Access::stop() {
  stopped_ = true;
  if (timer_) host_.cancel_timer(std::exchange(timer_, 0));
  if (follow_) host_.cancel_request(follow_);
}

void Access::follow() {
  follow_ = host_.stream(fb::host::Service::AUTHORIZE, static_cast<std::uint32_t>(fz::Method::CHANGED), {},
                         [this, alive = alive_](gantry_code code, Bytes) {
                           if (!*alive) return;
                           ++generation_;
                           known_.clear();
                           if (code == GANTRY_MORE) {
                             mode_ = Mode::guarded;
                             return;
                           }
                           follow_ = 0;
                           if (code == GANTRY_UNIMPLEMENTED) {  // there is nobody to ask
                             mode_ = Mode::open;
                             return;
                           }
                           mode_ = Mode::unknown;
                           if (stopped_) return;
                           timer_ = host_.timer(kAgain, [this] {
                             timer_ = 0;
                             follow();
                           });
                         });
}

std::optional<bool> Access::known(std::string_view principal, std::string_view action, std::string_view object) const {
  if (mode_ == Mode::open) return true;
  if (const auto it = known_.find(key(principal, action, object)); it != known_.end()) return it->second;
  return std::nullopt;
}

// Tells a verdict for each, asking for those that are not known and remembering them. What is known counts as it was when the
// question began, whatever is forgotten until the answer comes; a failure leaves the rest unknown, which is a no.
void Access::ask(std::string_view principal, std::vector<Ask> asks, Told then) {
  std::vector<bool> yes(asks.size());
  std::vector<std::size_t> open;  // which of them are asked
  fz::QuestionsT q;
  for (std::size_t i = 0; i < asks.size(); ++i) {
    const auto k = known(principal, asks[i].action, asks[i].object);
    yes[i] = k.value_or(false);
    if (k || stopped_) continue;
    open.push_back(i);
    auto one = std::make_unique<fz::QuestionT>();
    one->action = asks[i].action;
    one->object = asks[i].object;
    q.questions.push_back(std::move(one));
  }
  if (open.empty()) return then(asks, yes);
  q.principal = principal;
  const Buffer body = pack(q);
  host_.stream(fb::host::Service::AUTHORIZE, static_cast<std::uint32_t>(fz::Method::AUTHORIZE), body,
               [this, alive = alive_, principal = std::string(principal), asks = std::move(asks), yes = std::move(yes),
                open = std::move(open), then = std::move(then), asked = generation_](gantry_code code, Bytes reply) mutable {
                 if (code == GANTRY_MORE || !*alive) return;
                 const auto* v = code >= 0 ? view<fz::Verdicts>(reply) : nullptr;
                 const std::size_t n = v && v->allowed() ? v->allowed()->size() : 0;
                 if (n == open.size()) {
                   // Verdicts of before a change count for this question and are not remembered.
                   const bool keep = asked == generation_;
                   if (keep && known_.size() + n > kMaxKnown) known_.clear();
                   for (std::size_t i = 0; i < n; ++i) {
                     const Ask& a = asks[open[i]];
                     const bool may = v->allowed()->Get(static_cast<flatbuffers::uoffset_t>(i)) != 0;
                     yes[open[i]] = may;
                     if (keep) known_[key(principal, a.action, a.object)] = may;
                   }
                 } else if (code < 0) {
                   host_.warning("nobody says who may do that; it is refused", {{"error", unpack_error(code, reply).message}});
                 }
                 then(asks, yes);
               });
}

void Access::allowed(std::string_view principal, std::vector<Ask> asks, Function<void(bool)> done) {
  if (mode_ == Mode::open || asks.empty()) return done(true);
  ask(principal, std::move(asks), [done = std::move(done)](const std::vector<Ask>&, const std::vector<bool>& yes) mutable {
    done(std::find(yes.begin(), yes.end(), false) == yes.end());
  });
}

void Access::allowed(std::string_view principal, std::string_view action, std::string_view object, Function<void(bool)> done) {
  if (const auto k = known(principal, action, object)) return done(*k);
  allowed(principal, {Ask{std::string(action), std::string(object)}}, std::move(done));
}

void Access::verdicts(std::string_view principal, std::vector<Ask> asks, Function<void(const Verdicts&)> done) {
  if (mode_ == Mode::open) return done(Verdicts());
  ask(principal, std::move(asks), [done = std::move(done)](const std::vector<Ask>& asks, const std::vector<bool>& yes) mutable {
    std::set<std::pair<std::string, std::string>, std::less<>> allowed;
    for (std::size_t i = 0; i < asks.size(); ++i)
      if (yes[i]) allowed.emplace(asks[i].action, asks[i].object);
    done(Verdicts(std::move(allowed)));
  });
}

void Access::guard(const ExchangePtr& exchange, std::vector<Ask> asks, Function<void()> then) {
  allowed(exchange->principal(), std::move(asks), [exchange, then = std::move(then)](bool yes) mutable {
    if (!yes) return forbid(exchange);
    then();
  });
}

void forbid(const ExchangePtr& exchange) { exchange->text(403, "403 Forbidden."); }

// ---- who speaks

void Doors::deny(const ExchangePtr& exchange, const std::string& realm) {
  exchange->text(401, "401 Unauthorized.", {{"WWW-Authenticate", "Basic realm=\"" + realm + "\""}});
}

void Doors::enter(const ExchangePtr& exchange, const std::string& realm, Function<void()> then) {
  if (!closed(realm)) return then();  // credentials nobody asked for are not looked at (clients.md section 0, rule 15)
  const std::string* header = exchange->header("authorization");
  if (!header) return deny(exchange, realm);
  const auto space = header->find(' ');
  fa::CredentialsT c;
  c.scheme = header->substr(0, space);
  for (char& ch : c.scheme)
    if (ch >= 'A' && ch <= 'Z') ch = static_cast<char>(ch + 32);
  if (space != std::string::npos) {
    const auto from = header->find_first_not_of(' ', space);
    if (from != std::string::npos) c.parameters = header->substr(from);
  }
  if (c.scheme.empty()) return deny(exchange, realm);  // without a scheme it would be taken for a link's
  c.realm = realm;
  std::string key = realm + '\n' + c.scheme + '\n' + c.parameters;
  if (const auto it = known_.find(key); it != known_.end()) {
    if (it->second.until > host_.now()) {
      exchange->principal(it->second.principal);
      return then();
    }
    known_.erase(it);
  }
  const Buffer body = pack(c);
  host_.stream(fb::host::Service::AUTH, static_cast<std::uint32_t>(fa::Method::AUTHENTICATE), body,
               [this, alive = alive_, exchange, realm, key = std::move(key), then = std::move(then)](gantry_code code, Bytes reply) mutable {
                 if (code == GANTRY_MORE || !*alive) return;
                 const auto* identity = code >= 0 ? view<fa::Identity>(reply) : nullptr;
                 if (identity && !text(identity->principal()).empty()) {
                   const std::string who(text(identity->principal()));
                   if (known_.size() >= kMaxTrusted) known_.clear();
                   known_.insert_or_assign(std::move(key), Known{who, host_.now() + kTrust});
                   exchange->principal(who);
                   return then();
                 }
                 const Error why = code < 0 ? unpack_error(code, reply) : fail(Code::internal, "the authenticator names nobody");
                 if (why.code == Code::unauthenticated || why.code == Code::unimplemented) return deny(exchange, realm);
                 host_.warning("cannot authenticate a request", {{"peer", exchange->peer()}, {"error", why.message}});
                 exchange->text(503, "Authentication is not available now", {{"Retry-After", "1"}});
               });
}

}  // namespace gantry::gateway_mesos
