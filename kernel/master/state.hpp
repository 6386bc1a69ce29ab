// The nouns of the master core: what it remembers of agents, frameworks, offers and tasks. Private to kernel/master;
// others ask Core for views.
//
// A million agents and a million tasks live here, so: handles instead of pointers and names, packed flatbuffers for
// what is only passed on, lists threaded through the objects.
#pragma once

#include "kernel/master/constraints.hpp"
#include "kernel/master/events.hpp"
#include "kernel/master/graft.hpp"
#include "kernel/master/slab.hpp"
#include "kernel/resource/resources.hpp"

#include <gantry/framework_generated.h>
#include <gantry/link_generated.h>
#include <gantry/types_generated.h>

#include <boost/unordered/unordered_flat_map.hpp>

#include <array>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace gantry::master {

using resource::Resources;
using resource::RoleId;

inline constexpr std::size_t kUuid = 16;

struct Chain {  // neighbours in a list threaded through the objects
  Handle prev = 0, next = 0;
};

enum class AgentState : std::uint8_t {
  recovered,    // known from the store, not heard of in this term
  registering,  // new; its record is being stored
  registered,
  marking,  // about to be unreachable; that is being stored
  unreachable,
  gone,      // removed for good by the operator
  departed,  // said goodbye; only waits for the allocator to forget its handle
};

// What the operator has in mind with an agent that is not simply to serve. Few agents have one.
struct Upkeep {
  enum class Drain : std::uint8_t { none, draining, drained };  // as stored
  bool deactivated = false;      // no offers are made of it
  Drain drain = Drain::none;
  bool mark_gone = false;        // once it is drained
  std::int64_t grace_ns = -1;    // most a task gets; -1: its own
  std::int64_t drain_since = 0;  // wall clock
  std::uint64_t change = 0;      // which one this is: a failed store takes back its own only
  bool storing = false;
  std::shared_ptr<const Upkeep> stored;  // while it is being stored: what the record says; none: nothing of this

  // Of its machine, from the maintenance schedule; kept there.
  bool planned = false;
  std::int64_t start_ns = 0;
  std::optional<std::int64_t> duration_ns;

  [[nodiscard]] bool idle() const { return !deactivated && drain == Drain::none && !planned; }
};

struct Agent {
  Blob info;  // fb::AgentInfo, id set
  LinkId link = 0;
  Resources total;      // with dynamic reservations applied
  Resources available;  // what the allocator believes to be free, less this round's grants
  Handle first_task = 0, first_offer = 0;
  std::uint32_t tasks = 0;
  std::uint32_t ping_key = 0;   // of its entry in the ping queue; 0 = none
  std::uint32_t epoch = 0;      // changes when the books of the agent are opened anew
  std::int64_t since_wall = 0;  // unreachable or gone since
  AgentState state = AgentState::recovered;
  std::uint8_t missed = 0;  // pings without an answer
  bool heard = false;       // something came since the last ping
  bool active = false;      // offers may be made of it
  bool dirty = false;       // in dirty_agents_
  bool send_total = false;
  bool told = false;  // the allocator knows it
  bool tell_gone = false;
  bool overdrawn = false;  // its tasks use more than it now has
  bool returning = false;  // its registration waits for the store: what it said there must not be overtaken
  bool going = false;      // that it is gone for good is being stored
  bool knows_groups = false;  // it takes RunGroup
  bool renew = false;      // the allocator forgets what it knows of it: its attributes have changed
  std::unique_ptr<Upkeep> upkeep;

  [[nodiscard]] const fb::AgentInfo& about() const { return *info.as<fb::AgentInfo>(); }
  [[nodiscard]] std::string_view id() const { return text(about().id()); }
  [[nodiscard]] bool deactivated() const { return upkeep && upkeep->deactivated; }
};

// A framework is asked to leave an agent before its machine goes away for a while (mesos-kernel.md A12, Maintenance).
struct Inverse {
  enum class Answer : std::uint8_t { unknown = 1, accept = 2, decline = 3 };  // as fb::master::InverseOfferAnswer
  std::uint64_t number = 0;  // of the outstanding one, id is "<run>-O<number>"; 0 = none
  Instant not_before{0};     // the next one
  Answer answer = Answer::unknown;  // the last one
  std::int64_t answered_wall = 0;
};

struct Task {
  Blob info;            // fb::TaskInfo
  Blob status;          // fb::TaskStatus, the latest that came; empty while STAGING
  Resources resources;  // charged until released
  Handle framework = 0, agent = 0;
  Chain of_framework, of_agent;
  RoleId role{};
  std::int64_t launched_wall = 0;
  std::array<std::uint8_t, kUuid> uuid{};                    // of the update that waits for its acknowledgement
  fb::TaskState state = fb::TaskState::TASK_STAGING;         // latest
  fb::TaskState status_state = fb::TaskState::TASK_STAGING;  // last told to the framework
  bool pending_ack = false;
  bool released = false;        // resources are back
  bool absent = false;          // its agent is unreachable, or it was declared lost with a disconnected agent
  bool kill = false;            // a kill was asked for; repeated when the agent returns
  bool kill_on_return = false;  // declared lost: must not run when the agent returns

  [[nodiscard]] const fb::TaskInfo& about() const { return *info.as<fb::TaskInfo>(); }
  [[nodiscard]] std::string_view id() const { return text(about().task_id()); }
};

// A custom executor on an agent.
struct Executor {
  Handle framework = 0;
  Blob info;            // fb::ExecutorInfo, framework_id and the role of its resources set
  Resources resources;  // charged as long as it lives
  RoleId role{};

  [[nodiscard]] std::string_view id() const { return text(info.as<fb::ExecutorInfo>()->executor_id()); }
};

struct CompletedTask {
  Blob info;
  Blob status;
  fb::TaskState state = fb::TaskState::TASK_FINISHED;
  std::int64_t launched_wall = 0;
  std::uint64_t order = 0;  // of completion, among all
};

struct Offer {
  std::uint64_t number = 0;  // id is "<run>-O<number>"
  Resources resources;
  Handle framework = 0, agent = 0;
  Chain of_framework, of_agent;
  RoleId role{};
};

// The role of that name among `roles`; none if it is not. Names from outside are not interned, for that is for ever.
[[nodiscard]] inline RoleId role_among(const std::vector<RoleId>& roles, std::string_view name) {
  for (const RoleId r : roles)
    if (resource::text_of(r) == name) return r;
  return RoleId::none;
}

struct Framework {
  std::string id;
  Blob info;            // fb::FrameworkInfo, id set
  StreamId stream = 0;  // 0 = disconnected
  std::vector<RoleId> roles;
  std::vector<RoleId> suppressed;
  std::uint32_t allocator_flags = 0;
  std::shared_ptr<const Constraints> wishes;  // null: any agent will do
  // Declined until when, by role and agent; for explanations only, the allocator keeps its own.
  boost::unordered_flat_map<std::uint64_t, Instant> declined;  // flat: hundreds of frameworks may refuse ten thousand agents each
  std::size_t declined_bound = 64;  // at which what has passed is thrown out
  Handle first_task = 0, first_offer = 0;
  std::uint32_t tasks = 0, offers = 0, absent = 0;
  std::deque<CompletedTask> completed;
  std::deque<Handle> absent_order;  // oldest first, may name tasks that have returned
  Instant failover_at = Instant::max();
  Nanos failover_timeout{0};
  std::int64_t registered_wall = 0, reregistered_wall = 0;
  bool recovered = false;  // from the store or an agent; not heard of in this term
  bool partition_aware = false;
  bool region_aware = false;  // may be offered agents of other regions
  bool checkpoint = false;
  bool removing = false;  // its removal is being stored
  bool dirty = false;
  bool told = false;
  bool tell_gone = false;

  [[nodiscard]] const fb::FrameworkInfo& about() const { return *info.as<fb::FrameworkInfo>(); }
  [[nodiscard]] bool connected() const { return stream != 0; }
};

// Thousandths of each scalar.
using RoleAmounts = std::map<resource::NameId, std::int64_t>;

// What the operator has set for a role, and, if it is limited, what it has.
struct RoleSettings {
  double weight = 1;
  bool weighted = false;
  bool limited = false;  // it has quota
  RoleAmounts guarantees, limits;
  RoleAmounts allocated;  // to it and the roles below, of what is not reserved for them
  RoleAmounts reserved;   // for it and the roles below
};

// An operation whose outcome its framework has not acknowledged. Keyed by its uuid.
struct TrackedOperation {
  std::string framework_id, id;
  Blob row;  // fb::ops::Operation
  Instant due = Instant::max();  // told again
  Nanos interval{0};
};

struct CompletedFramework {
  std::string id;
  Blob info;
  std::int64_t registered_wall = 0;
  std::deque<CompletedTask> tasks;
  std::int64_t reregistered_wall = 0, unregistered_wall = 0;
  std::uint64_t order = 0;  // of completion, among all
};

[[nodiscard]] inline bool terminal(fb::TaskState s) {
  using S = fb::TaskState;
  return s == S::TASK_FINISHED || s == S::TASK_FAILED || s == S::TASK_KILLED || s == S::TASK_ERROR ||
         s == S::TASK_LOST || s == S::TASK_DROPPED || s == S::TASK_GONE || s == S::TASK_GONE_BY_OPERATOR;
}

// Flatbuffers check shapes, not values: what came over a link may be any number.
[[nodiscard]] inline bool is_state(fb::TaskState s) {
  return s >= fb::TaskState::MIN && s <= fb::TaskState::MAX;
}

// Lists threaded through a slab: push and unlink by the member that holds the neighbours.
template <class T>
void chain_push(Slab<T>& slab, Chain T::*m, Handle& first, Handle h) {
  (slab[h].*m) = {0, first};
  if (first) (slab[first].*m).prev = h;
  first = h;
}
template <class T>
void chain_remove(Slab<T>& slab, Chain T::*m, Handle& first, Handle h) {
  const Chain c = slab[h].*m;
  if (c.prev)
    (slab[c.prev].*m).next = c.next;
  else
    first = c.next;
  if (c.next) (slab[c.next].*m).prev = c.prev;
  (slab[h].*m) = {};
}

}  // namespace gantry::master
