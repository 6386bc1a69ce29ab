// The model of the cluster, and what is written from it.
#include "cluster.hpp"
#include "filter.hpp"
#include "legacy.hpp"
#include "operator_views.hpp"
#include "sums.hpp"
#include "wire/codec.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <time.h>

#include <algorithm>
#include <chrono>
#include <cstdio>

namespace gantry::gateway_mesos {
namespace {

namespace st = fb::state;
using S = fb::TaskState;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

template <class T>
std::vector<std::uint8_t> bytes(const T& object) {
  const Buffer b = pack(object);
  return {b.data(), b.data() + b.size()};
}

std::unique_ptr<fb::ResourceT> scalar(std::string name, double value, std::string role = {}) {
  auto r = std::make_unique<fb::ResourceT>();
  r->name = std::move(name);
  r->type = fb::ValueType::SCALAR;
  r->scalar = value;
  r->allocation_role = std::move(role);
  return r;
}
std::unique_ptr<fb::ResourceT> ports(std::uint64_t begin, std::uint64_t end, std::string role = {}) {
  auto r = std::make_unique<fb::ResourceT>();
  r->name = "ports";
  r->type = fb::ValueType::RANGES;
  r->ranges.emplace_back(begin, end);
  r->allocation_role = std::move(role);
  return r;
}
std::unique_ptr<fb::ResourceT> reserved(std::unique_ptr<fb::ResourceT> r, std::string role) {
  auto i = std::make_unique<fb::ReservationInfoT>();
  i->type = fb::ReservationType::DYNAMIC;
  i->role = std::move(role);
  i->principal = "p";
  r->reservations.push_back(std::move(i));
  return r;
}

// Writes chunks as the master does.
struct Feed {
  Cluster cluster;
  std::uint64_t version = 7;
  st::ChunkT chunk;

  st::ChangeT& change() {
    chunk.changes.push_back(std::make_unique<st::ChangeT>());
    return *chunk.changes.back();
  }
  void agent(std::string id, st::Standing standing = st::Standing::REGISTERED) {
    auto a = std::make_unique<st::AgentT>();
    fb::AgentInfoT info;
    info.id = std::move(id);
    info.hostname = "host1";
    info.address = "10.0.0.1:5061";
    info.port = 5061;
    auto attribute = std::make_unique<fb::AttributeT>();
    attribute->name = "rack";
    attribute->type = fb::ValueType::TEXT;
    attribute->text = "r1";
    info.attributes.push_back(std::move(attribute));
    a->info = bytes(info);
    a->standing = standing;
    a->active = a->connected = standing == st::Standing::REGISTERED;
    a->since_ns = 1'500'000'000;
    a->total.push_back(scalar("cpus", 4));
    a->total.push_back(scalar("mem", 1000));
    a->total.push_back(ports(31000, 32000));
    a->total.push_back(reserved(scalar("disk", 64), "eng"));
    change().agent = std::move(a);
  }
  void framework(std::string id, std::uint64_t completed = 0, bool connected = true) {
    auto f = std::make_unique<st::FrameworkT>();
    fb::FrameworkInfoT info;
    info.id = std::move(id);
    info.name = "plain";
    info.user = "root";
    info.capabilities = {fb::FrameworkCapability::PARTITION_AWARE};
    f->info = bytes(info);
    f->connected = f->active = connected && !completed;
    f->completed = completed;
    change().framework = std::move(f);
  }
  static std::vector<std::uint8_t> status(const std::string& id, S state, double at) {
    fb::TaskStatusT s;
    s.task_id = id;
    s.state = state;
    s.timestamp = at;
    s.container_status = std::make_unique<fb::ContainerStatusT>();
    s.container_status->container_id = "c-" + id;
    return bytes(s);
  }
  void task(const std::string& framework, const std::string& id, S state = S::TASK_STAGING, std::uint64_t completed = 0,
            double at = 0, bool absent = false) {
    auto t = std::make_unique<st::TaskT>();
    fb::TaskInfoT info;
    info.name = info.task_id = id;
    info.agent_id = "A";
    info.resources.push_back(scalar("cpus", 0.1, "*"));
    info.resources.push_back(scalar("mem", 32, "*"));
    info.resources.push_back(ports(31000, 31000, "*"));
    info.command = std::make_unique<fb::CommandInfoT>();
    info.command->value = "sleep 1";
    t->framework_id = framework;
    t->info = bytes(info);
    t->state = state;
    if (at > 0) t->status = status(id, state, at);
    t->completed = completed;
    t->absent = absent;
    change().task = std::move(t);
  }
  void update(const std::string& framework, const std::string& id, S state, double at) {
    auto u = std::make_unique<st::UpdateT>();
    u->framework_id = framework;
    u->task_id = id;
    u->state = state;
    u->status = status(id, state, at);
    change().update = std::move(u);
  }
  void offer(std::string id, std::string framework) {
    auto o = std::make_unique<st::OfferT>();
    o->id = std::move(id);
    o->framework_id = std::move(framework);
    o->agent_id = "A";
    o->role = "*";
    o->resources.push_back(scalar("cpus", 3.9, "*"));
    o->resources.push_back(ports(31002, 32000, "*"));
    change().offer = std::move(o);
  }
  st::GoneT& gone() {
    auto& c = change();
    c.gone = std::make_unique<st::GoneT>();
    return *c.gone;
  }
  Status piece(bool first, bool more) {
    if (first) {
      chunk.begin = std::make_unique<st::BeginT>();
      chunk.begin->master_id = "m-1";
      chunk.begin->completed_tasks = 2;
      chunk.begin->completed_frameworks = 1;
      chunk.begin->elected_ns = 2'000'000'000;
    }
    chunk.snapshot = true;
    chunk.more = more;
    chunk.from = chunk.version = version;
    return send();
  }
  Status delta() {
    chunk.from = version;
    chunk.version = version += chunk.changes.size();
    return send();
  }
  Status send() {
    const Buffer b = pack(std::exchange(chunk, {}));
    return cluster.apply(b);
  }
  // One agent, one framework, one running task, one offer.
  void usual() {
    agent("A");
    framework("F");
    task("F", "t", S::TASK_RUNNING, 0, 10.25);
    offer("O1", "F");
    ASSERT_TRUE(piece(true, false));
  }
};

TEST(Model, IsWholeWhenTheSnapshotIs) {
  Feed f;
  f.task("F", "t");  // of a framework not told yet
  ASSERT_TRUE(f.piece(true, true));
  EXPECT_FALSE(f.cluster.whole());
  f.agent("B");  // a delta between the pieces
  ASSERT_TRUE(f.delta());
  EXPECT_FALSE(f.cluster.whole());
  f.framework("F");
  ASSERT_TRUE(f.piece(false, false));
  EXPECT_TRUE(f.cluster.whole());
  const auto v = f.cluster.view();
  ASSERT_EQ(v->frameworks.size(), 1u);
  EXPECT_EQ(v->frameworks[0].tasks.size(), 1u);
  EXPECT_EQ(v->agents.size(), 1u);
}

TEST(Model, RefusesAGapAndWhatIsMalformed) {
  Feed f;
  EXPECT_FALSE(f.delta()) << "before any snapshot";
  f.usual();
  f.version += 1;
  f.agent("B");
  EXPECT_FALSE(f.delta());
  const std::uint8_t junk[] = {1, 2, 3, 4, 5, 6, 7, 8};
  EXPECT_FALSE(f.cluster.apply(junk));
}

TEST(Model, KeepsStatusesInOrderAndHistoryAsLongAsTheMaster) {
  Feed f;
  f.usual();
  f.update("F", "t", S::TASK_RUNNING, 11);  // again, e.g. of a health check: takes the place of the last
  f.update("F", "t", S::TASK_KILLING, 12);
  f.update("F", "nobody", S::TASK_KILLING, 12);
  ASSERT_TRUE(f.delta());
  auto t = f.cluster.view()->frameworks[0].tasks.at(0);
  ASSERT_EQ(t->statuses.size(), 2u);
  EXPECT_EQ(t->statuses[0].timestamp(), 11);
  EXPECT_EQ(t->state, S::TASK_KILLING);
  f.task("F", "t", S::TASK_KILLED, 1, 13);
  f.task("F", "u", S::TASK_FAILED, 2, 14);
  f.task("F", "v", S::TASK_FAILED, 3, 15);
  ASSERT_TRUE(f.delta());
  const auto v = f.cluster.view();
  EXPECT_TRUE(v->frameworks[0].tasks.empty());
  ASSERT_EQ(v->frameworks[0].completed.size(), 2u);
  EXPECT_EQ(v->frameworks[0].completed[0]->id(), "u");
  EXPECT_EQ(f.cluster.tasks(), 0u);
}

TEST(Model, ALiveTaskMayHaveTheIdOfACompletedOne) {
  Feed f;
  f.framework("F");
  f.task("F", "t", S::TASK_RUNNING);
  f.task("F", "t", S::TASK_FINISHED, 1);
  ASSERT_TRUE(f.piece(true, false));
  EXPECT_EQ(f.cluster.view()->frameworks[0].tasks.size(), 1u);
  EXPECT_EQ(f.cluster.view()->frameworks[0].completed.size(), 1u);
}

TEST(Model, FrameworksEndAndAreForgotten) {
  Feed f;
  f.usual();
  f.framework("G", 1);
  f.framework("F", 2);
  ASSERT_TRUE(f.delta());
  const auto v = f.cluster.view();
  EXPECT_TRUE(v->frameworks.empty());
  ASSERT_EQ(v->completed.size(), 1u);
  EXPECT_EQ(v->completed[0].row->id, "F");
  f.gone().offer_id = "O1";
  f.gone().agent_id = "A";
  ASSERT_TRUE(f.delta());
  EXPECT_TRUE(f.cluster.view()->agents.empty());
  EXPECT_TRUE(f.cluster.view()->offers.empty());
  EXPECT_EQ(v->offers.size(), 1u) << "a view is of its moment";
}

TEST(Model, TellsWhatHappens) {
  struct Log : Cluster::Listener {
    std::vector<std::string> said;
    void task_added(const TaskPtr& t) override { said.push_back("task+ " + std::string(t->id())); }
    void task_updated(const TaskPtr& t, const Own<fb::TaskStatus>& s) override {
      said.push_back("task " + std::string(t->id()) + " " + fb::EnumNameTaskState(t->state) + (s ? "" : " by the master"));
    }
    void agent_added(const AgentPtr& a) override { said.push_back("agent+ " + a->id); }
    void agent_removed(const std::string& id) override { said.push_back("agent- " + id); }
    void framework_added(const FrameworkPtr& f) override { said.push_back("framework+ " + f->id); }
    void framework_updated(const FrameworkPtr& f) override { said.push_back("framework " + f->id); }
    void framework_removed(const FrameworkPtr& f) override { said.push_back("framework- " + f->id); }
  } log;
  Feed f;
  f.cluster.listen(&log);
  f.usual();
  EXPECT_TRUE(log.said.empty()) << "the snapshot is no news";
  f.framework("G");
  f.framework("F");                    // nothing changed
  f.framework("F", 0, false);          // disconnected
  f.task("F", "u");
  f.update("F", "u", S::TASK_RUNNING, 12);
  f.task("F", "t", S::TASK_UNREACHABLE, 0, 0, true);
  f.agent("A", st::Standing::UNREACHABLE);
  f.agent("A");
  f.task("F", "u", S::TASK_RUNNING, 0, 12);  // told again
  f.framework("F", 1);
  ASSERT_TRUE(f.delta());
  EXPECT_THAT(log.said, ElementsAre("framework+ G", "framework F", "task+ u", "task u TASK_RUNNING", "task t TASK_UNREACHABLE by the master",
                                    "agent- A", "agent+ A", "framework- F"));
}

TEST(Sum, IsExactAndJoinsRanges) {
  Sums s;
  fb::TaskInfoT info;
  for (int i = 0; i < 3; ++i) info.resources.push_back(scalar("cpus", 0.1));
  info.resources.push_back(ports(5, 7));
  info.resources.push_back(ports(1, 4));
  info.resources.push_back(ports(9, 9));
  const Buffer b = pack(info);
  s.add(flatbuffers::GetRoot<fb::TaskInfo>(b.data())->resources());
  std::string out;
  write_resources(out, s);
  EXPECT_EQ(out, R"({"disk":0.0,"mem":0.0,"gpus":0.0,"cpus":0.3,"ports":"[1-7, 9-9]"})");
  out.clear();
  write_quantities(out, s);
  EXPECT_EQ(out, R"({"cpus":0.3,"ports":8.0})");
  out.clear();
  write_quantities(out, Sums());
  EXPECT_EQ(out, "{}");
}

TEST(Sum, NumbersAreWrittenAsMesosDoes) {
  std::string out;
  for (const double d : {4.0, 0.1, 1795361295.8428817, 0.0, 1e300, -2.5}) {
    write_number(out, d);
    out += ' ';
  }
  EXPECT_EQ(out, "4.0 0.1 1795361295.8428817 0.0 1e300 -2.5 ");
  out.clear();
  write_scalar(out, 3900);
  write_scalar(out, 25);
  write_scalar(out, -1050);
  EXPECT_EQ(out, "3.90.025-1.05");
}

legacy::About about() {
  legacy::About a;
  a.ip = "10.0.0.9";
  a.hostname = "master1";
  a.port = 5050;
  a.flags = {{"port", "5050"}};
  return a;
}

TEST(Legacy, State) {
  Feed f;
  f.usual();
  const std::string s = legacy::state(*f.cluster.view(), about());
  EXPECT_THAT(s, HasSubstr(R"("pid":"master@10.0.0.9:5050","hostname":"master1")"));
  EXPECT_THAT(s, HasSubstr(R"("activated_slaves":1.0,"deactivated_slaves":0.0,"unreachable_slaves":0.0)"));
  EXPECT_THAT(s, HasSubstr(R"({"id":"A","hostname":"host1","port":5061,"attributes":{"rack":"r1"},"pid":"slave(1)@10.0.0.1:5061","registered_time":1.5,)"
                           R"("resources":{"disk":64.0,"mem":1000.0,"gpus":0.0,"cpus":4.0,"ports":"[31000-32000]"},)"
                           R"("used_resources":{"disk":0.0,"mem":32.0,"gpus":0.0,"cpus":0.1,"ports":"[31000-31000]"},)"
                           R"("offered_resources":{"disk":0.0,"mem":0.0,"gpus":0.0,"cpus":3.9,"ports":"[31002-32000]"},)"
                           R"("reserved_resources":{"eng":{"disk":64.0,"mem":0.0,"gpus":0.0,"cpus":0.0}},)"));
  EXPECT_THAT(s, HasSubstr(R"({"id":"t","name":"t","framework_id":"F","executor_id":"","slave_id":"A","state":"TASK_RUNNING",)"
                           R"("resources":{"disk":0.0,"mem":32.0,"gpus":0.0,"cpus":0.1,"ports":"[31000-31000]"},"role":"*","statuses":[{"state":"TASK_RUNNING","timestamp":10.25,)"
                           R"("container_status":{"container_id":{"value":"c-t"},"network_infos":[{"ip_addresses":[{"protocol":"IPv4","ip_address":"10.0.0.1"}]}]}}]})"));
  EXPECT_THAT(s, Not(HasSubstr(R"("pid":"")")));
  EXPECT_EQ(std::count(s.begin(), s.end(), '{'), std::count(s.begin(), s.end(), '}'));
  EXPECT_EQ(std::count(s.begin(), s.end(), '['), std::count(s.begin(), s.end(), ']'));
  EXPECT_THAT(s, Not(HasSubstr(",}")));
  EXPECT_THAT(s, Not(HasSubstr(",,")));
  EXPECT_THAT(s, Not(HasSubstr("{,")));
}

TEST(Legacy, Pages) {
  Feed f;
  f.agent("A");
  f.framework("F");
  for (int i = 0; i < 5; ++i) f.task("F", "t" + std::to_string(i), S::TASK_RUNNING, 0, 10 + i);
  ASSERT_TRUE(f.piece(true, false));
  const auto ids = [&](legacy::TaskQuery q) {
    const std::string s = legacy::tasks(*f.cluster.view(), q);
    std::string out;
    for (std::size_t at = 0; (at = s.find("{\"id\":\"t", at)) != std::string::npos; ++at) out += s[at + 8];
    return out;
  };
  EXPECT_EQ(ids({}), "43210");
  EXPECT_EQ(ids({.limit = -1, .ascending = true}), "01234");
  EXPECT_EQ(ids({.limit = 2, .offset = 1, .ascending = true}), "12");
  EXPECT_EQ(ids({.limit = 2, .offset = 9}), "");
  EXPECT_EQ(ids({.task_id = "t3"}), "3");
  EXPECT_EQ(ids({.framework_id = "G"}), "");
}

TEST(Legacy, RolesAndSummaryAndSlaves) {
  Feed f;
  f.usual();
  f.task("F", "x", S::TASK_FAILED, 1, 9);
  ASSERT_TRUE(f.delta());
  const auto v = f.cluster.view();
  EXPECT_THAT(legacy::roles(*v), HasSubstr(R"({"name":"*","weight":1.0,"quota":{"role":"*","guarantee":{},"limit":{},"consumed":{"cpus":0.1,"mem":32.0,"ports":1.0}},)"
                                           R"("resources":{"cpus":4.0,"mem":32.0,"ports":1000.0},"allocated":{"cpus":0.1,"mem":32.0,"ports":1.0},)"
                                           R"("offered":{"cpus":3.9,"ports":999.0},"reserved":{},"frameworks":["F"]})"));
  EXPECT_THAT(legacy::roles(*v), HasSubstr(R"("name":"eng")"));
  EXPECT_THAT(legacy::state_summary(*v, about()), HasSubstr(R"("TASK_RUNNING":1,"TASK_KILLING":0,"TASK_FINISHED":0,"TASK_KILLED":0,"TASK_FAILED":1,)"));
  EXPECT_THAT(legacy::slaves(*v, {}), HasSubstr(R"("reserved_resources_full":{"eng":[{"name":"disk","type":"SCALAR","scalar":{"value":64.0},)"));
  EXPECT_EQ(legacy::slaves(*v, "nobody"), R"({"slaves":[],"recovered_slaves":[]})");
}

TEST(Operator, JsonAndProtobufSayTheSame) {
  Feed f;
  f.usual();
  const auto v = f.cluster.view();
  const auto a = about();
  const auto& codec = wire::Codec::get();
  using C = fb::master::CallType;
  for (const auto type : {C::GET_STATE, C::GET_TASKS, C::GET_AGENTS, C::GET_FRAMEWORKS, C::GET_EXECUTORS, C::GET_ROLES, C::GET_MASTER}) {
    SCOPED_TRACE(fb::master::EnumNameCallType(type));
    const std::string json = ops::Writer(*v, a, false).response(type), proto = ops::Writer(*v, a, true).response(type);
    const auto from_json = codec.from_json(json, "gantry.fb.master.Response");
    const auto from_proto = codec.from_protobuf(as_bytes(proto), "gantry.fb.master.Response");
    ASSERT_TRUE(from_json) << from_json.error().message << json;
    ASSERT_TRUE(from_proto) << from_proto.error().message;
    EXPECT_EQ(codec.to_json(*from_json, "gantry.fb.master.Response"), codec.to_json(*from_proto, "gantry.fb.master.Response"));
  }
}

// Every answer to a question in `view` but those in `no`, as "action object".
std::shared_ptr<const View> part_of(const std::shared_ptr<const View>& view, const std::set<std::string>& no) {
  std::set<std::pair<std::string, std::string>, std::less<>> yes;
  for (const auto& a : asks_of(*view))
    if (!no.count(a.action + " " + a.object)) yes.emplace(a.action, a.object);
  return filtered(view, Verdicts(yes));
}

TEST(Filter, FlagsAreForThoseWhoMaySeeThem) {
  Feed f;
  f.usual();
  const auto v = f.cluster.view();
  EXPECT_THAT(legacy::state(*part_of(v, {}), about()), HasSubstr(R"("flags":{"port":"5050"})"));
  EXPECT_THAT(legacy::state(*part_of(v, {"view_role eng"}), about()), HasSubstr(R"("flags":{)"));
  EXPECT_THAT(legacy::state(*part_of(v, {"view_flags "}), about()), Not(HasSubstr("flags")));
}

TEST(Filter, WhatIsReservedForARoleThatIsRefusedIsNotTold) {
  Feed f;
  f.usual();
  const auto v = f.cluster.view();
  const auto all = part_of(v, {}), part = part_of(v, {"view_role eng"});
  using C = fb::master::CallType;
  for (const bool protobuf : {false, true}) {
    EXPECT_THAT(ops::Writer(*all, about(), protobuf).response(C::GET_AGENTS), HasSubstr("eng"));
    EXPECT_THAT(ops::Writer(*part, about(), protobuf).response(C::GET_AGENTS), Not(HasSubstr("eng")));
    EXPECT_THAT(ops::Writer(*part, about(), protobuf).response(C::GET_STATE), Not(HasSubstr("eng")));
  }
  EXPECT_THAT(legacy::slaves(*all, {}), HasSubstr(R"("reserved_resources_full":{"eng":)"));
  const std::string s = legacy::slaves(*part, {});
  EXPECT_THAT(s, Not(HasSubstr("eng")));
  EXPECT_THAT(s, HasSubstr(R"("reserved_resources":{},)"));
  EXPECT_THAT(s, HasSubstr(R"("resources":{"disk":64.0,)"));  // how much there is, is no secret
  EXPECT_THAT(legacy::state(*part, about()), Not(HasSubstr("eng")));
  // Of an event.
  EXPECT_EQ(ops::agent(*v->agents.at(0))->total_resources.size(), 4u);
  EXPECT_EQ(ops::agent(*v->agents.at(0), part->verdicts)->total_resources.size(), 3u);
}

// Not one is left out of a large answer; how long it takes is in tests/bench (mesos_state_200k_tasks).
TEST(Legacy, EveryOneOfManyTasksIsTold) {
  constexpr std::size_t kTasks = 10'000;
  Feed f;
  f.agent("A");
  f.framework("F");
  for (std::size_t i = 0; i < kTasks; ++i) f.task("F", "task-" + std::to_string(i), S::TASK_RUNNING, 0, 10);
  ASSERT_TRUE(f.piece(true, false));
  const auto v = f.cluster.view();
  const std::string s = legacy::state(*v, about());
  std::size_t told = 0;
  for (auto at = s.find("\"id\":\"task-"); at != std::string::npos; at = s.find("\"id\":\"task-", at + 1)) ++told;
  EXPECT_EQ(told, kTasks);
}

}  // namespace
}  // namespace gantry::gateway_mesos
