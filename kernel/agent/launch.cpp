// One launch, top to bottom. Every step that succeeded leaves what takes it back on the container's undo list.
#include "kernel/agent/container_launcher.hpp"
#include "kernel/agent/volumes.hpp"
#include "kernel/base/log.hpp"

#include <gantry/fetcher_generated.h>

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>

namespace gantry::agent {
namespace {

using IsolatorMethod = fb::isolator::Method;

constexpr std::uint32_t id(IsolatorMethod m) { return static_cast<std::uint32_t>(m); }

Error killed() { return fail(Code::cancelled, "killed while it was being launched"); }

}  // namespace

void ContainerLauncher::launch(LaunchSpec spec, Function<void(Started)> started) {
  auto c = std::make_shared<Container>();
  c->spec = std::move(spec);
  containers_[c->spec.container_id] = c;
  pinned_[c->spec.sandbox] = c->spec.container_id;
  begin();
  loop_.post([this, c, started = std::move(started)]() mutable { spawn(launch_flow(std::move(c), std::move(started)), [this] { end(); }); });
}

Task<void> ContainerLauncher::launch_flow(ContainerPtr c, Function<void(Started)> started) {
  if (launching_ >= options_.parallel) {
    Promise<bool> turn;
    waiting_.push_back(turn);
    co_await turn.get();
  } else {
    ++launching_;
  }
  const Status result = co_await launch_steps(c);
  if (!waiting_.empty()) {
    loop_.post([turn = waiting_.front()] { turn.set(true); });  // takes over our place
    waiting_.pop_front();
  } else {
    --launching_;
  }

  if (result) {
    c->phase = Container::Phase::running;
    watch_exit(c);
    watch_limits(c);
    started(c->identity);
    // Too late to stop the launch: it ends like any other container.
    if (c->kill_wanted) kill_all(c);
    co_return;
  }
  co_await unwind(c);
  forget_files(c->spec.container_id);
  erase(c);
  if (c->with_parent) started(LaunchError{fail(Code::cancelled, "the container it belongs to has ended"), fb::Reason::REASON_EXECUTOR_TERMINATED});
  else started(LaunchError{result.error(), fb::Reason::REASON_CONTAINER_LAUNCH_FAILED});
}

Task<Status> ContainerLauncher::launch_steps(ContainerPtr c) {
  if (c->kill_wanted || stopping_) co_return killed();
  GANTRY_CO_CHECK(join_parent(*c));  // or nothing is begun

  // 1. The account and its sandbox.
  const std::string user = options_.switch_user ? c->spec.user : std::string();
  // (Named lambdas: gcc 12 destroys a temporary one in a co_await expression twice.)
  auto make = [c, user, sandbox = c->spec.sandbox, meta = options_.work_dir + "/meta",
               work_dir = options_.work_dir, spec = &c->spec]() -> Result<Account> {
    const auto& task = spec->task;
    auto found = find_account(user);
    // An account that was named for this task may be the image's.
    c->user_in_image = !found && found.error().code == Code::not_found && wanted_image(*task) && task->command && task->command->user == user;
    if (c->user_in_image) found = find_account("");
    if (!found) return std::move(found).error();
    Account a = std::move(*found);
    GANTRY_CHECK(!spec->parent.empty() ? make_nested_sandbox(sandbox, a) : spec->hold ? make_shared_sandbox(sandbox, a) : make_sandbox(sandbox, a));
    GANTRY_CHECK(link_volumes(work_dir, sandbox, task->resources, a));
    ::mkdir(meta.c_str(), 0755);
    ::mkdir((meta + "/containers").c_str(), 0700);
    ::mkdir((meta + "/inside").c_str(), 0700);
    return a;
  };
  GANTRY_CO_TRY(c->how.account, co_await off(std::move(make)));
  GANTRY_CO_CHECK(describe(*c));
  if (c->kill_wanted) co_return killed();

  // 2. Artifacts beside the image and the isolators. Both are waited for, whatever becomes of the other.
  Promise<Status> fetched;
  spawn(fetch(c), [fetched](Status s) { fetched.set(std::move(s)); });
  Status prepared = co_await pull_and_prepare(c);
  if (!prepared) c->interrupt();
  Status artifacts = co_await fetched.get();
  if (c->kill_wanted || stopping_) co_return killed();
  if (!prepared) co_return prepared;
  if (!artifacts) co_return artifacts;

  // 3. The first process, held if somebody wants to attach to it. What a command beside it needs is on disk before it runs.
  c->how.held = c->attach_mask != 0;
  GANTRY_CO_CHECK(join_parent(*c));
  auto clone = [c, work_dir = options_.work_dir, inside = inside_path(c->spec.container_id), how = &c->how]() -> Result<Spawned> {
    // The image may have named another user than the one the sandbox was made for.
    if (c->image && how->account.change) {
      GANTRY_CHECK(give_sandbox(c->spec.sandbox, how->account));
      GANTRY_CHECK(link_volumes(work_dir, c->spec.sandbox, c->spec.task->resources, how->account));
    }
    GANTRY_CHECK(write_inside(inside, inside_of(*how)));
    return spawn_supervised(*how);
  };
  GANTRY_CO_TRY(c->spawned, co_await off(std::move(clone)));
  c->undo.push_back([this, c = c.get()]() -> Task<void> {
    // Held: closing the control socket makes it give up. Else it ends with everything in it.
    c->spawned.control.reset();
    signal_pidfd(c->spawned.pidfd.get(), SIGUSR1);
    if (c->phase == Container::Phase::launching && c->how.held) signal_pidfd(c->spawned.pidfd.get(), SIGKILL);
    co_await readable(c->spawned.pidfd.get());
    (void)reap(c->spawned.pidfd.get());
  });
  c->identity.supervisor_pid = c->spawned.supervisor_pid;
  c->identity.supervisor_start = start_time(c->spawned.supervisor_pid);

  // 4. Attach, then let go.
  GANTRY_CO_CHECK(co_await attach(c));
  // One that is gone already has said why.
  if (c->how.held) (void)gantry::agent::release(c->spawned);

  // 5. It runs, or says why not. From here on a kill is for the running container.
  co_await readable(c->spawned.control.get());
  GANTRY_CO_TRY(c->identity.pid, read_report(c->spawned.control.get(), c->how));
  c->spawned.control.reset();
  keep_little(*c);
  co_return ok;
}

// What is still needed of a description once the container runs; the rest is in its file.
void ContainerLauncher::keep_little(Container& c) {
  Spawn little;
  little.namespaces = c.how.namespaces;
  little.join = c.how.join;
  c.how = std::move(little);
  c.prepared = {};
}

Task<Status> ContainerLauncher::attach(ContainerPtr c) {
  for (std::size_t i = 0; c->attach_mask != 0 && i < options_.isolators.size(); ++i) {
    if (!(c->attach_mask & (1u << i))) continue;
    fb::isolator::AttachT body;
    body.container_id = c->spec.container_id;
    body.pid = c->spawned.supervisor_pid;
    for (const auto& d : c->prepared.all().devices) body.devices.push_back(std::make_unique<fb::isolator::DeviceT>(*d));
    auto attached = co_await ask(options_.isolators[i], id(IsolatorMethod::ATTACH), pack(body));
    if (!attached) co_return std::move(attached).error().because(options_.isolators[i]->id() + " could not attach");
    if (c->kill_wanted || stopping_) co_return killed();
    if (attached->empty()) continue;
    GANTRY_CO_TRY(const fb::isolator::AttachedT answer, unpack<fb::isolator::Attached>(Bytes(*attached)));
    for (const auto& n : answer.networks) c->identity.networks.push_back(*n);
  }
  if (c->identity.networks.empty()) co_return ok;
  auto rewrite = [how = &c->how, networks = &c->identity.networks, path = inside_path(c->spec.container_id)]() -> Status {
    auto inside = inside_of(*how);
    for (const auto& n : *networks) inside.networks.push_back(std::make_unique<fb::NetworkInfoT>(n));
    return write_inside(path, inside);
  };
  co_return co_await off(std::move(rewrite));
}

Task<Status> ContainerLauncher::fetch(ContainerPtr c) {
  const auto& uris = c->spec.task->command->uris;
  if (uris.empty()) co_return ok;
  if (!options_.fetcher)
    co_return fail(Code::failed_precondition, "the task has URIs, but this agent has no fetcher; configure one, e.g. [fetcher.curl]");
  fb::fetcher::FetchT body;
  body.container_id = c->spec.container_id;
  body.directory = c->spec.sandbox;
  body.user = c->how.account.change ? c->how.account.name : std::string();
  for (const auto& u : uris) body.uris.push_back(std::make_unique<fb::UriT>(*u));
  co_await until_back(options_.fetcher);
  Promise<Status> done;
  const std::uint64_t call = options_.fetcher->call(static_cast<std::uint32_t>(fb::fetcher::Method::FETCH), pack(body), [done, container = c->spec.container_id](gantry_code code, Bytes bytes) {
    if (code == GANTRY_MORE) return;
    if (code == GANTRY_OK) done.set(ok);
    else done.set(unpack_error(code, bytes).because("Failed to fetch all URIs for container '" + container + "'"));
  });
  c->interrupt_fetch = [this, call] { options_.fetcher->cancel(call); };
  Status result = co_await done.get();
  c->interrupt_fetch = nullptr;
  co_return result;
}

Task<Status> ContainerLauncher::prepare(ContainerPtr c) {
  fb::isolator::PrepareT body;
  body.container_id = c->spec.container_id;
  body.task = std::make_unique<fb::TaskInfoT>(*c->spec.task);
  body.framework_id = c->spec.framework_id;
  body.sandbox = c->spec.sandbox;
  body.user = c->how.account.name;
  body.uid = c->how.account.uid;
  body.gid = c->how.account.gid;
  body.parent = c->spec.parent;
  body.share_cgroups = c->spec.share_cgroups;
  for (const auto& r : c->spec.task->resources) {
    if (!r->disk || !r->disk->persistence || !r->disk->volume) continue;
    auto v = std::make_unique<fb::isolator::HostedVolumeT>();
    v->source = volume_path(options_.work_dir, *r);
    v->path = r->disk->volume->container_path;
    v->read_only = r->disk->volume->mode == fb::VolumeMode::RO;
    body.volumes.push_back(std::move(v));
  }
  if (c->image) {
    body.layers = c->image->layers;
    body.image = c->image->name;
  }
  const Buffer request = pack(body);
  std::uint32_t takes_devices = 0;
  for (std::size_t i = 0; i < options_.isolators.size(); ++i) {
    module::Instance* isolator = options_.isolators[i];
    // Before the call: what failed half way has to be cleaned up as well.
    c->undo.push_back([this, isolator, name = c->spec.container_id] { return cleanup(isolator, name); });
    auto reply = co_await ask(isolator, id(IsolatorMethod::PREPARE), Buffer(Bytes(request)));
    if (!reply) co_return std::move(reply).error().because(isolator->id() + " could not prepare the container");
    if (c->kill_wanted) co_return killed();
    fb::isolator::PreparedT answer;
    if (!reply->empty()) {
      GANTRY_CO_TRY(answer, unpack<fb::isolator::Prepared>(Bytes(*reply)));
    }
    if (!answer.no_attach) c->attach_mask |= 1u << i;
    if (answer.takes_devices) takes_devices |= 1u << i;
    GANTRY_CO_CHECK(c->prepared.add(isolator->id(), std::move(answer)));
  }
  GANTRY_CO_CHECK(c->prepared.complete());
  c->prepared.apply(c->how);
  if (!c->prepared.all().devices.empty()) c->attach_mask |= takes_devices;

  // The task's own word on its environment is the last one.
  GANTRY_CO_CHECK(heed_docker(*c));
  std::optional<ImageConfig> image;
  if (c->image) image = config_of(*c->image);
  Environment environment = basic_environment(c->spec, c->how.account, image ? &*image : nullptr, c->how.sandbox);
  if (image && !c->how.hostname.empty()) environment.set("HOSTNAME", c->how.hostname);
  if (is_docker(*c->spec.task)) environment.set("MESOS_CONTAINER_NAME", "mesos-" + c->spec.container_id);
  for (const auto& line : c->docker.environment) environment.add(line);
  for (const auto& v : c->prepared.all().environment) environment.set(v->name, v->value);
  GANTRY_CO_CHECK(put_variables(environment, *c->spec.task->command));
  c->how.environment = environment.take();
  co_return ok;
}

Task<void> ContainerLauncher::unwind(ContainerPtr c) {
  while (!c->undo.empty()) {
    auto step = std::move(c->undo.back());
    c->undo.pop_back();
    co_await step();
  }
  for (const auto& [isolator, call] : std::exchange(c->watches, {})) isolator->cancel(call);
}

Status ContainerLauncher::describe(Container& c) const {
  const fb::TaskInfoT& task = *c.spec.task;
  if (!task.command) return fail(Code::invalid_argument, "task " + task.task_id + " has no command");
  c.how.supervisor = options_.supervisor;
  c.how.container_id = c.spec.container_id;
  c.how.sandbox = c.spec.sandbox;
  c.how.out = "stdout";
  c.how.err = "stderr";
  c.how.record = record_path(c.spec.container_id);
  c.how.hold = c.spec.hold;
  Environment checked;
  GANTRY_CHECK(put_variables(checked, *task.command));
  GANTRY_TRY(c.docker, docker_wishes(task));
  // With an image it is the image's turn to say what is executed.
  return c.spec.hold || wanted_image(task) ? ok : put_command(c.how, *task.command, nullptr, false);
}

// A parameter of `docker run` that has no effect would be a promise broken in silence.
Status ContainerLauncher::heed_docker(const Container& c) {
  if (!is_docker(*c.spec.task)) return ok;
  std::string unheeded;
  for (const auto& p : c.spec.task->container->docker->parameters) {
    const auto heeds = [&](const std::vector<std::string>& keys) { return std::find(keys.begin(), keys.end(), p->key) != keys.end(); };
    if (!heeds(c.docker.heeded) && !heeds(c.prepared.all().parameters)) unheeded += (unheeded.empty() ? "" : ", ") + p->key;
  }
  if (unheeded.empty()) return ok;
  return fail(Code::failed_precondition, "docker parameters that no isolator of this agent heeds: " + unheeded + "; remove them, or configure the isolator they are for");
}

void ContainerLauncher::forget_files(const std::string& container_id) const {
  ::unlink(record_path(container_id).c_str());
  ::unlink(inside_path(container_id).c_str());
}

}  // namespace gantry::agent
