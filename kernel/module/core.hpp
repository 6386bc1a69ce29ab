// The two halves of an in-process instance: what its module calls from any thread, and what the loop does with it.
// Internal to kernel/module; the rest of the kernel sees Instance.
#pragma once

#include "kernel/base/fd.hpp"
#include "kernel/base/log.hpp"
#include "kernel/base/metric.hpp"
#include "kernel/module/instance.hpp"
#include "kernel/module/mailbox.hpp"
#include "kernel/module/records.hpp"
#include "kernel/module/requests.hpp"
#include "kernel/module/strand.hpp"

#include <atomic>
#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <unordered_map>

namespace gantry::module {

// What a module said, on its way to the loop.
struct Said {
  enum class What : std::uint8_t {
    created,
    destroyed,
    complete,
    overflow,
    request,
    request_cancel,
    timer,
    timer_cancel,
    idle,
    threw
  };
  What what;
  gantry_code code = 0;
  std::uint32_t service = 0, method = 0;
  std::uint64_t token = 0;  // timers: their id
  std::uint64_t at = 0;
  std::size_t offset = 0, length = 0;  // the mailbox's
};

// Shared with the strand and with everything in flight. Members are the loop's unless they say otherwise.
class Core : public std::enable_shared_from_this<Core> {
 public:
  explicit Core(InstanceSetup setup);
  ~Core();
  void init();  // once, after make_shared

  // The loop's half.
  std::uint64_t call(std::uint32_t method, Buffer body, OnReply on_reply, CallOptions options);
  void cancel(std::uint64_t token);
  void refuse(OnReply on_reply, Error error);  // answers later, on the loop
  void cancel_all();                           // every open call, every open request
  void abandon();  // callers that still wait get UNAVAILABLE; the calls stay open for the module
  [[nodiscard]] std::size_t open_calls() const { return open_calls_; }
  [[nodiscard]] bool quiet() const { return open_calls_ == 0 && offloads_.load() == 0; }
  [[nodiscard]] Counters counters() const;
  void fault(std::string_view what);
  void trace(Tracer* tracer) {
    tracer_ = tracer;
    requests_.trace(tracer);
  }
  // Keeps this alive to the end of the process: its module may still use it.
  void leave_behind();

  InstanceSetup setup;
  const std::string id;
  StrandPtr strand;
  State state = State::configured;
  std::string message;  // why degraded or failed
  Function<void(gantry_code)> on_created, on_destroyed;
  Function<void()> on_quiet;     // set while somebody waits for quiet()
  Instance* instance = nullptr;  // null once the owner has gone
  bool created = false;

 private:
  struct Slot {
    std::uint32_t generation = 1;
    std::uint32_t method = 0;
    bool open = false, abandoned = false, cancelled = false;
    std::atomic<bool> entered{false};  // written by the strand
    std::uint64_t token = 0;
    std::uint64_t deadline_ns = 0;
    Buffer body;  // until the final completion, as are fds
    std::vector<base::Fd> fds;
    std::vector<std::int32_t> raw_fds;
    OnReply on_reply;
    base::TimerId timer = 0;
  };
  struct Timer {
    void (*fn)(void*);
    void* arg;
  };

  // The strand's half: enters the module.
  void enter(const Entry& entry, Bytes bytes);
  void enter_module(const Entry& entry, Bytes bytes);

  // The module's half [any].
  static Core& of(void* ctx) { return *static_cast<Core*>(ctx); }
  void say(const Said& said, Bytes bytes = {});
  void log(std::uint32_t level, Bytes record);
  bool may_log();
  void note(std::string_view what, std::initializer_list<base::LogField> fields = {});  // a warning of the kernel about this instance
  std::uint32_t metric(Bytes desc);
  std::uint64_t timer(std::uint64_t at, void (*fn)(void*), void* arg);
  void timer_cancel(std::uint64_t id);
  void offload(void (*fn)(void*), void* arg);
  static void fill(gantry_host& host);

  // The loop's half.
  void drain();
  void on_said(const Said& said, Bytes bytes);
  void on_complete(std::uint64_t token, gantry_code code, Bytes bytes);
  void on_deadline(std::uint64_t token);
  void give_up(Slot& slot, const Error& error);  // tells the caller; the module keeps the call until it completes it
  Slot* find(std::uint64_t token);
  void release(Slot& slot);
  void check_quiet();

  gantry_host host_{};
  void* self_ = nullptr;  // strand only
  Mailbox<Said> said_;
  Mailbox<Said>::Batch batch_;  // only inside drain()
  std::atomic<std::uint32_t> offloads_{0};
  std::atomic<std::uint64_t> lost_{0};  // records dropped because the module floods the loop

  std::mutex timers_mutex_;
  std::unordered_map<std::uint64_t, Timer> timers_;
  std::uint64_t last_timer_ = 0;
  std::unordered_map<std::uint64_t, base::TimerId> armed_;

  LogBudget log_budget_;

  std::deque<Slot> slots_;  // never moved: the strand holds pointers
  std::vector<std::uint32_t> free_;
  std::size_t open_calls_ = 0;
  Requests requests_;
  Tracer* tracer_ = nullptr;
  Counters counters_;
  base::Metrics::Id calls_metric_ = 0, faults_metric_ = 0;
};

}  // namespace gantry::module
