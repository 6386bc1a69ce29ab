#include "tests/scenario/scenario.hpp"

#include "kernel/config/values.hpp"
#include "kernel/resource/resources.hpp"

#include <gantry/types_generated.h>

#include <algorithm>
#include <map>
#include <set>

namespace gantry::scenario {

using config::Node;
using namespace std::chrono_literals;

Reader::Reader(const Node& node, std::vector<std::string_view> known, std::vector<config::Problem>& problems) : node_(node), problems_(problems) {
  for (const auto& [key, value] : node.members) {
    if (std::find(known.begin(), known.end(), key) != known.end()) continue;
    std::string all;
    for (const auto k : known) all += (all.empty() ? "" : ", ") + std::string(k);
    problem(value.key_where, "\"" + key + "\" means nothing here; known are " + all);
  }
}

void Reader::problem(const config::Where& where, std::string message) {
  problems_.push_back({config::Severity::error, where, std::move(message)});
}

void Reader::require(std::string_view key) {
  if (!node_.find(key)) problem(node_.where, "\"" + std::string(key) + "\" is missing");
}

std::string Reader::text(std::string_view key, std::string fallback) {
  const Node* n = node_.find(key);
  if (!n) return fallback;
  if (n->kind == Node::Kind::string) return n->text;
  problem(n->where, "\"" + std::string(key) + "\" must be a string, not " + n->describe());
  return fallback;
}

std::optional<Nanos> Reader::duration(std::string_view key) {
  const Node* n = node_.find(key);
  if (!n) return std::nullopt;
  if (n->kind != Node::Kind::string) {
    problem(n->where, "\"" + std::string(key) + "\" must be a duration such as \"5s\", not " + n->describe());
    return std::nullopt;
  }
  const auto v = config::parse_duration(n->text);
  if (!v) {
    problem(n->where, "\"" + std::string(key) + "\": " + v.error().message);
    return std::nullopt;
  }
  return Nanos(*v);
}
Nanos Reader::duration(std::string_view key, Nanos fallback) { return duration(key).value_or(fallback); }

bool Reader::flag(std::string_view key, bool fallback) {
  const Node* n = node_.find(key);
  if (!n) return fallback;
  if (n->kind == Node::Kind::boolean) return n->flag;
  problem(n->where, "\"" + std::string(key) + "\" must be true or false, not " + n->describe());
  return fallback;
}

std::int64_t Reader::number(std::string_view key, std::int64_t fallback) {
  const Node* n = node_.find(key);
  if (!n) return fallback;
  if (n->kind == Node::Kind::integer) return n->number;
  problem(n->where, "\"" + std::string(key) + "\" must be an integer, not " + n->describe());
  return fallback;
}

std::vector<std::string> Reader::list(std::string_view key) {
  std::vector<std::string> out;
  const Node* n = node_.find(key);
  if (!n) return out;
  if (n->kind != Node::Kind::array) {
    problem(n->where, "\"" + std::string(key) + "\" must be a list of strings, not " + n->describe());
    return out;
  }
  for (const auto& item : n->items) {
    if (item.kind == Node::Kind::string) out.push_back(item.text);
    else problem(item.where, "\"" + std::string(key) + "\" must hold strings, not " + item.describe());
  }
  return out;
}

namespace {

// What each verb names, and which further keys it takes.
struct Verb {
  enum class Names { nothing, framework, agent, daemon, task, event } names;
  std::vector<std::string_view> keys;
};

const std::map<std::string_view, Verb>& verbs() {
  using N = Verb::Names;
  static const std::map<std::string_view, Verb> all = {
      {"wait", {N::nothing, {}}},
      {"expect", {N::event, {"framework", "agent", "task", "state", "reason", "source", "uuid", "role", "resources", "message", "offer", "as", "within"}}},
      {"forbid", {N::event, {"framework", "agent", "task", "state", "reason", "source", "uuid", "role", "resources", "message", "offer", "for"}}},
      {"accept", {N::framework, {"offers", "tasks", "group", "reserve", "unreserve", "refuse"}}},
      {"decline", {N::framework, {"offers", "refuse"}}},
      {"kill", {N::task, {"framework", "agent", "grace"}}},
      {"acknowledge", {N::task, {"framework"}}},
      {"reconcile", {N::framework, {"tasks", "agent"}}},
      {"revive", {N::framework, {"roles"}}},
      {"suppress", {N::framework, {"roles"}}},
      {"subscribe", {N::framework, {}}},
      {"disconnect", {N::framework, {}}},
      {"teardown", {N::framework, {}}},
      {"start", {N::daemon, {}}},
      {"stop", {N::daemon, {}}},
      {"reboot", {N::agent, {}}},
      {"cut", {N::agent, {"for"}}},
      {"running", {N::task, {"agent", "value"}}},
  };
  return all;
}

const std::set<std::string_view>& events() {
  static const std::set<std::string_view> all = {"subscribed", "offer", "rescind", "update", "failure", "error", "end"};
  return all;
}

std::string joined(const auto& names) {
  std::string out;
  for (const auto& n : names) out += (out.empty() ? "" : ", ") + std::string(n);
  return out;
}

class Builder {
 public:
  Builder(Scenario& out, std::vector<config::Problem>& problems) : out_(out), problems_(problems) {}

  void run(const Node& root) {
    Reader top(root, {"about", "master", "agent", "framework", "steps"}, problems_);
    top.require("about");
    top.require("steps");
    out_.about = top.text("about");
    if (const Node* m = root.find("master")) {
      Reader r(*m, {"ping_interval", "offer_timeout", "agent_reregister_timeout"}, problems_);
      out_.ping_interval = r.duration("ping_interval", out_.ping_interval);
      out_.offer_timeout = r.duration("offer_timeout", out_.offer_timeout);
      out_.agent_reregister_timeout = r.duration("agent_reregister_timeout", out_.agent_reregister_timeout);
    }
    each(root, "agent", [&](const Node& n) { agent(n); });
    each(root, "framework", [&](const Node& n) { framework(n); });
    each(root, "steps", [&](const Node& n) { step(n); });
  }

 private:
  void problem(const config::Where& where, std::string message) { problems_.push_back({config::Severity::error, where, std::move(message)}); }

  template <class F>
  void each(const Node& parent, std::string_view key, F f) {
    const Node* list = parent.find(key);
    if (!list) return;
    if (list->kind != Node::Kind::array) return problem(list->where, "\"" + std::string(key) + "\" must be a list of tables, not " + list->describe());
    for (const auto& item : list->items) {
      if (item.table()) f(item);
      else problem(item.where, "\"" + std::string(key) + "\" must hold tables, not " + item.describe());
    }
  }

  void resources(const Node& n, std::string_view key, const std::string& text) {
    if (text.empty()) return;
    if (const auto r = resource::Resources::parse(text); !r) problem(n.find(key)->where, "\"" + std::string(key) + "\": " + r.error().message);
  }

  void name(const Node& n, const std::string& name) {
    if (name.empty()) return;
    if (name == "master") problem(n.find("name")->where, "\"master\" is the master's name");
    if (!names_.insert(name).second) problem(n.find("name")->where, "there are two of the name \"" + name + "\"");
  }

  void agent(const Node& n) {
    Reader r(n, {"name", "resources"}, problems_);
    r.require("name");
    r.require("resources");
    AgentSpec a{r.text("name"), r.text("resources")};
    resources(n, "resources", a.resources);
    name(n, a.name);
    agents_.insert(a.name);
    out_.agents.push_back(std::move(a));
  }

  void framework(const Node& n) {
    Reader r(n, {"name", "roles", "partition_aware", "killing_state", "checkpoint", "failover_timeout", "acknowledge", "subscribe", "suppressed"}, problems_);
    r.require("name");
    FrameworkSpec f;
    f.name = r.text("name");
    f.roles = r.list("roles");
    if (f.roles.empty()) f.roles = {"*"};
    f.partition_aware = r.flag("partition_aware", true);
    f.killing_state = r.flag("killing_state", false);
    f.checkpoint = r.flag("checkpoint", true);
    f.failover_timeout = r.duration("failover_timeout", 1h);
    f.acknowledge = r.flag("acknowledge", true);
    f.subscribe = r.flag("subscribe", true);
    f.suppressed = r.list("suppressed");
    name(n, f.name);
    frameworks_.insert(f.name);
    out_.frameworks.push_back(std::move(f));
  }

  TaskSpec task(const Node& n) {
    Reader r(n, {"id", "resources", "reserved", "agent", "starts_after", "runs", "exit", "fails", "ignores_term", "command", "executor", "unhealthy",
                 "kill_grace", "max_completion_time", "executor_runs"}, problems_);
    r.require("id");
    TaskSpec t;
    t.id = r.text("id");
    t.resources = r.text("resources");
    t.reserved = r.text("reserved");
    t.agent = r.text("agent");
    resources(n, "resources", t.resources);
    resources(n, "reserved", t.reserved);
    if (!t.agent.empty()) known(n, "agent", t.agent, agents_, "agent");
    t.starts_after = r.duration("starts_after", 0s);
    t.runs = r.duration("runs");
    t.exit_code = static_cast<int>(r.number("exit", 0));
    t.fails = r.flag("fails", false);
    t.ignores_term = r.flag("ignores_term", false);
    t.command = r.flag("command", true);
    t.executor = r.flag("executor", false);
    t.unhealthy = r.flag("unhealthy", false);
    t.kill_grace = r.duration("kill_grace");
    t.max_completion_time = r.duration("max_completion_time");
    t.executor_runs = r.duration("executor_runs");
    return t;
  }

  void known(const Node& n, std::string_view key, const std::string& name, const std::set<std::string>& all, const char* kind) {
    if (all.count(name)) return;
    problem(n.find(key)->where, "there is no " + std::string(kind) + " \"" + name + "\"; there are " + joined(all));
  }

  void step(const Node& n) {
    const Verb* verb = nullptr;
    Step s;
    s.where = n.where;
    for (const auto& [key, value] : n.members) {
      const auto it = verbs().find(key);
      if (it == verbs().end()) continue;
      if (verb) return problem(value.key_where, "a step does one thing: \"" + s.verb + "\" or \"" + key + "\"");
      verb = &it->second;
      s.verb = key;
    }
    if (!verb) {
      std::vector<std::string_view> names;
      for (const auto& [k, v] : verbs()) names.push_back(k);
      return problem(n.where, "the step says not what to do; one of " + joined(names));
    }
    std::vector<std::string_view> keys = verb->keys;
    keys.push_back(s.verb);
    Reader r(n, keys, problems_);
    using N = Verb::Names;
    if (s.verb == "wait") s.length = r.duration("wait", 0s);
    else s.what = r.text(s.verb);
    switch (verb->names) {
      case N::nothing: break;
      case N::framework: s.framework = s.what, known(n, s.verb, s.what, frameworks_, "framework"); break;
      case N::agent: s.agent = s.what, known(n, s.verb, s.what, agents_, "agent"); break;
      case N::daemon:
        if (s.what != "master") s.agent = s.what, known(n, s.verb, s.what, agents_, "agent");
        break;
      case N::task: s.task = s.what; break;
      case N::event:
        if (!events().count(s.what)) problem(n.find(s.verb)->where, "there is no event \"" + s.what + "\"; there are " + joined(events()));
        break;
    }
    const auto takes = [&](std::string_view key) { return std::find(verb->keys.begin(), verb->keys.end(), key) != verb->keys.end(); };
    if (takes("framework") && verb->names != N::framework) {
      s.framework = r.text("framework");
      if (r.has("framework")) known(n, "framework", s.framework, frameworks_, "framework");
      else if (frameworks_.size() == 1) s.framework = *frameworks_.begin();
      else problem(n.where, "\"framework\" is missing; there are " + joined(frameworks_));
    }
    if (takes("agent") && r.has("agent")) s.agent = r.text("agent"), known(n, "agent", s.agent, agents_, "agent");
    if (takes("task")) s.task = r.text("task");
    if (takes("state") && r.has("state")) {
      s.state = r.text("state");
      bool found = false;
      for (const auto v : fb::EnumValuesTaskState()) found |= s.state == fb::EnumNameTaskState(v);
      if (!found) problem(n.find("state")->where, "there is no task state \"" + s.state + "\"");
    }
    if (takes("reason") && r.has("reason")) {
      s.reason = r.text("reason");
      bool found = false;
      for (const auto v : fb::EnumValuesReason()) found |= s.reason == fb::EnumNameReason(v);
      if (!found && s.reason != "none") problem(n.find("reason")->where, "there is no reason \"" + s.reason + "\"; \"none\" expects that there is none");
    }
    if (takes("source") && r.has("source")) {
      s.source = r.text("source");
      if (s.source != "SOURCE_MASTER" && s.source != "SOURCE_AGENT" && s.source != "SOURCE_EXECUTOR")
        problem(n.find("source")->where, "there is no source \"" + s.source + "\"; there are SOURCE_MASTER, SOURCE_AGENT, SOURCE_EXECUTOR");
    }
    if (takes("uuid") && r.has("uuid")) s.uuid = r.flag("uuid", true);
    s.role = takes("role") ? r.text("role") : "";
    if (takes("resources") && r.has("resources")) s.resources = r.text("resources"), resources(n, "resources", s.resources);
    s.message = takes("message") ? r.text("message") : "";
    s.as = takes("as") ? r.text("as") : "";
    if (takes("offer") && r.has("offer")) s.offers = {r.text("offer")};
    if (takes("offers")) s.offers = r.list("offers");
    if (takes("roles")) s.roles = r.list("roles");
    if (takes("within")) s.within = r.duration("within", 2s);
    if (takes("for")) s.length = r.duration("for", 5s);
    if (takes("refuse")) s.refuse = r.duration("refuse");
    if (takes("grace")) s.grace = r.duration("grace");
    if (takes("value")) s.value = r.flag("value", true);
    if (takes("reserve")) s.reserve = r.text("reserve"), resources(n, "reserve", s.reserve);
    if (takes("group")) s.group = r.text("group");
    if (takes("unreserve")) s.unreserve = r.text("unreserve"), resources(n, "unreserve", s.unreserve);
    if (s.verb == "reconcile") {
      for (auto& id : r.list("tasks")) s.tasks.emplace_back().id = std::move(id);
    } else if (takes("tasks")) {
      each(n, "tasks", [&](const Node& t) { s.tasks.push_back(task(t)); });
    }
    out_.steps.push_back(std::move(s));
  }

  Scenario& out_;
  std::vector<config::Problem>& problems_;
  std::set<std::string> names_, agents_, frameworks_;
};

}  // namespace

Scenario read(std::string_view text, const std::string& file, std::vector<config::Problem>& problems) {
  Scenario out;
  out.file = file;
  auto parsed = config::parse_toml(text, file);
  if (!parsed.problems.empty()) {
    problems.insert(problems.end(), parsed.problems.begin(), parsed.problems.end());
    return out;
  }
  Builder(out, problems).run(parsed.root);
  return out;
}

}  // namespace gantry::scenario
