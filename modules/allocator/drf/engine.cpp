// The mirror: what Deltas say, kept where rounds find it without searching.
#include "engine.hpp"

#include <gantry/message.hpp>

#include <charconv>
#include <cmath>

namespace gantry::allocator_drf {
namespace {

// Handles are the kernel's dense slots, of which a million agents is the most it is built for; anything far beyond is a broken
// message, not a reason to allocate gigabytes.
constexpr std::uint32_t kMaxHandle = 1u << 22;

bool contains(const std::vector<std::uint32_t>& v, std::uint32_t x) { return std::find(v.begin(), v.end(), x) != v.end(); }

std::string_view trim(std::string_view s) {
  while (!s.empty() && s.front() == ' ') s.remove_prefix(1);
  while (!s.empty() && s.back() == ' ') s.remove_suffix(1);
  return s;
}

}  // namespace

Result<MinAllocatable> parse_min_allocatable(std::string_view text) {
  MinAllocatable out;
  if (trim(text).empty()) return out;
  while (true) {
    const std::size_t bar = text.find('|');
    std::string_view alternative = text.substr(0, bar);
    auto& list = out.emplace_back();
    while (true) {
      const std::size_t end = alternative.find(';');
      const std::string_view item = trim(alternative.substr(0, end));
      const std::size_t colon = item.find(':');
      double amount = -1;
      if (colon != std::string_view::npos && colon > 0) {
        const std::string_view number = trim(item.substr(colon + 1));
        const auto r = std::from_chars(number.data(), number.data() + number.size(), amount);
        if (r.ec != std::errc() || r.ptr != number.data() + number.size()) amount = -1;
      }
      if (!(amount >= 0 && amount <= 1e12)) {
        return fail(Code::invalid_argument, "min_allocatable: '" + std::string(item) + "' is not name:amount, as in \"cpus:0.01|mem:32\"",
                    "min_allocatable");
      }
      list.emplace_back(trim(item.substr(0, colon)), std::llround(amount * 1000));
      if (end == std::string_view::npos) break;
      alternative.remove_prefix(end + 1);
    }
    if (bar == std::string_view::npos) return out;
    text.remove_prefix(bar + 1);
  }
}

void Engine::set_min_allocatable(MinAllocatable m) {
  min_allocatable_ = std::move(m);
  resolve_names();
  ++generation_;
  all_ = true;
}

void Engine::set_fairness_exclude(std::vector<std::string> names) {
  exclude_ = std::move(names);
  resolve_names();
}

// Settings speak of names, amounts of ids; either may come first.
void Engine::resolve_names() {
  for (std::size_t id = 0; id < names_.size(); ++id) {
    tree_.exclude(static_cast<std::uint16_t>(id), std::find(exclude_.begin(), exclude_.end(), names_[id]) != exclude_.end());
  }
  min_any_ = min_allocatable_.empty();
  min_ids_.clear();
  for (const auto& alternative : min_allocatable_) {
    std::vector<std::pair<std::uint16_t, std::int64_t>> ids;
    bool possible = true;
    for (const auto& [name, milli] : alternative) {
      const auto it = std::find(names_.begin(), names_.end(), name);
      if (milli == 0) continue;
      if (it == names_.end()) possible = false;
      else ids.emplace_back(static_cast<std::uint16_t>(it - names_.begin()), milli);
    }
    if (possible) min_ids_.push_back(std::move(ids));
  }
}

void Engine::clear() {
  names_.clear();
  tree_.clear();
  shapes_.clear();
  roles_.clear();
  quotas_.clear();
  free_.clear();
  required_.clear();
  frameworks_.clear();
  clients_.clear();
  tentative_.clear();
  agents_.clear();
  with_available_.clear();
  dirty_.clear();
  wakes_ = {};
  stamp_.clear();
  first_filter_.clear();
  ++generation_;
}

void Engine::learn_name(std::uint32_t id, std::string_view text) {
  if (id > UINT16_MAX) return;
  if (names_.size() <= id) names_.resize(id + 1);
  names_[id] = text;
}

void Engine::learn_role(std::uint32_t id, std::uint32_t parent, double weight) {
  const bool had_parent = id < roles_.size() && roles_[id].node != kNone;
  role_self(id);
  if (parent != 0 && parent != id && !within(parent, id)) {
    role_self(parent);
  } else {
    parent = 0;
  }
  if (!had_parent || roles_[id].parent != parent) {
    roles_[id].parent = parent;
    tree_.move(roles_[id].node, parent ? roles_[parent].node : kRoot);
    ++generation_;
  }
  tree_.set_weight(roles_[id].node, weight);
}

// The node below which the role's own frameworks hang.
NodeId Engine::role_self(std::uint32_t role) {
  if (roles_.size() <= role) roles_.resize(role + 1);
  Role& r = roles_[role];
  if (r.node == kNone) {
    r.node = tree_.add(kRoot, NodeKind::role, role);
    r.self = tree_.add(r.node, NodeKind::self, role);
  }
  return r.self;
}

NodeId Engine::find_client(std::uint32_t framework, std::uint32_t role) const {
  if (framework >= frameworks_.size()) return kNone;
  for (const NodeId c : frameworks_[framework].clients)
    if (clients_[c].role == role) return c;
  return kNone;
}

NodeId Engine::client_of(std::uint32_t framework, std::uint32_t role) {
  if (const NodeId c = find_client(framework, role); c != kNone) return c;
  const NodeId self = role_self(role);
  const NodeId c = tree_.add(self, NodeKind::client, framework);
  if (clients_.size() < tree_.capacity()) {
    clients_.resize(tree_.capacity());
    stamp_.resize(tree_.capacity());
    first_filter_.resize(tree_.capacity());
  }
  raise_epoch(c);
  Client& client = clients_[c];
  client.framework = framework;
  client.role = role;
  client.flags = frameworks_[framework].flags;
  client.tentative.clear();
  frameworks_[framework].clients.push_back(c);
  return c;
}

void Engine::raise_epoch(NodeId client) {
  if (++clients_[client].epoch != 0) return;
  // After 65536 REVIVEs epochs repeat: old filters must not come back to life.
  for (auto& a : agents_) {
    std::erase_if(a.filters, [&](const Filter& f) {
      if (f.client == client) shapes_.release(f.refused);
      return f.client == client;
    });
  }
}

void Engine::apply_framework(const fb::allocator::FrameworkDelta& d) {
  const std::uint32_t id = d.id();
  if (d.gone()) {
    if (id >= frameworks_.size()) return;
    for (const NodeId c : frameworks_[id].clients) {
      raise_epoch(c);
      std::erase(tentative_, c);
      tree_.remove(c);
    }
    frameworks_[id] = {};
    return;
  }
  if (frameworks_.size() <= id) frameworks_.resize(id + 1);
  const auto roles_of = [](const flatbuffers::Vector<std::uint32_t>* v) {
    return v ? std::vector<std::uint32_t>(v->begin(), v->end()) : std::vector<std::uint32_t>();
  };
  {
    Framework& f = frameworks_[id];
    if (f.flags != d.flags()) ++generation_, all_ = true;
    f.known = true;
    const bool went = f.active && !d.active();
    f.active = d.active();
    f.flags = d.flags();
    f.roles = roles_of(d.roles());
    f.suppressed = roles_of(d.suppressed());
    // Declines do not outlive the connection or the subscription they were made in.
    for (const NodeId c : f.clients)
      if (went || !contains(f.roles, clients_[c].role)) raise_epoch(c);
  }
  for (const std::uint32_t role : frameworks_[id].roles)
    if (role != 0 && role < kMaxHandle) client_of(id, role);
  Framework& f = frameworks_[id];
  for (const NodeId c : f.clients) {
    clients_[c].flags = f.flags;
    const bool wants = f.active && contains(f.roles, clients_[c].role) && !contains(f.suppressed, clients_[c].role);
    if (wants && !tree_.listed(c)) ++generation_, all_ = true;  // somebody new may take what others did not want
    tree_.list(c, wants);
  }
}

void Engine::mark_dirty(std::uint32_t id) {
  Agent& a = agents_[id];
  a.blocked_generation = 0;
  a.blocked_until_us = 0;
  if (a.dirty) return;
  a.dirty = true;
  dirty_.push_back(id);
}

void Engine::set_available(std::uint32_t id, bool present) {
  Agent& a = agents_[id];
  if (present == (a.position != kNone)) return;
  if (present) {
    a.position = static_cast<std::uint32_t>(with_available_.size());
    with_available_.push_back(id);
  } else {
    const std::uint32_t last = with_available_.back();
    with_available_[a.position] = last;
    agents_[last].position = a.position;
    with_available_.pop_back();
    a.position = kNone;
  }
}

void Engine::apply_agent(const fb::allocator::AgentDelta& d) {
  const std::uint32_t id = d.id();
  if (d.gone() && id >= agents_.size()) return;
  if (agents_.size() <= id) agents_.resize(id + 1);
  Agent& a = agents_[id];
  if (d.gone() || d.total()) {
    scratch_.clear();
    if (!d.gone()) read(d.total(), scratch_);
    const ShapeId before = a.total;
    const ShapeId after = shapes_.intern(scratch_);
    if (before != after) {
      for (const auto& x : shapes_[before]) tree_.add_total(x.name, -x.milli);
      for (const auto& x : shapes_[after]) tree_.add_total(x.name, x.milli);
    }
    a.gpu = false;
    for (const auto& x : shapes_[after]) a.gpu = a.gpu || (x.flags & static_cast<std::uint16_t>(fb::allocator::QuantityFlags::GPU));
    a.total = after;
    shapes_.release(before);
  }
  if (!quotas_.empty()) count_free(a, -1);
  if (d.gone()) {
    set_available(id, false);
    for (const auto& f : a.filters) shapes_.release(f.refused);
    const bool dirty = a.dirty;
    a = {};
    a.dirty = dirty;  // it stays in dirty_; rounds skip what is not known
    return;
  }
  a.known = true;
  a.active = d.active();
  if (d.available()) {
    read(d.available(), scratch_);
    // Exact size: a million of these are kept.
    if (scratch_.size() > a.available.capacity() || scratch_.size() * 2 < a.available.capacity()) {
      a.available = Amounts(scratch_.begin(), scratch_.end());
    } else {
      a.available.assign(scratch_.begin(), scratch_.end());
    }
    const auto special = static_cast<std::uint16_t>(fb::allocator::QuantityFlags::REVOCABLE | fb::allocator::QuantityFlags::SHARED |
                                                    fb::allocator::QuantityFlags::REFINED);
    a.plain = std::all_of(a.available.begin(), a.available.end(), [special](const Amount& x) { return x.role == 0 && !(x.flags & special); });
  }
  if (!quotas_.empty()) count_free(a, +1);
  set_available(id, a.active && !a.available.empty());
  mark_dirty(id);
}

void Engine::apply_filter(const fb::allocator::Filter& d) {
  const NodeId client = find_client(d.framework(), d.role());
  if (client == kNone || d.agent() >= agents_.size() || !agents_[d.agent()].known || d.until_ns() <= now_ns_) return;
  Agent& a = agents_[d.agent()];
  read(d.refused(), scratch_);
  const std::uint64_t until_us = std::min<std::uint64_t>((d.until_ns() + 999) / 1000, (std::uint64_t{1} << 48) - 1);
  const std::uint64_t now_us = now_ns_ / 1000;
  // One filter that covers another replaces it, so repeated declines do not pile up.
  std::size_t kept = 0;
  bool covered = false;
  for (std::size_t i = 0; i < a.filters.size(); ++i) {
    const Filter f = a.filters[i];
    bool drop = false;
    if (f.client == client && f.epoch == clients_[client].epoch) {
      covered = covered || (f.until_us >= until_us && fits(scratch_, shapes_[f.refused]));
      drop = !covered && f.until_us <= until_us && fits(shapes_[f.refused], scratch_);
    }
    if (drop) shapes_.release(f.refused);
    else a.filters[kept++] = f;
  }
  a.filters.resize(kept);
  if (covered) return;
  // Room is made from what has expired before the list grows.
  if (a.filters.size() == a.filters.capacity()) {
    std::erase_if(a.filters, [&](const Filter& f) {
      const bool dead = f.until_us <= now_us || f.epoch != clients_[f.client].epoch;
      if (dead) shapes_.release(f.refused);
      return dead;
    });
  }
  a.filters.push_back({client, shapes_.intern(scratch_), until_us, clients_[client].epoch});
}

void Engine::apply_unfilter(std::uint32_t framework, std::uint32_t role) {
  if (framework >= frameworks_.size()) return;
  for (const NodeId c : frameworks_[framework].clients) {
    if (role == 0 || clients_[c].role == role) raise_epoch(c);
  }
  ++generation_;
  all_ = true;
}

void Engine::forget_tentative() {
  for (const NodeId c : tentative_) {
    auto& held = clients_[c].tentative;
    for (std::uint16_t name = 0; name < held.size(); ++name)
      if (held[name]) tree_.hold(c, name, -held[name]);
    held.clear();
  }
  tentative_.clear();
}

Status Engine::apply(const fb::allocator::Deltas& d) {
  const auto too_big = [](const char* what, std::uint32_t id) {
    return fail(Code::invalid_argument, std::string(what) + " handle " + std::to_string(id) + " is out of range");
  };
  if (d.roles())
    for (const auto* r : *d.roles())
      if (r->id() == 0 || r->id() >= kMaxHandle || r->parent() >= kMaxHandle) return too_big("role", r->id());
  if (d.frameworks())
    for (const auto* f : *d.frameworks())
      if (f->id() >= kMaxHandle) return too_big("framework", f->id());
  if (d.agents())
    for (const auto* a : *d.agents())
      if (a->id() >= kMaxHandle) return too_big("agent", a->id());

  forget_tentative();
  if (d.reset()) clear();
  now_ns_ = d.now_ns();
  all_ = all_ || d.all() || d.reset();
  if (d.names()) {
    for (const auto* n : *d.names()) learn_name(n->id(), text(n->text()));
    resolve_names();
  }
  if (d.roles())
    for (const auto* r : *d.roles()) {
      learn_role(r->id(), r->parent(), r->weight());
      learn_quota(*r);
    }
  // What stood in somebody's way may be gone; which agent that concerns nobody knows.
  if (bounded_ && (d.held() || d.agents() || d.roles())) {
    bounded_ = false;
    ++generation_;
    all_ = true;
  }
  if (d.frameworks())
    for (const auto* f : *d.frameworks()) apply_framework(*f);
  if (d.unfilters())
    for (const auto* u : *d.unfilters()) apply_unfilter(u->framework(), u->role());
  if (d.agents()) {
    const auto& all = *d.agents();
    work_.clear();
    for (const auto* a : all) work_.push_back(a->id());
    for (flatbuffers::uoffset_t i = 0; i < all.size(); ++i) {
      hint_agent(work_, i);
      apply_agent(*all.Get(i));
    }
  }
  if (d.held()) {
    // Runs of one framework's amounts are usual; the client is looked up once for them.
    std::uint32_t framework = 0, role = 0;
    NodeId client = kNone;
    for (const auto* h : *d.held()) {
      if (h->framework() >= frameworks_.size() || !frameworks_[h->framework()].known || h->role() == 0 || h->role() >= kMaxHandle) continue;
      if (h->name() > UINT16_MAX) continue;
      if (client == kNone || h->framework() != framework || h->role() != role) {
        framework = h->framework();
        role = h->role();
        client = client_of(framework, role);
      }
      tree_.hold(client, static_cast<std::uint16_t>(h->name()), h->amount());
    }
  }
  if (d.filters()) {
    const auto& all = *d.filters();
    work_.clear();
    for (const auto* f : all) work_.push_back(f->agent());
    for (flatbuffers::uoffset_t i = 0; i < all.size(); ++i) {
      hint_agent(work_, i);
      apply_filter(*all.Get(i));
    }
  }
  return ok;
}

double Engine::share(std::uint32_t role, std::uint32_t framework) {
  tree_.refresh();
  if (framework == 0) return role < roles_.size() && roles_[role].node != kNone ? tree_.share(roles_[role].node) : 0;
  const NodeId c = find_client(framework, role);
  return c == kNone ? 0 : tree_.share(c);
}

std::size_t Engine::memory_bytes() const {
  std::size_t n = agents_.capacity() * sizeof(Agent) + (with_available_.capacity() + dirty_.capacity() + work_.capacity()) * 4 +
                  wakes_.size() * sizeof(Wake);
  for (const auto& a : agents_) n += a.available.capacity() * sizeof(Amount) + a.filters.capacity() * sizeof(Filter);
  return n;
}

}  // namespace gantry::allocator_drf
