#include "shim.hpp"

#include <gantry/common_generated.h>
#include <gantry/isolator_generated.h>

#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <thread>

namespace broken {
namespace {

constexpr std::uint64_t own_token = std::uint64_t{1} << 63;

}  // namespace

Shim::Shim(const gantry_host* real) : real_(real), inner_(inner_provider()) {
  host_ = *real;
  host_.size = sizeof host_;
  host_.ctx = this;
  host_.log = [](void* c, std::uint32_t level, gantry_bytes b) { of(c).real_->log(of(c).real_->ctx, level, b); };
  host_.complete = [](void* c, std::uint64_t token, gantry_code code, gantry_bytes b) {
    Shim& s = of(c);
    if (!(token & own_token)) return s.complete(token, code, gantry::from_abi(b));
    if (code == GANTRY_MORE) return;
    Own own;
    {
      const std::lock_guard lock(s.mutex_);
      const auto it = s.own_.find(token);
      if (it == s.own_.end()) return;
      own = std::move(it->second);
      s.own_.erase(it);
    }
    own.on_done(code, gantry::from_abi(b));
  };
  host_.request = [](void* c, std::uint32_t service, std::uint32_t method, gantry_bytes b, std::uint64_t token) {
    return of(c).request(service, method, gantry::from_abi(b), token);
  };
  host_.post = [](void* c, void (*fn)(void*), void* arg) { of(c).real_->post(of(c).real_->ctx, fn, arg); };
  host_.offload = [](void* c, void (*fn)(void*), void* arg) { of(c).real_->offload(of(c).real_->ctx, fn, arg); };
  host_.timer = [](void* c, std::uint64_t at, void (*fn)(void*), void* arg) { return of(c).real_->timer(of(c).real_->ctx, at, fn, arg); };
  host_.timer_cancel = [](void* c, std::uint64_t id) { of(c).real_->timer_cancel(of(c).real_->ctx, id); };
  host_.metric = [](void* c, gantry_bytes b) { return of(c).real_->metric(of(c).real_->ctx, b); };
  host_.metric_add = [](void* c, std::uint32_t id, double v) { of(c).real_->metric_add(of(c).real_->ctx, id, v); };
  host_.now = [](void* c) { return of(c).real_->now(of(c).real_->ctx); };
  host_.wall = [](void* c) { return of(c).real_->wall(of(c).real_->ctx); };
  host_.request_cancel = [](void* c, std::uint64_t token) { of(c).real_->request_cancel(of(c).real_->ctx, token); };
  host_.extension = [](void* c, const char* id) { return of(c).real_->extension(of(c).real_->ctx, id); };
}

bool Shim::begin() {
  self_ = inner_.create(&host_);
  return self_ != nullptr;
}

void Shim::own_call(std::uint32_t method, Buffer body, OnDone on_done) {
  gantry_call c{};
  c.size = sizeof c;
  c.method = method;
  {
    const std::lock_guard lock(mutex_);
    c.token = own_token | ++last_;
    Own& own = own_[c.token];
    own.body = std::move(body);  // lives until the completion, as the contract wants
    own.on_done = std::move(on_done);
    c.body = gantry::to_abi(own.body);
  }
  inner_.call(self_, &c);
}

void Shim::later(std::uint64_t ms, std::function<void()> fn) {
  real_->timer(
      real_->ctx, real_->now(real_->ctx) + ms * 1'000'000,
      [](void* p) {
        const std::unique_ptr<std::function<void()>> f(static_cast<std::function<void()>*>(p));
        (*f)();
      },
      new std::function<void()>(std::move(fn)));
}

namespace {

using std::chrono::milliseconds;

void nap(int ms) { std::this_thread::sleep_for(milliseconds(ms)); }

void log(const gantry_host* h, const char* text) {
  gantry::fb::LogRecordT r;
  r.message = text;
  const Buffer b = gantry::pack(r);
  h->log(h->ctx, GANTRY_LOG_WARNING, gantry::to_abi(b));
}

// Runs fn on a thread of its own and waits for it inside the host's pool, so that destroy comes after it.
void behind(const gantry_host* h, std::function<void()> fn) {
  h->offload(
      h->ctx,
      [](void* p) {
        const std::unique_ptr<std::function<void()>> f(static_cast<std::function<void()>*>(p));
        (*f)();
      },
      new std::function<void()>(std::move(fn)));
}

// The faults that any kind can have. Those about one call choose the first method of the kind, 16.
class Faulty final {
 public:
  explicit Faulty(const gantry_host* h) : host(h), shim(make_shim(h)), creator(std::this_thread::get_id()) {}

  void call(const gantry_call& c) {
    const auto done = [&](gantry_code code, Bytes body = {}) { host->complete(host->ctx, c.token, code, gantry::to_abi(body)); };
    if (c.method == 0) {
      if (fault("crash_in_configure")) *static_cast<volatile int*>(nullptr) = 1;
      const auto* settings = gantry::view<gantry::fb::Configure>(gantry::from_abi(c.body));
      if (!settings && fault("accepts_any_configure")) return done(GANTRY_OK);
      if (const char* key = settings ? wrong_type(*settings) : nullptr; key && !fault("ignores_wrong_types")) {
        const Buffer e = gantry::pack_error(gantry::fail(gantry::Code::invalid_argument, std::string("setting ") + key + " has the wrong type", key));
        return done(GANTRY_INVALID_ARGUMENT, e);
      }
      if (fault("refuses_defaults")) {
        const Buffer e = gantry::pack_error(gantry::fail(gantry::Code::invalid_argument, "the limit must be set", "limit"));
        return done(GANTRY_INVALID_ARGUMENT, e);
      }
      if (fault("refuses_reload")) {
        if (settings && settings->reload()) {
          const Buffer e = gantry::pack_error(gantry::fail(gantry::Code::failed_precondition, "I am running already"));
          return done(GANTRY_FAILED_PRECONDITION, e);
        }
      }
    }
    if (c.method == 1 && fault("slow_start")) return;
    if (c.method == 2) {
      if (fault("stop_never_answers")) return;
      if (fault("talks_after_stop")) {
        shim->call(c);
        behind(host, [h = host] {
          nap(80);
          log(h, "just one more thing");
        });
        return;
      }
      if (fault("completes_after_stop")) {
        shim->call(c);
        behind(host, [h = host, token = c.token] {
          nap(80);
          h->complete(h->ctx, token, GANTRY_OK, {});
        });
        return;
      }
    }
    if (fault("unknown_method_ok") && c.method > 50) return done(GANTRY_OK);
    if (fault("floods_logs")) {
      for (int i = 0; i < 2000; ++i) log(host, "I was called, and I think everybody should know");
    }
    if (fault("thread_affine") && std::this_thread::get_id() != creator && c.method > 2) {
      const Buffer e = gantry::pack_error(gantry::fail(gantry::Code::internal, "this is not my thread"));
      return done(GANTRY_INTERNAL, e);
    }
    if (c.method == 16) {
      if (fault("throws_over_the_line")) throw std::runtime_error("thrown over the line");
      if (fault("never_completes")) return;
      if (fault("garbage_reply")) return done(GANTRY_OK, noise());
      if (fault("garbage_error")) return done(GANTRY_NOT_FOUND, noise());
      if (fault("code_of_its_own")) return done(-99);
      if (fault("errors_without_words")) return done(GANTRY_UNKNOWN);
      if (fault("blocks_the_strand")) nap(400);
      if (fault("blocks_for_ever"))
        for (;;) nap(1000);
      if (fault("double_completion")) {
        // The second one a little later, from another thread: the usual way it happens.
        shim->call(c);
        behind(host, [h = host, token = c.token] {
          nap(5);
          h->complete(h->ctx, token, GANTRY_OK, {});
        });
        return;
      }
      if (fault("crash_on_garbage") && !well_formed(c)) std::abort();
      if (fault("accepts_garbage") && !well_formed(c)) return done(GANTRY_OK);
      if (fault("exits")) ::_exit(0);
    }
    shim->call(c);
  }

  // Of the sound isolator's settings (isolator.toml).
  static const char* wrong_type(const gantry::fb::Configure& c) {
    using gantry::fb::SettingType;
    if (!c.settings()) return nullptr;
    for (const auto* s : *c.settings()) {
      const auto key = gantry::text(s->key());
      if (key == "limit" && s->type() != SettingType::INT) return "limit";
      if (key == "label" && s->type() != SettingType::STRING) return "label";
    }
    return nullptr;
  }

  static Bytes noise() {
    static const std::uint8_t bytes[48] = {0xa5, 0xa5, 0xa5, 0x7f, 0xff};
    return bytes;
  }
  // Method 16 of the isolator these faults are tried on.
  static bool well_formed(const gantry_call& c) {
    return gantry::view<gantry::fb::isolator::Prepare>(gantry::from_abi(c.body)) != nullptr;
  }

  const gantry_host* host;
  std::unique_ptr<Shim> shim;
  std::thread::id creator;
  std::uint64_t last_token = 0;
};

}  // namespace
}  // namespace broken

extern "C" {

void* broken_create(const gantry_host* host) {
  using broken::fault;
  if (fault("create_null")) return nullptr;
  if (fault("create_leaks_descriptor")) (void)::open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (fault("create_leaks_thread")) std::thread([] { std::this_thread::sleep_for(std::chrono::hours(1)); }).detach();
  if (fault("create_leaks_memory")) {
    static volatile char* sink;
    sink = static_cast<char*>(std::malloc(4096));
    sink[0] = 1;
  }
  if (fault("create_slow")) std::this_thread::sleep_for(std::chrono::milliseconds(60));
  auto f = std::make_unique<broken::Faulty>(host);
  if (!f->shim->begin()) return nullptr;
  return f.release();
}

void broken_call(void* self, const gantry_call* c) {
  auto* f = static_cast<broken::Faulty*>(self);
  f->last_token = c->token;
  f->call(*c);
}

void broken_reply(void* self, uint64_t token, gantry_code code, gantry_bytes body) {
  static_cast<broken::Faulty*>(self)->shim->reply(token, code, gantry::from_abi(body));
}

void broken_cancel(void* self, uint64_t token) {
  if (!broken::fault("ignores_cancel")) static_cast<broken::Faulty*>(self)->shim->cancel(token);
}

void broken_destroy(void* self) {
  const std::unique_ptr<broken::Faulty> f(static_cast<broken::Faulty*>(self));
  if (broken::fault("calls_from_destroy")) {
    broken::log(f->host, "good bye");
    f->host->complete(f->host->ctx, f->last_token, GANTRY_OK, {});
  }
  f->shim->end();
}
}
