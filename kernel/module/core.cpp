// The loop's half of an instance: token table, deadlines, service requests. The module's half is core_host.cpp.
#include "kernel/module/core.hpp"

#include "kernel/base/log.hpp"
#include "kernel/module/trace.hpp"

#include <fcntl.h>

#include <algorithm>

namespace gantry::module {
namespace {

constexpr std::size_t max_open_calls = 1 << 20;

}  // namespace

Core::Core(InstanceSetup s)
    : setup(std::move(s)),
      id(setup.kind + "." + setup.name),
      log_budget_(setup.log_rate, setup.log_burst),
      requests_({id, setup.services, setup.allowed, setup.queue_bytes,
                 [this](std::uint32_t service, std::uint64_t token, gantry_code code, Bytes bytes) {
                   Entry e;
                   e.what = Entry::What::reply;
                   e.method = service;
                   e.token = token;
                   e.code = code;
                   strand->post(e, bytes);
                 },
                 [this] { return strand->backlog(); }, [this](std::string_view what) { fault(what); }}) {
  fill(host_);
  host_.ctx = this;
  calls_metric_ = setup.metrics->id(id + "/calls", base::MetricKind::counter, "1", "calls made to the instance");
  faults_metric_ =
      setup.metrics->id(id + "/faults", base::MetricKind::counter, "1", "breaches of the ABI by the instance");
}

Core::~Core() = default;

void Core::init() {
  requests_.bind(std::shared_ptr<Requests>(shared_from_this(), &requests_));
  // The strand is owned by this object and its runner must not own it back; whoever has work in flight holds a
  // shared_ptr through the entries' wake (drain) or is the owner, who ends the strand's work before letting go.
  strand = setup.strands->make(id, (setup.provider.flags & GANTRY_BLOCKING) != 0,
                               [weak = weak_from_this()](const Entry& e, Bytes b) {
                                 if (const auto self = weak.lock()) self->enter(e, b);
                               });
}

Counters Core::counters() const {
  Counters c = counters_;
  c.slow = strand->slow();
  return c;
}

void Core::fault(std::string_view what) {
  ++counters_.faults;
  setup.metrics->add(faults_metric_);
  if (tracer_) tracer_->fault(what);
  if (may_log()) note(what);
}

void Core::refuse(OnReply on_reply, Error error) {
  setup.loop->post([on_reply = std::move(on_reply), error = std::move(error)]() mutable {
    const Buffer b = pack_error(error);
    if (on_reply) on_reply(static_cast<gantry_code>(error.code), b);
  });
}

// ---- calls

std::uint64_t Core::call(std::uint32_t method, Buffer body, OnReply on_reply, CallOptions options) {
  ++counters_.calls;
  setup.metrics->add(calls_metric_);
  if (open_calls_ >= max_open_calls) {
    refuse(std::move(on_reply), fail(Code::resource_exhausted, id + " has " + std::to_string(open_calls_) +
                                                                   " calls open; it does not complete them"));
    return 0;
  }
  std::vector<base::Fd> fds;
  for (const int fd : options.fds) {
    // Our own: a caller that stops waiting closes its descriptors while the module may still use them.
    base::Fd copy(::fcntl(fd, F_DUPFD_CLOEXEC, 3));
    if (!copy) {
      refuse(std::move(on_reply), fail(Code::invalid_argument, "descriptor " + std::to_string(fd) + " passed to " + id +
                                                                   " cannot be duplicated"));
      return 0;
    }
    fds.push_back(std::move(copy));
  }
  if (free_.empty()) {
    slots_.emplace_back();
    free_.push_back(static_cast<std::uint32_t>(slots_.size() - 1));
  }
  const std::uint32_t index = free_.back();
  free_.pop_back();
  Slot& s = slots_[index];
  s.open = true;
  s.abandoned = s.cancelled = false;
  s.entered.store(false, std::memory_order_relaxed);
  s.method = method;
  s.token = std::uint64_t{s.generation} << 32 | (index + 1);
  s.deadline_ns = static_cast<std::uint64_t>(options.deadline.count());
  s.body = std::move(body);
  s.fds = std::move(fds);
  s.raw_fds.clear();
  for (const auto& fd : s.fds) s.raw_fds.push_back(fd.get());
  s.on_reply = std::move(on_reply);
  s.timer = 0;
  ++open_calls_;
  if (tracer_) tracer_->call(s.token, method, s.body, s.raw_fds.size(), options.deadline);
  if (options.deadline.count() != 0 && options.keep_deadline)
    s.timer = setup.loop->at(options.deadline, [weak = weak_from_this(), token = s.token] {
      if (const auto self = weak.lock()) self->on_deadline(token);
    });
  Entry e;
  e.what = Entry::What::call;
  e.method = method;
  e.token = s.token;
  e.arg = &s;
  strand->post(e);
  return s.token;
}

Core::Slot* Core::find(std::uint64_t token) {
  const std::uint64_t index = token & 0xffffffffu;
  if (index == 0 || index > slots_.size()) return nullptr;
  Slot& s = slots_[index - 1];
  return s.open && s.token == token ? &s : nullptr;
}

void Core::cancel(std::uint64_t token) {
  Slot* s = find(token);
  if (!s || s->cancelled) return;
  s->cancelled = true;
  if (tracer_) tracer_->cancel(token, s->method);
  Entry e;
  e.what = Entry::What::cancel;
  e.method = s->method;
  e.token = token;
  strand->post(e);
}

void Core::release(Slot& s) {
  if (s.timer) setup.loop->cancel(s.timer);
  s.timer = 0;
  s.open = false;
  s.body = Buffer();
  s.fds.clear();
  s.on_reply = {};
  // Zero is not a generation; after four billion calls through one slot the numbers start again.
  if (++s.generation == 0) s.generation = 1;
  free_.push_back(static_cast<std::uint32_t>((s.token & 0xffffffffu) - 1));
  --open_calls_;
}

void Core::give_up(Slot& s, const Error& error) {
  const std::uint64_t token = s.token;
  if (!s.abandoned) {
    s.abandoned = true;
    if (tracer_) tracer_->gave_up(token, s.method, error);
    OnReply on_reply = std::move(s.on_reply);
    const Buffer b = pack_error(error);
    if (on_reply) on_reply(static_cast<gantry_code>(error.code), b);
  }
  cancel(token);
}

void Core::on_deadline(std::uint64_t token) {
  Slot* s = find(token);
  if (!s) return;
  s->timer = 0;
  give_up(*s, fail(Code::deadline_exceeded, id + " did not answer method " + std::to_string(s->method) + " in time"));
}

void Core::on_complete(std::uint64_t token, gantry_code code, Bytes bytes) {
  Slot* s = find(token);
  if (!s) {
    const std::uint64_t index = token & 0xffffffffu, generation = token >> 32;
    const bool was =
        index != 0 && index <= slots_.size() && generation != 0 && generation < slots_[index - 1].generation;
    return fault(was ? "completed a call that was complete already; ignored"
                     : "completed a token it was never given; ignored");
  }
  if (!s->entered.load(std::memory_order_acquire)) return fault("completed a call before it was made; ignored");
  if (code > GANTRY_MORE || code < GANTRY_UNAUTHENTICATED) {
    fault("completed method " + std::to_string(s->method) + " with code " + std::to_string(code) +
          ", which is not in the catalogue");
    code = GANTRY_UNKNOWN;
    bytes = {};
  }
  if (code < 0 && !bytes.empty() && !view<fb::Error>(bytes)) {
    fault("sent a malformed Error for method " + std::to_string(s->method));
    bytes = {};
  }
  if (tracer_) tracer_->answer(token, s->method, code, bytes);
  if (code == GANTRY_MORE) {
    if (!s->abandoned && s->on_reply) {
      // The handler may cancel or call again, so it is taken out of the slot while it runs.
      OnReply on_reply = std::move(s->on_reply);
      on_reply(code, bytes);
      if (Slot* again = find(token); again && !again->abandoned) again->on_reply = std::move(on_reply);
    }
    return;
  }
  OnReply on_reply = std::move(s->on_reply);
  const bool abandoned = s->abandoned;
  release(*s);
  if (!abandoned && on_reply) on_reply(code, bytes);
  check_quiet();
}

void Core::cancel_all() {
  for (std::size_t i = 0; i < slots_.size(); ++i)
    if (slots_[i].open) cancel(slots_[i].token);
  requests_.close(true);
}

void Core::abandon() {
  for (std::size_t i = 0; i < slots_.size(); ++i)
    if (slots_[i].open)
      give_up(slots_[i], fail(Code::unavailable,
                              id + " was stopped before it answered method " + std::to_string(slots_[i].method)));
}

void Core::check_quiet() {
  if (on_quiet && quiet()) std::exchange(on_quiet, {})();
}

void Core::leave_behind() {
  static std::mutex mutex;
  static auto* left = new std::vector<std::shared_ptr<Core>>;  // reachable, never freed
  const std::lock_guard lock(mutex);
  left->push_back(shared_from_this());
}

// ---- what the module said

void Core::drain() {
  if (!said_.take(batch_)) return;
  // What is said in return wakes the instance once, but a long burst is worked on from its beginning.
  std::size_t burst = 0;
  strand->cork();
  for (const Said& s : batch_.records) {
    on_said(s, batch_.bytes(s));
    if (++burst % 16 == 0) strand->uncork(), strand->cork();
  }
  strand->uncork();
  if (const std::uint64_t lost = lost_.exchange(0))
    fault("floods the kernel; " + std::to_string(lost) + " messages dropped");
  // Others on the loop get their turn before what came meanwhile.
  setup.loop->post([self = shared_from_this()] { self->drain(); });
}

void Core::on_said(const Said& s, Bytes bytes) {
  switch (s.what) {
    case Said::What::created:
      created = s.code == GANTRY_OK;
      if (on_created) std::exchange(on_created, {})(s.code);
      return;
    case Said::What::destroyed:
      created = false;
      for (const auto& [timer, armed] : armed_) setup.loop->cancel(armed);
      armed_.clear();
      requests_.close(true);
      if (on_destroyed) std::exchange(on_destroyed, {})(s.code);
      return;
    case Said::What::complete:
      return on_complete(s.token, s.code, bytes);
    case Said::What::overflow:
      if (Slot* slot = find(s.token); slot && !slot->abandoned) {
        fault("answers method " + std::to_string(slot->method) + " faster than the kernel reads; the stream is cut");
        give_up(*slot, fail(Code::resource_exhausted, id + " sent more than can wait"));
      }
      return;
    case Said::What::request:
      return requests_.ask(instance, s.service, s.method, s.token, bytes);
    case Said::What::request_cancel:
      return requests_.cancel(s.token);
    case Said::What::timer: {
      {
        const std::lock_guard lock(timers_mutex_);
        if (!timers_.count(s.token)) return;  // cancelled before it was armed
      }
      armed_[s.token] =
          setup.loop->at(base::Instant(static_cast<std::int64_t>(s.at)), [weak = weak_from_this(), timer = s.token] {
            const auto self = weak.lock();
            if (!self) return;
            self->armed_.erase(timer);
            Entry e;
            e.what = Entry::What::timer;
            e.token = timer;
            self->strand->post(e);
          });
      return;
    }
    case Said::What::timer_cancel:
      if (const auto it = armed_.find(s.token); it != armed_.end()) {
        setup.loop->cancel(it->second);
        armed_.erase(it);
      }
      return;
    case Said::What::idle:
      return check_quiet();
    case Said::What::threw:
      fault("threw an exception out of a call: " +
            std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
      if (Slot* slot = find(s.token)) {
        const Buffer b =
            pack_error(fail(Code::internal, id + " threw an exception out of method " + std::to_string(slot->method)));
        on_complete(s.token, GANTRY_INTERNAL, b);
      }
      return;
  }
}

}  // namespace gantry::module
