#include "@NAME_ID@.hpp"

#include <gantry/testing/host.hpp>

#include <gtest/gtest.h>

namespace @NAME_ID@ {
namespace {

using namespace gantry;
using gantry::testing::Asked;
using fb::host::HttpMethod;

// The test is the clients and the daemon.
class @CLASS@Test : public ::testing::Test {
 protected:
  void SetUp() override {
    host.serve(fb::host::Service::HTTP, [this](Asked a) {
      if (a.method == static_cast<std::uint32_t>(HttpMethod::LISTEN)) {
        listener = a;
        return a.more(fb::host::ListeningT());
      }
      answers.push_back(std::move(*a.as<fb::host::Respond>()));
      a.ok();
    });
    host.serve(fb::host::Service::QUERY, [this](Asked a) {
      fb::control::StatusT status;
      status.leader = leader;
      fb::control::AnswerT answer;
      answer.say.Set(status);
      a.ok(answer);
    });
    ASSERT_TRUE(m.configure({{"address", "127.0.0.1:0"}, {"realm", ""}, {"insecure", false}}));
    ASSERT_TRUE(m.start());
  }
  ~@CLASS@Test() override { EXPECT_EQ(host.faults(), std::vector<std::string>{}); }  // no breach of the ABI
  std::uint16_t get(std::string target) {
    fb::host::RequestT r;
    r.id = answers.size() + 1;
    r.method = "GET";
    r.target = std::move(target);
    listener.more(r);
    host.run();
    return answers.size() == r.id ? answers.back().status : 0;
  }
  Asked listener;
  std::string leader;
  std::vector<fb::host::RespondT> answers;
  gantry::testing::Host host;
  gantry::testing::Subject<@CLASS@> m{host, "@NAME@"};
};

TEST_F(@CLASS@Test, SaysWhoLeads) {
  EXPECT_EQ(get("/leader"), 503);
  leader = "10.0.0.1:5060";
  EXPECT_EQ(get("/leader"), 200);
  EXPECT_EQ(std::string(answers.back().body.begin(), answers.back().body.end()), "10.0.0.1:5060\n");
  EXPECT_EQ(get("/else"), 404);
}

TEST_F(@CLASS@Test, StopsListening) {
  ASSERT_TRUE(m.stop());
  EXPECT_TRUE(listener.cancelled());
}

}  // namespace
}  // namespace @NAME_ID@
