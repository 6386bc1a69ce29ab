// Gives the system back what the heap holds without need: after a burst (ten thousand agents register, a large answer goes out) much of it is
// free but scattered, and malloc returns of itself only what lies at its end.
//
// On the loop's thread; the work itself runs on its pool.
#pragma once

#include "kernel/base/loop.hpp"

#include <cstddef>
#include <memory>

namespace gantry::base {

// What the process has of memory, in bytes.
struct HeapUse {
  std::size_t resident = 0;
  std::size_t in_use = 0;  // allocated, of the heap
};
[[nodiscard]] HeapUse heap_use();

// Is it worth the trouble? `after_last`: resident when something was last given back.
[[nodiscard]] bool worth_giving_back(const HeapUse& now, std::size_t after_last);

class HeapKeeper {
 public:
  explicit HeapKeeper(Loop& loop, Nanos interval = 5s) : loop_(loop), interval_(interval) {}
  ~HeapKeeper() { stop(); }
  HeapKeeper(const HeapKeeper&) = delete;
  HeapKeeper& operator=(const HeapKeeper&) = delete;
  void start();
  void stop();

 private:
  Loop& loop_;
  const Nanos interval_;
  TimerId timer_ = 0;
  // Outlives this, since the pool may be at work when it ends.
  struct State {
    std::size_t after_last = 0;
    bool stopped = false;
  };
  std::shared_ptr<State> state_ = std::make_shared<State>();
};

}  // namespace gantry::base
