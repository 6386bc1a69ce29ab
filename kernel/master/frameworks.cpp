// The life of a framework: it subscribes, calls, disconnects, fails over, is torn down.
#include "kernel/master/core.hpp"
#include "kernel/master/messages.hpp"

#include <algorithm>
#include <cmath>

namespace gantry::master {

using base::Level;

namespace {

constexpr double kMaxSeconds = 9.2e9;  // what nanoseconds in 63 bits hold

// Why a role is not acceptable, in the words frameworks know; empty: it is.
std::string role_problem(std::string_view role) {
  const auto valid = resource::validate_role(role);
  if (valid) return {};
  if (role.empty()) return "Empty role name is invalid";
  if (role.front() == '/') return "Role '" + std::string(role) + "' cannot start with a slash";
  if (role.back() == '/') return "Role '" + std::string(role) + "' cannot end with a slash";
  for (std::size_t begin = 0; begin <= role.size();) {
    const std::size_t end = std::min(role.find('/', begin), role.size());
    const std::string part(role.substr(begin, end - begin));
    if (part.empty()) return "Role '" + std::string(role) + "' cannot contain two adjacent slashes";
    const std::string bad = "Role component '" + part + "' is invalid";
    if (part == "." || part == ".." || part == "*") return bad;
    if (part.front() == '-') return bad + " because it begins with a dash";
    for (const char c : part)
      if (static_cast<unsigned char>(c) <= 0x20 || c == 0x7f) return bad + " because it contains backspace or whitespace";
    begin = end + 1;
  }
  return valid.error().message;
}

// Why the info is not acceptable; the words reach the framework in an ERROR event.
Status validate_info(const fb::FrameworkInfo& info) {
  const auto has = [&](fb::FrameworkCapability c) {
    return info.capabilities() &&
           std::find(info.capabilities()->begin(), info.capabilities()->end(), c) != info.capabilities()->end();
  };
  const double timeout = info.failover_timeout().value_or(0);
  if (!std::isfinite(timeout) || std::abs(timeout) > kMaxSeconds || timeout < 0) {
    return fail(Code::invalid_argument, "The framework failover_timeout (" + std::to_string(timeout) +
                                            ") is invalid: it must be from 0 to 9.2e9 seconds");
  }
  const std::string_view id = text(info.id());
  if (id.size() > 255) return fail(Code::invalid_argument, "The framework id is longer than 255 bytes");
  if (has(fb::FrameworkCapability::MULTI_ROLE)) {
    if (info.role())
      return fail(Code::invalid_argument,
                  "'FrameworkInfo.role' must not be set when the framework is MULTI_ROLE capable");
  } else if (info.roles() && info.roles()->size() > 0) {
    return fail(Code::invalid_argument,
                "'FrameworkInfo.roles' must not be set when the framework is not MULTI_ROLE capable");
  }
  if (info.role()) {
    if (const auto problem = role_problem(text(info.role())); !problem.empty())
      return fail(Code::invalid_argument, "'FrameworkInfo.role' is not a valid role: " + problem);
  }
  if (info.roles()) {
    std::set<std::string_view> seen;
    for (const auto* r : *info.roles()) {
      if (const auto problem = role_problem(text(r)); !problem.empty())
        return fail(Code::invalid_argument, "'FrameworkInfo.roles' contains invalid role: " + problem);
      if (!seen.insert(text(r)).second)
        return fail(Code::invalid_argument,
                    "'FrameworkInfo.roles' contains duplicate items: '" + std::string(text(r)) + "'");
    }
  }
  return ok;
}

std::vector<RoleId> roles_of(const fb::FrameworkInfo& i) {
  std::vector<RoleId> roles;
  if (i.roles() && i.roles()->size() > 0) {
    for (const auto* r : *i.roles()) roles.push_back(resource::intern_role(text(r)));
    return roles;
  }
  bool multi = false;
  if (i.capabilities())
    for (const auto c : *i.capabilities()) multi |= c == fb::FrameworkCapability::MULTI_ROLE;
  if (!multi) roles.push_back(i.role() ? resource::intern_role(text(i.role())) : RoleId::star);
  return roles;
}

// Those of `names` that are among `roles`; a name from outside is not interned, for that is for ever.
std::vector<RoleId> roles_among(const std::vector<RoleId>& roles, const flatbuffers::Vector<flatbuffers::Offset<flatbuffers::String>>* names) {
  std::vector<RoleId> out;
  if (names)
    for (const auto* name : *names)
      if (const RoleId role = role_among(roles, text(name)); role != RoleId::none) out.push_back(role);
  return out;
}

}  // namespace

Handle Core::find_framework(std::string_view id) const {
  const auto it = framework_by_id_.find(std::string(id));
  return it == framework_by_id_.end() ? 0 : it->second;
}

Handle Core::add_framework(std::string id, Blob info) {
  const Handle h = frameworks_.emplace();
  Framework& f = frameworks_[h];
  f.id = id;
  f.registered_wall = wall_;
  framework_by_id_.emplace(std::move(id), h);
  apply_info(f, std::move(info));
  note_framework(h);
  return h;
}

void Core::apply_info(Framework& f, Blob info) {
  f.info = std::move(info);
  const auto& i = f.about();
  f.roles = roles_of(i);
  f.partition_aware = f.region_aware = false;
  f.allocator_flags = 0;
  using A = fb::allocator::FrameworkFlags;
  const auto set = [&](A flag) { f.allocator_flags |= static_cast<std::uint32_t>(flag); };
  if (i.capabilities()) {
    for (const auto c : *i.capabilities()) {
      switch (c) {
        case fb::FrameworkCapability::REVOCABLE_RESOURCES:
          set(A::REVOCABLE);
          break;
        case fb::FrameworkCapability::SHARED_RESOURCES:
          set(A::SHARED);
          break;
        case fb::FrameworkCapability::GPU_RESOURCES:
          set(A::GPU);
          break;
        case fb::FrameworkCapability::RESERVATION_REFINEMENT:
          set(A::REFINEMENT);
          break;
        case fb::FrameworkCapability::REGION_AWARE:
          set(A::REGION);
          f.region_aware = true;
          break;
        case fb::FrameworkCapability::PARTITION_AWARE:
          f.partition_aware = true;
          break;
        default:
          break;
      }
    }
  }
  f.checkpoint = i.checkpoint().value_or(false);
  const double seconds = std::clamp(i.failover_timeout().value_or(0), 0.0, kMaxSeconds);
  f.failover_timeout = Nanos(static_cast<std::int64_t>(seconds * 1e9));
}

void Core::refuse_stream(StreamId stream, std::string message) {
  log(Level::warning, "refused a subscription", {{"reason", message}});
  out_->emplace_back(SendFramework{stream, error_event(message)});
  out_->emplace_back(EndStream{stream, fail(Code::invalid_argument, std::move(message))});
}

void Core::on_subscribe(const Subscribe& e) {
  const auto* call = view<fb::Call>(e.call);
  const auto* info = call && call->subscribe() ? call->subscribe()->framework_info() : nullptr;
  if (!info) {
    ++counters_.invalid_messages;
    return refuse_stream(e.stream, "Expecting 'subscribe' with 'framework_info' to be present");
  }
  std::string id(text(info->id()));
  if (call->framework_id() && text(call->framework_id()) != id) {
    return refuse_stream(e.stream, "'framework_id' differs from 'subscribe.framework_info.id'");
  }
  if (auto s = validate_info(*info); !s) return refuse_stream(e.stream, s.error().message);
  const Handle known = id.empty() ? 0 : find_framework(id);
  if (removed_ids_.contains(id) || (known && frameworks_[known].removing))
    return refuse_stream(e.stream, "Framework has been removed");

  fb::FrameworkInfoT t;
  info->UnPackTo(&t);
  if (id.empty()) {
    std::string number = std::to_string(next_framework_++);
    if (number.size() < 4) number.insert(0, 4 - number.size(), '0');
    id = options_.run_id + "-" + number;
  }
  t.id = id;
  if (known) {  // these may not change while the framework lives
    const auto& before = frameworks_[known].about();
    if (t.principal != text(before.principal()))
      return refuse_stream(e.stream, "Changing framework's principal is not allowed");
    if (t.user != text(before.user()) || t.checkpoint != before.checkpoint())
      log(Level::warning, "a framework may not change its user or checkpoint; the old ones stay", {{"framework", id}});
    t.user = text(before.user());
    t.checkpoint = before.checkpoint();
  }
  const auto roles = roles_of(*info);
  auto suppressed = roles_among(roles, call->subscribe()->suppressed_roles());
  auto wishes = Constraints::make(call->subscribe()->offer_constraints(), *info, roles);
  if (!wishes) return refuse_stream(e.stream, std::move(wishes).error().message);
  Blob packed(pack(t));
  if (known && same_bytes(packed, frameworks_[known].info))
    return subscribed(known, e.stream, std::move(packed), std::move(suppressed), std::move(*wishes));

  opening_.insert(e.stream);
  std::vector<store::Op> ops;
  ops.push_back(framework_record(id, packed, false));
  Pending p;
  p.kind = Pending::Kind::subscribe;
  p.id = std::move(id);
  p.stream = e.stream;
  p.info = std::move(packed);
  p.suppressed = std::move(suppressed);
  p.wishes = std::move(*wishes);
  persist(std::move(ops), std::move(p));
}

// The record is stored: from here on the framework is ours. stream 0: it hung up meanwhile.
void Core::subscribed(Handle h, StreamId stream, Blob info, std::vector<RoleId> suppressed,
                      std::shared_ptr<const Constraints> wishes) {
  Framework& f = frameworks_[h];
  if (stream && f.stream) {
    ++counters_.frameworks_failed_over;
    out_->emplace_back(SendFramework{f.stream, error_event("Framework failed over")});
    out_->emplace_back(EndStream{f.stream, fail(Code::aborted, "Framework failed over")});
    framework_by_stream_.erase(f.stream);
  }
  withdraw_all_of_framework(h, false);
  const bool changed = !same_bytes(info, f.info);
  apply_info(f, std::move(info));
  if (changed && (f.tasks || !executors_.empty())) tell_agents_of(h);
  f.suppressed = std::move(suppressed);
  f.wishes = std::move(wishes);
  forget_declined(f, RoleId::none);
  touch_framework(h);
  if (!stream) {
    if (!f.stream && f.failover_at == Instant::max()) {
      f.failover_at = now_ + f.failover_timeout;
      failovers_.insert({f.failover_at, h});
    }
    return;
  }
  if (f.recovered || f.failover_at != Instant::max() || f.stream) f.reregistered_wall = wall_;
  f.recovered = false;
  f.stream = stream;
  framework_by_stream_.emplace(stream, h);
  if (f.failover_at != Instant::max()) {
    failovers_.erase({f.failover_at, h});
    f.failover_at = Instant::max();
  }
  unfilters_.emplace_back(h, 0);
  ++counters_.frameworks_subscribed;
  out_->emplace_back(SendFramework{stream, subscribed_event(f.id)});
  revive_inverse(h);
  retell_operations(f.id);
}

// All or nothing, and only once it is stored: what is answered is what holds.
void Core::on_update_framework(Handle h, const fb::UpdateFramework& u, RequestId request) {
  const auto refuse = [&](std::string why) { answer(request, fail(Code::invalid_argument, std::move(why))); };
  const auto* info = u.framework_info();
  if (!info) return refuse("Expecting 'update_framework.framework_info' to be present");
  const Framework& f = frameworks_[h];
  if (text(info->id()) != f.id) return refuse("'framework_id' differs from 'update_framework.framework_info.id'");
  if (auto s = validate_info(*info); !s) return refuse(s.error().message);
  const auto& before = f.about();
  if (text(info->principal()) != text(before.principal())) return refuse("Changing framework's principal is not allowed");
  if (text(info->user()) != text(before.user())) return refuse("Updating 'FrameworkInfo.user' is unsupported");
  if (info->checkpoint().value_or(false) != before.checkpoint().value_or(false))
    return refuse("Updating 'FrameworkInfo.checkpoint' is unsupported");
  const auto roles = roles_of(*info);
  auto suppressed = roles_among(roles, u.suppressed_roles());
  auto wishes = Constraints::make(u.offer_constraints(), *info, roles);
  if (!wishes) return refuse(std::move(wishes).error().message);
  fb::FrameworkInfoT t;
  info->UnPackTo(&t);
  Pending p;
  p.wishes = std::move(*wishes);
  p.kind = Pending::Kind::update_framework;
  p.id = f.id;
  p.handle = h;
  p.request = request;
  p.info = Blob(pack(t));
  p.suppressed = std::move(suppressed);
  std::vector<store::Op> ops;
  ops.push_back(framework_record(f.id, p.info, false));
  persist(std::move(ops), std::move(p));
}

// Offers of roles it has left are taken back; its tasks stay.
void Core::framework_updated(Handle h, Blob info, std::vector<RoleId> suppressed,
                             std::shared_ptr<const Constraints> wishes) {
  Framework& f = frameworks_[h];
  apply_info(f, std::move(info));
  tell_agents_of(h);
  f.suppressed = std::move(suppressed);
  if (!Constraints::same(f.wishes.get(), wishes.get())) {
    // What kept agents from it is forgotten, and with it what it declined: it looks for something else now.
    unfilters_.emplace_back(h, 0);
    forget_declined(f, RoleId::none);
  }
  f.wishes = std::move(wishes);
  for (Handle o = f.first_offer; o;) {
    const Handle next = offers_[o].of_framework.next;
    if (std::find(f.roles.begin(), f.roles.end(), offers_[o].role) == f.roles.end()) withdraw(o, true);
    o = next;
  }
  touch_framework(h);
}

void Core::on_stream_closed(StreamId stream) {
  opening_.erase(stream);
  const auto it = framework_by_stream_.find(stream);
  if (it != framework_by_stream_.end()) disconnect_framework(it->second);
}

void Core::disconnect_framework(Handle h) {
  Framework& f = frameworks_[h];
  framework_by_stream_.erase(f.stream);
  f.stream = 0;
  withdraw_all_of_framework(h, false);
  forget_declined(f, RoleId::none);
  touch_framework(h);
  if (f.removing) return;
  f.failover_at = now_ + f.failover_timeout;
  failovers_.insert({f.failover_at, h});
  if (f.failover_at <= now_) failover_due();
}

void Core::failover_due() {
  while (!failovers_.empty() && failovers_.begin()->first <= now_) {
    const Handle h = failovers_.begin()->second;
    failovers_.erase(failovers_.begin());
    Framework& f = frameworks_[h];
    f.failover_at = Instant::max();
    log(Level::info, "framework did not return in its failover_timeout", {{"framework", f.id}});
    teardown(h, 0);
  }
}

void Core::on_call(const FrameworkCall& e) {
  const auto* call = view<fb::Call>(e.call);
  if (!call) {
    ++counters_.invalid_messages;
    return answer(e.request, fail(Code::invalid_argument, "malformed call"));
  }
  const Handle h = find_framework(text(call->framework_id()));
  if (!h || frameworks_[h].removing) return answer(e.request, fail(Code::not_found, "Framework cannot be found"));
  if (!frameworks_[h].connected())
    return answer(e.request, fail(Code::failed_precondition, "Framework is not subscribed"));
  const auto missing = [&](const char* field) {
    ++counters_.invalid_messages;
    answer(e.request, fail(Code::invalid_argument, std::string("Expecting '") + field + "' to be present"));
  };
  switch (call->type()) {
    case fb::CallType::TEARDOWN:
      return teardown(h, e.request);
    case fb::CallType::ACCEPT:
      if (!call->accept()) return missing("accept");
      on_accept(h, e.call, *call->accept(), e.request);
      return;
    case fb::CallType::DECLINE:
      if (!call->decline()) return missing("decline");
      on_decline(h, *call->decline());
      break;
    case fb::CallType::REVIVE:
      on_revive(h, call->revive());
      break;
    case fb::CallType::SUPPRESS:
      on_suppress(h, call->suppress());
      break;
    case fb::CallType::KILL:
      if (!call->kill() || text(call->kill()->task_id()).empty()) return missing("kill.task_id");
      on_kill(h, *call->kill());
      break;
    case fb::CallType::ACKNOWLEDGE:
      if (!call->acknowledge() || !call->acknowledge()->uuid() || call->acknowledge()->uuid()->size() != kUuid)
        return missing("acknowledge.uuid (16 bytes)");
      on_acknowledge(h, *call->acknowledge());
      break;
    case fb::CallType::RECONCILE:
      on_reconcile(h, call->reconcile());
      break;
    case fb::CallType::MESSAGE:
      if (!call->message()) return missing("message");
      forward_message(frameworks_[h], *call->message());
      break;
    case fb::CallType::UPDATE_FRAMEWORK:
      if (!call->update_framework()) return missing("update_framework");
      return on_update_framework(h, *call->update_framework(), e.request);
    case fb::CallType::RECONCILE_OPERATIONS:
      if (!call->reconcile_operations()) return missing("reconcile_operations");
      on_reconcile_operations(h, *call->reconcile_operations());
      break;
    case fb::CallType::ACCEPT_INVERSE_OFFERS:
      if (!call->accept_inverse_offers()) return missing("accept_inverse_offers");
      on_answer_inverse(h, *call->accept_inverse_offers(), true);
      break;
    case fb::CallType::DECLINE_INVERSE_OFFERS:
      if (!call->decline_inverse_offers()) return missing("decline_inverse_offers");
      on_answer_inverse(h, *call->decline_inverse_offers(), false);
      break;
    case fb::CallType::ACKNOWLEDGE_OPERATION_STATUS: {
      const auto* a = call->acknowledge_operation_status();
      if (!a || !a->uuid() || a->uuid()->size() != kUuid) return missing("acknowledge_operation_status.uuid (16 bytes)");
      on_acknowledge_operation(h, *a);
      break;
    }
    case fb::CallType::SHUTDOWN:
      if (!call->shutdown()) return missing("shutdown");
      on_shutdown_executor(h, *call->shutdown());
      break;
    case fb::CallType::REQUEST:
      break;  // accepted, and of no effect, as ever (mesos-kernel.md A1)
    case fb::CallType::SUBSCRIBE:
      return answer(e.request, fail(Code::invalid_argument, "SUBSCRIBE opens a stream; it is not a call"));
    default:
      return answer(e.request,
                    fail(Code::unimplemented, "unknown call type " + std::to_string(static_cast<int>(call->type()))));
  }
  answer(e.request, ok);
}

void Core::forward_message(Framework& f, const fb::SendMessage& m) {
  const Handle h = find_agent(text(m.agent_id()));
  if (h && agents_[h].state == AgentState::registered && agents_[h].link)
    to_agent(agents_[h].link, master_message(f.id, m));
}

void Core::teardown(Handle h, RequestId request) {
  Framework& f = frameworks_[h];
  f.removing = true;
  withdraw_all_of_framework(h, false);
  touch_framework(h);
  std::vector<store::Op> ops;
  ops.push_back(framework_record(f.id, f.info, true));
  Pending p;
  p.kind = Pending::Kind::remove_framework;
  p.id = f.id;
  p.handle = h;
  p.request = request;
  persist(std::move(ops), std::move(p));
}

// Stored: its tasks are killed and it becomes history.
void Core::framework_removed(Handle h) {
  Framework& f = frameworks_[h];
  ++counters_.frameworks_removed;
  std::set<LinkId> links;
  while (f.first_task) {
    const Handle th = f.first_task;
    Task& t = tasks_[th];
    if (t.agent && agents_[t.agent].link) links.insert(agents_[t.agent].link);
    if (!terminal(t.state) || t.absent) {
      const std::string_view agent_id = t.agent ? agents_[t.agent].id() : text(t.about().agent_id());
      auto s = status_of(t.id(), agent_id, fb::TaskState::TASK_KILLED, fb::Reason::REASON_FRAMEWORK_REMOVED,
                         "Framework " + f.id + " removed");
      if (!t.released) release(th);
      set_task_state(t, fb::TaskState::TASK_KILLED);
      t.status = Blob(pack(s));
    }
    finish_task(th);
  }
  end_executors_of(h, links);
  for (const LinkId l : links) to_agent(l, remove_framework(f.id));
  forget_operations_of(f.id);
  if (f.stream) {
    framework_by_stream_.erase(f.stream);
    out_->emplace_back(EndStream{f.stream, fail(Code::not_found, "Framework has been removed")});
    f.stream = 0;
  }
  if (f.failover_at != Instant::max()) failovers_.erase({f.failover_at, h});
  f.failover_at = Instant::max();
  log(Level::info, "framework removed", {{"framework", f.id}});
  if (options_.completed_frameworks) {
    completed_.push_back({f.id, std::move(f.info), f.registered_wall, std::move(f.completed), f.reregistered_wall, wall_,
                          ++completions_});
    note_completed(completed_.back());
    if (completed_.size() > options_.completed_frameworks) completed_.pop_front();
  } else {
    note_gone(f.id, {});
  }
  forget_inverse(0, h);
  framework_by_id_.erase(f.id);
  remember_removed(f.id);
  f.id.clear();
  framework_gone(h);
}

void Core::remember_removed(std::string id) {
  if (!removed_ids_.insert(id).second) return;
  removed_order_.push_back(std::move(id));
  if (removed_order_.size() <= options_.removed_frameworks) return;
  removed_ids_.erase(removed_order_.front());
  std::vector<store::Op> ops;
  ops.push_back({"framework/" + store::key_segment(removed_order_.front()), std::nullopt});
  removed_order_.pop_front();
  if (out_) persist(std::move(ops), Pending{});
}

void Core::send_update(const Framework& f, const fb::TaskStatusT& status) {
  if (!f.stream) return;
  ++counters_.updates_forwarded;
  out_->emplace_back(SendFramework{f.stream, update_event(status)});
}

}  // namespace gantry::master
