// Modules in processes of their own: how they are made, and what follows when they end unasked.
#include "kernel/base/log.hpp"
#include "kernel/module/host.hpp"
#include "kernel/module/loader.hpp"
#include "kernel/module/process/instance.hpp"
#include "kernel/module/process/prepare.hpp"

#include <algorithm>

namespace gantry::module {
namespace {

// Unanswered HEALTHs until a process is ended. A module that says it blocks is behind more often than it is stuck.
constexpr unsigned misses_until_end = 2, misses_until_end_blocking = 6;

std::string seconds(base::Nanos d) {
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(d).count();
  return ms < 1000 ? std::to_string(std::max<long long>(ms, 0)) + " ms" : std::to_string((ms + 500) / 1000) + " s";
}

}  // namespace

Result<std::unique_ptr<HostedInstance>> ModuleHost::make_process(Item& item) {
  const config::ModuleConfig& c = item.config;
  const ProcessHosting& p = setup_.processes;
  if (!p.loop)
    return fail(Code::unimplemented, "module " + c.id() + " asks for host = \"process\", this program runs modules only " +
                                         "with host = \"kernel\"; set that, or leave `host` out");
  if (p.program.empty())
    return fail(Code::not_found, "module " + c.id() + " asks for host = \"process\", but gantry-modhost is neither beside " +
                                     "gantryd nor in its libexec folder; install the package gantry, or write host = " +
                                     "\"kernel\"");
  GANTRY_CHECK(check_unmapped(c, setup_.kinds));
  GANTRY_TRY(item.user, process::choose_user(c));
  process::ProcessSetup s;
  s.loop = p.loop;
  s.metrics = &setup_.metrics;
  s.services = &setup_.services;
  s.allowed = std::set<std::string>(c.manifest.services.begin(), c.manifest.services.end());
  s.queue_bytes = setup_.queue_bytes;
  s.create_timeout = setup_.start_timeout;
  s.command.program = p.program;
  s.command.kind = c.kind;
  s.command.name = c.name;
  s.command.path = c.path;
  s.command.unstable = c.allow_unstable;
  process::Sandbox& box = s.command.sandbox;
  box.user = item.user;
  box.memory = c.sandbox.memory;
  box.cpu = c.sandbox.cpu;
  box.files = c.sandbox.files;
  box.processes = c.sandbox.processes;
  box.devices = c.sandbox.devices;
  box.seccomp = c.sandbox.seccomp;
  box.capabilities = c.manifest.capabilities;
  box.group = p.group.empty() ? std::string() : p.group + "-" + c.id();
  auto instance = std::make_unique<process::ProcessInstance>(std::move(s));
  instance->on_ended([this, &item](const Error& why) { on_ended(item, why); });
  return std::unique_ptr<HostedInstance>(std::move(instance));
}

void ModuleHost::on_ended(Item& item, const Error& why) {
  item.started = item.configured = false;
  if (item.starting || stopping_) return;
  restart_later(item, why.message);
}

std::string ModuleHost::crash_text(const Item& item) const {
  return "crashed " + (item.crashes == 1 ? std::string("once") : std::to_string(item.crashes) + " times") +
         ", last: " + item.last_end +
         (item.retry ? "; next try in " + seconds(item.next_try - setup_.loop.now()) : std::string());
}

void ModuleHost::restart_later(Item& item, std::string why) {
  if (stopping_) return;
  const base::Instant now = setup_.loop.now();
  const ProcessHosting& p = setup_.processes;
  if (item.running_since.count() && now - item.running_since >= p.stable_after) item.crashes = 0;
  item.running_since = base::Instant(0);
  item.started = item.configured = false;
  item.last_end = std::move(why);
  ++item.crashes;
  if (!item.config.sandbox.restart) {
    item.instance->set_state(State::failed, item.last_end + "; it is not restarted, because sandbox.restart is \"never\"");
    base::log_error(item.config.id(), item.instance->message());
    return;
  }
  const base::Nanos delay = std::min<base::Nanos>(p.first_retry * (1LL << std::min(item.crashes - 1, 20u)), p.max_retry);
  item.next_try = now + delay;
  item.retry = setup_.loop.after(delay, [this, &item] {
    item.retry = 0;
    spawn(restart(item));
  });
  item.instance->set_state(item.crashes >= p.crash_loop ? State::crash_loop : State::restarting, crash_text(item));
  base::log_error(item.config.id(), item.instance->message());
}

Task<void> ModuleHost::restart(Item& item) {
  item.starting = item.restarting = true;
  item.instance->set_state(item.instance->state(), crash_text(item) + "; being started");
  Status started = co_await start_one(item, setup_.processes.recover);
  if (!started) {
    auto ending = item.instance->stop(false, base::Nanos(0), base::Nanos(0));
    (void)co_await std::move(ending);
  }
  item.starting = item.restarting = false;
  for (const auto& p : std::exchange(item.restarted, {})) p.set(true);
  if (stopping_) co_return;
  if (!started) {
    restart_later(item, started.error().message);
    co_return;
  }
  base::log_info(item.config.id(), "is running again", {{"crashes", std::to_string(item.crashes)}});
  if (setup_.processes.back) setup_.processes.back(*item.instance);
}

Task<void> ModuleHost::end_restarts() {
  for (const auto& item : items_) {
    if (item->retry) setup_.loop.cancel(std::exchange(item->retry, 0));
    if (!item->restarting) continue;
    item->instance->kill("the daemon stops");
    Promise<bool> over;
    item->restarted.push_back(over);
    co_await over.get();
  }
}

void ModuleHost::missed_health(Item& item) {
  const unsigned most = item.instance->facts().flags & GANTRY_BLOCKING ? misses_until_end_blocking : misses_until_end;
  if (item.misses < most) return;
  item.misses = 0;
  item.instance->kill("did not answer HEALTH " + std::to_string(most) + " times, so it was killed");
}

}  // namespace gantry::module
