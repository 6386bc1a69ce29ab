// The kernel's own checks hold against modules that lie. The broken modules are loaded as files by the kernel's module
// host, and the real master works with them, on a manual clock.
#include "kernel/base/manual_loop.hpp"
#include "kernel/base/metric.hpp"
#include "kernel/config/config.hpp"
#include "kernel/master/core.hpp"
#include "kernel/master/master.hpp"
#include "kernel/module/host.hpp"
#include "kernel/resource/wire.hpp"
#include "kernel/store/fake_store.hpp"
#include "kernel/store/store.hpp"

#include <gantry/authenticator_generated.h>
#include <gtest/gtest.h>

#include <unistd.h>

#include <filesystem>

namespace gantry {
namespace {

using namespace std::chrono_literals;
using resource::Resources;

struct TempDir {
  TempDir() {
    char name[] = "/tmp/gantry-guards-XXXXXX";
    path = ::mkdtemp(name);
  }
  ~TempDir() { std::filesystem::remove_all(path); }
  std::string path;
};

// One module, loaded as gantryd would.
struct Loaded {
  Loaded(base::ManualLoop& loop, const std::string& work_dir, const std::string& kind, const std::string& name,
         const std::string& fault, const std::string& settings = {})
      : loop_(loop), strands_(loop), host_(module::HostSetup{loop, strands_, metrics_, {"master"}, {}}) {
    config::Options o;
    o.file = work_dir + "/gantry.toml";
    o.check_files = false;
    o.text = "[kernel]\nrole = [\"master\"]\nwork_dir = \"" + work_dir + "\"\n[" + kind + "." + name + "]\npath = \"" BROKEN_MODULES "/" +
             kind + "/" + fault + ".so\"\nhost = \"kernel\"\n" + settings;
    // What the configuration of a master has to name besides; it is not loaded.
    for (const std::string other : {"allocator.drf", "store.lmdb", "election.standalone"})
      if (const auto other_kind = other.substr(0, other.find('.')); other_kind != kind)
        *o.text += "[" + other + "]\npath = \"" BROKEN_MODULES "/" + other_kind + "/nothing.so\"\n";
    const config::Loaded loaded = config::load(o);
    const config::ModuleConfig* found = loaded.config ? loaded.config->module(kind + "." + name) : nullptr;
    std::string problems;
    for (const auto& p : loaded.problems) problems += p.message + "\n";
    if (!found) {
      ADD_FAILURE() << problems;
      return;
    }
    for (const auto& p : host_.load({*found})) ADD_FAILURE() << p.message;
    spawn(host_.start(), [this](Status s) { started = std::move(s); });
    loop_.run();
    EXPECT_TRUE(started) << (started ? "" : started.error().message);
    instance = host_.find(kind, name);
  }
  // The daemon dies: nobody tells the module, and what it had in mind is gone.
  ~Loaded() {
    bool stopped = false;
    spawn(host_.stop(), [&] { stopped = true; });
    for (int i = 0; i < 50 && !stopped; ++i) loop_.advance(500ms);
    EXPECT_TRUE(stopped);
  }
  module::Instance* instance = nullptr;
  Status started = fail(Code::unknown, "not started");

 private:
  base::ManualLoop& loop_;
  base::Metrics metrics_;
  module::Strands strands_;
  module::ModuleHost host_;
};

struct Links final : master::LinkServer {
  void send(master::LinkId link, const Buffer& frame) override {
    if (auto f = unpack<fb::link::ToAgent>(frame)) sent[link].push_back(std::move(*f));
  }
  void drop(master::LinkId link, std::string_view why) override { dropped[link] = why; }
  std::map<master::LinkId, std::vector<fb::link::ToAgentT>> sent;
  std::map<master::LinkId, std::string> dropped;
};

// A framework that keeps what it is offered, or declines it.
struct Scheduler {
  std::string id;
  std::vector<fb::OfferT> offers;  // open
  std::size_t heard = 0;
};

struct World {
  World(base::ManualLoop& l, module::Instance& allocator, store::Store& store, const std::string& seed = "seed") : loop(l) {
    master::MasterOptions o;
    o.id_seed = seed;
    master = std::make_unique<master::Master>(loop, o, allocator, store, links);
    master->lead([this](Status s) { led = std::move(s); });
    loop.run();
  }
  std::string join(master::LinkId link, std::string_view resources, const std::string& known = {}) {
    frame(link, fb::link::HelloT{});
    fb::link::RegisterT r;
    r.info = std::make_unique<fb::AgentInfoT>();
    r.info->hostname = "host-" + std::to_string(link);
    r.info->id = known;
    r.info->resources = resource::to_wire(Resources::parse(resources).value());
    frame(link, std::move(r));
    for (auto& f : links.sent[link])
      if (const auto* registered = f.body.AsRegistered()) return registered->agent_id;
    return {};
  }
  std::shared_ptr<Scheduler> subscribe(const std::string& name, const std::string& role) {
    auto s = std::make_shared<Scheduler>();
    fb::CallT c;
    c.type = fb::CallType::SUBSCRIBE;
    c.subscribe = std::make_unique<fb::SubscribeT>();
    c.subscribe->framework_info = std::make_unique<fb::FrameworkInfoT>();
    auto& info = *c.subscribe->framework_info;
    info.name = name;
    info.user = "root";
    info.roles = {role};
    info.capabilities = {fb::FrameworkCapability::MULTI_ROLE, fb::FrameworkCapability::RESERVATION_REFINEMENT};
    const Buffer body = pack(c);
    master->subscribe(body, {[s](const Buffer& e) {
                               auto event = unpack<fb::Event>(e);
                               if (!event) return;
                               if (event->subscribed) s->id = event->subscribed->framework_id;
                               if (event->offers)
                                 for (auto& offer : event->offers->offers) {
                                   s->offers.push_back(std::move(*offer));
                                   ++s->heard;
                                 }
                               if (event->rescind) std::erase_if(s->offers, [&](const auto& x) { return x.id == event->rescind->offer_id; });
                             },
                             [](const Error&) {}});
    loop.run();
    schedulers.push_back(s);
    return s;
  }
  void decline_all(Scheduler& s) {
    fb::CallT c;
    c.type = fb::CallType::DECLINE;
    c.framework_id = s.id;
    c.decline = std::make_unique<fb::DeclineT>();
    for (const auto& o : s.offers) c.decline->offer_ids.push_back(o.id);
    c.decline->filters = std::make_unique<fb::FiltersT>();
    c.decline->filters->refuse_seconds = 1.0;
    s.offers.clear();
    const Buffer body = pack(c);
    master->call(body, [](Status) {});
    loop.run();
  }
  // What all schedulers hold of an agent is never more than it has.
  void nothing_twice(const std::string& agent, std::string_view total) {
    Resources held;
    for (const auto& s : schedulers)
      for (const auto& o : s->offers) {
        if (o.agent_id != agent) continue;
        std::vector<std::unique_ptr<fb::ResourceT>> bare;
        for (const auto& r : o.resources) {
          bare.push_back(std::make_unique<fb::ResourceT>(*r));
          bare.back()->allocation_role.clear();
        }
        auto parsed = resource::from_wire(bare);
        ASSERT_TRUE(parsed) << parsed.error().message;
        held += *parsed;
      }
    EXPECT_TRUE(Resources::parse(total).value().contains(held)) << agent << " has " << total << ", offered is " << held.text();
    const Status sound = master->core()->check();
    EXPECT_TRUE(sound) << sound.error().message;
  }

  base::ManualLoop& loop;
  Links links;
  std::unique_ptr<master::Master> master;
  Status led = fail(Code::unknown, "not asked");
  std::vector<std::shared_ptr<Scheduler>> schedulers;

 private:
  template <class T>
  void frame(master::LinkId link, T body) {
    fb::link::ToMasterT m;
    m.body.Set(std::move(body));
    const Buffer b = pack(m);
    master->on_agent_frame(link, b);
    loop.run();
  }
};

class LyingAllocator : public ::testing::TestWithParam<const char*> {};

TEST_P(LyingAllocator, OverCommitsNothing) {
  const TempDir dir;
  base::ManualLoop loop;
  Loaded allocator(loop, dir.path, "allocator", "drf", GetParam());
  ASSERT_NE(allocator.instance, nullptr);
  store::FakeStore store(loop);
  World w(loop, *allocator.instance, store);
  ASSERT_TRUE(w.led) << w.led.error().message;
  const std::string a = w.join(1, "cpus:4;mem:4096"), b = w.join(2, "cpus:2;mem:2048;cpus(eng):2;mem(eng):1024");
  const auto ops = w.subscribe("one", "ops"), eng = w.subscribe("two", "eng"), more = w.subscribe("three", "ops");
  for (int round = 0; round < 40; ++round) {
    w.nothing_twice(a, "cpus:4;mem:4096");
    w.nothing_twice(b, "cpus:2;mem:2048;cpus(eng):2;mem(eng):1024");
    for (const auto& s : {ops, more})
      for (const auto& o : s->offers)
        for (const auto& r : o.resources)
          EXPECT_TRUE(r->reservations.empty()) << "role ops was offered what is reserved for eng";
    w.decline_all(*w.schedulers[static_cast<std::size_t>(round) % 3]);
    loop.advance(1s);
  }
  // "All of this agent" means what the role may have of it, whatever the allocator takes it for: no lie is left to count.
  if (std::string_view(GetParam()) != "offers_reserved_to_others") {
    EXPECT_GT(w.master->core()->counters().bad_grants, 0u) << "the lie was not noticed";
  } else {
    EXPECT_GT(eng->heard + ops->heard, 0u);
  }
  w.master->step_down();
  loop.run();
}

INSTANTIATE_TEST_SUITE_P(Guards, LyingAllocator,
                         ::testing::Values("over_commits", "takes_more_than_there_is", "offers_reserved_to_others"),
                         [](const auto& info) { return std::string(info.param); });

TEST(Guards, AnAllocatorThatForgetsItsOrdersWastesTimeOnly) {
  for (const char* fault : {"ignores_reset", "keeps_gone_agents", "offers_to_the_absent", "ignores_filters"}) {
    SCOPED_TRACE(fault);
    const TempDir dir;
    base::ManualLoop loop;
    Loaded allocator(loop, dir.path, "allocator", "drf", fault);
    ASSERT_NE(allocator.instance, nullptr);
    store::FakeStore store(loop);
    World w(loop, *allocator.instance, store);
    const std::string a = w.join(1, "cpus:4;mem:4096"), b = w.join(2, "cpus:4;mem:4096");
    const auto one = w.subscribe("one", "ops"), two = w.subscribe("two", "ops");
    for (int round = 0; round < 20; ++round) {
      w.nothing_twice(a, "cpus:4;mem:4096");
      w.nothing_twice(b, "cpus:4;mem:4096");
      w.decline_all(round % 2 ? *one : *two);
      if (round == 10) w.master->on_agent_closed(2);
      loop.advance(1s);
    }
    EXPECT_GT(one->heard + two->heard, 0u);
    w.master->step_down();
    loop.run();
  }
}

// It says OK, and after the crash nothing is there. What agents know comes back with them; nothing is offered twice,
// and ids of the forgotten past do not clash with new ones.
TEST(Guards, AStoreThatLosesWhatItAcknowledgedCostsMemoryNotTheCluster) {
  const TempDir dir;
  base::ManualLoop loop;
  store::FakeStore unused(loop);
  std::string old_agent;
  {
    Loaded allocator(loop, dir.path, "allocator", "drf", "nothing");
    Loaded module(loop, dir.path, "store", "lmdb", "acknowledges_before_writing");
    ASSERT_NE(module.instance, nullptr);
    store::ModuleStore store(*module.instance);
    World w(loop, *allocator.instance, store, "first");
    ASSERT_TRUE(w.led) << w.led.error().message;
    old_agent = w.join(1, "cpus:4;mem:4096");
    EXPECT_FALSE(old_agent.empty());
    w.master->step_down();
    loop.run();
  }
  Loaded allocator(loop, dir.path, "allocator", "drf", "nothing");
  Loaded module(loop, dir.path, "store", "lmdb", "acknowledges_before_writing");
  ASSERT_NE(module.instance, nullptr);
  store::ModuleStore store(*module.instance);
  World w(loop, *allocator.instance, store, "second");  // gantryd takes a random one
  ASSERT_TRUE(w.led) << w.led.error().message;
  EXPECT_EQ(w.master->core()->recovering_count(), 0u) << "the lie was not exercised: the records are there";
  const std::string fresh = w.join(2, "cpus:2;mem:2048");
  const std::string again = w.join(1, "cpus:4;mem:4096", old_agent);
  EXPECT_FALSE(fresh.empty());
  EXPECT_NE(fresh, old_agent);
  EXPECT_TRUE(again == old_agent || w.links.dropped.contains(1)) << "neither known again nor turned away: \"" << again << "\"";
  const auto one = w.subscribe("one", "ops"), two = w.subscribe("two", "ops");
  for (int round = 0; round < 10; ++round) {
    if (!again.empty()) w.nothing_twice(again, "cpus:4;mem:4096");
    w.nothing_twice(fresh, "cpus:2;mem:2048");
    w.decline_all(round % 2 ? *one : *two);
    loop.advance(1s);
  }
  EXPECT_GT(one->heard + two->heard, 0u);
  w.master->step_down();
  loop.run();
}

TEST(Guards, ALateAnswerLetsNobodyIn) {
  const TempDir dir;
  base::ManualLoop loop;
  const std::string file = dir.path + "/credentials";
  {
    std::FILE* f = std::fopen(file.c_str(), "w");
    ASSERT_NE(f, nullptr);
    std::fputs("conformance:{PLAIN}right\n", f);
    std::fclose(f);
    std::filesystem::permissions(file, std::filesystem::perms(0600));
  }
  Loaded module(loop, dir.path, "authenticator", "basic", "answers_late",
                "[authenticator.basic.config]\ncredentials = \"" + file + "\"\n");
  ASSERT_NE(module.instance, nullptr);
  fb::authenticator::CredentialsT c;
  c.principal = "conformance";
  c.secret = "right";
  std::vector<gantry_code> heard;
  // As the kernel asks: ten seconds (Kernel::authenticate).
  module.instance->call(static_cast<std::uint32_t>(fb::authenticator::Method::AUTHENTICATE), pack(c),
                        [&](gantry_code code, Bytes) { heard.push_back(code); }, module::CallOptions{loop.now() + 10s, {}});
  loop.advance(9s);
  EXPECT_TRUE(heard.empty());
  loop.advance(2s);
  EXPECT_EQ(heard, std::vector<gantry_code>{GANTRY_DEADLINE_EXCEEDED});
  loop.advance(10s);
  EXPECT_EQ(heard.size(), 1u) << "the late OK reached the caller";
}

}  // namespace
}  // namespace gantry
