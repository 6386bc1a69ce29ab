// Containers in containers: a nested one uses namespaces of its parent, and has ended before its parent is taken back.
//
// Nothing but the launcher ties them together: their processes are not each other's children. So when a parent ends, for whatever
// reason, those in it are killed and waited for; that they did not end by themselves is told with the parent's own reason, which is
// known for certain only after its isolators have cleaned up.
#include "kernel/agent/container_launcher.hpp"

#include <algorithm>
#include <csignal>

namespace gantry::agent {
namespace {

using fb::isolator::Namespace;

// Those that a nested container shares with its parent unless it wants its own.
constexpr std::uint32_t shared_namespaces = static_cast<std::uint32_t>(Namespace::NETWORK) | static_cast<std::uint32_t>(Namespace::IPC) | static_cast<std::uint32_t>(Namespace::UTS);

constexpr const char* ended_with_it = "The container of the executor has ended";

// What ended the parent ended the nested one.
void take_reason(ExitInfo& to, const ExitInfo& parent) {
  to.with_parent = true;
  to.reason = parent.reason.value_or(fb::Reason::REASON_EXECUTOR_TERMINATED);
  to.message = parent.message.empty() ? ended_with_it : parent.message;
  to.limitation = parent.limitation;
}

}  // namespace

// Nested: its parent must run. Which namespaces it enters is known once its isolators have said which are its own.
Status ContainerLauncher::join_parent(Container& c) const {
  if (c.spec.parent.empty()) return ok;
  const ContainerPtr parent = find(c.spec.parent);
  if (!parent || parent->phase != Container::Phase::running || c.with_parent)
    return fail(Code::failed_precondition, "the container " + c.spec.parent + " it belongs to is not running");
  c.how.join = (parent->how.namespaces | parent->how.join) & shared_namespaces & ~c.how.namespaces;
  // Open as long as we are here: the parent is not given up before those in it.
  c.how.join_pidfd = parent->spawned.pidfd.get();
  return ok;
}

bool ContainerLauncher::has_nested(const Container& parent) const {
  return std::any_of(containers_.begin(), containers_.end(), [&](const auto& x) { return x.second->spec.parent == parent.spec.container_id; });
}

// Kills what is nested in it and waits until it is gone; also launches that have begun.
Task<void> ContainerLauncher::end_nested(ContainerPtr parent) {
  std::vector<ContainerPtr> inside;
  for (const auto& [id, c] : containers_)
    if (c->spec.parent == parent->spec.container_id) inside.push_back(c);
  for (const ContainerPtr& c : inside) {
    if (c->phase == Container::Phase::ending) continue;  // by itself
    c->with_parent = true;
    if (c->phase == Container::Phase::running) {
      kill_all(c);
    } else {
      c->kill_wanted = true;
      loop_.post([c] { c->interrupt(); });
    }
  }
  for (const ContainerPtr& c : inside) {
    const auto it = containers_.find(c->spec.container_id);
    if (stopping_ || it == containers_.end() || it->second != c) continue;
    Promise<bool> gone;
    c->gone.push_back(gone);
    co_await gone.get();
  }
}

void ContainerLauncher::erase(const ContainerPtr& c) {
  containers_.erase(c->spec.container_id);
  for (const auto& gone : std::exchange(c->gone, {})) loop_.post([gone] { gone.set(true); });
}

// The last thing of a container that had started. One that ended with its parent is told of when that one's reason is certain.
void ContainerLauncher::tell_exit(const ContainerPtr& c, ExitInfo info) {
  const std::string id = c->spec.container_id;
  const ContainerPtr parent = c->spec.parent.empty() ? nullptr : find(c->spec.parent);
  erase(c);
  if (c->with_parent && !info.reason && parent && parent->phase == Container::Phase::ending) {
    parent->ended_inside.emplace_back(id, std::move(info));
    return;
  }
  // A limit of the cgroups they share has hit this one's process, and the parent does not know of its end yet.
  const bool killed = !info.wait_status || *info.wait_status == SIGKILL;
  if (parent && parent->limited && c->spec.share_cgroups && killed && !info.reason) {
    ExitInfo limited;
    put_limit(limited, *parent->limited);
    take_reason(info, limited);
  }
  for (auto& [nested, its] : std::exchange(c->ended_inside, {})) {
    take_reason(its, info);
    if (on_exit_) on_exit_(nested, std::move(its));
  }
  if (on_exit_) on_exit_(id, std::move(info));
}

void ContainerLauncher::put_limit(ExitInfo& info, const fb::isolator::LimitedT& limited) {
  info.reason = limited.reason;
  info.message = limited.message;
  for (const auto& r : limited.resources) info.limitation.push_back(*r);
}

// After a restart: those whose parent is gone are ended. Moves them from `running` to `ended`, before their parents.
Task<void> ContainerLauncher::end_forsaken(std::vector<RecoveredContainer>& out, std::vector<ContainerPtr>& running, std::vector<std::string>& ended) {
  const auto lives = [&](const std::string& id) {
    return std::any_of(running.begin(), running.end(), [&](const auto& c) { return c->spec.container_id == id; });
  };
  for (;;) {  // deeper ones after those they are nested in
    const auto it = std::find_if(running.begin(), running.end(), [&](const auto& c) { return !c->spec.parent.empty() && !lives(c->spec.parent); });
    if (it == running.end()) co_return;
    const std::string id = (*it)->spec.container_id;
    running.erase(it);
    co_await end_leftover(record_path(id));
    ended.insert(ended.begin(), id);
    const auto r = std::find_if(out.begin(), out.end(), [&](const auto& x) { return x.container_id == id; });
    r->fate = RecoveredContainer::Fate::exited;
    if (const auto record = read_record(record_path(id))) r->exit.wait_status = record->wait_status;
    take_reason(r->exit, {});
  }
}

// Their parents' reasons are known now.
void ContainerLauncher::explain_forsaken(std::vector<RecoveredContainer>& out, const std::map<std::string, std::string>& parents) {
  for (auto& r : out) {
    if (!r.exit.with_parent) continue;
    const auto parent = std::find_if(out.begin(), out.end(), [&](const auto& x) { return x.container_id == parents.at(r.container_id); });
    if (parent != out.end() && parent->exit.reason) take_reason(r.exit, parent->exit);
  }
}

}  // namespace gantry::agent
