// RealLoop on an Asio io_context: the only file of the kernel that sees Asio.
#include "kernel/net/io.hpp"

#include "kernel/base/log.hpp"

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>

#include <algorithm>
#include <atomic>
#include <cassert>
#include <condition_variable>
#include <csignal>
#include <cstring>
#include <deque>
#include <fcntl.h>
#include <mutex>
#include <poll.h>
#include <thread>
#include <unordered_map>

namespace gantry::net {
namespace {

namespace asio = boost::asio;

// Blocking work. Threads start when there is more work than idle threads, up to the limit, and end with the pool.
class Pool {
 public:
  explicit Pool(unsigned limit) : limit_(std::max(1u, limit)) {}
  ~Pool() { stop(); }

  void add(Function<void()> work) {
    const std::lock_guard lock(mutex_);
    if (stopping_) return;
    queue_.push_back(std::move(work));
    if (idle_ < queue_.size() && threads_.size() < limit_) threads_.emplace_back([this] { work_on(); });
    wake_.notify_one();
  }
  // Work that has begun is finished; the rest is dropped.
  void stop() {
    std::vector<std::thread> threads;
    std::deque<Function<void()>> dropped;
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
      threads.swap(threads_);
      dropped.swap(queue_);
    }
    wake_.notify_all();
    for (auto& t : threads) t.join();
  }

 private:
  void work_on() {
    std::unique_lock lock(mutex_);
    for (;;) {
      ++idle_;
      wake_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
      --idle_;
      if (stopping_) return;
      {
        auto work = std::move(queue_.front());
        queue_.pop_front();
        lock.unlock();
        work();
      }
      lock.lock();
    }
  }

  const unsigned limit_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Function<void()>> queue_;
  std::vector<std::thread> threads_;
  std::size_t idle_ = 0;
  bool stopping_ = false;
};

struct Signals {
  Signals(asio::io_context& io, Function<void(int)> f) : set(io), fn(std::move(f)) {}
  asio::signal_set set;
  Function<void(int)> fn;
};

class AsioLoop final : public RealLoop {
 public:
  explicit AsioLoop(unsigned threads) : io_(1), timer_(io_), pool_(threads) { thread_ = std::this_thread::get_id(); }

  ~AsioLoop() override {
    pool_.stop();
    signals_.clear();
    // What is dropped here may own connections that cancel timers or post again in their destructors.
    for (int round = 0; round < 100; ++round) {
      std::vector<Function<void()>> posted;
      {
        const std::lock_guard lock(mutex_);
        posted.swap(posted_);
      }
      auto held = std::exchange(held_, {});
      auto timers = std::exchange(timers_, {});
      auto watches = std::exchange(watches_, {});
      if (posted.empty() && held.empty() && timers.empty() && watches.empty()) break;
    }
  }

  void run() override {
    thread_ = std::this_thread::get_id();
    if (!stop_.load()) io_.run();
    stop_ = false;
    io_.restart();
  }
  void stop() override {
    stop_ = true;
    io_.stop();
  }

  void post(Function<void()> fn) override {
    bool wake = false;
    {
      const std::lock_guard lock(mutex_);
      posted_.push_back(std::move(fn));
      wake = !std::exchange(drain_pending_, true);
    }
    // One wake-up for all that is posted until the loop gets there.
    if (wake) asio::post(io_, [this] { drain(); });
  }

  void offload(Function<void()> work, Function<void()> then) override {
    pool_.add([this, work = std::move(work), then = std::move(then)]() mutable {
      work();
      work = nullptr;  // its captures end before `then` can run
      post(std::move(then));
    });
  }

  [[nodiscard]] base::Instant now() const override {
    return std::chrono::duration_cast<base::Nanos>(std::chrono::steady_clock::now().time_since_epoch());
  }
  [[nodiscard]] base::Wall wall() const override {
    return std::chrono::duration_cast<base::Nanos>(std::chrono::system_clock::now().time_since_epoch()).count();
  }

  base::TimerId at(base::Instant at, Function<void()> fn) override {
    const base::TimerId id = ++last_timer_;
    timers_.emplace(id, std::move(fn));
    heap_.push_back({at, id});
    std::push_heap(heap_.begin(), heap_.end(), std::greater<>());
    arm();
    return id;
  }
  void cancel(base::TimerId id) override {
    const auto node = timers_.extract(id);  // the callback ends with `node`, after the map is whole again
    if (!node) return;
    // Entries of cancelled timers stay in the heap until they come up or outnumber the living.
    if (heap_.size() > 64 && heap_.size() > 2 * timers_.size()) {
      std::erase_if(heap_, [this](const Due& d) { return !timers_.contains(d.id); });
      std::make_heap(heap_.begin(), heap_.end(), std::greater<>());
    }
  }
  [[nodiscard]] bool on_thread() const override { return thread_.load() == std::this_thread::get_id(); }

  void on_signal(std::vector<int> numbers, Function<void(int)> fn) override {
    auto s = std::make_shared<Signals>(io_, std::move(fn));
    for (const int n : numbers) {
      boost::system::error_code ec;
      s->set.add(n, ec);
      if (ec) base::log_error("net", "cannot watch a signal", {{"signal", std::to_string(n)}, {"error", ec.message()}});
    }
    signals_.push_back(s);
    wait_signal(std::move(s));
  }

  std::uint64_t watch_readable(int fd, Function<void()> fn) override {
    // A copy of the descriptor: closing or watching the caller's own twice cannot confuse the poller.
    base::Fd copy(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
    if (!copy) {
      base::log_error("net", "cannot watch a descriptor", {{"fd", std::to_string(fd)}, {"error", std::strerror(errno)}});
      return 0;
    }
    const std::uint64_t id = ++last_id_;
    auto call = std::make_shared<Function<void()>>(std::move(fn));
    auto watch = std::make_unique<FdWatch>(
        *this, std::move(copy),
        [this, id, call] {
          const auto keep = call;
          // Asio may report readiness that belonged to a descriptor closed a moment ago; with sockets a read would show
          // it, but an early word about a pidfd is a false death.
          const auto watched = watches_.find(id);
          if (watched == watches_.end()) return;
          pollfd p{watched->second->fd(), POLLIN, 0};
          if (::poll(&p, 1, 0) != 0) (*keep)();
          if (const auto it = watches_.find(id); it != watches_.end()) it->second->want_read();
        },
        nullptr);
    watch->want_read();
    watches_.emplace(id, std::move(watch));
    return id;
  }
  void unwatch(std::uint64_t id) override {
    const auto node = watches_.extract(id);  // the watch ends here, outside the map
  }

  asio::io_context& io() { return io_; }
  std::uint64_t hold(std::shared_ptr<void> object) {
    held_.emplace(++last_id_, std::move(object));
    return last_id_;
  }
  void release(std::uint64_t id) { const auto node = held_.extract(id); }

 private:
  struct Due {
    base::Instant at;
    base::TimerId id;
    auto operator<=>(const Due&) const = default;
  };

  void drain() {
    std::vector<Function<void()>> batch;
    {
      const std::lock_guard lock(mutex_);
      batch.swap(posted_);
      posted_.swap(spare_);  // keeps the storage of the last round
      drain_pending_ = false;
    }
    for (auto& fn : batch) {
      fn();
      fn = nullptr;
    }
    if (batch.capacity() <= 4096) {
      batch.clear();
      const std::lock_guard lock(mutex_);
      if (spare_.capacity() == 0) spare_.swap(batch);
    }
  }

  // The one Asio timer follows the earliest entry.
  void arm() {
    if (heap_.empty() || heap_.front().at >= armed_) return;
    armed_ = heap_.front().at;
    timer_.expires_at(std::chrono::steady_clock::time_point(armed_));  // aborts the earlier wait
    timer_.async_wait([this](const boost::system::error_code& ec) {
      if (!ec) fire();
    });
  }
  void fire() {
    armed_ = base::Instant::max();
    const base::Instant now = this->now();
    const base::TimerId newest = last_timer_;  // timers made below wait for the next round, however early they are
    while (!heap_.empty() && heap_.front().at <= now && heap_.front().id <= newest) {
      const base::TimerId id = heap_.front().id;
      std::pop_heap(heap_.begin(), heap_.end(), std::greater<>());
      heap_.pop_back();
      if (auto node = timers_.extract(id)) node.mapped()();
    }
    arm();
  }

  void wait_signal(std::shared_ptr<Signals> s) {
    auto& set = s->set;
    set.async_wait([this, s = std::move(s)](const boost::system::error_code& ec, int number) {
      if (ec) return;
      s->fn(number);
      wait_signal(s);
    });
  }

  asio::io_context io_;
  const asio::executor_work_guard<asio::io_context::executor_type> guard_ = asio::make_work_guard(io_);  // run() waits
  asio::steady_timer timer_;
  std::atomic<std::thread::id> thread_;
  std::atomic<bool> stop_ = false;

  std::mutex mutex_;  // guards the three below
  std::vector<Function<void()>> posted_;
  std::vector<Function<void()>> spare_;
  bool drain_pending_ = false;

  std::vector<Due> heap_;
  std::unordered_map<base::TimerId, Function<void()>> timers_;
  base::TimerId last_timer_ = 0;
  base::Instant armed_ = base::Instant::max();

  std::uint64_t last_id_ = 0;
  std::unordered_map<std::uint64_t, std::shared_ptr<void>> held_;
  std::unordered_map<std::uint64_t, std::unique_ptr<FdWatch>> watches_;
  std::vector<std::shared_ptr<Signals>> signals_;
  Pool pool_;
};

}  // namespace

std::unique_ptr<RealLoop> make_real_loop(unsigned blocking_threads) {
  // OpenSSL writes with write(2). A handler instead of SIG_IGN: exec resets it, so that tasks start with the default.
  struct sigaction pipe{};
  if (::sigaction(SIGPIPE, nullptr, &pipe) == 0 && pipe.sa_handler == SIG_DFL) {
    pipe.sa_handler = [](int) {};
    pipe.sa_flags = SA_RESTART;
    ::sigaction(SIGPIPE, &pipe, nullptr);
  }
  return std::make_unique<AsioLoop>(blocking_threads);
}

std::uint64_t hold(RealLoop& loop, std::shared_ptr<void> object) { return static_cast<AsioLoop&>(loop).hold(std::move(object)); }
void release(RealLoop& loop, std::uint64_t id) { static_cast<AsioLoop&>(loop).release(id); }

struct FdWatch::State : std::enable_shared_from_this<State> {
  State(asio::io_context& io, Function<void()> r, Function<void()> w) : descriptor(io), readable(std::move(r)), writable(std::move(w)) {}
  asio::posix::stream_descriptor descriptor;
  Function<void()> readable, writable;
  bool open = true, reading = false, writing = false;

  void wait(asio::posix::descriptor_base::wait_type type, bool State::*flag, Function<void()> State::*call) {
    if (!open || std::exchange(this->*flag, true)) return;
    descriptor.async_wait(type, [self = shared_from_this(), flag, call](const boost::system::error_code&) {
      (*self).*flag = false;
      if (self->open) ((*self).*call)();  // errors show in the read or write that follows
    });
  }
};

FdWatch::FdWatch(RealLoop& loop, base::Fd fd, Function<void()> readable, Function<void()> writable)
    : state_(std::make_shared<State>(static_cast<AsioLoop&>(loop).io(), std::move(readable), std::move(writable))) {
  const int flags = ::fcntl(fd.get(), F_GETFL);
  if (!(flags & O_NONBLOCK)) ::fcntl(fd.get(), F_SETFL, flags | O_NONBLOCK);
  boost::system::error_code ec;
  state_->descriptor.assign(fd.get(), ec);
  if (ec) {
    base::log_error("net", "cannot poll a descriptor", {{"error", ec.message()}});
    return;
  }
  (void)fd.release();
}
FdWatch::~FdWatch() {
  state_->open = false;
  boost::system::error_code ec;
  state_->descriptor.close(ec);
}
int FdWatch::fd() const { return state_->descriptor.is_open() ? state_->descriptor.native_handle() : -1; }
void FdWatch::want_read() { state_->wait(asio::posix::descriptor_base::wait_read, &State::reading, &State::readable); }
void FdWatch::want_write() { state_->wait(asio::posix::descriptor_base::wait_write, &State::writing, &State::writable); }

}  // namespace gantry::net
