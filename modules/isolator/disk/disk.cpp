#include "disk.hpp"

#include <algorithm>
#include <cstdlib>

namespace gantry::isolator_disk {
namespace {

// What a container that is to be killed may write beyond its quota, so that the breach is seen before writing fails.
constexpr std::uint64_t headroom = 10ull << 20;

Status check_id(std::string_view id) {
  const bool control = std::any_of(id.begin(), id.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; });
  if (!id.empty() && id.size() <= 255 && id[0] != '.' && id.find('/') == id.npos && !control) return ok;
  return fail(Code::invalid_argument, "container_id \"" + std::string(id.substr(0, 255)) + "\" is no name");
}

// Where the data of a volume lies: the agent has put a link into the sandbox, or a mount. Nothing else is believed, since a task
// may put links of its own there: the agent's volumes lie in .../volumes/roles/<role>/<id>.
std::string data_of(const std::string& sandbox, const Share& share) {
  char* real = ::realpath((sandbox + "/" + share.path).c_str(), nullptr);
  if (!real) return "";
  const std::string path(real);
  std::free(real);
  const std::string end = "/" + share.volume_id;
  const bool volume = !share.volume_id.empty() && path.find("/volumes/roles/") != path.npos && path.size() > end.size() &&
                      path.compare(path.size() - end.size(), end.size(), end) == 0;
  return volume ? path : "";
}

// The least number of [first, last] from `next` on, round about, that nobody has: no container, no file on the disk.
Result<std::uint32_t> free_project(const std::string& path, std::uint32_t first, std::uint32_t last, std::uint32_t next,
                                   const std::set<std::uint32_t>& taken) {
  const std::uint64_t count = std::uint64_t{last} - first + 1;
  for (std::uint64_t i = 0; i < count; ++i) {
    const auto project = static_cast<std::uint32_t>(first + (next - first + i) % count);
    if (taken.count(project)) continue;
    GANTRY_TRY(const ProjectUse use, project_use(path, project));
    if (use.files == 0 && use.bytes == 0) return project;
  }
  return fail(Code::resource_exhausted,
              "all project ids from " + std::to_string(first) + " to " + std::to_string(last) +
                  " are in use by sandboxes on this disk; widen first_project and last_project of [isolator.disk]");
}

}  // namespace

Task<Status> Disk::configure(Settings settings) {
  const auto first = settings.number("first_project"), last = settings.number("last_project");
  if (first > last)
    co_return fail(Code::invalid_argument,
                   "first_project = " + std::to_string(first) + " is greater than last_project = " + std::to_string(last), "first_project");
  enforce_ = settings.flag("enforce");
  kill_ = settings.text("on_quota") == "kill";
  interval_ = settings.duration("interval");
  if (settings.reload()) co_return ok;
  method_ = settings.text("method");
  parallel_ = static_cast<std::size_t>(settings.number("parallel"));
  first_project_ = next_project_ = static_cast<std::uint32_t>(first);
  last_project_ = static_cast<std::uint32_t>(last);
  co_return ok;
}

Task<Status> Disk::start() { co_return ok; }

Task<Status> Disk::stop() {
  stopping_ = true;
  waiting_.clear();
  for (auto& [id, c] : containers_) {
    host().cancel_timer(c->timer);
    *c->gone = true;
    c->watcher.complete();
  }
  containers_.clear();
  if (looking_ > 0) {
    idle_.emplace();
    const Promise<bool> idle = *idle_;
    co_await idle.get();
  }
  co_return ok;
}

Task<Result<fb::HealthT>> Disk::health() {
  fb::HealthT h;
  if (!problem_.empty()) {
    h.state = fb::HealthState::DEGRADED;
    h.message = problem_;
  }
  co_return h;
}

Disk::ContainerPtr Disk::adopt(const std::string& id, const std::string& sandbox, const fb::TaskInfoT* task) {
  auto& c = containers_[id];
  if (c) return c;
  c = std::make_shared<Container>();
  c->id = id;
  c->sandbox = sandbox;
  c->shares = task ? shares_of(task->resources) : shares_of({});
  for (const auto& share : c->shares)
    if (!share.path.empty()) c->volumes[share.path] = data_of(sandbox, share);
  return c;
}

Task<Result<fb::isolator::RecoveredT>> Disk::recover(Request<fb::isolator::Recover> request) {
  fb::isolator::RecoverT body;
  request->UnPackTo(&body);
  for (const auto& known : body.containers) {
    if (!check_id(known->container_id)) continue;
    const ContainerPtr c = adopt(known->container_id, known->sandbox, known->task.get());
    // The number is on the sandbox itself.
    auto read = [sandbox = c->sandbox] { return project_of(sandbox); };
    auto reading = host().offload(std::move(read));
    const auto project = co_await std::move(reading);
    if (project && *project >= first_project_ && *project <= last_project_) {
      c->project = *project;
      projects_.insert(*project);
      if (const Status limited = co_await apply_limit(c); !limited) host().warning(limited.error().message, {{"container", c->id}});
    }
    look_later(c);
  }
  co_return fb::isolator::RecoveredT{};  // what is on the disk is the agent's to delete
}

Task<Result<fb::isolator::PreparedT>> Disk::prepare(Request<fb::isolator::Prepare> request) {
  fb::isolator::PreparedT out;
  out.no_attach = true;
  fb::isolator::PrepareT body;
  request->UnPackTo(&body);
  GANTRY_CO_CHECK(check_id(body.container_id));
  if (containers_.count(body.container_id)) co_return out;
  const ContainerPtr c = adopt(body.container_id, body.sandbox, body.task.get());
  const Status given = co_await give_project(c);
  if (*c->gone) {  // CLEANUP came meanwhile and did not know of the number yet
    (void)co_await take_project_back(c);
    co_return fail(Code::cancelled, "container " + c->id + " was cleaned up while it was prepared");
  }
  GANTRY_CO_CHECK(given);
  look_later(c);
  co_return out;
}

Task<Status> Disk::give_project(ContainerPtr c) {
  if (method_ == "count") co_return ok;
  struct Given {
    Quotas quotas = Quotas::none;
    std::uint32_t project = 0;
  };
  for (;;) {
    auto find = [sandbox = c->sandbox, first = first_project_, last = last_project_, next = next_project_,
                 taken = projects_]() -> Result<Given> {
      Given given;
      GANTRY_TRY(given.quotas, quotas_at(sandbox));
      if (given.quotas == Quotas::none) return given;
      GANTRY_TRY(given.project, free_project(sandbox, first, last, next, taken));
      return given;
    };
    auto finding = host().offload(std::move(find));
    const auto given = co_await std::move(finding);
    if (!given && given.error().code == Code::resource_exhausted) co_return given.error();
    if (!given || given->quotas == Quotas::none || (enforce_ && given->quotas != Quotas::enforced)) {
      if (method_ == "quota" && problem_.empty())
        problem_ = "the file system of " + c->sandbox + " has no project quotas" +
                   (given && given->quotas == Quotas::counted ? " that are enforced" : "") +
                   ": space is counted instead; mount it with the option prjquota";
      co_return ok;
    }
    if (projects_.count(given->project)) continue;  // a container that came at the same time was faster
    c->project = given->project;
    break;
  }
  projects_.insert(c->project);
  next_project_ = c->project == last_project_ ? first_project_ : c->project + 1;
  GANTRY_CO_CHECK(co_await apply_limit(c));
  auto label = [sandbox = c->sandbox, project = c->project, gone = c->gone] {
    Status labelled = label_project(sandbox, project, 0, *gone);
    // Artifacts are being unpacked into it at the same time.
    for (int i = 0; i < 5 && !labelled && labelled.error().code == Code::aborted; ++i) labelled = label_project(sandbox, project, 0, *gone);
    return labelled;
  };
  auto labelling = host().offload(std::move(label));
  co_return co_await std::move(labelling);
}

std::uint64_t Disk::project_limit(const Container& c) const {
  const std::uint64_t quota = c.shares[0].quota;
  if (!enforce_ || quota == 0) return 0;
  return kill_ ? quota + headroom : quota;
}

Task<Status> Disk::apply_limit(ContainerPtr c) {
  auto set = [sandbox = c->sandbox, project = c->project, bytes = project_limit(*c)] { return limit_project(sandbox, project, bytes); };
  auto setting = host().offload(std::move(set));
  co_return co_await std::move(setting);
}

void Disk::look_later(const ContainerPtr& c) {
  if (stopping_ || *c->gone) return;
  c->timer = host().timer(interval_, [this, c] { look(c); });
}

// A walk through a large tree takes minutes. A few go at a time, the others wait for their turn.
void Disk::look(ContainerPtr c) {
  if (looking_ >= parallel_) {
    waiting_.push_back(std::move(c));
    return;
  }
  ++looking_;
  spawn(measure(c), [this, c] {
    --looking_;
    look_later(c);
    while (!waiting_.empty() && looking_ < parallel_) {
      auto next = std::move(waiting_.front());
      waiting_.pop_front();
      if (!*next->gone) look(std::move(next));
    }
    if (looking_ == 0 && idle_) idle_->set(true);
  });
}

Task<void> Disk::measure(ContainerPtr c) {
  struct Measured {
    std::string path;
    Result<std::uint64_t> bytes;
  };
  struct Wanted {
    std::string path, directory;
    std::set<std::string> exclude;
    std::uint32_t project;
  };
  std::vector<Wanted> wanted;
  for (const auto& share : c->shares) {
    if (share.path.empty()) {
      Wanted sandbox{"", c->sandbox, {}, c->project};
      for (const auto& other : c->shares)
        if (!other.path.empty()) sandbox.exclude.insert(other.path);
      wanted.push_back(std::move(sandbox));
    } else if (const auto at = c->volumes.find(share.path); share.enforced && at != c->volumes.end() && !at->second.empty()) {
      wanted.push_back({share.path, at->second, {}, 0});
    }
  }
  auto add_up = [wanted = std::move(wanted), gone = c->gone] {
    std::vector<Measured> out;
    for (const auto& w : wanted) {
      if (w.project) {
        auto use = project_use(w.directory, w.project);
        out.push_back({w.path, use ? Result<std::uint64_t>(use->bytes) : Result<std::uint64_t>(use.error())});
      } else {
        auto space = space_of(w.directory, w.exclude, *gone);
        out.push_back({w.path, space ? Result<std::uint64_t>(space->bytes) : Result<std::uint64_t>(space.error())});
      }
    }
    return out;
  };
  auto adding = host().offload(std::move(add_up));
  const std::vector<Measured> all = co_await std::move(adding);
  if (*c->gone) co_return;
  for (const auto& measured : all) {
    if (!measured.bytes) {
      host().debug("space of a container is not known: " + measured.bytes.error().message, {{"container", c->id}});
      continue;
    }
    if (measured.path.empty()) c->used = *measured.bytes;
    // UPDATE may have come meanwhile.
    const auto share = std::find_if(c->shares.begin(), c->shares.end(), [&](const Share& s) { return s.path == measured.path; });
    if (share != c->shares.end()) judge(*c, *share, *measured.bytes);
  }
}

void Disk::judge(Container& c, const Share& share, std::uint64_t bytes) {
  // With quotas that deny, the file system has the last word, and it counts in blocks of its own. Who is far beyond nevertheless has
  // the right to be (CAP_SYS_RESOURCE on ext4), or had more before: nothing but this stops it.
  const bool denies = share.path.empty() && c.project != 0 && !kill_;
  const std::uint64_t most = share.quota + (denies ? headroom : 0);
  if (!enforce_ || !share.enforced || share.quota == 0 || bytes <= most || c.reported || c.pending) return;
  fb::isolator::LimitedT limited;
  limited.reason = fb::Reason::REASON_CONTAINER_LIMITATION_DISK;
  limited.message = "Disk usage (" + show_bytes(bytes) + ") exceeds quota (" + show_bytes(share.quota) + ")";
  for (const auto& r : share.resources) limited.resources.push_back(std::make_unique<fb::ResourceT>(*r));
  if (c.watcher.open()) {
    c.reported = true;
    c.watcher.more(pack(limited));
  } else {
    c.pending = std::move(limited);
  }
}

void Disk::watch(Request<fb::isolator::Watch> request, Responder responder) {
  const auto it = containers_.find(std::string(text(request->container_id())));
  if (it == containers_.end()) {
    responder.complete();
    return;
  }
  Container& c = *it->second;
  if (c.pending && !c.reported) {
    responder.more(pack(*c.pending));
    c.reported = true;
    c.pending.reset();
  }
  c.watcher.complete();  // a second watcher takes over
  c.watcher = std::move(responder);
}

void Disk::cancelled(std::uint64_t token) {
  for (auto& [id, c] : containers_)
    if (c->watcher.open() && c->watcher.token() == token) c->watcher.complete();
}

Task<Status> Disk::update(Request<fb::isolator::Update> request) {
  fb::isolator::UpdateT body;
  request->UnPackTo(&body);
  const auto it = containers_.find(body.container_id);
  if (it == containers_.end()) co_return fail(Code::not_found, "container " + body.container_id + " is not known here");
  const ContainerPtr c = it->second;
  c->shares = shares_of(body.resources);
  for (const auto& share : c->shares)
    if (!share.path.empty() && !c->volumes.count(share.path)) c->volumes[share.path] = data_of(c->sandbox, share);
  if (c->project == 0) co_return ok;
  co_return co_await apply_limit(c);
}

Task<Result<fb::isolator::UsagesT>> Disk::usage(Request<fb::isolator::UsageRequest> request) {
  fb::isolator::UsagesT out;
  if (!request->container_ids()) co_return out;
  for (const auto* id : *request->container_ids()) {
    const auto it = containers_.find(std::string(text(id)));
    if (it == containers_.end()) continue;
    auto u = std::make_unique<fb::isolator::UsageT>();
    u->container_id = it->first;
    u->disk_limit = it->second->shares[0].quota;
    u->disk_used = it->second->used;
    out.usages.push_back(std::move(u));
  }
  co_return out;
}

Task<Status> Disk::cleanup(Request<fb::isolator::Cleanup> request) {
  const std::string id(text(request->container_id()));
  const auto it = containers_.find(id);
  if (it == containers_.end()) co_return ok;
  const ContainerPtr c = it->second;
  host().cancel_timer(c->timer);
  *c->gone = true;
  c->watcher.complete();
  containers_.erase(it);
  co_return co_await take_project_back(c);
}

// The files keep their number until the agent deletes the sandbox, and the number is taken until then. Its limit is not needed.
Task<Status> Disk::take_project_back(ContainerPtr c) {
  if (c->project == 0) co_return ok;
  auto lift = [sandbox = c->sandbox, project = c->project] { return limit_project(sandbox, project, 0); };
  auto lifting = host().offload(std::move(lift));
  const Status lifted = co_await std::move(lifting);
  projects_.erase(c->project);
  if (!lifted && lifted.error().code != Code::not_found) co_return lifted;
  co_return ok;
}

}  // namespace gantry::isolator_disk
