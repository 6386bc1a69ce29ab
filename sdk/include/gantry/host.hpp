// What the kernel gives an instance, as C++: logs, metrics, timers, blocking work, host services.
#pragma once

#include <gantry/function.hpp>
#include <gantry/host_generated.h>
#include <gantry/message.hpp>
#include <gantry/task.hpp>

#include <atomic>
#include <chrono>
#include <initializer_list>
#include <unordered_map>

namespace gantry {
inline namespace v1 {

enum class Level : std::uint32_t { debug = GANTRY_LOG_DEBUG, info = GANTRY_LOG_INFO, warning = GANTRY_LOG_WARNING, error = GANTRY_LOG_ERROR };

// A counter or gauge registered once; add() is cheap and works from any thread.
class Metric {
 public:
  Metric() = default;
  Metric(const gantry_host* host, std::uint32_t id) : host_(host), id_(id) {}
  void add(double v = 1) const {
    if (host_) host_->metric_add(host_->ctx, id_, v);
  }

 private:
  const gantry_host* host_ = nullptr;
  std::uint32_t id_ = 0;
};

// One per instance, owned by Module. Lives on the strand except where a member says [any].
class Host {
 public:
  using Reply = Function<void(gantry_code, Bytes)>;
  struct Field {
    std::string_view key, value;
  };

  explicit Host(const gantry_host* raw) : raw_(raw) {}
  Host(const Host&) = delete;
  Host& operator=(const Host&) = delete;

  [[nodiscard]] const gantry_host* raw() const { return raw_; }

  // [any] Monotonic clock of the host: real or, in tests, manual. Never read another clock.
  [[nodiscard]] std::chrono::nanoseconds now() const { return std::chrono::nanoseconds(raw_->now(raw_->ctx)); }
  // [any] Nanoseconds since 1970, for timestamps only.
  [[nodiscard]] std::uint64_t wall_ns() const { return raw_->wall(raw_->ctx); }

  // [any] One sentence, no trailing dot; fields carry the values a program may want.
  void log(Level level, std::string_view message, std::initializer_list<Field> fields = {}) const {
    if (static_cast<std::uint32_t>(level) < __atomic_load_n(raw_->log_threshold, __ATOMIC_RELAXED)) return;
    fb::LogRecordT r;
    r.message = message;
    for (const auto& f : fields) {
      auto t = std::make_unique<fb::LogFieldT>();
      t->key = f.key;
      t->value = f.value;
      r.fields.push_back(std::move(t));
    }
    const Buffer b = pack(r);
    raw_->log(raw_->ctx, static_cast<std::uint32_t>(level), to_abi(b));
  }
  void debug(std::string_view m, std::initializer_list<Field> f = {}) const { log(Level::debug, m, f); }
  void info(std::string_view m, std::initializer_list<Field> f = {}) const { log(Level::info, m, f); }
  void warning(std::string_view m, std::initializer_list<Field> f = {}) const { log(Level::warning, m, f); }
  void error(std::string_view m, std::initializer_list<Field> f = {}) const { log(Level::error, m, f); }

  // [any]
  [[nodiscard]] Metric metric(std::string_view name, fb::MetricKind kind, std::string_view unit, std::string_view help) const {
    fb::MetricDescT d;
    d.name = name;
    d.kind = kind;
    d.unit = unit;
    d.help = help;
    const Buffer b = pack(d);
    return {raw_, raw_->metric(raw_->ctx, to_abi(b))};
  }

  // [any] Runs fn on the strand, later.
  void post(Function<void()> fn) const {
    raw_->post(raw_->ctx, &run_boxed, new Function<void()>(std::move(fn)));
  }

  // Runs work on the blocking pool, starting now, and resumes the awaiter on the strand with its result.
  // gcc 12 destroys twice what a lambda inside a co_await expression has captured, so take two steps:
  //   auto reading = host().offload([path] { return read(path); });
  //   auto result = co_await std::move(reading);
  template <class F>
  auto offload(F&& work) -> Task<std::invoke_result_t<std::decay_t<F>&>> {
    using W = std::decay_t<F>;
    using R = std::invoke_result_t<W&>;
    static_assert(!std::is_void_v<R>, "return a Status from offloaded work");
    struct Job {
      const Host* host;
      W work;
      Promise<R> promise;
    };
    Promise<R> promise;
    auto* job = new Job{this, W(std::forward<F>(work)), promise};
    raw_->offload(
        raw_->ctx,
        [](void* p) {
          std::unique_ptr<Job> j(static_cast<Job*>(p));
          R r = run_guarded<R>(j->work);
          const Host* h = j->host;
          h->post([promise = std::move(j->promise), r = std::move(r)]() mutable { promise.set(std::move(r)); });
        },
        job);
    return await_promise<R>(std::move(promise));
  }

  // Runs fn on the strand once now() >= at. Returns an id for cancel_timer, never 0.
  std::uint64_t timer_at(std::chrono::nanoseconds at, Function<void()> fn) {
    auto* slot = new Slot{this, 0, std::move(fn)};
    slot->id = raw_->timer(
        raw_->ctx, static_cast<std::uint64_t>(at.count()),
        [](void* p) {
          std::unique_ptr<Slot> s(static_cast<Slot*>(p));
          s->host->timers_.erase(s->id);
          s->fn();
        },
        slot);
    timers_[slot->id] = slot;
    return slot->id;
  }
  std::uint64_t timer(std::chrono::nanoseconds after, Function<void()> fn) { return timer_at(now() + after, std::move(fn)); }
  void cancel_timer(std::uint64_t id) {
    const auto it = timers_.find(id);
    if (it == timers_.end()) return;
    raw_->timer_cancel(raw_->ctx, id);
    delete it->second;
    timers_.erase(it);
  }
  Task<void> sleep(std::chrono::nanoseconds d) {
    Promise<bool> done;
    timer(d, [done] { done.set(true); });
    co_await done.get();
  }

  // Calls a host service; `on_reply` runs on the strand for every chunk and once with the final code. Returns a token
  // for cancel_request. If the host refuses the request, on_reply is posted with that code.
  std::uint64_t stream(fb::host::Service service, std::uint32_t method, Bytes body, Reply on_reply) {
    const std::uint64_t token = ++last_token_;
    pending_.emplace(token, std::move(on_reply));
    const gantry_code code = raw_->request(raw_->ctx, static_cast<std::uint32_t>(service), method, to_abi(body), token);
    if (code != GANTRY_OK) post([this, token, code] { on_reply_from_host(token, code, {}); });
    return token;
  }
  void cancel_request(std::uint64_t token) {
    if (pending_.count(token)) raw_->request_cancel(raw_->ctx, token);
  }

  // Calls a host service that answers once.
  Task<Result<Buffer>> request(fb::host::Service service, std::uint32_t method, Bytes body) {
    Promise<Result<Buffer>> promise;
    stream(service, method, body, [promise](gantry_code code, Bytes b) {
      if (code < 0) promise.set(unpack_error(code, b));
      else promise.set(Buffer(b));
    });
    co_return co_await promise.get();
  }
  template <class T>
  Task<Result<Buffer>> request(fb::host::Service service, std::uint32_t method, const T& message) {
    const Buffer body = pack(message);
    co_return co_await request(service, method, Bytes(body));
  }

  // For Module: a reply from the host has arrived.
  void on_reply_from_host(std::uint64_t token, gantry_code code, Bytes body) {
    const auto it = pending_.find(token);
    if (it == pending_.end()) return;
    if (code == GANTRY_MORE) {
      // The handler may cancel or start requests, so it is taken out of the map while it runs.
      Reply handler = std::move(it->second);
      handler(code, body);
      const auto again = pending_.find(token);
      if (again != pending_.end()) again->second = std::move(handler);
    } else {
      Reply handler = std::move(it->second);
      pending_.erase(it);
      handler(code, body);
    }
  }

  // For Module: forget everything that would call back. Timers are cancelled, replies dropped.
  void close() {
    for (auto& [id, slot] : timers_) {
      raw_->timer_cancel(raw_->ctx, id);
      delete slot;
    }
    timers_.clear();
    pending_.clear();
  }
  ~Host() { close(); }

 private:
  struct Slot {
    Host* host;
    std::uint64_t id;
    Function<void()> fn;
  };
  static void run_boxed(void* p) {
    std::unique_ptr<Function<void()>> fn(static_cast<Function<void()>*>(p));
    (*fn)();
  }
  template <class R>
  static Task<R> await_promise(Promise<R> promise) {
    co_return co_await promise.get();
  }
  template <class R, class F>
  static R run_guarded(F& f) {
    if constexpr (std::is_convertible_v<Error, R>) {
      try {
        return f();
      } catch (const std::exception& e) {
        return fail(Code::internal, e.what());
      }
    } else {
      return f();
    }
  }
  const gantry_host* raw_;
  std::uint64_t last_token_ = 0;
  std::unordered_map<std::uint64_t, Reply> pending_;
  std::unordered_map<std::uint64_t, Slot*> timers_;
};

}  // namespace v1
}  // namespace gantry
