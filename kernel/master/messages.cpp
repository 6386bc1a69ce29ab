#include "kernel/master/messages.hpp"

#include "kernel/resource/wire.hpp"

namespace gantry::master {

namespace {

using flatbuffers::FlatBufferBuilder;
using flatbuffers::Offset;
namespace link = fb::link;

Offset<flatbuffers::String> put(FlatBufferBuilder& b, std::string_view s) { return b.CreateString(s.data(), s.size()); }
Offset<flatbuffers::Vector<std::uint8_t>> put(FlatBufferBuilder& b, Bytes s) {
  return b.CreateVector(s.data(), s.size());
}

template <class T>
Buffer to_agent_frame(FlatBufferBuilder& b, link::FromMaster type, Offset<T> body) {
  b.Finish(link::CreateToAgent(b, type, body.Union()));
  return Buffer(b.Release());
}
Buffer finish_event(FlatBufferBuilder& b, fb::EventBuilder& e) {
  b.Finish(e.Finish());
  return Buffer(b.Release());
}

}  // namespace

Buffer welcome(std::string_view master_id, base::Nanos timeout, base::Nanos ping_interval) {
  FlatBufferBuilder b(128);
  const auto id = put(b, master_id);
  return to_agent_frame(b, link::FromMaster::Welcome,
                        link::CreateWelcome(b, id, static_cast<std::uint64_t>(timeout.count()),
                                            static_cast<std::uint64_t>(ping_interval.count())));
}
Buffer fb_registered(std::string_view agent_id, std::string_view master_id) {
  FlatBufferBuilder b(160);
  const auto a = put(b, agent_id), m = put(b, master_id);
  return to_agent_frame(b, link::FromMaster::Registered, link::CreateRegistered(b, a, m));
}
Buffer refused(std::string_view message, bool fatal) {
  FlatBufferBuilder b(256);
  const auto m = put(b, message);
  return to_agent_frame(b, link::FromMaster::Refused, link::CreateRefused(b, m, fatal));
}
Buffer run_task(Bytes framework_info, Bytes task_info, std::optional<bool> launch_executor) {
  FlatBufferBuilder b(framework_info.size() + task_info.size() + 128);
  const auto t = graft(b, task_info, flatbuffers::GetRoot<fb::TaskInfo>(task_info.data()));
  const auto f = graft(b, framework_info, flatbuffers::GetRoot<fb::FrameworkInfo>(framework_info.data()));
  return to_agent_frame(b, link::FromMaster::RunTask, link::CreateRunTask(b, f, t, launch_executor));
}
Buffer run_group(Bytes framework_info, const std::vector<Bytes>& task_infos, bool launch_executor) {
  std::size_t size = framework_info.size() + 128;
  for (const Bytes t : task_infos) size += t.size();
  FlatBufferBuilder b(size);
  std::vector<Offset<fb::TaskInfo>> tasks;
  for (const Bytes t : task_infos) tasks.push_back(graft(b, t, flatbuffers::GetRoot<fb::TaskInfo>(t.data())));
  const auto f = graft(b, framework_info, flatbuffers::GetRoot<fb::FrameworkInfo>(framework_info.data()));
  const auto all = b.CreateVector(tasks);
  return to_agent_frame(b, link::FromMaster::RunGroup, link::CreateRunGroup(b, f, all, launch_executor));
}
Buffer kill_task(std::string_view framework_id, std::string_view task_id, std::optional<std::int64_t> grace_ns) {
  FlatBufferBuilder b(192);
  const auto f = put(b, framework_id), t = put(b, task_id);
  link::KillTaskBuilder k(b);
  k.add_framework_id(f);
  k.add_task_id(t);
  if (grace_ns) k.add_grace_ns(*grace_ns);
  return to_agent_frame(b, link::FromMaster::KillTask, k.Finish());
}
Buffer ack_update(std::string_view framework_id, std::string_view task_id, Bytes uuid) {
  FlatBufferBuilder b(224);
  const auto f = put(b, framework_id), t = put(b, task_id);
  const auto u = put(b, uuid);
  return to_agent_frame(b, link::FromMaster::AckUpdate, link::CreateAckUpdate(b, f, t, u));
}
Buffer shutdown_executor(std::string_view framework_id, std::string_view executor_id) {
  FlatBufferBuilder b(192);
  const auto f = put(b, framework_id), x = put(b, executor_id);
  return to_agent_frame(b, link::FromMaster::ShutdownExecutor, link::CreateShutdownExecutor(b, f, x));
}
Buffer changed_framework(Bytes framework_info) {
  FlatBufferBuilder b(framework_info.size() + 64);
  const auto f = graft(b, framework_info, flatbuffers::GetRoot<fb::FrameworkInfo>(framework_info.data()));
  return to_agent_frame(b, link::FromMaster::UpdateFramework, link::CreateUpdateFramework(b, f));
}
Buffer remove_framework(std::string_view framework_id) {
  FlatBufferBuilder b(128);
  const auto f = put(b, framework_id);
  return to_agent_frame(b, link::FromMaster::RemoveFramework, link::CreateRemoveFramework(b, f));
}
Buffer master_message(std::string_view framework_id, const fb::SendMessage& m) {
  FlatBufferBuilder b(256 + (m.data() ? m.data()->size() : 0));
  const auto f = put(b, framework_id), x = put(b, text(m.executor_id()));
  const auto d = m.data() ? b.CreateVector(m.data()->data(), m.data()->size()) : 0;
  return to_agent_frame(b, link::FromMaster::MasterMessage, link::CreateMasterMessage(b, f, x, d));
}
Buffer ping(std::uint64_t seq) {
  FlatBufferBuilder b(64);
  return to_agent_frame(b, link::FromMaster::Ping, link::CreatePing(b, seq));
}
Buffer shutdown(std::string_view message) {
  FlatBufferBuilder b(192);
  const auto m = put(b, message);
  return to_agent_frame(b, link::FromMaster::Shutdown, link::CreateShutdown(b, m));
}
Buffer drain(std::int64_t grace_ns, bool mark_gone) {
  FlatBufferBuilder b(64);
  return to_agent_frame(b, link::FromMaster::Drain, link::CreateDrain(b, grace_ns, mark_gone));
}
Buffer end_drain() {
  FlatBufferBuilder b(64);
  return to_agent_frame(b, link::FromMaster::EndDrain, link::CreateEndDrain(b));
}

Buffer subscribed_event(std::string_view framework_id) {
  FlatBufferBuilder b(128);
  const auto s = fb::CreateSubscribed(b, put(b, framework_id));
  fb::EventBuilder e(b);
  e.add_type(fb::EventType::SUBSCRIBED);
  e.add_subscribed(s);
  return finish_event(b, e);
}
Buffer error_event(std::string_view message) {
  FlatBufferBuilder b(256);
  const auto m = fb::CreateFrameworkError(b, put(b, message));
  fb::EventBuilder e(b);
  e.add_type(fb::EventType::ERROR);
  e.add_error(m);
  return finish_event(b, e);
}
Buffer rescind_event(std::string_view offer_id) {
  FlatBufferBuilder b(128);
  const auto r = fb::CreateRescind(b, put(b, offer_id));
  fb::EventBuilder e(b);
  e.add_type(fb::EventType::RESCIND);
  e.add_rescind(r);
  return finish_event(b, e);
}
Buffer failure_event(std::string_view agent_id, std::string_view executor_id, std::optional<std::int32_t> status) {
  FlatBufferBuilder b(192);
  const auto a = put(b, agent_id);
  const auto x = executor_id.empty() ? Offset<flatbuffers::String>() : put(b, executor_id);
  fb::FailureBuilder f(b);
  f.add_agent_id(a);
  if (!x.IsNull()) f.add_executor_id(x);
  if (status) f.add_status(*status);
  const auto failure = f.Finish();
  fb::EventBuilder e(b);
  e.add_type(fb::EventType::FAILURE);
  e.add_failure(failure);
  return finish_event(b, e);
}
Buffer message_event(std::string_view agent_id, const link::AgentMessage& m) {
  FlatBufferBuilder b(256 + (m.data() ? m.data()->size() : 0));
  const auto a = put(b, agent_id), x = put(b, text(m.executor_id()));
  const auto d = m.data() ? b.CreateVector(m.data()->data(), m.data()->size()) : 0;
  const auto message = fb::CreateMessage(b, a, x, d);
  fb::EventBuilder e(b);
  e.add_type(fb::EventType::MESSAGE);
  e.add_message(message);
  return finish_event(b, e);
}
Buffer update_event(Bytes source, const fb::TaskStatus* status) {
  FlatBufferBuilder b(source.size() + 64);
  const auto s = graft(b, source, status);
  const auto u = fb::CreateUpdate(b, s);
  fb::EventBuilder e(b);
  e.add_type(fb::EventType::UPDATE);
  e.add_update(u);
  return finish_event(b, e);
}
Buffer update_event(const fb::TaskStatusT& status) {
  FlatBufferBuilder b(384);
  const auto u = fb::CreateUpdate(b, fb::TaskStatus::Pack(b, &status));
  fb::EventBuilder e(b);
  e.add_type(fb::EventType::UPDATE);
  e.add_update(u);
  return finish_event(b, e);
}

Buffer inverse_offers_event(std::vector<fb::InverseOfferT> offers) {
  fb::EventT e;
  e.type = fb::EventType::INVERSE_OFFERS;
  e.inverse_offers = std::make_unique<fb::InverseOffersT>();
  for (auto& o : offers) e.inverse_offers->inverse_offers.push_back(std::make_unique<fb::InverseOfferT>(std::move(o)));
  return pack(e);
}
Buffer rescind_inverse_event(std::string_view id) {
  fb::EventT e;
  e.type = fb::EventType::RESCIND_INVERSE_OFFER;
  e.rescind_inverse_offer = std::make_unique<fb::RescindInverseOfferT>();
  e.rescind_inverse_offer->inverse_offer_id = id;
  return pack(e);
}

Buffer operation_event(std::string_view id, std::string_view agent_id, fb::OperationState state, std::string_view message) {
  FlatBufferBuilder b(256);
  const auto i = put(b, id);
  const auto a = agent_id.empty() ? Offset<flatbuffers::String>() : put(b, agent_id);
  const auto m = message.empty() ? Offset<flatbuffers::String>() : put(b, message);
  fb::OperationStatusBuilder s(b);
  s.add_operation_id(i);
  s.add_state(state);
  if (!m.IsNull()) s.add_message(m);
  if (!a.IsNull()) s.add_agent_id(a);
  const auto update = fb::CreateUpdateOperationStatus(b, s.Finish());
  fb::EventBuilder e(b);
  e.add_type(fb::EventType::UPDATE_OPERATION_STATUS);
  e.add_update_operation_status(update);
  return finish_event(b, e);
}

Buffer operation_event(const fb::OperationStatus& status) {
  fb::EventT e;
  e.type = fb::EventType::UPDATE_OPERATION_STATUS;
  e.update_operation_status = std::make_unique<fb::UpdateOperationStatusT>();
  e.update_operation_status->status.reset(status.UnPack());
  return pack(e);
}
Buffer set_resources(const resource::Resources& made) {
  FlatBufferBuilder b(256);
  const auto total = resource::write(b, made);
  return to_agent_frame(b, link::FromMaster::SetResources, link::CreateSetResources(b, total));
}

Blob packed_info(const fb::AgentInfo& info, std::string_view id) {
  fb::AgentInfoT t;
  info.UnPackTo(&t);
  t.id = id;
  return Blob(pack(t));
}

Blob small_status(Bytes source, const fb::TaskStatus* status) {
  // A frame with one status is kept as it is; anything larger (many tasks, a lot of data) is cut down.
  if (source.size() <= 1024) return Blob::cut(source, status);
  fb::TaskStatusT t;
  status->UnPackTo(&t);
  t.data.clear();
  if (t.message.size() > 1024) t.message.resize(1024);
  return Blob(pack(t));
}

void keep_health(const fb::TaskStatus& from, fb::TaskStatusT& to) {
  to.healthy = from.healthy();
  if (from.check_status()) {
    to.check_status = std::make_unique<fb::CheckStatusInfoT>();
    from.check_status()->UnPackTo(to.check_status.get());
  }
  if (from.container_status()) {
    to.container_status = std::make_unique<fb::ContainerStatusT>();
    from.container_status()->UnPackTo(to.container_status.get());
  }
}

}  // namespace gantry::master
