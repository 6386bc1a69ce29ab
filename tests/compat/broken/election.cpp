// What can be wrong with an election: election/standalone, which tells a candidate or a watcher something else.
#include "shim.hpp"

#include "standalone.hpp"

#include <set>

namespace broken {
namespace {

namespace fe = gantry::fb::election;
constexpr std::uint32_t contend = 16, watch = 17;

class ElectionShim final : public Shim {
 public:
  using Shim::Shim;

  void call(const gantry_call& c) override {
    if (c.method == contend) candidates_.insert(c.token);
    if (c.method == watch) watchers_.insert(c.token);
    pass(c);
  }
  void complete(std::uint64_t token, gantry_code code, Bytes body) override {
    if (code == GANTRY_MORE && candidates_.count(token)) {
      if (auto l = gantry::unpack<fe::Leadership>(body)) {
        if (fault("elects_everybody")) l->elected = true;
        if (fault("forgets_who_waits") && !l->elected) waiting_.insert(token);
        if (fault("forgets_who_waits") && l->elected && waiting_.count(token)) return;
        if (fault("epoch_stands_still")) l->epoch = 1;
        return answer(token, code, gantry::pack(*l));
      }
    }
    if (code == GANTRY_MORE && watchers_.count(token)) {
      const bool first = told_.insert(token).second;
      if (fault("watch_waits_for_change") && first) return;
      if (fault("watch_tells_once") && !first) return;
    }
    answer(token, code, body);
  }

 private:
  std::set<std::uint64_t> candidates_, watchers_, told_, waiting_;
};

}  // namespace

gantry_provider inner_provider() { return gantry::provider<gantry::election_standalone::Standalone>("standalone"); }
std::unique_ptr<Shim> make_shim(const gantry_host* real) { return std::make_unique<ElectionShim>(real); }

}  // namespace broken
