// Both sides of the line have another age than the other: structs are shorter or longer than this build's, messages
// carry fields it does not know or lack those it does. Shorter structs end where readable memory ends, so that whoever
// reads a member without asking `size` dies here.
#include "tests/compat/module_rig.hpp"

#include <gantry/fetcher.hpp>
#include <gantry/isolator_generated.h>

#include <gmock/gmock.h>

#include <sys/mman.h>

#include <cstring>
#include <deque>

namespace gantry::compat {
namespace {

using testing::HasSubstr;

// `bytes` of memory, nothing readable behind them.
class Edge {
 public:
  explicit Edge(std::size_t bytes) : page_(static_cast<std::size_t>(::sysconf(_SC_PAGESIZE))) {
    map_ = static_cast<char*>(::mmap(nullptr, 2 * page_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (map_ == MAP_FAILED || ::mprotect(map_ + page_, page_, PROT_NONE) != 0) std::abort();
    at_ = map_ + page_ - bytes;
  }
  ~Edge() { ::munmap(map_, 2 * page_); }
  Edge(const Edge&) = delete;
  [[nodiscard]] void* data() const { return at_; }

 private:
  std::size_t page_;
  char *map_, *at_;
};

// The first `bytes` of an ABI struct, at the edge, its `size` telling so.
template <class T>
const T* cut(Edge& edge, const T& whole, std::size_t bytes) {
  std::memcpy(edge.data(), &whole, bytes);
  return static_cast<const T*>(edge.data());
}

// ---- an older host, today's wrapper

// Uses everything the wrapper offers.
class Busy final : public Fetcher {
 public:
  Task<Status> configure(Settings s) override {
    metric_ = host().metric("busy", fb::MetricKind::COUNTER, "1", "Entries");
    given_ = s.text("value");
    co_return ok;
  }
  Task<Status> start() override {
    host().info("started", {{"value", given_}});
    co_return ok;
  }
  Task<Status> fetch(Request<fb::fetcher::Fetch> r, std::uint64_t) override {
    metric_.add();
    co_await host().sleep(1ms);
    auto work = host().offload([]() -> Status { return ok; });
    Status done = co_await std::move(work);
    if (!done.has_value()) co_return done;
    const auto reply = co_await host().request(fb::host::Service::QUERY, 16, Bytes());
    if (!reply.has_value()) co_return reply.error();
    const auto token = host().stream(fb::host::Service::QUERY, 17, {}, [](gantry_code, Bytes) {});
    host().cancel_request(token);
    if (host().now().count() == 0 || host().wall_ns() == 0) co_return fail(Code::internal, "no clock");
    co_return r->directory() ? ok : Status(fail(Code::invalid_argument, "no directory"));
  }

 private:
  Metric metric_;
  std::string given_;
};

// A host in miniature: everything runs when turn() is called.
struct OldHost {
  std::deque<std::function<void()>> queue;
  std::vector<std::pair<std::uint64_t, gantry_code>> completed;
  std::vector<std::string> used;
  const gantry_provider* provider = nullptr;
  void* self = nullptr;
  std::uint32_t threshold = 0;

  static OldHost& of(void* ctx) { return *static_cast<OldHost*>(ctx); }
  gantry_host table() {
    gantry_host h{};
    h.ctx = this;
    h.log_threshold = &threshold;
    h.log = [](void* c, std::uint32_t, gantry_bytes) { of(c).used.push_back("log"); };
    h.complete = [](void* c, std::uint64_t t, gantry_code code, gantry_bytes) { of(c).completed.emplace_back(t, code); };
    h.request = [](void* c, std::uint32_t, std::uint32_t, gantry_bytes, std::uint64_t t) -> gantry_code {
      of(c).used.push_back("request");
      of(c).queue.push_back([c, t] { of(c).provider->reply(of(c).self, t, GANTRY_OK, {nullptr, 0}); });
      return GANTRY_OK;
    };
    h.post = [](void* c, void (*fn)(void*), void* a) { of(c).queue.push_back([fn, a] { fn(a); }); };
    h.offload = h.post;
    h.timer = [](void* c, std::uint64_t, void (*fn)(void*), void* a) -> std::uint64_t {
      of(c).used.push_back("timer");
      of(c).queue.push_back([fn, a] { fn(a); });
      return of(c).used.size();
    };
    h.timer_cancel = [](void*, std::uint64_t) {};
    h.metric = [](void*, gantry_bytes) -> std::uint32_t { return 1; };
    h.metric_add = [](void* c, std::uint32_t, double) { of(c).used.push_back("metric"); };
    h.now = [](void*) -> std::uint64_t { return 5; };
    h.wall = [](void*) -> std::uint64_t { return 6; };
    h.request_cancel = [](void* c, std::uint64_t) { of(c).used.push_back("cancel"); };
    return h;
  }
  gantry_code call(std::uint64_t token, std::uint32_t method, const Buffer& body) {
    gantry_call whole{};
    // A call without `trace`: the shortest a reader of `nfds` can be given.
    const std::size_t bytes = offsetof(gantry_call, trace);
    whole.size = static_cast<std::uint32_t>(bytes);
    whole.method = method;
    whole.token = token;
    whole.body = to_abi(body);
    Edge edge(bytes);
    provider->call(self, cut(edge, whole, bytes));
    while (!queue.empty()) {
      auto fn = std::move(queue.front());
      queue.pop_front();
      fn();
    }
    for (const auto& [t, code] : completed)
      if (t == token) return code;
    return 99;
  }
};

// Exits with 0 if all went well; run in a child, since what is looked for is a crash.
int serve_an_old_host() {
  static const gantry_provider provider = gantry::provider<Busy>("busy");
  OldHost host;
  gantry_host whole = host.table();
  const std::size_t bytes = offsetof(gantry_host, extension);
  whole.size = static_cast<std::uint32_t>(bytes);
  Edge edge(bytes);
  host.provider = &provider;
  host.self = provider.create(cut(edge, whole, bytes));
  if (!host.self) return 1;
  // A CONFIGURE of a kernel that had fewer fields: no roles, no revision, no work directory.
  fb::ConfigureT configure;
  configure.settings.push_back(std::make_unique<fb::SettingT>());
  configure.settings.back()->key = "value";
  if (host.call(1, GANTRY_METHOD_CONFIGURE, pack(configure)) != GANTRY_OK) return 2;
  if (host.call(2, GANTRY_METHOD_START, Buffer()) != GANTRY_OK) return 3;
  fb::fetcher::FetchT fetch;
  fetch.directory = "/";
  if (host.call(3, 16, pack(fetch)) != GANTRY_OK) return 4;
  for (const char* what : {"log", "request", "timer", "metric", "cancel"})
    if (std::find(host.used.begin(), host.used.end(), what) == host.used.end()) return 5;
  if (host.call(4, 77, Buffer()) != GANTRY_UNIMPLEMENTED) return 6;
  if (host.call(5, GANTRY_METHOD_STOP, Buffer()) != GANTRY_OK) return 7;
  provider.destroy(host.self);
  return host.completed.size() == 5 ? 0 : 8;
}

TEST(OlderHost, IsServedByTodaysWrapper) {
  testing::FLAGS_gtest_death_test_style = "fast";
  EXPECT_EXIT(std::exit(serve_an_old_host()), testing::ExitedWithCode(0), "");
}

TEST(OlderHost, TheEdgeReallyEndsThere) {
  // Or the test above proves nothing.
  EXPECT_DEATH(
      {
        Edge edge(16);
        volatile char c = static_cast<const char*>(edge.data())[16];
        (void)c;
      },
      "");
}

// ---- older and newer modules, today's kernel

struct LongerProvider {
  gantry_provider known;
  void (*appended)(void*);
  std::uint64_t more[4];
};
struct LongerModule {
  gantry_module known;
  const char* appended[3];
};

config::ModuleConfig configured(const std::string& name) {
  config::ModuleConfig c;
  c.kind = c.manifest.kind = "fetcher";
  c.name = c.manifest.name = name;
  c.manifest.version = "9.9";
  c.manifest.roles = {"agent"};
  c.manifest.services = {"query"};
  fb::SettingT s;
  s.key = "value";
  c.settings = config::Values({s});
  return c;
}

std::string use(Rig& rig) {
  fb::fetcher::FetchT fetch;
  fetch.directory = "/";
  const auto r = rig.ask(fb::fetcher::Method::FETCH, fetch);
  return r.has_value() ? "answered" : r.error().message;
}

// Answers QUERY.
struct Query final : module::Service {
  void request(const module::ServiceRequest&, module::ServiceReply reply) override { reply(GANTRY_OK, {}); }
};

TEST(NewerModule, IsLoadedWithAllItsRecordsLonger) {
  static LongerProvider providers[3] = {};
  for (auto& p : providers) {
    p.known = provider<Busy>("other");
    p.known.size = sizeof p;
    p.appended = [](void*) { std::abort(); };
    for (auto& m : p.more) m = ~std::uint64_t{0};
  }
  providers[2].known.name = "late";
  static LongerModule m = {{GANTRY_MAGIC, GANTRY_ABI_MAJOR, GANTRY_ABI_MINOR + 7, sizeof(LongerModule), 3, sizeof(LongerProvider),
                            &providers[0].known, "a compiler of the future"},
                           {"a", "b", "c"}};
  Query query;
  Rig rig;
  rig.services[fb::host::Service::QUERY] = &query;
  rig.provided = &m.known;
  ASSERT_EQ(rig.start(configured("late")), "started");
  EXPECT_EQ(use(rig), "answered");
  EXPECT_EQ(rig.host->list().at(0).build, "a compiler of the future");
  EXPECT_TRUE(rig.stop());
}

TEST(OlderModule, IsLoadedWithAllItsRecordsShorter) {
  // Without `extension` and `build`, both at the edge of memory.
  const std::size_t provider_bytes = offsetof(gantry_provider, extension);
  gantry_provider p = provider<Busy>("early");
  p.size = static_cast<std::uint32_t>(provider_bytes);
  Edge provider_edge(provider_bytes);
  const std::size_t module_bytes = offsetof(gantry_module, build);
  gantry_module m = {GANTRY_MAGIC, GANTRY_ABI_MAJOR, 0, static_cast<std::uint32_t>(module_bytes), 1,
                     static_cast<std::uint32_t>(provider_bytes), cut(provider_edge, p, provider_bytes), nullptr};
  Edge module_edge(module_bytes);
  Query query;
  Rig rig;
  rig.services[fb::host::Service::QUERY] = &query;
  rig.provided = cut(module_edge, m, module_bytes);
  ASSERT_EQ(rig.start(configured("early")), "started");
  EXPECT_EQ(use(rig), "answered");
  EXPECT_TRUE(rig.stop());
}

// ---- messages

// Prepared as revision 1 of ten years later writes it: with two more fields than it has now.
Buffer prepared_of_the_future() {
  flatbuffers::FlatBufferBuilder b;
  const auto kill = b.CreateString("/sys/fs/cgroup/x/cgroup.kill");
  const auto unknown = b.CreateString("a field this kernel has never heard of");
  const auto last = static_cast<flatbuffers::voffset_t>(fb::isolator::Prepared::VT_PARAMETERS);
  const auto start = b.StartTable();
  b.AddOffset(fb::isolator::Prepared::VT_CGROUP_KILL, kill);
  b.AddElement<std::uint8_t>(fb::isolator::Prepared::VT_NO_ATTACH, 1, 0);
  b.AddOffset(static_cast<flatbuffers::voffset_t>(last + 2), unknown);
  b.AddElement<std::uint64_t>(static_cast<flatbuffers::voffset_t>(last + 4), 42, 0);
  b.Finish(flatbuffers::Offset<fb::isolator::Prepared>(b.EndTable(start)));
  return Buffer(b.Release());
}

TEST(NewerMessage, IsReadWithoutWhatIsUnknown) {
  const Buffer b = prepared_of_the_future();
  const auto* p = view<fb::isolator::Prepared>(b);
  ASSERT_TRUE(p) << "unknown fields are no reason to refuse a message";
  EXPECT_EQ(text(p->cgroup_kill()), "/sys/fs/cgroup/x/cgroup.kill");
  EXPECT_TRUE(p->no_attach());
  const auto t = unpack<fb::isolator::Prepared>(b);
  ASSERT_TRUE(t.has_value());
  EXPECT_EQ(t->cgroup_kill, "/sys/fs/cgroup/x/cgroup.kill");
}

TEST(NewerMessage, AnUnknownEnumValueIsReadAsItsNumber) {
  fb::HealthT h;
  h.state = static_cast<fb::HealthState>(77);
  const Buffer b = pack(h);
  const auto* v = view<fb::Health>(b);
  ASSERT_TRUE(v);
  EXPECT_EQ(static_cast<int>(v->state()), 77);
  EXPECT_STREQ(fb::EnumNameHealthState(v->state()), "");
}

TEST(OlderMessage, LacksFieldsAndHasTheirDefaults) {
  flatbuffers::FlatBufferBuilder b;
  const auto start = b.StartTable();
  b.Finish(flatbuffers::Offset<fb::host::Fetch>(b.EndTable(start)));
  const Buffer empty(b.Release());
  const auto t = unpack<fb::host::Fetch>(empty);
  ASSERT_TRUE(t.has_value());
  EXPECT_EQ(t->max_body, 1048576u);
  EXPECT_TRUE(t->verify);
  EXPECT_TRUE(t->url.empty());
}

TEST(OlderMessage, AnErrorOfFewerFieldsIsAnError) {
  flatbuffers::FlatBufferBuilder b;
  const auto message = b.CreateString("disk full");
  const auto start = b.StartTable();
  b.AddOffset(fb::Error::VT_MESSAGE, message);
  b.Finish(flatbuffers::Offset<fb::Error>(b.EndTable(start)));
  const Buffer bytes(b.Release());
  const Error e = unpack_error(GANTRY_RESOURCE_EXHAUSTED, bytes);
  EXPECT_EQ(e.code, Code::resource_exhausted);
  EXPECT_EQ(e.message, "disk full");
  EXPECT_EQ(e.retry_after_ns, 0u);
}

}  // namespace
}  // namespace gantry::compat
