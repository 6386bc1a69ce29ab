// A running container: watching it, killing it, and what its end leads to.
#include "kernel/agent/container_launcher.hpp"
#include "kernel/base/log.hpp"

#include <poll.h>

#include <cassert>
#include <csignal>

namespace gantry::agent {
namespace {
using namespace std::chrono_literals;
constexpr auto call_deadline = 60s;
// A supervisor that was asked to end everything and has not (stopped, or stuck with a task in the kernel).
constexpr auto supervisor_patience = 5s;
// How often a process is looked at that cannot be watched, because the descriptors are used up.
constexpr auto out_of_descriptors = 50ms;

// An isolator whose process is being restarted is waited for.
constexpr auto restart_patience = 20s;
constexpr auto restart_pause = 100ms;

bool comes_back(const module::Instance& i) {
  return i.state() == module::State::restarting || i.state() == module::State::crash_loop;
}

bool is_readable(int fd) {
  pollfd p{fd, POLLIN, 0};
  return ::poll(&p, 1, 0) > 0;
}
}  // namespace

ContainerLauncher::ContainerLauncher(base::Loop& loop, LauncherOptions options) : loop_(loop), options_(std::move(options)) { collect_later(); }

ContainerLauncher::~ContainerLauncher() { assert(in_flight_ == 0 && "stop() and wait before destroying a ContainerLauncher"); }

ContainerLauncher::ContainerPtr ContainerLauncher::find(const std::string& id) const {
  const auto it = containers_.find(id);
  return it == containers_.end() ? nullptr : it->second;
}

void ContainerLauncher::end() {
  if (--in_flight_ == 0 && stopping_ && stopped_) loop_.post([fn = std::exchange(stopped_, nullptr)]() mutable { fn(); });
}

Task<Result<Buffer>> ContainerLauncher::ask(module::Instance* instance, std::uint32_t method, Buffer body) {
  const base::Instant until = loop_.now() + restart_patience;
  for (;;) {
    Promise<Result<Buffer>> promise;
    module::CallOptions options;
    options.deadline = loop_.now() + call_deadline;
    instance->call(
        method, Buffer(Bytes(body)),
        [promise](gantry_code code, Bytes bytes) {
          if (code == GANTRY_MORE) return;
          if (code < 0) promise.set(unpack_error(code, bytes));
          else promise.set(Buffer(bytes));
        },
        std::move(options));
    Result<Buffer> reply = co_await promise.get();
    if (reply || reply.error().code != Code::unavailable || stopping_ || loop_.now() >= until || !comes_back(*instance))
      co_return reply;
    co_await loop_.sleep(restart_pause);
  }
}

Task<void> ContainerLauncher::until_back(module::Instance* instance) {
  const base::Instant until = loop_.now() + restart_patience;
  while (comes_back(*instance) && !stopping_ && loop_.now() < until) co_await loop_.sleep(restart_pause);
}

Task<void> ContainerLauncher::readable(int fd) {
  Promise<bool> seen;
  // Posted, so that the watch is not removed from inside its own callback.
  const std::uint64_t watch = options_.watch_readable(fd, [this, seen] { loop_.post([seen] { seen.set(true); }); });
  if (watch) {
    co_await seen.get();
    options_.unwatch(watch);
    co_return;
  }
  // Out of descriptors: slower, but nothing is lost.
  while (!is_readable(fd)) co_await loop_.sleep(out_of_descriptors);
}

void ContainerLauncher::watch_exit(ContainerPtr c) {
  const auto ended = [this, weak = std::weak_ptr(c)] {
    const ContainerPtr live = weak.lock();
    if (!live || live->phase != Container::Phase::running || stopping_) return;
    options_.unwatch(std::exchange(live->exit_watch, 0));
    live->phase = Container::Phase::ending;
    begin();
    spawn(finish(live), [this] { end(); });
  };
  c->exit_watch = options_.watch_readable(c->spawned.pidfd.get(), [this, ended] { loop_.post(ended); });
  if (c->exit_watch) return;
  loop_.after(out_of_descriptors, [this, ended, weak = std::weak_ptr(c)] {
    const ContainerPtr live = weak.lock();
    if (!live || stopping_) return;
    if (is_readable(live->spawned.pidfd.get())) ended();
    else watch_exit(live);
  });
}

void ContainerLauncher::watch_limits(ContainerPtr c) {
  for (module::Instance* isolator : options_.isolators) watch_limits(c, isolator);
}

void ContainerLauncher::watch_limits(ContainerPtr c, module::Instance* isolator) {
  fb::isolator::WatchT body;
  body.container_id = c->spec.container_id;
  const auto call = isolator->call(static_cast<std::uint32_t>(fb::isolator::Method::WATCH), pack(body),
                                   [this, isolator, weak = std::weak_ptr(c)](gantry_code code, Bytes bytes) {
                                     const ContainerPtr live = weak.lock();
                                     if (!live) return;
                                     if (code != GANTRY_MORE) {
                                       std::erase_if(live->watches, [&](const auto& w) { return w.first == isolator; });
                                       return;
                                     }
                                     auto limited = unpack<fb::isolator::Limited>(bytes);
                                     if (!limited || live->limited) return;
                                     live->limited = std::move(*limited);
                                     if (live->phase == Container::Phase::running) kill_all(live);
                                   });
  c->watches.emplace_back(isolator, call);
}

void ContainerLauncher::kill(const std::string& container_id, base::Nanos grace) {
  const ContainerPtr c = find(container_id);
  if (!c) return;
  switch (c->phase) {
    case Container::Phase::launching:
      c->kill_wanted = true;
      loop_.post([c] { c->interrupt(); });
      return;
    case Container::Phase::ending: return;
    case Container::Phase::running: break;
  }
  if (grace <= 0ns) return kill_all(c);
  if (!c->termed) {
    c->termed = true;
    signal_pidfd(c->spawned.pidfd.get(), SIGTERM);  // the supervisor passes it to every process of the container
  }
  const base::Instant at = loop_.now() + grace;
  if (c->kill_timer && c->kill_at <= at) return;
  loop_.cancel(c->kill_timer);
  c->kill_at = at;
  c->kill_timer = loop_.at(at, [this, weak = std::weak_ptr(c)] {
    if (const ContainerPtr live = weak.lock(); live && live->phase == Container::Phase::running) kill_all(live);
  });
}

// SIGKILL to everything, through the supervisor so that the exit gets recorded.
void ContainerLauncher::kill_all(const ContainerPtr& c) {
  signal_pidfd(c->spawned.pidfd.get(), SIGUSR1);
  loop_.cancel(c->kill_timer);
  c->kill_at = loop_.now() + supervisor_patience;
  c->kill_timer = loop_.at(c->kill_at, [weak = std::weak_ptr(c)] {
    if (const ContainerPtr live = weak.lock()) signal_pidfd(live->spawned.pidfd.get(), SIGKILL);
  });
}

// The supervisor has ended. With CLEANUP the isolators report what they know of limits, in order: only then is the
// reason of the exit certain, and only then are the resources free.
Task<void> ContainerLauncher::finish(ContainerPtr c) {
  loop_.cancel(std::exchange(c->kill_timer, 0));
  (void)reap(c->spawned.pidfd.get());
  const auto record = read_record(record_path(c->spec.container_id));
  ExitInfo info;
  if (record) info.wait_status = record->wait_status;
  co_await end_nested(c);
  if (stopping_ && has_nested(*c)) co_return;  // the next life of the agent sees to them, and to this one
  if (!info.wait_status) {
    // Somebody killed the supervisor. Without a pid namespace its task may live on, in a session of its own.
    if (!(c->how.namespaces & static_cast<std::uint32_t>(fb::isolator::Namespace::PID)) && c->identity.pid > 1) ::kill(-c->identity.pid, SIGKILL);
  }
  co_await unwind(c);
  if (c->limited) {
    put_limit(info, *c->limited);
  } else if (!info.wait_status) {
    info.message = "the container's supervisor was killed";
  }
  // The record stays until the sandbox is released: should we die before the exit is remembered, it is found again.
  tell_exit(c, std::move(info));
}

Task<void> ContainerLauncher::cleanup(module::Instance* isolator, std::string container_id) {
  fb::isolator::CleanupT body;
  body.container_id = container_id;
  const auto done = co_await ask(isolator, static_cast<std::uint32_t>(fb::isolator::Method::CLEANUP), pack(body));
  if (!done)
    base::log_error("agent", isolator->id() + " could not clean up after a container: " + done.error().message, {{"container", container_id}});
}

}  // namespace gantry::agent
