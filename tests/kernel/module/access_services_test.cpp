// The host services AUTH and AUTHORIZE: whom they ask, in what order, and what they make of the answers.
#include "kernel/base/manual_loop.hpp"
#include "kernel/module/auth_service.hpp"
#include "kernel/module/authorize_service.hpp"
#include "tests/kernel/master/fake_instance.hpp"

#include <gantry/authenticator_generated.h>
#include <gantry/authorizer_generated.h>

#include <gtest/gtest.h>

#include <deque>

namespace gantry::module {
namespace {

using Answer = std::function<void(gantry_code, Bytes)>;

struct World {
  base::ManualLoop loop;
  std::deque<FakeInstance> instances;
  std::vector<gantry_code> codes;
  std::vector<Buffer> bodies;
  FakeInstance caller{loop, "gateway", "test", {}};

  void add(FakeInstance::Handler handler) { instances.emplace_back(loop, "kind", "m" + std::to_string(instances.size()), std::move(handler)); }
  std::vector<Instance*> all() {
    std::vector<Instance*> out;
    for (auto& i : instances) out.push_back(&i);
    return out;
  }
  void ask(Service& service, std::uint32_t method, const Buffer& body, std::uint64_t id = 1) {
    service.request({&caller, method, body, id}, [this](gantry_code code, Bytes b) {
      codes.push_back(code);
      bodies.emplace_back(b);
    });
    loop.run();
  }
};

namespace fz = fb::authorizer;
constexpr auto kAuthorize = static_cast<std::uint32_t>(fz::Method::AUTHORIZE);
constexpr auto kChanged = static_cast<std::uint32_t>(fz::Method::CHANGED);

Buffer questions(int n) {
  fz::QuestionsT q;
  for (int i = 0; i < n; ++i) {
    q.questions.push_back(std::make_unique<fz::QuestionT>());
    q.questions.back()->action = "a" + std::to_string(i);
  }
  return pack(q);
}
FakeInstance::Handler verdicts(std::vector<bool> allowed) {
  return [allowed](std::uint32_t method, Bytes, const Answer& reply) {
    if (method != kAuthorize) return reply(GANTRY_UNIMPLEMENTED, {});
    fz::VerdictsT v;
    v.allowed = allowed;
    reply(GANTRY_OK, pack(v));
  };
}
std::vector<bool> allowed(const Buffer& b) {
  const auto v = unpack<fz::Verdicts>(Bytes(b));
  return v ? v->allowed : std::vector<bool>();
}

TEST(Authorize, NobodyToAskMeansYes) {
  World w;
  AuthorizeService s(w.loop, [&] { return w.all(); });
  w.ask(s, kAuthorize, questions(2));
  EXPECT_EQ(allowed(w.bodies.at(0)), (std::vector<bool>{true, true}));
  w.ask(s, kChanged, Buffer());
  EXPECT_EQ(w.codes.at(1), GANTRY_UNIMPLEMENTED);
}

TEST(Authorize, EachMustAllowIt) {
  World w;
  w.add(verdicts({true, false, true}));
  w.add(verdicts({true, true, false}));
  AuthorizeService s(w.loop, [&] { return w.all(); });
  w.ask(s, kAuthorize, questions(3));
  ASSERT_EQ(w.codes, std::vector<gantry_code>{GANTRY_OK});
  EXPECT_EQ(allowed(w.bodies.at(0)), (std::vector<bool>{true, false, false}));
}

TEST(Authorize, AnErrorOrAMissingVerdictMeansNo) {
  for (const auto& broken : {verdicts({true}), verdicts({}), FakeInstance::Handler([](std::uint32_t, Bytes, const Answer& reply) { reply(GANTRY_UNAVAILABLE, {}); }),
                             FakeInstance::Handler([](std::uint32_t, Bytes, const Answer& reply) { reply(GANTRY_OK, {}); })}) {
    World w;
    w.add(verdicts({true, true}));
    w.add(broken);
    AuthorizeService s(w.loop, [&] { return w.all(); });
    w.ask(s, kAuthorize, questions(2));
    ASSERT_EQ(w.codes.size(), 1u);
    EXPECT_LT(w.codes[0], 0);
  }
}

TEST(Authorize, ChangesAreTold) {
  World w;
  w.add([&](std::uint32_t method, Bytes, const Answer&) { EXPECT_EQ(method, kChanged); });
  AuthorizeService s(w.loop, [&] { return w.all(); });
  w.ask(s, kChanged, Buffer(), 7);
  EXPECT_EQ(w.codes, std::vector<gantry_code>{GANTRY_MORE}) << "there is somebody to ask";
  s.cancelled(7);
  EXPECT_EQ(w.codes.back(), GANTRY_CANCELLED);
}

TEST(Authorize, ALostStreamIsAChangeAndAskedForAgain) {
  World w;
  int asked = 0;
  w.add([&](std::uint32_t, Bytes, const Answer& reply) {
    if (++asked == 1) reply(GANTRY_UNAVAILABLE, {});
  });
  AuthorizeService s(w.loop, [&] { return w.all(); });
  w.ask(s, kChanged, Buffer());
  EXPECT_EQ(w.codes, (std::vector<gantry_code>{GANTRY_MORE, GANTRY_MORE}));
  w.loop.advance(std::chrono::seconds(2));
  EXPECT_EQ(asked, 2);
}

namespace fa = fb::authenticator;
constexpr auto kAuthenticate = static_cast<std::uint32_t>(fa::Method::AUTHENTICATE);

FakeInstance::Handler knows(std::string principal) {
  return [principal](std::uint32_t, Bytes, const Answer& reply) {
    if (principal == "-") return reply(GANTRY_UNIMPLEMENTED, {});
    if (principal == "!") return reply(GANTRY_UNAUTHENTICATED, {});
    fa::IdentityT i;
    i.principal = principal;
    reply(GANTRY_OK, pack(i));
  };
}

TEST(Auth, AsksUntilSomebodyKnowsTheScheme) {
  World w;
  w.add(knows("-"));
  w.add(knows("alice"));
  w.add(knows("bob"));
  AuthService s(w.loop, [&] { return w.all(); });
  w.ask(s, kAuthenticate, pack(fa::CredentialsT()));
  ASSERT_EQ(w.codes, std::vector<gantry_code>{GANTRY_OK});
  EXPECT_EQ(unpack<fa::Identity>(Bytes(w.bodies[0]))->principal, "alice");
  EXPECT_EQ(w.instances[2].calls, 0);
}

TEST(Auth, LetsNobodyInByMistake) {
  for (const char* who : {"-", "!", ""}) {
    World w;
    w.add(knows(who));
    AuthService s(w.loop, [&] { return w.all(); });
    w.ask(s, kAuthenticate, pack(fa::CredentialsT()));
    ASSERT_EQ(w.codes.size(), 1u);
    EXPECT_LT(w.codes[0], 0) << who;
  }
  World none;
  AuthService s(none.loop, [&] { return none.all(); });
  none.ask(s, kAuthenticate, pack(fa::CredentialsT()));
  none.ask(s, 99, Buffer());
  EXPECT_EQ(none.codes, (std::vector<gantry_code>{GANTRY_UNAUTHENTICATED, GANTRY_UNIMPLEMENTED}));
}

}  // namespace
}  // namespace gantry::module
