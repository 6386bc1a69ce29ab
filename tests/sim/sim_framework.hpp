// A framework that does what frameworks do, at random: takes and declines offers, kills, reconciles, loses its connection,
// and remembers everything it was told, so that contradictions come to light.
#pragma once

#include "tests/sim/world.hpp"

#include <array>
#include <map>
#include <set>

namespace gantry::sim {

struct SimTask {
  std::string id, agent_id;
  bool launched = false;               // the accept reached the master
  fb::TaskState last = fb::TaskState::TASK_STAGING;
  bool terminal = false;               // told so by an agent (with uuid) or finally by the master
  fb::TaskState final_state = fb::TaskState::TASK_STAGING;
  std::vector<std::uint8_t> final_uuid;
  int rank = 0;                        // of the furthest state an agent has told
  std::set<std::vector<std::uint8_t>> uuids;
  bool kill_asked = false;
  std::string group;                   // those with the same one end together
};

class SimFramework {
 public:
  SimFramework(World& world, std::size_t number);
  void start();
  void disconnect();                   // its connection breaks; it comes back by itself
  void fail_over();                    // a second scheduler with the same id takes over
  void rest() { resting_ = true; }     // launch nothing more
  void hush() { hushed_ = true; }      // nor do anything else
  [[nodiscard]] const std::map<std::string, SimTask>& tasks() const { return tasks_; }
  [[nodiscard]] const std::string& id() const { return id_; }
  [[nodiscard]] bool connected() const { return subscribed_; }
  [[nodiscard]] const std::string& role() const { return role_; }
  void master_gone();                  // its machine died: the stream is dead

 private:
  void subscribe();
  void subscribe_later(Nanos d);
  void on_event(std::uint64_t session, Bytes bytes);
  void on_end(std::uint64_t session, const Error& error);
  void on_offer(const fb::Offer& offer);
  void on_update(const fb::TaskStatus& status);
  void call(fb::CallT c, std::function<void(Status)> done = {});
  void reconcile();
  void kill_something();
  void live();                         // its own doings, again and again

  World& world_;
  std::size_t number_;
  std::string id_, role_;
  bool partition_aware_;
  bool resting_ = false, hushed_ = false;
  bool subscribed_ = false;
  std::uint64_t session_ = 0;          // grows with each subscription
  master::StreamId stream_ = 0;
  std::uint64_t next_task_ = 0, next_group_ = 0;
  std::map<std::string, SimTask> tasks_;
};

}  // namespace gantry::sim
