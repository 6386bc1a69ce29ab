#include "kernel/module/instance.hpp"

#include "kernel/base/log.hpp"
#include "kernel/module/core.hpp"
#include "kernel/module/trace.hpp"

#include <algorithm>

namespace gantry::module {

std::string_view to_string(State s) {
  switch (s) {
    case State::configured:
      return "configured";
    case State::starting:
      return "starting";
    case State::running:
      return "running";
    case State::degraded:
      return "degraded";
    case State::stopping:
      return "stopping";
    case State::stopped:
      return "stopped";
    case State::failed:
      return "failed";
    case State::not_for_role:
      return "not for this role";
    case State::restarting:
      return "restarting";
    case State::crash_loop:
      return "crash-loop";
  }
  return "unknown";
}

std::string service_name(std::uint32_t service) {
  if (service == 0 || service > static_cast<std::uint32_t>(fb::host::Service::MAX)) return {};
  std::string name = fb::host::EnumNameService(static_cast<fb::host::Service>(service));
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c); });
  return name;
}

Task<Result<Buffer>> Instance::ask(std::uint32_t method, Buffer body, CallOptions options) {
  Promise<Result<Buffer>> answer;
  call(
      method, std::move(body),
      [answer](gantry_code code, Bytes bytes) {
        if (code == GANTRY_MORE) return;  // asked for one answer: chunks are not it
        if (code < 0)
          answer.set(unpack_error(code, bytes));
        else
          answer.set(Buffer(bytes));
      },
      std::move(options));
  co_return co_await answer.get();
}

LocalInstance::LocalInstance(InstanceSetup setup) : core_(std::make_shared<Core>(std::move(setup))) {
  core_->instance = this;
  core_->init();
}

LocalInstance::~LocalInstance() {
  core_->instance = nullptr;
  core_->trace(nullptr);
  if (!core_->created) return;
  // Destroying behind the module's back would be worse than keeping it.
  base::log_error(core_->id, "was dropped without being stopped; it is left behind");
  core_->leave_behind();
}

const std::string& LocalInstance::kind() const { return core_->setup.kind; }
const std::string& LocalInstance::name() const { return core_->setup.name; }
State LocalInstance::state() const { return core_->state; }
Counters LocalInstance::counters() const { return core_->counters(); }
const std::string& LocalInstance::message() const { return core_->message; }

Facts LocalInstance::facts() const {
  return {core_->setup.revision, core_->setup.provider.flags, core_->setup.build};
}

std::size_t LocalInstance::backlog() const { return core_->strand->backlog(); }

void LocalInstance::set_state(State state, std::string message) {
  core_->state = state;
  core_->message = std::move(message);
}

std::uint64_t LocalInstance::call(std::uint32_t method, Buffer body, OnReply on_reply, CallOptions options) {
  const bool open = core_->created && (core_->state <= State::degraded || options.from_host);
  if (open) return core_->call(method, std::move(body), std::move(on_reply), std::move(options));
  Error closed = fail(Code::unavailable, id() + " is " + std::string(to_string(core_->state)));
  if (tracer_) tracer_->refused(method, body.size(), closed);
  core_->refuse(std::move(on_reply), std::move(closed));
  return 0;
}

void LocalInstance::cancel(std::uint64_t id) { core_->cancel(id); }

void LocalInstance::trace(Tracer* tracer) {
  HostedInstance::trace(tracer);
  core_->trace(tracer);
}

Task<Status> LocalInstance::create() {
  Promise<gantry_code> created;
  core_->on_created = [created](gantry_code code) { created.set(code); };
  Entry e;
  e.what = Entry::What::create;
  core_->strand->post(e);
  const gantry_code code = co_await created.get();
  if (code == GANTRY_OK) co_return ok;
  set_state(State::failed, "create failed");
  if (code == GANTRY_INTERNAL)
    co_return fail(Code::internal, id() + ": create() threw an exception; report it to the module's author");
  co_return fail(
      Code::resource_exhausted,
      id() + ": create() returned NULL, which means out of memory; free memory or report it to the module's author");
}

Task<Status> LocalInstance::stop(bool drain, base::Nanos timeout, base::Nanos grace) {
  const std::shared_ptr<Core> core = core_;
  if (!core->created) {
    if (core->state != State::failed) set_state(State::stopped);
    co_return ok;
  }
  base::Loop& loop = *core->setup.loop;
  core->state = State::stopping;
  Status outcome = ok;
  if (drain) {
    CallOptions options;
    options.deadline = loop.now() + timeout;
    Promise<Status> stopped;
    core->call(
        GANTRY_METHOD_STOP, Buffer(),
        [stopped](gantry_code code, Bytes b) {
          if (code != GANTRY_MORE) stopped.set(code < 0 ? Status(unpack_error(code, b)) : Status());
        },
        std::move(options));
    Status s = co_await stopped.get();
    if (!s && s.error().code != Code::unimplemented) {
      core->message = s.error().message;
      base::log_warning(core->id, "did not stop cleanly", {{"reason", s.error().message}});
    }
  }
  core->cancel_all();
  if (!core->quiet()) {
    Promise<bool> quiet;
    core->on_quiet = [quiet] { quiet.set(true); };
    const base::TimerId timer = loop.after(grace, [quiet] { quiet.set(false); });
    co_await quiet.get();
    loop.cancel(timer);
    core->on_quiet = {};
  }
  if (!core->quiet()) {
    core->abandon();
    core->leave_behind();
    core->created = false;  // it exists, but is nobody's any more
    const std::string why = core->open_calls() ? std::to_string(core->open_calls()) + " calls were never completed"
                                               : "blocking work never ended";
    core->state = State::failed;
    core->message = why;
    co_return fail(Code::deadline_exceeded,
                   core->id + " could not be stopped: " + why + "; it is left behind until the daemon ends");
  }
  Promise<gantry_code> destroyed;
  core->on_destroyed = [destroyed](gantry_code code) { destroyed.set(code); };
  Entry e;
  e.what = Entry::What::destroy;
  core->strand->post(e);
  const base::TimerId timer = loop.after(grace, [destroyed] { destroyed.set(GANTRY_DEADLINE_EXCEEDED); });
  const gantry_code code = co_await destroyed.get();
  loop.cancel(timer);
  core->on_destroyed = {};
  if (code == GANTRY_DEADLINE_EXCEEDED) {
    core->leave_behind();
    core->created = false;
    core->state = State::failed;
    core->message = "destroy never returned";
    co_return fail(
        Code::deadline_exceeded,
        core->id + " could not be stopped: destroy() did not return; it is left behind until the daemon ends");
  }
  core->state = State::stopped;
  co_return outcome;
}

}  // namespace gantry::module
