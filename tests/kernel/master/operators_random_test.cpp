// Random lives with an operator in them, who drains, deactivates, reactivates, gives up agents and plans maintenance.
#include "life.hpp"

#include <gantry/state_generated.h>

#include <gantry/operator_generated.h>
#include "operator.hpp"

namespace gantry::master {
namespace {

using C = fb::master::CallType;

struct Operated : Life {
  using Life::Life;
  std::set<std::string> draining;  // what the fake agents were told

  // Agents obey; one that is gone or was shut down with its machine is a new one from then on.
  void obey() {
    std::set<std::string> known;
    for (auto& row : rows(c))
      if (row.agent && row.agent->standing != fb::state::Standing::GONE) known.insert(unpack<fb::AgentInfo>(row.agent->info)->id);
    for (auto& a : agents) {
      if (a.link && c.heard<fb::link::EndDrainT>(a.link).size()) draining.erase(a.id);
      if (a.link && c.heard<fb::link::DrainT>(a.link).size()) draining.insert(a.id);
      if (!a.id.empty() && !known.contains(a.id)) {
        if (a.link) c.apply(LinkClosed{a.link});
        draining.erase(a.id);
        a = {};
      } else if (draining.contains(a.id)) {
        std::vector<std::string> running;
        for (const auto& [id, t] : a.tasks)
          if (!terminal(t.second)) running.push_back(id);
        for (const auto& id : running) end(a, id, S::TASK_KILLED);
      }
    }
  }
  void act() {
    const FakeAgent& a = agents[pick(agents.size())];
    fb::master::CallT call;
    switch (pick(12)) {
      case 0: call = drain_call(a.id, pick(2) ? std::optional<std::int64_t>(pick(5)) : std::nullopt, pick(6) == 0); break;
      case 1: call = one_agent(C::DEACTIVATE_AGENT, a.id); break;
      case 2:
      case 3:
      case 4: call = one_agent(C::REACTIVATE_AGENT, a.id); break;
      case 5: call = one_agent(C::MARK_AGENT_GONE, pick(4) ? "nobody" : a.id); break;
      case 6: call = schedule_call({{{{"host", ""}}, 1000 + static_cast<std::int64_t>(pick(3))}}); break;
      case 7: call = schedule_call({}); break;
      case 8: call = machines_call(true, {{"host", ""}}); break;
      default: call = machines_call(false, {{"host", ""}});
    }
    asked.push_back(ask(c, call));
  }
  void live() {
    step();
    if (pick(4) == 0) act();
    c.pump();
    obey();
    for (auto& f : frameworks) {
      if (!f.stream) continue;
      for (auto& e : c.take(f.stream, fb::EventType::INVERSE_OFFERS))
        for (auto& o : e.inverse_offers->inverse_offers) {
          ++inverse;
          if (pick(3) == 0 || c.ended.contains(f.stream)) continue;
          auto call = Cluster::make_call(f.id, fb::CallType::DECLINE_INVERSE_OFFERS);
          call.decline_inverse_offers = std::make_unique<fb::AnswerInverseOffersT>();
          call.decline_inverse_offers->inverse_offer_ids.push_back(o->id);
          (void)c.call(std::move(call));
        }
    }
    listen();
  }
  std::vector<RequestId> asked;
  int inverse = 0;
};

TEST(RandomOperator, BooksHoldAndEveryCallIsAnswered) {
  int inverse = 0, drained = 0;
  for (unsigned seed = 1; seed <= 60 && !testing::Test::HasFatalFailure(); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Operated life(seed);
    life.c.core->follow(true);
    for (int i = 0; i < 250 && !testing::Test::HasFatalFailure(); ++i) {
      const auto before = life.runs;
      life.live();
      if (life.runs != before) life.asked.clear();  // their master died
      if (life.c.core->followed()) (void)life.c.core->take_changes();
    }
    // Everything goes back to normal.
    life.c.hold_store = life.c.hold_round = life.c.fail_store = false;
    life.c.pump();
    for (const RequestId r : life.asked) ASSERT_TRUE(life.c.answers.contains(r));
    (void)operate(life.c, machines_call(false, {{"host", ""}}));
    ASSERT_TRUE(operate(life.c, schedule_call({})));
    for (int i = 0; i < 5; ++i) life.settle(), life.obey(), life.c.pump(), life.listen(), life.c.advance(2s);  // what failed is tried again
    life.settle();
    for (auto& row : rows(life.c)) {
      if (!row.agent || row.agent->standing != fb::state::Standing::REGISTERED || !row.agent->drain) continue;
      if (row.agent->connected) {
        ASSERT_EQ(row.agent->drain->state, fb::ops::DrainState::DRAINED);
        ++drained;
      }
      ASSERT_FALSE(row.agent->unavailability);
    }
    for (auto& a : life.agents)
      if (!a.id.empty()) (void)operate(life.c, one_agent(C::REACTIVATE_AGENT, a.id));
    life.settle();
    const auto books = life.c.core->check();
    ASSERT_TRUE(books) << books.error().message;
    for (auto& row : rows(life.c)) {
      if (row.agent && row.agent->standing == fb::state::Standing::REGISTERED && row.agent->connected) {
        ASSERT_TRUE(row.agent->active);
      }
    }
    inverse += life.inverse;
  }
  EXPECT_GT(inverse, 20) << "nobody was asked anything";
  EXPECT_GT(drained, 3);
}

}  // namespace
}  // namespace gantry::master
