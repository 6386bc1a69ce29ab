#include "nofile.hpp"

#include <sys/resource.h>

#include <cerrno>
#include <charconv>
#include <cstring>

namespace gantry::isolator_nofile {

// Called before start, and again with settings.reload() when the operator changed a reloadable setting. Types, ranges
// and defaults were checked against module.toml; what only this module can judge is refused here, naming the key: the
// operator then sees file, line and column of it, and the old settings stay in force.
Task<Status> Nofile::configure(Settings settings) {
  const std::int64_t limit = settings.number("limit"), ceiling = settings.number("ceiling");
  if (limit > ceiling)
    co_return fail(Code::invalid_argument,
                   "limit " + std::to_string(limit) + " is above ceiling " + std::to_string(ceiling) + "; raise ceiling or lower limit", "limit");
  limit_ = limit;
  ceiling_ = ceiling;
  co_return ok;
}

// Once after start: the containers that live already, from before this daemon (or this module's process) was started.
// Their limits are kept by Linux, so there is nothing to repair, only to know them again. Nothing of ours can outlive a
// container, so there are no orphans to report.
Task<Result<fb::isolator::RecoveredT>> Nofile::recover(Request<fb::isolator::Recover> request) {
  prepared_.clear();
  if (request->containers()) {
    for (const auto* known : *request->containers()) {
      const auto limit = limit_of(known->task());
      prepared_[std::string(text(known->container_id()))] = limit ? *limit : limit_;
    }
  }
  co_return fb::isolator::RecoveredT{};
}

Result<std::int64_t> Nofile::limit_of(const fb::TaskInfo* task) const {
  // Every field of a message may be absent: an older or newer peer may not know it.
  if (!task || !task->labels()) return limit_;
  for (const auto* label : *task->labels()) {
    if (text(label->key()) != "nofile") continue;
    const std::string_view value = text(label->value());
    std::int64_t asked = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), asked);
    if (error != std::errc() || end != value.data() + value.size() || asked < 16)
      return fail(Code::invalid_argument, "label nofile is \"" + std::string(value) + "\"; write a number of at least 16");
    if (asked > ceiling_)
      return fail(Code::invalid_argument, "label nofile asks for " + std::to_string(asked) + " open files, the agent allows " +
                                              std::to_string(ceiling_) + " (setting ceiling)");
    return asked;
  }
  return limit_;
}

// Before the task's first process exists: the place to refuse a launch, for nothing has to be undone yet. The message
// becomes the task's status, read by whoever wrote the app.
Task<Result<fb::isolator::PreparedT>> Nofile::prepare(Request<fb::isolator::Prepare> request) {
  GANTRY_CO_TRY(const std::int64_t limit, limit_of(request->task()));
  // The request's bytes live until this call is answered: what is needed later is copied. Preparing a container twice
  // gives the same result as once.
  prepared_[std::string(text(request->container_id()))] = limit;
  co_return fb::isolator::PreparedT{};
}

// The first process exists but is held before its exec: what is set now, all its children inherit, and it cannot have
// opened anything yet. prlimit does not block, so it may run on the strand; work that may belongs into host().offload().
Task<Status> Nofile::attach(Request<fb::isolator::Attach> request) {
  const std::string_view id = text(request->container_id());
  const auto prepared = prepared_.find(id);
  if (prepared == prepared_.end()) co_return fail(Code::not_found, "container " + std::string(id) + " was not prepared");
  // pid 0 would mean this very process.
  if (request->pid() <= 0) co_return fail(Code::invalid_argument, "pid " + std::to_string(request->pid()) + " is no process");
  const auto value = static_cast<rlim_t>(prepared->second);
  const rlimit wanted{value, value};
  if (::prlimit(request->pid(), RLIMIT_NOFILE, &wanted, nullptr) != 0) {
    const int error = errno;
    co_return fail(error == EPERM ? Code::permission_denied : error == ESRCH ? Code::not_found : Code::internal,
                   "cap open files of process " + std::to_string(request->pid()) + " at " + std::to_string(value) + ": " + std::strerror(error));
  }
  host().debug("open files capped", {{"container", id}, {"limit", std::to_string(value)}});
  co_return ok;
}

// Must succeed for containers never heard of, and twice: the agent cleans up whatever it is not sure about.
Task<Status> Nofile::cleanup(Request<fb::isolator::Cleanup> request) {
  if (const auto it = prepared_.find(text(request->container_id())); it != prepared_.end()) prepared_.erase(it);
  co_return ok;
}

}  // namespace gantry::isolator_nofile
