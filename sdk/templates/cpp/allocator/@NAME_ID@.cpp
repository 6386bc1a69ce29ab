#include "@NAME_ID@.hpp"

#include <algorithm>
#include <cmath>

namespace @NAME_ID@ {

using namespace gantry;

Task<Status> @CLASS@::configure(Settings settings) {
  min_cpus_ = std::llround(settings.real("min_cpus") * 1000);
  min_mem_ = settings.number("min_mem") / 1024 * 1000 / 1024;  // bytes to thousandths of a MiB
  co_return ok;
}

bool @CLASS@::worth_offering(const Amounts& bundle) const {
  if (bundle.empty()) return false;
  return (min_cpus_ == 0 && min_mem_ == 0) || cluster_.sum(bundle, "cpus") >= std::max<std::int64_t>(min_cpus_, 1) ||
         cluster_.sum(bundle, "mem") >= std::max<std::int64_t>(min_mem_, 1);
}

// One round: every agent to the framework that holds least and may have it. This is the place for your policy. The kernel
// checks each grant against its own books, calls again when something has changed, and at wake_ns if only time must pass.
Task<Result<Buffer>> @CLASS@::allocate(Request<fb::allocator::Deltas> deltas) {
  cluster_.apply(*deltas);
  std::vector<fb::allocator::Grant> grants;
  std::vector<fb::allocator::Quantity> parts;
  std::uint64_t wake_ns = UINT64_MAX;
  std::set<std::pair<double, Client>> poorest_first;
  for (const Client client : cluster_.clients()) poorest_first.emplace(cluster_.share(client), client);
  for (const auto& [id, agent] : cluster_.agents()) {
    // More than once, for what is reserved for one role is left when another took its part.
    for (bool granted = agent.active && !agent.available.empty(); granted;) {
      granted = false;
      for (auto it = poorest_first.begin(); it != poorest_first.end(); ++it) {
        const Client client = it->second;
        const Amounts bundle = cluster_.bundle(agent, client);
        if (!worth_offering(bundle) || cluster_.refused(agent, client, bundle, wake_ns)) continue;
        grants.emplace_back(id, client.framework, client.role, static_cast<std::uint32_t>(parts.size()),
                            static_cast<std::uint32_t>(bundle.size()), 0u);
        for (const auto& [sort, amount] : bundle) parts.emplace_back(sort.name, sort.role, sort.flags, 0u, amount);
        cluster_.take(id, client, bundle);
        poorest_first.erase(it);
        poorest_first.emplace(cluster_.share(client), client);
        granted = true;
        break;
      }
    }
  }
  flatbuffers::FlatBufferBuilder fbb;
  const auto g = fbb.CreateVectorOfStructs(grants);
  const auto p = fbb.CreateVectorOfStructs(parts);
  // 0 = nothing to do before the next change; a little later than now, so that expiries gather.
  constexpr std::uint64_t gap_ns = 10'000'000;
  fbb.Finish(fb::allocator::CreateRound(fbb, g, p, wake_ns == UINT64_MAX ? 0 : std::max(wake_ns, cluster_.now_ns() + gap_ns)));
  co_return Buffer(fbb.Release());
}

}  // namespace @NAME_ID@
