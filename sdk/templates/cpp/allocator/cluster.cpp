#include "cluster.hpp"

#include <gantry/message.hpp>

#include <algorithm>

namespace @NAME_ID@ {

namespace fb = gantry::fb;
using gantry::text;

namespace {

using fb::allocator::FrameworkFlags;
using fb::allocator::QuantityFlags;

constexpr bool has(std::uint32_t flags, QuantityFlags f) { return flags & static_cast<std::uint32_t>(f); }
constexpr bool has(std::uint32_t flags, FrameworkFlags f) { return flags & static_cast<std::uint32_t>(f); }

Amounts read(const flatbuffers::Vector<const fb::allocator::Quantity*>* in) {
  Amounts out;
  if (in)
    for (const auto* q : *in)
      if (q->amount() > 0) out[{q->name(), q->role(), q->flags()}] += q->amount();
  return out;
}

bool fits(const Amounts& part, const Amounts& whole) {
  return std::all_of(part.begin(), part.end(), [&](const auto& p) {
    const auto it = whole.find(p.first);
    return it != whole.end() && it->second >= p.second;
  });
}

}  // namespace

// In the order the schema gives: reset, names, roles, frameworks, unfilters, agents, held, filters.
void Cluster::apply(const fb::allocator::Deltas& d) {
  if (d.reset()) *this = Cluster();
  now_ns_ = d.now_ns();
  tentative_.clear();  // booked grants come back in `held`, dropped ones leave no trace
  if (d.names())
    for (const auto* n : *d.names()) names_[n->id()] = text(n->text());
  if (d.roles())
    for (const auto* r : *d.roles()) roles_[r->id()] = {r->parent(), r->weight() > 0 ? r->weight() : 1};
  if (d.frameworks()) {
    for (const auto* f : *d.frameworks()) {
      if (f->gone() || !f->active()) forget_filters(f->id(), 0);  // declines do not outlive the connection
      if (f->gone()) {
        frameworks_.erase(f->id());
        std::erase_if(held_, [&](const auto& h) { return h.first.framework == f->id(); });
        continue;
      }
      Framework& mine = frameworks_[f->id()];
      mine = {{}, {}, f->flags(), f->active()};
      if (f->roles()) mine.roles.insert(f->roles()->begin(), f->roles()->end());
      if (f->suppressed()) mine.suppressed.insert(f->suppressed()->begin(), f->suppressed()->end());
    }
  }
  if (d.unfilters())
    for (const auto* u : *d.unfilters()) forget_filters(u->framework(), u->role());
  if (d.agents()) {
    for (const auto* a : *d.agents()) {
      Agent& mine = agents_[a->id()];
      if (a->gone() || a->total()) {
        count(mine.total, -1);
        mine.total = read(a->gone() ? nullptr : a->total());
        count(mine.total, 1);
      }
      if (a->gone()) {
        agents_.erase(a->id());
        continue;
      }
      mine.active = a->active();
      if (a->available()) mine.available = read(a->available());
    }
  }
  if (d.held()) {
    for (const auto* h : *d.held()) {
      if (!frameworks_.count(h->framework())) continue;  // a gone framework took what it held with it
      std::int64_t& amount = held_[{h->framework(), h->role()}][h->name()];
      amount = std::max<std::int64_t>(0, amount + h->amount());
    }
  }
  if (d.filters()) {
    for (const auto* f : *d.filters()) {
      const auto agent = agents_.find(f->agent());
      if (agent != agents_.end()) agent->second.filters[{f->framework(), f->role()}].emplace(f->until_ns(), read(f->refused()));
    }
  }
  for (auto& [id, agent] : agents_)
    for (auto& [client, filters] : agent.filters) filters.erase(filters.begin(), filters.upper_bound(now_ns_));
}

void Cluster::count(const Amounts& total, int sign) {
  for (const auto& [sort, amount] : total) whole_[sort.name] += sign * amount;
}

void Cluster::forget_filters(std::uint32_t framework, std::uint32_t role) {
  for (auto& [id, agent] : agents_)
    std::erase_if(agent.filters, [&](const auto& f) { return f.first.framework == framework && (role == 0 || f.first.role == role); });
}

bool Cluster::within(std::uint32_t role, std::uint32_t ancestor) const {
  // Bounded, for outside data could make a ring of parents.
  for (std::size_t steps = 0; role != 0 && steps <= roles_.size(); ++steps) {
    if (role == ancestor) return true;
    const auto it = roles_.find(role);
    role = it == roles_.end() ? 0 : it->second.parent;
  }
  return false;
}

Amounts Cluster::bundle(const Agent& agent, Client client) const {
  const std::uint32_t flags = frameworks_.at(client.framework).flags;
  Amounts out;
  // Agents with gpus are for frameworks that know them: others would fill them up with what runs anywhere.
  for (const auto& [sort, amount] : agent.total)
    if (has(sort.flags, QuantityFlags::GPU) && !has(flags, FrameworkFlags::GPU)) return out;
  for (const auto& [sort, amount] : agent.available) {
    if (sort.role != 0 && !within(client.role, sort.role)) continue;
    if (has(sort.flags, QuantityFlags::REVOCABLE) && !has(flags, FrameworkFlags::REVOCABLE)) continue;
    if (has(sort.flags, QuantityFlags::SHARED) && !has(flags, FrameworkFlags::SHARED)) continue;
    if (has(sort.flags, QuantityFlags::REFINED) && !has(flags, FrameworkFlags::REFINEMENT)) continue;
    out.emplace(sort, amount);
  }
  return out;
}

bool Cluster::refused(const Agent& agent, Client client, const Amounts& bundle, std::uint64_t& until_ns) const {
  const auto filters = agent.filters.find(client);
  if (filters == agent.filters.end()) return false;
  for (const auto& [until, amounts] : filters->second) {
    if (!fits(bundle, amounts)) continue;
    until_ns = std::min(until_ns, until);
    return true;
  }
  return false;
}

double Cluster::share(Client client) const {
  std::map<std::uint32_t, std::int64_t> holds;
  for (const auto* source : {&held_, &tentative_})
    if (const auto it = source->find(client); it != source->end())
      for (const auto& [name, amount] : it->second) holds[name] += amount;
  double largest = 0;
  for (const auto& [name, amount] : holds)
    if (const auto it = whole_.find(name); it != whole_.end() && it->second > 0)
      largest = std::max(largest, static_cast<double>(amount) / static_cast<double>(it->second));
  const auto role = roles_.find(client.role);
  return largest / (role == roles_.end() ? 1 : role->second.weight);
}

std::set<Client> Cluster::clients() const {
  std::set<Client> out;
  for (const auto& [id, f] : frameworks_) {
    if (!f.active) continue;
    for (const std::uint32_t role : f.roles)
      if (!f.suppressed.count(role)) out.insert({id, role});
  }
  return out;
}

std::int64_t Cluster::sum(const Amounts& amounts, const std::string& name) const {
  std::int64_t out = 0;
  for (const auto& [sort, amount] : amounts)
    if (const auto it = names_.find(sort.name); it != names_.end() && it->second == name) out += amount;
  return out;
}

void Cluster::take(std::uint32_t agent, Client client, const Amounts& bundle) {
  Amounts& available = agents_.at(agent).available;
  for (const auto& [sort, amount] : bundle) {
    const auto it = available.find(sort);
    if ((it->second -= amount) <= 0) available.erase(it);
    tentative_[client][sort.name] += amount;
  }
}

}  // namespace @NAME_ID@
