// Calls and what comes back for them. The process's life is life.cpp.
#include "kernel/module/process/child.hpp"

#include "kernel/base/log.hpp"
#include "kernel/module/trace.hpp"

#include <gantry/common_generated.h>

#include <fcntl.h>

#include <algorithm>
#include <cstring>

namespace gantry::module::process {
namespace {

constexpr std::size_t max_open_calls = 1 << 20;
constexpr std::size_t max_metrics = 4096;

}  // namespace

ProcessInstance::ProcessInstance(ProcessSetup setup)
    : setup_(std::move(setup)),
      id_(setup_.command.kind + "." + setup_.command.name),
      log_budget_(setup_.log_rate, setup_.log_burst) {
  calls_metric_ = setup_.metrics->id(id_ + "/calls", base::MetricKind::counter, "1", "calls made to the instance");
  faults_metric_ =
      setup_.metrics->id(id_ + "/faults", base::MetricKind::counter, "1", "breaches of the ABI by the instance");
  requests_ = std::make_shared<Requests>(Requests::Setup{
      id_, setup_.services, setup_.allowed, setup_.queue_bytes,
      [this](std::uint32_t, std::uint64_t token, gantry_code code, Bytes bytes) {
        Header h;
        h.type = Type::reply;
        h.token = token;
        h.code = code;
        send(h, bytes);
      },
      [this] { return child_ ? child_->writer.waiting() : 0; }, [this](std::string_view what) { fault(what); }});
  requests_->bind(requests_);
}

void ProcessInstance::set_state(State state, std::string message) {
  state_ = state;
  message_ = std::move(message);
}

Counters ProcessInstance::counters() const {
  Counters c = counters_;
  c.faults += before_.faults;
  c.slow += before_.slow;
  c.restarts = starts_ > 0 ? starts_ - 1 : 0;
  return c;
}

void ProcessInstance::note(std::string_view what) {
  std::uint64_t dropped = 0;
  if (!log_budget_.take(setup_.loop->now(), dropped)) return;
  if (dropped) base::log_warning(id_, "logs too much; " + std::to_string(dropped) + " records were dropped");
  base::log_warning(id_, what);
}

void ProcessInstance::fault(std::string_view what) {
  ++before_.faults;  // seen here, not by the module host
  if (tracer_) tracer_->fault(what);
  setup_.metrics->add(faults_metric_);
  note(what);
}

void ProcessInstance::refuse(OnReply on_reply, Error error) {
  setup_.loop->post([on_reply = std::move(on_reply), error = std::move(error)]() mutable {
    const Buffer b = pack_error(error);
    if (on_reply) on_reply(static_cast<gantry_code>(error.code), b);
  });
}

std::size_t ProcessInstance::backlog() const { return child_ ? child_->writer.waiting() : 0; }

void ProcessInstance::trace(Tracer* tracer) {
  HostedInstance::trace(tracer);
  requests_->trace(tracer);
}

// ---- calls

std::uint64_t ProcessInstance::call(std::uint32_t method, Buffer body, OnReply on_reply, CallOptions options) {
  const auto refuse_call = [&](Error error) -> std::uint64_t {
    if (tracer_) tracer_->refused(method, body.size(), error);
    refuse(std::move(on_reply), std::move(error));
    return 0;
  };
  const bool open = child_ && child_->connected && created_ && (state_ <= State::degraded || options.from_host);
  if (!open) {
    std::string why = id_ + " is " + std::string(state_ <= State::degraded ? "restarting" : to_string(state_));
    if (!message_.empty()) why += ": " + message_;
    return refuse_call(fail(Code::unavailable, std::move(why)));
  }
  ++counters_.calls;
  setup_.metrics->add(calls_metric_);
  std::string problem;
  if (open_calls_ >= max_open_calls)
    problem = " has " + std::to_string(open_calls_) + " calls open; it does not complete them";
  else if (child_->writer.waiting() > setup_.queue_bytes)
    problem = " does not take its calls; " + std::to_string(child_->writer.waiting()) + " bytes are waiting for it";
  if (!problem.empty()) return refuse_call(fail(Code::resource_exhausted, id_ + problem));
  if (body.size() > max_body || options.fds.size() > max_fds) {
    return refuse_call(fail(Code::invalid_argument, "a call of " + std::to_string(body.size()) + " bytes and " +
                                                        std::to_string(options.fds.size()) +
                                                        " descriptors is more than a module in a process takes"));
  }
  std::vector<base::Fd> fds;
  for (const int fd : options.fds) {
    base::Fd copy(::fcntl(fd, F_DUPFD_CLOEXEC, 3));  // it is sent later, when the caller may have closed its own
    if (!copy)
      return refuse_call(fail(Code::invalid_argument, "descriptor " + std::to_string(fd) + " passed to " + id_ +
                                                          " cannot be duplicated"));
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
  s.method = method;
  s.token = std::uint64_t{s.generation} << 32 | (index + 1);
  s.on_reply = std::move(on_reply);
  s.timer = 0;
  ++open_calls_;
  if (tracer_) tracer_->call(s.token, method, body, fds.size(), options.deadline);
  Header h;
  h.type = Type::call;
  h.method = method;
  h.token = s.token;
  h.extra = static_cast<std::uint64_t>(options.deadline.count());
  if (options.deadline.count() != 0 && options.keep_deadline)
    s.timer = setup_.loop->at(options.deadline, [this, token = s.token] {
      Slot* slot = find(token);
      if (!slot) return;
      slot->timer = 0;
      give_up(*slot, fail(Code::deadline_exceeded,
                          id_ + " did not answer method " + std::to_string(slot->method) + " in time"));
    });
  const std::uint64_t token = s.token;
  send(h, body, std::move(fds));
  return token;
}

void ProcessInstance::cancel(std::uint64_t token) {
  Slot* s = find(token);
  if (!s || s->cancelled) return;
  s->cancelled = true;
  if (tracer_) tracer_->cancel(token, s->method);
  Header h;
  h.type = Type::cancel;
  h.token = token;
  send(h);
}

ProcessInstance::Slot* ProcessInstance::find(std::uint64_t token) {
  const std::uint64_t index = token & 0xffffffffu;
  if (index == 0 || index > slots_.size()) return nullptr;
  Slot& s = slots_[index - 1];
  return s.open && s.token == token ? &s : nullptr;
}

void ProcessInstance::release(Slot& s) {
  if (s.timer) setup_.loop->cancel(s.timer);
  s.timer = 0;
  s.open = false;
  s.on_reply = {};
  if (++s.generation == 0) s.generation = 1;
  free_.push_back(static_cast<std::uint32_t>((s.token & 0xffffffffu) - 1));
  --open_calls_;
}

void ProcessInstance::give_up(Slot& s, const Error& error) {
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

void ProcessInstance::fail_calls() {
  struct Waiting {
    OnReply on_reply;
    Error error;
  };
  std::vector<Waiting> waiting;
  for (Slot& s : slots_) {
    if (!s.open) continue;
    Error error = fail(Code::unavailable, id_ + " ended before it answered method " + std::to_string(s.method));
    if (tracer_ && !s.abandoned) tracer_->gave_up(s.token, s.method, error);
    if (!s.abandoned && s.on_reply) waiting.push_back({std::move(s.on_reply), std::move(error)});
    release(s);
  }
  if (tracer_) tracer_->restart("its process has ended");
  for (Waiting& w : waiting) w.on_reply(GANTRY_UNAVAILABLE, pack_error(w.error));
}

// ---- what comes back

void ProcessInstance::on_frame(const Header& h, Bytes body) {
  switch (h.type) {
    case Type::complete:
      return on_complete(h, body);
    case Type::request:
      return requests_->ask(this, static_cast<std::uint32_t>(h.extra), h.method, h.token, body);
    case Type::request_cancel:
      return requests_->cancel(h.token);
    case Type::log: {
      const auto level = static_cast<std::uint32_t>(std::clamp<std::int32_t>(h.code, 0, GANTRY_LOG_ERROR));
      if (level < base::log_threshold().load(std::memory_order_relaxed)) return;
      std::uint64_t dropped = 0;
      if (!log_budget_.take(setup_.loop->now(), dropped)) return;
      if (dropped) base::log_warning(id_, "logs too much; " + std::to_string(dropped) + " records were dropped");
      return write_record(id_, level, body);
    }
    case Type::metric:
      return on_metric(h, body);
    case Type::metric_add:
      return on_metric_add(body);
    case Type::counters: {
      if (h.token > counters_.faults) setup_.metrics->add(faults_metric_, static_cast<double>(h.token - counters_.faults));
      counters_.faults = h.token;
      counters_.slow = h.extra;
      return;
    }
    case Type::hello:
      facts_.revision = static_cast<std::uint16_t>(std::clamp<std::int32_t>(h.code, 0, 0xffff));
      facts_.flags = h.method;
      facts_.build.assign(reinterpret_cast<const char*>(body.data()), std::min<std::size_t>(body.size(), 1024));
      return;
    case Type::created:
      if (creating_) creating_->set(ok);
      return;
    case Type::refused:
      if (creating_) creating_->set(unpack_error(h.code < 0 ? h.code : GANTRY_UNKNOWN, body));
      return;
    case Type::destroyed:
      if (destroying_) destroying_->set(h.code < 0 ? Status(unpack_error(h.code, body)) : Status());
      return;
    default:
      return;  // the reader lets no other type through
  }
}

void ProcessInstance::on_complete(const Header& h, Bytes body) {
  gantry_code code = h.code;
  Slot* s = find(h.token);
  // The module host checks this too, but what runs in there can write to its socket by itself.
  if (!s) return fault("completed a token it was never given; ignored");
  if (code > GANTRY_MORE || code < GANTRY_UNAUTHENTICATED) {
    fault("completed method " + std::to_string(s->method) + " with code " + std::to_string(code) +
          ", which is not in the catalogue");
    code = GANTRY_UNKNOWN;
    body = {};
  }
  if (code < 0 && !body.empty() && !view<fb::Error>(body)) {
    fault("sent a malformed Error for method " + std::to_string(s->method));
    body = {};
  }
  if (tracer_) tracer_->answer(h.token, s->method, code, body);
  OnReply on_reply = std::move(s->on_reply);
  const bool abandoned = s->abandoned;
  if (code == GANTRY_MORE) {
    if (abandoned || !on_reply) return;
    on_reply(code, body);
    if (Slot* again = find(h.token); again && !again->abandoned) again->on_reply = std::move(on_reply);
    return;
  }
  release(*s);
  if (!abandoned && on_reply) on_reply(code, body);
}

void ProcessInstance::on_metric(const Header& h, Bytes body) {
  const auto* d = view<fb::MetricDesc>(body);
  if (!d || text(d->name()).empty() || h.token == 0 || h.token > max_metrics) return;
  if (metric_ids_.size() <= h.token) metric_ids_.resize(h.token + 1);
  metric_ids_[h.token] =
      setup_.metrics->id(id_ + "/" + std::string(text(d->name())),
                         static_cast<base::MetricKind>(std::clamp<int>(static_cast<int>(d->kind()), 0, 2)),
                         text(d->unit()), text(d->help()));
}

void ProcessInstance::on_metric_add(Bytes body) {
  for (std::size_t at = 0; at + sizeof(MetricAdd) <= body.size(); at += sizeof(MetricAdd)) {
    MetricAdd add;
    std::memcpy(&add, body.data() + at, sizeof add);
    if (add.id < metric_ids_.size()) setup_.metrics->add(metric_ids_[add.id], add.value);
  }
}

}  // namespace gantry::module::process
