// The module's half of an instance: the functions of gantry_host, callable from any thread, and the entries into the
// module on its strand.
#include "kernel/base/log.hpp"
#include "kernel/module/core.hpp"

#include <algorithm>
#include <typeinfo>

namespace gantry::module {

static_assert(sizeof(std::atomic<std::uint32_t>) == sizeof(std::uint32_t),
              "modules read the threshold as a plain word");

void Core::fill(gantry_host& h) {
  h.size = sizeof(gantry_host);
  h.abi_minor = GANTRY_ABI_MINOR;
  h.log_threshold = reinterpret_cast<const std::uint32_t*>(&base::log_threshold());
  h.log = [](void* c, std::uint32_t level, gantry_bytes b) { of(c).log(level, from_abi(b)); };
  h.complete = [](void* c, std::uint64_t token, gantry_code code, gantry_bytes b) {
    Core& core = of(c);
    Said s{Said::What::complete};
    s.token = token;
    s.code = code;
    if (code == GANTRY_MORE) {
      const std::size_t waiting = core.said_.bytes();
      if (waiting > 2 * core.setup.queue_bytes) {
        core.lost_.fetch_add(1);
        return;
      }
      if (waiting + b.len > core.setup.queue_bytes) {
        s.what = Said::What::overflow;
        return core.say(s);
      }
    }
    core.say(s, from_abi(b));
  };
  h.request = [](void* c, std::uint32_t service, std::uint32_t method, gantry_bytes b,
                 std::uint64_t token) -> gantry_code {
    Core& core = of(c);
    if (core.said_.bytes() + b.len > core.setup.queue_bytes) return GANTRY_RESOURCE_EXHAUSTED;
    Said s{Said::What::request};
    s.service = service;
    s.method = method;
    s.token = token;
    core.say(s, from_abi(b));
    return GANTRY_OK;
  };
  h.post = [](void* c, void (*fn)(void*), void* arg) {
    Entry e;
    e.what = Entry::What::post;
    e.fn = fn;
    e.arg = arg;
    of(c).strand->post(e);
  };
  h.offload = [](void* c, void (*fn)(void*), void* arg) { of(c).offload(fn, arg); };
  h.timer = [](void* c, std::uint64_t at, void (*fn)(void*), void* arg) { return of(c).timer(at, fn, arg); };
  h.timer_cancel = [](void* c, std::uint64_t id) { of(c).timer_cancel(id); };
  h.metric = [](void* c, gantry_bytes b) { return of(c).metric(from_abi(b)); };
  h.metric_add = [](void* c, std::uint32_t id, double v) {
    const InstanceSetup& s = of(c).setup;
    s.outlet ? s.outlet->metric_add(id, v) : s.metrics->add(id, v);
  };
  h.now = [](void* c) { return static_cast<std::uint64_t>(of(c).setup.loop->now().count()); };
  h.wall = [](void* c) { return static_cast<std::uint64_t>(of(c).setup.loop->wall()); };
  h.request_cancel = [](void* c, std::uint64_t token) {
    Said s{Said::What::request_cancel};
    s.token = token;
    of(c).say(s);
  };
  h.extension = [](void*, const char*) -> const void* { return nullptr; };
}

void Core::say(const Said& s, Bytes bytes) {
  if (said_.push(s, bytes)) setup.loop->post([self = shared_from_this()] { self->drain(); });
}

bool Core::may_log() {
  std::uint64_t dropped = 0;
  if (!log_budget_.take(setup.loop->now(), dropped)) return false;
  if (dropped) note("logs too much; records were dropped", {{"dropped", std::to_string(dropped)}});
  return true;
}

void Core::note(std::string_view what, std::initializer_list<base::LogField> fields) {
  if (!setup.outlet) return base::log_warning(id, what, fields);
  fb::LogRecordT record;
  record.message = what;
  for (const base::LogField& f : fields) {
    auto field = std::make_unique<fb::LogFieldT>();
    field->key = f.key;
    field->value = f.value;
    record.fields.push_back(std::move(field));
  }
  setup.outlet->log(GANTRY_LOG_WARNING, pack(record));
}

void Core::log(std::uint32_t level, Bytes bytes) {
  level = std::min<std::uint32_t>(level, GANTRY_LOG_ERROR);
  if (level < base::log_threshold().load(std::memory_order_relaxed) || !may_log()) return;
  setup.outlet ? setup.outlet->log(level, bytes) : write_record(id, level, bytes);
}

std::uint32_t Core::metric(Bytes bytes) {
  if (setup.outlet) return setup.outlet->metric(bytes);
  const auto* d = view<fb::MetricDesc>(bytes);
  if (!d || text(d->name()).empty()) return 0;
  // Names are the instance's own: two modules may count "requests" without knowing of each other.
  return setup.metrics->id(id + "/" + std::string(text(d->name())),
                           static_cast<base::MetricKind>(std::clamp<int>(static_cast<int>(d->kind()), 0, 2)),
                           text(d->unit()), text(d->help()));
}

std::uint64_t Core::timer(std::uint64_t at, void (*fn)(void*), void* arg) {
  Said s{Said::What::timer};
  s.at = std::min<std::uint64_t>(at, static_cast<std::uint64_t>(base::Instant::max().count()));
  {
    const std::lock_guard lock(timers_mutex_);
    s.token = ++last_timer_;
    timers_[s.token] = {fn, arg};
  }
  say(s);
  return s.token;
}

void Core::timer_cancel(std::uint64_t timer) {
  {
    const std::lock_guard lock(timers_mutex_);
    if (timers_.erase(timer) == 0) return;
  }
  Said s{Said::What::timer_cancel};
  s.token = timer;
  say(s);
}

void Core::offload(void (*fn)(void*), void* arg) {
  offloads_.fetch_add(1);
  setup.loop->offload(
      [self = shared_from_this(), fn, arg] {
        fn(arg);
        self->offloads_.fetch_sub(1);
      },
      [self = shared_from_this()] { self->check_quiet(); });
}

// ---- entries, on the strand

void Core::enter(const Entry& e, Bytes bytes) {
  std::string what;
  try {
    return enter_module(e, bytes);
  } catch (const std::exception& x) {
    what = std::string(typeid(x).name()) + ": " + x.what();
  } catch (...) {
    what = "of a foreign type";
  }
  // Nothing may be thrown across the line; a module that does so has broken its call, not the daemon.
  Said s{Said::What::threw};
  if (e.what == Entry::What::call) s.token = e.token;
  say(s, as_bytes(what));
  if (e.what == Entry::What::create) say({Said::What::created, GANTRY_INTERNAL});
  if (e.what == Entry::What::destroy) say({Said::What::destroyed, GANTRY_INTERNAL});
}

void Core::enter_module(const Entry& e, Bytes bytes) {
  const gantry_provider& p = setup.provider;
  switch (e.what) {
    case Entry::What::create:
      self_ = p.create(&host_);
      say({Said::What::created, self_ ? GANTRY_OK : GANTRY_RESOURCE_EXHAUSTED});
      return;
    case Entry::What::destroy:
      if (void* self = std::exchange(self_, nullptr)) p.destroy(self);
      say({Said::What::destroyed, GANTRY_OK});
      return;
    default:
      break;
  }
  if (!self_) return;  // something came after destroy
  switch (e.what) {
    case Entry::What::call: {
      auto& s = *static_cast<Slot*>(e.arg);
      s.entered.store(true, std::memory_order_release);
      gantry_call c{};
      c.size = sizeof c;
      c.method = s.method;
      c.token = e.token;
      c.deadline_ns = s.deadline_ns;
      c.body = to_abi(s.body);
      c.fds = s.raw_fds.data();
      c.nfds = static_cast<std::uint32_t>(s.raw_fds.size());
      return p.call(self_, &c);
    }
    case Entry::What::reply:
      if (p.reply) p.reply(self_, e.token, e.code, to_abi(bytes));
      return;
    case Entry::What::cancel:
      if (p.cancel) p.cancel(self_, e.token);
      return;
    case Entry::What::post:
      return e.fn(e.arg);
    case Entry::What::timer: {
      Timer t{};
      {
        const std::lock_guard lock(timers_mutex_);
        const auto it = timers_.find(e.token);
        if (it == timers_.end()) return;  // cancelled between due and now
        t = it->second;
        timers_.erase(it);
      }
      return t.fn(t.arg);
    }
    default:
      return;
  }
}

}  // namespace gantry::module
