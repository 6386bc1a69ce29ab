// What the tests of the module host share.
#pragma once

#include "kernel/base/log.hpp"
#include "kernel/base/manual_loop.hpp"
#include "kernel/module/host.hpp"
#include "kernel/module/loader.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <unistd.h>

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

namespace gantry::module {

inline std::string bad(const std::string& name) { return std::string(BAD_MODULES) + "/" + name + ".so"; }

inline config::ModuleConfig configured(const std::string& kind, const std::string& name, const std::string& path) {
  config::ModuleConfig c;
  c.kind = kind;
  c.name = name;
  c.path = path;
  c.where = {"test.toml", 3, 1};
  return c;
}

// Collects the log while it lives.
class LogLines {
 public:
  LogLines() {
    base::set_log_sink([this](base::Level, std::string_view line) {
      const std::lock_guard lock(mutex_);
      lines_.emplace_back(line);
    });
  }
  ~LogLines() { base::set_log_sink(nullptr); }
  [[nodiscard]] std::size_t count(std::string_view part) const {
    const std::lock_guard lock(mutex_);
    std::size_t n = 0;
    for (const auto& l : lines_) n += l.find(part) != std::string::npos;
    return n;
  }

 private:
  mutable std::mutex mutex_;
  std::vector<std::string> lines_;
};

// A real loop small enough to need no sockets; the test's thread runs it in run_until().
class ThreadLoop final : public base::Loop {
 public:
  ~ThreadLoop() override {
    for (auto& t : workers_) t.join();
  }
  void post(Function<void()> fn) override {
    {
      const std::lock_guard lock(mutex_);
      queue_.push_back(std::move(fn));
    }
    cv_.notify_one();
  }
  void offload(Function<void()> work, Function<void()> then) override {
    const std::lock_guard lock(workers_mutex_);
    workers_.emplace_back([this, work = std::move(work), then = std::move(then)]() mutable {
      work();
      post(std::move(then));
    });
  }
  [[nodiscard]] base::Instant now() const override {
    return std::chrono::duration_cast<base::Nanos>(std::chrono::steady_clock::now().time_since_epoch());
  }
  [[nodiscard]] base::Wall wall() const override { return 1'700'000'000'000'000'000; }
  base::TimerId at(base::Instant at, Function<void()> fn) override {
    timers_[++last_] = {at, std::move(fn)};
    return last_;
  }
  void cancel(base::TimerId id) override { timers_.erase(id); }
  [[nodiscard]] bool on_thread() const override { return true; }

  template <class P>
  bool run_until(P pred, base::Nanos limit = std::chrono::seconds(20)) {
    const base::Instant end = now() + limit;
    while (!pred()) {
      if (now() > end) return false;
      Function<void()> fn;
      for (auto it = timers_.begin(); it != timers_.end(); ++it)
        if (it->second.first <= now()) {
          fn = std::move(it->second.second);
          timers_.erase(it);
          break;
        }
      if (!fn) {
        std::unique_lock lock(mutex_);
        cv_.wait_for(lock, std::chrono::milliseconds(1), [this] { return !queue_.empty(); });
        if (queue_.empty()) continue;
        fn = std::move(queue_.front());
        queue_.pop_front();
      }
      fn();
    }
    return true;
  }

 private:
  std::mutex mutex_, workers_mutex_;
  std::condition_variable cv_;
  std::deque<Function<void()>> queue_;
  std::map<base::TimerId, std::pair<base::Instant, Function<void()>>> timers_;
  base::TimerId last_ = 0;
  std::vector<std::thread> workers_;
};

struct Pipe {
  Pipe() {
    if (::pipe(ends) != 0) throw std::runtime_error("pipe");
  }
  ~Pipe() { ::close(ends[0]), ::close(ends[1]); }
  void write() const { ASSERT_EQ(::write(ends[1], "x", 1), 1); }
  int ends[2];
};

// What became of one call.
struct Outcome {
  std::vector<std::string> chunks;
  int finals = 0;
  gantry_code code = 99;
  std::string body;
  [[nodiscard]] bool done() const { return finals > 0; }
  [[nodiscard]] std::string error() const { return unpack_error(code, as_bytes(body)).message; }
};
inline OnReply into(std::shared_ptr<Outcome> o) {
  return [o](gantry_code code, Bytes b) {
    std::string s(reinterpret_cast<const char*>(b.data()), b.size());
    if (code == GANTRY_MORE) {
      o->chunks.push_back(std::move(s));
    } else {
      ++o->finals;
      o->code = code;
      o->body = std::move(s);
    }
  };
}

}  // namespace gantry::module
