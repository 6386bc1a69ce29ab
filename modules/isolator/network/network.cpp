// Settings, start and stop, recovery, usage. Launch and end of containers: launch.cpp; listening ports: ports.cpp.
#include "network.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <sstream>

namespace gantry::isolator_network {
namespace {

constexpr auto rules_interval = std::chrono::seconds(30);

constexpr char problem[] =
    "no right to make networks: only containers on the machine's network can be launched; run gantryd with CAP_NET_ADMIN and CAP_SYS_ADMIN";

std::vector<std::string> folders_in(const std::string& path) {
  std::vector<std::string> out;
  DIR* dir = ::opendir(path.c_str());
  if (!dir) return out;
  while (const dirent* e = ::readdir(dir))
    if (e->d_name[0] != '.') out.emplace_back(e->d_name);
  ::closedir(dir);
  std::sort(out.begin(), out.end());
  return out;
}

Status check_device(const std::string& name) {
  const bool good = !name.empty() && name.size() <= 15 && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
  });
  if (!good)
    return fail(Code::invalid_argument, "bridge_device = \"" + name + "\" is no device name; give 1 to 15 letters, digits, '-' or '_'",
                "bridge_device");
  return ok;
}

}  // namespace

bool has_rights() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  if (::syscall(SYS_capget, &header, data) != 0) return false;
  const auto has = [&](int cap) { return (data[CAP_TO_INDEX(cap)].effective & CAP_TO_MASK(cap)) != 0; };
  return has(CAP_NET_ADMIN) && has(CAP_SYS_ADMIN);
}

Status check_id(std::string_view id) {
  const bool good = !id.empty() && id.size() <= 200 && id[0] != '.' && id[0] != '-' && std::all_of(id.begin(), id.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
  });
  if (!good)
    return fail(Code::invalid_argument, "container_id \"" + std::string(id.substr(0, 100)) +
                                            "\" cannot be the name of a network's container; use letters, digits, '-', '_' and '.'");
  return ok;
}

Task<Turns::Turn> Turns::take(std::string id) {
  const auto it = waiting_.find(id);
  if (it == waiting_.end()) {
    waiting_[id];
  } else {
    Promise<bool> mine;
    it->second.push_back(mine);
    co_await mine.get();
  }
  co_return Turn(this, std::move(id));
}

void Turns::end(const std::string& id) {
  const auto it = waiting_.find(id);
  if (it->second.empty()) {
    waiting_.erase(it);
    return;
  }
  const Promise<bool> next = it->second.front();
  it->second.erase(it->second.begin());
  next.set(true);
}

Network::~Network() = default;

Task<Status> Network::configure(Settings settings) {
  auto watched = parse_ports(settings.text("listening_ports_range"));
  if (!watched) co_return fail(Code::invalid_argument, "listening_ports_range: " + watched.error().message, "listening_ports_range");
  watched_ = std::move(*watched);
  reloadable(settings);
  if (settings.reload()) co_return ok;

  auto subnet = parse_subnet(settings.text("subnet"));
  if (!subnet) co_return fail(Code::invalid_argument, "subnet: " + subnet.error().message, "subnet");
  GANTRY_CO_CHECK(check_device(settings.text("bridge_device")));
  for (const auto& n : settings.list("nameservers"))
    if (!is_address(n)) co_return fail(Code::invalid_argument, "nameservers has \"" + n + "\", which is no address", "nameservers");
  policy_.bridge_names = settings.list("bridge_names");
  nameservers_ = settings.list("nameservers");
  cni_dir_ = settings.text("cni_config_dir");
  plugin_dirs_ = settings.list("cni_plugin_dirs");
  work_dir_ = settings.work_dir();
  // Two agents on one machine have work directories of their own, and so tables, aliases and devices of their own.
  owner_ = short_hash(work_dir_);
  pool_ = Pool(*subnet);
  bridge_ = std::make_shared<Bridge>(settings.text("bridge_device"), *subnet, owner_, work_dir_ + "/bridge", settings.flag("ip_forward"));
  unallocated_ = host().metric("network_unallocated_ports", fb::MetricKind::COUNTER, "ports",
                               "Ports that containers on the machine's network listened on without having been given them");
  co_return ok;
}

void Network::reloadable(const Settings& settings) {
  cni_timeout_ = settings.duration("cni_timeout");
  policy_.rates = {static_cast<std::uint64_t>(settings.number("ingress_rate")), static_cast<std::uint64_t>(settings.number("egress_rate"))};
  ports_interval_ = settings.duration("listening_ports_interval");
  const std::string& mode = settings.text("listening_ports");
  listening_ = mode == "enforce" ? Listening::enforce : mode == "report" ? Listening::report : Listening::off;
}

Task<Status> Network::start() {
  may_ = allowed ? allowed() : has_rights();
  co_return ok;
}

Task<Status> Network::stop() {
  stopping_ = true;
  for (auto* timer : {&ports_timer_, &rules_timer_})
    if (*timer) host().cancel_timer(std::exchange(*timer, 0));
  if (working_) {
    idle_.emplace();
    co_await idle_->get();
  }
  const bool in_use = !bridge_ends().empty() || !mapped().empty();
  for (auto& [id, c] : containers_) c.watcher.complete();
  containers_.clear();
  // The bridge stays while containers run; it goes with the last of them.
  if (may_ && !in_use && bridge_) {
    auto work = [bridge = bridge_]() -> Status {
      if (!bridge->used()) return ok;
      return bridge->remove();
    };
    auto removing = host().offload(std::move(work));
    const Status removed = co_await std::move(removing);
    if (!removed) host().warning("the built-in bridge stays: " + removed.error().message);
  }
  co_return ok;
}

void Network::begin(Task<void> work) {
  ++working_;
  spawn(std::move(work), [this] {
    if (--working_ == 0 && idle_) idle_->set(true);
  });
}

// Whoever reloads the machine's firewall may flush our table with it. It is made again with the next launch, and here.
void Network::keep_rules() {
  if (rules_timer_ || stopping_ || bridge_ends().empty()) return;
  rules_timer_ = host().timer(rules_interval, [this] {
    rules_timer_ = 0;
    begin(look_at_rules());
  });
}

Task<void> Network::look_at_rules() {
  if (!bridge_ends().empty()) {
    auto work = [bridge = bridge_] { return bridge->ensure(); };
    auto ensuring = host().offload(std::move(work));
    const Status there = co_await std::move(ensuring);
    if (!there) host().error("the built-in bridge could not be restored: " + there.error().message);
  }
  keep_rules();
}

Task<Result<fb::HealthT>> Network::health() {
  fb::HealthT h;
  if (!may_) {
    h.state = fb::HealthState::DEGRADED;
    h.message = problem;
  }
  co_return h;
}

std::vector<BridgeEnd> Network::bridge_ends() const {
  std::vector<BridgeEnd> out;
  for (const auto& [id, c] : containers_)
    if (c.record.bridge) out.push_back(*c.record.bridge);
  return out;
}

std::vector<Target> Network::mapped() const {
  std::vector<Target> out;
  for (const auto& [id, c] : containers_)
    for (const CniEnd& end : c.record.cni)
      if (auto t = end.target()) out.push_back(std::move(*t));
  return out;
}

Task<Result<fb::isolator::RecoveredT>> Network::recover(Request<fb::isolator::Recover> request) {
  fb::isolator::RecoveredT out;
  std::map<std::string, const fb::isolator::Known*> known;
  if (request->containers())
    for (const auto* k : *request->containers()) known[std::string(text(k->container_id()))] = k;

  for (const auto& id : folders_in(work_dir_ + "/containers")) {
    Container c;
    c.recorded = true;
    c.host = false;
    const auto written = read_file(folder(id) + "/record.json");
    if (written) {
      auto record = parse_record(*written);
      if (record) {
        c.record = std::move(*record);
        c.host = !c.record.own_namespace;
      } else {
        host().error("container's network: " + record.error().message, {{"container", id}, {"file", folder(id) + "/record.json"}});
        c.record.bridge = devices_of(id);  // what can be known without it
      }
    }
    // Also of orphans: an address is free when they are cleaned up.
    if (c.record.bridge && c.record.bridge->address && !pool_.adopt(c.record.bridge->address))
      host().error("address " + to_text(c.record.bridge->address) + " of a recovered container is not of subnet " + pool_.subnet().text() +
                       ", or taken twice",
                   {{"container", id}});
    if (const auto bytes = read_file(folder(id) + "/attached"))
      if (auto answered = unpack<fb::isolator::Attached>(as_bytes(*bytes)))
        for (const auto& n : answered->networks) c.networks.push_back(*n);
    if (!known.count(id)) {
      out.orphans.push_back(id);
    } else if (!c.networks.empty()) {
      auto at = std::make_unique<fb::isolator::AttachedToT>();
      at->container_id = id;
      for (const auto& n : c.networks) at->networks.push_back(std::make_unique<fb::NetworkInfoT>(n));
      out.networks.push_back(std::move(at));
    }
    containers_[id] = std::move(c);
  }
  for (const auto& [id, k] : known) {
    Container& c = containers_[id];  // no folder: on the machine's network
    c.pid = k->pid();
    c.proc = Fd(::open(("/proc/" + std::to_string(c.pid)).c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    fb::TaskInfoT task;
    if (k->task()) k->task()->UnPackTo(&task);
    c.owned = ports_of(task.resources);
  }
  watch_ports();

  if (may_ && (bridge_->used() || !bridge_ends().empty())) {
    auto work = [bridge = bridge_, ends = bridge_ends(), mapped = mapped()] { return bridge->restore(ends, mapped); };
    auto restoring = host().offload(std::move(work));
    const Status restored = co_await std::move(restoring);
    if (!restored) host().error("the built-in bridge could not be restored: " + restored.error().message);
    say_forwarding();
    keep_rules();
  }
  co_return out;
}

void Network::say_forwarding() {
  switch (bridge_->take_forwarding()) {
    case Bridge::Forwarding::turned_on:
      host().info("net.ipv4.ip_forward was off and has been turned on for the built-in bridge; ip_forward = false leaves it",
                  {{"device", bridge_->device()}});
      return;
    case Bridge::Forwarding::left_off:
      host().warning(
          "net.ipv4.ip_forward is off: containers on the built-in bridge are reached from this machine only, and reach nothing beyond it",
          {{"device", bridge_->device()}});
      return;
    case Bridge::Forwarding::as_it_was:
      return;
  }
}

void Network::watch(Request<fb::isolator::Watch> request, Responder responder) {
  const auto it = containers_.find(std::string(text(request->container_id())));
  if (it == containers_.end()) {
    responder.complete();
    return;
  }
  Container& c = it->second;
  if (c.pending) {
    responder.more(pack(*c.pending));
    c.pending.reset();
  }
  c.watcher.complete();  // a second watcher takes over
  c.watcher = std::move(responder);
}

void Network::cancelled(std::uint64_t token) {
  for (auto& [id, c] : containers_)
    if (c.watcher.open() && c.watcher.token() == token) c.watcher.complete();
}

Task<Status> Network::update(Request<fb::isolator::Update> request) {
  const auto it = containers_.find(std::string(text(request->container_id())));
  if (it == containers_.end())
    co_return fail(Code::not_found, "container " + std::string(text(request->container_id())) + " is not known here");
  fb::isolator::UpdateT body;
  request->UnPackTo(&body);
  it->second.owned = ports_of(body.resources);
  co_return ok;
}

void add_counters(std::string_view net_dev, fb::isolator::UsageT& into) {
  std::istringstream lines{std::string(net_dev)};
  for (std::string line; std::getline(lines, line);) {
    const auto colon = line.find(':');
    if (colon == line.npos) continue;  // the two lines of headings
    std::istringstream name(line.substr(0, colon)), words(line.substr(colon + 1));
    std::string device;
    name >> device;
    std::uint64_t n[12] = {};  // receive: bytes packets errs drop fifo frame compressed multicast; transmit: bytes packets errs drop
    for (auto& value : n) words >> value;
    if (!words || device == "lo") continue;
    into.network_rx_bytes += n[0];
    into.network_rx_packets += n[1];
    into.network_rx_errors += n[2];
    into.network_rx_dropped += n[3];
    into.network_tx_bytes += n[8];
    into.network_tx_packets += n[9];
    into.network_tx_errors += n[10];
    into.network_tx_dropped += n[11];
  }
}

Task<Result<fb::isolator::UsagesT>> Network::usage(Request<fb::isolator::UsageRequest> request) {
  fb::isolator::UsagesT out;
  if (!request->container_ids()) co_return out;
  for (const auto* id : *request->container_ids()) {
    const auto it = containers_.find(std::string(text(id)));
    // On the machine's network nobody can tell whose bytes they are.
    if (it == containers_.end() || it->second.host || !it->second.proc) continue;
    // Seen from inside, so the directions are the container's own. Through the descriptor it is this process or none.
    const Fd file(::openat(it->second.proc.get(), "net/dev", O_RDONLY | O_CLOEXEC));
    if (!file) continue;
    std::string text;
    char chunk[4096];
    for (ssize_t n = 0; (n = ::read(file.get(), chunk, sizeof chunk)) > 0;) text.append(chunk, static_cast<std::size_t>(n));
    auto u = std::make_unique<fb::isolator::UsageT>();
    u->container_id = it->first;
    add_counters(text, *u);
    out.usages.push_back(std::move(u));
  }
  co_return out;
}

}  // namespace gantry::isolator_network
