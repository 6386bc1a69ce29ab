// An agent's machine: the real agent core, a journal on a disk that survives crashes, containers that live on while the
// daemon is away.
#pragma once

#include "kernel/agent/core.hpp"
#include "kernel/resource/resources.hpp"
#include "tests/sim/world.hpp"

#include <map>
#include <optional>
#include <set>

namespace gantry::sim {

struct SimContainer {
  std::string framework_id, task_id;
  resource::Resources resources;
  Instant ends{0};                     // by itself
  int wait_status = 0;
  bool started = false;
  bool ended = false;                  // its supervisor has recorded the end
  agent::Identity identity;
  std::optional<Instant> kill_at;
  TaskPlan plan;
  bool executor = false;
  bool hold = false;                   // of the default executor
  std::string parent;                  // the container it is nested in
  bool with_parent = false;            // ended because that one did
  std::uint64_t stream = 0;            // of its executor; 0: it has none, or was not connected yet
};

class SimAgent {
 public:
  SimAgent(World& world, std::size_t number, std::string resources, std::string hostname = {});

  void start();                        // the daemon
  void crash();                        // kill -9 of the daemon; containers go on
  void reboot();                       // the machine: containers die too
  [[nodiscard]] bool up() const { return core_ != nullptr; }
  [[nodiscard]] const agent::Core* core() const { return core_.get(); }
  [[nodiscard]] const std::map<std::string, SimContainer>& containers() const { return containers_; }
  [[nodiscard]] const resource::Resources& total() const { return total_; }
  [[nodiscard]] std::size_t number() const { return number_; }
  [[nodiscard]] const std::string& hostname() const { return info_.hostname; }

  // From the network.
  void on_connected(master::LinkId link);
  void on_disconnected(const std::string& why);
  void on_frame(Bytes frame);
  master::LinkId link = 0;
  Instant partitioned_until{0};

 private:
  void check_laws();
  void step(agent::Event event);
  void execute(agent::Effect& effect);
  void arm();
  void launch(agent::LaunchSpec spec);
  [[nodiscard]] TaskPlan chance_plan();
  void end_container(const std::string& id, agent::ExitInfo exit);
  void end_nested(const std::string& parent);
  // sim_executor.cpp: a custom executor that does what it is told
  void connect_executor(const std::string& container);
  void tell_executor(std::uint64_t stream, Bytes event);
  void say_update(std::uint64_t stream, const std::string& task, fb::TaskState state);
  void after(Nanos d, Function<void()> fn);  // only if this life of the daemon still goes on

  World& world_;
  std::size_t number_;
  resource::Resources total_;
  fb::AgentInfoT info_;
  std::string boot_id_;
  std::vector<std::vector<std::uint8_t>> journal_;         // on disk
  std::vector<std::vector<std::uint8_t>> write_cache_;     // the broken guard: acknowledged, not on disk
  std::map<std::string, SimContainer> containers_;
  std::set<std::pair<std::string, std::string>> started_once_;
  std::unique_ptr<agent::Core> core_;
  std::uint64_t life_ = 0, boots_ = 0, pids_ = 100, streams_ = 0, words_ = 0;
  base::TimerId timer_ = 0;
  Instant armed_ = Instant::max();
  std::deque<agent::Event> pending_;
  bool stepping_ = false;
};

}  // namespace gantry::sim
