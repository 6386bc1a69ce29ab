// Watching an instance: what is seen of calls and requests, what a slow reader loses, what it may not see.
#include "kernel/module/trace.hpp"
#include "kernel/module/method_names.hpp"
#include "support.hpp"

#include <gantry/authenticator_generated.h>
#include <gantry/control_generated.h>
#include <gantry/host_generated.h>
#include <gantry/image_generated.h>

namespace gantry::module {
namespace {

using namespace std::chrono_literals;
using fb::trace::BodyState;
using fb::trace::EntryT;
using fb::trace::What;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class Keeper final : public Service {
 public:
  void request(const ServiceRequest&, ServiceReply reply) override { last = std::move(reply); }
  ServiceReply last;
};

class Traced : public testing::Test {
 protected:
  void SetUp() override {
    auto loaded = load_library(configured("fetcher", "misbehaves", bad("misbehaves")));
    ASSERT_TRUE(loaded.has_value()) << loaded.error().message;
    services = {{fb::host::Service::HTTP, &http}};
    InstanceSetup s;
    s.loop = &loop;
    s.strands = &strands;
    s.metrics = &metrics;
    s.services = &services;
    s.allowed = {"http"};
    s.kind = "fetcher";
    s.name = "misbehaves";
    s.provider = loaded->provider;
    instance = std::make_unique<LocalInstance>(std::move(s));
    spawn(instance->create(), [](Status) {});
    loop.run();
    instance->set_state(State::running);
  }
  void TearDown() override {
    traces.reset();
    spawn(instance->stop(true, 1s, 1s), [](const Status&) {});
    loop.run();
    loop.advance(3s);
  }
  std::shared_ptr<Outcome> call(std::uint32_t method, std::string_view body = "", CallOptions options = {}) {
    auto o = std::make_shared<Outcome>();
    last_call = instance->call(method, Buffer(as_bytes(body)), into(o), std::move(options));
    loop.run();
    return o;
  }
  std::uint64_t start(TraceOptions options = {}) {
    Traces::Subject s;
    s.instance = instance.get();
    s.attach = [this](Tracer* t) {
      attached = t;
      instance->trace(t);
    };
    s.header.configure = std::make_unique<fb::ConfigureT>();
    for (const char* key : {"password", "root"}) {
      auto v = std::make_unique<fb::SettingT>();
      v->key = key;
      v->text = "value";
      s.header.configure->settings.push_back(std::move(v));
    }
    s.secret_keys = {"password"};
    auto t = traces->start(std::move(s), options);
    if (!t) {
      error = t.error().message;
      return 0;
    }
    header = *t->header;
    return t->id;
  }
  // All there is now.
  std::vector<EntryT> read(std::uint64_t id) {
    std::vector<EntryT> out;
    lost = 0;
    error.clear();
    for (;;) {
      std::size_t got = 0;
      traces->read(id, 0s, [&](const Result<fb::control::TraceT>& t) {
        if (!t) {
          error = t.error().message;
          return;
        }
        got = t->entries.size();
        lost += t->lost;
        for (const auto& e : t->entries) out.push_back(*e);
      });
      loop.run();
      if (!got) return out;
    }
  }
  static std::vector<std::string> shapes(const std::vector<EntryT>& entries) {
    std::vector<std::string> out;
    for (const EntryT& e : entries) {
      std::string s = fb::trace::EnumNameWhat(e.what);
      s += " " + entry_name("fetcher", e);
      if (e.code) s += " " + std::string(to_string(static_cast<Code>(e.code)));
      out.push_back(std::move(s));
    }
    return out;
  }

  LogLines log;
  base::ManualLoop loop;
  Strands strands{loop};
  base::Metrics metrics;
  Keeper http;
  Services services;
  std::unique_ptr<LocalInstance> instance;
  std::unique_ptr<Traces> traces = std::make_unique<Traces>(loop);
  Tracer* attached = nullptr;
  std::uint64_t last_call = 0, lost = 0;
  fb::trace::HeaderT header;
  std::string error;
};

TEST_F(Traced, ACallIsSeenWithItsSizesButNotItsBody) {
  const auto id = start();
  Pipe pipe;
  call(16, "hello", {loop.now() + 5s, {pipe.ends[0]}});
  const auto seen = read(id);
  EXPECT_THAT(shapes(seen), ElementsAre("CALL FETCH", "DONE FETCH"));
  EXPECT_EQ(seen[0].size, 5u);
  EXPECT_EQ(seen[0].deadline_ns, 5'000'000'000u);
  EXPECT_EQ(seen[0].nfds, 1u);
  EXPECT_EQ(seen[1].token, seen[0].token);
  EXPECT_EQ(seen[1].asked_size, 5u);
  EXPECT_EQ(seen[1].size, 5u);
  EXPECT_EQ(seen[1].nfds, 1u);
  EXPECT_TRUE(seen[1].latency_ns.has_value());
  for (const auto& e : seen) {
    EXPECT_THAT(e.body, IsEmpty());
    EXPECT_EQ(e.body_state, BodyState::NOT_ASKED);
  }
}
TEST_F(Traced, BodiesWhenAskedFor) {
  const auto id = start({true, false, 4});
  call(16, "abcd");
  call(16, "abcde");
  const auto seen = read(id);
  ASSERT_EQ(seen.size(), 4u);
  EXPECT_EQ(std::string(seen[0].body.begin(), seen[0].body.end()), "abcd");
  EXPECT_EQ(seen[0].body_state, BodyState::WHOLE);
  EXPECT_EQ(seen[2].body_state, BodyState::TOO_LARGE);
  EXPECT_EQ(seen[2].size, 5u);
  EXPECT_THAT(seen[2].body, IsEmpty());
}
TEST_F(Traced, LatencyIsTheLoopsTime) {
  const auto id = start();
  Pipe pipe;
  call(23, "");
  loop.advance(7ms);
  http.last(GANTRY_MORE, as_bytes("part"));
  loop.run();
  loop.advance(3ms);
  http.last(GANTRY_OK, as_bytes("x"));
  loop.run();
  const auto seen = read(id);
  EXPECT_THAT(shapes(seen), ElementsAre("CALL 23", "REQUEST http.WATCH", "REQUEST_CHUNK http.WATCH MORE",
                                        "CHUNK 23 MORE", "REQUEST_DONE http.WATCH", "DONE 23"));
  EXPECT_EQ(seen[2].latency_ns, 7'000'000u);
  EXPECT_EQ(seen[2].size, 4u);
  EXPECT_EQ(seen[4].latency_ns, 10'000'000u);
  EXPECT_EQ(seen[4].chunks, 1u);
  EXPECT_EQ(seen[4].service, static_cast<std::uint32_t>(fb::host::Service::HTTP));
  EXPECT_NE(seen[1].token, seen[0].token);
  EXPECT_EQ(seen[5].token, seen[0].token);
  EXPECT_EQ(seen[5].at_ns, 10'000'000u);
}
TEST_F(Traced, ErrorsBringTheirSentence) {
  const auto id = start();
  call(29);
  const auto seen = read(id);
  EXPECT_THAT(shapes(seen), ElementsAre("CALL 29", "REQUEST store.GET", "REQUEST_DONE store.GET UNIMPLEMENTED",
                                        "DONE 29 UNIMPLEMENTED"));
  EXPECT_THAT(unpack_error(seen[2].code, seen[2].body).message, HasSubstr("offers no host service store"));
}
TEST_F(Traced, ADeadlineIsGivenUpAndTheLateAnswerStillSeen) {
  const auto id = start();
  call(23, "", {loop.now() + 1s, {}});
  loop.advance(1s);
  http.last(GANTRY_OK, {});
  loop.run();
  EXPECT_THAT(shapes(read(id)), ElementsAre("CALL 23", "REQUEST http.WATCH", "GAVE_UP 23 DEADLINE_EXCEEDED",
                                            "CANCEL 23", "REQUEST_DONE http.WATCH", "DONE 23"));
}
TEST_F(Traced, FaultsAreSeen) {
  const auto id = start();
  call(17);
  const auto seen = read(id);
  EXPECT_THAT(shapes(seen), ElementsAre("CALL 17", "DONE 17", "FAULT FAULT"));
  EXPECT_EQ(std::string(seen[2].body.begin(), seen[2].body.end()),
            "completed a call that was complete already; ignored");
}
TEST_F(Traced, CallsToAStoppedModuleAreSeenAsRefused) {
  const auto id = start();
  instance->set_state(State::failed);
  call(16);
  instance->set_state(State::running);
  EXPECT_THAT(shapes(read(id)), ElementsAre("GAVE_UP FETCH UNAVAILABLE"));
}
TEST_F(Traced, WhatBeganBeforeHasNoLatency) {
  call(23);
  const auto id = start();
  http.last(GANTRY_OK, {});
  loop.run();
  const auto seen = read(id);
  EXPECT_THAT(shapes(seen), ElementsAre("REQUEST_DONE http.WATCH", "DONE 23"));
  EXPECT_FALSE(seen[0].latency_ns.has_value());
  EXPECT_FALSE(seen[1].latency_ns.has_value());
}

// ---- readers

TEST_F(Traced, NobodyWatchesAfterTheLastEnd) {
  EXPECT_EQ(attached, nullptr);
  const auto a = start(), b = start();
  EXPECT_NE(attached, nullptr);
  EXPECT_EQ(traces->running(instance.get()), 2u);
  EXPECT_TRUE(traces->end(a).has_value());
  EXPECT_NE(attached, nullptr);
  EXPECT_TRUE(traces->end(b).has_value());
  EXPECT_EQ(attached, nullptr);
  EXPECT_FALSE(traces->end(b).has_value());
  EXPECT_EQ(call(16, "x")->body, "x");
}
TEST_F(Traced, TwoReadersSeeTheSame) {
  const auto a = start(), b = start({true, false, 100});
  call(16, "x");
  EXPECT_EQ(shapes(read(a)), shapes(read(b)));
  EXPECT_TRUE(traces->end(a).has_value());
  call(16, "x");
  EXPECT_EQ(read(b).size(), 2u);
}
TEST_F(Traced, AReadWaitsForWhatComes) {
  const auto id = start();
  int answers = 0;
  std::size_t got = 0;
  const auto ask = [&] {
    traces->read(id, 1s, [&](const Result<fb::control::TraceT>& t) {
      ++answers;
      got = t->entries.size();
    });
  };
  ask();
  loop.advance(900ms);
  EXPECT_EQ(answers, 0);
  call(16);
  loop.advance(20ms);  // what comes together is answered together
  EXPECT_EQ(answers, 1);
  EXPECT_EQ(got, 2u);
  ask();
  loop.advance(1s);
  EXPECT_EQ(answers, 2);
  EXPECT_EQ(got, 0u);
}
TEST_F(Traced, ASecondReadEndsTheWaitOfTheFirst) {
  const auto id = start();
  int first = 0, second = 0;
  traces->read(id, 10s, [&](const Result<fb::control::TraceT>&) { ++first; });
  traces->read(id, 10s, [&](const Result<fb::control::TraceT>&) { ++second; });
  loop.run();
  EXPECT_EQ(first, 1);
  EXPECT_EQ(second, 0);
  EXPECT_TRUE(traces->end(id).has_value());
  loop.run();
  EXPECT_EQ(second, 1);
}
TEST_F(Traced, ASlowReaderLosesAndIsToldHowMuch) {
  const auto id = start();
  for (int i = 0; i < 10'000; ++i) call(16);
  const auto seen = read(id);
  EXPECT_EQ(seen.size() + lost, 20'000u);
  EXPECT_EQ(seen.size(), 16'384u);
  EXPECT_EQ(seen[0].token, 1u) << "the oldest is kept";
  call(16);
  EXPECT_EQ(read(id).size(), 2u);
  EXPECT_EQ(lost, 0u);
}
TEST_F(Traced, BytesAreBoundedToo) {
  const auto id = start({true, false, std::size_t{1} << 20});
  const std::string mebibyte(1 << 20, 'x');
  for (int i = 0; i < 10; ++i) call(16, mebibyte);
  const auto seen = read(id);
  EXPECT_LT(seen.size(), 9u);
  EXPECT_EQ(seen.size() + lost, 20u);
}
TEST_F(Traced, AnAnswerIsOfBoundedSize) {
  const auto id = start();
  for (int i = 0; i < 1'000; ++i) call(16);
  std::size_t got = 0;
  traces->read(id, 0s, [&](const Result<fb::control::TraceT>& t) { got = t->entries.size(); });
  loop.run();
  EXPECT_EQ(got, 1024u);
  EXPECT_EQ(read(id).size(), 2'000u - 1024u);
}
TEST_F(Traced, AReaderThatWentAwayIsForgotten) {
  const auto id = start();
  loop.advance(9s);
  EXPECT_NE(attached, nullptr);
  loop.advance(6s);
  EXPECT_EQ(attached, nullptr);
  read(id);
  EXPECT_THAT(error, HasSubstr("there is no trace"));
}
TEST_F(Traced, AReaderThatReadsStays) {
  const auto id = start();
  for (int i = 0; i < 20; ++i) {
    loop.advance(5s);
    read(id);
    EXPECT_EQ(error, "");
  }
  EXPECT_NE(attached, nullptr);
}
TEST_F(Traced, ThereIsALimit) {
  for (int i = 0; i < 16; ++i) EXPECT_NE(start(), 0u);
  EXPECT_EQ(start(), 0u);
  EXPECT_THAT(error, HasSubstr("16 traces are running"));
}
TEST_F(Traced, TheEndOfTracesEndsTheWait) {
  const auto id = start();
  int answers = 0;
  traces->read(id, 10s, [&](const Result<fb::control::TraceT>&) { ++answers; });
  traces.reset();
  loop.run();
  EXPECT_EQ(answers, 1);
  EXPECT_EQ(attached, nullptr);
}
TEST_F(Traced, ACallThatIsNeverAnsweredIsNoTrouble) {
  const auto id = start();
  call(18);  // never answers
  EXPECT_EQ(call(16, "x")->body, "x");
  EXPECT_TRUE(traces->end(id).has_value());
}

// ---- what may be seen

TEST_F(Traced, SecretSettingsAreNotInTheHeader) {
  start({true, false, 100});
  EXPECT_EQ(header.configure->settings[0]->text, "");
  EXPECT_EQ(header.configure->settings[1]->text, "value");
  EXPECT_FALSE(header.secrets);
  start({true, true, 100});
  EXPECT_EQ(header.configure->settings[0]->text, "value");
  EXPECT_TRUE(header.secrets);
  start({false, true, 100});
  EXPECT_EQ(header.configure->settings[0]->text, "") << "secrets come with bodies only";
}
TEST_F(Traced, ConfigureWithSecretsIsBlanked) {
  const auto id = start({true, false, 100}), all = start({true, true, 100});
  call(GANTRY_METHOD_CONFIGURE, "settings");
  const auto seen = read(id);
  EXPECT_EQ(seen[0].body_state, BodyState::BLANKED);
  EXPECT_THAT(seen[0].body, IsEmpty());
  EXPECT_EQ(seen[0].size, 8u);
  const auto whole = read(all);
  EXPECT_EQ(std::string(whole[0].body.begin(), whole[0].body.end()), "settings");
}

std::vector<std::uint8_t> bytes_of(const Buffer& b) { return {b.data(), b.data() + b.size()}; }

template <class T>
BodyState hidden(const char* kind, What what, std::uint32_t service, std::uint32_t method, T& message) {
  EntryT e;
  e.what = what;
  e.service = service;
  e.method = method;
  std::vector<std::uint8_t> body = bytes_of(pack(message));
  const BodyState s = hide_credentials(kind, e, false, body);
  if (!body.empty()) message = *unpack<typename T::TableType>(body);
  return s;
}

constexpr auto http_service = static_cast<std::uint32_t>(fb::host::Service::HTTP);
std::uint32_t http_method(fb::host::HttpMethod m) { return static_cast<std::uint32_t>(m); }

TEST(HideCredentials, AnAuthenticatorsQuestionsAreBlanked) {
  fb::authenticator::CredentialsT c;
  c.secret = "s3cret";
  EXPECT_EQ(hidden("authenticator", What::CALL, 0, 16, c), BodyState::BLANKED);
  fb::authenticator::IdentityT who;
  who.principal = "ops";
  EXPECT_EQ(hidden("authenticator", What::DONE, 0, 16, who), BodyState::WHOLE);
  EXPECT_EQ(who.principal, "ops");
}
TEST(HideCredentials, AccountsOfPullsAreMasked) {
  fb::image::PullT p;
  p.container_id = "c1";
  p.name = "registry.example/app";
  EXPECT_EQ(hidden("image", What::CALL, 0, 16, p), BodyState::WHOLE);
  p.config = "{\"auths\":{}}";
  p.credential = std::make_unique<fb::CredentialT>();
  p.credential->principal = "ops";
  p.credential->secret = "s3cret";
  EXPECT_EQ(hidden("image", What::CALL, 0, 16, p), BodyState::MASKED);
  EXPECT_EQ(p.name, "registry.example/app");
  EXPECT_EQ(p.credential->principal, "ops");
  EXPECT_EQ(p.credential->secret, "******");
  EXPECT_EQ(p.config, std::string(12, '*'));
}
TEST(HideCredentials, HeadersThatProveWhoSomebodyIsAreMasked) {
  fb::host::RequestT r;
  r.body = {1, 2, 3};
  for (const auto& [name, value] :
       {std::pair{"authorization", "Basic b3BzOnBhc3M="}, {"accept", "*/json"}, {"Cookie", "id=7"}}) {
    auto h = std::make_unique<fb::host::HeaderT>();
    h->name = name;
    h->value = value;
    r.headers.push_back(std::move(h));
  }
  EXPECT_EQ(hidden("framework", What::REQUEST_CHUNK, http_service, http_method(fb::host::HttpMethod::LISTEN), r),
            BodyState::MASKED);
  EXPECT_EQ(r.headers[0]->value, "******************");
  EXPECT_EQ(r.headers[1]->value, "*/json");
  EXPECT_EQ(r.headers[2]->value, "****");
  EXPECT_THAT(r.body, ElementsAre(1, 2, 3));
}
TEST(HideCredentials, OrdinaryRequestsAreWhole) {
  fb::host::RequestT r;
  r.target = "/v2/apps";
  EXPECT_EQ(hidden("framework", What::REQUEST_CHUNK, http_service, http_method(fb::host::HttpMethod::LISTEN), r),
            BodyState::WHOLE);
  fb::host::ListeningT l;
  l.address = "127.0.0.1:8080";
  EXPECT_EQ(hidden("framework", What::REQUEST_CHUNK, http_service, http_method(fb::host::HttpMethod::LISTEN), l),
            BodyState::WHOLE);
  EXPECT_EQ(l.address, "127.0.0.1:8080");
}
TEST(HideCredentials, UsersInUrlsAreMasked) {
  fb::host::FetchT f;
  f.url = "https://me:pass@host/a@b";
  EXPECT_EQ(hidden("fetcher", What::REQUEST, http_service, http_method(fb::host::HttpMethod::FETCH), f),
            BodyState::MASKED);
  EXPECT_EQ(f.url, "https://*******@host/a@b");
  f.url = "https://host/a@b";
  EXPECT_EQ(hidden("fetcher", What::REQUEST, http_service, http_method(fb::host::HttpMethod::FETCH), f),
            BodyState::WHOLE);
}
TEST(HideCredentials, SecretsOfQuestionsAreMasked) {
  fb::control::QuestionT q;
  q.secret = "hunter2";
  q.ask.Set(fb::control::AskStatusT{});
  EntryT e;
  e.what = What::REQUEST;
  e.service = static_cast<std::uint32_t>(fb::host::Service::QUERY);
  std::vector<std::uint8_t> body = bytes_of(pack(q));
  EXPECT_EQ(hide_credentials("gateway", e, false, body), BodyState::MASKED);
  EXPECT_EQ(unpack<fb::control::Question>(body)->secret, "*******");
}
TEST(HideCredentials, WhatCannotBeReadIsBlanked) {
  EntryT e;
  e.what = What::REQUEST_CHUNK;
  e.service = http_service;
  e.method = http_method(fb::host::HttpMethod::LISTEN);
  std::vector<std::uint8_t> body(40, 0xff);
  EXPECT_EQ(hide_credentials("framework", e, false, body), BodyState::BLANKED);
  EXPECT_THAT(body, IsEmpty());
}

TEST(MethodNames, AreThoseOfTheSchemas) {
  EXPECT_EQ(method_name("isolator", 16), "PREPARE");
  EXPECT_EQ(method_name("store", 17), "COMMIT");
  EXPECT_EQ(method_name("store", 3), "HEALTH");
  EXPECT_EQ(method_name("store", 999), "999");
  EXPECT_EQ(method_name("framework", 16), "16");
  EXPECT_EQ(request_name(2, 17), "store.COMMIT");
  EXPECT_EQ(request_name(1, 16), "cluster.SUBSCRIBE");
  EXPECT_EQ(request_name(4, 0), "query.0");
  EXPECT_EQ(request_name(77, 16), "77.16");
  EXPECT_THAT(all_names("election"), testing::IsSupersetOf({"RECOVER", "CONTEND", "WATCH", "http.FETCH"}));
  // Each kind this kernel serves and that has methods of its own names them.
  for (const Kind& k : kinds)
    if (k.name != "framework" && k.name != "gateway") {
      EXPECT_NE(method_name(k.name, 16), "16") << k.name;
    }
}

}  // namespace
}  // namespace gantry::module
