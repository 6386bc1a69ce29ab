#include "nofile.hpp"

#include <gantry/testing/host.hpp>

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

namespace gantry::isolator_nofile {
namespace {

using fb::isolator::Method;

// A process of ours that waits to be limited and ended.
struct Held {
  pid_t pid = ::fork();
  Held() {
    if (pid == 0) {
      ::pause();
      ::_exit(0);
    }
  }
  ~Held() {
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
  }
  [[nodiscard]] rlimit limit() const {
    rlimit r{};
    EXPECT_EQ(::prlimit(pid, RLIMIT_NOFILE, nullptr, &r), 0);
    return r;
  }
};

class NofileTest : public ::testing::Test {
 protected:
  NofileTest() { m.defaults({{"limit", 64}, {"ceiling", 100}}); }
  ~NofileTest() override { EXPECT_EQ(host.faults(), std::vector<std::string>{}); }  // no breach of the ABI on the way
  Status prepare(const char* label = nullptr) {
    fb::isolator::PrepareT p;
    p.container_id = "c1";
    p.task = std::make_unique<fb::TaskInfoT>();
    if (label) {
      auto l = std::make_unique<fb::LabelT>();
      l->key = "nofile";
      l->value = label;
      p.task->labels.push_back(std::move(l));
    }
    const auto r = m.call<fb::isolator::Prepared>(Method::PREPARE, p);
    if (!r) return Error(r.error());
    return ok;
  }
  Status attach(pid_t pid) {
    fb::isolator::AttachT a;
    a.container_id = "c1";
    a.pid = pid;
    return m.call(Method::ATTACH, a);
  }
  Status cleanup() {
    fb::isolator::CleanupT c;
    c.container_id = "c1";
    return m.call(Method::CLEANUP, c);
  }
  testing::Host host;
  testing::Subject<Nofile> m{host, "nofile"};
};

TEST_F(NofileTest, CapsTheHeldProcess) {
  ASSERT_TRUE(m.configure());
  ASSERT_TRUE(prepare());
  const Held task;
  const Status s = attach(task.pid);
  ASSERT_TRUE(s) << s.error().message;
  EXPECT_EQ(task.limit().rlim_cur, 64u);
  EXPECT_EQ(task.limit().rlim_max, 64u);
  EXPECT_TRUE(cleanup());
  EXPECT_TRUE(cleanup());
  EXPECT_EQ(attach(task.pid).error().code, Code::not_found);
}

TEST_F(NofileTest, ATaskMayAskUpToTheCeiling) {
  ASSERT_TRUE(m.configure());
  const Held task;
  ASSERT_TRUE(prepare("80"));
  ASSERT_TRUE(attach(task.pid));
  EXPECT_EQ(task.limit().rlim_cur, 80u);
  for (const char* wrong : {"101", "many", "", "8", "80x"}) EXPECT_EQ(prepare(wrong).error().code, Code::invalid_argument) << wrong;
  EXPECT_NE(prepare("101").error().message.find("allows 100"), std::string::npos);
}

TEST_F(NofileTest, AProcessThatHasGoneIsAnError) {
  ASSERT_TRUE(m.configure());
  ASSERT_TRUE(prepare());
  pid_t gone = 0;
  {
    const Held task;
    gone = task.pid;
  }
  EXPECT_EQ(attach(gone).error().code, Code::not_found);
  EXPECT_EQ(attach(0).error().code, Code::invalid_argument);  // 0 would be ourselves
}

TEST_F(NofileTest, ContainersFromBeforeAreKnownAgain) {
  ASSERT_TRUE(m.configure());
  fb::isolator::RecoverT r;
  r.containers.push_back(std::make_unique<fb::isolator::KnownT>());
  r.containers[0]->container_id = "c1";
  const auto recovered = m.call<fb::isolator::Recovered>(GANTRY_METHOD_RECOVER, r);
  ASSERT_TRUE(recovered);
  EXPECT_TRUE(recovered->orphans.empty());
  const Held task;
  EXPECT_TRUE(attach(task.pid));
}

TEST_F(NofileTest, AReloadCountsForTheNextTaskAndAWrongOneChangesNothing) {
  ASSERT_TRUE(m.configure());
  ASSERT_TRUE(m.configure({{"limit", 32}}, true));
  const Status wrong = m.configure({{"limit", 200}}, true);
  ASSERT_FALSE(wrong);
  EXPECT_EQ(wrong.error().key_path, "limit");
  const Held task;
  ASSERT_TRUE(prepare());
  ASSERT_TRUE(attach(task.pid));
  EXPECT_EQ(task.limit().rlim_cur, 32u);
}

}  // namespace
}  // namespace gantry::isolator_nofile
