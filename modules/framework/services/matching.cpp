#include "matching.hpp"

#include <algorithm>
#include <cmath>

namespace gantry::framework_services {
namespace {

std::string role_of(const fb::ResourceT& r) { return r.reservations.empty() ? "*" : r.reservations.back()->role; }

bool usable(const App& app, const fb::ResourceT& r) {
  // Revocable resources may be taken away; volumes and labelled reservations belong to particular tasks.
  if (r.revocable || (r.disk && (r.disk->persistence || r.disk->source))) return false;
  if (!r.reservations.empty() && !r.reservations.back()->labels.empty()) return false;
  return app.accepted_roles.empty() ||
         std::find(app.accepted_roles.begin(), app.accepted_roles.end(), role_of(r)) != app.accepted_roles.end();
}

std::unique_ptr<fb::ResourceT> piece_of(const fb::ResourceT& r) {
  auto p = std::make_unique<fb::ResourceT>();
  p->name = r.name;
  p->type = r.type;
  p->allocation_role = r.allocation_role;
  p->provider_id = r.provider_id;
  for (const auto& x : r.reservations) {
    auto y = std::make_unique<fb::ReservationInfoT>();
    y->principal = x->principal;
    y->role = x->role;
    y->type = x->type;
    p->reservations.push_back(std::move(y));
  }
  return p;
}

std::int64_t milli(double v) { return std::llround(v * 1000); }

bool take_scalar(fb::OfferT& offer, const App& app, const char* name, double amount,
                 std::vector<std::unique_ptr<fb::ResourceT>>& out) {
  std::int64_t need = milli(amount);
  for (auto& r : offer.resources) {
    if (need <= 0) break;
    if (r->name != name || r->type != fb::ValueType::SCALAR || !usable(app, *r)) continue;
    const std::int64_t have = milli(r->scalar.value_or(0)), part = std::min(have, need);
    if (part <= 0) continue;
    auto p = piece_of(*r);
    p->scalar = static_cast<double>(part) / 1000;
    out.push_back(std::move(p));
    r->scalar = static_cast<double>(have - part) / 1000;
    need -= part;
  }
  return need <= 0;
}

// Removes one port of a ranges resource.
bool cut(fb::ResourceT& r, std::uint64_t port) {
  for (std::size_t i = 0; i < r.ranges.size(); ++i) {
    const auto range = r.ranges[i];
    if (port < range.begin() || port > range.end()) continue;
    r.ranges.erase(r.ranges.begin() + static_cast<std::ptrdiff_t>(i));
    if (port < range.end())
      r.ranges.insert(r.ranges.begin() + static_cast<std::ptrdiff_t>(i), fb::Range(port + 1, range.end()));
    if (port > range.begin())
      r.ranges.insert(r.ranges.begin() + static_cast<std::ptrdiff_t>(i), fb::Range(range.begin(), port - 1));
    return true;
  }
  return false;
}

bool take_port(fb::OfferT& offer, const App& app, int wanted, std::uint64_t seed, Match& m, int& got) {
  for (auto& r : offer.resources) {
    if (r->name != "ports" || !usable(app, *r)) continue;
    std::uint64_t port = static_cast<std::uint64_t>(wanted);
    if (!wanted) {
      std::uint64_t total = 0;
      for (const auto& x : r->ranges) total += x.end() - x.begin() + 1;
      if (!total) continue;
      std::uint64_t k = seed % total;
      for (const auto& x : r->ranges) {
        const std::uint64_t size = x.end() - x.begin() + 1;
        if (k < size) {
          port = x.begin() + k;
          break;
        }
        k -= size;
      }
    }
    if (!cut(*r, port)) continue;
    auto p = piece_of(*r);
    p->ranges.emplace_back(port, port);
    m.resources.push_back(std::move(p));
    got = static_cast<int>(port);
    return true;
  }
  return false;
}

}  // namespace

std::variant<Match, Reject> carve(OfferPool& pool, const App& app, const std::vector<const Instance*>& placed,
                                  std::uint64_t seed) {
  const fb::OfferT& whole = pool.offer;
  bool any_role = app.accepted_roles.empty();
  for (const auto& r : whole.resources) any_role = any_role || usable(app, *r);
  if (!any_role) return Reject::role;
  if (!constraints_hold(app, whole, placed)) return Reject::constraint;
  // Work on a copy of the amounts; only a complete match is written back.
  fb::OfferT copy;
  for (const auto& r : whole.resources) {
    auto c = piece_of(*r);
    c->scalar = r->scalar;
    c->ranges = r->ranges;
    c->revocable = r->revocable;
    if (!usable(app, *r)) c->revocable = true;  // not for this task
    copy.resources.push_back(std::move(c));
  }
  Match m;
  if (!take_scalar(copy, app, "cpus", app.cpus, m.resources)) return Reject::cpus;
  if (!take_scalar(copy, app, "mem", app.mem, m.resources)) return Reject::memory;
  if (!take_scalar(copy, app, "disk", app.disk, m.resources)) return Reject::disk;
  if (!take_scalar(copy, app, "gpus", app.gpus, m.resources)) return Reject::gpus;
  for (const auto& p : app.ports) {  // fixed ports first, so that a random one cannot take them
    m.ports.push_back(0);
    if (p.host_port.value_or(0) > 0 && !take_port(copy, app, *p.host_port, 0, m, m.ports.back())) return Reject::ports;
  }
  for (std::size_t i = 0; i < app.ports.size(); ++i) {
    const auto& p = app.ports[i];
    if (p.host_port && *p.host_port == 0 && !take_port(copy, app, 0, seed + i * 7919, m, m.ports[i]))
      return Reject::ports;
  }
  for (std::size_t i = 0; i < copy.resources.size(); ++i) {
    pool.offer.resources[i]->scalar = copy.resources[i]->scalar;
    pool.offer.resources[i]->ranges = copy.resources[i]->ranges;
  }
  return m;
}

int check_port(const Instance& in, const std::optional<int>& port, int index) {
  if (port) return *port;
  const auto i = static_cast<std::size_t>(index);
  if (i >= in.ports.size()) return 0;
  return in.ports[i] ? in.ports[i] : in.app->ports[i].container_port;
}

namespace {

std::string sanitized(std::string_view s) {
  std::string out;
  for (const char c : s) {
    const bool word = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    out += !word ? '_' : c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  }
  return out;
}

std::unique_ptr<fb::LabelT> label(std::string key, std::string value) {
  auto l = std::make_unique<fb::LabelT>();
  l->key = std::move(key);
  l->value = std::move(value);
  return l;
}

void environment(fb::CommandInfoT& command, const Instance& in, const LaunchSettings& s, std::uint64_t seed) {
  const App& app = *in.app;
  std::map<std::string, std::string> env;
  const auto amount = [](double v) { return v == std::floor(v) ? print_json(Json(v)) + ".0" : print_json(Json(v)); };
  env["MARATHON_APP_ID"] = app.id;
  env["MARATHON_APP_VERSION"] = format_time(app.version);
  env["MARATHON_APP_RESOURCE_CPUS"] = amount(app.cpus);
  env["MARATHON_APP_RESOURCE_MEM"] = amount(app.mem);
  env["MARATHON_APP_RESOURCE_DISK"] = amount(app.disk);
  env["MARATHON_APP_RESOURCE_GPUS"] = print_json(Json(app.gpus));
  env["MARATHON_APP_ENFORCE_GROUP_ROLE"] = "FALSE";
  env["MESOS_TASK_ID"] = in.task_id();
  std::string names;
  for (const auto& [k, v] : app.labels) {
    if (v.size() >= 512) continue;
    const std::string name = sanitized(k);
    names += (names.empty() ? "" : " ") + name;
    env["MARATHON_APP_LABEL_" + name] = v;
  }
  env["MARATHON_APP_LABELS"] = names;
  env[s.prefix + "HOST"] = in.host;
  std::string list;
  for (std::size_t i = 0; i < app.ports.size(); ++i) {
    const PortSpec& p = app.ports[i];
    int effective = in.ports[i] ? in.ports[i] : p.container_port;
    if (!effective) effective = 1025 + static_cast<int>((seed + i * 7919) % 64000);
    const std::string text = std::to_string(effective);
    env[s.prefix + "PORT" + std::to_string(i)] = text;
    if (i == 0) env[s.prefix + "PORT"] = text;
    list += (i ? "," : "") + text;
    env[s.prefix + "PORT_" + std::to_string(p.container_port ? p.container_port : effective)] = text;
    if (!p.name.empty()) env[s.prefix + "PORT_" + sanitized(p.name)] = text;
  }
  if (!app.ports.empty()) env[s.prefix + "PORTS"] = list;
  for (const auto& [k, v] : app.env) env[k] = v;  // the user's word wins
  for (auto& [k, v] : env) {
    auto x = std::make_unique<fb::VariableT>();
    x->name = k;
    x->value = std::move(v);
    command.environment.push_back(std::move(x));
  }
}

std::unique_ptr<fb::HealthCheckT> health_check(const Instance& in, const HealthCheckSpec& h) {
  auto out = std::make_unique<fb::HealthCheckT>();
  out->delay_seconds = h.delay;
  out->interval_seconds = h.interval;
  out->timeout_seconds = h.timeout;
  out->consecutive_failures = static_cast<std::uint32_t>(h.max_failures);
  out->grace_period_seconds = h.grace;
  const auto port = static_cast<std::uint32_t>(check_port(in, h.port, h.port_index));
  switch (h.kind) {
    case HealthCheckSpec::Kind::command:
      out->type = fb::CheckType::COMMAND;
      out->command = std::make_unique<fb::CommandInfoT>();
      out->command->shell = true;
      out->command->value = h.command;
      break;
    case HealthCheckSpec::Kind::tcp:
      out->type = fb::CheckType::TCP;
      out->tcp = std::make_unique<fb::TcpCheckT>();
      out->tcp->port = port;
      break;
    case HealthCheckSpec::Kind::http:
      out->type = fb::CheckType::HTTP;
      out->http = std::make_unique<fb::HttpCheckT>();
      out->http->port = port;
      out->http->path = h.path;
      out->http->scheme = h.https ? "https" : "http";
      break;
  }
  return out;
}

std::unique_ptr<fb::DiscoveryInfoT> discovery(const Instance& in) {
  auto d = std::make_unique<fb::DiscoveryInfoT>();
  d->visibility = fb::Visibility::FRAMEWORK;
  std::string rest = safe_path(in.app->id);  // "/g/a" is "a.g"
  while (!rest.empty()) {
    const auto cut = rest.rfind('_');
    d->name += (d->name.empty() ? "" : ".") + rest.substr(cut == std::string::npos ? 0 : cut + 1);
    rest.resize(cut == std::string::npos ? 0 : cut);
  }
  for (std::size_t i = 0; i < in.app->ports.size(); ++i) {
    const PortSpec& p = in.app->ports[i];
    for (const char* protocol : {"tcp", "udp"}) {
      if (p.protocol.find(protocol) == std::string::npos) continue;
      auto x = std::make_unique<fb::PortT>();
      x->number = static_cast<std::uint32_t>(in.ports[i] ? in.ports[i] : p.container_port);
      x->name = p.name;
      x->protocol = protocol;
      for (const auto& [k, v] : p.labels) x->labels.push_back(label(k, v));
      x->labels.push_back(label("network-scope", in.ports[i] ? "host" : "container"));
      d->ports.push_back(std::move(x));
    }
  }
  return d;
}

}  // namespace

std::unique_ptr<fb::TaskInfoT> task_info(const Instance& in, Match match, const LaunchSettings& s, std::uint64_t seed) {
  const App& app = *in.app;
  auto t = std::make_unique<fb::TaskInfoT>();
  t->discovery = discovery(in);
  t->name = t->discovery->name;
  t->task_id = in.task_id();
  t->agent_id = in.agent_id;
  t->resources = std::move(match.resources);
  t->command = std::make_unique<fb::CommandInfoT>();
  fb::CommandInfoT& c = *t->command;
  c.user = app.user.empty() ? s.user : app.user;
  if (!app.args.empty()) {
    c.shell = false;
    c.value = app.args.front();
    c.arguments = app.args;
  } else {
    c.shell = true;
    c.value = app.cmd;
  }
  for (const auto& f : app.fetch) {
    auto u = std::make_unique<fb::UriT>();
    u->value = f.uri;
    u->extract = f.extract;
    u->executable = f.executable;
    u->cache = f.cache;
    u->output_file = f.dest;
    c.uris.push_back(std::move(u));
  }
  environment(c, in, s, seed);
  for (const auto& [k, v] : app.labels) t->labels.push_back(label(k, v));
  for (const auto& h : app.health) {
    if (h.by_agent) {
      t->health_check = health_check(in, h);
      break;
    }
  }
  if (app.kill_grace) {
    t->kill_policy = std::make_unique<fb::KillPolicyT>();
    t->kill_policy->grace_period_ns = static_cast<std::int64_t>(*app.kill_grace * 1e9);
  }
  const auto limit = [&](const char* key, const std::optional<double>& v) {
    if (!v) return;
    auto e = std::make_unique<fb::ScalarEntryT>();
    e->key = key;
    e->value = *v;
    t->limits.push_back(std::move(e));
  };
  limit("cpus", app.limit_cpus);
  limit("mem", app.limit_mem);
  if (const Object* check = find_object(app.json, "check")) {
    t->check = std::make_unique<fb::CheckInfoT>();
    t->check->interval_seconds = number_of(*check, "intervalSeconds", 60);
    t->check->timeout_seconds = number_of(*check, "timeoutSeconds", 20);
    t->check->delay_seconds = number_of(*check, "delaySeconds", 15);
    const auto port = [&](const Object& o) {
      std::optional<int> fixed;
      if (find(o, "port")) fixed = static_cast<int>(integer_of(o, "port"));
      return static_cast<std::uint32_t>(check_port(in, fixed, static_cast<int>(integer_of(o, "portIndex"))));
    };
    if (const Object* h = find_object(*check, "http")) {
      t->check->type = fb::CheckType::HTTP;
      t->check->http = std::make_unique<fb::HttpCheckT>();
      t->check->http->port = port(*h);
      t->check->http->path = text_of(*h, "path", "/");
    } else if (const Object* tcp = find_object(*check, "tcp")) {
      t->check->type = fb::CheckType::TCP;
      t->check->tcp = std::make_unique<fb::TcpCheckT>();
      t->check->tcp->port = port(*tcp);
    } else if (const Object* exec = find_object(*check, "exec")) {
      t->check->type = fb::CheckType::COMMAND;
      t->check->command = std::make_unique<fb::CommandCheckT>();
      t->check->command->command = std::make_unique<fb::CommandInfoT>();
      const Object* command = find_object(*exec, "command");
      t->check->command->command->shell = true;
      t->check->command->command->value = command ? text_of(*command, "shell") : "";
    }
  }
  return t;
}

}  // namespace gantry::framework_services
