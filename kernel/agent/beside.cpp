// What happens beside launches and exits: commands in a container, usage, collection of sandboxes, stop.
#include "kernel/agent/container_launcher.hpp"
#include "kernel/base/log.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

namespace gantry::agent {

void ContainerLauncher::run_in(const std::string& container_id, const fb::CommandInfoT& command, base::Nanos timeout, Function<void(Result<int>)> done) {
  const ContainerPtr c = find(container_id);
  begin();
  if (!c || c->phase != Container::Phase::running || stopping_) {
    loop_.post([this, container_id, done = std::move(done)]() mutable {
      done(fail(Code::not_found, "container " + container_id + " is not running"));
      end();
    });
    return;
  }
  loop_.post([this, c, command, timeout, done = std::move(done)]() mutable {
    spawn(run_beside(c, std::move(command), timeout), [this, done = std::move(done)](Result<int> r) mutable {
      done(std::move(r));
      end();
    });
  });
}

void ContainerLauncher::update(const std::string& container_id, std::vector<std::unique_ptr<fb::ResourceT>> resources, Function<void(Status)> done) {
  const ContainerPtr c = find(container_id);
  fb::isolator::UpdateT body;
  body.container_id = container_id;
  body.resources = std::move(resources);
  begin();
  loop_.post([this, c, body = pack(body), done = std::move(done)]() mutable {
    spawn(update_isolators(std::move(c), std::move(body)), [this, done = std::move(done)](Status s) mutable {
      done(std::move(s));
      end();
    });
  });
}

Task<Status> ContainerLauncher::update_isolators(ContainerPtr c, Buffer body) {
  for (module::Instance* isolator : options_.isolators) {
    if (!c || c->phase != Container::Phase::running || stopping_) co_return ok;  // what is ending needs no more
    auto done = co_await ask(isolator, static_cast<std::uint32_t>(fb::isolator::Method::UPDATE), Buffer(Bytes(body)));
    if (done || done.error().code == Code::unimplemented) continue;
    if (c->phase != Container::Phase::running) co_return ok;
    co_return std::move(done).error().because(isolator->id() + " could not change the container's resources");
  }
  co_return ok;
}

Task<Result<int>> ContainerLauncher::run_beside(ContainerPtr c, fb::CommandInfoT command, base::Nanos timeout) {
  Spawn how;
  auto clone = [&how, &command, c, inside = inside_path(c->spec.container_id), supervisor = options_.supervisor]() -> Result<Spawned> {
    GANTRY_TRY(const auto kept, read_inside(inside));
    how = spawn_inside(kept);
    how.supervisor = supervisor;
    how.container_id = c->spec.container_id;
    how.join_pidfd = c->spawned.pidfd.get();
    how.beside = true;
    GANTRY_CHECK(put_command(how, command, nullptr, false));
    // The task's environment below the command's own.
    Environment environment(how.environment);
    GANTRY_CHECK(put_variables(environment, command));
    how.environment = environment.take();
    return spawn_supervised(how);
  };
  GANTRY_CO_TRY(Spawned beside, co_await off(std::move(clone)));
  bool late = false;
  const int pidfd = beside.pidfd.get();
  const base::TimerId timer = loop_.after(timeout, [&late, pidfd] {
    late = true;
    signal_pidfd(pidfd, SIGUSR1);
  });
  co_await readable(pidfd);
  loop_.cancel(timer);
  const auto status = reap(pidfd);
  const auto report = read_report(beside.control.get(), how);
  if (late) co_return fail(Code::deadline_exceeded, "the command was killed after its time of " + std::to_string(std::chrono::duration<double>(timeout).count()) + " s");
  if (!report) co_return report.error();
  if (!status) co_return fail(Code::internal, "the end of the command was not seen");
  co_return *status;
}

void ContainerLauncher::usage(std::vector<std::string> container_ids, Function<void(Result<std::vector<fb::isolator::UsageT>>)> done) {
  std::vector<std::string> ids;
  if (container_ids.empty()) {
    for (const auto& [id, c] : containers_)
      if (c->phase == Container::Phase::running) ids.push_back(id);
  } else {
    for (auto& id : container_ids)
      if (const auto c = find(id); c && c->phase == Container::Phase::running) ids.push_back(std::move(id));
  }
  begin();
  loop_.post([this, ids = std::move(ids), done = std::move(done)]() mutable {
    spawn(ask_usage(std::move(ids)), [this, done = std::move(done)](auto r) mutable {
      done(std::move(r));
      end();
    });
  });
}

namespace {
// Each isolator fills what it knows; the first word on a figure stands.
void merge_usage(fb::isolator::UsageT& into, const fb::isolator::UsageT& from) {
  const auto take = [](auto& to, auto value) {
    if (to == 0) to = value;
  };
  take(into.cpu_user_ns, from.cpu_user_ns);
  take(into.cpu_system_ns, from.cpu_system_ns);
  take(into.cpu_periods, from.cpu_periods);
  take(into.cpu_throttled, from.cpu_throttled);
  take(into.cpu_throttled_ns, from.cpu_throttled_ns);
  if (!(into.cpu_limit > 0)) into.cpu_limit = from.cpu_limit;
  take(into.memory_limit, from.memory_limit);
  take(into.memory_rss, from.memory_rss);
  take(into.memory_total, from.memory_total);
  take(into.memory_cache, from.memory_cache);
  take(into.processes, from.processes);
}
}  // namespace

Task<Result<std::vector<fb::isolator::UsageT>>> ContainerLauncher::ask_usage(std::vector<std::string> ids) {
  std::vector<fb::isolator::UsageT> out(ids.size());
  std::unordered_map<std::string, std::size_t> index;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    out[i].container_id = ids[i];
    index[ids[i]] = i;
  }
  for (module::Instance* isolator : options_.isolators) {
    if (ids.empty()) break;
    fb::isolator::UsageRequestT body;
    body.container_ids = ids;
    auto reply = co_await ask(isolator, static_cast<std::uint32_t>(fb::isolator::Method::USAGE), pack(body));
    if (!reply) co_return std::move(reply).error().because(isolator->id() + " could not tell the usage");
    auto usages = unpack<fb::isolator::Usages>(Bytes(*reply));
    if (!usages) continue;
    for (const auto& u : usages->usages)
      if (const auto it = index.find(u->container_id); it != index.end()) merge_usage(out[it->second], *u);
  }
  co_return out;
}

void ContainerLauncher::release_sandbox(const std::string& sandbox) {
  const auto pinned = pinned_.extract(sandbox);
  if (pinned.empty()) return;
  // Its age counts from now, also for a later run of the agent.
  ::utimensat(AT_FDCWD, sandbox.c_str(), nullptr, AT_SYMLINK_NOFOLLOW);
  if (!find(pinned.mapped())) forget_files(pinned.mapped());
}

void ContainerLauncher::collect_later() {
  gc_timer_ = loop_.after(options_.gc_interval, [this] {
    gc_timer_ = 0;
    if (stopping_) return;
    begin();
    auto result = std::make_shared<GcResult>();
    std::set<std::string> pinned;
    for (const auto& [sandbox, id] : pinned_) pinned.insert(sandbox);
    loop_.offload([result, keep = std::move(pinned), wall = loop_.wall(), dir = options_.work_dir, rules = options_.gc] { *result = collect_sandboxes(dir, rules, keep, wall); },
                  [this, result] {
                    for (const auto& p : result->problems) base::log_warning("agent", p);
                    if (result->removed) base::log_info("agent", "collected old sandboxes", {{"count", std::to_string(result->removed)}});
                    if (!stopping_) collect_later();
                    end();
                  });
  });
}

void ContainerLauncher::stop(Function<void()> done) {
  stopping_ = true;
  loop_.cancel(std::exchange(gc_timer_, 0));
  for (const auto& [id, c] : containers_) {
    if (c->exit_watch) options_.unwatch(std::exchange(c->exit_watch, 0));
    loop_.cancel(std::exchange(c->kill_timer, 0));
    for (const auto& [isolator, call] : std::exchange(c->watches, {})) isolator->cancel(call);
    if (c->phase == Container::Phase::launching) c->interrupt();  // a launch that has not begun to run is taken back
    for (const auto& gone : std::exchange(c->gone, {})) loop_.post([gone] { gone.set(true); });
  }
  end_sessions();
  stopped_ = std::move(done);
  if (in_flight_ == 0) loop_.post([fn = std::exchange(stopped_, nullptr)]() mutable { fn(); });
}

}  // namespace gantry::agent
