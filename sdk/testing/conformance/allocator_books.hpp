// A kernel in miniature for the allocator's cases: sends deltas, books grants as the master does, and says which of
// them are not sound. Source of the rules: sdk/docs/allocator.md, sdk/schema/allocator.fbs.
#pragma once

#include "support.hpp"

#include <gantry/allocator_generated.h>

#include <random>

namespace gantry::conformance {

namespace fa = fb::allocator;

inline constexpr std::uint32_t kCpus = 1, kMem = 2, kDisk = 3, kGpus = 4;
inline constexpr std::uint64_t kSecond = 1'000'000'000;

using Amounts = std::vector<fa::Quantity>;

inline fa::Quantity quantity(std::uint32_t name, double amount, std::uint32_t role = 0, std::uint32_t flags = 0) {
  return fa::Quantity(name, role, flags, 0u, static_cast<std::int64_t>(amount * 1000));
}
inline Amounts machine(double cpus, double mem, std::uint32_t role = 0) {
  return {quantity(kCpus, cpus, role), quantity(kMem, mem, role)};
}
inline Amounts operator+(Amounts a, const Amounts& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}
inline bool same_pile(const fa::Quantity& a, const fa::Quantity& b) {
  return a.name() == b.name() && a.role() == b.role() && a.flags() == b.flags();
}
inline void add(Amounts& to, const fa::Quantity& q) {
  for (auto& x : to)
    if (same_pile(x, q)) {
      x = fa::Quantity(x.name(), x.role(), x.flags(), 0u, x.amount() + q.amount());
      return;
    }
  to.push_back(q);
}
inline bool take(Amounts& from, const fa::Quantity& q) {
  for (auto& x : from)
    if (same_pile(x, q)) {
      if (x.amount() < q.amount() || q.amount() <= 0) return false;
      x = fa::Quantity(x.name(), x.role(), x.flags(), 0u, x.amount() - q.amount());
      return true;
    }
  return false;
}
inline void drop_zeros(Amounts& a) {
  std::erase_if(a, [](const auto& q) { return q.amount() == 0; });
}
// Whether every pile of `bundle` fits into one of `refused`.
inline bool fits(const Amounts& bundle, const Amounts& refused) {
  for (const auto& q : bundle) {
    std::int64_t there = 0;
    for (const auto& r : refused)
      if (same_pile(q, r)) there += r.amount();
    if (q.amount() > there) return false;
  }
  return true;
}

struct Granted {
  std::uint32_t agent = 0, framework = 0, role = 0;
  Amounts amounts;
};

class Books {
 public:
  Books(Subject& s, Check& c) : subject_(s), check_(c) {
    check_.require(check_.ok(subject_.up(), "configure and start"));
    begin();
  }
  // Everything from the beginning, as after an error or a change of leader.
  void begin() {
    next_ = {};
    next_.reset = true;
    roles_.clear();
    frameworks_.clear();
    agents_.clear();
    filters_.clear();
    for (const auto& [id, name] : {std::pair{kCpus, "cpus"}, {kMem, "mem"}, {kDisk, "disk"}, {kGpus, "gpus"}}) {
      auto n = std::make_unique<fa::NameT>();
      n->id = id;
      n->text = name;
      next_.names.push_back(std::move(n));
    }
    role(1, "*");
  }

  void role(std::uint32_t id, const std::string& text, std::uint32_t parent = 0, double weight = 1) {
    auto r = std::make_unique<fa::RoleT>();
    r->id = id;
    r->text = text;
    r->parent = parent;
    r->weight = weight;
    next_.roles.push_back(std::move(r));
    roles_[id] = parent;
  }
  struct Framework {
    std::vector<std::uint32_t> roles{1}, suppressed;
    std::uint32_t flags = 0;
    bool active = true;
  };
  void framework(std::uint32_t id) { framework(id, Framework()); }
  void framework(std::uint32_t id, Framework f) {
    auto d = std::make_unique<fa::FrameworkDeltaT>();
    d->id = id;
    d->roles = f.roles;
    d->suppressed = f.suppressed;
    d->flags = f.flags;
    d->active = f.active;
    next_.frameworks.push_back(std::move(d));
    if (!f.active) std::erase_if(filters_, [&](const Filter& x) { return x.framework == id; });
    frameworks_[id] = std::move(f);
  }
  void framework_gone(std::uint32_t id) {
    auto d = std::make_unique<fa::FrameworkDeltaT>();
    d->id = id;
    d->gone = true;
    next_.frameworks.push_back(std::move(d));
    frameworks_.erase(id);
    std::erase_if(filters_, [&](const Filter& x) { return x.framework == id; });
  }
  void agent(std::uint32_t id, Amounts total, bool active = true) {
    agents_[id] = {total, total, active};
    tell(id, true);
  }
  // Tells the allocator what the books say of this agent.
  void tell(std::uint32_t id, bool whole = false) {
    auto d = std::make_unique<fa::AgentDeltaT>();
    d->id = id;
    const Agent& a = agents_.at(id);
    if (whole) d->total = a.total;
    d->available = a.available;
    d->active = a.active;
    next_.agents.push_back(std::move(d));
  }
  void active(std::uint32_t id, bool on) {
    agents_.at(id).active = on;
    tell(id);
  }
  void agent_gone(std::uint32_t id) {
    auto d = std::make_unique<fa::AgentDeltaT>();
    d->id = id;
    d->gone = true;
    next_.agents.push_back(std::move(d));
    agents_.erase(id);
    std::erase_if(filters_, [&](const Filter& x) { return x.agent == id; });
  }
  // What was granted comes back: a decline (with a filter if seconds > 0) or the end of tasks.
  void give_back(const Granted& g, double seconds = 0) {
    for (const auto& q : g.amounts) next_.held.emplace_back(g.framework, g.role, q.name(), 0u, -q.amount());
    if (seconds > 0) {
      auto f = std::make_unique<fa::FilterT>();
      f->framework = g.framework;
      f->role = g.role;
      f->agent = g.agent;
      f->until_ns = now_ + static_cast<std::uint64_t>(seconds * 1e9);
      f->refused = g.amounts;
      filters_.push_back({g.framework, g.role, g.agent, f->until_ns, g.amounts});
      next_.filters.push_back(std::move(f));
    }
    if (const auto it = agents_.find(g.agent); it != agents_.end()) {
      for (const auto& q : g.amounts) add(it->second.available, q);
      tell(g.agent);
    }
  }
  void unfilter(std::uint32_t framework, std::uint32_t role = 0) {
    next_.unfilters.emplace_back(framework, role);
    std::erase_if(filters_, [&](const Filter& x) { return x.framework == framework && (role == 0 || x.role == role); });
  }
  [[nodiscard]] fa::DeltasT& next() { return next_; }
  [[nodiscard]] std::uint64_t now() const { return now_; }
  [[nodiscard]] std::uint64_t wake() const { return last_.wake_ns; }
  [[nodiscard]] std::size_t last_bytes() const { return reply_.size(); }
  [[nodiscard]] const std::vector<std::uint8_t>& reply() const { return reply_; }
  [[nodiscard]] const std::map<std::uint32_t, Framework>& frameworks() const { return frameworks_; }
  [[nodiscard]] bool has_agent(std::uint32_t id) const { return agents_.count(id) != 0; }
  void pass(double seconds) { now_ += static_cast<std::uint64_t>(seconds * 1e9); }

  // One ALLOCATE with what has gathered. Grants that are not sound are failures of the case.
  std::vector<Granted> round(bool all = false, Nanos limit = 5s) {
    next_.now_ns = now_;
    next_.all = all;
    const Pending p = subject_.open(fa::Method::ALLOCATE, next_);
    next_ = {};
    check_.require(check_.that(p.wait(limit), "ALLOCATE has not completed"));
    auto r = p.result<fa::Round>();
    check_.require(check_.ok(r, "ALLOCATE"));
    reply_.assign(p.reply().begin(), p.reply().end());
    last_ = std::move(*r);
    std::vector<Granted> out;
    std::erase_if(filters_, [&](const Filter& f) { return f.until <= now_; });
    for (std::size_t i = 0; i < last_.grants.size(); ++i) {
      std::string wrong;
      Granted g = book(last_.grants[i], wrong);
      if (!wrong.empty()) {
        check_.fail("grant " + std::to_string(i) + " of " + std::to_string(last_.grants.size()) + " (framework " +
                    std::to_string(g.framework) + ", role " + std::to_string(g.role) + ", agent " + std::to_string(g.agent) +
                    ") " + wrong);
        if (++wrong_ == 5) check_.require(false);
        continue;
      }
      for (const auto& q : g.amounts) next_.held.emplace_back(g.framework, g.role, q.name(), 0u, q.amount());
      out.push_back(std::move(g));
    }
    return out;
  }
  // An ALLOCATE that may be refused, but must be answered.
  void survive(fa::DeltasT deltas, const std::string& what) {
    const Pending p = subject_.open(fa::Method::ALLOCATE, deltas);
    check_.require(check_.that(p.wait(), "ALLOCATE with " + what + " has not completed"));
    if (p.code() != Code::ok) check_.code(p.result(), Code::invalid_argument, "ALLOCATE with " + what);
  }

 private:
  struct Agent {
    Amounts total, available;
    bool active = true;
  };
  struct Filter {
    std::uint32_t framework, role, agent;
    std::uint64_t until;
    Amounts refused;
  };

  [[nodiscard]] bool within(std::uint32_t role, std::uint32_t ancestor) const {
    for (int depth = 0; role != 0 && depth < 100; ++depth) {
      if (role == ancestor) return true;
      const auto it = roles_.find(role);
      role = it == roles_.end() ? 0 : it->second;
    }
    return false;
  }
  [[nodiscard]] static bool usable(const fa::Quantity& q, std::uint32_t flags) {
    const auto has = [](std::uint32_t bits, auto bit) { return (bits & static_cast<std::uint32_t>(bit)) != 0; };
    using F = fa::FrameworkFlags;
    using Q = fa::QuantityFlags;
    return (!has(q.flags(), Q::REVOCABLE) || has(flags, F::REVOCABLE)) && (!has(q.flags(), Q::SHARED) || has(flags, F::SHARED)) &&
           (!has(q.flags(), Q::GPU) || has(flags, F::GPU)) && (!has(q.flags(), Q::REFINED) || has(flags, F::REFINEMENT));
  }
  Granted book(const fa::Grant& g, std::string& wrong) {
    Granted out{g.agent(), g.framework(), g.role(), {}};
    const auto a = agents_.find(g.agent());
    if (a == agents_.end()) return wrong = "is on an agent that is not known", out;
    if (!a->second.active) return wrong = "is on an agent that is not active", out;
    const auto f = frameworks_.find(g.framework());
    if (f == frameworks_.end()) return wrong = "is for a framework that is not known", out;
    const auto lists = [&](const std::vector<std::uint32_t>& v) { return std::find(v.begin(), v.end(), g.role()) != v.end(); };
    if (!f->second.active) return wrong = "is for a framework that is not active", out;
    if (!lists(f->second.roles)) return wrong = "is for a role the framework is not subscribed to", out;
    if (lists(f->second.suppressed)) return wrong = "is for a role the framework has suppressed", out;
    Amounts left = a->second.available;
    if (g.part_count() != 0) {
      if (g.part_begin() > last_.parts.size() || g.part_count() > last_.parts.size() - g.part_begin())
        return wrong = "refers to parts that are not in the round", out;
      for (std::uint32_t i = 0; i < g.part_count(); ++i) out.amounts.push_back(last_.parts[g.part_begin() + i]);
    } else {
      for (const auto& q : left)
        if (q.role() == 0 || within(g.role(), q.role())) out.amounts.push_back(q);
    }
    drop_zeros(out.amounts);
    if (out.amounts.empty()) return wrong = "has nothing in it: everything there is granted already", out;
    for (const auto& q : out.amounts) {
      if (q.role() != 0 && !within(g.role(), q.role())) return wrong = "takes what is reserved for role " + std::to_string(q.role()), out;
      if (!usable(q, f->second.flags)) return wrong = "has revocable, shared, gpu or refined resources; the framework's flags do not allow these", out;
      if (!take(left, q))
        return wrong = "takes " + std::to_string(q.amount()) + " thousandths of resource " + std::to_string(q.name()) + ", more than is left", out;
    }
    for (const auto& x : filters_)
      if (x.framework == g.framework() && x.role == g.role() && x.agent == g.agent() && x.until > now_ && fits(out.amounts, x.refused))
        return wrong = "is covered by a filter: it was declined", out;
    drop_zeros(left);
    a->second.available = std::move(left);
    return out;
  }

  Subject& subject_;
  Check& check_;
  fa::DeltasT next_;
  fa::RoundT last_;
  std::vector<std::uint8_t> reply_;
  std::uint64_t now_ = kSecond;
  std::map<std::uint32_t, std::uint32_t> roles_;  // parent of each
  std::map<std::uint32_t, Framework> frameworks_;
  std::map<std::uint32_t, Agent> agents_;
  std::vector<Filter> filters_;
  int wrong_ = 0;
};

}  // namespace gantry::conformance
