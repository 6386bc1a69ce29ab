#include "permits.hpp"

#include <algorithm>
#include <set>

namespace gantry::gateway_mesos {
namespace {

using O = fb::OperationType;
using Packed = flatbuffers::Vector<flatbuffers::Offset<fb::Resource>>;
using List = std::vector<std::unique_ptr<fb::ResourceT>>;

// The same questions of both forms of a message.
struct Facts {
  std::string role, reserver, creator;
};
Facts facts(const fb::Resource& r) {
  Facts f;
  if (r.reservations() && r.reservations()->size()) {
    const auto* top = r.reservations()->Get(r.reservations()->size() - 1);
    f.role = text(top->role());
    f.reserver = text(top->principal());
  } else {
    f.role = r.role() ? text(r.role()) : std::string_view("*");
    if (r.reservation()) f.reserver = text(r.reservation()->principal());
  }
  if (r.disk() && r.disk()->persistence()) f.creator = text(r.disk()->persistence()->principal());
  return f;
}
Facts facts(const fb::ResourceT& r) {
  Facts f;
  if (!r.reservations.empty()) {
    f.role = r.reservations.back()->role;
    f.reserver = r.reservations.back()->principal;
  } else {
    f.role = r.role.empty() ? "*" : r.role;
    if (r.reservation) f.reserver = r.reservation->principal;
  }
  if (r.disk && r.disk->persistence) f.creator = r.disk->persistence->principal;
  return f;
}

Ask ask_of(O type, const Facts& f) {
  switch (type) {
    case O::RESERVE:
      return {"reserve_resources", f.role};
    case O::UNRESERVE:
      return {"unreserve_resources", f.reserver};
    case O::CREATE:
      return {"create_volume", f.role};
    case O::DESTROY:
      return {"destroy_volume", f.creator};
    default:
      return {"resize_volume", f.role};
  }
}

template <class F>
void each(const Packed* list, F fn) {
  if (list)
    for (const auto* r : *list) fn(facts(*r));
}
template <class F>
void each(const List& list, F fn) {
  for (const auto& r : list)
    if (r) fn(facts(*r));
}

// Calls fn(Facts) for what an operation is done to.
template <class F>
void each(const fb::Operation& op, F fn) {
  switch (op.type()) {
    case O::RESERVE:
      if (op.reserve()) each(op.reserve()->resources(), fn);
      break;
    case O::UNRESERVE:
      if (op.unreserve()) each(op.unreserve()->resources(), fn);
      break;
    case O::CREATE:
      if (op.create()) each(op.create()->volumes(), fn);
      break;
    case O::DESTROY:
      if (op.destroy()) each(op.destroy()->volumes(), fn);
      break;
    case O::GROW_VOLUME:
      if (op.grow_volume() && op.grow_volume()->volume()) fn(facts(*op.grow_volume()->volume()));
      break;
    case O::SHRINK_VOLUME:
      if (op.shrink_volume() && op.shrink_volume()->volume()) fn(facts(*op.shrink_volume()->volume()));
      break;
    default:
      break;
  }
}
template <class F>
void each(const fb::OperationT& op, F fn) {
  switch (op.type) {
    case O::RESERVE:
      if (op.reserve) each(op.reserve->resources, fn);
      break;
    case O::UNRESERVE:
      if (op.unreserve) each(op.unreserve->resources, fn);
      break;
    case O::CREATE:
      if (op.create) each(op.create->volumes, fn);
      break;
    case O::DESTROY:
      if (op.destroy) each(op.destroy->volumes, fn);
      break;
    case O::GROW_VOLUME:
      if (op.grow_volume && op.grow_volume->volume) fn(facts(*op.grow_volume->volume));
      break;
    case O::SHRINK_VOLUME:
      if (op.shrink_volume && op.shrink_volume->volume) fn(facts(*op.shrink_volume->volume));
      break;
    default:
      break;
  }
}

std::string user_of(const fb::TaskInfoT& t, const std::string& framework_user) {
  if (t.command && !t.command->user.empty()) return t.command->user;
  if (t.executor && t.executor->command && !t.executor->command->user.empty()) return t.executor->command->user;
  return framework_user;
}

fb::EventT refused(const fb::TaskInfoT& t, fb::Reason reason, const std::string& message, std::uint64_t wall_ns) {
  fb::EventT e;
  e.type = fb::EventType::UPDATE;
  e.update = std::make_unique<fb::UpdateT>();
  auto& s = *(e.update->status = std::make_unique<fb::TaskStatusT>());
  s.task_id = t.task_id;
  s.agent_id = t.agent_id;
  s.state = fb::TaskState::TASK_ERROR;
  s.source = fb::Source::SOURCE_MASTER;
  s.reason = reason;
  s.message = message;
  s.timestamp = static_cast<double>(wall_ns) / 1e9;
  return e;
}

template <class Info>
std::set<std::string> roles(const Info& info) {
  std::set<std::string> out;
  if (info.roles())
    for (const auto* r : *info.roles()) out.emplace(text(r));
  if (out.empty()) out.emplace(info.role() && info.role()->size() ? text(info.role()) : std::string_view("*"));
  return out;
}

}  // namespace

std::string_view user_of(const fb::ExecutorInfo& x, std::string_view framework_user) {
  return x.command() && x.command()->user() && x.command()->user()->size() ? text(x.command()->user()) : framework_user;
}

std::string_view user_of(const fb::TaskInfo& t, std::string_view framework_user) {
  if (t.command() && t.command()->user() && t.command()->user()->size()) return text(t.command()->user());
  return t.executor() ? user_of(*t.executor(), framework_user) : framework_user;
}

std::vector<Ask> asks_of(const fb::FrameworkInfo& info) {
  std::vector<Ask> out;
  for (const auto& r : roles(info)) out.push_back({"register_framework", r});
  return out;
}

std::string not_registered(const fb::FrameworkInfo& info) {
  std::string list;
  for (const auto& r : roles(info)) list += (list.empty() ? " " : ", ") + r;
  return "Not authorized to register framework " + std::string(text(info.id())) + " with roles {" + list + " }";
}

std::vector<Ask> asks_of(const fb::Accept& accept, std::string_view user) {
  std::set<std::pair<std::string, std::string>> asked;
  const auto task = [&](const fb::TaskInfo* t) {
    if (t) asked.emplace("run_task", user_of(*t, user));
  };
  if (accept.operations())
    for (const auto* op : *accept.operations()) {
      if (op->type() == O::LAUNCH && op->launch() && op->launch()->task_infos())
        for (const auto* t : *op->launch()->task_infos()) task(t);
      if (op->type() == O::LAUNCH_GROUP && op->launch_group() && op->launch_group()->task_infos())
        for (const auto* t : *op->launch_group()->task_infos()) task(t);
      each(*op, [&](const Facts& f) {
        Ask a = ask_of(op->type(), f);
        asked.emplace(std::move(a.action), std::move(a.object));
      });
    }
  std::vector<Ask> out;
  for (const auto& [action, object] : asked) out.push_back({action, object});
  return out;
}

std::vector<fb::EventT> prune(fb::AcceptT& accept, const Verdicts& verdicts, const Whose& whose) {
  std::vector<fb::EventT> told;
  if (verdicts.all()) return told;
  const auto sentence = [&](const fb::TaskInfoT& t) {
    return "Principal '" + whose.principal + "' not authorized to launch task " + t.task_id + " of framework " + whose.framework_id +
           " under user '" + user_of(t, whose.user) + "'";
  };
  const auto may = [&](const fb::TaskInfoT& t) { return verdicts.allows("run_task", user_of(t, whose.user)); };
  std::erase_if(accept.operations, [&](const std::unique_ptr<fb::OperationT>& op) {
    if (!op) return true;
    if (op->type == O::LAUNCH && op->launch) {
      auto& tasks = op->launch->task_infos;
      const std::size_t before = tasks.size();
      std::erase_if(tasks, [&](const std::unique_ptr<fb::TaskInfoT>& t) {
        if (!t || may(*t)) return false;
        told.push_back(refused(*t, fb::Reason::REASON_TASK_UNAUTHORIZED, sentence(*t), whose.wall_ns));
        return true;
      });
      return before > 0 && tasks.empty();
    }
    if (op->type == O::LAUNCH_GROUP && op->launch_group) {
      auto& tasks = op->launch_group->task_infos;
      const auto culprit = std::find_if(tasks.begin(), tasks.end(), [&](const auto& t) { return t && !may(*t); });
      if (culprit == tasks.end()) return false;
      for (const auto& t : tasks)
        if (t) told.push_back(refused(*t, fb::Reason::REASON_TASK_GROUP_UNAUTHORIZED, sentence(**culprit), whose.wall_ns));
      return true;
    }
    bool yes = true;
    each(*op, [&](const Facts& f) {
      const Ask a = ask_of(op->type, f);
      yes = yes && verdicts.allows(a.action, a.object);
    });
    if (yes) return false;
    if (!op->id.empty()) {
      fb::EventT e;
      e.type = fb::EventType::UPDATE_OPERATION_STATUS;
      e.update_operation_status = std::make_unique<fb::UpdateOperationStatusT>();
      auto& s = *(e.update_operation_status->status = std::make_unique<fb::OperationStatusT>());
      s.operation_id = op->id;
      s.state = fb::OperationState::OPERATION_ERROR;
      s.message = "Principal '" + whose.principal + "' not authorized to perform " + fb::EnumNameOperationType(op->type);
      told.push_back(std::move(e));
    }
    return true;
  });
  return told;
}

}  // namespace gantry::gateway_mesos
