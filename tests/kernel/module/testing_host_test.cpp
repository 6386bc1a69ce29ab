// The fake host of the SDK judges modules; here it is judged itself.
#include <gantry/fetcher.hpp>
#include <gantry/testing/host.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace gantry {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Fetch = fb::fetcher::FetchT;
constexpr auto FETCH = fb::fetcher::Method::FETCH;

class Subject final : public Fetcher {
 public:
  Task<Status> configure(Settings s) override {
    value = s.text("value");
    pause = s.duration("pause");
    list = s.list("list");
    host().info("configured", {{"value", value}});
    co_return ok;
  }
  Task<Status> fetch(Request<fb::fetcher::Fetch>, std::uint64_t token) override {
    host().metric("fetches", fb::MetricKind::COUNTER, "1", "").add();
    if (pause.count()) co_await host().sleep(pause);
    auto n = co_await host().offload([] { return Result<int>(1); });
    if (value == "ask") {
      auto r = co_await host().request(fb::host::Service::STORE, 16, fb::CreditT{});
      if (!r.has_value()) co_return r.error();
    }
    if (value == "twice") host().raw()->complete(host().raw()->ctx, token, GANTRY_OK, {nullptr, 0});
    if (value == "throw") throw std::runtime_error("no");
    co_return ok;
  }
  std::string value;
  std::chrono::nanoseconds pause{};
  std::vector<std::string> list;
};

TEST(TestingHost, ConfiguresCallsAndKeepsTime) {
  gantry::testing::Host host;
  gantry::testing::Subject<::gantry::Subject> m(host, "s");
  m.defaults({{"value", "default"}, {"pause", 0s}});
  ASSERT_TRUE(m.configure({{"pause", 2s}, {"list", {"a", "b"}}}).has_value());
  EXPECT_EQ(m->value, "default");
  EXPECT_THAT(m->list, ElementsAre("a", "b"));
  EXPECT_TRUE(host.logged("configured"));
  auto p = m.open(FETCH, Fetch{});
  EXPECT_FALSE(p.done());
  EXPECT_THAT(p.result<>().error().message, HasSubstr("has not completed"));
  host.advance(2s);
  EXPECT_TRUE(p.done());
  EXPECT_TRUE(p.result<>().has_value());
  EXPECT_EQ(host.metric("fetches"), 1);
  EXPECT_EQ(m.call(99, Buffer()).error().code, Code::unimplemented);
  EXPECT_EQ(m.call(FETCH, Buffer(as_bytes("junk"))).error().code, Code::invalid_argument);
  EXPECT_TRUE(m.stop().has_value());
  m.destroy();
  EXPECT_THAT(host.faults(), ElementsAre());
}
TEST(TestingHost, ServesHostServices) {
  gantry::testing::Host host;
  gantry::testing::Subject<::gantry::Subject> m(host, "s");
  m.configure({{"value", "ask"}}).value();
  EXPECT_EQ(m.call(FETCH, Fetch{}).error().code, Code::unavailable) << "nobody serves it";
  host.serve(fb::host::Service::STORE, [](gantry::testing::Asked a) { a.fail(fail(Code::aborted, "conflict")); });
  EXPECT_EQ(m.call(FETCH, Fetch{}).error().message, "conflict");
  host.serve(fb::host::Service::STORE, [](gantry::testing::Asked a) { a.ok(); });
  EXPECT_TRUE(m.call(FETCH, Fetch{}).has_value());
}
TEST(TestingHost, FindsDoubleCompletion) {
  gantry::testing::Host host;
  gantry::testing::Subject<::gantry::Subject> m(host, "s");
  m.configure({{"value", "twice"}}).value();
  m.call(FETCH, Fetch{}).value();
  EXPECT_THAT(host.faults(), ElementsAre(HasSubstr("second completion of method 16")));
}
class Keeper final : public Module {
 public:
  static constexpr const char* kind = "fetcher";
  static constexpr std::uint16_t revision = 1;
  void dispatch(Call c) override { kept = std::move(c.responder); }
  Responder kept;
};
TEST(TestingHost, FindsCallsLeftOpen) {
  gantry::testing::Host host;
  {
    gantry::testing::Subject<Keeper> m(host, "k");
    m.open(16, Buffer());
  }
  EXPECT_THAT(host.faults(), ElementsAre(HasSubstr("still open at destroy")));
}
TEST(TestingHost, ExceptionsBecomeInternal) {
  gantry::testing::Host host;
  gantry::testing::Subject<::gantry::Subject> m(host, "s");
  m.configure({{"value", "throw"}}).value();
  EXPECT_EQ(m.call(FETCH, Fetch{}).error().code, Code::internal);
}

class Thrower final : public Module {
 public:
  static constexpr const char* kind = "fetcher";
  static constexpr std::uint16_t revision = 1;
  void dispatch(Call c) override {
    host().stream(fb::host::Service::STORE, 16, {}, [](gantry_code, Bytes) { throw 7; });
    if (c.method == 16) throw std::runtime_error("out of dispatch");
    c.responder.complete();
  }
  void cancelled(std::uint64_t) override { throw std::runtime_error("out of cancelled"); }
};
TEST(Wrapper, ExceptionsStayInsideWhereverTheyComeFrom) {
  gantry::testing::Host host;
  host.serve(fb::host::Service::STORE, [](gantry::testing::Asked a) { a.ok(); });
  gantry::testing::Subject<Thrower> m(host, "t");
  EXPECT_EQ(m.call(16, Buffer()).error().code, Code::cancelled) << "the call is complete all the same";
  EXPECT_TRUE(host.logged("exception out of call"));
  EXPECT_TRUE(host.logged("exception of an unknown type out of reply"));
  auto open = m.enqueue(17, Buffer());
  open.cancel();
  host.run();
  EXPECT_THAT(host.faults(), ElementsAre());
}

}  // namespace
}  // namespace gantry
