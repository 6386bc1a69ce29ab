// Containers on the machine's network that listen on ports they were not given.
#include "network.hpp"

namespace gantry::isolator_network {

void Network::watch_ports() {
  if (ports_timer_ || stopping_ || listening_ == Listening::off || watched_.empty()) return;
  bool any = false;
  for (const auto& [id, c] : containers_) any = any || (c.host && c.pid);
  if (!any) return;
  ports_timer_ = host().timer(ports_interval_, [this] {
    ports_timer_ = 0;
    begin(look_at_ports());
  });
}

Task<void> Network::look_at_ports() {
  std::vector<Root> roots;
  for (const auto& [id, c] : containers_)
    if (c.host && c.pid) roots.push_back({id, c.pid});
  auto work = [roots = std::move(roots), watched = watched_] { return listening_ports(roots, watched); };
  auto looking = host().offload(std::move(work));
  const auto found = co_await std::move(looking);
  if (!found) {
    host().warning("listening ports of containers are not known: " + found.error().message);
  } else {
    for (const auto& [id, ports] : *found) {
      const auto it = containers_.find(id);
      if (it != containers_.end()) judge(id, it->second, ports);
    }
  }
  watch_ports();
}

void Network::judge(const std::string& id, Container& c, const std::set<std::uint32_t>& listening) {
  std::set<std::uint32_t> unallocated;
  for (const auto port : listening)
    if (!contains(c.owned, port)) unallocated.insert(port);
  std::set<std::uint32_t> fresh;
  for (const auto port : unallocated)
    if (c.told.insert(port).second) fresh.insert(port);
  if (fresh.empty()) return;
  unallocated_.add(static_cast<double>(fresh.size()));
  const std::string message = "Container is listening on unallocated port(s): " + print_ports(unallocated);
  if (listening_ == Listening::report) {
    host().warning(message, {{"container", id}});
    return;
  }
  fb::isolator::LimitedT limited;
  limited.reason = fb::Reason::REASON_CONTAINER_LIMITATION;
  limited.message = message;
  auto r = std::make_unique<fb::ResourceT>();
  r->name = "ports";
  r->type = fb::ValueType::RANGES;
  for (const auto port : unallocated) r->ranges.push_back(fb::Range(port, port));
  limited.resources.push_back(std::move(r));
  if (c.watcher.open()) c.watcher.more(pack(limited));
  else c.pending = std::move(limited);
}

}  // namespace gantry::isolator_network
