// An in-memory host for module tests: manual clock, no threads, nothing runs until the test says so.
//
//   testing::Host host;
//   testing::Subject<MyIsolator> m(host, "mine");
//   ASSERT_TRUE(m.configure({{"root", "x"}, {"interval", 5s}, {"hosts", {"a", "b"}}}));
//   ASSERT_TRUE(m.start());
//   auto prepared = m.call<fb::isolator::Prepared>(fb::isolator::Method::PREPARE, prepare);   // Result<PreparedT>
//   ASSERT_TRUE(m.call(fb::isolator::Method::CLEANUP, cleanup));                              // Status
//   auto stream = m.open(fb::isolator::Method::WATCH, watch);                                 // Pending: chunks,
//   cancel host.advance(5s); ASSERT_TRUE(m.stop()); EXPECT_EQ(host.faults(), std::vector<std::string>{});
//
// Host services are answered by handlers (host.serve). Breaches of the ABI - double, late or unknown completions, calls
// left open at destroy, a malformed record - are collected in faults(), one sentence each.
// Modules with threads of their own may complete, post and log from them; the test then waits with run_until().
#pragma once

#include <gantry/module.hpp>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <variant>

namespace gantry::testing {

using namespace std::chrono_literals;
using Nanos = std::chrono::nanoseconds;

class Host;
class Instance;

struct Log {
  Level level;
  std::string message;
  std::map<std::string, std::string> fields;
};

// A setting's value as a test writes it; the type follows from the C++ type.
class Value {
 public:
  Value(const char* v) : v_(std::string(v)) {}
  Value(std::string v) : v_(std::move(v)) {}
  Value(std::string_view v) : v_(std::string(v)) {}
  Value(bool v) : v_(v) {}
  template <class I>
  requires(std::is_integral_v<I> && !std::is_same_v<I, bool>) Value(I v)
      : v_(static_cast<std::int64_t>(v)) {}  // also sizes, in bytes
  Value(double v) : v_(v) {}
  template <class R, class P>
  Value(std::chrono::duration<R, P> v) : v_(std::chrono::duration_cast<Nanos>(v)) {}
  Value(std::vector<std::string> v) : v_(std::move(v)) {}
  Value(std::initializer_list<const char*> v) : v_(std::vector<std::string>(v.begin(), v.end())) {}
  // "key" -> "value" pairs: a MAP setting.
  Value(std::map<std::string, std::string> m) : map_(true) {
    std::vector<std::string> items;
    for (auto& [k, x] : m) items.push_back(k + "=" + x);
    v_ = std::move(items);
  }

  [[nodiscard]] std::unique_ptr<fb::SettingT> setting(const std::string& key, bool given) const {
    auto s = std::make_unique<fb::SettingT>();
    s->key = key;
    s->given = given;
    std::visit([&](const auto& v) { fill(*s, v); }, v_);
    if (map_) s->type = fb::SettingType::MAP;
    return s;
  }

 private:
  static void fill(fb::SettingT& s, const std::string& v) { s.type = fb::SettingType::STRING, s.text = v; }
  static void fill(fb::SettingT& s, bool v) { s.type = fb::SettingType::BOOL, s.flag = v; }
  static void fill(fb::SettingT& s, std::int64_t v) {
    s.type = fb::SettingType::INT, s.number = v, s.real = static_cast<double>(v);
  }
  static void fill(fb::SettingT& s, double v) { s.type = fb::SettingType::FLOAT, s.real = v; }
  static void fill(fb::SettingT& s, Nanos v) { s.type = fb::SettingType::DURATION, s.number = v.count(); }
  static void fill(fb::SettingT& s, const std::vector<std::string>& v) { s.type = fb::SettingType::LIST, s.items = v; }
  std::variant<std::string, bool, std::int64_t, double, Nanos, std::vector<std::string>> v_;
  bool map_ = false;
};
using Values = std::map<std::string, Value, std::less<>>;

namespace detail {

struct CallState {
  std::uint64_t token = 0;
  std::uint32_t method = 0;
  Buffer body;
  std::vector<std::int32_t> fds;
  std::uint64_t deadline_ns = 0;
  std::vector<Buffer> chunks;
  bool done = false;
  gantry_code code = GANTRY_OK;
  Buffer reply;
};

template <class T>
struct OutcomeOf {
  using type = Result<typename T::NativeTableType>;
};
template <>
struct OutcomeOf<void> {
  using type = Status;
};
template <>
struct OutcomeOf<Buffer> {
  using type = Result<Buffer>;
};

}  // namespace detail

// Of a call whose reply is table T: Result<TT>; Status for void, Result<Buffer> for Buffer.
template <class T>
using Outcome = typename detail::OutcomeOf<T>::type;

// A call that has been made and may still be open. Copies share the call.
class Pending {
 public:
  [[nodiscard]] std::uint64_t token() const { return state_->token; }
  [[nodiscard]] bool done() const;
  [[nodiscard]] Code code() const { return static_cast<Code>(state_->code); }
  // MORE chunks so far, in order.
  [[nodiscard]] const std::vector<Buffer>& chunks() const { return state_->chunks; }
  template <class T>
  [[nodiscard]] auto chunk(std::size_t i) const {
    return unpack<T>(Bytes(state_->chunks.at(i)));
  }
  [[nodiscard]] Bytes reply() const { return state_->reply; }
  // The final outcome; an unfinished call is an error that says so.
  template <class T = void>
  [[nodiscard]] Outcome<T> result() const;
  // Asks the module to give up; takes effect with host.run().
  void cancel() const;

 private:
  friend class Instance;
  Pending(Instance* instance, std::shared_ptr<detail::CallState> state)
      : instance_(instance), state_(std::move(state)) {}
  Instance* instance_;
  std::shared_ptr<detail::CallState> state_;
};

// A module's request to a host service, in the hands of the test. Copyable; answer now or later.
class Asked {
 public:
  fb::host::Service service{};
  std::uint32_t method = 0;
  std::uint64_t token = 0;  // the module's own
  std::vector<std::uint8_t> body;

  template <class T>
  [[nodiscard]] auto as() const {
    return unpack<T>(Bytes(body));
  }
  [[nodiscard]] bool cancelled() const { return *cancelled_; }
  void reply(gantry_code code, Bytes bytes = {}) const;
  void ok() const { reply(GANTRY_OK); }
  template <class T>
  void ok(const T& message) const {
    reply(GANTRY_OK, Bytes(pack(message)));
  }
  template <class T>
  void more(const T& message) const {
    reply(GANTRY_MORE, Bytes(pack(message)));
  }
  void fail(const Error& e) const { reply(static_cast<gantry_code>(e.code), Bytes(pack_error(e))); }

 private:
  friend class Instance;
  std::weak_ptr<Instance*> instance_;
  std::shared_ptr<bool> cancelled_ = std::make_shared<bool>(false);
};
using Handler = std::function<void(Asked)>;

// The world of one test: clock, queue, logs, metrics, services. Outlives its Subjects.
class Host {
 public:
  explicit Host(Nanos start = 1s) : now_(static_cast<std::uint64_t>(start.count())) {}
  Host(const Host&) = delete;
  Host& operator=(const Host&) = delete;

  // Runs posted and offloaded work, replies and due timers until nothing is left to do at the present time.
  std::size_t run() {
    std::size_t ran = 0;
    while (run_one()) ++ran;
    return ran;
  }
  // Moves the clock, running what falls due on the way in order of time.
  void advance(Nanos d) {
    const std::uint64_t end = now_ + static_cast<std::uint64_t>(d.count());
    run();
    for (;;) {
      {
        const std::lock_guard lock(mutex_);
        if (timers_.empty() || timers_.begin()->first.first > end) break;
        now_ = std::max(now_.load(), timers_.begin()->first.first);
      }
      run();
    }
    now_ = end;
    run();
  }
  // For modules with threads of their own: runs, and waits in real time for more to run, until pred() or the limit.
  template <class P>
  bool run_until(P pred, Nanos real_limit = 10s) {
    const auto end = std::chrono::steady_clock::now() + real_limit;
    for (;;) {
      run();
      if (pred()) return true;
      std::unique_lock lock(mutex_);
      if (!work_.wait_until(lock, std::min(end, std::chrono::steady_clock::now() + 20ms),
                            [&] { return !queue_.empty() || poked_; }) &&
          std::chrono::steady_clock::now() >= end)
        return false;
      poked_ = false;
    }
  }

  [[nodiscard]] Nanos now() const { return Nanos(now_.load()); }
  void set_wall(std::uint64_t ns) { wall_offset_ = static_cast<std::int64_t>(ns - now_); }
  void set_log_threshold(Level level) { threshold_ = static_cast<std::uint32_t>(level); }

  // Answers requests to `service`; without a handler they are refused with UNAVAILABLE. Runs inside run().
  void serve(fb::host::Service service, Handler handler) { handlers_[service] = std::move(handler); }

  [[nodiscard]] std::vector<Log> logs() const {
    const std::lock_guard lock(mutex_);
    return logs_;
  }
  [[nodiscard]] bool logged(std::string_view part) const {
    const std::lock_guard lock(mutex_);
    return std::any_of(logs_.begin(), logs_.end(),
                       [&](const Log& l) { return l.message.find(part) != std::string::npos; });
  }
  // Sum of what was added to a metric; 0 if it was never registered.
  [[nodiscard]] double metric(std::string_view name) const {
    const std::lock_guard lock(mutex_);
    for (const auto& m : metrics_)
      if (m.first == name) return m.second;
    return 0;
  }
  // Breaches of the ABI by the modules under test.
  [[nodiscard]] std::vector<std::string> faults() const {
    const std::lock_guard lock(mutex_);
    return faults_;
  }
  [[nodiscard]] std::size_t timers() const {
    const std::lock_guard lock(mutex_);
    return timers_.size();
  }

 private:
  friend class Instance;
  friend class Pending;
  friend class Asked;
  struct Timer {
    Instance* owner;
    void (*fn)(void*);
    void* arg;
  };
  struct Entry {
    Instance* owner;
    std::function<void()> fn;
  };

  void push(Instance* owner, std::function<void()> fn) {
    {
      const std::lock_guard lock(mutex_);
      queue_.push_back({owner, std::move(fn)});
    }
    work_.notify_all();
  }
  bool run_one() {
    std::function<void()> fn;
    {
      const std::lock_guard lock(mutex_);
      if (!queue_.empty()) {
        fn = std::move(queue_.front().fn);
        queue_.pop_front();
      } else if (!timers_.empty() && timers_.begin()->first.first <= now_) {
        const Timer t = timers_.begin()->second;
        timers_.erase(timers_.begin());
        fn = [t] { t.fn(t.arg); };
      } else {
        return false;
      }
    }
    fn();
    return true;
  }
  void fault(std::string what) {  // with mutex_ held
    faults_.push_back(std::move(what));
  }

  mutable std::mutex mutex_;  // guards all below but the clock
  std::condition_variable work_;
  bool poked_ = false;
  std::deque<Entry> queue_;
  std::map<std::pair<std::uint64_t, std::uint64_t>, Timer> timers_;
  std::uint64_t last_timer_ = 0;
  std::vector<Log> logs_;
  std::vector<std::pair<std::string, double>> metrics_;
  std::vector<std::string> faults_;
  std::map<fb::host::Service, Handler> handlers_;
  std::atomic<std::uint64_t> now_;
  std::atomic<std::int64_t> wall_offset_{1'700'000'000'000'000'000};
  std::uint32_t threshold_ = GANTRY_LOG_DEBUG;
};

struct CallOptions {
  Nanos deadline{0};  // absolute on the host's clock, 0 = none; the fake host does not enforce it
  std::vector<std::int32_t> fds;
};

// One created provider. Destroyed with the object; calls still open then are faults.
class Instance {
 public:
  Instance(Host& host, const gantry_provider& provider) : host_(host), provider_(provider) {
    raw_.size = sizeof(gantry_host);
    raw_.abi_minor = GANTRY_ABI_MINOR;
    raw_.ctx = this;
    raw_.log_threshold = &host_.threshold_;
    raw_.log = [](void* c, std::uint32_t level, gantry_bytes b) { of(c).log(level, from_abi(b)); };
    raw_.complete = [](void* c, std::uint64_t t, gantry_code code, gantry_bytes b) {
      of(c).complete(t, code, from_abi(b));
    };
    raw_.request = [](void* c, std::uint32_t s, std::uint32_t m, gantry_bytes b, std::uint64_t t) {
      return of(c).request(s, m, from_abi(b), t);
    };
    raw_.post = [](void* c, void (*fn)(void*), void* arg) { of(c).host_.push(&of(c), [fn, arg] { fn(arg); }); };
    raw_.offload = raw_.post;  // runs inline, in its turn
    raw_.timer = [](void* c, std::uint64_t at, void (*fn)(void*), void* arg) {
      Host& h = of(c).host_;
      const std::lock_guard lock(h.mutex_);
      const std::uint64_t id = ++h.last_timer_;
      h.timers_.emplace(std::pair{at, id}, Host::Timer{&of(c), fn, arg});
      return id;
    };
    raw_.timer_cancel = [](void* c, std::uint64_t id) {
      Host& h = of(c).host_;
      const std::lock_guard lock(h.mutex_);
      for (auto it = h.timers_.begin(); it != h.timers_.end(); ++it)
        if (it->first.second == id) {
          h.timers_.erase(it);
          return;
        }
    };
    raw_.metric = [](void* c, gantry_bytes b) { return of(c).metric(from_abi(b)); };
    raw_.metric_add = [](void* c, std::uint32_t id, double v) {
      Host& h = of(c).host_;
      const std::lock_guard lock(h.mutex_);
      if (id == 0 || id > h.metrics_.size())
        h.fault("metric_add with unknown id " + std::to_string(id));
      else
        h.metrics_[id - 1].second += v;
    };
    raw_.now = [](void* c) { return of(c).host_.now_.load(); };
    raw_.wall = [](void* c) {
      return of(c).host_.now_.load() + static_cast<std::uint64_t>(of(c).host_.wall_offset_.load());
    };
    raw_.request_cancel = [](void* c, std::uint64_t t) { of(c).request_cancel(t); };
    raw_.extension = [](void*, const char*) -> const void* { return nullptr; };
    self_ = provider_.create(&raw_);
  }
  Instance(const Instance&) = delete;
  Instance& operator=(const Instance&) = delete;
  ~Instance() { destroy(); }

  // False if create() returned NULL.
  [[nodiscard]] bool created() const { return self_ != nullptr; }
  [[nodiscard]] void* self() const { return self_; }
  [[nodiscard]] Host& host() const { return host_; }

  // Values used by configure() for keys it is not given, as a manifest's defaults would be.
  void defaults(Values values) { defaults_ = std::move(values); }
  Status configure(const Values& values = {}, bool reload = false) {
    fb::ConfigureT c;
    std::map<std::string, std::unique_ptr<fb::SettingT>> all;
    for (const auto& [k, v] : defaults_) all[k] = v.setting(k, false);
    for (const auto& [k, v] : values) all[k] = v.setting(k, true);
    for (auto& [k, s] : all) c.settings.push_back(std::move(s));
    c.reload = reload;
    c.work_dir = work_dir_;
    c.revision = provider_.rev_max;
    c.roles = roles_;
    return configure(c);
  }
  Status configure(const fb::ConfigureT& c) { return call(GANTRY_METHOD_CONFIGURE, c); }
  void work_dir(std::string dir) { work_dir_ = std::move(dir); }
  void roles(std::vector<std::string> roles) { roles_ = std::move(roles); }  // what the kernel is; both unless told
  Status start() { return call(GANTRY_METHOD_START, Buffer()); }
  Status stop() { return call(GANTRY_METHOD_STOP, Buffer()); }

  // Calls a method and runs the host. For calls that take time or outside events use open().
  template <class Reply = void, class Method, class Body>
  Outcome<Reply> call(Method method, const Body& body, CallOptions options = {}) {
    const Pending p = open(method, body, std::move(options));
    return p.template result<Reply>();
  }
  // Begins a call and runs what can run now.
  template <class Method, class Body>
  Pending open(Method method, const Body& body, CallOptions options = {}) {
    Pending p = enqueue(method, body, std::move(options));
    host_.run();
    return p;
  }
  // Begins a call without running anything.
  template <class Method, class Body>
  Pending enqueue(Method method, const Body& body, CallOptions options = {}) {
    auto s = std::make_shared<detail::CallState>();
    s->method = static_cast<std::uint32_t>(method);
    if constexpr (std::is_convertible_v<const Body&, Bytes>)
      s->body = Buffer(Bytes(body));
    else
      s->body = pack(body);
    s->fds = std::move(options.fds);
    s->deadline_ns = static_cast<std::uint64_t>(options.deadline.count());
    {
      const std::lock_guard lock(host_.mutex_);
      s->token = ++last_token_;
      calls_[s->token] = s;
    }
    host_.push(this, [this, s] {
      gantry_call c{};
      c.size = sizeof c;
      c.method = s->method;
      c.token = s->token;
      c.deadline_ns = s->deadline_ns;
      c.body = to_abi(s->body);
      c.fds = s->fds.data();
      c.nfds = static_cast<std::uint32_t>(s->fds.size());
      provider_.call(self_, &c);
    });
    return Pending(this, std::move(s));
  }

  // Destroys the instance now. Reports calls that are still open.
  void destroy() {
    if (!self_) return;
    host_.run();
    {
      const std::lock_guard lock(host_.mutex_);
      for (const auto& [token, s] : calls_)
        if (!s->done)
          host_.fault("call of method " + std::to_string(s->method) + " (token " + std::to_string(token) +
                      ") still open at destroy");
    }
    void* self = self_;
    provider_.destroy(self);
    self_ = nullptr;
    *alive_ = nullptr;
    const std::lock_guard lock(host_.mutex_);
    std::erase_if(host_.queue_, [this](const Host::Entry& e) { return e.owner == this; });
    const std::size_t left = std::erase_if(host_.timers_, [this](const auto& t) { return t.second.owner == this; });
    if (left) host_.fault(std::to_string(left) + " timers left behind at destroy");
  }

 protected:
  [[nodiscard]] const gantry_host* raw() const { return &raw_; }

 private:
  friend class Pending;
  friend class Asked;
  static Instance& of(void* ctx) { return *static_cast<Instance*>(ctx); }

  void log(std::uint32_t level, Bytes bytes) {
    const auto* r = view<fb::LogRecord>(bytes);
    const std::lock_guard lock(host_.mutex_);
    if (!r) return host_.fault("malformed LogRecord");
    Log l{static_cast<Level>(level), std::string(text(r->message())), {}};
    if (r->fields())
      for (const auto* f : *r->fields()) l.fields[std::string(text(f->key()))] = text(f->value());
    host_.logs_.push_back(std::move(l));
    host_.poked_ = true;
    host_.work_.notify_all();
  }
  std::uint32_t metric(Bytes bytes) {
    const auto* d = view<fb::MetricDesc>(bytes);
    const std::lock_guard lock(host_.mutex_);
    if (!d) {
      host_.fault("malformed MetricDesc");
      return 0;
    }
    for (std::size_t i = 0; i < host_.metrics_.size(); ++i)
      if (host_.metrics_[i].first == text(d->name())) return static_cast<std::uint32_t>(i + 1);
    host_.metrics_.emplace_back(std::string(text(d->name())), 0.0);
    return static_cast<std::uint32_t>(host_.metrics_.size());
  }
  void complete(std::uint64_t token, gantry_code code, Bytes bytes) {
    const std::lock_guard lock(host_.mutex_);
    const auto it = calls_.find(token);
    if (it == calls_.end()) return host_.fault("completion of unknown token " + std::to_string(token));
    detail::CallState& s = *it->second;
    const std::string what = "method " + std::to_string(s.method) + " (token " + std::to_string(token) + ")";
    if (s.done) return host_.fault((code == GANTRY_MORE ? "chunk after the end of " : "second completion of ") + what);
    if (code > GANTRY_MORE || code < GANTRY_UNAUTHENTICATED)
      host_.fault("completion of " + what + " with code " + std::to_string(code) + " outside the catalogue");
    if (code < 0 && !bytes.empty() && !view<fb::Error>(bytes)) host_.fault("malformed Error from " + what);
    if (code == GANTRY_MORE) {
      s.chunks.emplace_back(bytes);
    } else {
      s.reply = Buffer(bytes);
      s.code = code;
      s.done = true;
      s.body = Buffer();  // its life ends here: a module that reads on is caught by AddressSanitizer
    }
    host_.poked_ = true;
    host_.work_.notify_all();
  }
  gantry_code request(std::uint32_t service, std::uint32_t method, Bytes body, std::uint64_t token) {
    const auto id = static_cast<fb::host::Service>(service);
    Asked a;
    a.service = id;
    a.method = method;
    a.token = token;
    a.body.assign(body.begin(), body.end());
    a.instance_ = alive_;
    {
      const std::lock_guard lock(host_.mutex_);
      if (!host_.handlers_.count(id)) return GANTRY_UNAVAILABLE;
      requests_[token] = a.cancelled_;
    }
    host_.push(this, [this, id, a = std::move(a)] {
      const Handler handler = host_.handlers_[id];
      if (handler) handler(a);
    });
    return GANTRY_OK;
  }
  void request_cancel(std::uint64_t token) {
    const std::lock_guard lock(host_.mutex_);
    const auto it = requests_.find(token);
    if (it != requests_.end()) *it->second = true;
  }
  void deliver(std::uint64_t token, gantry_code code, Bytes bytes) {
    {
      const std::lock_guard lock(host_.mutex_);
      if (!requests_.count(token)) return;
      if (code != GANTRY_MORE) requests_.erase(token);
    }
    host_.push(this, [this, token, code, b = std::make_shared<Buffer>(bytes)] {
      provider_.reply(self_, token, code, to_abi(*b));
    });
  }

  Host& host_;
  gantry_provider provider_;
  gantry_host raw_{};
  void* self_ = nullptr;
  std::shared_ptr<Instance*> alive_ = std::make_shared<Instance*>(this);
  std::map<std::uint64_t, std::shared_ptr<detail::CallState>> calls_;  // guarded by host_.mutex_, as are requests_
  std::map<std::uint64_t, std::shared_ptr<bool>> requests_;
  std::uint64_t last_token_ = 0;
  Values defaults_;
  std::string work_dir_;
  std::vector<std::string> roles_ = {"master", "agent"};
};

// A module class under test.
template <class M>
class Subject : public Instance {
 public:
  Subject(Host& host, const char* name) : Instance(host, provider<M>(name)) {}
  [[nodiscard]] M& operator*() const { return *get(); }
  [[nodiscard]] M* operator->() const { return get(); }

 private:
  [[nodiscard]] M* get() const { return static_cast<M*>(static_cast<Module*>(self())); }
};

inline bool Pending::done() const {
  const std::lock_guard lock(instance_->host_.mutex_);
  return state_->done;
}
inline void Pending::cancel() const {
  instance_->host_.push(instance_, [i = instance_, s = state_] {
    if (!s->done) i->provider_.cancel(i->self_, s->token);
  });
}
template <class T>
Outcome<T> Pending::result() const {
  if (!done())
    return v1::fail(Code::unavailable, "method " + std::to_string(state_->method) +
                                           " has not completed; use open() and advance() or run_until()");
  if (state_->code != GANTRY_OK) return unpack_error(state_->code, state_->reply);
  if constexpr (std::is_void_v<T>)
    return v1::ok;
  else if constexpr (std::is_same_v<T, Buffer>)
    return Buffer(Bytes(state_->reply));
  else
    return unpack<T>(Bytes(state_->reply));
}
inline void Asked::reply(gantry_code code, Bytes bytes) const {
  if (const auto i = instance_.lock(); i && *i) (*i)->deliver(token, code, bytes);
}

}  // namespace gantry::testing
