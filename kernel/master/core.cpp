#include "kernel/master/core.hpp"
#include "kernel/master/maintenance.hpp"

#include <algorithm>

namespace gantry::master {

namespace {
template <class... F>
struct Overloaded : F... {
  using F::operator()...;
};
template <class... F>
Overloaded(F...) -> Overloaded<F...>;  // clang 14 does not deduce aggregates
}  // namespace

void Core::apply(Instant now, Wall wall, const Event& event, Effects& out) {
  now_ = now;
  wall_ = wall;
  out_ = &out;
  ++counters_.events;
  std::visit(Overloaded{
                 [this](const Subscribe& e) { on_subscribe(e); },
                 [this](const FrameworkCall& e) { on_call(e); },
                 [this](const StreamClosed& e) { on_stream_closed(e.stream); },
                 [this](const AgentFrame& e) { on_frame(e); },
                 [this](const LinkClosed& e) { on_link_closed(e.link); },
                 [this](const RoundDone& e) { on_round(e); },
                 [this](const RoundFailed& e) {
                   log(base::Level::warning, "the allocator failed; it is told everything again",
                       {{"error", e.error.message}});
                   end_round();
                   reset_ = true;
                   allocator_retry_ = now_ + options_.retry;
                 },
                 [this](const Stored& e) { on_stored(e.cookie); },
                 [this](const StoreFailed& e) { on_store_failed(e); },
                 [this](const Tick&) { tick(); },
                 [this](const OperatorKill& e) { on_operator_kill(e); },
                 [this](const OperatorCall& e) { on_operate(e); },
             },
             event);
  settle_upkeep();
  send_inverse_offers();
  if (log_) settle_notes();
  flush_allocator();
  schedule();
  out_ = nullptr;
}

void Core::tick() {
  timer_ = Instant::max();
  ping_due();
  offers_due();
  operations_due();
  write_reservations_due();
  failover_due();
  inverse_due();
  collect_away();
  if (now_ >= reregister_deadline_) {
    reregister_deadline_ = Instant::max();
    for (Handle h = 1; h < agents_.end(); ++h)
      if (agents_.contains(h) && agents_[h].state == AgentState::recovered && !agents_[h].link) mark_unreachable(h);
  }
  while (!retries_.empty() && retries_.front().at <= now_) {
    const auto h = static_cast<Handle>(retries_.front().what);
    retries_.pop_front();
    if (!agents_.contains(h)) continue;
    const Agent& a = agents_[h];
    if (a.upkeep && a.upkeep->drain != Upkeep::Drain::none) look_after(h);
    if ((a.state == AgentState::recovered && !a.link) ||
        (a.state == AgentState::registered && a.missed >= options_.ping_misses))
      mark_unreachable(h);
  }
  if (now_ >= wake_) {
    wake_ = Instant::max();
    poke_ = true;
  }
}

// One timer for all: whatever is due next. A tick that finds nothing to do is harmless, so entries of things that are
// gone may stay in the queues.
void Core::schedule() {
  Instant next = std::min({wake_, reregister_deadline_, collect_at_});
  if (!pings_.empty()) next = std::min(next, pings_.front().at);
  if (awaited_) next = std::min(next, awaited_until_);
  if (!operations_due_.empty()) next = std::min(next, operations_due_.begin()->first);
  if (!unwritten_.empty()) next = std::min(next, unwritten_.front().first);
  if (!offer_expiry_.empty()) next = std::min(next, offer_expiry_.front().at);
  if (!failovers_.empty()) next = std::min(next, failovers_.begin()->first);
  if (!retries_.empty()) next = std::min(next, retries_.front().at);
  if (!plan_->due.empty()) next = std::min(next, plan_->due.begin()->first);
  if (allocator_retry_ > now_) next = std::min(next, allocator_retry_);
  if (lull_ > now_) next = std::min(next, lull_);
  if (next == Instant::max() || next == timer_) return;
  timer_ = next;
  out_->emplace_back(SetTimer{next});
}

}  // namespace gantry::master
