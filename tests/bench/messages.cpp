#include "tests/bench/messages.hpp"

#include "kernel/resource/wire.hpp"

#include <cstring>
#include <stdexcept>

namespace gantry::bench {

namespace fl = fb::link;
using flatbuffers::FlatBufferBuilder;

namespace {

auto string_of(FlatBufferBuilder& b, std::string_view s) { return b.CreateString(s.data(), s.size()); }

template <class Body>
Buffer finish_call(FlatBufferBuilder& b, std::string_view framework, fb::CallType type, Body body) {
  const auto id = string_of(b, framework);
  fb::CallBuilder c(b);
  c.add_framework_id(id);
  c.add_type(type);
  body(c);
  b.Finish(c.Finish());
  return Buffer(b.Release());
}

}  // namespace

Wire wire(std::string_view text) {
  auto r = resource::Resources::parse(text);
  if (!r) throw std::runtime_error(r.error().message);
  return resource::to_wire(*r);
}

Buffer subscribe_call(const std::string& name, const std::string& role, bool suppressed) {
  fb::CallT c;
  c.type = fb::CallType::SUBSCRIBE;
  c.subscribe = std::make_unique<fb::SubscribeT>();
  auto info = std::make_unique<fb::FrameworkInfoT>();
  info->user = "root";
  info->name = name;
  info->roles = {role};
  info->capabilities = {fb::FrameworkCapability::MULTI_ROLE};
  info->checkpoint = true;
  info->failover_timeout = 3600;
  c.subscribe->framework_info = std::move(info);
  if (suppressed) c.subscribe->suppressed_roles = {role};
  return pack(c);
}

Buffer revive_call(const std::string& framework) {
  FlatBufferBuilder b(128);
  return finish_call(b, framework, fb::CallType::REVIVE, [](fb::CallBuilder&) {});
}
Buffer suppress_call(const std::string& framework) {
  FlatBufferBuilder b(128);
  return finish_call(b, framework, fb::CallType::SUPPRESS, [](fb::CallBuilder&) {});
}

Buffer decline_call(const std::string& framework, const std::vector<std::string>& offers, double refuse_seconds) {
  FlatBufferBuilder b(256 + 64 * offers.size());
  const auto ids = b.CreateVectorOfStrings(offers);
  fb::FiltersBuilder f(b);
  f.add_refuse_seconds(refuse_seconds);
  const auto filters = f.Finish();
  const auto decline = fb::CreateDecline(b, ids, filters);
  return finish_call(b, framework, fb::CallType::DECLINE, [&](fb::CallBuilder& c) { c.add_decline(decline); });
}

Buffer acknowledge_call(std::string_view framework, const fb::TaskStatus& status) {
  FlatBufferBuilder b(256);
  const auto agent = string_of(b, text(status.agent_id()));
  const auto task = string_of(b, text(status.task_id()));
  const auto uuid = b.CreateVector(status.uuid()->data(), status.uuid()->size());
  const auto ack = fb::CreateAcknowledge(b, agent, task, uuid);
  return finish_call(b, framework, fb::CallType::ACKNOWLEDGE, [&](fb::CallBuilder& c) { c.add_acknowledge(ack); });
}

Buffer accept_call(const LaunchCall& l) {
  FlatBufferBuilder b(512 + 320 * l.count);
  const auto resources_of = resource::Resources::parse(l.resources).value();
  const auto agent = string_of(b, l.agent);
  std::vector<flatbuffers::Offset<fb::TaskInfo>> tasks;
  tasks.reserve(l.count);
  for (std::size_t i = 0; i < l.count; ++i) {
    const std::string id = l.prefix + std::to_string(l.first + i);
    const auto name = string_of(b, id);
    const auto resources = resource::write(b, resources_of);
    const auto program = string_of(b, l.arguments.empty() ? "/bin/true" : l.arguments.front());
    const auto arguments = l.arguments.empty() ? b.CreateVectorOfStrings({"true"}) : b.CreateVectorOfStrings(l.arguments);
    fb::CommandInfoBuilder c(b);
    c.add_value(program);
    c.add_shell(false);
    c.add_arguments(arguments);
    const auto command = c.Finish();
    fb::TaskInfoBuilder t(b);
    t.add_name(name);
    t.add_task_id(name);
    t.add_agent_id(agent);
    t.add_resources(resources);
    t.add_command(command);
    tasks.push_back(t.Finish());
  }
  const auto launch = fb::CreateLaunch(b, b.CreateVector(tasks));
  fb::OperationBuilder o(b);
  o.add_type(fb::OperationType::LAUNCH);
  o.add_launch(launch);
  const auto operation = o.Finish();
  const auto operations = b.CreateVector(&operation, 1);
  const auto offers = b.CreateVectorOfStrings(l.offers);
  fb::FiltersBuilder f(b);
  f.add_refuse_seconds(l.refuse_seconds);
  const auto filters = f.Finish();
  const auto accept = fb::CreateAccept(b, offers, operations, filters);
  return finish_call(b, l.framework, fb::CallType::ACCEPT, [&](fb::CallBuilder& c) { c.add_accept(accept); });
}

Buffer hello_frame() {
  fl::ToMasterT m;
  fl::HelloT hello;
  hello.version = "bench";
  m.body.Set(std::move(hello));
  return pack(m);
}

Buffer register_frame(const fl::RegisterT& registration) {
  FlatBufferBuilder b(1024);
  const auto body = fl::Register::Pack(b, &registration);
  b.Finish(fl::CreateToMaster(b, fl::FromAgent::Register, body.Union()));
  return Buffer(b.Release());
}

Buffer register_frame(const std::string& hostname, const std::string& resources) {
  fl::RegisterT r;
  r.info = std::make_unique<fb::AgentInfoT>();
  r.info->hostname = hostname;
  r.info->address = hostname + ":5051";
  r.info->resources = wire(resources);
  r.boot_id = "bench";
  return register_frame(r);
}

Buffer update_frame(std::string_view framework, std::string_view agent, std::string_view task, fb::TaskState state, std::uint64_t serial) {
  FlatBufferBuilder b(320);
  std::uint8_t uuid[16] = {};
  std::memcpy(uuid, &serial, sizeof serial);
  uuid[15] = static_cast<std::uint8_t>(state);
  const auto uuid_at = b.CreateVector(uuid, sizeof uuid);
  const auto task_at = string_of(b, task);
  const auto agent_at = string_of(b, agent);
  fb::TaskStatusBuilder s(b);
  s.add_timestamp(1.7e9);
  s.add_task_id(task_at);
  s.add_agent_id(agent_at);
  s.add_uuid(uuid_at);
  s.add_state(state);
  s.add_source(fb::Source::SOURCE_EXECUTOR);
  const auto status = s.Finish();
  const auto framework_at = string_of(b, framework);
  const auto update = fl::CreateStatusUpdate(b, framework_at, status, state, state == fb::TaskState::TASK_FINISHED);
  b.Finish(fl::CreateToMaster(b, fl::FromAgent::StatusUpdate, update.Union()));
  return Buffer(b.Release());
}

Buffer pong_frame(std::uint64_t seq) {
  FlatBufferBuilder b(64);
  b.Finish(fl::CreateToMaster(b, fl::FromAgent::Pong, fl::CreatePong(b, seq).Union()));
  return Buffer(b.Release());
}

fb::TaskState state_of(const flatbuffers::Vector<std::uint8_t>& uuid) { return static_cast<fb::TaskState>(uuid.Get(15)); }

}  // namespace gantry::bench
