// The agent's API between a fake HTTP service and a fake daemon.
#include "../mesos.hpp"

#include <gantry/authorizer_generated.h>
#include <gantry/control_generated.h>
#include <gantry/operator_agent_generated.h>
#include <gantry/testing/host.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace gantry::gateway_mesos {
namespace {

namespace op = fb::agent;
using gantry::testing::Asked;
using ::testing::HasSubstr;
using ::testing::Not;
using Service = fb::host::Service;
using HttpMethod = fb::host::HttpMethod;

class AgentApiTest : public ::testing::Test {
 protected:
  void SetUp() override {
    host.serve(Service::HTTP, [this](Asked a) {
      switch (static_cast<HttpMethod>(a.method)) {
        case HttpMethod::LISTEN: {
          listener = a;
          fb::host::ListeningT l;
          l.address = "127.0.0.1:5051";
          return a.more(l);
        }
        case HttpMethod::RESPOND:
          answers.push_back(std::move(*a.as<fb::host::Respond>()));
          if (answers.back().more && !answers.back().body.empty()) waiting = a;  // no room for more
          else a.ok();
          return;
        default: return;
      }
    });
    host.serve(Service::OPERATE, [this](Asked a) {
      const auto body = a.as<fb::host::Operate>();
      ASSERT_TRUE(body);
      op::CallT call;
      flatbuffers::GetRoot<op::Call>(body->call.data())->UnPackTo(&call);
      op::ResponseT r;
      if (call.type == op::CallType::READ_FILE) {
        ++reads;
        r.read_file = std::make_unique<fb::ops::ReadFileT>();
        r.read_file->size = file.size();
        const auto at = std::min<std::size_t>(call.read_file->offset, file.size());
        const std::string piece = file.substr(at, 4);
        r.read_file->data.assign(piece.begin(), piece.end());
      } else if (call.type == op::CallType::GET_AGENT) {
        r.get_agent = std::make_unique<op::GetAgentT>();
        r.get_agent->agent_info = std::make_unique<fb::AgentInfoT>();
        r.get_agent->agent_info->id = "A";
      } else if (call.type == op::CallType::GET_FLAGS) {
        r.get_flags = std::make_unique<fb::ops::GetFlagsT>();
        r.get_flags->flags.push_back(std::make_unique<fb::ops::FlagT>());
        r.get_flags->flags.back()->name = "secret_flag";
        r.get_flags->flags.back()->value = "x";
      }
      a.ok(r);
    });
    host.serve(Service::QUERY, [](Asked a) {
      fb::control::AnswerT answer;
      answer.say.Set(fb::control::StatusT());
      a.ok(answer);
    });
    host.serve(Service::AUTHORIZE, [this](Asked a) {
      if (!guarded) return a.fail(fail(Code::unimplemented, "no authorizer"));
      if (static_cast<fb::authorizer::Method>(a.method) == fb::authorizer::Method::CHANGED) return a.reply(GANTRY_MORE);
      const auto q = a.as<fb::authorizer::Questions>();
      ASSERT_TRUE(q);
      fb::authorizer::VerdictsT v;
      for (const auto& one : q->questions) v.allowed.push_back(one->action != refused);
      a.ok(v);
    });
  }
  void begin() {
    m.roles({"agent"});
    ASSERT_TRUE(m.configure({{"agent_address", "127.0.0.1:5051"}, {"agent_advertise", ""}, {"insecure", true}}));
    ASSERT_TRUE(m.start());
    host.run();
  }
  void get(std::string target) {
    fb::host::RequestT r;
    r.id = 1;
    r.method = "GET";
    r.target = std::move(target);
    listener.more(r);
    host.run();
  }
  void room() {
    waiting.ok();
    host.run();
  }
  std::string body() const {
    std::string out;
    for (const auto& a : answers) out.append(a.body.begin(), a.body.end());
    return out;
  }

  Asked listener, waiting;
  std::vector<fb::host::RespondT> answers;
  std::string file = "0123456789", refused;
  bool guarded = false;
  int reads = 0;
  gantry::testing::Host host;
  gantry::testing::Subject<Mesos> m{host, "mesos"};
};

TEST_F(AgentApiTest, ADownloadGoesOnWhenThereIsRoom) {
  begin();
  get("/files/download?path=/frameworks/F/x");
  ASSERT_EQ(answers.size(), 2u);
  bool announced = false;
  for (const auto& h : answers[0].headers) announced |= h->name == "Content-Length" && h->value == "10";
  EXPECT_TRUE(announced);
  EXPECT_EQ(body(), "0123");
  host.run();
  EXPECT_EQ(reads, 1);
  file += "more";  // it is sent as it was
  room();
  EXPECT_EQ(body(), "01234567");
  EXPECT_EQ(reads, 2);
  room();
  EXPECT_EQ(body(), "0123456789");
  EXPECT_TRUE(answers.back().more);
  room();
  EXPECT_FALSE(answers.back().more);
  EXPECT_EQ(reads, 3);
}

TEST_F(AgentApiTest, ADownloadEndsWhenTheFileShrinksOrTheClientGoes) {
  begin();
  get("/files/download?path=/frameworks/F/x");
  file = "01";
  room();
  EXPECT_EQ(body(), "0123");
  EXPECT_FALSE(answers.back().more);
  file = "0123456789";
  answers.clear();
  get("/files/download?path=/frameworks/F/x");
  const int before = reads;
  waiting.fail(fail(Code::cancelled, "the client has gone"));
  host.run();
  EXPECT_EQ(reads, before);
  EXPECT_EQ(body(), "0123");
}

TEST_F(AgentApiTest, StateTellsFlagsToThoseWhoMaySeeThem) {
  guarded = true;
  begin();
  get("/state");
  EXPECT_THAT(body(), HasSubstr("secret_flag"));
}

TEST_F(AgentApiTest, StateTellsNoFlagsToOthers) {
  guarded = true;
  refused = "view_flags";
  begin();
  get("/state");
  EXPECT_THAT(body(), HasSubstr("\"id\":\"A\""));
  EXPECT_THAT(body(), Not(HasSubstr("flags")));
}

}  // namespace
}  // namespace gantry::gateway_mesos
