// PREPARE, ATTACH and CLEANUP, in this order. What is about to be done is written down first.
#include "network.hpp"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

namespace gantry::isolator_network {
namespace {

using fb::isolator::MountOption;
using fb::isolator::Namespace;

constexpr std::uint32_t bit(Namespace n) { return static_cast<std::uint32_t>(n); }

// 48 bits of a text as 12 hexadecimal digits: as many as the name of a device has room for.
std::string device_hash(std::string_view s) {
  std::uint64_t hash = 14695981039346656037ull;
  for (const char c : s) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211ull;
  char out[17];
  std::snprintf(out, sizeof out, "%012llx", static_cast<unsigned long long>((hash ^ hash >> 48) & 0xffffffffffffull));
  return out;
}

std::unique_ptr<fb::VariableT> variable(const char* name, std::string value) {
  auto v = std::make_unique<fb::VariableT>();
  v->name = name;
  v->value = std::move(value);
  return v;
}

Resolver own_resolver(const Plan& plan) { return {plan.nameservers, plan.search, plan.options}; }

}  // namespace

// ---- PREPARE

BridgeEnd Network::devices_of(const std::string& id) const {
  BridgeEnd b;
  const std::string hash = device_hash(owner_ + "/" + id);
  b.interface = "eth0";
  b.veth = "gv" + hash;
  b.ifb = "gi" + hash;
  return b;
}

Resolver Network::resolver_of(const Plan& plan) const {
  Resolver machine = parse_resolv_conf(read_file("/etc/resolv.conf").value_or(""));
  if (plan.mode == Mode::host) return merged(std::move(machine), own_resolver(plan));
  Resolver r = reachable(machine);
  if (r.nameservers.empty() && !machine.nameservers.empty())  // all on loopback: systemd's stub; its own servers are here
    r.nameservers = reachable(parse_resolv_conf(read_file("/run/systemd/resolve/resolv.conf").value_or(""))).nameservers;
  if (!nameservers_.empty()) r.nameservers = nameservers_;
  return merged(std::move(r), own_resolver(plan));
}

Task<Result<fb::isolator::PreparedT>> Network::prepare(Request<fb::isolator::Prepare> request) {
  GANTRY_CO_CHECK(check_id(text(request->container_id())));
  const std::string id(text(request->container_id()));
  fb::TaskInfoT task;
  if (request->task()) request->task()->UnPackTo(&task);
  const bool layers = request->layers() && request->layers()->size() > 0;
  const auto turn = co_await turns_.take(id);
  // The agent repeats a call whose answer was lost.
  if (const auto it = containers_.find(id); it != containers_.end()) co_return prepared(id, it->second);

  Container fresh;
  GANTRY_CO_TRY(fresh.plan, plan_of(task, id, layers, policy_));
  fresh.owned = ports_of(task.resources);
  fresh.host = fresh.plan.mode == Mode::host;
  if (!may_ && !fresh.host) {
    const std::string name = fresh.plan.networks.empty() ? "none" : "\"" + fresh.plan.networks[0].name + "\"";
    co_return fail(Code::failed_precondition,
                   "the container asks for network " + name +
                       ", and this agent has no right to make networks; run gantryd with CAP_NET_ADMIN and CAP_SYS_ADMIN");
  }
  const bool nothing_to_make =
      fresh.host && !fresh.plan.image && fresh.plan.hostname.empty() && fresh.plan.extra_hosts.empty() && own_resolver(fresh.plan).empty();
  Container& c = containers_[id] = std::move(fresh);
  if (nothing_to_make || !may_) co_return prepared(id, c);
  const Status settled = co_await settle(id, c);
  if (settled) co_return prepared(id, c);

  // Nothing was done for it yet but files: it goes as if it had never been asked for.
  if (c.record.bridge) pool_.give_back(c.record.bridge->address);
  c.watcher.complete();
  containers_.erase(id);
  auto removal = [path = folder(id)] { return remove_folder(path); };
  auto removing = host().offload(std::move(removal));
  (void)co_await std::move(removing);
  co_return settled.error();
}

Task<Status> Network::settle(const std::string& id, Container& c) {
  c.record.hostname = c.plan.hostname;
  c.record.own_namespace = !c.host;
  const auto& names = policy_.bridge_names;
  const auto is_bridge = [&](const std::string& name) { return std::find(names.begin(), names.end(), name) != names.end(); };

  // Networks by name: CNI first.
  CniFolder cni;
  bool any_bridge = false;
  if (!c.plan.networks.empty()) {
    auto read = [dir = cni_dir_] { return read_networks(dir); };
    auto reading = host().offload(std::move(read));
    cni = co_await std::move(reading);
    for (const auto& p : cni.problems)
      if (problems_told_.insert(p).second) host().warning("CNI network left out: " + p);
  }
  for (std::size_t i = 0; i < c.plan.networks.size(); ++i) {
    const Wanted& w = c.plan.networks[i];
    const std::string interface = "eth" + std::to_string(i);
    if (const auto found = cni.networks.find(w.name); found != cni.networks.end()) {
      GANTRY_CO_CHECK(settle_cni(id, c, w, found->second, interface));
    } else if (is_bridge(w.name)) {
      any_bridge = true;
      GANTRY_CO_CHECK(settle_bridge(id, c, w, interface));
    } else {
      std::string known;
      for (const auto& [name, network] : cni.networks) known += (known.empty() ? "" : ", ") + name;
      for (const auto& name : names) known += (known.empty() ? "" : ", ") + name;
      co_return fail(Code::not_found,
                     "Unknown CNI network '" + w.name + "'; there are " + (known.empty() ? "none" : known) + " (" + cni_dir_ + ")");
    }
  }

  // The record before anything that outlives us.
  std::vector<std::string> addresses;
  if (c.record.bridge) addresses.push_back(to_text(c.record.bridge->address));
  const std::string hosts =
      c.host ? hosts_file_of_host(read_file("/etc/hosts").value_or("127.0.0.1\tlocalhost\n"), c.plan.hostname, c.plan.extra_hosts)
             : hosts_file(c.plan.hostname, addresses, c.plan.extra_hosts);
  std::string name = c.plan.hostname;
  if (name.empty()) {
    char machine[256] = "localhost";
    (void)::gethostname(machine, sizeof machine - 1);
    name = machine;
  }
  c.recorded = true;
  const Resolver resolver = resolver_of(c.plan);
  if (resolver.nameservers.empty() && c.plan.mode == Mode::networks && !std::exchange(no_servers_told_, true))
    host().warning(
        "containers with a network of their own have no name server: the machine's are all on loopback; set nameservers of "
        "isolator.network");
  auto write = [path = folder(id), record = print_record(c.record), hosts, name = name + "\n",
                resolver = print_resolv_conf(resolver)]() -> Status {
    GANTRY_CHECK(make_dirs(path));
    GANTRY_CHECK(replace_file(path + "/record.json", record));
    GANTRY_CHECK(overwrite_file(path + "/hosts", hosts));
    GANTRY_CHECK(overwrite_file(path + "/hostname", name));
    return overwrite_file(path + "/resolv.conf", resolver);
  };
  auto writing = host().offload(std::move(write));
  GANTRY_CO_CHECK(co_await std::move(writing));
  if (!any_bridge) co_return ok;

  auto make = [bridge = bridge_] { return bridge->ensure(); };
  auto making = host().offload(std::move(make));
  const Status made = co_await std::move(making);
  say_forwarding();
  if (!made) co_return made.error().because("the built-in bridge");
  co_return ok;
}

Status Network::check_free(const std::vector<Mapping>& ports) const {
  for (const auto& [other, o] : containers_) {
    std::vector<Mapping> taken = o.record.bridge ? o.record.bridge->ports : std::vector<Mapping>();
    for (const CniEnd& end : o.record.cni) taken.insert(taken.end(), end.ports.begin(), end.ports.end());
    for (const Mapping& m : taken)
      for (const Mapping& mine : ports)
        if (m.host == mine.host && m.udp == mine.udp)
          return fail(Code::already_exists,
                      "host port " + std::to_string(m.host) + (m.udp ? "/udp" : "/tcp") + " is mapped to container " + other + " already");
  }
  return ok;
}

Status Network::settle_bridge(const std::string& id, Container& c, const Wanted& w, const std::string& interface) {
  if (c.record.bridge)
    return fail(Code::invalid_argument, "network \"" + w.name + "\" is the built-in bridge again; a container can be on it once");
  GANTRY_CHECK(check_free(w.ports));
  BridgeEnd end = devices_of(id);
  end.interface = interface;
  if (!w.rates.egress) end.ifb.clear();
  end.ports = w.ports;
  end.rates = w.rates;
  GANTRY_TRY(end.address, pool_.take());
  c.record.bridge = std::move(end);
  return ok;
}

Status Network::settle_cni(const std::string& id, Container& c, const Wanted& w, const CniNetwork& network, const std::string& interface) {
  CniEnd end;
  end.interface = interface;
  end.network = network.name;
  end.version = network.version;
  for (std::size_t i = 0; i < network.plugins.size(); ++i) end.inputs.push_back(plugin_input(network, i, w));
  if (!network.capable("bandwidth")) {
    end.rates = w.rates;
    if (w.rates.egress) end.ifb = "gi" + device_hash(owner_ + "/" + id + "/" + interface);
  }
  if (!network.capable("portMappings")) {
    GANTRY_CHECK(check_free(w.ports));
    end.ports = w.ports;
  }
  c.record.cni.push_back(std::move(end));
  return ok;
}

fb::isolator::PreparedT Network::prepared(const std::string& id, const Container& c) const {
  fb::isolator::PreparedT out;
  out.no_attach = c.host && listening_ == Listening::off;
  out.parameters = c.plan.parameters;
  if (!c.recorded) return out;
  out.namespaces = bit(Namespace::MOUNT);
  if (!c.host) out.namespaces |= bit(Namespace::NETWORK);
  if (!c.record.hostname.empty()) {
    out.namespaces |= bit(Namespace::UTS);
    out.hostname = c.record.hostname;
  }
  // An image may lack the files; on the machine's own root nothing is made that is not there.
  const auto options = static_cast<std::uint32_t>(c.plan.image ? MountOption::FILE : MountOption::OPTIONAL);
  for (const char* name : {"hosts", "hostname", "resolv.conf"}) {
    auto m = std::make_unique<fb::isolator::MountT>();
    m->source = folder(id) + "/" + name;
    m->target = std::string("/etc/") + name;
    m->flags = MS_BIND;
    m->options = options;
    out.mounts.push_back(std::move(m));
  }
  if (c.record.bridge) out.environment.push_back(variable("MESOS_CONTAINER_IP", to_text(c.record.bridge->address)));
  // As Mesos: programs with libprocess would look for their address under the machine's name.
  if (!c.host) out.environment.push_back(variable("LIBPROCESS_IP", "0.0.0.0"));
  return out;
}

// ---- ATTACH

CniCall Network::cni_call(const std::string& id) const {
  CniCall call;
  call.plugin_dirs = plugin_dirs_;
  call.timeout = cni_timeout_;
  call.container_id = id;
  call.lock = folder(id) + "/lock";
  return call;
}

Task<Result<fb::isolator::AttachedT>> Network::attached(Request<fb::isolator::Attach> request) {
  GANTRY_CO_CHECK(check_id(text(request->container_id())));
  const std::string id(text(request->container_id()));
  const int pid = request->pid();
  const int pidfd = request.fds().empty() ? -1 : request.fds()[0];
  const auto turn = co_await turns_.take(id);
  const auto it = containers_.find(id);
  if (it == containers_.end()) co_return fail(Code::not_found, "container " + id + " was not prepared here");
  Container& c = it->second;
  fb::isolator::AttachedT out;
  Fd proc(::open(("/proc/" + std::to_string(pid)).c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (c.host) {
    c.pid = pid;
    watch_ports();
    co_return out;  // its addresses are the machine's, which the agent knows
  }
  AttachWork work;
  GANTRY_CO_TRY(work.netns, namespace_of(pid, pidfd));
  if (is_own_namespace(work.netns.get()))
    co_return fail(Code::failed_precondition,
                   "process " + std::to_string(pid) + " of container " + id + " is on the machine's network, not on one of its own");
  work.record = c.record;
  work.wanted = c.plan.networks;
  work.extra_hosts = c.plan.extra_hosts;
  work.resolver = resolver_of(c.plan);
  work.own = own_resolver(c.plan);
  work.folder = folder(id);
  work.pid = pid;
  work.call = cni_call(id);
  work.bridge = bridge_;
  auto attach = [work = std::make_shared<AttachWork>(std::move(work))] { return attach_networks(*work); };
  auto attaching = host().offload(std::move(attach));
  auto done = co_await std::move(attaching);
  if (!done) co_return std::move(done).error();
  c.record = std::move(done->record);
  c.networks = std::move(done->networks);
  c.pid = pid;
  c.proc = std::move(proc);
  keep_rules();
  for (const auto& n : c.networks) out.networks.push_back(std::make_unique<fb::NetworkInfoT>(n));
  co_return out;
}

// ---- CLEANUP

Task<Status> Network::cleanup(Request<fb::isolator::Cleanup> request) {
  // Such a name was never prepared, so nothing is there.
  if (!check_id(text(request->container_id()))) co_return ok;
  const std::string id(text(request->container_id()));
  const auto turn = co_await turns_.take(id);
  const auto it = containers_.find(id);
  std::optional<Record> record;
  if (it != containers_.end()) {
    it->second.watcher.complete();
    it->second.proc = Fd();
    it->second.pid = 0;
    record = it->second.record;
    if (!it->second.recorded) {
      containers_.erase(it);
      co_return ok;
    }
  }
  auto work = [record = std::move(record), path = folder(id), call = cni_call(id), bridge = bridge_]() -> Status {
    if (record) return undo(*record, path, call, bridge.get());
    // Not prepared by this instance; what is written counts.
    struct stat there{};
    if (::stat(path.c_str(), &there) != 0) return ok;
    const auto written = read_file(path + "/record.json");
    if (!written) return undo(Record(), path, call, bridge.get());
    GANTRY_TRY(const Record read, parse_record(*written));
    return undo(read, path, call, bridge.get());
  };
  auto undoing = host().offload(std::move(work));
  Status undone = co_await std::move(undoing);
  if (!undone)
    co_return std::move(undone).error().because("network of container " +
                                                id);  // the record stays: CLEANUP can be repeated, RECOVER finds it
  const auto again = containers_.find(id);
  if (again != containers_.end()) {
    if (again->second.record.bridge) pool_.give_back(again->second.record.bridge->address);
    containers_.erase(again);
  }
  co_return ok;
}

}  // namespace gantry::isolator_network
