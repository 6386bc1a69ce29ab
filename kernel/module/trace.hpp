// Watching an instance's calls (sdk/schema/trace.fbs): what its host tells a Tracer, and who reads it.
//
// Nobody watches: the host tests one null pointer and nothing else happens. Somebody does: each entry is copied into
// the bounded queue of each trace; what does not fit is counted, so a slow reader costs neither memory nor time.
#pragma once

#include "kernel/module/module.hpp"

#include <gantry/control_generated.h>
#include <gantry/trace_generated.h>

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace gantry::module {

struct TraceOptions {
  bool bodies = false;
  bool secrets = false;                         // with bodies: those that carry credentials too
  std::size_t max_body = std::size_t{1} << 20;  // larger ones are left out
};

class Trace;

// One per watched instance, all its members for the instance's host, on the loop. Tokens and requests are named by any
// number that is not used by two open ones at a time.
class Tracer {
 public:
  // secret_settings: CONFIGURE carries some, so its body is blanked.
  Tracer(base::Loop& loop, std::string kind, bool secret_settings);

  // The kernel calls the module. deadline: absolute, 0 = none.
  void call(std::uint64_t token, std::uint32_t method, Bytes body, std::size_t nfds, base::Instant deadline);
  // The module answers, MORE or final. After a final code the token may be used again.
  void answer(std::uint64_t token, std::uint32_t method, gantry_code code, Bytes body);
  // The caller has been told `error` by the kernel; the module may still answer.
  void gave_up(std::uint64_t token, std::uint32_t method, const Error& error);
  // Never reached the module.
  void refused(std::uint32_t method, std::size_t body_size, const Error& error);
  void cancel(std::uint64_t token, std::uint32_t method);
  // The module asks a host service, `id` names it until its final reply.
  void request(std::uint64_t id, std::uint32_t service, std::uint32_t method, Bytes body);
  void reply(std::uint64_t id, std::uint32_t service, std::uint32_t method, gantry_code code, Bytes body);
  void request_cancel(std::uint64_t id, std::uint32_t service, std::uint32_t method);
  // A breach of the ABI; the end of its process. No token is open after restart().
  void fault(std::string_view what);
  void restart(std::string_view why);

 private:
  friend class Traces;
  struct Open {
    std::uint64_t number = 0;  // names it in entries
    base::Instant since{0};    // 0: before the trace
    std::uint32_t service = 0, method = 0, nfds = 0, chunks = 0;
    std::uint64_t size = 0;
  };
  using OpenMap = std::unordered_map<std::uint64_t, Open>;
  Open& opened(OpenMap& map, std::uint64_t token, std::uint32_t method);
  fb::trace::EntryT about(fb::trace::What what, const Open& open) const;
  void ended(OpenMap& map, std::uint64_t token, fb::trace::What what, std::uint32_t method, gantry_code code,
             Bytes body);
  void emit(const fb::trace::EntryT& entry, Bytes body) const;

  base::Loop& loop_;
  const std::string kind_;
  const bool secret_settings_;
  OpenMap calls_, requests_;
  std::uint64_t last_number_ = 0;
  std::vector<Trace*> traces_;
};

// The traces that run, for the operator's conversation: TraceModule, ReadTrace, EndTrace of control.fbs.
class Traces {
 public:
  explicit Traces(base::Loop& loop);
  // Ends them all; before the instances go.
  ~Traces();
  Traces(const Traces&) = delete;
  Traces& operator=(const Traces&) = delete;

  struct Subject {
    const Instance* instance = nullptr;
    std::function<void(Tracer*)> attach;  // HostedInstance::trace of it
    fb::trace::HeaderT header;            // with all settings; start() blanks those of secret_keys
    std::vector<std::string> secret_keys;
  };
  // Answers with id and header. RESOURCE_EXHAUSTED if too many run.
  Result<fb::control::TraceT> start(Subject subject, TraceOptions options);
  // Answers on the loop, never from inside: entries as soon as there are some, else none after `wait`. NOT_FOUND when
  // there is no such trace (any more). A second read ends the wait of the first.
  using Reply = std::function<void(Result<fb::control::TraceT>)>;
  void read(std::uint64_t id, base::Nanos wait, Reply reply);
  Status end(std::uint64_t id);
  [[nodiscard]] std::uint32_t running(const Instance* instance) const;

 private:
  struct Watched {
    std::unique_ptr<Tracer> tracer;
    std::function<void(Tracer*)> attach;
  };
  void check();
  base::Loop& loop_;
  std::map<const Instance*, Watched> watched_;
  std::map<std::uint64_t, std::unique_ptr<Trace>> traces_;
  base::TimerId timer_ = 0;
};

}  // namespace gantry::module
