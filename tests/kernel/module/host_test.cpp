#include "support.hpp"

#include <gantry/fetcher.hpp>
#include <gantry/store.hpp>

namespace gantry::module {
namespace {

using namespace std::chrono_literals;
using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;

std::vector<std::string>* events = nullptr;
void note(const std::string& what) {
  if (events) events->push_back(what);
}

// Modules linked into the test, written as any author would.
template <int N>
class Recorder final : public Fetcher {
 public:
  Task<Status> configure(Settings s) override {
    note(std::to_string(N) + (s.reload() ? " reload " : " configure ") + s.text("value"));
    if (s.text("value") == "bad") co_return fail(Code::invalid_argument, "bad is not a value; use good", "value");
    co_return ok;
  }
  Task<Status> start() override {
    note(std::to_string(N) + " start");
    co_return ok;
  }
  Task<Status> stop() override {
    note(std::to_string(N) + " stop");
    co_return ok;
  }
  Task<Result<fb::HealthT>> health() override {
    fb::HealthT h;
    if (sick) {
      h.state = fb::HealthState::DEGRADED;
      h.message = "the disk is slow";
    }
    co_return h;
  }
  Task<Status> fetch(Request<fb::fetcher::Fetch>, std::uint64_t) override { co_return ok; }
  ~Recorder() override { note(std::to_string(N) + " destroy"); }
  static inline bool sick = false;
};

template <int N>
const gantry_module* descriptor() {
  static constexpr const char* names[] = {"zero", "one", "two"};
  static const gantry_provider providers[] = {provider<Recorder<N>>(names[N])};
  static const gantry_module m = {GANTRY_MAGIC, 1,          0, sizeof(gantry_module), 1, sizeof(gantry_provider),
                                  providers,    "linked in"};
  return &m;
}

config::ModuleConfig linked(const std::string& name, std::vector<std::string> needs = {},
                            const std::string& value = "v") {
  config::ModuleConfig c = configured("fetcher", name, "");
  c.manifest.kind = "fetcher";
  c.manifest.name = name;
  c.manifest.version = "1.0";
  c.manifest.roles = {"agent"};
  c.manifest.needs = std::move(needs);
  fb::SettingT s;
  s.key = "value";
  s.text = value;
  c.settings = config::Values({s});
  c.where_of["value"] = {"test.toml", 7, 2};
  return c;
}

class Host : public testing::Test {
 protected:
  Host() { events = &seen; }
  ~Host() override { events = nullptr; }
  void provide(ModuleHost& h) {
    h.provide("fetcher.zero", descriptor<0>());
    h.provide("fetcher.one", descriptor<1>());
    h.provide("fetcher.two", descriptor<2>());
  }
  std::unique_ptr<ModuleHost> make() {
    auto h = std::make_unique<ModuleHost>(HostSetup{loop, strands, metrics, {"agent"}, {}});
    provide(*h);
    return h;
  }
  std::string start(ModuleHost& h) {
    std::string out = "still starting";
    spawn(h.start(), [&](Status s) { out = s.has_value() ? "started" : s.error().message; });
    loop.run();
    return out;
  }
  void stop(ModuleHost& h) {
    bool done = false;
    spawn(h.stop(), [&] { done = true; });
    loop.run();
    loop.advance(30s);
    EXPECT_TRUE(done);
  }
  std::string state(const ModuleHost& h, const std::string& name) {
    for (const auto& m : h.list())
      if (m.name == name) return m.state;
    return "unknown";
  }
  LogLines log;
  base::ManualLoop loop;
  Strands strands{loop};
  base::Metrics metrics;
  std::vector<std::string> seen;
};

TEST_F(Host, StartsInOrderOfNeedAndStopsInReverse) {
  auto h = make();
  ASSERT_TRUE(h->load({linked("two", {"fetcher.zero"}), linked("zero", {"fetcher.one"}), linked("one")}).empty());
  EXPECT_TRUE(seen.empty()) << "load runs no module code";
  EXPECT_EQ(start(*h), "started");
  EXPECT_THAT(seen, ElementsAre("1 configure v", "1 start", "0 configure v", "0 start", "2 configure v", "2 start"));
  EXPECT_EQ(state(*h, "zero"), "running");
  EXPECT_EQ(h->find("fetcher"), h->find("fetcher", "two")) << "first in order of configuration";
  EXPECT_EQ(h->all("fetcher").size(), 3u);
  EXPECT_EQ(h->find("store"), nullptr);
  seen.clear();
  stop(*h);
  EXPECT_THAT(seen, ElementsAre("2 stop", "2 destroy", "0 stop", "0 destroy", "1 stop", "1 destroy"));
  EXPECT_EQ(state(*h, "zero"), "stopped");
}

TEST_F(Host, ReportsAllRefusalsAndStartsNothing) {
  auto h = make();
  auto cyclic = linked("one", {"fetcher.zero"});
  auto process = linked("two");
  process.host = "process";
  const auto problems =
      h->load({configured("fetcher", "good", bad("other_major")), linked("zero", {"fetcher.one", "store"}), cyclic,
               process, configured("fetcher", "none", bad("no_manifest")), linked("zero")});
  std::vector<std::string> texts;
  for (const auto& p : problems) texts.push_back(p.text());
  EXPECT_EQ(texts.size(), 6u) << testing::PrintToString(texts);
  EXPECT_THAT(texts, Contains(AllOf(HasSubstr("test.toml:3:1: error: "), HasSubstr("was built for ABI 2.0"))));
  EXPECT_THAT(texts, Contains(HasSubstr("fetcher.zero -> fetcher.one -> fetcher.zero")));
  EXPECT_THAT(texts, Contains(HasSubstr("fetcher.zero needs a module of kind store")));
  EXPECT_THAT(texts, Contains(AllOf(HasSubstr("fetcher.two asks for host = \"process\""),
                                    HasSubstr("set that, or leave `host` out"))));
  EXPECT_THAT(texts, Contains(HasSubstr("no_manifest.so")));
  EXPECT_THAT(texts, Contains(HasSubstr("fetcher.zero is configured twice")));
  EXPECT_TRUE(h->list().empty());
  EXPECT_EQ(start(*h), "started") << "there is nothing to start";
  EXPECT_TRUE(seen.empty());
}

TEST_F(Host, AModuleForTheOtherRoleIsListedButNotLoaded) {
  auto h = make();
  auto other = linked("one");
  other.manifest.roles = {"master"};
  other.path = "/nowhere.so";
  ASSERT_TRUE(h->load({linked("zero"), other}).empty());
  EXPECT_EQ(start(*h), "started");
  EXPECT_EQ(state(*h, "one"), "not for this role");
  EXPECT_EQ(h->find("fetcher", "one"), nullptr);
  stop(*h);
}

TEST_F(Host, ARefusedSettingStopsTheStartAndNamesItsPlace) {
  auto h = make();
  ASSERT_TRUE(h->load({linked("zero"), linked("one", {}, "bad"), linked("two")}).empty());
  EXPECT_EQ(
      start(*h),
      "test.toml:7:2: module fetcher.one failed to accept its settings: bad is not a value; use good (setting value)");
  EXPECT_EQ(state(*h, "one"), "failed");
  EXPECT_EQ(state(*h, "two"), "configured");
  seen.clear();
  stop(*h);
  EXPECT_THAT(seen, ElementsAre("1 destroy", "0 stop", "0 destroy"));
}

TEST_F(Host, CreateReturningNullIsSaid) {
  auto h = make();
  ASSERT_TRUE(h->load({configured("fetcher", "good", bad("create_null"))}).empty());
  EXPECT_THAT(start(*h), HasSubstr("fetcher.good: create() returned NULL"));
  stop(*h);
}

TEST_F(Host, RunsTheHookBetweenConfigureAndStart) {
  auto h = make();
  ASSERT_TRUE(h->load({linked("zero")}).empty());
  spawn(h->start({},
                 [](Instance& i) -> Task<Status> {
                   note("recover " + i.id());
                   Result<Buffer> r = co_await i.ask(GANTRY_METHOD_RECOVER, Buffer());
                   note(r.has_value() ? "recovered" : std::string(to_string(r.error().code)));
                   co_return ok;
                 }),
        [](Status) {});
  loop.run();
  EXPECT_THAT(seen, ElementsAre("0 configure v", "recover fetcher.zero", "UNIMPLEMENTED", "0 start"));
  stop(*h);
}

TEST_F(Host, StartsInParts) {
  auto h = make();
  ASSERT_TRUE(h->load({linked("two", {"fetcher.one"}), linked("zero"), linked("one")}).empty());
  spawn(h->start([](const Instance& i) { return i.name() == "two"; }), [](Status) {});
  loop.run();
  EXPECT_THAT(seen, ElementsAre("1 configure v", "1 start", "2 configure v", "2 start"));
  seen.clear();
  EXPECT_EQ(start(*h), "started");
  EXPECT_THAT(seen, ElementsAre("0 configure v", "0 start"));
  stop(*h);
}

TEST_F(Host, ReloadsWhatChanged) {
  auto h = make();
  ASSERT_TRUE(h->load({linked("zero"), linked("one")}).empty());
  start(*h);
  seen.clear();
  std::vector<config::Problem> problems;
  spawn(h->reload({linked("zero", {}, "new"), linked("one", {}, "bad")}, {"fetcher.zero", "fetcher.one"}),
        [&](std::vector<config::Problem> p) { problems = std::move(p); });
  loop.run();
  EXPECT_THAT(seen, ElementsAre("0 reload new", "1 reload bad"));
  ASSERT_EQ(problems.size(), 1u);
  EXPECT_EQ(problems[0].text(),
            "test.toml:7:2: warning: module fetcher.one refused its new settings and keeps the old ones: bad is not a "
            "value; use good");
  EXPECT_EQ(state(*h, "one"), "running");
  stop(*h);
}

TEST_F(Host, ShowsHealth) {
  auto h = make();
  ASSERT_TRUE(h->load({linked("zero")}).empty());
  start(*h);
  Recorder<0>::sick = true;
  loop.advance(10s);
  EXPECT_EQ(h->list()[0].state, "degraded");
  EXPECT_EQ(h->list()[0].message, "the disk is slow");
  EXPECT_EQ(log.count("is degraded"), 1u);
  Recorder<0>::sick = false;
  loop.advance(10s);
  EXPECT_EQ(h->list()[0].state, "running");
  stop(*h);
}

TEST_F(Host, AStartThatNeverAnswersTimesOut) {
  auto h = std::make_unique<ModuleHost>(HostSetup{loop, strands, metrics, {"agent"}, {}});
  static const gantry_provider hung = [] {
    gantry_provider p = *descriptor<0>()->providers;
    p.create = [](const gantry_host*) -> void* {
      static int self;
      return &self;
    };
    p.call = [](void*, const gantry_call*) {};
    p.cancel = [](void*, std::uint64_t) {};
    p.destroy = [](void*) {};
    return p;
  }();
  static const gantry_module m = {GANTRY_MAGIC, 1, 0, sizeof(gantry_module), 1, sizeof(gantry_provider), &hung, "hung"};
  h->provide("fetcher.zero", &m);
  ASSERT_TRUE(h->load({linked("zero")}).empty());
  std::string out;
  spawn(h->start(), [&](Status s) { out = s.has_value() ? "started" : s.error().message; });
  loop.advance(31s);
  EXPECT_THAT(
      out,
      HasSubstr("module fetcher.zero failed to accept its settings: fetcher.zero did not answer method 0 in time"));
  stop(*h);
  EXPECT_EQ(log.count("left behind"), 1u);
}

}  // namespace
}  // namespace gantry::module
