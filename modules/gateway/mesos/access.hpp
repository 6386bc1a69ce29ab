// May a client do that? The host services AUTHORIZE and AUTH, with what they said remembered.
//
// Every path has a realm (router.hpp); Doors judges the credentials of a request for it. Access asks the authorizer modules and
// remembers their verdicts until they say that something has changed, so that filtering a list or an event costs a look-up.
// Actions and their words: sdk/docs/authorizer.md.
#pragma once

#include "exchange.hpp"

#include <gantry/authorizer_generated.h>
#include <gantry/host.hpp>

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace gantry::gateway_mesos {

// One thing that is asked. An empty object: any object at all.
struct Ask {
  std::string action, object;
};

// Verdicts for one principal, for work on another thread. Immutable. What was not asked is refused.
class Verdicts {
 public:
  Verdicts() = default;  // everything is allowed
  explicit Verdicts(std::set<std::pair<std::string, std::string>, std::less<>> allowed)
      : guarded_(true), allowed_(std::move(allowed)) {}
  [[nodiscard]] bool all() const { return !guarded_; }
  [[nodiscard]] bool allows(std::string_view action, std::string_view object) const {
    return !guarded_ || allowed_.find(std::pair<std::string, std::string>(action, object)) != allowed_.end();
  }

 private:
  bool guarded_ = false;
  std::set<std::pair<std::string, std::string>, std::less<>> allowed_;
};

// On the strand.
class Access {
 public:
  explicit Access(Host& host) : host_(host) {}
  ~Access() { *alive_ = false; }
  void start();
  void stop();

  // No authorizer is configured: everything is allowed and need not be asked.
  [[nodiscard]] bool open() const { return mode_ == Mode::open; }

  // `done` runs once with the verdict: at once where it is known, else when it has come. A failure means no.
  void allowed(std::string_view principal, std::string_view action, std::string_view object, Function<void(bool)> done);
  // All of them; empty: yes.
  void allowed(std::string_view principal, std::vector<Ask> asks, Function<void(bool)> done);
  // For filters: those verdicts, all at once.
  void verdicts(std::string_view principal, std::vector<Ask> asks, Function<void(const Verdicts&)> done);
  // What is known already, nullopt if it must be asked.
  [[nodiscard]] std::optional<bool> known(std::string_view principal, std::string_view action, std::string_view object) const;

  // Runs `then` if it is allowed; else the client gets 403, as Mesos answers it.
  void guard(const ExchangePtr& exchange, std::vector<Ask> asks, Function<void()> then);
  void guard(const ExchangePtr& exchange, std::string_view action, std::string_view object, Function<void()> then) {
    guard(exchange, {Ask{std::string(action), std::string(object)}}, std::move(then));
  }

 private:
  enum class Mode { unknown, open, guarded };
  void follow();
  using Told = Function<void(const std::vector<Ask>&, const std::vector<bool>&)>;
  void ask(std::string_view principal, std::vector<Ask> asks, Told then);
  static std::string key(std::string_view principal, std::string_view action, std::string_view object);

  Host& host_;
  Mode mode_ = Mode::unknown;
  bool stopped_ = false;
  std::uint64_t follow_ = 0, timer_ = 0, generation_ = 0;
  std::unordered_map<std::string, bool> known_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

// "403 Forbidden." as Mesos answers what an ACL refuses.
void forbid(const ExchangePtr& exchange);

// Judges the credentials of requests, each in the realm of its path.
class Doors {
 public:
  explicit Doors(Host& host) : host_(host) {}
  ~Doors() { *alive_ = false; }
  // Requests in this realm must show credentials.
  void close(std::string realm) { closed_.insert(std::move(realm)); }
  [[nodiscard]] bool closed(std::string_view realm) const { return closed_.find(realm) != closed_.end(); }
  [[nodiscard]] bool any() const { return !closed_.empty(); }

  // Runs `then` with the principal set, at once where the realm is open or the credentials were judged a moment ago. Else 401
  // with a challenge, or 503 where nobody can judge.
  void enter(const ExchangePtr& exchange, const std::string& realm, Function<void()> then);

 private:
  struct Known {
    std::string principal;
    std::chrono::nanoseconds until{};
  };
  static void deny(const ExchangePtr& exchange, const std::string& realm);

  Host& host_;
  std::set<std::string, std::less<>> closed_;
  std::unordered_map<std::string, Known> known_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace gantry::gateway_mesos
