// After a restart: taking back containers that run, reading how others ended, ending what nobody knows.
#include "kernel/agent/container_launcher.hpp"
#include "kernel/base/log.hpp"

#include <gantry/image_generated.h>

#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>

namespace gantry::agent {
namespace {

// A pidfd of the process if it is still the one that was started then, on this boot of the machine.
base::Fd same_process(int pid, std::uint64_t start, const std::string& boot) {
  if (pid <= 0 || start == 0 || (!boot.empty() && boot != boot_id())) return {};
  base::Fd fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  // Asked after the pidfd is held, so the number cannot be given to another in between.
  if (!fd || start_time(pid) != start) return {};
  return fd;
}

}  // namespace

void ContainerLauncher::recover(std::vector<KnownContainer> known, Function<void(Result<std::vector<RecoveredContainer>>)> done) {
  begin();
  loop_.post([this, known = std::move(known), done = std::move(done)]() mutable {
    spawn(recover_flow(std::move(known)), [this, done = std::move(done)](auto result) mutable {
      done(std::move(result));
      end();
    });
  });
}

Task<Result<std::vector<RecoveredContainer>>> ContainerLauncher::recover_flow(std::vector<KnownContainer> known) {
  using Fate = RecoveredContainer::Fate;
  std::vector<RecoveredContainer> out;
  std::vector<ContainerPtr> running;
  std::vector<std::string> ended;
  std::set<std::string> listed;
  std::map<std::string, std::string> parents;

  // 1. What became of each: alive under its identity, or what its supervisor wrote down.
  for (KnownContainer& k : known) {
    const std::string id = k.spec.container_id;
    listed.insert(id);
    pinned_[k.spec.sandbox] = id;
    parents[id] = k.spec.parent;
    const auto record = read_record(record_path(id));
    RecoveredContainer r;
    r.container_id = id;
    if (k.identity) {
      base::Fd pidfd = same_process(k.identity->supervisor_pid, k.identity->supervisor_start, record ? record->boot : std::string());
      if (pidfd) {
        auto c = std::make_shared<Container>();
        c->spec = std::move(k.spec);
        c->identity = *k.identity;
        c->spawned.supervisor_pid = k.identity->supervisor_pid;
        c->spawned.pidfd = std::move(pidfd);
        if (const auto inside = read_inside(inside_path(id)))
          for (const auto& n : inside->networks) r.networks.push_back(*n);
        r.fate = Fate::running;
        running.push_back(std::move(c));
      } else if (record && record->supervisor_pid == k.identity->supervisor_pid) {
        r.fate = Fate::exited;
        r.exit.wait_status = record->wait_status;
        if (!record->wait_status)
          r.exit.message = record->boot == boot_id() ? "the container's supervisor was killed" : "the machine was restarted";
      }
    }
    if (r.fate != Fate::running) {
      co_await end_leftover(record_path(id));
      ended.push_back(id);
    }
    out.push_back(std::move(r));
  }

  co_await end_forsaken(out, running, ended);

  // 2. Records nobody asked about: containers of a launch that was never remembered.
  std::error_code e;
  std::vector<std::string> unknown;
  for (std::filesystem::directory_iterator it(options_.work_dir + "/meta/containers", e), end; !e && it != end; it.increment(e))
    if (!listed.count(it->path().filename().string())) unknown.push_back(it->path().filename().string());
  for (const auto& id : unknown) {
    co_await end_leftover(record_path(id));
    forget_files(id);
    ended.push_back(id);
  }

  // 3. The isolators learn what lives; what else they find is cleaned up.
  for (module::Instance* isolator : options_.isolators) {
    fb::isolator::RecoverT body;
    for (const auto& c : running) {
      auto k = std::make_unique<fb::isolator::KnownT>();
      k->container_id = c->spec.container_id;
      k->pid = c->spawned.supervisor_pid;
      k->sandbox = c->spec.sandbox;
      if (c->spec.task) k->task = std::make_unique<fb::TaskInfoT>(*c->spec.task);
      body.containers.push_back(std::move(k));
    }
    auto reply = co_await ask(isolator, GANTRY_METHOD_RECOVER, pack(body));
    if (!reply) {
      base::log_error("agent", isolator->id() + " could not recover: " + reply.error().message);
      continue;
    }
    if (const auto* recovered = view<fb::isolator::Recovered>(Bytes(*reply)); recovered && recovered->orphans()) {
      std::vector<std::string> orphans;
      for (const auto* orphan : *recovered->orphans()) orphans.emplace_back(text(orphan));
      for (const auto& orphan : orphans) {
        if (std::find(ended.begin(), ended.end(), orphan) != ended.end()) continue;  // its turn comes below
        base::log_info("agent", "cleaning up a container that nobody knows", {{"container", orphan}, {"isolator", isolator->id()}});
        co_await cleanup(isolator, orphan);
      }
    }
  }
  std::vector<std::string> live;
  for (const auto& c : running) live.push_back(c->spec.container_id);
  if (options_.image) co_await recover_images(live);
  for (const auto& id : ended) {
    // A limit that ended it while we were away is told to whoever watches before the cleanup is done.
    auto limited = std::make_shared<std::optional<fb::isolator::LimitedT>>();
    std::vector<std::pair<module::Instance*, std::uint64_t>> watches;
    for (module::Instance* isolator : options_.isolators) watches.emplace_back(isolator, watch_limit(isolator, id, limited));
    for (auto it = options_.isolators.rbegin(); it != options_.isolators.rend(); ++it) co_await cleanup(*it, id);
    for (const auto& [isolator, call] : watches) isolator->cancel(call);
    if (options_.image) co_await release_image(id);
    const auto r = std::find_if(out.begin(), out.end(), [&](const auto& x) { return x.container_id == id; });
    if (!*limited || r == out.end() || r->fate != Fate::exited) continue;
    r->exit.reason = (*limited)->reason;
    r->exit.message = (*limited)->message;
    for (const auto& resource : (*limited)->resources) r->exit.limitation.push_back(*resource);
  }

  explain_forsaken(out, parents);

  // 4. Those that run are ours again.
  for (const auto& c : running) {
    if (options_.image) c->undo.push_back([this, name = c->spec.container_id] { return release_image(name); });
    for (module::Instance* isolator : options_.isolators)
      c->undo.push_back([this, isolator, name = c->spec.container_id] { return cleanup(isolator, name); });
    c->how.namespaces = namespaces_of(c->spawned.supervisor_pid);
    describe_inside(*c);
    c->phase = Container::Phase::running;
    containers_[c->spec.container_id] = c;
    watch_limits(c);
    watch_exit(c);
  }
  co_return out;
}

// The images learn who uses them; who else is said to use one does not live any more.
Task<void> ContainerLauncher::recover_images(std::vector<std::string> live) {
  fb::image::RecoverT body;
  body.containers = std::move(live);
  const auto reply = co_await ask(options_.image, GANTRY_METHOD_RECOVER, pack(body));
  if (!reply) {
    if (reply.error().code != Code::unimplemented) base::log_error("agent", options_.image->id() + " could not recover: " + reply.error().message);
    co_return;
  }
  auto recovered = unpack<fb::image::Recovered>(Bytes(*reply));
  if (!recovered) co_return;
  for (const auto& orphan : recovered->orphans) co_await release_image(orphan);
}

// A container of a release that kept no description of it: as at the launch, but for what isolators had added.
void ContainerLauncher::describe_inside(Container& c) {
  const std::string path = inside_path(c.spec.container_id);
  if (::access(path.c_str(), F_OK) == 0 || !c.spec.task || !c.spec.task->command) return;
  Spawn like;
  if (auto account = find_account(options_.switch_user ? c.spec.user : std::string())) like.account = std::move(*account);
  like.namespaces = c.how.namespaces;
  like.sandbox = c.spec.sandbox;
  Environment environment = basic_environment(c.spec, like.account, nullptr, like.sandbox);
  Status written = put_variables(environment, *c.spec.task->command);
  like.environment = environment.take();
  ::mkdir((options_.work_dir + "/meta/inside").c_str(), 0700);
  if (written) written = write_inside(path, inside_of(like));
  if (!written) base::log_warning("agent", "commands cannot be run beside the container: " + written.error().message, {{"container", c.spec.container_id}});
}

Task<Status> ContainerLauncher::recover_image(module::Instance& images) {
  fb::image::RecoverT body;
  for (const auto& [id, c] : containers_) body.containers.push_back(id);
  module::CallOptions options;
  options.deadline = loop_.now() + std::chrono::seconds(60);
  options.from_host = true;
  // Who is told to be gone here is released as its end goes on; nothing has to be done for it twice.
  auto reply = co_await images.ask(GANTRY_METHOD_RECOVER, pack(body), std::move(options));
  if (!reply && reply.error().code != Code::unimplemented) co_return std::move(reply).error();
  co_return ok;
}

Task<Status> ContainerLauncher::recover_isolator(module::Instance& isolator) {
  fb::isolator::RecoverT body;
  for (const auto& [id, c] : containers_) {
    if (c->phase == Container::Phase::ending) continue;
    auto k = std::make_unique<fb::isolator::KnownT>();
    k->container_id = id;
    k->pid = c->spawned.supervisor_pid;
    k->sandbox = c->spec.sandbox;
    if (c->spec.task) k->task = std::make_unique<fb::TaskInfoT>(*c->spec.task);
    body.containers.push_back(std::move(k));
  }
  module::CallOptions options;
  options.deadline = loop_.now() + std::chrono::seconds(60);
  options.from_host = true;
  auto reply = co_await isolator.ask(GANTRY_METHOD_RECOVER, pack(body), std::move(options));
  if (!reply) {
    if (reply.error().code == Code::unimplemented) co_return ok;
    co_return std::move(reply).error();
  }
  if (const auto* recovered = view<fb::isolator::Recovered>(Bytes(*reply)); recovered && recovered->orphans())
    for (const auto* orphan : *recovered->orphans())
      if (!containers_.contains(std::string(text(orphan)))) orphans_.emplace_back(&isolator, text(orphan));
  co_return ok;
}

void ContainerLauncher::isolator_returned(module::Instance& isolator) {
  if (stopping_) return;
  for (const auto& [id, c] : containers_)
    if (c->phase == Container::Phase::running) watch_limits(c, &isolator);
  for (auto it = orphans_.begin(); it != orphans_.end();) {
    if (it->first != &isolator) {
      ++it;
      continue;
    }
    base::log_info("agent", "cleaning up a container that nobody knows", {{"container", it->second}, {"isolator", isolator.id()}});
    begin();
    spawn(cleanup(&isolator, it->second), [this] { end(); });
    it = orphans_.erase(it);
  }
}

// Opens a WATCH that keeps the first limitation it hears of. Returns the call's id.
std::uint64_t ContainerLauncher::watch_limit(module::Instance* isolator, const std::string& id, std::shared_ptr<std::optional<fb::isolator::LimitedT>> into) {
  fb::isolator::WatchT body;
  body.container_id = id;
  return isolator->call(static_cast<std::uint32_t>(fb::isolator::Method::WATCH), pack(body), [into](gantry_code code, Bytes bytes) {
    if (code != GANTRY_MORE || *into) return;
    if (auto limited = unpack<fb::isolator::Limited>(bytes)) *into = std::move(*limited);
  });
}

// Kills what a record names, if it is alive, and waits for its end.
Task<void> ContainerLauncher::end_leftover(std::string path) {
  const auto record = read_record(path);
  if (!record) co_return;
  const base::Fd pidfd = same_process(record->supervisor_pid, record->supervisor_start, record->boot);
  if (!pidfd) co_return;
  signal_pidfd(pidfd.get(), SIGUSR1);
  const bool held = !record->wait_status && namespaces_of(record->supervisor_pid) != 0;
  if (held) signal_pidfd(pidfd.get(), SIGKILL);  // first of its pid namespace: everything in it ends with it
  co_await readable(pidfd.get());
  (void)reap(pidfd.get());
}

}  // namespace gantry::agent
