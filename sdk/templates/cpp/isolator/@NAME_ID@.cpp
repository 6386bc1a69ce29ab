#include "@NAME_ID@.hpp"

namespace @NAME_ID@ {

using namespace gantry;

// Values arrive validated against module.toml. Refuse what only this module can judge, naming the key.
Task<Status> @CLASS@::configure(Settings settings) {
  const std::string& variable = settings.text("variable");
  if (variable.empty() || variable.find('=') != std::string::npos)
    co_return fail(Code::invalid_argument, "variable \"" + variable + "\" cannot be the name of an environment variable", "variable");
  variable_ = variable;
  co_return ok;
}

// Once after start: the containers that were alive before. Know them again; report as orphans what you find of yours in the
// outside world (directories, links, rules) that is not among them. This module leaves nothing there.
Task<Result<fb::isolator::RecoveredT>> @CLASS@::recover(Request<fb::isolator::Recover> request) {
  containers_.clear();
  if (request->containers())
    for (const auto* known : *request->containers()) containers_.emplace(text(known->container_id()));
  co_return fb::isolator::RecoveredT{};
}

// Before the first process exists: the place to refuse a launch, and to say what the launcher shall do. May come twice.
Task<Result<fb::isolator::PreparedT>> @CLASS@::prepare(Request<fb::isolator::Prepare> request) {
  // The request lives until this call is answered; what is needed later is copied.
  containers_.emplace(text(request->container_id()));
  fb::isolator::PreparedT out;
  auto variable = std::make_unique<fb::VariableT>();
  variable->name = variable_;
  variable->value = "@NAME@";
  out.environment.push_back(std::move(variable));
  co_return out;
}

// The first process exists and is held before its exec: request->pid(), and its pidfd in request.fds(). Whatever is set on
// it now (limits, groups) holds from the task's first instruction on. If you need nothing of it, say no_attach in PREPARE.
Task<Status> @CLASS@::attach(Request<fb::isolator::Attach> request) {
  if (!containers_.count(text(request->container_id())))
    co_return fail(Code::not_found, "container " + std::string(text(request->container_id())) + " was not prepared");
  co_return ok;
}

// Must succeed for containers never heard of, and twice. Undo all that was done for the container.
Task<Status> @CLASS@::cleanup(Request<fb::isolator::Cleanup> request) {
  if (const auto it = containers_.find(text(request->container_id())); it != containers_.end()) containers_.erase(it);
  co_return ok;
}

}  // namespace @NAME_ID@
