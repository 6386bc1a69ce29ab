// The cluster as this gateway knows it: rows put together from the chunks of the host service STATE (sdk/schema/state.fbs).
//
// Rows are immutable and shared, so that a View, the picture of one moment, costs a pointer a row, and answers are
// written from it on another thread while the model goes on. The model itself lives on the strand.
#pragma once

#include "../access.hpp"
#include "row.hpp"

#include <gantry/message.hpp>
#include <gantry/state_generated.h>

#include <array>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

namespace gantry::gateway_mesos {

struct AgentRow {
  std::string id;
  Own<fb::AgentInfo> info;
  Own<fb::state::Agent> row;  // without info
  [[nodiscard]] bool registered() const { return row->standing() == fb::state::Standing::REGISTERED; }
};
using AgentPtr = std::shared_ptr<const AgentRow>;

struct FrameworkRow {
  std::string id;
  Own<fb::FrameworkInfo> info;
  Own<fb::state::Framework> row;  // without info
};
using FrameworkPtr = std::shared_ptr<const FrameworkRow>;

struct OfferRow {
  std::string id, framework_id, agent_id, role;
  Own<fb::state::Offer> row;
};
using OfferPtr = std::shared_ptr<const OfferRow>;

using InverseOfferPtr = std::shared_ptr<const fb::InverseOfferT>;
using MaintenancePtr = std::shared_ptr<const fb::state::MaintenanceT>;
// What the operator has set for a role.
struct RoleRow {
  double weight = 1;
  Own<fb::master::QuotaConfig> quota;  // none: no quota
};

struct ExecutorRow {
  std::string agent_id, framework_id;
  Own<fb::ExecutorInfo> info;
};
using ExecutorPtr = std::shared_ptr<const ExecutorRow>;

// One moment. Agents, frameworks and offers are in order of their ids.
struct View {
  struct Framework {
    FrameworkPtr row;
    std::vector<TaskPtr> tasks;      // live, not absent
    std::vector<TaskPtr> absent;     // of unreachable agents
    std::vector<TaskPtr> completed;  // oldest first
  };
  std::string master_id;
  std::uint64_t elected_ns = 0;
  std::uint64_t version = 0;
  bool converged = false;
  std::uint32_t completed_frameworks = 0, completed_tasks = 0;  // how many are kept
  std::vector<AgentPtr> agents;
  std::vector<Framework> frameworks, completed;
  std::vector<OfferPtr> offers;
  std::vector<ExecutorPtr> executors;  // custom ones that live; they hold resources of their own
  std::vector<InverseOfferPtr> inverse_offers;
  MaintenancePtr maintenance;  // null: nothing was ever planned
  std::map<std::string, std::shared_ptr<const RoleRow>, std::less<>> roles;  // that have a weight or quota
  std::vector<Own<fb::ops::Operation>> operations;
  Verdicts verdicts;  // of whom it was made for (filter.hpp); rows are filtered already, roles by whoever writes them
};

// What is planned and what becomes of it; empty where nothing is.
[[nodiscard]] fb::master::MaintenanceScheduleT maintenance_schedule(const View& v);
[[nodiscard]] fb::master::MaintenanceStatusT maintenance_status(const View& v);

class Cluster {
 public:
  // What a change means to those who are told of changes; on the strand, from within apply(), and only once whole().
  class Listener {
   public:
    virtual ~Listener() = default;
    virtual void task_added(const TaskPtr&) {}
    // `status` may be null when the master has decided by itself, e.g. that its agent is unreachable.
    virtual void task_updated(const TaskPtr&, const Own<fb::TaskStatus>& /*status*/) {}
    virtual void agent_added(const AgentPtr&) {}
    virtual void agent_removed(const std::string& /*id*/) {}
    virtual void framework_added(const FrameworkPtr&) {}
    virtual void framework_updated(const FrameworkPtr&) {}
    virtual void framework_removed(const FrameworkPtr&) {}
  };

  void listen(Listener* listener) { listener_ = listener; }  // null: nobody

  // An error: the chunk does not follow the last one, or is malformed; clear() and follow anew.
  Status apply(Bytes chunk);
  void clear();
  // The snapshot is complete.
  [[nodiscard]] bool whole() const { return whole_; }
  [[nodiscard]] bool converged() const { return converged_; }
  [[nodiscard]] std::uint64_t version() const { return version_; }
  [[nodiscard]] const std::string& master_id() const { return master_id_; }
  [[nodiscard]] std::size_t tasks() const { return live_; }

  [[nodiscard]] AgentPtr agent(std::string_view id) const;  // null: not known
  [[nodiscard]] FrameworkPtr framework_row(std::string_view id) const;
  [[nodiscard]] std::shared_ptr<const View> view() const;

 private:
  struct Framework {
    FrameworkPtr row;  // null: its tasks came first
    std::shared_ptr<const std::string> id;
    std::unordered_map<std::string_view, TaskPtr> tasks;  // by the id in the row
    std::map<std::uint64_t, TaskPtr> completed;
  };
  Framework& framework(std::string_view id);
  // Puts a row in the place of one of the same id, if there is one.
  static void place(Framework& f, TaskPtr row);
  void on_agent(const fb::state::Agent& a);
  void on_framework(const fb::state::Framework& f);
  void on_task(const fb::state::Task& t, bool snapshot);
  void on_update(const fb::state::Update& u);
  void on_offer(const fb::state::Offer& o);
  void on_executor(const fb::state::Executor& e);
  void on_inverse_offer(const fb::InverseOffer& o);
  void on_role(const fb::state::Role& r);
  void on_operation(const fb::state::Operation& o);
  void on_gone(const fb::state::Gone& g);

  Listener* listener_ = nullptr;
  std::map<std::string, AgentPtr, std::less<>> agents_;
  std::map<std::string, Framework, std::less<>> frameworks_;
  std::map<std::uint64_t, std::string> over_;  // completed frameworks, by the order of their end
  std::map<std::string, OfferPtr, std::less<>> offers_;
  std::map<std::array<std::string, 3>, ExecutorPtr> executors_;  // by framework, agent and id
  std::map<std::string, InverseOfferPtr, std::less<>> inverse_offers_;
  MaintenancePtr maintenance_;
  std::map<std::string, std::shared_ptr<const RoleRow>, std::less<>> roles_;
  std::map<std::string, Own<fb::ops::Operation>> operations_;  // by uuid
  std::string master_id_;
  std::uint64_t elected_ns_ = 0, version_ = 0;
  std::uint32_t keep_frameworks_ = 0, keep_tasks_ = 0;
  std::size_t live_ = 0;
  bool begun_ = false, whole_ = false, converged_ = false;
  mutable std::shared_ptr<const View> view_;  // of this version, if it was asked for
};

}  // namespace gantry::gateway_mesos
