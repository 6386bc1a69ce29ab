// Tasks as the operator API tells them: written from parts, and yet exactly what the codec writes of the whole message.
#include "operator_views.hpp"
#include "pace.hpp"
#include "row.hpp"
#include "task_views.hpp"
#include "wire/codec.hpp"

#include <gantry/operator_generated.h>

#include <gtest/gtest.h>

#include <algorithm>

namespace gantry::gateway_mesos {
namespace {

using S = fb::TaskState;
using wire::Codec;
using wire::Composer;
using namespace std::chrono_literals;

template <class T>
Own<T> own(const typename T::NativeTableType& object) {
  return Own<T>(pack(object));
}

// Everything a task can say of itself.
fb::TaskInfoT full_info() {
  fb::TaskInfoT info;
  info.name = "a \"name\"";
  info.task_id = "t";
  info.agent_id = "A";
  info.resources.push_back(std::make_unique<fb::ResourceT>());
  info.resources.back()->name = "cpus";
  info.resources.back()->scalar = 0.1;
  info.resources.back()->allocation_role = "eng";
  info.executor = std::make_unique<fb::ExecutorInfoT>();
  info.executor->executor_id = "x";
  info.command = std::make_unique<fb::CommandInfoT>();
  info.command->value = "sleep 1";
  info.command->user = "somebody";
  info.data = {1, 2, 3};
  info.labels.push_back(std::make_unique<fb::LabelT>());
  info.labels.back()->key = "k";
  info.discovery = std::make_unique<fb::DiscoveryInfoT>();
  info.discovery->name = "d";
  info.container = std::make_unique<fb::ContainerInfoT>();
  info.container->hostname = "h";
  info.health_check = std::make_unique<fb::HealthCheckT>();
  info.kill_policy = std::make_unique<fb::KillPolicyT>();
  info.kill_policy->grace_period_ns = 5;
  info.limits.push_back(std::make_unique<fb::ScalarEntryT>());
  info.limits.back()->key = "mem";
  info.limits.back()->value = 64;
  return info;
}

fb::TaskStatusT full_status(S state, double at) {
  fb::TaskStatusT s;
  s.task_id = "t";
  s.state = state;
  s.message = "said";
  s.agent_id = "A";
  s.timestamp = at;
  s.executor_id = "x";
  s.healthy = false;
  s.source = fb::Source::SOURCE_EXECUTOR;
  s.reason = fb::Reason::REASON_EXECUTOR_TERMINATED;
  for (std::uint8_t i = 0; i < 16; ++i) s.uuid.push_back(static_cast<std::uint8_t>(i + at));
  s.labels.push_back(std::make_unique<fb::LabelT>());
  s.labels.back()->key = "l";
  s.container_status = std::make_unique<fb::ContainerStatusT>();
  s.container_status->container_id = "c";
  s.container_status->executor_pid = 42;
  s.unreachable_time_ns = 7;
  s.limitation = std::make_unique<fb::LimitationT>();
  s.check_status = std::make_unique<fb::CheckStatusInfoT>();
  return s;
}

fb::TaskStatusT small_status(S state, double at) {
  fb::TaskStatusT s;
  s.task_id = "t";
  s.state = state;
  s.agent_id = "A";
  s.timestamp = at;
  s.uuid.assign(16, 9);
  return s;
}

// The same task as one message, field by field: what the composed one must equal.
fb::ops::TaskT expected(const fb::TaskInfoT& from, const std::vector<fb::TaskStatusT>& statuses) {
  fb::ops::TaskT out;
  const Buffer copy = pack(from);
  fb::TaskInfoT info;
  flatbuffers::GetRoot<fb::TaskInfo>(copy.data())->UnPackTo(&info);
  out.name = info.name;
  out.task_id = info.task_id;
  out.framework_id = "F";
  out.state = S::TASK_STAGING;
  if (info.executor) out.executor_id = info.executor->executor_id;
  out.agent_id = info.agent_id;
  out.resources = std::move(info.resources);
  out.labels = std::move(info.labels);
  out.discovery = std::move(info.discovery);
  out.container = std::move(info.container);
  if (info.command) out.user = info.command->user;
  out.health_check = std::move(info.health_check);
  out.kill_policy = std::move(info.kill_policy);
  out.limits = std::move(info.limits);
  for (const auto& s : statuses) {
    const Buffer b = pack(s);
    out.statuses.emplace_back(flatbuffers::GetRoot<fb::TaskStatus>(b.data())->UnPack());
    out.statuses.back()->data.clear();
    out.state = out.statuses.back()->state;
  }
  if (!statuses.empty()) {
    out.status_update_state = out.state;
    out.status_update_uuid = statuses.back().uuid;
  }
  return out;
}

TaskRow row(const fb::TaskInfoT& info, const std::vector<fb::TaskStatusT>& statuses) {
  TaskRow t;
  t.framework_id = std::make_shared<const std::string>("F");
  t.info = own<fb::TaskInfo>(info);
  for (const auto& s : statuses) {
    t.add(own<fb::TaskStatus>(s));
    t.state = s.state;
  }
  return t;
}

std::string composed(const TaskRow& t, bool protobuf) {
  std::string out;
  Composer c(out, protobuf);
  c.open();
  ops::write_task(c, t, nullptr);
  c.close();
  return out;
}

void same(const fb::TaskInfoT& info, const std::vector<fb::TaskStatusT>& statuses) {
  const TaskRow t = row(info, statuses);
  const Buffer b = pack(expected(info, statuses));
  EXPECT_EQ(composed(t, false), Codec::get().to_json(b, "gantry.fb.ops.Task"));
  EXPECT_EQ(composed(t, true), Codec::get().to_protobuf(b, "gantry.fb.ops.Task"));
}

TEST(TaskViews, AreWhatTheWholeMessageWouldBe) {
  same(full_info(), {});
  same(full_info(), {small_status(S::TASK_STARTING, 1), full_status(S::TASK_RUNNING, 2), full_status(S::TASK_FAILED, 3)});
  fb::TaskInfoT least;
  least.name = least.task_id = "t";
  least.agent_id = "A";
  same(least, {small_status(S::TASK_RUNNING, 1.5)});
}

TEST(TaskViews, DataOfAStatusIsNotTold) {
  auto s = full_status(S::TASK_RUNNING, 1);
  s.data.assign(100'000, 7);
  same(full_info(), {s});
  auto small = small_status(S::TASK_RUNNING, 1);
  small.data.assign(10, 7);
  const TaskRow t = row(full_info(), {small});
  EXPECT_EQ(t.statuses[0].more(), nullptr) << "and not kept";
}

TEST(TaskViews, AContainerWithoutANetworkHasItsAgents) {
  AgentRow agent;
  fb::AgentInfoT info;
  info.id = "A";
  info.address = "10.0.0.1:5051";
  agent.info = own<fb::AgentInfo>(info);
  const TaskRow t = row(full_info(), {full_status(S::TASK_RUNNING, 1)});
  std::string out;
  Composer c(out, false);
  c.open();
  ops::write_task(c, t, &agent);
  c.close();
  EXPECT_NE(out.find(R"("network_infos":[{"ip_addresses":[{"protocol":"IPv4","ip_address":"10.0.0.1"}]}])"), std::string::npos) << out;
}

TEST(Rows, StatusesShareWhatTheySayAlike) {
  auto later = full_status(S::TASK_KILLING, 2);
  later.source = fb::Source::SOURCE_MASTER;
  const TaskRow t = row(full_info(), {full_status(S::TASK_RUNNING, 1), later});
  EXPECT_EQ(t.statuses[0].more(), t.statuses[1].more());
  EXPECT_EQ(t.statuses[0].source(), fb::Source::SOURCE_EXECUTOR);
  EXPECT_EQ(t.statuses[1].source(), fb::Source::SOURCE_MASTER);
}

TEST(Rows, AStatusTakesThePlaceOfOneOfItsState) {
  const TaskRow t = row(full_info(), {small_status(S::TASK_RUNNING, 1), full_status(S::TASK_RUNNING, 2), small_status(S::TASK_KILLING, 3)});
  ASSERT_EQ(t.statuses.size(), 2u);
  EXPECT_EQ(t.statuses[0].timestamp(), 2);
}

// A length that is written before what it measures, in room kept for it.
TEST(Compose, LargeMessagesAreReadBack) {
  for (const std::size_t size : {0u, 100u, 20'000u, 3'000'000u}) {
    std::string out;
    Composer c(out, true);
    c.open();
    c.name(wire::field("gantry.fb.master.Event", "type"), static_cast<std::int64_t>(fb::master::EventType::AGENT_REMOVED));
    c.begin(wire::field("gantry.fb.master.Event", "agent_removed"), true);
    c.text(wire::field("gantry.fb.master.AgentRemoved", "agent_id"), std::string(size, 'x'));
    c.end();
    c.close();
    const auto read = Codec::get().from_protobuf({reinterpret_cast<const std::uint8_t*>(out.data()), out.size()}, "gantry.fb.master.Event");
    ASSERT_TRUE(read) << read.error().message;
    EXPECT_EQ(text(view<fb::master::Event>(*read)->agent_removed()->agent_id()).size(), size);
  }
}

TEST(Pace, LargeAnswersLeaveRoomWhereMuchHappens) {
  EXPECT_EQ(rest_after({5ms, 1000, 100'000}), 0ns) << "a small one";
  EXPECT_LT(rest_after({200ms, 100'000'000, 1}), 10ms) << "nothing happens";
  const auto busy = rest_after({200ms, 100'000'000, 200});  // a thousand changes a second
  EXPECT_NEAR(static_cast<double>(busy.count()), 300e6, 1e6) << "as long as it cost";
  EXPECT_NEAR(static_cast<double>(rest_after({200ms, 100'000'000, 1'000'000}).count()), 9 * 300e6, 1e6) << "and no more than nine times that";
}

}  // namespace
}  // namespace gantry::gateway_mesos
