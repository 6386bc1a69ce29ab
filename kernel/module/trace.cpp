#include "kernel/module/trace.hpp"

#include "kernel/module/method_names.hpp"

#include <algorithm>
#include <chrono>
#include <random>

namespace gantry::module {
namespace {

using fb::trace::BodyState;
using fb::trace::EntryT;
using fb::trace::What;

constexpr std::size_t max_traces = 16;
constexpr std::size_t max_open = 1 << 16;                  // calls whose start is remembered
constexpr std::size_t max_waiting = std::size_t{8} << 20;  // bytes in the queue of one trace
constexpr std::size_t max_entries = 16'384;                // entries in it
constexpr std::size_t max_body = std::size_t{4} << 20;     // whatever was asked for
constexpr std::size_t max_error = 4096;                    // errors are shown without bodies being asked for
constexpr std::size_t batch_bytes = std::size_t{1} << 20;  // of one answer
constexpr std::size_t batch_entries = 1024;
constexpr base::Nanos gather = std::chrono::milliseconds(20);  // what comes together is answered together
constexpr base::Nanos max_wait = std::chrono::seconds(20);
constexpr base::Nanos lease = std::chrono::seconds(10);  // without being read
constexpr std::size_t entry_cost = 200;

}  // namespace

// One reader's queue.
class Trace {
 public:
  Trace(base::Loop& l, TraceOptions o) : loop(l), options(o), started(l.now()), read_at(l.now()) {}
  ~Trace() { answer_later({}); }

  void take(const EntryT& entry, Bytes body, std::string_view kind, bool secret_settings) {
    const bool is_text = entry.what == What::FAULT || entry.what == What::RESTART;
    const bool error = entry.code < 0 && body.size() <= max_error;
    const bool wanted = options.bodies || is_text || error;
    const std::size_t limit = is_text || error ? max_error : std::min(options.max_body, max_body);
    const bool fits = body.size() <= limit;
    const std::size_t cost = entry_cost + (wanted && fits ? body.size() : 0);
    if (entries.size() >= max_entries || waiting + cost > max_waiting) {
      ++lost;
    } else {
      auto e = std::make_unique<EntryT>(entry);
      e->at_ns = static_cast<std::uint64_t>(std::max<std::int64_t>(0, (loop.now() - started).count()));
      e->size = body.size();
      if (wanted && fits) {
        e->body.assign(body.begin(), body.end());
        e->body_state =
            options.secrets && options.bodies ? BodyState::WHOLE : hide_credentials(kind, *e, secret_settings, e->body);
      } else if (wanted) {
        e->body_state = BodyState::TOO_LARGE;
      }
      waiting += cost;
      entries.push_back(std::move(e));
    }
    if (reply && !timer) timer = loop.after(gather, [this] { flush(); });
  }

  void read(base::Nanos wait, Traces::Reply r) {
    answer_later({});
    read_at = loop.now();
    reply = std::move(r);
    const bool now = !entries.empty() || lost != 0;
    if (timer) loop.cancel(timer);
    if (wait_timer) loop.cancel(wait_timer);
    timer = now ? loop.after(base::Nanos(0), [this] { flush(); }) : 0;
    wait_timer = now ? 0 : loop.after(std::clamp(wait, base::Nanos(0), max_wait), [this] { flush(); });
  }

  void flush() {
    if (timer) loop.cancel(std::exchange(timer, 0));
    if (wait_timer) loop.cancel(std::exchange(wait_timer, 0));
    read_at = loop.now();
    fb::control::TraceT out;
    out.id = id;
    out.lost = std::exchange(lost, 0);
    std::size_t bytes = 0;
    while (!entries.empty() && out.entries.size() < batch_entries && bytes < batch_bytes) {
      const std::size_t cost = entry_cost + entries.front()->body.size();
      bytes += cost;
      // Blanking made some shorter than they were counted.
      waiting -= std::min(waiting, cost);
      out.entries.push_back(std::move(entries.front()));
      entries.pop_front();
    }
    if (entries.empty()) waiting = 0;
    if (auto r = std::exchange(reply, {})) r(std::move(out));
  }

  // Ends a wait without anything; on the loop, since it may be reached from anywhere.
  void answer_later(Error error) {
    if (timer) loop.cancel(std::exchange(timer, 0));
    if (wait_timer) loop.cancel(std::exchange(wait_timer, 0));
    if (!reply) return;
    loop.post([r = std::exchange(reply, {}), error = std::move(error), i = id] {
      if (error.code != Code::ok) return r(error);
      fb::control::TraceT none;
      none.id = i;
      r(std::move(none));
    });
  }

  base::Loop& loop;
  const TraceOptions options;
  const base::Instant started;
  std::uint64_t id = 0;
  const Instance* instance = nullptr;
  base::Instant read_at;  // when it was last asked for
  Traces::Reply reply;    // whoever waits
  base::TimerId timer = 0, wait_timer = 0;
  std::deque<std::unique_ptr<EntryT>> entries;
  std::size_t waiting = 0;
  std::uint64_t lost = 0;
};

// ---- what the instance's host tells

Tracer::Tracer(base::Loop& loop, std::string kind, bool secret_settings)
    : loop_(loop), kind_(std::move(kind)), secret_settings_(secret_settings) {}

Tracer::Open& Tracer::opened(OpenMap& map, std::uint64_t token, std::uint32_t method) {
  const auto it = map.find(token);
  if (it != map.end()) return it->second;
  // From before the trace. Remembered, for the chunks to have one number; a flood of them is not.
  static thread_local Open forgotten;
  Open& open = map.size() < max_open ? map[token] : (forgotten = Open());
  open.number = ++last_number_;
  open.method = method;
  return open;
}

EntryT Tracer::about(What what, const Open& open) const {
  EntryT e;
  e.what = what;
  e.token = open.number;
  e.service = open.service;
  e.method = open.method;
  e.nfds = open.nfds;
  return e;
}

void Tracer::emit(const EntryT& entry, Bytes body) const {
  for (Trace* t : traces_) t->take(entry, body, kind_, secret_settings_);
}

void Tracer::call(std::uint64_t token, std::uint32_t method, Bytes body, std::size_t nfds, base::Instant deadline) {
  calls_.erase(token);
  Open& open = opened(calls_, token, method);
  open.since = loop_.now();
  open.size = body.size();
  open.nfds = static_cast<std::uint32_t>(nfds);
  EntryT e = about(What::CALL, open);
  if (deadline.count() != 0)
    e.deadline_ns = static_cast<std::uint64_t>(std::max<std::int64_t>(1, (deadline - open.since).count()));
  emit(e, body);
}

void Tracer::ended(OpenMap& map, std::uint64_t token, What what, std::uint32_t method, gantry_code code, Bytes body) {
  Open& open = opened(map, token, method);
  const bool chunk = what == What::CHUNK || what == What::REQUEST_CHUNK;
  if (chunk) ++open.chunks;
  EntryT e = about(what, open);
  e.code = code;
  e.chunks = open.chunks;
  e.asked_size = open.size;
  if (open.since.count() != 0) e.latency_ns = static_cast<std::uint64_t>((loop_.now() - open.since).count());
  if (what == What::DONE || what == What::REQUEST_DONE) map.erase(token);
  emit(e, body);
}

void Tracer::answer(std::uint64_t token, std::uint32_t method, gantry_code code, Bytes body) {
  ended(calls_, token, code == GANTRY_MORE ? What::CHUNK : What::DONE, method, code, body);
}

void Tracer::gave_up(std::uint64_t token, std::uint32_t method, const Error& error) {
  ended(calls_, token, What::GAVE_UP, method, static_cast<gantry_code>(error.code), pack_error(error));
}

void Tracer::refused(std::uint32_t method, std::size_t body_size, const Error& error) {
  Open open;
  open.number = ++last_number_;
  open.method = method;
  EntryT e = about(What::GAVE_UP, open);
  e.code = static_cast<gantry_code>(error.code);
  e.asked_size = body_size;
  e.latency_ns = 0;
  emit(e, pack_error(error));
}

void Tracer::cancel(std::uint64_t token, std::uint32_t method) {
  emit(about(What::CANCEL, opened(calls_, token, method)), {});
}

void Tracer::request(std::uint64_t id, std::uint32_t service, std::uint32_t method, Bytes body) {
  requests_.erase(id);
  Open& open = opened(requests_, id, method);
  open.since = loop_.now();
  open.service = service;
  open.size = body.size();
  emit(about(What::REQUEST, open), body);
}

void Tracer::reply(std::uint64_t id, std::uint32_t service, std::uint32_t method, gantry_code code, Bytes body) {
  opened(requests_, id, method).service = service;
  ended(requests_, id, code == GANTRY_MORE ? What::REQUEST_CHUNK : What::REQUEST_DONE, method, code, body);
}

void Tracer::request_cancel(std::uint64_t id, std::uint32_t service, std::uint32_t method) {
  Open& open = opened(requests_, id, method);
  open.service = service;
  emit(about(What::REQUEST_CANCEL, open), {});
}

void Tracer::fault(std::string_view what) {
  EntryT e;
  e.what = What::FAULT;
  emit(e, as_bytes(what));
}

void Tracer::restart(std::string_view why) {
  calls_.clear();
  requests_.clear();
  EntryT e;
  e.what = What::RESTART;
  emit(e, as_bytes(why));
}

// ---- the traces that run

Traces::Traces(base::Loop& loop) : loop_(loop) {}

Traces::~Traces() {
  if (timer_) loop_.cancel(timer_);
  for (auto& [instance, w] : watched_) w.attach(nullptr);
}

Result<fb::control::TraceT> Traces::start(Subject subject, TraceOptions options) {
  if (traces_.size() >= max_traces)
    return fail(Code::resource_exhausted,
                std::to_string(traces_.size()) +
                    " traces are running, no more are allowed; end one, or wait 10 s for those "
                    "whose reader has gone");
  fb::trace::HeaderT& header = subject.header;
  const bool all = options.bodies && options.secrets;
  header.bodies = options.bodies;
  header.secrets = all;
  if (header.configure && !all)
    for (auto& s : header.configure->settings)
      if (std::find(subject.secret_keys.begin(), subject.secret_keys.end(), s->key) != subject.secret_keys.end()) {
        s->text.clear();
        s->items.clear();
        s->number = 0;
        s->real = 0;
        s->flag = false;
      }
  auto trace = std::make_unique<Trace>(loop_, options);
  // Nobody guesses another reader's.
  std::random_device random;
  do trace->id = std::uint64_t{random()} << 32 | random();
  while (trace->id == 0 || traces_.count(trace->id));
  trace->instance = subject.instance;
  header.started_wall_ns = static_cast<std::uint64_t>(loop_.wall());
  Watched& w = watched_[subject.instance];
  if (!w.tracer) {
    w.tracer = std::make_unique<Tracer>(loop_, subject.instance->kind(), !subject.secret_keys.empty());
    w.attach = std::move(subject.attach);
    w.attach(w.tracer.get());
  }
  w.tracer->traces_.push_back(trace.get());
  fb::control::TraceT out;
  out.id = trace->id;
  out.header = std::make_unique<fb::trace::HeaderT>(std::move(header));
  traces_[out.id] = std::move(trace);
  if (!timer_) timer_ = loop_.after(lease / 4, [this] { check(); });
  return out;
}

void Traces::read(std::uint64_t id, base::Nanos wait, Reply reply) {
  const auto it = traces_.find(id);
  if (it != traces_.end()) return it->second->read(wait, std::move(reply));
  loop_.post([reply = std::move(reply), id] {
    reply(
        fail(Code::not_found, "there is no trace " + std::to_string(id) + "; one that is not read for 10 s is ended"));
  });
}

Status Traces::end(std::uint64_t id) {
  const auto it = traces_.find(id);
  if (it == traces_.end()) return fail(Code::not_found, "there is no trace " + std::to_string(id));
  const Instance* instance = it->second->instance;
  Watched& w = watched_.at(instance);
  std::erase(w.tracer->traces_, it->second.get());
  if (w.tracer->traces_.empty()) {
    w.attach(nullptr);
    watched_.erase(instance);
  }
  it->second->answer_later(fail(Code::cancelled, "the trace was ended"));
  traces_.erase(it);
  return ok;
}

std::uint32_t Traces::running(const Instance* instance) const {
  const auto it = watched_.find(instance);
  return it == watched_.end() ? 0 : static_cast<std::uint32_t>(it->second.tracer->traces_.size());
}

// Readers that went away without a word.
void Traces::check() {
  timer_ = 0;
  std::vector<std::uint64_t> gone;
  for (const auto& [id, t] : traces_)
    if (!t->reply && loop_.now() - t->read_at > lease) gone.push_back(id);
  for (const std::uint64_t id : gone) (void)end(id);
  if (!traces_.empty()) timer_ = loop_.after(lease / 4, [this] { check(); });
}

}  // namespace gantry::module
