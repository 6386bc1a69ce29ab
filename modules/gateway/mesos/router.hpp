// Paths to handlers, as the original routes them: `/X` and `/master/X` are one, the longest known prefix wins, so
// `/api/v1/operator` reaches `/api/v1` and `/slaves/S0` reaches `/slaves` (reference clients.md section 0, rules 13,
// 14).
#pragma once

#include "exchange.hpp"

#include <map>

namespace gantry::gateway_mesos {

using Handler = Function<void(const ExchangePtr&)>;

// Realms, as clients see them in a 401. A path without one is served to everybody.
inline constexpr const char* kReadonlyRealm = "mesos-master-readonly";
inline constexpr const char* kReadwriteRealm = "mesos-master-readwrite";
inline constexpr const char* kSchedulerRealm = "mesos-master-scheduler";
inline constexpr const char* kAgentReadonlyRealm = "mesos-agent-readonly";
inline constexpr const char* kAgentReadwriteRealm = "mesos-agent-readwrite";
inline constexpr const char* kNoRealm = "";

struct Route {
  std::string path;                  // "/state": without /master, no slash at the end
  std::vector<std::string> methods;  // empty: any. In the order in which a 405 names them
  bool leader_only = true;           // followers answer 307, a master without a leader 503, before the handler runs
  Handler handler;
  std::string realm = kReadwriteRealm;  // whose credentials it takes, where that realm is closed (access.hpp)
};

class Router {
 public:
  void add(Route route);
  // The route of a request, nullptr if there is none; sets exchange.rest(). "/state.json" is "/state".
  [[nodiscard]] Route* find(Exchange& exchange);
  // True if the method fits; else the 405 has been sent.
  static bool allow(const Route& route, Exchange& exchange);

 private:
  std::map<std::string, Route, std::less<>> routes_;
};

}  // namespace gantry::gateway_mesos
