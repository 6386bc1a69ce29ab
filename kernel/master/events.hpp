// What happens to the master (Event) and what it wants done (Effect). The whole conversation of the pure core.
#pragma once

#include "kernel/base/log.hpp"
#include "kernel/base/loop.hpp"
#include "kernel/store/store.hpp"

#include <gantry/message.hpp>
#include <gantry/result.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace gantry::master {

using base::Instant;
using base::Nanos;
using base::Wall;

using StreamId = std::uint64_t;   // one subscription of a framework; 0 = none; never reused
using LinkId = std::uint64_t;     // one connection of an agent; 0 = none; never reused
using Cookie = std::uint64_t;     // one Persist
using RequestId = std::uint64_t;  // one call that wants an Answer; 0 = none wanted

// ---- in. Bytes and views are valid during apply().

struct Subscribe {  // a stream was opened with an fb::Call of type SUBSCRIBE
  StreamId stream;
  Bytes call;
};
struct FrameworkCall {  // any other fb::Call; framework_id tells whose. Answered once by `Answer`
  RequestId request;
  Bytes call;
};
struct StreamClosed {
  StreamId stream;
};                   // the framework went away
struct AgentFrame {  // fb::link::ToMaster of an authenticated link
  LinkId link;
  Bytes frame;
};
struct LinkClosed {
  LinkId link;
};
struct RoundDone {
  Bytes round;
};  // fb::allocator::Round, the answer to `Allocate`
struct RoundFailed {
  Error error;
};  // the allocator failed or restarted: it has forgotten everything
struct Stored {
  Cookie cookie;
};
struct StoreFailed {
  Cookie cookie;
  Error error;
};
struct Tick {};  // the time of SetTimer has come
struct OperatorKill {
  RequestId request;
  std::string_view framework_id;  // empty: any framework that has the task
  std::string_view task_id;
};
struct OperatorCall {  // fb::master::Call: something is to be changed. Answered once by `Answer`
  RequestId request;
  std::string_view principal;  // empty: nobody was authenticated
  Bytes call;
};

using Event = std::variant<Subscribe, FrameworkCall, StreamClosed, AgentFrame, LinkClosed, RoundDone, RoundFailed,
                           Stored, StoreFailed, Tick, OperatorKill, OperatorCall>;

// ---- out, to be carried out in order

struct SendFramework {
  StreamId stream;
  Buffer event;  // fb::Event
};
struct EndStream {
  StreamId stream;
  Error error;  // ABORTED: replaced; NOT_FOUND: removed; INVALID_ARGUMENT: refused
};
struct SendAgent {
  LinkId link;
  Buffer frame;  // fb::link::ToAgent
};
struct DropLink {
  LinkId link;
  std::string why;
};
struct Persist {  // answered by Stored or StoreFailed
  Cookie cookie;
  std::vector<store::Op> ops;
};
struct Allocate {
  Buffer deltas;
};  // fb::allocator::Deltas; answered by RoundDone or RoundFailed
struct SetTimer {
  Instant at;
};  // replaces the one before
struct Answer {
  RequestId request;
  Status status;
};
struct Log {
  base::Level level;
  std::string message;
  std::vector<std::pair<std::string, std::string>> fields;
};

using Effect = std::variant<SendFramework, EndStream, SendAgent, DropLink, Persist, Allocate, SetTimer, Answer, Log>;
using Effects = std::vector<Effect>;

struct CoreOptions {
  std::string run_id;  // prefix of all ids made; unique to this term of leadership
  Nanos ping_interval = std::chrono::seconds(15);
  unsigned ping_misses = 5;  // so an agent is unreachable after 75 s
  Nanos agent_reregister_timeout = std::chrono::minutes(10);
  Nanos offer_timeout{0};  // 0 = offers do not expire
  std::size_t completed_frameworks = 50;
  std::size_t completed_tasks = 1000;       // per framework
  std::size_t unreachable_tasks = 1000;     // per framework
  Nanos forget_agents_after = std::chrono::hours(24 * 14);  // unreachable or gone for so long
  std::size_t away_agents = 102'400;                        // unreachable and gone ones remembered
  std::size_t removed_frameworks = 10'000;  // ids remembered so that they cannot come back
  std::string region;                       // of this master; empty: it has no fault domain
  Nanos retry = std::chrono::seconds(1);    // after a failed store or allocator
  // What a launch has left over is offered so much later at most: what its tasks say first is then not behind a round of the allocator.
  Nanos launch_lull{0};
};

}  // namespace gantry::master
