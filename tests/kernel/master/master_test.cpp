// The shell: terms of leadership over a store, links and their Hello, the service CLUSTER, listings.
#include "kernel/master/master.hpp"

#include <gantry/state_generated.h>

#include "driver.hpp"
#include "fake_instance.hpp"
#include "kernel/base/manual_loop.hpp"
#include "kernel/store/fake_store.hpp"

#include <gantry/host_generated.h>

namespace gantry::master {
namespace {

struct FakeLinks final : LinkServer {
  void send(LinkId link, const Buffer& frame) override {
    auto f = unpack<fb::link::ToAgent>(frame);
    ASSERT_TRUE(f);
    sent[link].push_back(std::move(*f));
  }
  void drop(LinkId link, std::string_view why) override { dropped[link] = why; }
  std::map<LinkId, std::vector<fb::link::ToAgentT>> sent;
  std::map<LinkId, std::string> dropped;
};

struct World {
  base::ManualLoop loop;
  FakeLinks links;
  Cluster::Mirror mirror;
  module::FakeInstance allocator{loop, "allocator", "fake", [this](std::uint32_t, Bytes body, const auto& reply) {
                                   if (allocator_down) return reply(GANTRY_UNAVAILABLE, {});
                                   mirror.apply(body);
                                   reply(GANTRY_OK, mirror.round(loop.now()));
                                 }};
  std::shared_ptr<store::FakeStore::Records> records = std::make_shared<store::FakeStore::Records>();
  std::unique_ptr<store::FakeStore> store;
  std::unique_ptr<Master> master;
  MasterOptions options;
  Status led = fail(Code::unknown, "not asked");
  bool allocator_down = false;

  World() { options.id_seed = "seed"; }
  void lead() {
    master.reset();
    store = std::make_unique<store::FakeStore>(loop, records);
    mirror = {};
    master = std::make_unique<Master>(loop, options, allocator, *store, links);
    master->lead([this](Status s) { led = std::move(s); });
    loop.run();
  }
  template <class T>
  void agent(LinkId l, T body) {
    fb::link::ToMasterT m;
    m.body.Set(std::move(body));
    const Buffer b = pack(m);
    master->on_agent_frame(l, b);
    loop.run();
  }
  std::string join(LinkId l, std::string id = {}) {
    agent(l, fb::link::HelloT{});
    agent(l, Cluster::registration("cpus:4;mem:4096", std::move(id)));
    for (auto& f : links.sent[l])
      if (auto* r = f.body.AsRegistered()) return r->agent_id;
    return {};
  }
  static Buffer subscription(fb::FrameworkInfoT info) {
    fb::CallT c;
    c.type = fb::CallType::SUBSCRIBE;
    c.subscribe = std::make_unique<fb::SubscribeT>();
    c.framework_id = info.id;
    c.subscribe->framework_info = std::make_unique<fb::FrameworkInfoT>(std::move(info));
    return pack(c);
  }
};

TEST(Master, LeadsServesAndRemembersAcrossTerms) {
  World w;
  w.lead();
  ASSERT_TRUE(w.led);
  EXPECT_EQ(w.master->id(), "seed-0000");
  EXPECT_EQ(w.join(1), "seed-0000-S0");
  std::vector<fb::EventT> events;
  std::optional<Error> end;
  const Buffer call = World::subscription(Cluster::info({}, 1000));
  const auto stream = w.master->subscribe(
      call,
      {[&](const Buffer& e) { events.push_back(unpack<fb::Event>(e).value()); }, [&](const Error& e) { end = e; }});
  EXPECT_NE(stream, 0u);
  w.loop.run();
  ASSERT_GE(events.size(), 2u);
  EXPECT_EQ(events[0].subscribed->framework_id, "seed-0000-0000");
  EXPECT_EQ(events[1].offers->offers.size(), 1u);

  w.master->step_down();
  EXPECT_FALSE(w.master->leading());
  ASSERT_TRUE(end);
  EXPECT_EQ(end->code, Code::unavailable);
  EXPECT_TRUE(w.links.dropped.contains(1));
  w.lead();
  ASSERT_TRUE(w.led);
  EXPECT_EQ(w.master->id(), "seed-0001") << "ids of different terms never clash";
  EXPECT_EQ(w.master->core()->recovering_count(), 1u);
  EXPECT_EQ(w.join(2, "seed-0000-S0"), "seed-0000-S0");
  EXPECT_EQ(w.master->core()->framework_count(), 1u);
}

TEST(Master, RefusesAStoreThatIsDamagedOrAnothers) {
  World w;
  w.lead();
  w.join(1);
  w.master->step_down();
  w.options.cluster = "other";
  w.lead();
  EXPECT_NE(w.led.error().message.find("belongs to cluster 'gantry'"), std::string::npos) << w.led.error().message;
  w.options.cluster = "gantry";
  w.records->insert_or_assign("agent/x", Buffer(Bytes(std::vector<std::uint8_t>{1, 2, 3})));
  w.lead();
  EXPECT_EQ(w.led.error().code, Code::data_loss);
  EXPECT_NE(w.led.error().message.find("agent/x"), std::string::npos);
  EXPECT_FALSE(w.master->leading());
  w.records->erase("agent/x");
  w.lead();
  EXPECT_TRUE(w.led);
}

TEST(Master, ReadOnlyStoreMeansItDoesNotLead) {
  World w;
  w.store = std::make_unique<store::FakeStore>(w.loop, w.records);
  w.store->on_commit = [](const auto&) -> Status { return fail(Code::failed_precondition, "read-only"); };
  w.master = std::make_unique<Master>(w.loop, w.options, w.allocator, *w.store, w.links);
  w.master->lead([&](Status s) { w.led = std::move(s); });
  w.loop.run();
  EXPECT_EQ(w.led.error().code, Code::failed_precondition);
  EXPECT_FALSE(w.master->leading());
}

TEST(Master, ChecksTheHello) {
  World w;
  std::function<void(Status)> verdict;
  w.options.authenticate = [&](const fb::link::HelloT&, std::function<void(Status)> answer) {
    verdict = std::move(answer);
  };
  w.lead();
  w.agent(1, fb::link::HelloT{});
  w.agent(1, Cluster::registration("cpus:4;mem:4096"));
  EXPECT_TRUE(w.links.sent[1].empty());
  verdict(ok);
  w.loop.run();
  EXPECT_EQ(w.master->core()->agent_count(), 1u);
  w.agent(2, fb::link::HelloT{});
  verdict(fail(Code::unauthenticated, "wrong secret"));
  w.loop.run();
  ASSERT_EQ(w.links.sent[2].size(), 1u);
  EXPECT_EQ(w.links.sent[2][0].body.AsRefused()->message, "wrong secret");
  EXPECT_TRUE(w.links.dropped.contains(2));
  w.agent(3, Cluster::registration("cpus:4;mem:4096"));
  EXPECT_TRUE(w.links.dropped.contains(3)) << "no Hello";
  EXPECT_EQ(w.master->core()->agent_count(), 1u);
}

TEST(Master, AllocatorThatFailsIsAskedAgain) {
  World w;
  w.allocator_down = true;
  w.lead();
  w.join(1);
  EXPECT_TRUE(w.mirror.agents.empty());
  w.allocator_down = false;
  w.loop.advance(2s);
  EXPECT_EQ(w.mirror.agents.size(), 1u);
}

TEST(Master, ServiceClusterForModules) {
  World w;
  w.lead();
  module::FakeInstance caller(w.loop, "framework", "test", {});
  std::vector<fb::EventT> events;
  std::optional<gantry_code> end;
  const auto subscribe = [&](std::uint64_t id) {
    const Buffer body = World::subscription(Cluster::info("f", 100));
    w.master->cluster_service().request({&caller, 16, body, id}, [&](gantry_code code, Bytes b) {
      if (code == GANTRY_MORE)
        events.push_back(unpack<fb::Event>(b).value());
      else
        end = code;
    });
    w.loop.run();
  };
  subscribe(1);
  ASSERT_EQ(events.size(), 1u);
  std::optional<gantry_code> answer;
  const Buffer call = pack(Cluster::make_call("f", fb::CallType::REVIVE));
  w.master->cluster_service().request({&caller, 17, call, 2}, [&](gantry_code code, Bytes) { answer = code; });
  EXPECT_EQ(answer, GANTRY_OK);
  const Buffer wrong = pack(Cluster::make_call("nobody", fb::CallType::REVIVE));
  w.master->cluster_service().request({&caller, 17, wrong, 3}, [&](gantry_code code, Bytes) { answer = code; });
  EXPECT_EQ(answer, GANTRY_NOT_FOUND);
  w.master->cluster_service().cancelled(1);
  EXPECT_EQ(end, GANTRY_CANCELLED);
  w.master->cluster_service().request({&caller, 17, call, 4}, [&](gantry_code code, Bytes) { answer = code; });
  EXPECT_EQ(answer, GANTRY_FAILED_PRECONDITION);
  end.reset();
  subscribe(5);
  w.master->step_down();
  EXPECT_EQ(end, GANTRY_UNAVAILABLE);
  end.reset();
  subscribe(6);
  EXPECT_EQ(end, GANTRY_UNAVAILABLE);
}

// A subscriber in the kernel's own process calls back from inside its event.
TEST(Master, ServiceStateForModules) {
  World w;
  w.lead();
  for (LinkId l = 1; l <= 300; ++l) {
    w.agent(l, fb::link::HelloT{});
    auto r = Cluster::registration("cpus:4;mem:4096");
    r.info->hostname = std::string(8000, 'h');  // 2.4 MB: some ten pieces
    w.agent(l, std::move(r));
  }
  struct Stream {
    std::vector<fb::state::ChunkT> chunks;
    gantry_code end = GANTRY_MORE;
    std::size_t agents = 0;
    [[nodiscard]] bool whole() const {
      for (auto c = chunks.rbegin(); c != chunks.rend(); ++c)
        if (c->snapshot) return !c->more;
      return false;
    }
  } one, two;
  auto& service = w.master->state_service();
  const auto follow = [&](Stream& s, std::uint64_t request) {
    service.request({nullptr, static_cast<std::uint32_t>(fb::host::StateMethod::FOLLOW), {}, request},
                    [&s](gantry_code code, Bytes b) {
                      if (code != GANTRY_MORE) return void(s.end = code);
                      auto c = unpack<fb::state::Chunk>(b);
                      ASSERT_TRUE(c);
                      for (const auto& x : c->changes) s.agents += x->agent != nullptr;
                      s.chunks.push_back(std::move(*c));
                    });
    w.loop.run();
  };
  follow(one, 1);
  ASSERT_EQ(one.chunks.size(), 4u) << "then it waits to be asked";
  ASSERT_TRUE(one.chunks[0].begin);
  EXPECT_EQ(one.chunks[0].begin->master_id, "seed-0000");
  EXPECT_FALSE(one.chunks[1].begin);

  w.agent(1, fb::link::UnregisterT{});  // a change meanwhile does not wait
  ASSERT_EQ(one.chunks.size(), 5u);
  EXPECT_FALSE(one.chunks[4].snapshot);
  EXPECT_EQ(one.chunks[4].from, one.chunks[3].version);

  fb::state::ContinueT more;
  more.id = one.chunks[0].begin->id;
  const Buffer body = pack(more);
  int asked = 0;
  while (!one.whole() && asked < 100) {
    gantry_code answer = GANTRY_UNKNOWN;
    service.request({nullptr, static_cast<std::uint32_t>(fb::host::StateMethod::CONTINUE), body, 100u + static_cast<unsigned>(++asked)},
                    [&](gantry_code code, Bytes) { answer = code; });
    EXPECT_EQ(answer, GANTRY_OK);
    w.loop.run();
    EXPECT_EQ(one.chunks.size(), 5u + static_cast<unsigned>(asked)) << "one piece each";
  }
  EXPECT_TRUE(one.whole());
  EXPECT_GT(asked, 3);
  EXPECT_GE(one.agents, 299u);

  follow(two, 2);
  const std::size_t before = one.chunks.size(), begun = two.chunks.size();
  w.agent(2, fb::link::UnregisterT{});
  EXPECT_GT(one.chunks.size(), before) << "both hear of it";
  EXPECT_GT(two.chunks.size(), begun);
  service.cancelled(1);
  EXPECT_EQ(one.end, GANTRY_CANCELLED);
  EXPECT_TRUE(w.master->core()->followed());
  w.master->step_down();
  EXPECT_EQ(two.end, GANTRY_UNAVAILABLE);

  Stream three;
  follow(three, 3);
  EXPECT_EQ(three.end, GANTRY_UNAVAILABLE) << "nobody leads here";
  w.lead();
  gantry_code stale = GANTRY_OK;
  w.master->state_service().request({nullptr, static_cast<std::uint32_t>(fb::host::StateMethod::CONTINUE), body, 4},
                                    [&](gantry_code code, Bytes) { stale = code; });
  EXPECT_EQ(stale, GANTRY_NOT_FOUND);
  w.master->state_service().request({nullptr, static_cast<std::uint32_t>(fb::host::StateMethod::FOLLOW), {}, 5},
                                    [&](gantry_code, Bytes) {});
  w.loop.run();
  w.master->state_service().cancelled(5);
  EXPECT_FALSE(w.master->core()->followed()) << "nothing is spent when nobody follows";
}

TEST(Master, FollowersAreToldAtThePaceOfTheSlowest) {
  World w;
  w.lead();
  w.join(1);
  struct Reader {
    std::size_t unread = 0;
    std::vector<fb::state::ChunkT> chunks;
    bool told_of(std::string_view agent) const {
      for (const auto& c : chunks)
        for (const auto& x : c.changes)
          if (!c.snapshot && x->agent && unpack<fb::AgentInfo>(x->agent->info)->id == agent) return true;
      return false;
    }
  } slow, quick, late;
  const auto follow = [&](Reader& r) {
    Master::Subscriber s;
    s.on_event = [&r](const Buffer& b) { r.chunks.push_back(unpack<fb::state::Chunk>(b).value()); };
    s.on_end = [](const Error&) {};
    s.unread = [&r] { return r.unread; };
    const auto id = w.master->follow(std::move(s));
    w.loop.run();
    return id;
  };
  const auto slow_id = follow(slow);
  follow(quick);
  EXPECT_EQ(slow.chunks.size(), 1u);
  EXPECT_EQ(quick.chunks.size(), 1u);

  slow.unread = 9 << 20;
  const std::string second = w.join(2);
  EXPECT_FALSE(quick.told_of(second));
  follow(late);
  EXPECT_TRUE(late.chunks.empty()) << "what the others have not been told is not in its first piece";
  w.loop.advance(std::chrono::milliseconds(100));
  EXPECT_FALSE(quick.told_of(second)) << "it waits for who is behind";
  slow.unread = 0;
  w.loop.advance(std::chrono::milliseconds(2));
  EXPECT_TRUE(quick.told_of(second));
  EXPECT_TRUE(slow.told_of(second));
  ASSERT_EQ(late.chunks.size(), 1u);
  EXPECT_TRUE(late.chunks[0].snapshot);

  slow.unread = 9 << 20;
  const std::string third = w.join(3);
  w.loop.advance(std::chrono::milliseconds(900));
  EXPECT_FALSE(quick.told_of(third));
  slow.unread = (9 << 20) - 1;
  w.loop.advance(std::chrono::milliseconds(900));
  EXPECT_FALSE(quick.told_of(third)) << "it does read";
  w.loop.advance(std::chrono::milliseconds(200));
  EXPECT_TRUE(quick.told_of(third)) << "but not for ever";

  const std::string crawl = w.join(5);
  for (int i = 0; i < 20 && !quick.told_of(crawl); ++i) {
    --slow.unread;
    w.loop.advance(std::chrono::milliseconds(600));
    EXPECT_EQ(quick.told_of(crawl), i >= 16) << "however little it reads, ten seconds are enough";
  }

  const std::string fourth = w.join(4);
  EXPECT_FALSE(late.told_of(fourth));
  w.master->unfollow(slow_id);
  w.loop.advance(std::chrono::milliseconds(2));
  EXPECT_TRUE(late.told_of(fourth)) << "nor once it has gone";
  for (const Reader* r : {&quick, &late}) {
    std::uint64_t version = r->chunks[0].version;
    for (const auto& c : r->chunks) {
      if (!c.snapshot) {
        EXPECT_EQ(c.from, version) << "no gap";
      }
      version = c.version;
    }
  }
  w.master->step_down();
}

TEST(Master, CallsFromInsideAnEventAreTakenAfterIt) {
  World w;
  w.lead();
  std::vector<std::string> seen;
  Master::Subscriber s;
  s.on_end = [](const Error&) {};
  s.on_event = [&](const Buffer& b) {
    const auto e = unpack<fb::Event>(b).value();
    seen.push_back(fb::EnumNameEventType(e.type));
    if (!e.offers) return;
    const Buffer call =
        pack(Cluster::accept("f", {e.offers->offers[0]->id}, {Cluster::task("t", e.offers->offers[0]->agent_id)}));
    w.master->call(call, [&](Status st) { seen.push_back(st ? "ok" : st.error().message); });
    seen.push_back("called");
  };
  const Buffer call = World::subscription(Cluster::info("f"));
  w.master->subscribe(call, std::move(s));
  w.join(1);
  EXPECT_EQ(seen, (std::vector<std::string>{"SUBSCRIBED", "OFFERS", "called", "ok"}));
  EXPECT_EQ(w.master->core()->task_count(), 1u);
}

TEST(Master, ListsInPages) {
  World w;
  w.options.page = 2;
  w.lead();
  for (LinkId l = 1; l <= 5; ++l) w.join(l);
  fb::control::QuestionT q;
  q.id = 42;
  q.ask.Set(fb::control::AskAgentsT{});
  std::vector<std::size_t> pages;
  bool more = true;
  EXPECT_TRUE(w.master->ask(q, [&](fb::control::AnswerT a) {
    EXPECT_EQ(a.id, 42u);
    pages.push_back(a.say.AsAgents()->agents.size());
    more = a.more;
  }));
  EXPECT_EQ(pages.size(), 1u) << "one page a turn";
  w.loop.run();
  EXPECT_EQ(pages, (std::vector<std::size_t>{2, 2, 1}));
  EXPECT_FALSE(more);
  q.ask.Set(fb::control::KillTaskT{});
  std::string message;
  EXPECT_TRUE(w.master->ask(q, [&](fb::control::AnswerT a) { message = a.say.AsProblem()->message; }));
  EXPECT_NE(message.find("not known"), std::string::npos);
  q.ask.Set(fb::control::AskConfigT{});
  EXPECT_FALSE(w.master->ask(q, {}));
  fb::control::StatusT status;
  w.master->fill(status);
  EXPECT_EQ(status.agents, 5u);
  bool active = false;
  for (const auto& m : w.master->metrics()) active |= m.name == "master/slaves_active" && m.value == 5;
  EXPECT_TRUE(active);
}

TEST(Master, PingsOnTheLoopsClock) {
  World w;
  w.lead();
  w.join(1);
  w.loop.advance(16s);
  EXPECT_NE(w.links.sent[1].back().body.AsPing(), nullptr);
  w.loop.advance(80s);
  EXPECT_EQ(w.master->core()->agent_count(), 0u);
  EXPECT_TRUE(w.links.dropped.contains(1));
}

}  // namespace
}  // namespace gantry::master
