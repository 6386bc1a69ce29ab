// The base of every module class, the thunks that carry calls to it, and GANTRY_MODULE, which exports it.
//
// A module class derives from its kind's base (<gantry/isolator.hpp>, ...), overrides coroutines, and is exported by
// GANTRY_MODULE(Class, "name") in a file of its own, so that tests can link the class without the symbol.
#pragma once

#include <gantry/host.hpp>

#include <exception>
#include <map>
#include <memory>
#include <typeinfo>

namespace gantry {
inline namespace v1 {

class Module;

// The obligation to answer one call: completes it exactly once. Dropping it unanswered completes with CANCELLED.
// Movable, on the strand; complete() and more() may be used from any thread.
class Responder {
 public:
  Responder() = default;
  Responder(const gantry_host* host, std::uint64_t token) : host_(host), token_(token) {}
  Responder(Responder&& o) noexcept : host_(std::exchange(o.host_, nullptr)), token_(o.token_) {}
  Responder& operator=(Responder&& o) noexcept {
    if (this != &o) {
      drop();
      host_ = std::exchange(o.host_, nullptr);
      token_ = o.token_;
    }
    return *this;
  }
  ~Responder() { drop(); }

  [[nodiscard]] std::uint64_t token() const { return token_; }
  [[nodiscard]] bool open() const { return host_ != nullptr; }
  void more(Bytes chunk) const {
    if (host_) host_->complete(host_->ctx, token_, GANTRY_MORE, to_abi(chunk));
  }
  void complete(Bytes reply = {}) {
    if (auto* h = std::exchange(host_, nullptr)) h->complete(h->ctx, token_, GANTRY_OK, to_abi(reply));
  }
  void fail(const Error& error) {
    if (auto* h = std::exchange(host_, nullptr)) {
      const Buffer b = pack_error(error);
      h->complete(h->ctx, token_, static_cast<gantry_code>(error.code), to_abi(b));
    }
  }

 private:
  void drop() {
    if (host_) fail(Error{Code::cancelled, "dropped by the module", {}, 0, {}});
  }
  const gantry_host* host_ = nullptr;
  std::uint64_t token_ = 0;
};

// The verified body of a call. The bytes live until the call is completed, so a coroutine may suspend and read on.
template <class T>
class Request {
 public:
  Request(const T* table, std::uint64_t deadline_ns, std::vector<std::int32_t> fds)
      : table_(table), deadline_ns_(deadline_ns), fds_(std::move(fds)) {}
  const T* operator->() const { return table_; }
  const T& operator*() const { return *table_; }
  [[nodiscard]] std::uint64_t deadline_ns() const { return deadline_ns_; }  // CLOCK_MONOTONIC, 0 = none
  [[nodiscard]] const std::vector<std::int32_t>& fds() const { return fds_; }  // borrowed until completion

 private:
  const T* table_;
  std::uint64_t deadline_ns_;
  std::vector<std::int32_t> fds_;
};

// Settings handed to configure(): validated and complete, so a missing key is a bug in the manifest. Reading one as another
// type than it came with gives nothing, and CONFIGURE is answered with INVALID_ARGUMENT naming it, whatever configure() says.
class Settings {
 public:
  explicit Settings(fb::ConfigureT c) : c_(std::move(c)) {
    for (const auto& s : c_.settings) by_key_[s->key] = s.get();
  }
  [[nodiscard]] bool reload() const { return c_.reload; }
  [[nodiscard]] const std::string& work_dir() const { return c_.work_dir; }
  [[nodiscard]] const std::vector<std::string>& roles() const { return c_.roles; }
  [[nodiscard]] bool given(std::string_view key) const { return at(key).given; }
  [[nodiscard]] const std::string& text(std::string_view key) const { return as(key, {Type::STRING}).text; }
  [[nodiscard]] std::int64_t number(std::string_view key) const { return as(key, {Type::INT, Type::SIZE, Type::DURATION}).number; }
  [[nodiscard]] double real(std::string_view key) const { return as(key, {Type::FLOAT, Type::INT}).real; }
  [[nodiscard]] bool flag(std::string_view key) const { return as(key, {Type::BOOL}).flag; }
  [[nodiscard]] std::chrono::nanoseconds duration(std::string_view key) const {
    return std::chrono::nanoseconds(as(key, {Type::DURATION, Type::INT}).number);
  }
  [[nodiscard]] const std::vector<std::string>& list(std::string_view key) const { return as(key, {Type::LIST, Type::MAP}).items; }

 private:
  friend class Module;
  using Type = fb::SettingType;
  [[nodiscard]] const fb::SettingT& at(std::string_view key) const {
    static const fb::SettingT none;
    const auto it = by_key_.find(key);
    return it == by_key_.end() ? none : *it->second;
  }
  [[nodiscard]] const fb::SettingT& as(std::string_view key, std::initializer_list<Type> types) const {
    static const fb::SettingT none;
    const auto it = by_key_.find(key);
    if (it == by_key_.end()) return none;
    for (const Type t : types)
      if (it->second->type == t) return *it->second;
    if (wrong_->empty()) *wrong_ = it->first;
    return none;
  }
  std::shared_ptr<std::string> wrong_ = std::make_shared<std::string>();  // key read as a type it has not
  fb::ConfigureT c_;
  std::map<std::string, const fb::SettingT*, std::less<>> by_key_;
};

// Lifecycle: create -> configure -> start -> recover (if the kind has it) -> calls -> stop -> destroy, all on the strand.
// host() is valid from configure to the end of the destructor.
class Module {
 public:
  virtual ~Module() = default;

  virtual Task<Status> configure(Settings) { co_return ok; }
  virtual Task<Status> start() { co_return ok; }
  // Drain: finish or give up what runs, then return. Streams that are still open are completed by their responders.
  virtual Task<Status> stop() { co_return ok; }
  virtual Task<Result<fb::HealthT>> health() { co_return fb::HealthT{}; }
  // The host no longer wants this call; answer it soon.
  virtual void cancelled(std::uint64_t /*token*/) {}

  [[nodiscard]] Host& host() const { return *host_; }

 protected:
  struct Call {
    std::uint32_t method;
    std::uint64_t deadline_ns;
    Bytes body;
    std::vector<std::int32_t> fds;
    Responder responder;
  };
  // A kind's base maps its methods here; unknown ones go to unimplemented().
  virtual void dispatch(Call call) = 0;

  static void unimplemented(Call& call) {
    call.responder.fail(v1::fail(Code::unimplemented, "method " + std::to_string(call.method) + " is not implemented"));
  }

  // Verifies the body as T, runs handler(Request<T>) and answers with its result: Status -> empty reply, Result<XT> ->
  // packed, Result<Buffer> -> as is.
  template <class T, class H>
  static void answer(Call call, H handler) {
    const T* table = view<T>(call.body);
    if (!table) {
      call.responder.fail(v1::fail(Code::invalid_argument, std::string("malformed ") + T::GetFullyQualifiedName()));
      return;
    }
    run(std::move(call.responder), handler(Request<T>(table, call.deadline_ns, std::move(call.fds))));
  }
  // The same for streams: handler(Request<T>, Responder) keeps the responder.
  template <class T, class H>
  static void answer_stream(Call call, H handler) {
    const T* table = view<T>(call.body);
    if (!table) {
      call.responder.fail(v1::fail(Code::invalid_argument, std::string("malformed ") + T::GetFullyQualifiedName()));
      return;
    }
    handler(Request<T>(table, call.deadline_ns, std::move(call.fds)), std::move(call.responder));
  }

  template <class R>
  static detail::Detached run(Responder responder, Task<Result<R>> task) {
    try {
      Result<R> result = co_await std::move(task);
      if (!result.has_value()) responder.fail(result.error());
      else if constexpr (std::is_void_v<R>) responder.complete();
      else if constexpr (std::is_same_v<R, Buffer>) responder.complete(Bytes(*result));
      else responder.complete(Bytes(pack(*result)));
    } catch (const std::exception& e) {
      responder.fail(v1::fail(Code::internal, std::string("exception ") + typeid(e).name() + ": " + e.what()));
    } catch (...) {
      responder.fail(v1::fail(Code::internal, "exception of an unknown type"));
    }
  }

 private:
  template <class M>
  friend struct Thunks;

  void configure_checked(Responder responder, Settings settings) {
    auto wrong = settings.wrong_;
    run(std::move(responder), typed(configure(std::move(settings)), std::move(wrong)));
  }
  static Task<Status> typed(Task<Status> configuring, std::shared_ptr<std::string> wrong) {
    Status s = co_await std::move(configuring);
    if (wrong->empty()) co_return s;
    co_return v1::fail(Code::invalid_argument, "setting " + *wrong + " is of another type than this module reads", *wrong);
  }
  void enter(const gantry_call* c) {
    Call call{c->method, c->deadline_ns, from_abi(c->body), {}, Responder(host_->raw(), c->token)};
    if (c->nfds) call.fds.assign(c->fds, c->fds + c->nfds);
    switch (c->method) {
      case GANTRY_METHOD_CONFIGURE: {
        auto configuration = unpack<fb::Configure>(call.body);
        if (!configuration) call.responder.fail(configuration.error());
        else configure_checked(std::move(call.responder), Settings(std::move(*configuration)));
        return;
      }
      case GANTRY_METHOD_START: run(std::move(call.responder), start()); return;
      case GANTRY_METHOD_STOP: run(std::move(call.responder), stop()); return;
      case GANTRY_METHOD_HEALTH: run(std::move(call.responder), health()); return;
      default: dispatch(std::move(call)); return;
    }
  }

  std::unique_ptr<Host> host_;
};

// C entry points of module class M. All noexcept: nothing is thrown across the line.
template <class M>
struct Thunks {
  static void* create(const gantry_host* host) noexcept {
    try {
      auto m = std::make_unique<M>();
      static_cast<Module&>(*m).host_ = std::make_unique<Host>(host);
      return static_cast<Module*>(m.release());
    } catch (...) {
      return nullptr;
    }
  }
  // An exception out of a handler that is no coroutine has dropped its responder on the way, which completed the call
  // with CANCELLED; what is left to do is to say so.
  template <class F>
  static void guarded(void* self, const char* where, F entry) noexcept {
    auto* m = static_cast<Module*>(self);
    try {
      try {
        entry(m);
      } catch (const std::exception& e) {
        m->host_->error(std::string("exception out of ") + where, {{"type", typeid(e).name()}, {"what", e.what()}});
      } catch (...) {
        m->host_->error(std::string("exception of an unknown type out of ") + where);
      }
    } catch (...) {
    }
  }
  static void call(void* self, const gantry_call* c) noexcept {
    guarded(self, "call", [c](Module* m) { m->enter(c); });
  }
  static void reply(void* self, std::uint64_t token, gantry_code code, gantry_bytes body) noexcept {
    guarded(self, "reply", [=](Module* m) { m->host_->on_reply_from_host(token, code, from_abi(body)); });
  }
  static void cancel(void* self, std::uint64_t token) noexcept {
    guarded(self, "cancel", [token](Module* m) { m->cancelled(token); });
  }
  static void destroy(void* self) noexcept {
    auto* m = static_cast<Module*>(self);
    m->host_->close();
    delete m;  // host_ is a member of the base, so it outlives the members of M
  }
  static const void* extension(void*, const char*) noexcept { return nullptr; }
};

// The provider record of module class M; M::kind and M::revision come from the kind's base class.
template <class M>
[[nodiscard]] constexpr gantry_provider provider(const char* name, std::uint32_t flags = 0) {
  return gantry_provider{sizeof(gantry_provider), flags,        M::kind,          name,
                         M::revision,             M::revision,  0,                &Thunks<M>::create,
                         &Thunks<M>::call,        &Thunks<M>::reply, &Thunks<M>::cancel, &Thunks<M>::destroy,
                         &Thunks<M>::extension};
}

}  // namespace v1
}  // namespace gantry

#define GANTRY_STRINGIFY2_(x) #x
#define GANTRY_STRINGIFY_(x) GANTRY_STRINGIFY2_(x)
#if defined(__clang__)
#define GANTRY_BUILD_ "clang " __clang_version__
#else
#define GANTRY_BUILD_ "gcc " __VERSION__
#endif

// Exports module class M as provider `name`. Use once per .so, in a file of its own.
#define GANTRY_MODULE(M, name)                                                                             \
  static constexpr gantry_provider gantry_provider_table_[] = {::gantry::provider<M>(name)};               \
  extern "C" {                                                                                             \
  extern const gantry_module gantry_module_v1 __attribute__((visibility("default")));                      \
  const gantry_module gantry_module_v1 = {GANTRY_MAGIC, GANTRY_ABI_MAJOR, GANTRY_ABI_MINOR,                \
                                          sizeof(gantry_module), 1, sizeof(gantry_provider),               \
                                          gantry_provider_table_, GANTRY_BUILD_};                          \
  }
