// One running module under conformance test, wherever it is hosted: in this process or in gantry-modhost.
//
//   GANTRY_CONFORMANCE(isolator, prepare_twice, "PREPARE may be repeated", "return the same result for a known container") {
//     check.require(check.ok(subject.up(), "configure and start"));
//     auto first = subject.call<fb::isolator::Prepared>(Method::PREPARE, prepare);      // Result<PreparedT>
//     auto watch = subject.open(Method::WATCH, w);                                      // Pending: a stream
//     check.that(watch.wait_chunks(1), "WATCH says within 5 s that ...");
//     watch.cancel();
//     check.that(watch.wait(), "WATCH ends when it is cancelled");
//   }
//
// Time is real in both hosts; nothing here blocks: whatever waits also answers the module's requests to host services.
// One thread: a case and everything it is told run on the thread that called the case.
#pragma once

#include <gantry/testing/case.hpp>
#include <gantry/testing/host.hpp>
#include <gantry/testing/services.hpp>

#include <sys/types.h>

namespace gantry::conformance {

using namespace std::chrono_literals;
using Nanos = std::chrono::nanoseconds;
using testing::Outcome;
using testing::Values;

struct CallOptions {
  Nanos timeout{0};              // of the call itself: the host answers DEADLINE_EXCEEDED past it; 0 = none
  std::vector<std::int32_t> fds; // borrowed until the answer
};

// A call that has been made. Copies share it. Belongs to the subject's thread.
class Pending {
 public:
  struct State {
    Subject* subject = nullptr;
    std::uint64_t id = 0;
    std::uint32_t method = 0;
    std::vector<Buffer> chunks;
    bool done = false;
    gantry_code code = GANTRY_OK;
    Buffer reply;
  };
  explicit Pending(std::shared_ptr<State> s) : state_(std::move(s)) {}

  [[nodiscard]] bool done() const { return state_->done; }
  [[nodiscard]] Code code() const { return static_cast<Code>(state_->code); }  // meaningful once done
  [[nodiscard]] const std::vector<Buffer>& chunks() const { return state_->chunks; }
  template <class T>
  [[nodiscard]] auto chunk(std::size_t i) const {
    return unpack<T>(Bytes(state_->chunks.at(i)));
  }
  [[nodiscard]] Bytes reply() const { return state_->reply; }
  // The outcome; a call that is still open is an error that says so.
  template <class T = void>
  [[nodiscard]] Outcome<T> result() const {
    if (!done()) return v1::fail(Code::unavailable, "method " + std::to_string(state_->method) + " is not completed");
    if (state_->code != GANTRY_OK) return unpack_error(state_->code, state_->reply);
    if constexpr (std::is_void_v<T>)
      return v1::ok;
    else if constexpr (std::is_same_v<T, Buffer>)
      return Buffer(Bytes(state_->reply));
    else
      return unpack<T>(Bytes(state_->reply));
  }
  void cancel() const;
  // True once it is completed; false after the limit.
  bool wait(Nanos limit = 5s) const;
  // True once n chunks have come.
  bool wait_chunks(std::size_t n, Nanos limit = 5s) const;

 private:
  std::shared_ptr<State> state_;
};

// What the module says about itself in its manifest.
struct Declared {
  std::vector<fb::SettingT> defaults;     // every setting with its default; required ones have a neutral value
  std::vector<std::string> required;      // keys without a default
  std::vector<std::string> reloadable;
  std::vector<std::string> services, capabilities, roles;
  [[nodiscard]] bool uses(std::string_view service) const {
    return std::find(services.begin(), services.end(), service) != services.end();
  }
};

struct LogLine {
  Level level;
  std::string text;  // the line as the daemon would write it
};

class Subject {
 public:
  virtual ~Subject() = default;

  // ---- who it is
  [[nodiscard]] const std::string& kind() const { return kind_; }
  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] const Declared& declared() const { return declared_; }
  // "kernel" or "process".
  [[nodiscard]] virtual std::string_view hosting() const = 0;
  [[nodiscard]] bool in_process() const { return hosting() == "kernel"; }
  // Empty when the case begins, removed after it. Private to the case.
  [[nodiscard]] const std::string& scratch() const { return scratch_; }
  // The instance's own directory, below scratch(); the same for each instance of the case.
  [[nodiscard]] std::string work_dir() const { return scratch_ + "/work"; }

  // What only the author can know, from [fixture] of conformance.toml ("principal", "secret", ...); null: not given, so
  // the case should skip with a reason that names the key.
  [[nodiscard]] const std::string* fixture(std::string_view key) const {
    const auto it = fixture_.find(key);
    return it == fixture_.end() ? nullptr : &it->second;
  }

  // ---- its life. The usual case: up(), calls, (down()). A fresh subject is created, not configured.
  Status configure(const Values& values = {}, bool reload = false) {
    if (!values.empty() || !reload) values_ = values;
    return call(GANTRY_METHOD_CONFIGURE, configuration(values_, reload));
  }
  Status start() { return call(GANTRY_METHOD_START, Buffer()); }
  template <class Reply = void, class Body>
  Outcome<Reply> recover(const Body& body) {
    return call<Reply>(GANTRY_METHOD_RECOVER, body);
  }
  // STOP only; the instance exists on.
  Status stop() { return call(GANTRY_METHOD_STOP, Buffer()); }
  Result<fb::HealthT> health() { return call<fb::Health>(GANTRY_METHOD_HEALTH, Buffer()); }
  // create (if it does not exist), CONFIGURE with the defaults and `values`, START.
  Status up(const Values& values = {}) {
    if (!exists())
      if (Status s = create(); !s) return s;
    if (Status s = configure(values); !s) return std::move(s.error()).because("CONFIGURE");
    if (Status s = start(); !s) return std::move(s.error()).because("START");
    return ok;
  }
  // STOP, then destroy, as the daemon does at its end.
  virtual Status down() = 0;
  // down(), then a fresh instance on the same work_dir, services and settings, configured and started.
  Status restart() {
    if (Status s = down(); !s) return std::move(s.error()).because("stop");
    return up(Values(values_));
  }
  // The unclean end: the process is killed with SIGKILL; in process, where that would end the case, the instance is
  // left behind without STOP and never entered again. up() then makes a fresh one on the same work_dir.
  virtual void kill() = 0;
  virtual Status create() = 0;
  [[nodiscard]] virtual bool exists() const = 0;
  // The process of the module; 0 in process.
  [[nodiscard]] virtual pid_t pid() const = 0;

  // ---- calls
  template <class Method, class Body>
  Pending open(Method method, const Body& body, CallOptions options = {}) {
    return begin(static_cast<std::uint32_t>(method), bytes_of(body), std::move(options));
  }
  // Calls and waits; a call that has not completed after `limit` is an error (UNAVAILABLE) that says so.
  template <class Reply = void, class Method, class Body>
  Outcome<Reply> call(Method method, const Body& body, CallOptions options = {}, Nanos limit = 5s) {
    const Pending p = open(method, body, std::move(options));
    p.wait(limit);
    return p.template result<Reply>();
  }
  // CONFIGURE's body: the manifest's defaults, on top of them the author's [settings], on top of them `values`.
  [[nodiscard]] fb::ConfigureT configuration(const Values& values = {}, bool reload = false) const {
    std::map<std::string, std::unique_ptr<fb::SettingT>> all;
    for (const auto& s : declared_.defaults) all[s.key] = std::make_unique<fb::SettingT>(s);
    for (const auto& s : given_) all[s.key] = std::make_unique<fb::SettingT>(s);
    for (const auto& [key, value] : values) {
      auto s = value.setting(key, true);
      // The declared type decides, as it does in the daemon: a test may write a size as a plain number.
      if (const auto it = all.find(key); it != all.end()) s->type = it->second->type;
      all[key] = std::move(s);
    }
    fb::ConfigureT c;
    for (auto& [key, s] : all) c.settings.push_back(std::move(s));
    c.reload = reload;
    c.work_dir = work_dir();
    c.revision = revision_;
    c.roles = declared_.roles.empty() ? std::vector<std::string>{"master", "agent"} : declared_.roles;
    return c;
  }

  // ---- time: real. Both run the host and answer the module meanwhile. Limits of a second and more are longer on a
  // busy machine: they are there to end, not to measure.
  template <class P>
  bool wait_until(P pred, Nanos limit = 5s) {
    const auto end = std::chrono::steady_clock::now() + (limit < 1s ? limit : limit * patience_);
    while (!pred()) {
      const auto left = end - std::chrono::steady_clock::now();
      if (left <= 0ns) return false;
      turn(std::min<Nanos>(left, 20ms));
    }
    return true;
  }
  void pass(Nanos d) {
    const auto end = std::chrono::steady_clock::now() + d;
    for (auto left = d; left > 0ns; left = end - std::chrono::steady_clock::now()) turn(std::min<Nanos>(left, 20ms));
  }

  // ---- the module's world. Services not listed in its manifest are refused by the host before they come here.
  MemoryStore store;
  FakeHttp http;
  FakeCluster cluster;
  // Replaces the answer to a service; an empty handler restores it. QUERY and AUTH have no default: UNAVAILABLE.
  void serve(fb::host::Service service, Handler handler) { handlers_[service] = std::move(handler); }
  // Every request so far, of all instances.
  [[nodiscard]] const std::vector<Asked>& asked() const { return asked_; }

  // ---- what it did
  [[nodiscard]] const std::vector<LogLine>& logs() const { return logs_; }
  [[nodiscard]] bool logged(std::string_view part) const {
    return std::any_of(logs_.begin(), logs_.end(),
                       [&](const LogLine& l) { return l.text.find(part) != std::string::npos; });
  }
  // Breaches of the ABI the host noticed: double, late and unknown completions, malformed answers, exceptions.
  [[nodiscard]] virtual std::uint64_t faults() const = 0;
  // Entries that held the strand over 10 ms.
  [[nodiscard]] virtual std::uint64_t slow() const = 0;
  // Times the module's process has ended unasked; 0 in process.
  [[nodiscard]] virtual std::uint32_t crashes() const = 0;
  // "running", "crash-loop: ...": what an operator would see.
  [[nodiscard]] virtual std::string state() const = 0;

  // Runs the host once: until something has happened or `at_most` has passed.
  virtual void turn(Nanos at_most) = 0;

 protected:
  friend class Pending;
  using OnReply = std::function<void(gantry_code, Bytes)>;
  virtual std::uint64_t do_call(std::uint32_t method, Buffer body, OnReply on_reply, CallOptions options) = 0;
  virtual void do_cancel(std::uint64_t id) = 0;

  // For the host below: a request of the module.
  void on_request(Asked a) {
    asked_.push_back(a);
    if (const auto it = handlers_.find(a.service); it != handlers_.end() && it->second) return it->second(a);
    switch (a.service) {
      case fb::host::Service::STORE: return store.serve(a);
      case fb::host::Service::HTTP: return http.serve(a);
      case fb::host::Service::CLUSTER: return cluster.serve(a);
      default: return a.fail(fail(Code::unavailable, "this case serves no such host service"));
    }
  }

  std::string kind_, name_, scratch_;
  std::uint16_t revision_ = 1;
  int patience_ = 1;  // how many runnable threads share a processor
  Declared declared_;
  std::vector<fb::SettingT> given_;  // the author's own, from [settings] of conformance.toml
  std::map<std::string, std::string, std::less<>> fixture_;
  std::vector<LogLine> logs_;

 private:
  Pending begin(std::uint32_t method, Buffer body, CallOptions options) {
    auto state = std::make_shared<Pending::State>();
    state->subject = this;
    state->method = method;
    state->id = do_call(
        method, std::move(body),
        [state](gantry_code code, Bytes bytes) {
          if (code == GANTRY_MORE) {
            state->chunks.emplace_back(bytes);
            return;
          }
          state->done = true;
          state->code = code;
          state->reply = Buffer(bytes);
        },
        std::move(options));
    return Pending(state);
  }
  static Buffer bytes_of(Bytes b) { return Buffer(b); }
  static Buffer bytes_of(const Buffer& b) { return Buffer(Bytes(b)); }
  template <class T>
  static Buffer bytes_of(const T& message) {
    return pack(message);
  }

  Values values_;
  std::map<fb::host::Service, Handler> handlers_;
  std::vector<Asked> asked_;
};

inline void Pending::cancel() const { state_->subject->do_cancel(state_->id); }
inline bool Pending::wait(Nanos limit) const {
  return state_->subject->wait_until([this] { return state_->done; }, limit);
}
inline bool Pending::wait_chunks(std::size_t n, Nanos limit) const {
  return state_->subject->wait_until([this, n] { return state_->chunks.size() >= n; }, limit);
}

}  // namespace gantry::conformance
