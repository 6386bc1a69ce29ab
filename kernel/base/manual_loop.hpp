// A Loop on a manual clock, for tests and simulations: nothing runs until run() or advance() is called.
#pragma once

#include "kernel/base/loop.hpp"

#include <deque>
#include <map>
#include <utility>

namespace gantry::base {

// Single-threaded. Offloaded work runs inline, in order, when its turn comes.
class ManualLoop final : public Loop {
 public:
  explicit ManualLoop(Instant start = 1s, Wall wall = 1'700'000'000'000'000'000) : now_(start), wall_offset_(wall - start.count()) {}

  void post(Function<void()> fn) override { queue_.push_back(std::move(fn)); }
  void offload(Function<void()> work, Function<void()> then) override {
    queue_.push_back([work = std::move(work), then = std::move(then), this]() mutable {
      work();
      post(std::move(then));
    });
  }
  [[nodiscard]] Instant now() const override { return now_; }
  [[nodiscard]] Wall wall() const override { return now_.count() + wall_offset_; }
  TimerId at(Instant at, Function<void()> fn) override {
    const TimerId id = ++last_id_;
    timers_.emplace(std::pair{at, id}, std::move(fn));
    when_.emplace(id, at);
    return id;
  }
  void cancel(TimerId id) override {
    const auto it = when_.find(id);
    if (it == when_.end()) return;
    timers_.erase({it->second, id});
    when_.erase(it);
  }
  [[nodiscard]] bool on_thread() const override { return true; }

  // Runs posted work and due timers until nothing is left to do at the present time. Returns how many ran.
  std::size_t run() {
    std::size_t ran = 0;
    while (run_one()) ++ran;
    return ran;
  }
  // Runs one piece of work that is due now, if any.
  bool run_one() {
    if (!queue_.empty()) {
      auto fn = std::move(queue_.front());
      queue_.pop_front();
      fn();
      return true;
    }
    if (!timers_.empty() && timers_.begin()->first.first <= now_) {
      auto node = timers_.extract(timers_.begin());
      when_.erase(node.key().second);
      node.mapped()();
      return true;
    }
    return false;
  }
  // Moves the clock forward, running everything that falls due on the way, in order of time.
  void advance(Nanos d) {
    const Instant end = now_ + d;
    run();
    while (!timers_.empty() && timers_.begin()->first.first <= end) {
      now_ = std::max(now_, timers_.begin()->first.first);
      run();
    }
    now_ = end;
    run();
  }
  // Moves the clock without running anything; callers that look at the world after every step use it with run_one().
  void skip_to(Instant t) { now_ = std::max(now_, t); }
  // When the next timer is due; Instant::max() if there is none.
  [[nodiscard]] Instant next_due() const { return timers_.empty() ? Instant::max() : timers_.begin()->first.first; }
  void jump_wall(Nanos d) { wall_offset_ += d.count(); }

 private:
  Instant now_;
  Wall wall_offset_;
  TimerId last_id_ = 0;
  std::deque<Function<void()>> queue_;
  std::map<std::pair<Instant, TimerId>, Function<void()>> timers_;
  std::map<TimerId, Instant> when_;
};

}  // namespace gantry::base
