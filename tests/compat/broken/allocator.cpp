// What can be wrong with an allocator: allocator/drf, whose deltas or rounds are changed on the way.
#include "shim.hpp"

#include "drf.hpp"

#include <algorithm>
#include <map>

namespace broken {
namespace {

namespace fa = gantry::fb::allocator;

class AllocatorShim final : public Shim {
 public:
  using Shim::Shim;

  void call(const gantry_call& c) override {
    if (c.method != 16) return pass(c);
    auto deltas = gantry::unpack<fa::Deltas>(gantry::from_abi(c.body));
    if (!deltas) return pass(c);
    if (fault("ignores_filters")) deltas->filters.clear();
    if (fault("keeps_filters")) deltas->unfilters.clear();
    if (fault("ignores_reset")) deltas->reset = false;
    if (fault("offers_the_suppressed"))
      for (auto& f : deltas->frameworks) f->suppressed.clear();
    if (fault("offers_to_the_absent"))
      for (auto& f : deltas->frameworks) f->active = true;
    if (fault("offers_reserved_to_others")) {
      for (auto& a : deltas->agents)
        for (auto* v : {&a->total, &a->available})
          for (auto& q : *v) q = fa::Quantity(q.name(), 0, q.flags(), 0u, q.amount());
    }
    if (fault("ignores_flags"))
      for (auto& f : deltas->frameworks) f->flags = 31;
    if (fault("keeps_gone_agents")) std::erase_if(deltas->agents, [](const auto& a) { return a->gone; });
    if (fault("crash_on_unknown_handle")) {
      static std::map<std::uint32_t, bool> known;
      for (const auto& f : deltas->frameworks) known[f->id] = true;
      for (const auto& u : deltas->unfilters) *(known.count(u.framework()) ? &sink_ : static_cast<volatile int*>(nullptr)) = 1;
    }
    const std::uint64_t token = c.token;
    own_call(c.method, gantry::pack(*deltas), [this, token](gantry_code code, Bytes body) {
      if (code == GANTRY_OK) {
        if (auto round = gantry::unpack<fa::Round>(body)) {
          spoil(*round);
          return answer(token, code, gantry::pack(*round));
        }
      }
      answer(token, code, body);
    });
  }

 private:
  void spoil(fa::RoundT& round) {
    // Every grant once more, and what was granted last time, too.
    if (fault("over_commits")) {
      const auto now = round.grants;
      round.grants.insert(round.grants.end(), now.begin(), now.end());
      round.grants.insert(round.grants.end(), last_.begin(), last_.end());
      last_ = now;
    }
    if (fault("takes_more_than_there_is")) {
      for (auto& g : round.grants) {
        g = fa::Grant(g.agent(), g.framework(), g.role(), static_cast<std::uint32_t>(round.parts.size()), 1, 0u);
        round.parts.emplace_back(1u, 0u, 0u, 0u, std::int64_t{1'000'000'000});
      }
    }
    if (fault("never_wakes")) round.wake_ns = 0;
    if (fault("depends_on_chance") && chance_++ % 7 == 0 && round.grants.size() > 1) std::swap(round.grants.front(), round.grants.back());
  }
  std::vector<fa::Grant> last_;
  volatile int sink_ = 0;
  static inline unsigned chance_ = 0;  // of the process: a second instance begins elsewhere
};

}  // namespace

gantry_provider inner_provider() { return gantry::provider<gantry::allocator_drf::Drf>("drf"); }
std::unique_ptr<Shim> make_shim(const gantry_host* real) { return std::make_unique<AllocatorShim>(real); }

}  // namespace broken
