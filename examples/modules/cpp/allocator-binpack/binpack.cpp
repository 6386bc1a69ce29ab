#include "binpack.hpp"

#include <algorithm>
#include <cmath>

namespace gantry::allocator_binpack {

Task<Status> Binpack::configure(Settings settings) {
  open_ = settings.number("open");
  patience_ns_ = static_cast<std::uint64_t>(settings.duration("patience").count());
  min_cpus_ = std::llround(settings.real("min_cpus") * 1000);
  min_mem_ = settings.number("min_mem") / 1024 * 1000 / 1024;  // bytes to thousandths of a MiB
  if (!settings.reload()) {
    rounds_ = host().metric("allocator/rounds", fb::MetricKind::COUNTER, "", "allocation rounds run");
    grants_ = host().metric("allocator/grants", fb::MetricKind::COUNTER, "", "bundles granted to frameworks");
  }
  co_return ok;
}

bool Binpack::worth_offering(const Amounts& bundle) const {
  if (bundle.empty()) return false;
  return (min_cpus_ == 0 && min_mem_ == 0) || cluster_.sum(bundle, "cpus") >= std::max<std::int64_t>(min_cpus_, 1) ||
         cluster_.sum(bundle, "mem") >= std::max<std::int64_t>(min_mem_, 1);
}

bool Binpack::may_open(Client client, std::uint64_t& wake_ns) const {
  const auto offered = offered_.find(client);
  if (offered == offered_.end() || static_cast<std::int64_t>(offered->second.size()) < open_) return true;
  std::int64_t pending = 0;
  std::uint64_t first = UINT64_MAX;
  for (const auto& [agent, since] : offered->second) {
    if (since + patience_ns_ <= cluster_.now_ns()) continue;
    ++pending;
    first = std::min(first, since + patience_ns_);
  }
  if (pending < open_) return true;
  wake_ns = std::min(wake_ns, first);
  return false;
}

// One round: the fullest agents first, each to whom it suits and who holds least. The kernel calls again when something
// has changed, or at the returned time: an allocator needs no timer.
Task<Result<Buffer>> Binpack::allocate(Request<fb::allocator::Deltas> deltas) {
  cluster_.apply(*deltas);
  if (deltas->reset()) offered_.clear();
  if (deltas->agents())
    for (const auto* a : *deltas->agents())
      for (auto& [client, agents] : offered_) agents.erase(a->id());
  if (deltas->frameworks())
    for (const auto* f : *deltas->frameworks())
      if (f->gone() || !f->active()) std::erase_if(offered_, [&](const auto& o) { return o.first.framework == f->id(); });

  std::vector<std::pair<double, std::uint32_t>> order;  // -fill, id: the same cluster always gives the same round
  for (const auto& [id, agent] : cluster_.agents())
    if (agent.active && !agent.available.empty()) order.emplace_back(-agent.fill(), id);
  std::sort(order.begin(), order.end());

  std::vector<fb::allocator::Grant> grants;
  std::vector<fb::allocator::Quantity> parts;
  std::uint64_t wake_ns = UINT64_MAX;
  std::set<std::pair<double, Client>> poorest_first;
  for (const Client client : cluster_.clients()) poorest_first.emplace(cluster_.share(client), client);
  for (const auto& [minus_fill, id] : order) {
    const Agent& agent = cluster_.agents().at(id);
    const bool empty = minus_fill > -1e-9;
    // More than once, for what is reserved for one role is left when another took its part.
    for (bool granted = true; granted;) {
      granted = false;
      for (auto it = poorest_first.begin(); it != poorest_first.end(); ++it) {
        const Client client = it->second;
        const Amounts bundle = cluster_.bundle(agent, client);
        if (!worth_offering(bundle) || cluster_.refused(agent, client, bundle, wake_ns)) continue;
        if (empty && !may_open(client, wake_ns)) continue;
        // Parts are always named: "everything the role may have" would include what the framework cannot handle.
        grants.emplace_back(id, client.framework, client.role, static_cast<std::uint32_t>(parts.size()),
                            static_cast<std::uint32_t>(bundle.size()), 0u);
        for (const auto& [sort, amount] : bundle) parts.emplace_back(sort.name, sort.role, sort.flags, 0u, amount);
        cluster_.take(id, client, bundle);
        offered_[client][id] = cluster_.now_ns();
        poorest_first.erase(it);
        poorest_first.emplace(cluster_.share(client), client);
        granted = true;
        break;
      }
    }
  }
  rounds_.add();
  grants_.add(static_cast<double>(grants.size()));
  flatbuffers::FlatBufferBuilder fbb;
  const auto g = fbb.CreateVectorOfStructs(grants);
  const auto p = fbb.CreateVectorOfStructs(parts);
  // 0 = nothing to do before the next change; a little later than now, so that expiries gather.
  constexpr std::uint64_t gap_ns = 10'000'000;
  fbb.Finish(fb::allocator::CreateRound(fbb, g, p, wake_ns == UINT64_MAX ? 0 : std::max(wake_ns, cluster_.now_ns() + gap_ns)));
  co_return Buffer(fbb.Release());
}

}  // namespace gantry::allocator_binpack
