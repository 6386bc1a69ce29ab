// Offers: made, declined, accepted, withdrawn; launches and their validation; the checked allocator.
#include "driver.hpp"

#include <cmath>

namespace gantry::master {
namespace {

TEST(Offers, TellWhereAndWhat) {
  Cluster c;
  const auto s = c.subscribe(Cluster::info());
  auto reg = Cluster::registration("cpus:2;mem:1024;ports:[31000-31009]");
  auto attribute = std::make_unique<fb::AttributeT>();
  attribute->name = "rack";
  attribute->type = fb::ValueType::TEXT;
  attribute->text = "r1";
  reg.info->attributes.push_back(std::move(attribute));
  const auto agent = c.join(1, std::move(reg));
  EXPECT_EQ(agent, "run-S0");
  const auto o = c.offers(s);
  ASSERT_EQ(o.size(), 1u);
  EXPECT_EQ(o[0].id, "run-O0");
  EXPECT_EQ(o[0].framework_id, c.id_of(s));
  EXPECT_EQ(o[0].agent_id, agent);
  EXPECT_EQ(o[0].hostname, "host");
  EXPECT_EQ(o[0].allocation_role, "*");
  ASSERT_EQ(o[0].attributes.size(), 1u);
  EXPECT_EQ(o[0].attributes[0]->text, "r1");
  const auto r = resource::from_wire(o[0].resources);
  ASSERT_TRUE(r);
  EXPECT_EQ(r->unallocated(), Resources::parse("cpus:2;mem:1024;ports:[31000-31009]").value());
  for (const auto& x : o[0].resources) EXPECT_EQ(x->allocation_role, "*");
}

TEST(Offers, OfOtherRegionsAreForFrameworksThatKnowRegions) {
  Cluster c;
  c.options.region = "eu";
  c.restart();
  const auto stands = [&](std::string region, std::string zone) {
    auto r = Cluster::registration("cpus:4;mem:4096");
    r.info->domain = std::make_unique<fb::DomainInfoT>();
    r.info->domain->fault_domain = std::make_unique<fb::FaultDomainT>();
    r.info->domain->fault_domain->region = std::move(region);
    r.info->domain->fault_domain->zone = std::move(zone);
    return r;
  };
  const auto plain = c.subscribe(Cluster::info());
  const std::string near = c.join(1, stands("eu", "a")), nowhere = c.join(2), far = c.join(3, stands("us", "a"));
  std::set<std::string> seen;
  for (const auto& o : c.offers(plain)) seen.insert(o.agent_id);
  EXPECT_EQ(seen, (std::set<std::string>{near, nowhere})) << "one without a domain stands where the master does";

  auto info = Cluster::info();
  info.capabilities.push_back(fb::FrameworkCapability::REGION_AWARE);
  const auto aware = c.subscribe(std::move(info));
  const auto offers = c.offers(aware);
  ASSERT_EQ(offers.size(), 1u);
  EXPECT_EQ(offers[0].agent_id, far);
  ASSERT_TRUE(offers[0].domain && offers[0].domain->fault_domain);
  EXPECT_EQ(offers[0].domain->fault_domain->region, "us");
  EXPECT_EQ(offers[0].domain->fault_domain->zone, "a");

  const auto why = c.core->why(c.id_of(plain), c.now);
  ASSERT_TRUE(why);
  std::string reasons;
  for (const auto& r : why->roles[0]->reasons) reasons += r;
  EXPECT_NE(reasons.find("1 of 3 agents that may be offered stand in another region"), std::string::npos) << reasons;
}

TEST(Offers, AMasterWithoutADomainTakesNoAgentThatHasOne) {
  Cluster c;
  auto r = Cluster::registration("cpus:4;mem:4096");
  r.info->domain = std::make_unique<fb::DomainInfoT>();
  r.info->domain->fault_domain = std::make_unique<fb::FaultDomainT>();
  r.info->domain->fault_domain->region = "eu";
  r.info->domain->fault_domain->zone = "a";
  EXPECT_EQ(c.join(1, std::move(r)), "");
  EXPECT_FALSE(c.join(2).empty());
}

TEST(Offers, DeclineFiltersForAsLongAsAsked) {
  for (const auto& [asked, expected] :
       std::vector<std::pair<std::optional<double>, Nanos>>{{{}, 5s}, {60.0, 60s}, {-3.0, 5s}, {std::nan(""), 5s}}) {
    Cluster c;
    const auto s = c.subscribe(Cluster::info());
    c.join(1);
    c.alive.insert(1);
    EXPECT_TRUE(c.decline(c.id_of(s), c.offers(s).at(0).id, asked));
    EXPECT_EQ(c.core->offer_count(), 0u);
    c.advance(expected - 1ms);
    EXPECT_TRUE(c.offers(s).empty());
    c.advance(2ms);
    EXPECT_EQ(c.offers(s).size(), 1u);
  }
  Cluster c;
  const auto s = c.subscribe(Cluster::info());
  c.join(1);
  EXPECT_TRUE(c.decline(c.id_of(s), c.offers(s).at(0).id, 0));
  EXPECT_EQ(c.offers(s).size(), 1u) << "0 is no filter";
}

// What a launch leaves over is offered when the tasks have had their say, and no later than that.
TEST(Offers, OfWhatALaunchLeavesOverWaitALittle) {
  CoreOptions o;
  o.launch_lull = 1ms;
  Cluster c(o);
  const auto s = c.subscribe(Cluster::info());
  const auto agent = c.join(1);
  const auto offer = c.offers(s).at(0).id;
  std::vector<fb::TaskInfoT> one;
  one.push_back(Cluster::task("t", agent, "cpus:0.1;mem:10"));
  EXPECT_TRUE(c.call(Cluster::accept(c.id_of(s), {offer}, std::move(one), 0)));
  EXPECT_EQ(c.heard<fb::link::RunTaskT>(1).size(), 1u);
  EXPECT_TRUE(c.offers(s).empty());
  c.advance(1ms);
  ASSERT_EQ(c.offers(s).size(), 1u);
}

TEST(Offers, ReviveEndsFiltersAndSuppressionSuppressStopsOffersOnly) {
  Cluster c;
  const auto r = c.run_one();
  EXPECT_TRUE(c.call(Cluster::make_call(r.framework, fb::CallType::SUPPRESS)));
  c.update(1, r.framework, "t", S::TASK_FINISHED, 2);
  EXPECT_EQ(c.updates(r.stream).size(), 1u);
  c.advance(100s);
  EXPECT_TRUE(c.offers(r.stream).empty());
  EXPECT_TRUE(c.call(Cluster::make_call(r.framework, fb::CallType::REVIVE)));
  const auto o = c.offers(r.stream);
  ASSERT_EQ(o.size(), 1u);
  EXPECT_TRUE(c.decline(r.framework, o[0].id, 1000));
  EXPECT_TRUE(c.offers(r.stream).empty());
  EXPECT_TRUE(c.call(Cluster::make_call(r.framework, fb::CallType::REVIVE)));
  EXPECT_EQ(c.offers(r.stream).size(), 1u);
}

TEST(Offers, SuppressedRolesMayBeGivenAtSubscription) {
  Cluster c;
  const auto s = c.subscribe(Cluster::info(), {"*"});
  c.join(1);
  EXPECT_TRUE(c.offers(s).empty());
}

TEST(Offers, ExpireAndCannotBeUsedThen) {
  CoreOptions o;
  o.offer_timeout = 2s;
  Cluster c(o);
  const auto s = c.subscribe(Cluster::info());
  const auto agent = c.join(1);
  c.alive.insert(1);
  const auto offer = c.offers(s).at(0).id;
  c.mirror.idle = true;
  c.advance(3s);
  const auto rescinded = c.take(s, fb::EventType::RESCIND);
  ASSERT_EQ(rescinded.size(), 1u);
  EXPECT_EQ(rescinded[0].rescind->offer_id, offer);
  EXPECT_TRUE(c.call(Cluster::accept(c.id_of(s), {offer}, {Cluster::task("t", agent)})));
  const auto u = c.updates(s);
  ASSERT_EQ(u.size(), 1u);
  EXPECT_EQ(u[0].state, S::TASK_LOST);
  EXPECT_EQ(u[0].reason, R::REASON_INVALID_OFFERS);
  EXPECT_EQ(u[0].source, fb::Source::SOURCE_MASTER);
  EXPECT_TRUE(u[0].uuid.empty());
}

TEST(Offers, InvalidOnesVoidTheAcceptAndTheValidOnesComeBack) {
  Cluster c;
  const auto s = c.subscribe(Cluster::info("f", 0, true));
  const auto a1 = c.join(1);
  c.join(2);
  const auto o = c.offers(s);
  ASSERT_EQ(o.size(), 2u);
  // Across agents; then one reused; then a duplicate; then somebody else's.
  EXPECT_TRUE(c.call(Cluster::accept("f", {o[0].id, o[1].id}, {Cluster::task("t", a1)})));
  auto u = c.updates(s);
  ASSERT_EQ(u.size(), 1u);
  EXPECT_EQ(u[0].state, S::TASK_DROPPED);
  auto back = c.offers(s);
  ASSERT_EQ(back.size(), 2u);
  EXPECT_TRUE(c.call(Cluster::accept("f", {back[0].id, back[0].id}, {Cluster::task("t", a1)})));
  EXPECT_EQ(c.updates(s).size(), 1u);
  const auto other = c.subscribe(Cluster::info("g"));
  EXPECT_TRUE(c.call(Cluster::accept("g", {back[1].id}, {Cluster::task("t", a1)})));
  EXPECT_EQ(c.updates(other).at(0).state, S::TASK_LOST);
  EXPECT_EQ(c.heard<fb::link::RunTaskT>(1).size(), 0u);
  EXPECT_EQ(c.core->task_count(), 0u);
}

TEST(Offers, SeveralOfOneAgentMayBeUsedTogether) {
  Cluster c;
  const auto s = c.subscribe(Cluster::info("f"));
  const auto agent = c.join(1, "cpus:4;mem:4096");
  auto o = c.offers(s);
  EXPECT_TRUE(c.call(Cluster::accept("f", {o[0].id}, {Cluster::task("a", agent, "cpus:3;mem:3000")}, 1000)));
  c.update(1, "f", "a", S::TASK_FINISHED, 1);
  o = c.offers(s);  // the freed part fits no filter of one cpu
  ASSERT_EQ(o.size(), 0u);
  EXPECT_TRUE(c.call(Cluster::make_call("f", fb::CallType::REVIVE)));
  o = c.offers(s);
  ASSERT_EQ(o.size(), 1u);
  EXPECT_TRUE(c.call(Cluster::accept("f", {o[0].id}, {Cluster::task("b", agent, "cpus:4;mem:4096")})));
  EXPECT_EQ(c.heard<fb::link::RunTaskT>(1).size(), 2u);
}

TEST(Offers, LeftoversAreOfferedAgainAfterTheFilter) {
  Cluster c;
  const auto s = c.subscribe(Cluster::info("f"));
  const auto agent = c.join(1);
  c.alive.insert(1);
  EXPECT_TRUE(c.call(Cluster::accept("f", {c.offers(s).at(0).id}, {Cluster::task("t", agent, "cpus:1;mem:96")}, 10)));
  EXPECT_TRUE(c.offers(s).empty());
  c.advance(11s);
  const auto o = c.offers(s);
  ASSERT_EQ(o.size(), 1u);
  EXPECT_EQ(resource::from_wire(o[0].resources)->unallocated(), Resources::parse("cpus:3;mem:4000").value());
}

TEST(Offers, GoWithTheFrameworkAndWithTheAgentsLink) {
  Cluster c;
  const auto s = c.subscribe(Cluster::info("f", 100));
  c.join(1);
  EXPECT_EQ(c.offers(s).size(), 1u);
  c.apply(LinkClosed{1});
  EXPECT_EQ(c.take(s, fb::EventType::RESCIND).size(), 1u);
  EXPECT_EQ(c.core->offer_count(), 0u);
  EXPECT_TRUE(c.offers(s).empty());
  const auto second = c.join(2);
  EXPECT_EQ(second, "run-S1");
  EXPECT_EQ(c.offers(s).size(), 1u);
  c.apply(StreamClosed{s});
  EXPECT_EQ(c.core->offer_count(), 0u);
}

TEST(Launch, SendsTheTaskWithItsFramework) {
  Cluster c;
  const auto s = c.subscribe(Cluster::info("f"));
  const auto agent = c.join(1);
  EXPECT_TRUE(c.call(Cluster::accept("f", {c.offers(s).at(0).id}, {Cluster::task("t", agent)})));
  const auto run = c.heard<fb::link::RunTaskT>(1);
  ASSERT_EQ(run.size(), 1u);
  EXPECT_EQ(run[0].framework->id, "f");
  EXPECT_EQ(run[0].framework->user, "root");
  EXPECT_EQ(run[0].task->task_id, "t");
  EXPECT_EQ(run[0].task->command->value, "sleep 1000");
  EXPECT_EQ(c.core->task_states()[static_cast<std::size_t>(S::TASK_STAGING)], 1u);
}

TEST(Launch, SeveralTasksAndOperationsRunInOrder) {
  Cluster c;
  const auto s = c.subscribe(Cluster::info("f"));
  const auto agent = c.join(1);
  auto call = Cluster::accept("f", {c.offers(s).at(0).id}, {Cluster::task("a", agent), Cluster::task("b", agent)});
  std::vector<fb::TaskInfoT> more;
  more.push_back(Cluster::task("c", agent, "cpus:2;mem:100"));
  more.push_back(Cluster::task("d", agent, "cpus:0.5;mem:1"));
  call.accept->operations.push_back(Cluster::launch_op(std::move(more)));
  EXPECT_TRUE(c.call(std::move(call)));
  const auto run = c.heard<fb::link::RunTaskT>(1);
  ASSERT_EQ(run.size(), 3u);
  EXPECT_EQ(run[0].task->task_id, "a");
  EXPECT_EQ(run[2].task->task_id, "c");
  const auto u = c.updates(s);  // d found nothing left
  ASSERT_EQ(u.size(), 1u);
  EXPECT_EQ(u[0].task_id, "d");
  EXPECT_EQ(u[0].state, S::TASK_ERROR);
}

TEST(Launch, InvalidTasksAreErrorsAndCostNothing) {
  Cluster c;
  const auto s = c.subscribe(Cluster::info("f"));
  const auto agent = c.join(1, "cpus:4;mem:4096;gpus:2");
  const auto attempt = [&](fb::TaskInfoT t, std::string_view says) {
    const auto o = c.offers(s);
    ASSERT_EQ(o.size(), 1u) << says;
    EXPECT_TRUE(c.call(Cluster::accept("f", {o[0].id}, {std::move(t)}, 0)));
    const auto u = c.updates(s);
    ASSERT_EQ(u.size(), 1u) << says;
    EXPECT_EQ(u[0].state, S::TASK_ERROR);
    EXPECT_EQ(u[0].reason, R::REASON_TASK_INVALID);
    EXPECT_EQ(u[0].source, fb::Source::SOURCE_MASTER);
    EXPECT_TRUE(u[0].uuid.empty());
    EXPECT_NE(u[0].message.find(says), std::string::npos) << u[0].message;
  };
  auto t = Cluster::task("t", agent);
  const auto fresh = [&] { return Cluster::task("t", agent); };
  (t = fresh()).command.reset();
  attempt(t, "at least one");
  (t = fresh()).executor = std::make_unique<fb::ExecutorInfoT>();
  t.executor->executor_id = "e";
  attempt(t, "not both");
  (t = fresh()).resources.clear();
  attempt(t, "no resources");
  attempt(Cluster::task("t", agent, "cpus:4.001;mem:1"), "is more than available");
  attempt(Cluster::task("t", "other"), "invalid agent");
  attempt(Cluster::task("", agent), "must not be empty");
  attempt(Cluster::task(std::string(256, 'x'), agent), "255");
  attempt(Cluster::task("a/b", agent), "invalid characters");
  attempt(Cluster::task("a\\b", agent), "invalid characters");
  attempt(Cluster::task("a\nb", agent), "invalid characters");
  attempt(Cluster::task("..", agent), "disallowed");
  (t = fresh()).kill_policy = std::make_unique<fb::KillPolicyT>();
  t.kill_policy->grace_period_ns = -1;
  attempt(t, "non-negative");
  attempt(Cluster::task("t", agent, "cpus:1;gpus:0.5"), "gpus");
  const auto limited = [&](std::string key, double v) {
    t = fresh();
    t.limits.push_back(std::make_unique<fb::ScalarEntryT>());
    t.limits[0]->key = std::move(key);
    t.limits[0]->value = v;
    return t;
  };
  attempt(limited("disk", 10), "only cpus and mem");
  attempt(limited("mem", 99), "less than its request");
  EXPECT_EQ(c.core->task_count(), 0u);
  EXPECT_TRUE(c.heard<fb::link::RunTaskT>(1).empty());
  EXPECT_TRUE(c.call(Cluster::accept("f", {c.offers(s).at(0).id}, {limited("mem", HUGE_VAL)}, 0)));
  EXPECT_TRUE(c.updates(s).empty());
  attempt(fresh(), "duplicate ID");
  auto with_id = Cluster::accept("f", {c.offers(s).at(0).id}, {Cluster::task("u", agent)}, 0);
  with_id.accept->operations[0]->id = "op";
  EXPECT_TRUE(c.call(std::move(with_id)));
  EXPECT_EQ(c.updates(s).at(0).state, S::TASK_ERROR);
}

std::unique_ptr<fb::OperationT> reservation(bool reserve, std::string_view name, double amount, std::string role,
                                            std::string principal = {}) {
  auto r = std::make_unique<fb::ResourceT>();
  r->name = name;
  r->scalar = amount;
  auto info = std::make_unique<fb::ReservationInfoT>();
  info->type = fb::ReservationType::DYNAMIC;
  info->role = std::move(role);
  info->principal = std::move(principal);
  r->reservations.push_back(std::move(info));
  auto op = std::make_unique<fb::OperationT>();
  if (reserve) {
    op->type = fb::OperationType::RESERVE;
    op->reserve = std::make_unique<fb::ReserveT>();
    op->reserve->resources.push_back(std::move(r));
  } else {
    op->type = fb::OperationType::UNRESERVE;
    op->unreserve = std::make_unique<fb::UnreserveT>();
    op->unreserve->resources.push_back(std::move(r));
  }
  return op;
}

TEST(Reserve, IsStoredFirstThenUsableByLaterOperationsAndSurvives) {
  Cluster c;
  auto info = Cluster::info("f", 1000);
  info.role = "eng";
  const auto s = c.subscribe(info);
  const auto agent = c.join(1);
  auto call = Cluster::accept("f", {c.offers(s).at(0).id}, {}, 0);
  call.accept->operations.clear();
  call.accept->operations.push_back(reservation(true, "cpus", 2, "eng"));
  auto t = Cluster::task("t", agent, "mem:10");
  auto reserved_cpu = reservation(true, "cpus", 1, "eng");
  t.resources.push_back(std::move(reserved_cpu->reserve->resources[0]));
  std::vector<fb::TaskInfoT> tasks;
  tasks.push_back(std::move(t));
  call.accept->operations.push_back(Cluster::launch_op(std::move(tasks)));
  c.hold_store = true;
  EXPECT_TRUE(c.call(std::move(call)));
  EXPECT_TRUE(c.heard<fb::link::RunTaskT>(1).empty());
  EXPECT_TRUE(c.core->check());
  c.hold_store = false;
  c.pump();
  EXPECT_TRUE(c.records.contains("reservation/" + agent));
  EXPECT_TRUE(c.updates(s).empty());
  EXPECT_EQ(c.heard<fb::link::RunTaskT>(1).size(), 1u);
  auto o = c.offers(s);
  ASSERT_EQ(o.size(), 1u);
  const auto left = resource::from_wire(o[0].resources)->unallocated();
  EXPECT_EQ(left.reserved(resource::intern_role("eng")).cpus(), resource::Scalar::of(1));
  EXPECT_EQ(left.unreserved().cpus(), resource::Scalar::of(2));

  // Another role does not see it, also after the master and the agent have come back.
  c.restart();
  const auto other = c.subscribe(Cluster::info("g", 1000));
  c.join(9, Cluster::registration("cpus:4;mem:4096", agent));
  o = c.offers(other);
  ASSERT_EQ(o.size(), 1u);
  EXPECT_EQ(resource::from_wire(o[0].resources)->cpus(), resource::Scalar::of(2));
  const auto mine = c.subscribe(info);
  o = c.offers(mine);
  ASSERT_EQ(o.size(), 1u);
  EXPECT_EQ(resource::from_wire(o[0].resources)->cpus(), resource::Scalar::of(2));
  auto undo = Cluster::accept("f", {o[0].id}, {}, 1000);
  undo.accept->operations.clear();
  undo.accept->operations.push_back(reservation(false, "cpus", 2, "eng"));
  EXPECT_TRUE(c.call(std::move(undo)));
  EXPECT_FALSE(c.records.contains("reservation/" + agent));
  EXPECT_EQ(resource::from_wire(c.offers(other).at(0).resources)->cpus(), resource::Scalar::of(2))
      << "free for all now";
}

TEST(Reserve, RefusedOnesAreDroppedAndAFullDiskGivesTheResourcesBack) {
  Cluster c;
  auto info = Cluster::info("f");
  info.role = "eng";
  info.principal = "me";
  const auto s = c.subscribe(info);
  c.join(1);
  const auto attempt = [&](std::unique_ptr<fb::OperationT> op) {
    const auto o = c.offers(s);
    ASSERT_EQ(o.size(), 1u);
    EXPECT_EQ(resource::from_wire(o[0].resources)->reserved().size(), 0u);
    auto call = Cluster::accept("f", {o[0].id}, {}, 0);
    call.accept->operations.clear();
    call.accept->operations.push_back(std::move(op));
    EXPECT_TRUE(c.call(std::move(call)));
  };
  attempt(reservation(true, "cpus", 99, "eng", "me"));
  attempt(reservation(true, "cpus", 1, "other", "me"));
  attempt(reservation(true, "cpus", 1, "eng", "you"));
  attempt(reservation(false, "cpus", 1, "eng", "me"));
  c.fail_store = true;
  attempt(reservation(true, "cpus", 1, "eng", "me"));
  EXPECT_EQ(c.offers(s).size(), 1u);
  EXPECT_EQ(c.core->counters().refused_operations, 5u);
}

TEST(Reserve, AgentLostWhileItIsStored) {
  Cluster c;
  auto info = Cluster::info("f");
  info.role = "eng";
  const auto s = c.subscribe(info);
  const auto agent = c.join(1);
  auto call = Cluster::accept("f", {c.offers(s).at(0).id}, {}, 0);
  call.accept->operations.insert(call.accept->operations.begin(), reservation(true, "cpus", 2, "eng"));
  call.accept->operations[1]->launch->task_infos.push_back(std::make_unique<fb::TaskInfoT>(Cluster::task("t", agent)));
  c.hold_store = true;
  EXPECT_TRUE(c.call(std::move(call)));
  c.agent(2, fb::link::HelloT{});
  c.agent(2, Cluster::registration("cpus:4;mem:4096", agent));  // back on a new link, with new books
  EXPECT_TRUE(c.core->check());
  c.hold_store = false;
  c.pump();
  EXPECT_EQ(c.updates(s).at(0).reason, R::REASON_INVALID_OFFERS);
  EXPECT_TRUE(c.core->check());
}

TEST(Allocator, BadGrantsAreDroppedAndCounted) {
  Cluster c;
  const auto s = c.subscribe(Cluster::info("f"));
  fb::allocator::RoundT r;
  r.grants.emplace_back(1, 1, 1, 0, 0, 0);
  r.grants.emplace_back(1, 1, 1, 0, 0, 0);     // twice the same
  r.grants.emplace_back(77, 1, 1, 0, 0, 0);    // no such agent
  r.grants.emplace_back(1, 55, 1, 0, 0, 0);    // no such framework
  r.grants.emplace_back(1, 1, 9999, 0, 0, 0);  // not its role
  r.grants.emplace_back(1, 1, 1, 5, 3, 0);     // parts that are not there
  c.forged = std::make_unique<Buffer>(pack(r));
  c.join(1);
  EXPECT_EQ(c.offers(s).size(), 1u);
  EXPECT_EQ(c.core->offer_count(), 1u);
  EXPECT_GE(c.core->counters().bad_grants, 2u);
  EXPECT_TRUE(c.core->check());
}

TEST(Allocator, PartsMayNotExceedWhatIsThere) {
  Cluster c;
  const auto s = c.subscribe(Cluster::info("f"));
  const auto round = [](std::int64_t cpus) {
    fb::allocator::RoundT r;
    r.grants.emplace_back(1, 1, 1, 0, 1, 0);
    r.parts.emplace_back(static_cast<std::uint32_t>(resource::NameId::cpus), 0, 0, 0, cpus);
    return std::make_unique<Buffer>(pack(r));
  };
  c.mirror.idle = true;
  c.forged = round(4001);
  c.join(1);
  EXPECT_TRUE(c.offers(s).empty());
  EXPECT_EQ(c.core->counters().bad_grants, 1u);
  c.forged = round(1500);
  c.advance(2s);
  const auto o = c.offers(s);
  ASSERT_EQ(o.size(), 1u);
  EXPECT_EQ(resource::from_wire(o[0].resources)->unallocated(), Resources::parse("cpus:1.5").value());
}

TEST(Allocator, MalformedRoundOrCrashTellsItEverythingAgain) {
  Cluster c;
  const auto s = c.subscribe(Cluster::info("f"));
  c.forged = std::make_unique<Buffer>(Bytes(std::vector<std::uint8_t>(12, 0xee)));
  c.join(1);
  EXPECT_TRUE(c.offers(s).empty());
  c.advance(2s);
  const auto o = c.offers(s);
  ASSERT_EQ(o.size(), 1u);
  c.round_failure = std::make_unique<Error>(fail(Code::unavailable, "crashed"));
  const auto held = c.mirror.held;
  c.join(2);
  c.mirror = {};  // it has forgotten everything
  EXPECT_TRUE(c.offers(s).empty());
  c.advance(2s);
  EXPECT_EQ(c.offers(s).size(), 1u) << "the second agent; the first is still on offer";
  EXPECT_EQ(c.mirror.agents.size(), 2u);
}

TEST(Allocator, HoldingsAreTheSumOfWhatIsOfferedAndUsed) {
  Cluster c;
  const auto r = c.run_one(Cluster::info("f", 100));
  c.mirror.idle = true;
  c.join(2);  // one more round carries what is held
  const auto cpus = [&] { return c.mirror.held[{1u, 1u, static_cast<std::uint32_t>(resource::NameId::cpus)}]; };
  EXPECT_EQ(cpus(), 1000);
  c.update(1, "f", "t", S::TASK_FINISHED, 2);
  EXPECT_EQ(cpus(), 0);
}

TEST(Allocator, WhatComesBackDuringARoundIsNotInIt) {
  Cluster c;
  const auto r = c.run_one(Cluster::info("f", 100));
  c.hold_round = true;
  EXPECT_TRUE(c.call(Cluster::make_call("f", fb::CallType::REVIVE)));  // a round goes out
  c.update(1, "f", "t", S::TASK_FINISHED, 2);
  EXPECT_TRUE(c.core->check());
  c.hold_round = false;
  c.pump();
  const auto o = c.offers(r.stream);
  ASSERT_EQ(o.size(), 2u);
  EXPECT_EQ(resource::from_wire(o[0].resources)->cpus(), resource::Scalar::of(3));
  EXPECT_EQ(resource::from_wire(o[1].resources)->cpus(), resource::Scalar::of(1));
}

TEST(Allocator, GrantsOfWhatLeftMeanwhileAreStaleNotBad) {
  Cluster c;
  const auto s = c.subscribe(Cluster::info("f", 100));
  c.hold_round = true;
  c.join(1);
  c.apply(LinkClosed{1});
  c.hold_round = false;
  c.pump();
  EXPECT_TRUE(c.offers(s).empty());
  EXPECT_EQ(c.core->counters().bad_grants, 0u);
  EXPECT_EQ(c.core->counters().stale_grants, 1u);
}

}  // namespace
}  // namespace gantry::master
