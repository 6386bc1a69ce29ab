// Agents that have been away for so long that they are forgotten (mesos-kernel.md A9, "Registry GC"). Machines are replaced;
// without this, each would leave a record for ever. A forgotten agent that returns after all is simply a new one, and
// finds what was reserved on it: reservations are somebody's will, not a trace.
#include "kernel/master/core.hpp"

#include <algorithm>

namespace gantry::master {

namespace {
constexpr auto kEvery = std::chrono::minutes(15);
}

void Core::note_away(Handle h) {
  away_.push_back({agents_[h].since_wall, h});
  if (collect_at_ == Instant::max()) collect_at_ = now_ + kEvery;
}

bool Core::still_away(const Away& a) const {
  if (!agents_.contains(a.agent)) return false;
  const Agent& agent = agents_[a.agent];
  return (agent.state == AgentState::unreachable || agent.state == AgentState::gone) && agent.since_wall == a.since;
}

void Core::collect_away() {
  if (now_ < collect_at_) return;
  std::erase_if(away_, [this](const Away& a) { return !still_away(a); });
  while (!away_.empty()) {
    const bool old = wall_ - away_.front().since >= options_.forget_agents_after.count();
    if (!old && away_.size() <= options_.away_agents) break;
    const Handle h = away_.front().agent;
    Agent& a = agents_[h];
    if (a.dirty) break;  // the allocator has yet to be told that it went; the handle is not free to go before
    away_.pop_front();
    Pending p;
    p.kind = Pending::Kind::forget;
    p.id = a.id();
    p.handle = h;
    p.was = a.state;
    set_state(a, AgentState::departed);
    std::vector<store::Op> ops;
    ops.push_back({"agent/" + store::key_segment(a.id()), std::nullopt});
    persist(std::move(ops), std::move(p));
  }
  collect_at_ = away_.empty() ? Instant::max() : now_ + kEvery;
}

// Its record is gone. Tasks that were given up with it stay in the history of their frameworks, and are UNKNOWN from now on.
void Core::forgotten(Handle h) {
  const std::string id(agents_[h].id());
  log(base::Level::info, "forgot an agent that has been away too long", {{"agent", id}});
  agent_by_id_.erase(hash_text(id), h);
  agent_gone(h);
}

void Core::not_forgotten(Handle h, AgentState was) {
  set_state(agents_[h], was);
  away_.push_front({agents_[h].since_wall, h});
  if (collect_at_ == Instant::max()) collect_at_ = now_ + kEvery;
}

}  // namespace gantry::master
