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

// NAME -> value with later ones winning, in order of first appearance.
class Environment {
 public:
  void set(const std::string& name, const std::string& value) {
    const auto [it, fresh] = index_.try_emplace(name, lines_.size());
    if (fresh) lines_.push_back(name + "=" + value);
    else lines_[it->second] = name + "=" + value;
  }
  std::vector<std::string> take() { return std::move(lines_); }

 private:
  std::unordered_map<std::string, std::size_t> index_;
  std::vector<std::string> lines_;
};

bool holds_zero(const std::string& s) { return s.find('\0') != std::string::npos; }

}  // namespace

void ContainerLauncher::launch(LaunchSpec spec, Function<void(Started)> started) {
  auto c = std::make_shared<Container>();
  c->spec = std::move(spec);
  containers_[c->spec.container_id] = c;
  pinned_.insert(c->spec.sandbox);
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
  ::unlink(record_path(c->spec.container_id).c_str());
  containers_.erase(c->spec.container_id);
  started(LaunchError{result.error(), fb::Reason::REASON_CONTAINER_LAUNCH_FAILED});
}

Task<Status> ContainerLauncher::launch_steps(ContainerPtr c) {
  if (c->kill_wanted || stopping_) co_return killed();

  // 1. The account and its sandbox.
  const std::string user = options_.switch_user ? c->spec.user : std::string();
  // (Named lambdas: gcc 12 destroys a temporary one in a co_await expression twice.)
  auto make = [user, sandbox = c->spec.sandbox, meta = options_.work_dir + "/meta/containers",
               work_dir = options_.work_dir, task = c->spec.task]() -> Result<Account> {
    GANTRY_TRY(Account a, find_account(user));
    GANTRY_CHECK(make_sandbox(sandbox, a));
    GANTRY_CHECK(link_volumes(work_dir, sandbox, task->resources, a));
    if (::mkdir(meta.c_str(), 0700) != 0 && errno == ENOENT) {
      ::mkdir(meta.substr(0, meta.rfind('/')).c_str(), 0755);
      ::mkdir(meta.c_str(), 0700);
    }
    return a;
  };
  GANTRY_CO_TRY(const Account account, co_await off(std::move(make)));
  GANTRY_CO_TRY(c->how, describe(*c, account));
  if (c->kill_wanted) co_return killed();

  // 2. Artifacts and isolators at the same time. Both are waited for, whatever becomes of the other.
  Promise<Status> fetched;
  spawn(fetch(c), [fetched](Status s) { fetched.set(std::move(s)); });
  std::uint32_t attach = 0;
  Status prepared = co_await prepare(c, attach);
  if (!prepared && c->interrupt) c->interrupt();
  Status artifacts = co_await fetched.get();
  if (c->kill_wanted || stopping_) co_return killed();
  if (!prepared) co_return prepared;
  if (!artifacts) co_return artifacts;

  // 3. The first process, held if somebody wants to attach to it.
  c->how.held = attach != 0;
  auto clone = [how = &c->how] { return spawn_supervised(*how); };
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
  for (std::size_t i = 0; attach != 0 && i < options_.isolators.size(); ++i) {
    if (!(attach & (1u << i))) continue;
    fb::isolator::AttachT body;
    body.container_id = c->spec.container_id;
    body.pid = c->spawned.supervisor_pid;
    auto attached = co_await ask(options_.isolators[i], id(IsolatorMethod::ATTACH), pack(body));
    if (!attached) co_return std::move(attached).error().because(options_.isolators[i]->id() + " could not attach");
    if (c->kill_wanted || stopping_) co_return killed();
  }
  // One that is gone already has said why.
  if (c->how.held) (void)gantry::agent::release(c->spawned);

  // 5. It runs, or says why not. From here on a kill is for the running container.
  co_await readable(c->spawned.control.get());
  GANTRY_CO_TRY(c->identity.pid, read_report(c->spawned.control.get(), c->how));
  c->spawned.control.reset();
  c->how.arguments.clear();
  c->how.mounts.clear();
  co_return ok;
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
  c->interrupt = [this, call] { options_.fetcher->cancel(call); };
  Status result = co_await done.get();
  c->interrupt = nullptr;
  co_return result;
}

Task<Status> ContainerLauncher::prepare(ContainerPtr c, std::uint32_t& attach_mask) {
  Environment environment;
  for (const auto& e : c->how.environment) environment.set(e.substr(0, e.find('=')), e.substr(e.find('=') + 1));
  module::Instance* mounter = nullptr;
  for (std::size_t i = 0; i < options_.isolators.size(); ++i) {
    module::Instance* isolator = options_.isolators[i];
    fb::isolator::PrepareT body;
    body.container_id = c->spec.container_id;
    body.task = std::make_unique<fb::TaskInfoT>(*c->spec.task);
    body.framework_id = c->spec.framework_id;
    body.sandbox = c->spec.sandbox;
    body.user = c->how.account.name;
    // Before the call: what failed half way has to be cleaned up as well.
    c->undo.push_back([this, isolator, name = c->spec.container_id] { return cleanup(isolator, name); });
    auto reply = co_await ask(isolator, id(IsolatorMethod::PREPARE), pack(body));
    if (!reply) co_return std::move(reply).error().because(isolator->id() + " could not prepare the container");
    if (c->kill_wanted) co_return killed();
    fb::isolator::PreparedT answer;
    if (!reply->empty()) {
      GANTRY_CO_TRY(answer, unpack<fb::isolator::Prepared>(Bytes(*reply)));
    }
    merge_prepared(c->how, answer);
    if (!answer.mounts.empty()) mounter = isolator;
    for (const auto& v : answer.environment) environment.set(v->name, v->value);
    if (!answer.no_attach) attach_mask |= 1u << i;
  }
  if (mounter && !(c->how.namespaces & static_cast<std::uint32_t>(fb::isolator::Namespace::MOUNT)))
    co_return fail(Code::failed_precondition, mounter->id() + " wants mounts, but no isolator makes a mount namespace; configure [isolator.namespaces] with mount = true");
  // The task's own word on its environment is the last one.
  if (const auto& own = c->spec.task->command; own)
    for (const auto& v : own->environment) environment.set(v->name, v->value);
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

Result<Spawn> ContainerLauncher::describe(const Container& c, const Account& account) const {
  const fb::TaskInfoT& task = *c.spec.task;
  if (!task.command) return fail(Code::invalid_argument, "task " + task.task_id + " has no command");
  const fb::CommandInfoT& command = *task.command;
  Spawn s;
  s.supervisor = options_.supervisor;
  s.container_id = c.spec.container_id;
  s.directory = c.spec.sandbox;
  s.out = "stdout";
  s.err = "stderr";
  s.account = account;
  s.record = record_path(c.spec.container_id);
  if (command.shell.value_or(true)) {
    if (command.value.empty()) return fail(Code::invalid_argument, "command.value is empty; a shell command needs a command line");
    s.arguments = {"/bin/sh", "-c", command.value};
  } else {
    s.executable = command.value.empty() && !command.arguments.empty() ? command.arguments[0] : command.value;
    if (s.executable.empty()) return fail(Code::invalid_argument, "command.value is empty; with shell = false it names the program");
    s.arguments = command.arguments.empty() ? std::vector<std::string>{command.value} : command.arguments;
  }
  Environment environment;
  environment.set("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
  environment.set("HOME", account.home.empty() ? "/" : account.home);
  if (!account.name.empty()) environment.set("USER", account.name);
  if (c.spec.executor) {
    for (const auto& [name, value] : c.spec.environment) environment.set(name, value);
  } else {
    environment.set("MESOS_SANDBOX", c.spec.sandbox);
    environment.set("MESOS_DIRECTORY", c.spec.sandbox);
    environment.set("MESOS_TASK_ID", task.task_id);
    environment.set("MESOS_EXECUTOR_ID", task.task_id);
    environment.set("MESOS_FRAMEWORK_ID", c.spec.framework_id);
    environment.set("MESOS_AGENT_ID", c.spec.agent_id);
    environment.set("MESOS_SLAVE_ID", c.spec.agent_id);
    environment.set("MESOS_CONTAINER_ID", c.spec.container_id);
  }
  for (const auto& v : command.environment) {
    if (v->type == fb::VariableType::SECRET)
      return fail(Code::failed_precondition, "environment variable " + v->name + " is a secret; secrets need a secret module, which this release does not have");
    if (v->name.empty() || v->name.find('=') != std::string::npos || holds_zero(v->name) || holds_zero(v->value))
      return fail(Code::invalid_argument, "environment variable \"" + v->name + "\" is not valid: names are not empty and have no '=', nothing has a zero byte");
    environment.set(v->name, v->value);
  }
  for (const auto& a : s.arguments)
    if (holds_zero(a)) return fail(Code::invalid_argument, "the command has a zero byte");
  s.environment = environment.take();
  return s;
}

void merge_prepared(Spawn& into, const fb::isolator::PreparedT& add) {
  into.namespaces |= add.namespaces;
  into.enter_files.insert(into.enter_files.end(), add.enter_files.begin(), add.enter_files.end());
  for (const auto& m : add.mounts) into.mounts.push_back({m->source, m->target, m->type, m->data, m->flags});
}

}  // namespace gantry::agent
