// Maintenance: the schedule, machines that are down, inverse offers.
#include "operator.hpp"

#include <gantry/operator_generated.h>

namespace gantry::master {
namespace {

using C = fb::master::CallType;
using Machines = std::vector<std::pair<std::string, std::string>>;

fb::link::RegisterT on_machine(const std::string& hostname, const std::string& address, std::string id = {}) {
  auto r = Cluster::registration("cpus:4;mem:4096", std::move(id));
  r.info->hostname = hostname;
  r.info->address = address;
  return r;
}

struct Plan {
  fb::master::MaintenanceScheduleT schedule;
  fb::master::MaintenanceStatusT status;
};
Plan plan(Cluster& c) {
  Plan out;
  for (auto& row : rows(c)) {
    if (!row.maintenance) continue;
    out.schedule = *row.maintenance->schedule;
    out.status = *row.maintenance->status;
  }
  return out;
}

std::vector<fb::InverseOfferT> inverse(Cluster& c, StreamId s) {
  std::vector<fb::InverseOfferT> out;
  for (auto& e : c.take(s, fb::EventType::INVERSE_OFFERS))
    for (auto& o : e.inverse_offers->inverse_offers) out.push_back(std::move(*o));
  return out;
}
std::vector<std::string> rescinded(Cluster& c, StreamId s) {
  std::vector<std::string> out;
  for (auto& e : c.take(s, fb::EventType::RESCIND_INVERSE_OFFER)) out.push_back(e.rescind_inverse_offer->inverse_offer_id);
  return out;
}
Status answer(Cluster& c, const std::string& framework, bool accept, const std::string& id, std::optional<double> refuse = {}) {
  auto call = Cluster::make_call(framework, accept ? fb::CallType::ACCEPT_INVERSE_OFFERS : fb::CallType::DECLINE_INVERSE_OFFERS);
  auto body = std::make_unique<fb::AnswerInverseOffersT>();
  body->inverse_offer_ids.push_back(id);
  if (refuse) {
    body->filters = std::make_unique<fb::FiltersT>();
    body->filters->refuse_seconds = *refuse;
  }
  (accept ? call.accept_inverse_offers : call.decline_inverse_offers) = std::move(body);
  return c.call(std::move(call));
}

TEST(Maintenance, OffersOfAMachineInTheScheduleSaySo) {
  Cluster c;
  const auto s = c.subscribe(Cluster::info());
  c.join(1, on_machine("Host-1", "10.0.0.1:5051"));
  c.join(2, on_machine("host-2", "10.0.0.2:5051"));
  auto before = c.offers(s);
  ASSERT_EQ(before.size(), 2u);
  EXPECT_FALSE(before[0].unavailability);
  ASSERT_TRUE(operate(c, schedule_call({{{{"host-1", "10.0.0.1"}}, 1000, 500}})));
  EXPECT_EQ(c.take(s, fb::EventType::RESCIND).size(), 1u) << "the other machine's offer stands";
  const auto o = c.offers(s);
  ASSERT_EQ(o.size(), 1u);
  EXPECT_EQ(o[0].hostname, "Host-1");
  ASSERT_TRUE(o[0].unavailability);
  EXPECT_EQ(o[0].unavailability->start_ns, 1000);
  EXPECT_EQ(*o[0].unavailability->duration_ns, 500);

  ASSERT_TRUE(operate(c, schedule_call({})));
  const auto after = c.offers(s);
  ASSERT_EQ(after.size(), 1u);
  EXPECT_FALSE(after[0].unavailability);
}

TEST(Maintenance, MachinesAreFoundByWhatIsGivenOfThem) {
  for (const auto& [machine, found] :
       std::vector<std::pair<std::pair<std::string, std::string>, bool>>{{{"HOST", "10.0.0.1"}, true},
                                                                         {{"host", ""}, true},
                                                                         {{"", "10.0.0.1"}, true},
                                                                         {{"host", "10.0.0.2"}, false},
                                                                         {{"other", ""}, false}}) {
    Cluster c;
    const auto s = c.subscribe(Cluster::info());
    ASSERT_TRUE(operate(c, schedule_call({{{machine}, 1000}})));
    c.join(1, on_machine("host", "10.0.0.1:5051"));
    EXPECT_EQ(c.offers(s).at(0).unavailability != nullptr, found) << machine.first << " " << machine.second;
  }
}

TEST(Maintenance, WrongSchedulesAreRefusedInWords) {
  Cluster c;
  const auto text = [&](const fb::master::CallT& call) {
    const Status s = operate(c, call);
    EXPECT_FALSE(s);
    if (s) return std::string();
    EXPECT_EQ(s.error().code, Code::invalid_argument);
    return s.error().message;
  };
  EXPECT_EQ(text(schedule_call({{{{"a", ""}, {"A", ""}}, 1}})), "Machine 'hostname: \"A\"\n' appears more than once in the schedule");
  EXPECT_EQ(text(schedule_call({{{{"", ""}}, 1}})), "Both 'hostname' and 'ip' for a machine are empty");
  EXPECT_EQ(text(schedule_call({{{{"a", "1.2.3.4"}}, 1, -1}})), "Unavailability 'duration' is negative");
  EXPECT_NE(text(schedule_call({{{}, 1}})), "");
  EXPECT_EQ(text(machines_call(true, {})), "List of machines is empty");
  EXPECT_EQ(text(machines_call(true, {{"a", ""}})), "Machine 'hostname: \"a\"\n' is not part of a maintenance schedule");
  ASSERT_TRUE(operate(c, schedule_call({{{{"a", ""}}, 1}})));
  EXPECT_EQ(text(machines_call(false, {{"a", ""}})), "Machine 'hostname: \"a\"\n' is not in DOWN mode and cannot be brought up");
  ASSERT_TRUE(operate(c, machines_call(true, {{"a", ""}})));
  EXPECT_EQ(text(machines_call(true, {{"a", ""}})), "Machine 'hostname: \"a\"\n' is not in DRAINING mode and cannot be brought down");
  EXPECT_EQ(text(schedule_call({})), "Machine 'hostname: \"a\"\n' is deactivated and cannot be removed from the schedule");
  EXPECT_EQ(plan(c).schedule.windows.size(), 1u);
}

TEST(Maintenance, AMachineGoesDownAndComesUpAgain) {
  Cluster c;
  const auto s = c.subscribe(Cluster::info("f"));
  const auto agent = c.join(1, on_machine("host", "10.0.0.1:5051"));
  c.join(2, on_machine("other", "10.0.0.2:5051"));
  for (const auto& o : c.offers(s)) {
    if (o.agent_id == agent) {
      ASSERT_TRUE(c.call(Cluster::accept("f", {o.id}, {Cluster::task("t", agent)})));
    }
  }
  const Machines machine = {{"host", "10.0.0.1"}};
  ASSERT_TRUE(operate(c, schedule_call({{machine, 1000}})));
  auto p = plan(c);
  ASSERT_EQ(p.status.draining_machines.size(), 1u);
  EXPECT_EQ(p.status.draining_machines[0]->id->hostname, "host");
  ASSERT_TRUE(operate(c, machines_call(true, machine)));
  EXPECT_EQ(c.heard<fb::link::ShutdownT>(1).size(), 1u);
  EXPECT_TRUE(c.heard<fb::link::ShutdownT>(2).empty());
  const auto u = c.updates(s);
  ASSERT_EQ(u.size(), 1u);
  EXPECT_EQ(u[0].state, S::TASK_LOST);
  EXPECT_EQ(c.core->agent_count(), 1u);
  p = plan(c);
  EXPECT_TRUE(p.status.draining_machines.empty());
  ASSERT_EQ(p.status.down_machines.size(), 1u);

  // Nobody registers from there, whoever leads; what still runs must end.
  c.restart();
  c.join(3, on_machine("host", "10.0.0.1:5051"));
  ASSERT_EQ(c.heard<fb::link::RefusedT>(3).size(), 1u);
  EXPECT_TRUE(c.registered_as(3).empty());
  auto with_task = c.with_tasks(agent, {Cluster::known("f", "t", agent, S::TASK_RUNNING)});
  with_task.info->hostname = "host";
  with_task.info->address = "10.0.0.1:5051";
  c.join(4, std::move(with_task));
  EXPECT_EQ(c.heard<fb::link::ShutdownT>(4).size(), 1u);

  ASSERT_TRUE(operate(c, machines_call(false, machine)));
  p = plan(c);
  EXPECT_TRUE(p.schedule.windows.empty());
  EXPECT_TRUE(p.status.down_machines.empty());
  c.join(5, on_machine("host", "10.0.0.1:5051"));
  EXPECT_FALSE(c.registered_as(5).empty());
}

TEST(Maintenance, WhoeverHoldsSomethingIsAskedOneAtATime) {
  Cluster c;
  const auto r = c.run_one(Cluster::info("f"));
  const auto idle = c.subscribe(Cluster::info("g"), {"*"});
  EXPECT_TRUE(inverse(c, r.stream).empty());
  ASSERT_TRUE(operate(c, schedule_call({{{{"host", ""}}, 1000, 5}})));
  auto asked = inverse(c, r.stream);
  ASSERT_EQ(asked.size(), 1u);
  EXPECT_EQ(asked[0].framework_id, "f");
  EXPECT_EQ(asked[0].agent_id, r.agent);
  EXPECT_EQ(asked[0].unavailability->start_ns, 1000);
  EXPECT_TRUE(asked[0].resources.empty());
  EXPECT_TRUE(inverse(c, idle).empty()) << "it holds nothing there";
  c.advance(60s);
  EXPECT_TRUE(inverse(c, r.stream).empty()) << "one is outstanding";

  ASSERT_TRUE(answer(c, "f", false, asked[0].id, 30));
  auto status = plan(c).status;
  ASSERT_EQ(status.draining_machines.at(0)->statuses.size(), 1u);
  EXPECT_EQ(status.draining_machines[0]->statuses[0]->status, fb::master::InverseOfferAnswer::DECLINE);
  EXPECT_EQ(status.draining_machines[0]->statuses[0]->framework_id, "f");
  c.advance(29s);
  EXPECT_TRUE(inverse(c, r.stream).empty());
  c.advance(2s);
  asked = inverse(c, r.stream);
  ASSERT_EQ(asked.size(), 1u);
  ASSERT_TRUE(answer(c, "f", true, asked[0].id, 1000));
  EXPECT_EQ(plan(c).status.draining_machines.at(0)->statuses.at(0)->status, fb::master::InverseOfferAnswer::ACCEPT);
  ASSERT_TRUE(c.call(Cluster::make_call("f", fb::CallType::REVIVE)));
  EXPECT_EQ(inverse(c, r.stream).size(), 1u) << "REVIVE ends these filters, too";

  // Another time: the question is another, and the old answers are void.
  ASSERT_TRUE(operate(c, schedule_call({{{{"host", ""}}, 2000}})));
  EXPECT_EQ(rescinded(c, r.stream).size(), 1u);
  asked = inverse(c, r.stream);
  ASSERT_EQ(asked.size(), 1u);
  EXPECT_EQ(asked[0].unavailability->start_ns, 2000);
  EXPECT_TRUE(plan(c).status.draining_machines.at(0)->statuses.empty());
  ASSERT_TRUE(operate(c, schedule_call({})));
  EXPECT_EQ(rescinded(c, r.stream).size(), 1u);
  EXPECT_TRUE(inverse(c, r.stream).empty());
}

TEST(Maintenance, InverseOffersEndWithTheAgentsConnectionAndComeBackWithIt) {
  Cluster c;
  const auto r = c.run_one(Cluster::info("f", 600));
  ASSERT_TRUE(operate(c, schedule_call({{{{"host", ""}}, 1000}})));
  ASSERT_EQ(inverse(c, r.stream).size(), 1u);
  c.apply(LinkClosed{1});
  EXPECT_EQ(rescinded(c, r.stream).size(), 1u);
  c.join(2, c.with_tasks(r.agent, {Cluster::known("f", "t", r.agent, S::TASK_RUNNING)}));
  EXPECT_EQ(inverse(c, r.stream).size(), 1u);
  // And with the framework's.
  c.apply(StreamClosed{r.stream});
  c.restart();
  c.join(3, c.with_tasks(r.agent, {Cluster::known("f", "t", r.agent, S::TASK_RUNNING)}));
  const auto s = c.subscribe(Cluster::info("f", 600));
  EXPECT_EQ(inverse(c, s).size(), 1u) << "the schedule outlives the master";
}

TEST(Maintenance, AnswersToInverseOffersOfOthersOrOfThePastAreIgnored) {
  Cluster c;
  const auto r = c.run_one(Cluster::info("f", 600));
  const auto g = c.subscribe(Cluster::info("g"), {"*"});
  (void)g;
  ASSERT_TRUE(operate(c, schedule_call({{{{"host", ""}}, 1000}})));
  const auto asked = inverse(c, r.stream);
  ASSERT_EQ(asked.size(), 1u);
  for (const auto& id : {asked[0].id, std::string("run-O"), std::string("run-O99999999999999999999999"), std::string("x"), std::string()})
    EXPECT_TRUE(answer(c, "g", true, id));
  EXPECT_TRUE(plan(c).status.draining_machines.at(0)->statuses.empty());
  EXPECT_TRUE(answer(c, "f", true, asked[0].id, 100));
  EXPECT_TRUE(answer(c, "f", false, asked[0].id, 100)) << "answered already";
  EXPECT_EQ(plan(c).status.draining_machines.at(0)->statuses.at(0)->status, fb::master::InverseOfferAnswer::ACCEPT);
}

TEST(Maintenance, ChangesAreJudgedByWhatTheOnesBeforeHaveMade) {
  Cluster c;
  c.hold_store = true;
  const auto a = ask(c, schedule_call({{{{"a", ""}}, 1}}));
  const auto b = ask(c, machines_call(true, {{"a", ""}}));
  const auto d = ask(c, schedule_call({}));
  EXPECT_TRUE(c.answers.empty());
  c.hold_store = false;
  c.pump();
  EXPECT_TRUE(c.answers.at(a));
  EXPECT_TRUE(c.answers.at(b));
  EXPECT_FALSE(c.answers.at(d));
  c.fail_store = true;
  EXPECT_FALSE(operate(c, machines_call(false, {{"a", ""}})));
  c.fail_store = false;
  EXPECT_EQ(plan(c).status.down_machines.size(), 1u);
}

}  // namespace
}  // namespace gantry::master
