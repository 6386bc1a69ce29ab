#include "kernel/module/strand.hpp"

#include "kernel/base/log.hpp"

#include <condition_variable>
#include <deque>

namespace gantry::module {
namespace {

std::int64_t steady_ns() {
  return std::chrono::duration_cast<base::Nanos>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

std::string_view to_string(Entry::What what) {
  switch (what) {
    case Entry::What::create:
      return "create";
    case Entry::What::call:
      return "call";
    case Entry::What::reply:
      return "reply";
    case Entry::What::cancel:
      return "cancel";
    case Entry::What::post:
      return "post";
    case Entry::What::timer:
      return "timer";
    case Entry::What::destroy:
      return "destroy";
  }
  return "entry";
}

// Threads and the strands that wait for one. Shared with the threads, so that a stuck one can be left behind.
struct Pool {
  struct Worker {
    std::condition_variable work;
    bool called = false;
  };
  std::mutex mutex;
  std::condition_variable gone;
  std::deque<StrandPtr> ready;
  std::deque<Worker> workers;
  std::vector<Worker*> idle;  // who went idle last is called first: what it needs is still in the processor's caches
  unsigned alive = 0;
  bool stopping = false;
  std::vector<std::thread> threads;

  static void start(const std::shared_ptr<Pool>& self, unsigned n) {
    self->alive = n;
    self->workers.resize(n);
    for (unsigned i = 0; i < n; ++i) self->threads.emplace_back([self, i] { self->work_loop(self->workers[i]); });
  }

  void add(StrandPtr s) {
    Worker* wake = nullptr;
    {
      const std::lock_guard lock(mutex);
      ready.push_back(std::move(s));
      if (!idle.empty()) {
        wake = idle.back();
        idle.pop_back();
        wake->called = true;
      }
    }
    if (wake) wake->work.notify_one();
  }

  void work_loop(Worker& me) {
    std::unique_lock lock(mutex);
    for (;;) {
      if (ready.empty()) {
        if (stopping) break;
        me.called = false;
        idle.push_back(&me);
        me.work.wait(lock, [&] { return me.called || stopping; });
        if (!me.called) std::erase(idle, &me);
        continue;  // somebody else may have taken it
      }
      StrandPtr s = std::move(ready.front());
      ready.pop_front();
      lock.unlock();
      const bool more = s->drain();
      lock.lock();
      if (more) ready.push_back(std::move(s));  // at the back: others get their turn
    }
    --alive;
    gone.notify_all();
  }

  // True if all threads ended within `limit`; else they are detached and end on their own.
  bool stop(base::Nanos limit) {
    std::unique_lock lock(mutex);
    stopping = true;
    for (auto& w : workers) w.work.notify_one();
    const bool ended = gone.wait_until(lock, std::chrono::steady_clock::now() + limit, [this] { return alive == 0; });
    lock.unlock();
    for (auto& t : threads) ended ? t.join() : t.detach();
    return ended;
  }
};

void Strand::post(const Entry& entry, Bytes bytes) {
  if (!box_.push(entry, bytes)) return;
  if (corked_.load()) {
    wake_wanted_.store(true);
    // Uncorked between the two: then one of us takes the wish back and schedules.
    if (corked_.load() || !wake_wanted_.exchange(false)) return;
  }
  schedule();
}

void Strand::uncork() {
  corked_.store(false);
  if (wake_wanted_.exchange(false)) schedule();
}

void Strand::schedule() {
  if (pool_)
    pool_->add(shared_from_this());
  else
    loop_->post([self = shared_from_this()] {
      if (self->drain()) self->schedule();
    });
}

bool Strand::drain() {
  if (!box_.take(batch_)) return false;
  // In the inline mode time stands still during an entry, and the real clock would make runs differ.
  std::int64_t start = timed_ ? steady_ns() : 0;
  for (const Entry& e : batch_.records) {
    entry_.store(static_cast<std::uint64_t>(e.what) << 32 | e.method, std::memory_order_relaxed);
    sequence_.store(sequence_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    entered_.store(start, std::memory_order_release);
    runner_(e, batch_.bytes(e));
    if (!timed_) continue;
    const std::int64_t end = steady_ns();  // also the start of the next: one reading of the clock per entry
    if (end - start > slow_ns_) slow_.fetch_add(1, std::memory_order_relaxed);
    if (stalled_ && end - start > stall_ns_) {
      stalls_.fetch_add(1, std::memory_order_relaxed);
      (*stalled_)(*this, e, base::Nanos(end - start));
    }
    start = end;
  }
  entered_.store(0, std::memory_order_release);
  return true;
}

namespace {

void name_stall(const Strands::Stall& s) {
  base::log_warning(s.strand, "holds its strand; blocking work belongs in offload",
                    {{"entry", std::string(to_string(s.what))},
                     {"method", std::to_string(s.method)},
                     {"ms", std::to_string(std::chrono::duration_cast<std::chrono::milliseconds>(s.lasted).count())}});
}

}  // namespace

struct Strands::Wake {
  std::condition_variable cv;
  bool stop = false;
};

Strands::Strands(Limits limits, OnStall on_stall)
    : limits_(limits),
      on_stall_(std::move(on_stall)),
      shared_(std::make_shared<Pool>()),
      wake_(std::make_unique<Wake>()) {
  if (!on_stall_) on_stall_ = name_stall;
  Pool::start(shared_, limits_.threads ? limits_.threads : 1);
  watchdog_ = std::thread([this] { watch(); });
}

Strands::Strands(base::Loop& loop) : loop_(&loop), timed_(false) {}

Strands::Strands(base::Loop& loop, Limits limits, OnStall on_stall)
    : limits_(limits), on_stall_(on_stall ? std::move(on_stall) : OnStall(name_stall)), loop_(&loop) {}

Strands::~Strands() {
  if (loop_) return;
  {
    const std::lock_guard lock(watch_mutex_);
    wake_->stop = true;
  }
  wake_->cv.notify_all();
  watchdog_.join();
  own_.push_back(shared_);
  for (const auto& pool : own_)
    if (!pool->stop(std::chrono::seconds(1)))
      base::log_error("module", "a module still holds its strand at the end of the daemon; its thread is left behind");
}

StrandPtr Strands::make(std::string name, bool own_thread, Strand::Runner runner) {
  StrandPtr s(new Strand(std::move(name), std::move(runner)));
  s->slow_ns_ = limits_.slow.count();
  s->loop_ = loop_;
  s->timed_ = timed_;
  if (loop_) {
    if (!timed_) return s;
    s->stall_ns_ = limits_.stall.count();
    s->stalled_ = std::make_shared<std::function<void(const Strand&, const Entry&, base::Nanos)>>(
        [on_stall = on_stall_](const Strand& strand, const Entry& e, base::Nanos lasted) {
          on_stall({strand.name(), e.what, e.method, lasted});
        });
    return s;
  }
  const std::lock_guard lock(mutex_);
  if (own_thread) {
    s->pool_ = own_.emplace_back(std::make_shared<Pool>());
    Pool::start(s->pool_, 1);
    return s;  // it may block: the watchdog has nothing to say about it
  }
  s->pool_ = shared_;
  std::erase_if(strands_, [](const auto& w) { return w.expired(); });
  strands_.push_back(s);
  return s;
}

void Strands::watch() {
  std::unique_lock lock(watch_mutex_);
  while (!wake_->cv.wait_until(lock, std::chrono::steady_clock::now() + limits_.poll, [this] { return wake_->stop; })) {
    std::vector<StrandPtr> all;
    {
      const std::lock_guard guard(mutex_);
      for (const auto& w : strands_)
        if (auto s = w.lock()) all.push_back(std::move(s));
    }
    const std::int64_t now = steady_ns();
    for (const auto& s : all) {
      const std::int64_t entered = s->entered_.load(std::memory_order_acquire);
      const std::uint64_t sequence = s->sequence_.load(std::memory_order_relaxed);
      if (entered == 0 || now - entered < limits_.stall.count() || s->reported_ == sequence) continue;
      s->reported_ = sequence;
      s->stalls_.fetch_add(1, std::memory_order_relaxed);
      const std::uint64_t e = s->entry_.load(std::memory_order_relaxed);
      on_stall_(
          {s->name_, static_cast<Entry::What>(e >> 32), static_cast<std::uint32_t>(e), base::Nanos(now - entered)});
    }
  }
}

}  // namespace gantry::module
