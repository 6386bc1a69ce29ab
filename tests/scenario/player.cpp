#include "tests/scenario/player.hpp"

#include "kernel/resource/wire.hpp"
#include "tests/scenario/scenario_framework.hpp"
#include "tests/sim/sim_agent.hpp"
#include "tests/sim/sim_framework.hpp"

#include <algorithm>
#include <fstream>
#include <sstream>

namespace gantry::scenario {

namespace {

using namespace std::chrono_literals;
using sim::Instant;

sim::WorldOptions world_options(const Scenario& s, bool trace) {
  sim::WorldOptions o;
  o.agents = 0;
  o.frameworks = 0;
  o.faults = false;
  o.trace = trace;
  o.ping_interval = s.ping_interval;
  o.offer_timeout = s.offer_timeout;
  o.agent_reregister_timeout = s.agent_reregister_timeout;
  return o;
}

resource::Resources reserved_for(const std::string& text, const std::string& role, const std::string& principal) {
  resource::Reservation r;
  r.dynamic = true;
  r.role = role;
  r.principal = principal;
  return resource::Resources::parse(text)->push_reservation(r);
}

// Reservations by their role alone, as scenarios write them.
resource::Resources by_role(const resource::Resources& r) {
  resource::Resources out;
  for (const auto& x : r.unallocated()) {
    resource::Resource plain(x.name(), x.value());
    if (x.reserved()) {
      resource::Reservation s;
      s.role = x.reservations().back().role;
      plain.push_reservation(s);
    }
    out.add(plain);
  }
  return out;
}

class Player {
 public:
  Player(const Scenario& scenario, bool trace) : scenario_(scenario), world_(world_options(scenario, trace)) {
    for (const auto& a : scenario.agents)
      world_.agents.push_back(std::make_unique<sim::SimAgent>(world_, world_.agents.size(), a.resources, a.name));
    for (const auto& f : scenario.frameworks) frameworks_.push_back(std::make_unique<ScenarioFramework>(world_, f));
    world_.plan = [this](const std::string&, const std::string& task_id) { return plan(task_id); };
    world_.on_master_gone = [this] {
      for (auto& f : frameworks_) f->master_gone();
    };
  }

  std::string run() {
    world_.start_master();
    for (auto& a : world_.agents) a->start();
    // Everybody is there when the first step comes; frameworks after the agents, in the order of the file.
    if (!world_.play_until(world_.loop.now() + 30s, [this] { return settled(); })) return world_.broken();
    for (auto& f : frameworks_) {
      if (!f->spec().subscribe) continue;
      f->subscribe();
      if (!world_.play_until(world_.loop.now() + 5s, [&f] { return !f->id().empty(); })) return world_.broken();
    }
    for (const auto& step : scenario_.steps) {
      world_.trace(step.where.text() + ": " + step.verb + " " + step.what);
      const Instant began = world_.loop.now();
      std::string wrong = play(step);
      if (!world_.broken().empty()) wrong = "a law was broken: " + world_.broken();
      if (wrong.empty()) continue;
      std::string out = step.where.text() + ": error: " + step.verb + (step.what.empty() ? "" : " " + step.what) + ": " + wrong;
      char at[64];
      std::snprintf(at, sizeof at, "\n  the step began at %.3f s and ended at %.3f s", static_cast<double>(began.count()) / 1e9,
                    static_cast<double>(world_.loop.now().count()) / 1e9);
      out += at;
      for (auto& f : frameworks_) {
        out += "\n  " + f->spec().name + " has heard, not yet expected:";
        const std::size_t n = f->heard().size();
        std::size_t shown = 0;
        for (std::size_t i = 0; i < n && shown < 20; ++i)
          if (!f->heard()[i].taken) out += "\n    " + f->heard()[i].text(), ++shown;
        if (!shown) out += " nothing";
      }
      return out;
    }
    return {};
  }

 private:
  bool settled() {
    return std::all_of(world_.agents.begin(), world_.agents.end(), [](const auto& a) { return a->core() && a->core()->registered(); });
  }

  ScenarioFramework& framework(const std::string& name) {
    return **std::find_if(frameworks_.begin(), frameworks_.end(), [&](const auto& f) { return f->spec().name == name; });
  }
  sim::SimAgent& agent(const std::string& name) {
    return **std::find_if(world_.agents.begin(), world_.agents.end(), [&](const auto& a) { return a->hostname() == name; });
  }
  // The id it was last known by.
  std::string agent_id(const std::string& name) {
    if (name.empty()) return {};
    const auto* core = agent(name).core();
    if (core && !core->agent_id().empty()) agent_ids_[name] = core->agent_id();
    return agent_ids_[name];
  }

  sim::TaskPlan plan(const std::string& task_id) {
    sim::TaskPlan p;
    const auto it = tasks_.find(task_id);
    if (it == tasks_.end()) return p;
    const TaskSpec& t = it->second;
    p.starts_after = t.starts_after;
    p.fails = t.fails;
    p.ends_after = t.runs;
    p.exit_code = t.exit_code;
    if (t.ignores_term) p.obeys_after.reset();
    p.healthy = !t.unhealthy;
    return p;
  }

  bool matches(const Step& s, ScenarioFramework& f, const Heard& h) {
    if (h.event != s.what) return false;
    if (h.offer) {
      if (!s.agent.empty() && h.offer->hostname != s.agent) return false;
      if (!s.role.empty() && h.offer->allocation_role != s.role) return false;
      if (!s.resources.empty()) {
        const auto r = resource::from_wire(h.offer->resources);
        if (!r || !(by_role(*r) == *resource::Resources::parse(s.resources))) return false;
      }
    }
    if (!h.offer && h.event == "rescind" && !s.offers.empty()) {
      const auto named = f.names.find(s.offers[0]);
      if (named == f.names.end() || named->second != h.offer_id) return false;
    }
    if (h.event == "failure" && !s.agent.empty() && h.agent_id != agent_id(s.agent)) return false;
    if (h.status) {
      const auto& u = *h.status;
      if (!s.task.empty() && u.task_id != s.task) return false;
      if (!s.state.empty() && s.state != fb::EnumNameTaskState(u.state)) return false;
      if (s.reason == "none" ? u.reason.has_value() : !s.reason.empty() && (!u.reason || s.reason != fb::EnumNameReason(*u.reason))) return false;
      if (!s.source.empty() && (!u.source || s.source != fb::EnumNameSource(*u.source))) return false;
      if (s.uuid && *s.uuid == u.uuid.empty()) return false;
      if (!s.agent.empty() && u.agent_id != agent_id(s.agent)) return false;
    }
    const std::string& message = h.status ? h.status->message : h.message;
    return s.message.empty() || message.find(s.message) != std::string::npos;
  }

  // Updates of a task are taken in order: the first one not yet expected must be the one.
  Heard* find(const Step& s, ScenarioFramework& f, std::string& wrong) {
    for (auto& h : f.heard()) {
      if (h.taken) continue;
      if (matches(s, f, h)) return &h;
      if (h.status && s.what == "update" && (s.task.empty() || h.status->task_id == s.task)) {
        wrong = "came something else first: " + h.text();
        return nullptr;
      }
    }
    return nullptr;
  }

  std::string expect(const Step& s) {
    ScenarioFramework& f = framework(s.framework);
    std::string wrong;
    Heard* h = nullptr;
    world_.play_until(world_.loop.now() + s.within, [&] { return (h = find(s, f, wrong)) || !wrong.empty(); });
    if (!wrong.empty()) return wrong;
    if (!h) return "did not come in time";
    h->taken = true;
    if (!s.as.empty() && h->offer) f.names[s.as] = h->offer->id;
    return {};
  }

  std::string forbid(const Step& s) {
    ScenarioFramework& f = framework(s.framework);
    const std::size_t from = f.heard().size();
    std::size_t seen = from;
    std::string wrong;
    world_.play_until(world_.loop.now() + *s.length, [&] {
      for (; seen < f.heard().size(); ++seen)
        if (matches(s, f, f.heard()[seen])) wrong = "it came: " + f.heard()[seen].text();
      return !wrong.empty();
    });
    return wrong;
  }

  // The ids of the offers a step names; without names, the newest one held.
  std::string offers(const Step& s, ScenarioFramework& f, std::vector<std::string>& out) {
    for (const auto& name : s.offers) {
      const auto it = f.names.find(name);
      out.push_back(it == f.names.end() ? name : it->second);  // any text: offers nobody made are cases, too
    }
    if (!s.offers.empty()) return {};
    const auto newest = std::max_element(f.held().begin(), f.held().end(), [](const auto& a, const auto& b) { return a.second < b.second; });
    if (newest == f.held().end()) return "the framework holds no offer";
    out.push_back(newest->first);
    return {};
  }

  std::unique_ptr<fb::FiltersT> filters(const Step& s) {
    if (!s.refuse) return nullptr;
    auto out = std::make_unique<fb::FiltersT>();
    out->refuse_seconds = static_cast<double>(s.refuse->count()) / 1e9;
    return out;
  }

  std::unique_ptr<fb::TaskInfoT> make_task(const TaskSpec& spec, const fb::OfferT* offer, const std::string& role, const std::string& principal) {
    auto t = std::make_unique<fb::TaskInfoT>();
    t->name = spec.id;
    t->task_id = spec.id;
    t->agent_id = spec.agent.empty() ? (offer ? offer->agent_id : "") : agent_id(spec.agent);
    resource::Resources r = *resource::Resources::parse(spec.resources);
    r += reserved_for(spec.reserved, role, principal);
    t->resources = resource::to_wire(r);
    if (spec.command) {
      t->command = std::make_unique<fb::CommandInfoT>();
      t->command->value = "scenario";
    }
    if (spec.executor) {
      t->executor = std::make_unique<fb::ExecutorInfoT>();
      t->executor->executor_id = "e";
      t->executor->command = std::make_unique<fb::CommandInfoT>();
      t->executor->command->value = "scenario";
      tasks_["e"].runs = spec.executor_runs;
    }
    if (spec.kill_grace) {
      t->kill_policy = std::make_unique<fb::KillPolicyT>();
      t->kill_policy->grace_period_ns = spec.kill_grace->count();
    }
    if (spec.max_completion_time) t->max_completion_time_ns = spec.max_completion_time->count();
    if (spec.unhealthy) {
      t->health_check = std::make_unique<fb::HealthCheckT>();
      t->health_check->type = fb::CheckType::TCP;
      t->health_check->tcp = std::make_unique<fb::TcpCheckT>();
      t->health_check->tcp->port = 1;
      t->health_check->delay_seconds = 0;
      t->health_check->grace_period_seconds = 0;
    }
    return t;
  }

  std::string accept(const Step& s) {
    ScenarioFramework& f = framework(s.framework);
    fb::CallT c;
    c.type = fb::CallType::ACCEPT;
    c.accept = std::make_unique<fb::AcceptT>();
    if (auto wrong = offers(s, f, c.accept->offer_ids); !wrong.empty()) return wrong;
    const fb::OfferT* offer = f.offer(c.accept->offer_ids[0]);
    const std::string role = offer ? offer->allocation_role : f.spec().roles[0];
    const std::string& principal = f.spec().name;
    if (!s.unreserve.empty()) {
      auto op = std::make_unique<fb::OperationT>();
      op->type = fb::OperationType::UNRESERVE;
      op->unreserve = std::make_unique<fb::UnreserveT>();
      op->unreserve->resources = resource::to_wire(reserved_for(s.unreserve, role, principal));
      c.accept->operations.push_back(std::move(op));
    }
    if (!s.reserve.empty()) {
      auto op = std::make_unique<fb::OperationT>();
      op->type = fb::OperationType::RESERVE;
      op->reserve = std::make_unique<fb::ReserveT>();
      op->reserve->resources = resource::to_wire(reserved_for(s.reserve, role, principal));
      c.accept->operations.push_back(std::move(op));
    }
    if (!s.tasks.empty()) {
      auto op = std::make_unique<fb::OperationT>();
      op->type = fb::OperationType::LAUNCH;
      op->launch = std::make_unique<fb::LaunchT>();
      for (const auto& t : s.tasks) {
        tasks_.emplace(t.id, t);
        op->launch->task_infos.push_back(make_task(t, offer, role, principal));
      }
      if (!s.group.empty()) {
        op->type = fb::OperationType::LAUNCH_GROUP;
        op->launch_group = std::make_unique<fb::LaunchGroupT>();
        op->launch_group->executor = std::make_unique<fb::ExecutorInfoT>();
        op->launch_group->executor->type = fb::ExecutorType::DEFAULT;
        op->launch_group->executor->executor_id = s.group;
        op->launch_group->executor->resources = resource::to_wire(*resource::Resources::parse("cpus:0.5;mem:32;disk:10"));
        op->launch_group->task_infos = std::move(op->launch->task_infos);
        op->launch.reset();
        if (s.tasks.front().executor_runs) tasks_[s.group].runs = s.tasks.front().executor_runs;
      }
      c.accept->operations.push_back(std::move(op));
    }
    c.accept->filters = filters(s);
    for (const auto& id : c.accept->offer_ids) f.give_up(id);
    f.call(std::move(c));
    return {};
  }

  std::string act(const Step& s) {
    if (s.verb == "wait") {
      world_.play_until(world_.loop.now() + *s.length);
    } else if (s.verb == "start") {
      if (s.what == "master") world_.start_master();
      else agent(s.agent).start();
    } else if (s.verb == "stop") {
      if (s.what == "master") return world_.crash_master(), "";
      (void)agent_id(s.agent);
      agent(s.agent).crash();
    } else if (s.verb == "reboot") {
      (void)agent_id(s.agent);
      agent(s.agent).reboot();
    } else if (s.verb == "cut") {
      world_.partition(agent(s.agent), *s.length);
    } else {
      auto& f = framework(s.framework);
      fb::CallT c;
      if (s.verb == "subscribe") return f.subscribe(), "";
      if (s.verb == "disconnect") return f.disconnect(), "";
      if (s.verb == "acknowledge") return f.acknowledge(s.task), "";
      if (s.verb == "decline") {
        c.type = fb::CallType::DECLINE;
        c.decline = std::make_unique<fb::DeclineT>();
        if (auto wrong = offers(s, f, c.decline->offer_ids); !wrong.empty()) return wrong;
        for (const auto& id : c.decline->offer_ids) f.give_up(id);
        c.decline->filters = filters(s);
      } else if (s.verb == "kill") {
        c.type = fb::CallType::KILL;
        c.kill = std::make_unique<fb::KillT>();
        c.kill->task_id = s.task;
        c.kill->agent_id = agent_id(s.agent);
        if (s.grace) {
          c.kill->kill_policy = std::make_unique<fb::KillPolicyT>();
          c.kill->kill_policy->grace_period_ns = s.grace->count();
        }
      } else if (s.verb == "reconcile") {
        c.type = fb::CallType::RECONCILE;
        c.reconcile = std::make_unique<fb::ReconcileT>();
        for (const auto& t : s.tasks) {
          auto r = std::make_unique<fb::ReconcileTaskT>();
          r->task_id = t.id;
          r->agent_id = agent_id(s.agent);
          c.reconcile->tasks.push_back(std::move(r));
        }
      } else if (s.verb == "revive") {
        c.type = fb::CallType::REVIVE;
        c.revive = std::make_unique<fb::ReviveT>();
        c.revive->roles = s.roles;
      } else if (s.verb == "suppress") {
        c.type = fb::CallType::SUPPRESS;
        c.suppress = std::make_unique<fb::SuppressT>();
        c.suppress->roles = s.roles;
      } else if (s.verb == "teardown") {
        c.type = fb::CallType::TEARDOWN;
      }
      f.call(std::move(c));
    }
    return {};
  }

  std::string running(const Step& s) {
    bool found = false;
    for (const auto& a : world_.agents) {
      if (!s.agent.empty() && a->hostname() != s.agent) continue;
      for (const auto& [id, c] : a->containers()) found |= c.task_id == s.task && c.started && !c.ended;
    }
    if (found == s.value) return {};
    return found ? "its container runs" : "no container of it runs";
  }

  std::string play(const Step& s) {
    if (s.verb == "expect") return expect(s);
    if (s.verb == "forbid") return forbid(s);
    if (s.verb == "accept") return accept(s);
    if (s.verb == "running") return running(s);
    return act(s);
  }

  const Scenario& scenario_;
  std::vector<std::unique_ptr<ScenarioFramework>> frameworks_;  // outlive the master, which tells them its end
  sim::World world_;
  std::map<std::string, TaskSpec> tasks_;
  std::map<std::string, std::string> agent_ids_;
};

}  // namespace

std::string play(const Scenario& scenario, bool trace) {
  return Player(scenario, trace).run();
}

std::string play_file(const std::string& path, bool trace) {
  std::ifstream in(path);
  if (!in) return path + ": error: cannot be read";
  std::ostringstream text;
  text << in.rdbuf();
  std::vector<config::Problem> problems;
  const Scenario s = read(text.str(), path, problems);
  std::string out;
  for (const auto& p : problems) out += (out.empty() ? "" : "\n") + p.text();
  return problems.empty() ? play(s, trace) : out;
}

}  // namespace gantry::scenario
