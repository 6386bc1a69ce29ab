// One simulated cluster: a real Master shell and core, real agent cores, the real DRF module inline, a network and disks
// with seeded faults, and the laws that must hold after every step.
#pragma once

#include "kernel/agent/core.hpp"
#include "kernel/base/manual_loop.hpp"
#include "kernel/master/master.hpp"
#include "kernel/module/instance.hpp"
#include "kernel/module/strand.hpp"
#include "kernel/base/metric.hpp"
#include "tests/sim/random.hpp"
#include "tests/sim/sim_store.hpp"

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace gantry::sim {

using base::Instant;
using base::Nanos;
using namespace std::chrono_literals;

struct WorldOptions {
  std::uint64_t seed = 1;
  unsigned agents = 4;
  unsigned frameworks = 3;
  Nanos length = 60min;         // with faults; then a quiet time in which everything must converge
  Nanos quiet = 30min;
  bool faults = true;
  // Percent of the time between two faults of a kind; 0 switches the kind off.
  Nanos mean_between_faults = 40s;
  unsigned store_failures = 2;      // percent of commits
  unsigned allocator_failures = 1;  // percent of rounds; others are slow
  // Guards taken away on purpose, to see that the simulator notices:
  bool acknowledge_before_store = false;   // the master's store answers before the record is on disk
  bool send_before_append = false;         // the agent tells before its journal has it
  bool trace = false;                      // print every step
  // Of the master; scenarios set them.
  Nanos ping_interval = 15s, offer_timeout = 2min, agent_reregister_timeout = 10min;
};

// How a container will behave.
struct TaskPlan {
  Nanos starts_after{0};
  bool fails = false;                      // its launch
  std::optional<Nanos> ends_after;         // by itself, counted from its start; nothing: never
  int exit_code = 0;
  std::optional<Nanos> obeys_after = Nanos(0);  // after SIGTERM; nothing: only SIGKILL ends it
  bool healthy = true;                     // what its health checks find
};

class SimAgent;
class SimFramework;
struct SimContainer;

class World {
 public:
  explicit World(WorldOptions options);
  ~World();
  // Plays the whole time. False when a law was broken; broken() says which, at what time.
  bool run();
  // For scenarios: plays until `end`, or until `until` (asked after every step) is true, without random faults of its own.
  // False when a law was broken.
  bool play_until(Instant end, const std::function<bool()>& until = {});
  [[nodiscard]] const std::string& broken() const { return broken_; }
  void violated(std::string what);
  void trace(const std::string& what);

  struct Statistics {
    std::uint64_t steps = 0, faults = 0, launched = 0, terminal = 0, updates = 0, offers = 0, master_starts = 0;
  };
  Statistics statistics;

  const WorldOptions options;
  base::ManualLoop loop;
  Random random;

  // ---- the master's machine
  void start_master();
  void crash_master();
  [[nodiscard]] bool master_up() const { return master_ != nullptr; }
  [[nodiscard]] master::Master* master() const { return master_ && master_->leading() ? master_.get() : nullptr; }
  void settle();  // no more faults; everything that is down comes back

  // ---- the network: one connection per agent, ordered both ways, until it breaks
  struct Connection;
  master::LinkId connect(SimAgent& agent);           // 0: refused
  void send_to_master(master::LinkId link, Buffer frame, bool twice);
  void cut(SimAgent& agent);                         // both ends notice, each in its own time
  void partition(SimAgent& agent, Nanos d);          // what is sent waits

  // Scenarios say how containers behave; without this, chance does.
  std::function<TaskPlan(const std::string& framework_id, const std::string& task_id)> plan;
  std::function<void()> on_master_gone;

  std::vector<std::unique_ptr<SimAgent>> agents;
  std::vector<std::unique_ptr<SimFramework>> frameworks;

  void check_laws();

 private:
  class Links;
  friend class Links;
  class Allocator;  // the module, with trouble now and then
  void retire_allocator();
  void step_faults();
  void one_fault();
  void check_convergence();
  Disk disk_;
  unsigned store_failures_;
  std::unique_ptr<module::Strands> strands_;
  base::Metrics metrics_;
  std::unique_ptr<Links> links_;
  std::unique_ptr<SimStore> store_;
  std::unique_ptr<module::LocalInstance> allocator_;
  std::unique_ptr<Allocator> troubled_;
  std::unique_ptr<master::Master> master_;
  std::set<std::shared_ptr<module::LocalInstance>> retired_;  // being stopped
  std::uint64_t checked_ = 0;  // events of the master at the last look
  std::uint64_t master_term_ = 0;
  master::LinkId next_link_ = 0;
  std::map<master::LinkId, std::shared_ptr<Connection>> connections_;
  bool settled_ = false;
  std::string broken_;
};

}  // namespace gantry::sim
