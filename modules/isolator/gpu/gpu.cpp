#include "gpu.hpp"

#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>

namespace gantry::isolator_gpu {
namespace {

using fb::isolator::MountOption;

Status check_id(std::string_view id) {
  const bool control = std::any_of(id.begin(), id.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; });
  if (!id.empty() && id.size() <= 200 && id[0] != '.' && id.find('/') == id.npos && !control) return ok;
  return fail(Code::invalid_argument, "container_id \"" + std::string(id.substr(0, 200)) + "\" cannot be the name of a file");
}

// Nodes that every program needs beside those of its cards. The first is always there; the others come with their parts of the driver.
constexpr const char* control_nodes[] = {"nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset"};

std::unique_ptr<fb::isolator::MountT> bind_file(const std::string& source, const std::string& target, std::uint64_t flags) {
  auto m = std::make_unique<fb::isolator::MountT>();
  m->source = source;
  m->target = target;
  m->flags = MS_BIND | flags;
  m->options = static_cast<std::uint32_t>(MountOption::FILE);
  return m;
}

std::unique_ptr<fb::VariableT> variable(const char* name, std::string value) {
  auto v = std::make_unique<fb::VariableT>();
  v->name = name;
  v->value = std::move(value);
  return v;
}

std::string joined(const std::vector<std::string>& words) {
  std::string out;
  for (const auto& w : words) out += (out.empty() ? "" : ",") + w;
  return out;
}

}  // namespace

Result<unsigned> cards_wanted(const std::vector<std::unique_ptr<fb::ResourceT>>& resources) {
  double gpus = 0;
  for (const auto& r : resources)
    if (r->name == "gpus") gpus += r->scalar.value_or(0);
  const double whole = std::round(gpus);
  if (!(std::abs(gpus - whole) < 0.0005) || whole < 0 || whole > 1024)  // resources have three decimals
    return fail(Code::invalid_argument, "gpus = " + std::to_string(gpus) + ": cards are given whole; ask for a whole number of them");
  return static_cast<unsigned>(whole);
}

Task<Status> Gpu::configure(Settings settings) {
  chosen_ = settings.list("cards");
  library_ = settings.text("library");
  dev_ = settings.text("dev");
  driver_files_ = settings.flag("driver_files");
  library_cache_ = settings.text("library_cache");
  programs_ = settings.list("programs");
  interval_ = settings.duration("interval");
  containers_ = settings.work_dir() + "/containers";
  if (::mkdir(containers_.c_str(), 0700) != 0 && errno != EEXIST)
    co_return fail(Code::internal, "cannot make " + containers_ + ": " + std::strerror(errno));
  ledger_ = Ledger(containers_);
  co_return ok;
}

Task<Status> Gpu::start() {
  if (const Status loaded = ledger_.load(); !loaded) host().error(loaded.error().message);
  co_await look();
  if (nvml_) {
    host().info("NVIDIA cards found", {{"driver", nvml_->driver_version()}, {"cards", std::to_string(cards_.size())}});
    for (const auto& uuid : chosen_)
      if (std::none_of(cards_.begin(), cards_.end(), [&](const Card& c) { return c.uuid == uuid || std::to_string(c.index) == uuid; }))
        host().warning("[isolator.gpu] cards names \"" + uuid + "\", and there is no such card");
  } else {
    host().info("no NVIDIA cards here", {{"reason", problem_}});
  }
  look_later();
  co_return ok;
}

Task<Status> Gpu::stop() {
  stopping_ = true;
  host().cancel_timer(timer_);
  if (looking_) {
    const Promise<bool> done = *looking_;
    co_await done.get();
  }
  nvml_.reset();
  co_return ok;
}

void Gpu::look_later() {
  if (stopping_) return;
  timer_ = host().timer(interval_, [this] { spawn(look(), [this] { look_later(); }); });
}

Task<void> Gpu::look() {
  looking_.emplace();
  struct Seen {
    std::shared_ptr<Nvml> nvml;
    Result<std::vector<Card>> cards;
  };
  auto work = [nvml = nvml_, library = library_]() mutable -> Seen {
    // A driver that was loaded after us is found, too.
    if (!nvml) {
      auto loaded = Nvml::load(library);
      if (!loaded) return {nullptr, loaded.error()};
      nvml = *loaded;
    }
    auto cards = nvml->cards();
    return {nvml, std::move(cards)};
  };
  auto running = host().offload(std::move(work));
  Seen seen = co_await std::move(running);
  nvml_ = seen.nvml;
  problem_.clear();
  if (seen.cards) {
    std::vector<Card> now;
    for (auto& card : *seen.cards)
      if (may_be_given(card)) now.push_back(std::move(card));
    for (const auto& card : now) {
      const auto before = std::find_if(cards_.begin(), cards_.end(), [&](const Card& c) { return c.uuid == card.uuid; });
      if (before != cards_.end() && before->problem.empty() && !card.problem.empty())
        host().error("an NVIDIA card is out of order and is not given to tasks: " + card.problem,
                     {{"card", card.uuid}, {"index", std::to_string(card.index)}});
    }
    cards_ = std::move(now);
  } else if (seen.cards.error().code != Code::not_found) {
    problem_ = seen.cards.error().message;
    for (auto& card : cards_) card.problem = problem_;
  }
  const Promise<bool> done = *looking_;
  looking_.reset();
  done.set(true);
}

bool Gpu::may_be_given(const Card& card) const {
  return chosen_.empty() ||
         std::any_of(chosen_.begin(), chosen_.end(), [&](const auto& c) { return c == card.uuid || c == std::to_string(card.index); });
}

Task<Result<fb::HealthT>> Gpu::health() {
  fb::HealthT h;
  h.message = problem_;
  for (const auto& card : cards_)
    if (problem_.empty() && !card.problem.empty())
      h.message += (h.message.empty() ? "" : "; ") +
                   ("card " + std::to_string(card.index) + " (" + card.uuid + ") is not given to tasks: " + card.problem);
  if (!h.message.empty()) h.state = fb::HealthState::DEGRADED;
  co_return h;
}

Task<Result<fb::isolator::RecoveredT>> Gpu::recover(Request<fb::isolator::Recover> request) {
  fb::isolator::RecoveredT out;
  std::vector<std::string_view> known;
  if (request->containers())
    for (const auto* k : *request->containers()) known.push_back(text(k->container_id()));
  for (const auto& [id, uuids] : ledger_.all())
    if (std::find(known.begin(), known.end(), id) == known.end()) out.orphans.push_back(id);
  co_return out;
}

Task<Result<fb::isolator::PreparedT>> Gpu::prepare(Request<fb::isolator::Prepare> request) {
  fb::isolator::PreparedT out;
  out.no_attach = true;
  fb::isolator::PrepareT body;
  request->UnPackTo(&body);
  GANTRY_CO_CHECK(check_id(body.container_id));
  if (!body.task) co_return out;
  GANTRY_CO_TRY(const unsigned count, cards_wanted(body.task->resources));
  if (count == 0) co_return out;
  if (!nvml_) {
    const std::string why = problem_.empty() ? "this machine has no NVIDIA driver" : problem_;
    co_return fail(Code::failed_precondition, "gpus = " + std::to_string(count) + " are wanted, but " + why +
                                                  "; take gpus out of the agent's resources or install the driver");
  }
  GANTRY_CO_TRY(const std::vector<std::string> uuids, ledger_.take(body.container_id, count, cards_));
  auto write = [ledger = Ledger(containers_), id = body.container_id, uuids] { return ledger.record(id, uuids); };
  auto writing = host().offload(std::move(write));
  const Status written = co_await std::move(writing);
  if (!ledger_.of(body.container_id)) {  // CLEANUP came meanwhile; what it removed may have been written again
    GANTRY_CO_CHECK(ledger_.give_back(body.container_id));
    co_return fail(Code::cancelled, "container " + body.container_id + " was cleaned up while it was prepared");
  }
  GANTRY_CO_CHECK(written);
  const bool image = !body.layers.empty();
  GANTRY_CO_CHECK(add_nodes(uuids, image, out));
  if (image && driver_files_) {
    auto find = [cache = library_cache_, programs = programs_] { return driver_files(cache, programs); };
    auto finding = host().offload(std::move(find));
    add_driver_files(co_await std::move(finding), out);
  }
  out.environment.push_back(variable("NVIDIA_VISIBLE_DEVICES", joined(uuids)));
  co_return out;
}

// A container without an image sees the machine's own nodes; which of them it may open is the devices' affair.
Status Gpu::add_nodes(const std::vector<std::string>& uuids, bool image, fb::isolator::PreparedT& out) const {
  const auto add = [&](const std::string& name, bool needed) -> Status {
    const std::string path = dev_ + "/" + name;
    struct stat st {};
    if (::stat(path.c_str(), &st) != 0) {
      if (!needed) return ok;
      return fail(Code::failed_precondition,
                  "cannot look at " + path + ": " + std::strerror(errno) + "; run nvidia-modprobe, or nvidia-smi once, as root");
    }
    if (!S_ISCHR(st.st_mode)) return fail(Code::failed_precondition, path + " is no device node");
    auto device = std::make_unique<fb::isolator::DeviceT>();
    device->major = static_cast<int>(major(st.st_rdev));
    device->minor = static_cast<int>(minor(st.st_rdev));
    device->access = "rw";
    out.devices.push_back(std::move(device));
    if (image) out.mounts.push_back(bind_file(path, "/dev/" + name, 0));
    return ok;
  };
  for (const char* node : control_nodes) GANTRY_CHECK(add(node, node == control_nodes[0]));
  for (const auto& uuid : uuids) {
    const auto card = std::find_if(cards_.begin(), cards_.end(), [&](const Card& c) { return c.uuid == uuid; });
    if (card == cards_.end()) return fail(Code::failed_precondition, "card " + uuid + " has gone");
    GANTRY_CHECK(add("nvidia" + std::to_string(card->minor), true));
  }
  return ok;
}

void Gpu::add_driver_files(const DriverFiles& found, fb::isolator::PreparedT& out) const {
  if (!found.problem.empty())
    host().warning("containers get no libraries of the NVIDIA driver: " + found.problem, {{"file", library_cache_}});
  for (const auto& file : found.files) out.mounts.push_back(bind_file(file.source, file.target, MS_RDONLY | MS_NOSUID | MS_NODEV));
  out.environment.push_back(variable("LD_LIBRARY_PATH", std::string(library_directory) + ":" + library_directory_32));
}

Task<Status> Gpu::update(Request<fb::isolator::Update> request) {
  fb::isolator::UpdateT body;
  request->UnPackTo(&body);
  GANTRY_CO_TRY(const unsigned count, cards_wanted(body.resources));
  const auto* has = ledger_.of(body.container_id);
  const std::size_t now = has ? has->size() : 0;
  if (count == now) co_return ok;
  co_return fail(Code::failed_precondition, "container " + body.container_id + " has " + std::to_string(now) + " cards and cannot get " +
                                                std::to_string(count) +
                                                " while it runs; the cards of a container are chosen when it starts");
}

Task<Result<fb::isolator::UsagesT>> Gpu::usage(Request<fb::isolator::UsageRequest> request) {
  fb::isolator::UsagesT out;
  if (!request->container_ids() || !nvml_) co_return out;
  std::vector<std::string> wanted;
  for (const auto* id : *request->container_ids()) {
    const auto* uuids = ledger_.of(std::string(text(id)));
    if (!uuids) continue;
    auto u = std::make_unique<fb::isolator::UsageT>();
    u->container_id = text(id);
    for (const auto& uuid : *uuids) {
      auto g = std::make_unique<fb::isolator::GpuUsageT>();
      g->uuid = uuid;
      const auto card = std::find_if(cards_.begin(), cards_.end(), [&](const Card& c) { return c.uuid == uuid; });
      if (card != cards_.end()) g->index = card->index;
      u->gpus.push_back(std::move(g));
      wanted.push_back(uuid);
    }
    out.usages.push_back(std::move(u));
  }
  if (wanted.empty()) co_return out;
  auto ask = [nvml = nvml_, wanted] {
    std::map<std::string, CardUse> figures;
    for (const auto& uuid : wanted)
      if (const auto use = nvml->use(uuid)) figures[uuid] = *use;
    return figures;
  };
  auto asking = host().offload(std::move(ask));
  const std::map<std::string, CardUse> figures = co_await std::move(asking);
  for (auto& u : out.usages)
    for (auto& g : u->gpus) {
      const auto it = figures.find(g->uuid);
      if (it == figures.end()) continue;
      g->utilization = it->second.utilization;
      g->memory_used = it->second.memory_used;
      g->memory_total = it->second.memory_total;
    }
  co_return out;
}

Task<Status> Gpu::cleanup(Request<fb::isolator::Cleanup> request) {
  const std::string id(text(request->container_id()));
  GANTRY_CO_CHECK(check_id(id));
  co_return ledger_.give_back(id);
}

}  // namespace gantry::isolator_gpu
