#include "translate.hpp"

#include "kernel/config/values.hpp"
#include "containers.hpp"
#include "tables.hpp"
#include "toml_table.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <set>

namespace gantry::compat {
namespace {

bool loopback(std::string_view ip) { return ip.starts_with("127.") || ip == "localhost" || ip == "::1"; }

std::string joined(std::string_view host, std::int64_t port) {
  const std::string h(host);
  return (h.find(':') == std::string::npos ? h : "[" + h + "]") + ":" + std::to_string(port);
}

Result<std::string> shell(const std::string& command) {
  FILE* p = ::popen(command.c_str(), "r");
  if (!p) return fail(Code::internal, "Failed to run '" + command + "'");
  std::string out;
  char block[256];
  while (const std::size_t n = std::fread(block, 1, sizeof block, p)) out.append(block, n);
  if (::pclose(p) != 0) return fail(Code::failed_precondition, "Failed to execute '" + command + "'");
  while (!out.empty() && (out.back() == '\n' || out.back() == ' ' || out.back() == '\r')) out.pop_back();
  return out;
}

class Translator {
 public:
  Translator(Role role, const Given& given, const Options& options) : role_(role), g_(given), o_(options) {}

  Result<Translation> run() {
    GANTRY_CHECK(addresses());
    return role_ == Role::master ? master() : agent();
  }

 private:
  // ---- what both have

  Status addresses() {
    if (g_.has("ip") && g_.has("ip_discovery_command"))
      return fail(Code::invalid_argument, "Only one of `--ip` or `--ip_discovery_command` should be specified");
    ip_ = g_.text("ip");
    if (g_.has("ip_discovery_command")) {
      GANTRY_TRY(ip_, shell(g_.text("ip_discovery_command")));
    }
    if (ip_.empty()) ip_ = "0.0.0.0";
    port_ = g_.number("port");
    if (port_ < 0 || port_ > 65535) return fail(Code::invalid_argument, "--port=" + g_.text("port") + " is no port");
    return ok;
  }

  // Where others reach us; empty: the address listened on says it.
  [[nodiscard]] std::string advertised_host() const {
    if (g_.has("advertise_ip")) return g_.text("advertise_ip");
    if (g_.has("hostname")) return g_.text("hostname");
    return ip_ == "0.0.0.0" ? "" : ip_;
  }

  void common(Table& kernel) {
    if (g_.has("hostname")) kernel.text("hostname", g_.text("hostname"));
    else if (g_.has("advertise_ip")) kernel.text("hostname", g_.text("advertise_ip"));
    const std::string& level = g_.text("logging_level");
    if (g_.flag("quiet")) kernel.text("log_level", "error");
    else if (level == "WARNING") kernel.text("log_level", "warning");
    else if (level == "ERROR") kernel.text("log_level", "error");
    else if (level != "INFO") nothing("logging_level");
  }

  void nothing(std::string_view name) {
    const std::string word = "--" + std::string(name);
    if (std::find(out_.nothing.begin(), out_.nothing.end(), word) == out_.nothing.end()) out_.nothing.push_back(word);
  }

  // A file for the daemon, and how the configuration names it.
  std::string keep(const std::string& name, std::string content) {
    const std::string path = o_.runtime_dir + "/" + name;
    out_.files.emplace_back(path, std::move(content));
    return path;
  }

  Status access(std::string& tail, std::string_view credentials_flag) {
    if (g_.has(credentials_flag)) {
      const std::string& path = g_.text(credentials_flag);
      auto content = read_file(path);
      if (!content) return fail(Code::failed_precondition, "Failed to load credentials from '" + path + "': " + content.error().message);
      auto parsed = parse_credentials(*content);
      if (!parsed) return fail(Code::invalid_argument, "Failed to load credentials from '" + path + "': " + parsed.error().message);
      Table t("authenticator.basic");
      std::string lines;
      for (const Credential& c : *parsed) {
        if (c.principal.find(':') != std::string::npos || (c.principal + c.secret).find_first_of("\r\n") != std::string::npos)
          return fail(Code::invalid_argument, "Failed to load credentials from '" + path + "': principal '" + c.principal + "' cannot be used here: it has a ':' or a line break");
        lines += c.principal + ":{PLAIN}" + c.secret + "\n";
      }
      if (o_.runtime_dir.empty()) {
        out_.notes.push_back("write what is in " + path + " as lines principal:{PLAIN}secret into /etc/gantry/credentials, mode 0600");
        t.text("credentials", "/etc/gantry/credentials");
      } else {
        t.text("credentials", keep("credentials", lines));
      }
      tail += "\n" + t.str();
    }
    if (g_.has("acls")) {
      std::string file = g_.origin("acls");
      if (file.empty()) {
        if (o_.runtime_dir.empty()) {
          out_.notes.push_back("write the value of --acls into a file and name that under [authorizer.acl]");
          file = "/etc/gantry/acls.json";
        } else {
          file = keep("acls.json", g_.text("acls"));
        }
      }
      Table t("authorizer.acl");
      t.text("file", file);
      tail += "\n" + t.str();
    }
    return ok;
  }

  Result<Translation> done(std::string toml, std::span<const Flag> flags) {
    for (const Flag& f : flags)
      if (f.fate == Fate::nothing && g_.differs(f.name)) nothing(f.name);
    std::sort(out_.nothing.begin(), out_.nothing.end());
    for (const auto& w : g_.warnings()) out_.notes.push_back(w);
    out_.toml = std::move(toml);
    return std::move(out_);
  }

  Status no_zookeeper(std::string_view flag) const {
    return fail(Code::unimplemented, "--" + std::string(flag) + "=" + g_.text(flag) +
                                         ": this release of Gantry has no module election.zookeeper yet; run a single master without --zk and give agents its host:port");
  }

  // ---- mesos-master

  Result<Translation> master() {
    if (g_.has("zk")) {
      if (!g_.text("zk").starts_with("zk://")) return fail(Code::invalid_argument, "Error parsing ZooKeeper URL: Expecting 'zk://' at the beginning of the URL");
      return no_zookeeper("zk").error();
    }
    const std::string& registry = g_.text("registry");
    const bool in_memory = registry == "in_memory";
    if (!in_memory && registry != "replicated_log")
      return fail(Code::invalid_argument, "'" + registry + "' is not a supported option for registry persistence");
    std::string work = g_.text("work_dir");
    if (work.empty() && !in_memory) return fail(Code::invalid_argument, "--work_dir needed for replicated log based registry");
    if (work.empty()) work = o_.runtime_dir.empty() ? "/var/lib/gantry" : o_.runtime_dir;
    const std::int64_t link = g_.has("link_port") ? g_.number("link_port") : port_ == 0 ? 0 : port_ + kLinkOffset;

    Table kernel("kernel");
    kernel.list("role", {"master"});
    // Master and agent of Mesos share a folder; daemons here do not.
    out_.work_dir = work + "/master";
    kernel.text("work_dir", out_.work_dir);
    kernel.text("listen", joined(ip_, link));
    const std::string host = advertised_host();
    if (!host.empty() && host != ip_) kernel.text("advertise", joined(host, link));
    common(kernel);
    const bool agents = g_.flag("authenticate_agents");
    if (agents) kernel.flag("authenticate", true);
    const bool open_link = !loopback(ip_) && !agents;
    if (open_link) kernel.flag("insecure", true);
    if (g_.has("domain")) {
      GANTRY_TRY(std::string domain, domain_text(g_.text("domain")));
      kernel.text("domain", std::move(domain));
    }
    if (g_.has("agent_ping_timeout")) kernel.duration("agent_ping_interval", g_.nanoseconds("agent_ping_timeout"));
    if (g_.has("max_agent_ping_timeouts")) kernel.number("agent_ping_misses", g_.number("max_agent_ping_timeouts"));
    if (g_.has("agent_reregister_timeout")) kernel.duration("agent_reregister_timeout", g_.nanoseconds("agent_reregister_timeout"));
    if (g_.has("registry_max_agent_age")) kernel.duration("forget_agents_after", g_.nanoseconds("registry_max_agent_age"));
    if (g_.has("offer_timeout")) kernel.duration("offer_timeout", g_.nanoseconds("offer_timeout"));
    if (g_.has("max_completed_frameworks")) kernel.number("completed_frameworks", g_.number("max_completed_frameworks"));
    if (g_.has("max_completed_tasks_per_framework")) kernel.number("completed_tasks", g_.number("max_completed_tasks_per_framework"));

    Table election("election.standalone");
    election.text("master", joined(host.empty() ? "127.0.0.1" : host, link));

    Table store("store.lmdb");
    if (in_memory) {
      store.text("directory", out_.work_dir + "/in_memory");
      store.flag("sync", false);
      out_.clear.push_back(out_.work_dir + "/in_memory");
    }

    Table allocator("allocator.drf");
    if (g_.has("allocation_interval")) allocator.duration("interval", g_.nanoseconds("allocation_interval"));
    if (g_.has("min_allocatable_resources")) allocator.text("min_allocatable", g_.text("min_allocatable_resources"));
    if (g_.has("fair_sharing_excluded_resource_names")) allocator.list("fairness_exclude", split(g_.text("fair_sharing_excluded_resource_names"), ','));

    Table api("gateway.mesos");
    api.text("address", joined(ip_, port_));
    const std::int64_t shown = g_.has("advertise_port") ? g_.number("advertise_port") : port_;
    if (g_.has("advertise_ip") || g_.has("advertise_port") || (g_.has("hostname") && shown != 0))
      api.text("advertise", joined(host.empty() ? "127.0.0.1" : host, shown));
    if (g_.has("cluster")) api.text("cluster", g_.text("cluster"));
    std::vector<std::string> who;
    if (g_.flag("authenticate_http_frameworks")) who.emplace_back("frameworks");
    if (g_.flag("authenticate_http_readonly")) who.emplace_back("readonly");
    if (g_.flag("authenticate_http_readwrite")) who.emplace_back("readwrite");
    if (!who.empty()) api.list("authenticate", who);
    if ((agents || !who.empty()) && !g_.has("credentials"))
      return fail(Code::invalid_argument, "No credentials provided for the default 'basic' HTTP authenticator; give --credentials");
    if (g_.has("rate_limits")) {
      GANTRY_TRY(const RateLimits limits, parse_rate_limits(g_.text("rate_limits")));
      std::string map;
      for (const auto& [principal, limit] : limits.of) map += (map.empty() ? " " : ", ") + quoted(principal) + " = " + quoted(limit);
      if (!map.empty()) api.raw("rate_limits", "{" + map + " }");
      if (!limits.rest.empty()) api.text("default_rate_limit", limits.rest);
    }
    const bool open_api = !loopback(ip_) && who.size() < 3;
    if (open_api) api.flag("insecure", true);
    if (open_link || open_api)
      out_.notes.push_back("listening on " + ip_ + " without authentication, as Mesos does; whoever reaches it owns the cluster");

    std::string tail;
    GANTRY_CHECK(access(tail, "credentials"));
    return done(kernel.str() + "\n" + election.str() + "\n" + store.str() + "\n" + allocator.str() + "\n" + api.str() + tail, master_flags());
  }

  // ---- mesos-agent

  // host:port of the API -> host:port for agents.
  Result<std::string> link_of(std::string value) const {
    if (value.starts_with("master@")) value = value.substr(7);
    const auto colon = value.rfind(':');
    std::string host = value.substr(0, colon);
    std::int64_t port = 5050;
    if (colon != std::string::npos) {
      const std::string digits = value.substr(colon + 1);
      if (digits.empty() || digits.size() > 5 || digits.find_first_not_of("0123456789") != std::string::npos || std::stoi(digits) > 65535 - kLinkOffset)
        return fail(Code::invalid_argument, "Failed to parse '" + value + "': --master is host:port");
      port = std::stoi(digits);
    }
    if (host.empty() || host.find('/') != std::string::npos) return fail(Code::invalid_argument, "Failed to parse '" + value + "': --master is host:port");
    if (host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
    return joined(host, g_.has("link_port") ? g_.number("link_port") : port + kLinkOffset);
  }

  Result<Translation> agent() {
    if (!g_.has("master") && !g_.has("master_detector")) return fail(Code::invalid_argument, "Missing required option `--master` or `--master_detector`");
    if (g_.has("master") && g_.has("master_detector")) return fail(Code::invalid_argument, "Only one of `--master` or `--master_detector` should be specified");
    if (!g_.has("master")) return fail(Code::unimplemented, "--master_detector names a module of Mesos; give --master=host:port");
    if (g_.text("master").starts_with("zk://")) return no_zookeeper("master").error();
    GANTRY_TRY(const std::string link, link_of(g_.text("master")));

    Table kernel("kernel");
    kernel.list("role", {"agent"});
    out_.work_dir = g_.text("work_dir");
    kernel.text("work_dir", out_.work_dir);
    kernel.text("agent_listen", joined(ip_, 0));
    common(kernel);
    if (!loopback(ip_)) {
      kernel.flag("insecure", true);
      out_.notes.push_back("listening on " + ip_ + " without authentication, as Mesos does");
    }
    if (g_.has("resources")) {
      GANTRY_TRY(std::string resources, resources_text(g_.text("resources")));
      kernel.text("resources", with_role(std::move(resources)));
    }
    if (g_.text("default_role") != "*" && !g_.has("resources")) nothing("default_role");
    if (g_.has("attributes")) kernel.text("attributes", g_.text("attributes"));
    if (g_.has("domain")) {
      GANTRY_TRY(std::string domain, domain_text(g_.text("domain")));
      kernel.text("domain", std::move(domain));
    }
    if (g_.has("registration_backoff_factor")) kernel.duration("registration_backoff", g_.nanoseconds("registration_backoff_factor"));
    if (g_.has("executor_shutdown_grace_period")) kernel.duration("executor_shutdown_grace_period", g_.nanoseconds("executor_shutdown_grace_period"));
    if (g_.has("gc_delay")) kernel.duration("sandbox_gc_delay", g_.nanoseconds("gc_delay"));
    if (g_.has("gc_disk_headroom")) kernel.raw("sandbox_gc_headroom", real(g_.text("gc_disk_headroom")));
    if (g_.has("credential")) {
      const std::string& path = g_.text("credential");
      auto content = read_file(path);
      if (!content) return fail(Code::failed_precondition, "Failed to read the file specified by --credential: " + path + ": " + content.error().message);
      GANTRY_TRY(const Credential c, parse_credential(*content));
      kernel.text("principal", c.principal);
      if (o_.runtime_dir.empty()) {
        kernel.text("secret_file", "/etc/gantry/agent.secret");
        out_.notes.push_back("write the secret of " + path + " as one line into /etc/gantry/agent.secret, mode 0600");
      } else {
        kernel.text("secret_file", keep("agent.secret", c.secret + "\n"));
      }
    }
    const std::string& master = g_.text("master");
    Table election("election.standalone");
    election.text("master", link);

    Table fetcher("fetcher.curl");
    if (g_.has("fetcher_cache_size")) fetcher.size("cache_size", g_.bytes("fetcher_cache_size"));
    if (g_.has("fetcher_stall_timeout")) fetcher.duration("stall_timeout", g_.nanoseconds("fetcher_stall_timeout"));

    if (g_.has("containerizers")) {
      const auto all = split(g_.text("containerizers"), ',');
      for (const auto& c : all)
        if (c != "mesos" && c != "docker") return fail(Code::invalid_argument, "Failed to create a containerizer: Unknown or unsupported containerizer: " + c);
    }
    std::string tail;
    GANTRY_CHECK(access(tail, "http_credentials"));
    (void)master;
    const std::string api = agent_api();
    if (lacks_) return fail(Code::invalid_argument, "No credentials provided for the default 'basic' HTTP authenticator; give --http_credentials");
    if (port_ != 0) kernel.number("agent_port", g_.has("advertise_port") ? g_.number("advertise_port") : port_);
    GANTRY_TRY(Containers containers, containers_of(g_));
    for (const auto& n : containers.nothing) nothing(n);
    if (!containers.docker_config.empty()) {
      if (o_.runtime_dir.empty()) out_.notes.push_back("write the value of --docker_config into /etc/gantry/docker.json, mode 0600, and name it as credentials under [image.oci]");
      else containers.image += "credentials = " + quoted(keep("docker.json", containers.docker_config)) + "\n";
    }
    return done(kernel.str() + "\n" + election.str() + "\n" + fetcher.str() + containers.toml + containers.image + api + tail, agent_flags());
  }

  // Resources that name no role belong to --default_role.
  [[nodiscard]] std::string with_role(std::string resources) const {
    const std::string& role = g_.text("default_role");
    if (role == "*") return resources;
    std::string out;
    for (std::string& one : split(resources, ';')) {
      const auto colon = one.find(':');
      if (colon != std::string::npos && one.substr(0, colon).find('(') == std::string::npos) one.insert(colon, "(" + role + ")");
      out += (out.empty() ? "" : ";") + one;
    }
    return out;
  }

  static std::string real(const std::string& s) { return s.find_first_of(".eE") == std::string::npos ? s + ".0" : s; }

  std::string agent_api() {
    Table api("gateway.mesos");
    api.text("agent_address", joined(ip_, port_));
    const std::string host = advertised_host();
    const std::int64_t shown = g_.has("advertise_port") ? g_.number("advertise_port") : port_;
    if ((g_.has("advertise_ip") || g_.has("advertise_port") || g_.has("hostname")) && shown != 0)
      api.text("agent_advertise", joined(host.empty() ? "127.0.0.1" : host, shown));
    std::vector<std::string> who;
    if (g_.flag("authenticate_http_readonly")) who.emplace_back("readonly");
    if (g_.flag("authenticate_http_readwrite")) who.emplace_back("readwrite");
    if (!who.empty()) api.list("authenticate", who);
    if (!who.empty() && !g_.has("http_credentials")) lacks_ = true;
    if (g_.flag("authenticate_http_executors")) api.flag("authenticate_executors", true);
    if (!loopback(ip_)) api.flag("insecure", true);
    return "\n" + api.str();
  }

  Role role_;
  const Given& g_;
  const Options& o_;
  Translation out_;
  std::string ip_;
  std::int64_t port_ = 0;
  bool lacks_ = false;
};

}  // namespace

std::string quoted(std::string_view s) {
  std::string out = "\"";
  for (const char c : s) {
    const auto u = static_cast<unsigned char>(c);
    switch (c) {
      case '"': out += "\\\""; break;
      case '\\': out += "\\\\"; break;
      case '\n': out += "\\n"; break;
      case '\r': out += "\\r"; break;
      case '\t': out += "\\t"; break;
      default:
        if (u < 0x20 || u == 0x7f) {
          char text[8];
          std::snprintf(text, sizeof text, "\\u%04x", static_cast<unsigned>(u));
          out += text;
        } else {
          out += c;
        }
    }
  }
  return out + "\"";
}

Result<Translation> translate(Role role, const Given& given, const Options& options) { return Translator(role, given, options).run(); }

}  // namespace gantry::compat
