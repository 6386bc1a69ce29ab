// Reservations, volumes, quota, weights and operations: what operators and frameworks change in the books.
#include "driver.hpp"

#include <gantry/state_generated.h>

#include <gantry/operator_generated.h>

namespace gantry::master {
namespace {

using O = fb::OperationState;
using resource::Scalar;

fb::FrameworkInfoT in_role(const std::string& role, std::string id = "f") {
  auto i = Cluster::info(std::move(id), 1000);
  i.role = role;
  return i;
}
Resources of(const fb::OfferT& o) { return resource::from_wire(o.resources)->unallocated(); }
std::vector<fb::OperationStatusT> told(Cluster& c, StreamId s) {
  std::vector<fb::OperationStatusT> out;
  for (auto& e : c.take(s, fb::EventType::UPDATE_OPERATION_STATUS)) out.push_back(std::move(*e.update_operation_status->status));
  return out;
}
std::unique_ptr<fb::OperationT> op_of(fb::OperationType type, Cluster::Amounts resources, std::string id = {}) {
  auto op = std::make_unique<fb::OperationT>();
  op->type = type;
  op->id = std::move(id);
  switch (type) {
    case fb::OperationType::RESERVE:
      op->reserve = std::make_unique<fb::ReserveT>();
      op->reserve->resources = std::move(resources);
      break;
    case fb::OperationType::CREATE:
      op->create = std::make_unique<fb::CreateVolumesT>();
      op->create->volumes = std::move(resources);
      break;
    case fb::OperationType::DESTROY:
      op->destroy = std::make_unique<fb::DestroyVolumesT>();
      op->destroy->volumes = std::move(resources);
      break;
    case fb::OperationType::GROW_VOLUME:
      op->grow_volume = std::make_unique<fb::GrowVolumeT>();
      op->grow_volume->volume = std::move(resources[0]);
      op->grow_volume->addition = std::move(resources[1]);
      break;
    default:
      break;
  }
  return op;
}
fb::CallT accept_with(const std::string& framework, const std::string& offer, std::vector<std::unique_ptr<fb::OperationT>> ops) {
  auto c = Cluster::accept(framework, {offer}, {}, 0);
  c.accept->operations = std::move(ops);
  return c;
}
template <class... T>
std::vector<std::unique_ptr<fb::OperationT>> ops(T... op) {
  std::vector<std::unique_ptr<fb::OperationT>> out;
  (out.push_back(std::move(op)), ...);
  return out;
}

TEST(Operator, ReservationsTakeOffersBackAndAreStoredBeforeTheyAreAnswered) {
  Cluster c;
  const auto s = c.subscribe(in_role("*"));
  const auto agent = c.join(1, "cpus:4;mem:4096;disk:1000");
  c.heard<fb::link::SetResourcesT>(1);
  ASSERT_EQ(c.offers(s).size(), 1u);
  c.hold_store = true;
  EXPECT_EQ(c.operate(Cluster::reserve_call(agent, Cluster::list(Cluster::amount("cpus", 1, "ops", {}, false, "p")))).error().code,
            Code::unknown)
      << "not before it is stored";
  EXPECT_EQ(c.take(s, fb::EventType::RESCIND).size(), 1u);
  const auto request = c.last_request;
  c.hold_store = false;
  c.pump();
  ASSERT_TRUE(c.answers.contains(request));
  EXPECT_TRUE(c.answers.at(request));
  const auto o = c.offers(s);
  ASSERT_GE(o.size(), 1u);
  EXPECT_EQ(of(o.back()).cpus(), Scalar::of(3)) << "the other role does not see it";
  const auto said = c.heard<fb::link::SetResourcesT>(1);
  ASSERT_EQ(said.size(), 1u);
  ASSERT_EQ(said[0].total.size(), 1u);
  EXPECT_EQ(said[0].total[0]->reservations.at(0)->role, "ops");

  // Too much: nothing is taken back for it.
  const auto refused = c.operate(Cluster::reserve_call(agent, Cluster::list(Cluster::amount("cpus", 1000, "ops"))));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::failed_precondition);
  EXPECT_EQ(refused.error().message, "cpus:3; cpus(reservations: [(DYNAMIC,ops,p)]):1; mem:4096; disk:1000 does not contain cpus:1000");
  EXPECT_TRUE(c.take(s, fb::EventType::RESCIND).empty());

  // It survives the master; and is undone.
  c.restart();
  c.join(2, Cluster::registration("cpus:4;mem:4096;disk:1000", agent));
  EXPECT_TRUE(c.operate(Cluster::reserve_call(agent, Cluster::list(Cluster::amount("cpus", 1, "ops", {}, false, "p")), true)));
  EXPECT_FALSE(c.records.contains("reservation/" + agent));
  EXPECT_EQ(c.operate(Cluster::reserve_call(agent, Cluster::list(Cluster::amount("cpus", 1, "ops", {}, false, "p")), true)).error().code,
            Code::failed_precondition);
}

TEST(Operator, WhatIsWrongWithACallIsSaid) {
  Cluster c;
  const auto agent = c.join(1, "cpus:4;mem:4096;disk:1000;disk(st):100");
  const auto bad = [&](fb::master::CallT call, std::string_view principal = {}) {
    const auto s = c.operate(std::move(call), principal);
    EXPECT_FALSE(s);
    EXPECT_EQ(s.error().code, Code::invalid_argument);
    return s.error().message;
  };
  EXPECT_EQ(bad(Cluster::reserve_call("nobody", Cluster::list(Cluster::amount("cpus", 1, "ops")))), "No agent found with specified ID");
  EXPECT_NE(bad(Cluster::reserve_call(agent, Cluster::list(Cluster::amount("cpus", 1)))).find("is not dynamically reserved"),
            std::string::npos);
  EXPECT_NE(bad(Cluster::reserve_call(agent, Cluster::list(Cluster::amount("cpus", 1, "ops", {}, false, "you"))), "me")
                .find("A reserve operation was attempted by principal 'me', but there is a reserved resource in the request with "
                      "principal 'you' set"),
            std::string::npos);
  EXPECT_NE(bad(Cluster::reserve_call(agent, {})).find("No resources specified"), std::string::npos);
  // Static reservations stay.
  auto fixed = Cluster::amount("disk", 10, "st");
  fixed->reservations[0]->type = fb::ReservationType::STATIC;
  EXPECT_NE(bad(Cluster::reserve_call(agent, Cluster::list(std::move(fixed)), true)).find("is not dynamically reserved"), std::string::npos);
  // A volume needs a reservation, and ids are unique.
  EXPECT_FALSE(c.operate(Cluster::volumes_call(agent, Cluster::list(Cluster::amount("disk", 10, {}, "v")))));
  EXPECT_TRUE(c.operate(Cluster::reserve_call(agent, Cluster::list(Cluster::amount("disk", 100, "eng")))));
  EXPECT_TRUE(c.operate(Cluster::volumes_call(agent, Cluster::list(Cluster::amount("disk", 10, "eng", "v")))));
  EXPECT_NE(bad(Cluster::volumes_call(agent, Cluster::list(Cluster::amount("disk", 10, "eng", "v")))).find("is not unique"),
            std::string::npos);
  EXPECT_NE(bad(Cluster::volumes_call(agent, Cluster::list(Cluster::amount("disk", 10, "eng", "../v")))).find("invalid"), std::string::npos);
  EXPECT_FALSE(c.operate(Cluster::reserve_call(agent, Cluster::list(Cluster::amount("disk", 100, "eng")), true))) << "under a volume";
  EXPECT_FALSE(c.operate(Cluster::volumes_call(agent, Cluster::list(Cluster::amount("disk", 11, "eng", "v")), true))) << "other size";
  EXPECT_TRUE(c.operate(Cluster::volumes_call(agent, Cluster::list(Cluster::amount("disk", 10, "eng", "v")), true)));
  EXPECT_TRUE(c.operate(Cluster::reserve_call(agent, Cluster::list(Cluster::amount("disk", 100, "eng")), true)));
}

TEST(Operator, ReservesAnewWithSource) {
  Cluster c;
  const auto agent = c.join(1, "cpus:4");
  EXPECT_TRUE(c.operate(Cluster::reserve_call(agent, Cluster::list(Cluster::amount("cpus", 2, "a")))));
  auto call = Cluster::reserve_call(agent, Cluster::list(Cluster::amount("cpus", 2, "b")));
  call.reserve_resources->source = Cluster::list(Cluster::amount("cpus", 2, "a"));
  EXPECT_TRUE(c.operate(std::move(call)));
  const auto s = c.subscribe(in_role("b"));
  EXPECT_EQ(of(c.offers(s).at(0)).reserved(resource::intern_role("b")).cpus(), Scalar::of(2));
  call = Cluster::reserve_call(agent, Cluster::list(Cluster::amount("cpus", 1, "a")));
  call.reserve_resources->source = Cluster::list(Cluster::amount("cpus", 2, "b"));
  EXPECT_FALSE(c.operate(std::move(call))) << "other amounts";
}

TEST(Operator, GrowsAndShrinksVolumes) {
  Cluster c;
  const auto agent = c.join(1, "cpus:4;disk:1000");
  EXPECT_TRUE(c.operate(Cluster::reserve_call(agent, Cluster::list(Cluster::amount("disk", 100, "eng")))));
  EXPECT_TRUE(c.operate(Cluster::volumes_call(agent, Cluster::list(Cluster::amount("disk", 40, "eng", "v")))));
  fb::master::CallT grow;
  grow.type = fb::master::CallType::GROW_VOLUME;
  grow.grow_volume = std::make_unique<fb::master::GrowVolumeT>();
  grow.grow_volume->agent_id = agent;
  grow.grow_volume->volume = Cluster::amount("disk", 40, "eng", "v");
  grow.grow_volume->addition = Cluster::amount("disk", 20, "eng");
  EXPECT_TRUE(c.operate(std::move(grow)));
  fb::master::CallT shrink;
  shrink.type = fb::master::CallType::SHRINK_VOLUME;
  shrink.shrink_volume = std::make_unique<fb::master::ShrinkVolumeT>();
  shrink.shrink_volume->agent_id = agent;
  shrink.shrink_volume->volume = Cluster::amount("disk", 60, "eng", "v");
  shrink.shrink_volume->subtract = 50;
  EXPECT_TRUE(c.operate(std::move(shrink)));
  const auto s = c.subscribe(in_role("eng"));
  const auto o = c.offers(s);
  ASSERT_EQ(o.size(), 1u);
  EXPECT_EQ(of(o[0]).persistent_volumes().disk(), Scalar::of(10));
  EXPECT_EQ(of(o[0]).reserved().disk(), Scalar::of(100));
}

TEST(Volumes, LiveThroughTasksAndAreDestroyedOnlyWhenUnused) {
  Cluster c;
  const auto s = c.subscribe(in_role("eng"));
  const auto agent = c.join(1, "cpus:4;mem:4096;disk:1000");
  c.heard<fb::link::SetResourcesT>(1);
  auto t = Cluster::task("t", agent, "mem:10");
  t.resources.push_back(Cluster::amount("disk", 64, "eng", "v"));
  t.resources.back()->disk->volume->container_path = "elsewhere";  // how it is used does not matter
  std::vector<fb::TaskInfoT> tasks;
  tasks.push_back(std::move(t));
  EXPECT_TRUE(c.call(accept_with("f", c.offers(s).at(0).id,
                                 ops(op_of(fb::OperationType::RESERVE, Cluster::list(Cluster::amount("disk", 64, "eng")), "op1"),
                                     op_of(fb::OperationType::CREATE, Cluster::list(Cluster::amount("disk", 64, "eng", "v"))),
                                     Cluster::launch_op(std::move(tasks))))));
  const auto first = told(c, s);
  ASSERT_EQ(first.size(), 1u);
  EXPECT_EQ(first[0].state, O::OPERATION_FINISHED);
  EXPECT_EQ(c.heard<fb::link::RunTaskT>(1).size(), 1u);
  const auto said = c.heard<fb::link::SetResourcesT>(1);
  ASSERT_EQ(said.size(), 2u);
  EXPECT_EQ(said[1].total.at(0)->disk->persistence->id, "v");
  auto o = c.offers(s);
  ASSERT_EQ(o.size(), 1u);
  EXPECT_TRUE(of(o[0]).persistent_volumes().empty());

  const auto destroy = [&](const std::string& offer, std::string id) {
    return c.call(accept_with("f", offer, ops(op_of(fb::OperationType::DESTROY, Cluster::list(Cluster::amount("disk", 64, "eng", "v")), std::move(id)))));
  };
  EXPECT_TRUE(destroy(o[0].id, "op2"));
  auto answer = told(c, s);
  ASSERT_EQ(answer.size(), 1u);
  EXPECT_EQ(answer[0].state, O::OPERATION_ERROR);
  EXPECT_EQ(answer[0].message, "Persistent volumes in use; on agent " + agent + " at slave(1)@ (host)");
  EXPECT_FALSE(c.operate(Cluster::volumes_call(agent, Cluster::list(Cluster::amount("disk", 64, "eng", "v")), true)));

  // The task ends, the volume stays; also over a new master, which tells the agent of it.
  c.update(1, "f", "t", S::TASK_FINISHED, 2);
  c.restart();
  const auto again = c.subscribe(in_role("eng"));
  c.join(2, Cluster::registration("cpus:4;mem:4096;disk:1000", agent));
  EXPECT_EQ(c.heard<fb::link::SetResourcesT>(2).at(0).total.size(), 1u);
  o = c.offers(again);
  ASSERT_EQ(o.size(), 1u);
  EXPECT_EQ(of(o[0]).persistent_volumes().disk(), Scalar::of(64));
  // op1 was not acknowledged.
  answer = told(c, again);
  ASSERT_EQ(answer.size(), 1u);
  EXPECT_EQ(answer[0].operation_id, "op1");
  EXPECT_EQ(answer[0].uuid, first[0].uuid);
  EXPECT_TRUE(destroy(o[0].id, "op3"));
  EXPECT_EQ(told(c, again).at(0).state, O::OPERATION_FINISHED);
  EXPECT_TRUE(c.heard<fb::link::SetResourcesT>(2).at(0).total.at(0)->disk == nullptr);
}

TEST(Volumes, SharedOnesAreOfferedWhileTheyAreInUse) {
  Cluster c;
  auto info = in_role("eng");
  info.capabilities.push_back(fb::FrameworkCapability::SHARED_RESOURCES);
  const auto s = c.subscribe(info);
  const auto agent = c.join(1, "cpus:4;mem:4096;disk:1000");
  auto t = Cluster::task("t", agent, "mem:10");
  t.resources.push_back(Cluster::amount("disk", 64, "eng", "v", true));
  std::vector<fb::TaskInfoT> tasks;
  tasks.push_back(std::move(t));
  EXPECT_TRUE(c.call(accept_with("f", c.offers(s).at(0).id,
                                 ops(op_of(fb::OperationType::RESERVE, Cluster::list(Cluster::amount("disk", 64, "eng"))),
                                     op_of(fb::OperationType::CREATE, Cluster::list(Cluster::amount("disk", 64, "eng", "v", true))),
                                     Cluster::launch_op(std::move(tasks))))));
  EXPECT_EQ(c.heard<fb::link::RunTaskT>(1).size(), 1u);
  const auto o = c.offers(s);
  ASSERT_EQ(o.size(), 1u);
  EXPECT_EQ(of(o[0]).shared().size(), 1u);
  EXPECT_TRUE(c.call(accept_with("f", o[0].id, ops(op_of(fb::OperationType::DESTROY, Cluster::list(Cluster::amount("disk", 64, "eng", "v", true)), "d")))));
  EXPECT_EQ(told(c, s).at(0).state, O::OPERATION_ERROR);
}

TEST(Operations, AreToldUntilTheyAreAcknowledged) {
  Cluster c;
  const auto s = c.subscribe(in_role("eng"));
  const auto agent = c.join(1, "cpus:4");
  c.alive.insert(1);
  EXPECT_TRUE(c.call(accept_with("f", c.offers(s).at(0).id, ops(op_of(fb::OperationType::RESERVE, Cluster::list(Cluster::amount("cpus", 1, "eng")), "op")))));
  const auto first = told(c, s);
  ASSERT_EQ(first.size(), 1u);
  ASSERT_EQ(first[0].uuid.size(), 16u);
  c.advance(31s);
  const auto repeated = told(c, s);
  ASSERT_EQ(repeated.size(), 2u) << "after 10 s, then 20 s";
  EXPECT_EQ(repeated[1].uuid, first[0].uuid);
  const auto acknowledge = [&](std::string id, std::vector<std::uint8_t> uuid) {
    auto a = Cluster::make_call("f", fb::CallType::ACKNOWLEDGE_OPERATION_STATUS);
    a.acknowledge_operation_status = std::make_unique<fb::AcknowledgeOperationStatusT>();
    a.acknowledge_operation_status->operation_id = std::move(id);
    a.acknowledge_operation_status->uuid = std::move(uuid);
    EXPECT_TRUE(c.call(std::move(a)));
  };
  acknowledge("other", first[0].uuid);
  acknowledge("op", Cluster::uuid(9));
  c.advance(60s);
  EXPECT_FALSE(told(c, s).empty());
  acknowledge("op", first[0].uuid);
  c.advance(3600s);
  EXPECT_TRUE(told(c, s).empty());
  for (const auto& [key, value] : c.records) EXPECT_NE(key.substr(0, 10), "operation/");
}

TEST(Operations, OfARemovedFrameworkAreForgotten) {
  Cluster c;
  const auto s = c.subscribe(in_role("eng"));
  c.join(1, "cpus:4");
  EXPECT_TRUE(c.call(accept_with("f", c.offers(s).at(0).id, ops(op_of(fb::OperationType::RESERVE, Cluster::list(Cluster::amount("cpus", 1, "eng")), "op")))));
  fb::master::CallT teardown;
  teardown.type = fb::master::CallType::TEARDOWN;
  teardown.teardown = std::make_unique<fb::master::TeardownT>();
  teardown.teardown->framework_id = "f";
  EXPECT_TRUE(c.operate(std::move(teardown)));
  EXPECT_TRUE(c.ended.contains(s));
  for (const auto& [key, value] : c.records) EXPECT_NE(key.substr(0, 10), "operation/");
  teardown.teardown = std::make_unique<fb::master::TeardownT>();
  teardown.type = fb::master::CallType::TEARDOWN;
  teardown.teardown->framework_id = "f";
  EXPECT_EQ(c.operate(std::move(teardown)).error().message, "No framework found with specified ID");
}

// The fake allocator knows nothing of quota.
TEST(Quota, LimitsHoldWhateverTheAllocatorDoes) {
  Cluster c;
  const auto s = c.subscribe(in_role("eng/web"));
  EXPECT_TRUE(c.operate(Cluster::quota_call("eng", {{"cpus", 3}, {"mem", 5000}})));
  c.join(1, "cpus:4;mem:4096;gpus:1");
  c.join(2, "cpus:4;mem:4096");
  c.advance(20s);
  Resources all;
  for (const auto& o : c.offers(s)) all += of(o);
  EXPECT_LE(all.cpus(), Scalar::of(3));
  EXPECT_EQ(all.cpus(), Scalar::of(3));
  EXPECT_LE(all.mem(), Scalar::of(5000));
  EXPECT_EQ(all.gpus(), Scalar::of(1)) << "others are not limited";
  EXPECT_GT(c.core->counters().trimmed_grants, 0u);
  // No quota again: everything comes.
  EXPECT_TRUE(c.operate(Cluster::quota_call("eng", {})));
  c.advance(20s);
  for (const auto& o : c.offers(s)) all += of(o);
  EXPECT_EQ(all.cpus(), Scalar::of(8));
}

TEST(Quota, ReservationsCountAndOffersBeyondItAreTakenBack) {
  Cluster c;
  const auto s = c.subscribe(in_role("eng"));
  const auto agent = c.join(1, "cpus:4;mem:4096");
  ASSERT_EQ(c.offers(s).size(), 1u);
  EXPECT_TRUE(c.operate(Cluster::reserve_call(agent, Cluster::list(Cluster::amount("cpus", 2, "eng")))));
  c.offers(s);
  c.take(s, fb::EventType::RESCIND);
  const auto low = c.operate(Cluster::quota_call("eng", {{"cpus", 1}}));
  ASSERT_FALSE(low);
  EXPECT_EQ(low.error().code, Code::invalid_argument);
  EXPECT_NE(low.error().message.find("already consuming {'cpus': 2}"), std::string::npos) << low.error().message;
  EXPECT_TRUE(c.operate(Cluster::quota_call("eng", {{"cpus", 3}})));
  EXPECT_EQ(c.take(s, fb::EventType::RESCIND).size(), 1u) << "two and two were on offer";
  c.advance(20s);
  Resources all;
  for (const auto& o : c.offers(s)) all += of(o);
  EXPECT_EQ(all.cpus(), Scalar::of(1)) << "the two reserved ones are on offer still";
  EXPECT_TRUE(c.operate(Cluster::quota_call("eng", {{"cpus", 1}}, {}, true))) << "force";
}

TEST(Quota, AllOrNothingAndValidated) {
  Cluster c;
  c.join(1, "cpus:4;mem:4096");
  const auto bad = [&](fb::master::CallT call) {
    const auto s = c.operate(std::move(call));
    EXPECT_FALSE(s);
    return s.error().message;
  };
  EXPECT_EQ(bad(Cluster::quota_call("r", {{"cpus", -1}})),
            "Invalid QuotaConfig: Invalid limit configuration {'cpus': -1}: Negative values not supported");
  EXPECT_NE(bad(Cluster::quota_call("*", {{"cpus", 1}})).find("default role '*'"), std::string::npos);
  EXPECT_NE(bad(Cluster::quota_call("a b", {{"cpus", 1}})).find("Invalid 'QuotaConfig.role'"), std::string::npos);
  EXPECT_NE(bad(Cluster::quota_call("r", {{"cpus", 1}}, {{"cpus", 2}})).find("is not contained within"), std::string::npos);
  auto two = Cluster::quota_call("good", {{"cpus", 1}});
  Cluster::add_quota(two, "bad", {{"cpus", -1}});
  EXPECT_FALSE(c.operate(std::move(two)));
  for (const auto& [key, value] : c.records) EXPECT_NE(key.substr(0, 6), "quota/");
  EXPECT_NE(bad(Cluster::quota_call("r", {}, {{"cpus", 5}})).find("more than the cluster has"), std::string::npos);
  EXPECT_TRUE(c.operate(Cluster::quota_call("r", {}, {{"cpus", 5}}, true)));
  EXPECT_FALSE(c.operate(Cluster::quota_call("r/a", {}, {{"cpus", 6}}, true))) << "more than its parent's";
  EXPECT_TRUE(c.operate(Cluster::quota_call("r/a", {}, {{"cpus", 2}}, true)));
  EXPECT_TRUE(c.records.contains("quota/r"));
  c.restart();
  EXPECT_FALSE(c.operate(Cluster::quota_call("r/b", {}, {{"cpus", 4}}, true))) << "remembered";
  fb::master::CallT remove;
  remove.type = fb::master::CallType::REMOVE_QUOTA;
  remove.remove_quota = std::make_unique<fb::master::RemoveQuotaT>();
  remove.remove_quota->role = "nobody";
  EXPECT_EQ(c.operate(std::move(remove)).error().code, Code::invalid_argument);
  remove = {};
  remove.type = fb::master::CallType::REMOVE_QUOTA;
  remove.remove_quota = std::make_unique<fb::master::RemoveQuotaT>();
  remove.remove_quota->role = "r/a";
  EXPECT_TRUE(c.operate(std::move(remove)));
  EXPECT_FALSE(c.records.contains("quota/r%2Fa"));
}

TEST(Weights, AreValidatedStoredAndTold) {
  Cluster c;
  const auto s = c.subscribe(in_role("eng"));
  c.join(1, "cpus:4");
  ASSERT_EQ(c.offers(s).size(), 1u);
  const auto weights = [](const std::string& role, double w) {
    fb::master::CallT call;
    call.type = fb::master::CallType::UPDATE_WEIGHTS;
    call.update_weights = std::make_unique<fb::master::UpdateWeightsT>();
    auto info = std::make_unique<fb::ops::WeightInfoT>();
    info->role = role;
    info->weight = w;
    call.update_weights->weight_infos.push_back(std::move(info));
    return call;
  };
  EXPECT_EQ(c.operate(weights("r", -1)).error().message,
            "Failed to validate update weights request JSON for role 'r': Invalid weight '-1': Weights must be positive");
  EXPECT_TRUE(c.operate(weights("unused", 2)));
  EXPECT_TRUE(c.take(s, fb::EventType::RESCIND).empty());
  EXPECT_TRUE(c.operate(weights("eng", 2)));
  EXPECT_EQ(c.take(s, fb::EventType::RESCIND).size(), 1u) << "shared out by the old weights";
  c.restart();
  c.core->follow(true);
  Core::SnapshotCursor cursor;
  std::map<std::string, double> seen;
  while (cursor.stage < Core::kSnapshotStages) {
    const auto chunk = unpack<fb::state::Chunk>(c.core->snapshot(cursor, 1 << 20, nullptr));
    ASSERT_TRUE(chunk);
    for (const auto& change : chunk->changes)
      if (change->role) seen[change->role->name] = change->role->weight;
  }
  EXPECT_EQ(seen, (std::map<std::string, double>{{"eng", 2}, {"unused", 2}}));
}

TEST(Operator, AFullDiskChangesNothing) {
  Cluster c;
  const auto s = c.subscribe(in_role("eng"));
  const auto agent = c.join(1, "cpus:4");
  c.fail_store = true;
  const auto r = c.operate(Cluster::reserve_call(agent, Cluster::list(Cluster::amount("cpus", 2, "eng"))));
  EXPECT_EQ(r.error().code, Code::unavailable);
  EXPECT_FALSE(c.operate(Cluster::quota_call("eng", {{"cpus", 1}})));
  c.fail_store = false;
  c.advance(5s);
  EXPECT_FALSE(c.records.contains("reservation/" + agent));
  Resources all;
  for (const auto& o : c.offers(s)) all += of(o);
  EXPECT_TRUE(all.reserved().empty());
}

TEST(Volumes, OneOfNoSizeIsRefusedAndNothingElse) {
  Cluster c;
  const auto agent = c.join(1, "cpus:4;disk:1024");
  for (const double size : {0.0, 0.0004}) {
    for (const bool grow : {true, false}) {
      fb::master::CallT call;
      auto volume = Cluster::amount("disk", size, "eng", "v");
      if (grow) {
        call.type = fb::master::CallType::GROW_VOLUME;
        call.grow_volume = std::make_unique<fb::master::GrowVolumeT>();
        call.grow_volume->agent_id = agent;
        call.grow_volume->volume = std::move(volume);
        call.grow_volume->addition = Cluster::amount("disk", 64, "eng");
      } else {
        call.type = fb::master::CallType::SHRINK_VOLUME;
        call.shrink_volume = std::make_unique<fb::master::ShrinkVolumeT>();
        call.shrink_volume->agent_id = agent;
        call.shrink_volume->volume = std::move(volume);
        call.shrink_volume->subtract = 64;
      }
      const auto r = c.operate(std::move(call));
      ASSERT_FALSE(r);
      EXPECT_EQ(r.error().code, Code::invalid_argument) << r.error().message;
      EXPECT_NE(r.error().message.find("greater than zero"), std::string::npos) << r.error().message;
    }
  }
}

// Found by RandomOperator: the books of an agent that is being marked unreachable are open until that is stored.
TEST(Operator, ABookingFailsWhileItsAgentIsBeingMarkedUnreachable) {
  Cluster c;
  const auto s = c.subscribe(in_role("eng"));
  const auto agent = c.join(1, "cpus:4");
  c.hold_store = true;
  const RequestId r = ++c.last_request;
  const Buffer call = pack(Cluster::reserve_call(agent, Cluster::list(Cluster::amount("cpus", 1, "eng"))));
  c.apply(OperatorCall{r, {}, call});
  for (unsigned i = 0; i <= c.options.ping_misses; ++i) c.advance(c.options.ping_interval);
  c.hold_store = false;
  c.fail_store = true;
  c.pump();  // neither the booking nor that the agent is away; the driver checks the books
  c.fail_store = false;
  ASSERT_TRUE(c.answers.contains(r));
  EXPECT_EQ(c.answers.at(r).error().code, Code::unavailable);
  const auto books = c.core->check();
  EXPECT_TRUE(books) << books.error().message;
  (void)s;
}

}  // namespace
}  // namespace gantry::master
