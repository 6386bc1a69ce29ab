// What frameworks written for Mesos rely on in calls: words, UPDATE_FRAMEWORK, operations and what is told of them.
#include "driver.hpp"

namespace gantry::master {
namespace {

using C = fb::FrameworkCapability;
using O = fb::OperationState;

std::vector<fb::OperationStatusT> operations(Cluster& c, StreamId s) {
  std::vector<fb::OperationStatusT> out;
  for (auto& e : c.take(s, fb::EventType::UPDATE_OPERATION_STATUS))
    out.push_back(std::move(*e.update_operation_status->status));
  return out;
}

fb::FrameworkInfoT modern(std::vector<std::string> roles, std::string id = {}) {
  auto i = Cluster::info(std::move(id), 100, true);
  i.capabilities.push_back(C::MULTI_ROLE);
  i.roles = std::move(roles);
  return i;
}

fb::CallT update_call(fb::FrameworkInfoT i, std::vector<std::string> suppressed = {}) {
  auto call = Cluster::make_call(i.id, fb::CallType::UPDATE_FRAMEWORK);
  call.update_framework = std::make_unique<fb::UpdateFrameworkT>();
  call.update_framework->framework_info = std::make_unique<fb::FrameworkInfoT>(std::move(i));
  call.update_framework->suppressed_roles = std::move(suppressed);
  return call;
}

std::unique_ptr<fb::OperationT> reserve(std::string id, std::string role) {
  auto op = std::make_unique<fb::OperationT>();
  op->type = fb::OperationType::RESERVE;
  op->id = std::move(id);
  op->reserve = std::make_unique<fb::ReserveT>();
  op->reserve->resources = wire("cpus:1");
  auto r = std::make_unique<fb::ReservationInfoT>();
  r->role = std::move(role);
  r->type = fb::ReservationType::DYNAMIC;
  op->reserve->resources[0]->reservations.push_back(std::move(r));
  return op;
}

TEST(Calls, RolesAreRefusedInKnownWords) {
  Cluster c;
  const auto refused = [&](std::string role) {
    auto i = Cluster::info();
    i.role = std::move(role);
    return c.error(c.subscribe(std::move(i)));
  };
  const std::string p = "'FrameworkInfo.role' is not a valid role: ";
  EXPECT_EQ(refused("bad role"),
            p + "Role component 'bad role' is invalid because it contains backspace or whitespace");
  EXPECT_EQ(refused("a/-b"), p + "Role component '-b' is invalid because it begins with a dash");
  EXPECT_EQ(refused("a/../b"), p + "Role component '..' is invalid");
  EXPECT_EQ(refused("/a"), p + "Role '/a' cannot start with a slash");
  EXPECT_EQ(refused("a/"), p + "Role 'a/' cannot end with a slash");
  EXPECT_EQ(refused("a//b"), p + "Role 'a//b' cannot contain two adjacent slashes");
  EXPECT_EQ(refused("eng/web"), "");
}

TEST(Calls, ThePrincipalOfAFrameworkIsForLife) {
  Cluster c;
  auto i = Cluster::info("f", 100);
  i.principal = "alice";
  c.subscribe(i);
  i.principal = "bob";
  const auto s = c.subscribe(i);
  EXPECT_EQ(c.error(s), "Changing framework's principal is not allowed");
  EXPECT_TRUE(c.kill("f", "x"));  // the first stream is as it was
}

TEST(Calls, UpdateFrameworkTakesOffersOfLeftRolesBack) {
  Cluster c;
  const auto s = c.subscribe(modern({"a"}));
  const auto id = c.id_of(s);
  c.join(1);
  const auto before = c.offers(s);
  ASSERT_EQ(before.size(), 1u);
  EXPECT_TRUE(c.call(update_call(modern({"b"}, id))));
  const auto rescinded = c.take(s, fb::EventType::RESCIND);
  ASSERT_EQ(rescinded.size(), 1u);
  EXPECT_EQ(rescinded[0].rescind->offer_id, before[0].id);
  const auto now = c.offers(s);
  ASSERT_EQ(now.size(), 1u);
  EXPECT_EQ(now[0].allocation_role, "b");
  c.restart();  // it is stored
  const auto again = c.subscribe(modern({"b"}, id));
  EXPECT_EQ(c.id_of(again), id);
}

TEST(Calls, UpdateFrameworkIsAllOrNothing) {
  Cluster c;
  const auto s = c.subscribe(modern({"a"}));
  const auto id = c.id_of(s);
  const auto refused = [&](auto change) {
    auto i = modern({"b"}, id);
    change(i);
    auto call = update_call(std::move(i));
    call.framework_id = id;
    return c.call(std::move(call)).error().message;
  };
  EXPECT_EQ(refused([](auto& i) { i.user = "nobody"; }), "Updating 'FrameworkInfo.user' is unsupported");
  EXPECT_EQ(refused([](auto& i) { i.checkpoint = false; }), "Updating 'FrameworkInfo.checkpoint' is unsupported");
  EXPECT_EQ(refused([](auto& i) { i.principal = "x"; }), "Changing framework's principal is not allowed");
  EXPECT_NE(refused([](auto& i) { i.roles = {"b", "b"}; }), "");
  EXPECT_NE(refused([](auto& i) { i.id = "other"; }), "");
  c.fail_store = true;
  EXPECT_EQ(c.call(update_call(modern({"b"}, id))).error().code, Code::resource_exhausted);
  c.fail_store = false;
  c.join(1);
  EXPECT_EQ(c.offers(s).at(0).allocation_role, "a");
}

TEST(Calls, UpdateFrameworkSuppressesAndRevives) {
  Cluster c;
  const auto s = c.subscribe(modern({"a"}));
  const auto id = c.id_of(s);
  EXPECT_TRUE(c.call(update_call(modern({"a"}, id), {"a"})));
  c.join(1);
  EXPECT_TRUE(c.offers(s).empty());
  EXPECT_TRUE(c.call(update_call(modern({"a"}, id))));
  c.advance(2s);
  EXPECT_EQ(c.offers(s).size(), 1u);
}

TEST(Calls, OperationsWithAnIdAreToldOf) {
  Cluster c;
  const auto s = c.subscribe(modern({"eng"}));
  const auto id = c.id_of(s);
  const auto agent = c.join(1);
  auto accept = Cluster::accept(id, {c.offers(s).at(0).id}, {}, 0);
  accept.accept->operations.clear();
  accept.accept->operations.push_back(reserve("good", "eng"));
  accept.accept->operations.push_back(reserve("bad", "other"));
  accept.accept->operations.push_back(reserve("", "other"));  // no id, no word
  auto unknown = std::make_unique<fb::OperationT>();
  unknown->type = fb::OperationType::CREATE_DISK;
  unknown->id = "unknown";
  accept.accept->operations.push_back(std::move(unknown));
  EXPECT_TRUE(c.call(std::move(accept)));
  const auto told = operations(c, s);
  ASSERT_EQ(told.size(), 3u);
  EXPECT_EQ(told[0].operation_id, "good");
  EXPECT_EQ(told[0].state, O::OPERATION_FINISHED);
  EXPECT_EQ(told[0].agent_id, agent);
  EXPECT_EQ(told[0].uuid.size(), 16u);
  EXPECT_TRUE(told[1].uuid.empty());  // nothing to acknowledge
  EXPECT_EQ(told[1].operation_id, "bad");
  EXPECT_EQ(told[1].state, O::OPERATION_ERROR);
  EXPECT_FALSE(told[1].message.empty());
  EXPECT_EQ(told[2].operation_id, "unknown");
  EXPECT_EQ(told[2].state, O::OPERATION_ERROR);
}

TEST(Calls, OperationsThatCouldNotBeStoredHaveFailed) {
  Cluster c;
  const auto s = c.subscribe(modern({"eng"}));
  c.join(1);
  auto accept = Cluster::accept(c.id_of(s), {c.offers(s).at(0).id}, {}, 0);
  accept.accept->operations.clear();
  accept.accept->operations.push_back(reserve("op", "eng"));
  c.fail_store = true;
  EXPECT_TRUE(c.call(std::move(accept)));
  const auto told = operations(c, s);
  ASSERT_EQ(told.size(), 1u);
  EXPECT_EQ(told[0].state, O::OPERATION_FAILED);
}

TEST(Calls, OperationsOnInvalidOffersAreErrors) {
  Cluster c;
  const auto s = c.subscribe(modern({"eng"}));
  auto accept = Cluster::accept(c.id_of(s), {"stale"}, {Cluster::task("t", "a")});
  accept.accept->operations.push_back(reserve("op", "eng"));
  EXPECT_TRUE(c.call(std::move(accept)));
  EXPECT_EQ(operations(c, s).at(0).state, O::OPERATION_ERROR);
  EXPECT_EQ(c.updates(s).at(0).message, "Task launched with invalid offers: Offer stale is no longer valid");
}

TEST(Calls, OperationsAreReconciled) {
  Cluster c;
  const auto s = c.subscribe(modern({"eng"}));
  const auto agent = c.join(1);
  auto call = Cluster::make_call(c.id_of(s), fb::CallType::RECONCILE_OPERATIONS);
  call.reconcile_operations = std::make_unique<fb::ReconcileOperationsT>();
  for (const auto& where : {agent, std::string("nowhere"), std::string()}) {
    auto o = std::make_unique<fb::ReconcileOperationT>();
    o->operation_id = "op";
    o->agent_id = where;
    call.reconcile_operations->operations.push_back(std::move(o));
  }
  EXPECT_TRUE(c.call(std::move(call)));
  const auto told = operations(c, s);
  ASSERT_EQ(told.size(), 3u);
  EXPECT_EQ(told[0].state, O::OPERATION_DROPPED);
  EXPECT_EQ(told[1].state, O::OPERATION_UNKNOWN);
  EXPECT_EQ(told[2].state, O::OPERATION_UNKNOWN);
}

TEST(Calls, TaskGroupsAreRefusedWhole) {
  Cluster c;
  const auto s = c.subscribe(modern({"eng"}));
  const auto agent = c.join(1);
  auto accept = Cluster::accept(c.id_of(s), {c.offers(s).at(0).id}, {}, 0);
  auto& op = *accept.accept->operations[0];
  op.type = fb::OperationType::LAUNCH_GROUP;
  op.launch.reset();
  op.launch_group = std::make_unique<fb::LaunchGroupT>();
  op.launch_group->executor = std::make_unique<fb::ExecutorInfoT>();
  for (const char* t : {"a", "b"})
    op.launch_group->task_infos.push_back(std::make_unique<fb::TaskInfoT>(Cluster::task(t, agent)));
  EXPECT_TRUE(c.call(std::move(accept)));
  const auto told = c.updates(s);
  ASSERT_EQ(told.size(), 2u);
  for (const auto& u : told) {
    EXPECT_EQ(u.state, S::TASK_ERROR);
    EXPECT_EQ(u.reason, R::REASON_TASK_GROUP_INVALID);
  }
  EXPECT_EQ(c.core->task_count(), 0u);
  c.advance(2s);
  EXPECT_EQ(c.offers(s).size(), 1u);  // nothing was lost
}

TEST(Calls, TasksThatAskTooMuchAreToldTheNumbers) {
  Cluster c;
  const auto s = c.subscribe(Cluster::info());
  const auto agent = c.join(1, "cpus:0.1;mem:32");
  EXPECT_TRUE(c.call(Cluster::accept(c.id_of(s), {c.offers(s).at(0).id}, {Cluster::task("t", agent, "cpus:1000")})));
  EXPECT_EQ(c.updates(s).at(0).message,
            "Total resources cpus(allocated: *):1000 required by task and its executor is more than available "
            "cpus(allocated: *):0.1; mem(allocated: *):32");
}

TEST(Calls, ARepetitionForTheMastersSakeIsNotForwarded) {
  Cluster c;
  const auto r = c.run_one(Cluster::info({}, 100));
  c.update(1, r.framework, "t", S::TASK_RUNNING, 2);
  EXPECT_EQ(c.updates(r.stream).size(), 1u);
  // The task has ended behind that update: the master gets to know, and gives the resources on.
  c.update(1, r.framework, "t", S::TASK_RUNNING, 2, S::TASK_FINISHED);
  EXPECT_TRUE(c.updates(r.stream).empty());
  c.advance(6s);  // past the filter of its ACCEPT
  EXPECT_FALSE(c.offers(r.stream).empty());
  // What comes again later comes through.
  c.update(1, r.framework, "t", S::TASK_RUNNING, 2, S::TASK_FINISHED);
  EXPECT_EQ(c.updates(r.stream).size(), 1u);
}

}  // namespace
}  // namespace gantry::master
