// One misbehaving provider, in the inline mode: what it does wrong is seen, counted and harmless.
#include "support.hpp"

#include <sys/stat.h>

namespace gantry::module {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

class FakeHttp final : public Service {
 public:
  void request(const ServiceRequest& r, ServiceReply reply) override {
    caller = r.caller->id();
    body.assign(r.body.begin(), r.body.end());
    id = r.id;
    last = std::move(reply);
  }
  void cancelled(std::uint64_t request) override { cancels.push_back(request); }
  std::string caller;
  std::vector<std::uint8_t> body;
  std::uint64_t id = 0;
  ServiceReply last;
  std::vector<std::uint64_t> cancels;
};

class Misbehaving : public testing::Test {
 protected:
  void SetUp() override { make(); }
  void make(std::size_t queue_bytes = std::size_t{64} << 20) {
    auto loaded = load_library(configured("fetcher", "misbehaves", bad("misbehaves")));
    ASSERT_TRUE(loaded.has_value()) << loaded.error().message;
    services = {{fb::host::Service::HTTP, &http}, {fb::host::Service::STORE, &store}};
    InstanceSetup s;
    s.loop = &loop;
    s.strands = &strands;
    s.metrics = &metrics;
    s.services = &services;
    s.allowed = {"http"};
    s.kind = "fetcher";
    s.name = "misbehaves";
    s.provider = loaded->provider;
    s.queue_bytes = queue_bytes;
    instance = std::make_unique<LocalInstance>(std::move(s));
    Status created = fail(Code::unknown, "not yet");
    spawn(instance->create(), [&](Status st) { created = std::move(st); });
    loop.run();
    ASSERT_TRUE(created.has_value());
    instance->set_state(State::running);
  }
  void TearDown() override {
    if (instance) {
      EXPECT_EQ(stop(), "stopped");
    }
  }
  std::string stop() {
    std::string out = "still stopping";
    spawn(instance->stop(true, 1s, 1s), [&](Status s) { out = s.has_value() ? "stopped" : s.error().message; });
    loop.run();
    loop.advance(3s);
    return out;
  }
  std::shared_ptr<Outcome> call(std::uint32_t method, CallOptions options = {}, std::string_view body = "") {
    auto o = std::make_shared<Outcome>();
    last_id = instance->call(method, Buffer(as_bytes(body)), into(o), std::move(options));
    EXPECT_FALSE(o->done()) << "no answer may come from inside call()";
    loop.run();
    return o;
  }
  [[nodiscard]] std::uint64_t faults() const { return instance->counters().faults; }

  LogLines log;
  base::ManualLoop loop;
  Strands strands{loop};
  base::Metrics metrics;
  FakeHttp http, store;
  Services services;
  std::unique_ptr<LocalInstance> instance;
  std::uint64_t last_id = 0;
};

TEST_F(Misbehaving, AnswersWhenItBehaves) {
  auto o = call(16, {}, "hello");
  EXPECT_EQ(o->finals, 1);
  EXPECT_EQ(o->code, GANTRY_OK);
  EXPECT_EQ(o->body, "hello");
  EXPECT_EQ(faults(), 0u);
  EXPECT_EQ(instance->counters().calls, 1u);
}
TEST_F(Misbehaving, UnknownMethodsAreUnimplemented) { EXPECT_EQ(call(9999)->code, GANTRY_UNIMPLEMENTED); }
TEST_F(Misbehaving, ASecondCompletionIsCountedAndIgnored) {
  EXPECT_EQ(call(17)->finals, 1);
  EXPECT_EQ(faults(), 1u);
  EXPECT_EQ(log.count("complete already"), 1u);
  EXPECT_EQ(call(16, {}, "x")->body, "x");
}
TEST_F(Misbehaving, AnOldTokenDoesNotCompleteTheCallThatTookItsPlace) {
  // Slot and generation: the second completion of the first call comes while the second call is open.
  call(17);
  auto open = call(23, {}, "u");
  EXPECT_FALSE(open->done());
  http.last(GANTRY_OK, {});
  loop.run();
  EXPECT_EQ(open->finals, 1);
}
TEST_F(Misbehaving, AChunkAfterTheEndIsCountedAndIgnored) {
  auto o = call(28);
  EXPECT_EQ(o->finals, 1);
  EXPECT_TRUE(o->chunks.empty());
  EXPECT_EQ(faults(), 1u);
}
TEST_F(Misbehaving, UnknownTokensAreCountedAndIgnored) {
  EXPECT_EQ(call(24)->code, GANTRY_OK);
  EXPECT_EQ(faults(), 4u);
}
TEST_F(Misbehaving, ACodeOutsideTheCatalogueBecomesUnknown) {
  EXPECT_EQ(call(25)->code, GANTRY_UNKNOWN);
  EXPECT_EQ(faults(), 1u);
}
TEST_F(Misbehaving, AMalformedErrorKeepsItsCode) {
  auto o = call(26);
  EXPECT_EQ(o->code, GANTRY_NOT_FOUND);
  EXPECT_EQ(o->error(), "NOT_FOUND");
  EXPECT_EQ(faults(), 1u);
}
TEST_F(Misbehaving, AnExceptionOverTheLineFailsItsCallOnly) {
  auto o = call(19);
  EXPECT_EQ(o->code, GANTRY_INTERNAL);
  EXPECT_THAT(o->error(), HasSubstr("fetcher.misbehaves threw an exception out of method 19"));
  EXPECT_EQ(faults(), 1u);
  EXPECT_EQ(log.count("thrown over the line"), 1u);
  EXPECT_EQ(call(16, {}, "alive")->body, "alive");
}
TEST_F(Misbehaving, NeverCompletingMeetsTheDeadline) {
  CallOptions options;
  options.deadline = loop.now() + 5s;
  auto o = call(18, std::move(options));
  loop.advance(4s);
  EXPECT_FALSE(o->done());
  loop.advance(1s);
  EXPECT_EQ(o->finals, 1);
  EXPECT_EQ(o->code, GANTRY_DEADLINE_EXCEEDED);
  EXPECT_THAT(o->error(), HasSubstr("did not answer method 18 in time"));
  // The module still holds the token, so the instance cannot be destroyed under it.
  EXPECT_THAT(stop(), HasSubstr("1 calls were never completed; it is left behind"));
  EXPECT_EQ(instance->state(), State::failed);
  instance.reset();
}
TEST_F(Misbehaving, ACallerOfAStoppedInstanceIsToldSo) {
  auto waiting = call(18);
  stop();
  EXPECT_EQ(waiting->code, GANTRY_UNAVAILABLE);
  EXPECT_THAT(call(16)->error(), HasSubstr("fetcher.misbehaves is failed"));
  instance.reset();
}
TEST_F(Misbehaving, AFloodOfLogsIsLimitedAndSaysHowMuchWasDropped) {
  EXPECT_EQ(call(21)->code, GANTRY_OK);
  EXPECT_EQ(log.count(": flood"), 200u);
  loop.advance(1s);
  call(21);
  EXPECT_EQ(log.count(": flood"), 250u);
  EXPECT_EQ(log.count("dropped=9800"), 1u);
}
TEST_F(Misbehaving, NonsenseInLogsMetricsAndIdsIsHarmless) {
  EXPECT_EQ(call(32)->code, GANTRY_OK);
  EXPECT_EQ(log.count("malformed log record"), 1u);
}
TEST_F(Misbehaving, AStreamLargerThanMayWaitIsCut) {
  stop();
  make(1 << 20);
  auto o = call(27);
  EXPECT_EQ(o->finals, 1);
  EXPECT_EQ(o->code, GANTRY_RESOURCE_EXHAUSTED);
  EXPECT_LT(o->chunks.size(), 300u);
  EXPECT_EQ(call(16, {}, "alive")->body, "alive");
}
TEST_F(Misbehaving, AStreamThatFitsArrivesWhole) {
  auto o = call(27);
  EXPECT_EQ(o->chunks.size(), 1000u);
  EXPECT_EQ(o->code, GANTRY_OK);
}
TEST_F(Misbehaving, TimersFireOnTheHostsClockAndNotOnceCancelled) {
  auto o = call(30);
  loop.advance(999ms);
  EXPECT_FALSE(o->done());
  loop.advance(1ms);
  EXPECT_EQ(o->code, GANTRY_OK);
  EXPECT_EQ(o->body, "timer");
}
TEST_F(Misbehaving, OffloadedWorkComesBackByPost) { EXPECT_EQ(call(31)->body, "posted"); }
TEST_F(Misbehaving, DescriptorsArePassedAndOutliveTheCallers) {
  Pipe p;
  p.write();
  CallOptions options;
  options.fds = {::dup(p.ends[0])};
  const int mine = options.fds[0];
  auto o = std::make_shared<Outcome>();
  instance->call(20, {}, into(o), std::move(options));
  ::close(mine);  // the host has its own by now
  loop.run();
  EXPECT_EQ(o->code, GANTRY_OK);
}
TEST_F(Misbehaving, ABadDescriptorIsRefused) {
  CallOptions options;
  options.fds = {987654};
  EXPECT_EQ(call(16, std::move(options))->code, GANTRY_INVALID_ARGUMENT);
}

TEST_F(Misbehaving, HostServicesAnswerWithChunksAndOneEnd) {
  auto o = call(23, {}, "url");
  EXPECT_EQ(http.caller, "fetcher.misbehaves");
  EXPECT_EQ(std::string(http.body.begin(), http.body.end()), "url");
  http.last(GANTRY_MORE, as_bytes("a"));
  http.last(GANTRY_MORE, as_bytes("b"));
  http.last(GANTRY_OK, as_bytes("c"));
  http.last(GANTRY_OK, as_bytes("ignored"));
  loop.run();
  EXPECT_THAT(o->chunks, testing::ElementsAre("a", "b"));
  EXPECT_EQ(o->body, "c");
}
TEST_F(Misbehaving, AServiceTheManifestDoesNotListIsDenied) {
  auto o = call(29);
  EXPECT_EQ(o->code, GANTRY_PERMISSION_DENIED);
  EXPECT_THAT(o->error(),
              HasSubstr("asks for the host service store, which its manifest does not list; add \"store\""));
  EXPECT_EQ(store.id, 0u);
}
TEST_F(Misbehaving, AServiceThisKernelDoesNotOfferIsSaid) {
  services.erase(fb::host::Service::STORE);
  EXPECT_EQ(call(29)->code, GANTRY_UNIMPLEMENTED);
}
TEST_F(Misbehaving, AModuleThatReadsTooSlowlyIsCutOff) {
  stop();
  make(1 << 16);
  auto o = call(23);
  const std::vector<std::uint8_t> chunk(4096);
  for (int i = 0; i < 100; ++i) http.last(GANTRY_MORE, chunk);
  EXPECT_THAT(http.cancels, testing::ElementsAre(http.id));
  loop.run();
  EXPECT_LT(o->chunks.size(), 17u);
  EXPECT_EQ(o->code, GANTRY_RESOURCE_EXHAUSTED);
}
TEST_F(Misbehaving, StoppingCancelsItsRequests) {
  auto o = call(23);
  EXPECT_EQ(stop(), "stopped");
  EXPECT_THAT(http.cancels, testing::ElementsAre(http.id));
  EXPECT_EQ(o->code, GANTRY_CANCELLED);
  http.last(GANTRY_OK, {});  // the service is late; nobody minds
  loop.run();
  instance.reset();
  http.last(GANTRY_OK, {});
}

}  // namespace
}  // namespace gantry::module
