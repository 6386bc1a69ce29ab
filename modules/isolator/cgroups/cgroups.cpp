#include "cgroups.hpp"

#include <chrono>
#include <cstdio>

namespace gantry::isolator_cgroups {
namespace {
using namespace std::chrono_literals;

// How long CLEANUP insists on an empty cgroup: a process may be stuck in the kernel.
constexpr auto cleanup_patience = 20s;

Status check_id(const flatbuffers::String* id) {
  const auto name = text(id);
  if (name.empty() || name[0] == '.' || name.find('/') != name.npos)
    return fail(Code::invalid_argument, "container_id \"" + std::string(name) + "\" cannot be the name of a cgroup");
  return ok;
}

// Two agents on one machine have work directories of their own, so they do not see each other's containers as orphans.
std::string tag_of(const std::string& work_dir) {
  std::uint32_t hash = 2166136261u;
  for (const char c : work_dir) hash = (hash ^ static_cast<unsigned char>(c)) * 16777619u;
  char out[9];
  std::snprintf(out, sizeof out, "%08x", hash);
  return out;
}

// Every mistake names its setting.
Result<Policy> policy_of(const Settings& settings) {
  Policy p;
  p.pids = static_cast<std::uint64_t>(settings.number("pids"));
  p.swap_limit = settings.flag("swap_limit");
  p.swap = static_cast<std::uint64_t>(settings.number("swap"));
  p.io_weight = static_cast<std::uint32_t>(settings.number("io_weight"));
  p.devices = settings.flag("devices");
  const auto named = [](Error error, const char* key) {
    error.key_path = key;
    return error;
  };
  for (auto [key, field] : {std::pair("cpuset", &p.cpus), std::pair("cpuset_mems", &p.mems)}) {
    *field = settings.text(key);
    if (Status s = check_cpu_list(*field); !s) return named(std::move(s).error().because(key), key);
  }
  for (const auto& item : settings.list("io_max")) {
    auto max = parse_io_max(item);
    if (!max) return named(max.error(), "io_max");
    p.io_max.push_back(*max);
  }
  for (const auto& item : settings.list("hugetlb")) {
    auto size = parse_hugetlb(item);
    if (!size) return named(size.error(), "hugetlb");
    p.hugetlb.insert(*std::move(size));
  }
  for (const auto& item : settings.list("devices_allow")) {
    auto rule = parse_device(item);
    if (!rule) return named(rule.error(), "devices_allow");
    p.allowed.push_back(*std::move(rule));
  }
  return p;
}

bool privileged(const fb::TaskInfoT& task) {
  return task.container && task.container->docker && task.container->docker->privileged.value_or(false);
}

}  // namespace

Cgroups::~Cgroups() = default;

Task<Status> Cgroups::configure(Settings settings) {
  GANTRY_CO_TRY(policy_, policy_of(settings));
  quota_ = settings.flag("cpu_quota");
  if (settings.reload()) {
    if (cgroups_) cgroups_->policy(policy_);
    co_return ok;
  }
  below_own_ = settings.text("parent") == "own";
  const std::string& root = settings.text("root");
  if (root.empty() || root.front() == '/' || root.find("..") != root.npos)
    co_return fail(Code::invalid_argument, "root = \"" + root + "\" must be a relative path without \"..\", such as \"gantry\"", "root");
  prefix_ = settings.text("filesystem_root");
  while (!prefix_.empty() && prefix_.back() == '/') prefix_.pop_back();
  root_ = root + "/" + tag_of(settings.work_dir());
  listener_ = std::make_unique<OomListener>([this](std::string id) { host().post([this, id = std::move(id)] { on_oom(id); }); });
  co_return ok;
}

void Cgroups::open() {
  if (opened_) return;
  opened_ = true;
  auto found = discover(prefix_, root_, policy_, below_own_);
  Status usable = found ? (*found)->open() : Status(found.error());
  if (usable) {
    cgroups_ = std::move(*found);
    host().info("using cgroup v" + std::to_string(cgroups_->version()), {{"root", root_}, {"controllers", cgroups_->describe()}});
    for (const auto& p : cgroups_->problems()) problem_ += (problem_.empty() ? "" : "; ") + p;
    return;
  }
  problem_ = "no cgroup rights: limits are not enforced (" + usable.error().message +
             "); run gantryd as root to enforce them";  // said through health()
}

Task<Status> Cgroups::start() {
  open();
  co_return ok;
}

Task<Status> Cgroups::stop() {
  if (listener_) listener_->stop();
  for (auto& [id, c] : containers_) c.watcher.complete();
  containers_.clear();
  if (cgroups_) cgroups_->close();  // stays while containers run
  co_return ok;
}

Task<Result<fb::HealthT>> Cgroups::health() {
  fb::HealthT h;
  if (!problem_.empty()) {
    h.state = fb::HealthState::DEGRADED;
    h.message = problem_;
  }
  co_return h;
}

Task<Result<fb::isolator::RecoveredT>> Cgroups::recover(Request<fb::isolator::Recover> request) {
  open();
  fb::isolator::RecoveredT out;
  if (!cgroups_) co_return out;
  std::map<std::string_view, const fb::isolator::Known*> known;
  if (request->containers())
    for (const auto* k : *request->containers()) known[text(k->container_id())] = k;
  for (const auto& id : cgroups_->list()) {
    if (known.count(id))
      adopt(id);
    else
      out.orphans.push_back(id);
  }
  co_return out;
}

Task<Result<fb::isolator::PreparedT>> Cgroups::prepare(Request<fb::isolator::Prepare> request) {
  fb::isolator::PreparedT out;
  out.no_attach = true;
  open();
  if (!cgroups_) co_return out;
  GANTRY_CO_CHECK(check_id(request->container_id()));
  const std::string id(text(request->container_id()));
  if (const std::string parent(text(request->parent())); !parent.empty() && request->share_cgroups()) {
    if (!cgroups_->exists(parent)) co_return fail(Code::not_found, "container " + parent + ", whose cgroup " + id + " is to share, has none here");
    out.enter_files = cgroups_->enter_files(parent);
    out.takes_devices = cgroups_->controls_devices();
    shares_[id] = parent;
    co_return out;
  }
  fb::TaskInfoT task;
  if (request->task()) request->task()->UnPackTo(&task);
  Limits limits = limits_of(task.resources, task.limits, quota_);
  limits.all_devices = privileged(task);
  GANTRY_CO_TRY(out.parameters, docker_limits(task, limits));
  GANTRY_CO_CHECK(cgroups_->create(id, limits));
  adopt(id);
  out.enter_files = cgroups_->enter_files(id);
  out.cgroup_kill = cgroups_->kill_path(id);
  out.takes_devices = cgroups_->controls_devices();
  co_return out;
}

// Only what other isolators give the container, which is not known before.
Task<Status> Cgroups::attach(Request<fb::isolator::Attach> request) {
  if (!cgroups_ || !request->devices() || request->devices()->size() == 0) co_return ok;
  GANTRY_CO_CHECK(check_id(request->container_id()));
  std::string id(text(request->container_id()));
  if (const auto shared = shares_.find(id); shared != shares_.end()) id = shared->second;  // all in it may use them then
  if (!cgroups_->exists(id)) co_return fail(Code::not_found, "container " + id + " has no cgroup here");
  std::vector<DeviceRule> rules;
  for (const auto* device : *request->devices()) {
    fb::isolator::DeviceT d;
    device->UnPackTo(&d);
    GANTRY_CO_TRY(DeviceRule rule, device_of(d));
    rules.push_back(std::move(rule));
  }
  co_return cgroups_->allow(id, rules);
}

void Cgroups::adopt(const std::string& id) {
  if (containers_.count(id)) return;
  Container& c = containers_[id];
  c.requested_mb = static_cast<double>(cgroups_->memory(id).limit) / 1048576.0;
  auto source = cgroups_->oom_source(id);
  Status added = source ? listener_->add(id, *source) : Status(source.error());
  // Not fatal: the count is looked at again when the container ends.
  if (!added) host().warning("out-of-memory of a container will be seen only when it ends: " + added.error().message, {{"container", id}});
  if (cgroups_->oom_kills(id) > 0) report_oom(id, c);  // while we were away
}

void Cgroups::on_oom(const std::string& id) {
  const auto it = containers_.find(id);
  if (it == containers_.end() || it->second.reported || it->second.pending) return;
  // v2 tells of other things through the same file; v1 tells before it kills.
  if (cgroups_->version() == 2 && cgroups_->oom_kills(id) == 0) return;
  report_oom(id, it->second);
}

void Cgroups::report_oom(const std::string& id, Container& c) {
  if (c.reported) return;
  const MemoryFigures m = cgroups_->memory(id);
  fb::isolator::LimitedT limited;
  limited.reason = fb::Reason::REASON_CONTAINER_LIMITATION_MEMORY;
  char text[160];
  std::snprintf(text, sizeof text, "Memory limit exceeded: Requested: %.0f MB, maximum used: %.0f MB", c.requested_mb,
                static_cast<double>(m.peak) / 1048576.0);
  limited.message = text;
  auto r = std::make_unique<fb::ResourceT>();
  r->name = "mem";
  r->type = fb::ValueType::SCALAR;
  r->scalar = c.requested_mb;
  limited.resources.push_back(std::move(r));
  if (c.watcher.open()) {
    c.reported = true;
    c.watcher.more(pack(limited));
  } else {
    c.pending = std::move(limited);
  }
}

void Cgroups::watch(Request<fb::isolator::Watch> request, Responder responder) {
  const std::string id(text(request->container_id()));
  if (!cgroups_ || !check_id(request->container_id()) || (!containers_.count(id) && !cgroups_->exists(id))) {
    responder.complete();
    return;
  }
  adopt(id);
  Container& c = containers_[id];
  if (c.pending && !c.reported) {
    responder.more(pack(*c.pending));
    c.reported = true;
    c.pending.reset();
  }
  c.watcher.complete();  // a second watcher takes over
  c.watcher = std::move(responder);
}

void Cgroups::cancelled(std::uint64_t token) {
  for (auto& [id, c] : containers_)
    if (c.watcher.open() && c.watcher.token() == token) c.watcher.complete();
}

Task<Status> Cgroups::update(Request<fb::isolator::Update> request) {
  if (!cgroups_) co_return ok;
  GANTRY_CO_CHECK(check_id(request->container_id()));
  const std::string id(text(request->container_id()));
  const auto it = containers_.find(id);
  if (it == containers_.end()) co_return fail(Code::not_found, "container " + id + " has no cgroup here");
  fb::isolator::UpdateT body;
  request->UnPackTo(&body);
  const Limits limits = limits_of(body.resources, body.limits, quota_);
  GANTRY_CO_CHECK(cgroups_->apply(id, limits));
  it->second.requested_mb = static_cast<double>(cgroups_->memory(id).limit) / 1048576.0;
  co_return ok;
}

// A dozen files a container, and some the kernel has to add up first: not for the strand.
Task<Result<fb::isolator::UsagesT>> Cgroups::usage(Request<fb::isolator::UsageRequest> request) {
  fb::isolator::UsagesT out;
  if (!cgroups_ || !request->container_ids()) co_return out;
  std::vector<std::string> known;
  for (const auto* id : *request->container_ids())
    if (std::string name(text(id)); containers_.count(name)) known.push_back(std::move(name));
  if (known.empty()) co_return out;
  auto read = [cgroups = cgroups_, known] {
    std::vector<fb::isolator::UsageT> all;
    for (const auto& id : known) all.push_back(cgroups->usage(id));
    return all;
  };
  auto reading = host().offload(std::move(read));
  std::vector<fb::isolator::UsageT> all = co_await std::move(reading);
  for (auto& u : all)
    if (containers_.count(u.container_id)) out.usages.push_back(std::make_unique<fb::isolator::UsageT>(std::move(u)));
  co_return out;
}

Task<Status> Cgroups::cleanup(Request<fb::isolator::Cleanup> request) {
  if (!cgroups_) co_return ok;
  GANTRY_CO_CHECK(check_id(request->container_id()));
  const std::string id(text(request->container_id()));
  if (const auto it = containers_.find(id); it != containers_.end()) {
    // The event may be on its way still; the count does not lie. The limitation leaves before this answer does.
    if (!it->second.reported && cgroups_->oom_kills(id) > 0) report_oom(id, it->second);
    it->second.watcher.complete();
    listener_->remove(id);
    containers_.erase(it);
  } else {
    shares_.erase(id);
    // It may have shared another's memory and been killed for want of it: that is told before this answer, too.
    for (auto& [other, c] : containers_)
      if (!c.reported && cgroups_->oom_kills(other) > 0) report_oom(other, c);
  }
  const auto give_up = host().now() + cleanup_patience;
  for (auto pause = 1ms;; pause = std::min(pause * 2, 200ms)) {
    GANTRY_CO_TRY(const bool gone, cgroups_->remove(id));
    if (gone) co_return ok;
    if (host().now() >= give_up)
      co_return fail(Code::deadline_exceeded, "the cgroup of container " + id + " is still not empty: a process does not die");
    co_await host().sleep(pause);
  }
}

}  // namespace gantry::isolator_cgroups
