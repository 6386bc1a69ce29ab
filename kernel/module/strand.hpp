// Strands: each instance's entries run one at a time, in order, on a small pool of threads, and are watched.
#pragma once

#include "kernel/base/loop.hpp"
#include "kernel/module/mailbox.hpp"

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace gantry::module {

// One entry into a module. What the members mean is the business of the strand's Runner, but for `what`.
struct Entry {
  enum class What : std::uint8_t { create, call, reply, cancel, post, timer, destroy };
  What what = What::post;
  gantry_code code = 0;
  std::uint32_t method = 0;
  std::uint64_t token = 0;
  void (*fn)(void*) = nullptr;
  void* arg = nullptr;
  std::size_t offset = 0, length = 0;  // the mailbox's
};
[[nodiscard]] std::string_view to_string(Entry::What);

class Strands;

// A FIFO of entries. Made by Strands; shared, because a pool thread may hold it a moment longer than its owner.
class Strand : public std::enable_shared_from_this<Strand> {
 public:
  using Runner = std::function<void(const Entry&, Bytes)>;

  // [any] Runs runner(entry, bytes) later. Bytes are copied.
  void post(const Entry& entry, Bytes bytes = {});
  // [loop] Between the two nobody is woken for what is posted: whoever posts several things in a row wakes a thread once, and has done
  // its own work by then (a thread that is woken often takes the processor of the one that woke it). Not to be held for long.
  void cork() { corked_.store(true); }
  void uncork();
  // [any] Bytes waiting to be entered: what a slow reader is measured by.
  [[nodiscard]] std::size_t backlog() const { return box_.bytes(); }
  // [any] Entries that took longer than Limits::slow, and those longer than Limits::stall.
  [[nodiscard]] std::uint64_t slow() const { return slow_.load(std::memory_order_relaxed); }
  [[nodiscard]] std::uint64_t stalls() const { return stalls_.load(std::memory_order_relaxed); }
  [[nodiscard]] const std::string& name() const { return name_; }

 private:
  friend class Strands;
  friend struct Pool;
  Strand(std::string name, Runner runner) : name_(std::move(name)), runner_(std::move(runner)) {}
  bool drain();  // runs one burst; true if more may be waiting
  void schedule();

  const std::string name_;
  const Runner runner_;
  Mailbox<Entry> box_;
  Mailbox<Entry>::Batch batch_;        // only inside drain()
  std::shared_ptr<struct Pool> pool_;  // null: inline on loop_
  base::Loop* loop_ = nullptr;
  std::int64_t slow_ns_ = 0;
  bool timed_ = false;
  // Inline and timed: whom to tell of an entry that was longer than stall_ns_.
  std::shared_ptr<std::function<void(const Strand&, const Entry&, base::Nanos)>> stalled_;
  std::int64_t stall_ns_ = 0;
  std::atomic<bool> corked_{false}, wake_wanted_{false};
  // What runs now, for the watchdog: start in ns of the steady clock, 0 = idle.
  std::atomic<std::int64_t> entered_{0};
  std::atomic<std::uint64_t> entry_{0};  // What << 32 | method
  std::atomic<std::uint64_t> sequence_{0};
  std::uint64_t reported_ = 0;  // the watchdog's own: sequence_ it has named
  std::atomic<std::uint64_t> slow_{0}, stalls_{0};
};
using StrandPtr = std::shared_ptr<Strand>;

// The pool. Outlives what it made.
class Strands {
 public:
  struct Limits {
    unsigned threads = 2;                                // module_threads
    base::Nanos slow = std::chrono::milliseconds(10);    // counted
    base::Nanos stall = std::chrono::milliseconds(100);  // named, once per stall
    base::Nanos poll = std::chrono::milliseconds(50);    // of the watchdog
  };
  struct Stall {
    const std::string& strand;
    Entry::What what;
    std::uint32_t method;
    base::Nanos lasted;  // so far
  };
  // [watchdog's thread] Called once per stall; default: one warning in the log.
  using OnStall = std::function<void(const Stall&)>;

  // Threads of its own and a watchdog.
  explicit Strands(Limits limits, OnStall on_stall = {});
  // Everything inline on `loop`, without threads: tests and simulations. Deterministic.
  explicit Strands(base::Loop& loop);
  // Inline on `loop`, but with the real clock: slow entries are counted and, once they have ended, named.
  Strands(base::Loop& loop, Limits limits, OnStall on_stall = {});
  Strands(const Strands&) = delete;
  Strands& operator=(const Strands&) = delete;
  // Joins the threads; a thread that a module holds for more than a second is left to itself, and the log says so.
  ~Strands();

  // own_thread: for providers that say GANTRY_BLOCKING.
  [[nodiscard]] StrandPtr make(std::string name, bool own_thread, Strand::Runner runner);

 private:
  void watch();

  Limits limits_;
  OnStall on_stall_;
  base::Loop* loop_ = nullptr;
  bool timed_ = true;
  std::shared_ptr<struct Pool> shared_;
  std::vector<std::shared_ptr<struct Pool>> own_;
  std::mutex mutex_;  // strands_, own_
  std::vector<std::weak_ptr<Strand>> strands_;
  std::thread watchdog_;
  std::mutex watch_mutex_;
  struct Wake;
  std::unique_ptr<Wake> wake_;
};

}  // namespace gantry::module
