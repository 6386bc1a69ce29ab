// gantry status, agents, frameworks, version.
#include "tools/gantry/control.hpp"
#include "tools/gantry/format.hpp"
#include "tools/gantry/json_writer.hpp"
#include "tools/gantry/resources.hpp"

#include <ctime>
#include <iostream>

namespace gantry::cli {

namespace control = fb::control;

int exit_code(const Error& e) {
  switch (e.code) {
    case Code::ok:
      return exit_ok;
    case Code::invalid_argument:
      return exit_usage;
    case Code::unavailable:
    case Code::deadline_exceeded:
      return exit_unreachable;
    case Code::not_found:
      return exit_not_found;
    case Code::permission_denied:
    case Code::unauthenticated:
      return exit_denied;
    case Code::cancelled:
      return exit_interrupted;
    default:
      return exit_failed;
  }
}

int report(const Context& c, const Error& e) {
  *c.err << "gantry: " << e.message << "\n";
  return exit_code(e);
}

std::int64_t wall_now() {
  timespec t{};
  ::clock_gettime(CLOCK_REALTIME, &t);
  return std::int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
}

namespace {

std::string joined(const std::vector<std::string>& words, std::string_view with = ", ") {
  std::string out;
  for (const std::string& w : words) out += (out.empty() ? "" : std::string(with)) + w;
  return out;
}

int print_status(Context& c, const control::StatusT& s) {
  if (c.json) {
    JsonWriter w;
    w.open('{')
        .field("version", s.version)
        .list("roles", s.roles)
        .field("hostname", s.hostname)
        .field("pid", s.pid)
        .field("work_dir", s.work_dir);
    w.field("uptime_seconds", static_cast<double>(s.uptime_ns / 1'000'000) / 1000)
        .field("leader", s.leader)
        .field("leading", s.leading);
    w.field("master_id", s.master_id).field("agent_id", s.agent_id).field("registered", s.registered);
    w.field("agents", s.agents).field("frameworks", s.frameworks).field("tasks", s.tasks).field("offers", s.offers);
    w.key("listeners").open('[');
    for (const auto& l : s.listeners) w.open('{').field("name", l->name).field("address", l->address).close();
    w.close().list("warnings", s.warnings).close();
    *c.out << w.text();
    return exit_ok;
  }
  bool master = false, agent = false;
  for (const std::string& r : s.roles) {
    master = master || r == "master";
    agent = agent || r == "agent";
  }
  Table t({"gantryd " + s.version, joined(s.roles, " and ") + " on " + s.hostname + ", pid " + std::to_string(s.pid) +
                                       ", up " + age(static_cast<std::int64_t>(s.uptime_ns))});
  if (master)
    t.add({"master", s.leading ? "leading, id " + s.master_id
                               : "standing by; the leader is " + (s.leader.empty() ? "not known" : s.leader)});
  if (agent)
    t.add({"agent", s.registered ? "registered, id " + s.agent_id
                                 : "not registered" + (s.leader.empty() ? "; no master is known"
                                                                        : " with the master at " + s.leader)});
  if (master)
    t.add({"cluster", plural(s.agents, "agent") + ", " + plural(s.frameworks, "framework") + ", " +
                          plural(s.tasks, "task") + ", " + plural(s.offers, "open offer")});
  else
    t.add({"tasks", std::to_string(s.tasks)});
  t.add({"work_dir", s.work_dir});
  for (const auto& l : s.listeners) t.add({"listener", l->name + " on " + l->address});
  for (const std::string& w : s.warnings) t.add({"warning", w});
  *c.out << t.text(c.terminal);
  return exit_ok;
}

// Asks one question and collects what comes.
template <class Say, class Ask, class Each>
Status collect(Context& c, Ask ask, Each each) {
  GANTRY_TRY(auto daemon, Daemon::find(c));
  return daemon.ask_for<Say>(std::move(ask), each);
}

}  // namespace

int status(Context& c) {
  control::StatusT found;
  if (const Status s =
          collect<control::StatusT>(c, control::AskStatusT{}, [&](const control::StatusT& a) { found = a; });
      !s)
    return report(c, s.error());
  return print_status(c, found);
}

int agents(Context& c) {
  Table t({"AGENT", "HOST", "STATE", "TASKS", "CPUS", "MEM", "DISK", "OFFERED", "ADDRESS"});
  JsonWriter w;
  w.open('{').key("agents").open('[');
  const Status s = collect<control::AgentsT>(c, control::AskAgentsT{}, [&](const control::AgentsT& found) {
    for (const auto& a : found.agents) {
      if (!a->info) continue;
      const char* state = a->unreachable  ? "unreachable"
                          : !a->connected ? "disconnected"
                          : a->active     ? "active"
                                          : "inactive";
      const auto share = [&](std::string_view name, bool memory) {
        const double used = scalar(a->used, name), total = scalar(a->total, name);
        return memory ? mebibytes(used) + "/" + mebibytes(total) : amount(used) + "/" + amount(total);
      };
      t.add({a->info->id, a->info->hostname, state, std::to_string(a->tasks), share("cpus", false), share("mem", true),
             share("disk", true), amount(scalar(a->offered, "cpus")) + " cpus", a->info->address});
      w.open('{')
          .field("id", a->info->id)
          .field("hostname", a->info->hostname)
          .field("address", a->info->address)
          .field("version", a->info->version);
      w.field("state", state).field("tasks", a->tasks);
      write_resources(w, "total", a->total);
      write_resources(w, "used", a->used);
      write_resources(w, "offered", a->offered);
      w.close();
    }
  });
  w.close().close();
  if (!s) return report(c, s.error());
  if (c.json) {
    *c.out << w.text();
  } else if (t.empty()) {
    *c.out << "No agent is known. Start one with: gantryd --config agent.toml\n";
  } else {
    *c.out << t.text(c.terminal);
  }
  return exit_ok;
}

int frameworks(Context& c) {
  Table t({"FRAMEWORK", "NAME", "STATE", "ROLES", "TASKS", "CPUS", "MEM", "SINCE"});
  JsonWriter w;
  w.open('{').key("frameworks").open('[');
  const Status s = collect<control::FrameworksT>(c, control::AskFrameworksT{}, [&](const control::FrameworksT& found) {
    for (const auto& f : found.frameworks) {
      if (!f->info) continue;
      const char* state = f->completed    ? "completed"
                          : !f->connected ? "disconnected"
                          : f->active     ? "active"
                                          : "inactive";
      std::vector<std::string> roles = f->info->roles;
      if (roles.empty() && !f->info->role.empty()) roles.push_back(f->info->role);
      const auto registered = static_cast<std::int64_t>(f->registered_ns);
      t.add({f->info->id, f->info->name, state, joined(roles), std::to_string(f->tasks),
             amount(scalar(f->used, "cpus")), mebibytes(scalar(f->used, "mem")),
             registered ? age(wall_now() - registered) : ""});
      w.open('{')
          .field("id", f->info->id)
          .field("name", f->info->name)
          .field("principal", f->info->principal)
          .field("state", state)
          .list("roles", roles);
      w.field("tasks", f->tasks).field("registered_ns", f->registered_ns);
      write_resources(w, "used", f->used);
      write_resources(w, "offered", f->offered);
      w.close();
    }
  });
  w.close().close();
  if (!s) return report(c, s.error());
  if (c.json) {
    *c.out << w.text();
  } else if (t.empty()) {
    *c.out << "No framework is known.\n";
  } else {
    *c.out << t.text(c.terminal);
  }
  return exit_ok;
}

int version(Context& c) {
  if (c.json) {
    JsonWriter w;
    w.open('{').field("version", GANTRY_VERSION).close();
    *c.out << w.text();
  } else {
    *c.out << "gantry " GANTRY_VERSION "\n";
  }
  return exit_ok;
}

}  // namespace gantry::cli
