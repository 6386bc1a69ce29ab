// The shell: core, journal, launcher and link together, on a manual clock and a fake disk.
#include "kernel/agent/agent.hpp"
#include "kernel/base/manual_loop.hpp"
#include "tests/kernel/agent/fake_disk.hpp"
#include "tests/kernel/agent/rig.hpp"

#include <gmock/gmock.h>

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace gantry::agent {
namespace {

using fb::TaskState;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using namespace std::chrono_literals;

// Containers that live beyond the agent object, as real ones do.
class FakeLauncher final : public Launcher {
 public:
  explicit FakeLauncher(base::Loop& loop) : loop_(loop) {}
  void on_exit(std::function<void(const std::string&, ExitInfo)> fn) override { exit_ = std::move(fn); }
  void recover(std::vector<KnownContainer> known,
               Function<void(Result<std::vector<RecoveredContainer>>)> done) override {
    std::vector<RecoveredContainer> out;
    for (const auto& k : known) {
      RecoveredContainer r;
      r.container_id = k.spec.container_id;
      r.fate = alive.count(r.container_id) ? RecoveredContainer::Fate::running : RecoveredContainer::Fate::gone;
      out.push_back(std::move(r));
    }
    loop_.post([out = std::move(out), done = std::move(done)]() mutable { done(std::move(out)); });
  }
  void launch(LaunchSpec spec, Function<void(Started)> started) override {
    launches.push_back(spec.task->task_id);
    alive.insert(spec.container_id);
    last = spec;
    loop_.post([started = std::move(started)]() mutable { started(Identity{7, 6, 5}); });
  }
  void kill(const std::string& id, base::Nanos) override {
    if (!alive.erase(id)) return;
    loop_.post([this, id] {
      ExitInfo e;
      e.wait_status = 15;
      exit_(id, e);
    });
  }
  void run_in(const std::string&, const fb::CommandInfoT&, base::Nanos, Function<void(Result<int>)>) override {}
  void usage(std::vector<std::string>, Function<void(Result<std::vector<fb::isolator::UsageT>>)>) override {}
  void release_sandbox(const std::string& sandbox) override { released.push_back(sandbox); }
  void stop(Function<void()> done) override { done(); }
  void exit(const std::string& id, int code) {
    alive.erase(id);
    ExitInfo e;
    e.wait_status = code << 8;
    exit_(id, e);
  }

  std::vector<std::string> launches, released;
  std::set<std::string> alive;
  LaunchSpec last;

 private:
  base::Loop& loop_;
  std::function<void(const std::string&, ExitInfo)> exit_;
};

// A master that registers everyone and keeps what it hears.
class FakeMaster final : public MasterLink {
 public:
  explicit FakeMaster(base::Loop& loop) : loop_(loop) {}
  void events(Events e) override { events_ = std::move(e); }
  void connect(const std::string&) override {
    ++connects;
    loop_.post([this] { events_.up(); });
  }
  void close() override { ++closes; }
  void send(Bytes bytes) override {
    const auto* frame = view<fb::link::ToMaster>(bytes);
    ASSERT_TRUE(frame);
    if (frame->body_as_Hello()) {
      say(fb::link::WelcomeT{});
    } else if (frame->body_as_Register()) {
      fb::link::RegisteredT registered;
      registered.agent_id = "A";
      say(std::move(registered));
    } else if (const auto* x = frame->body_as_ExecutorExited()) {
      heard.push_back(std::string(text(x->executor_id())) + " exited");
    } else if (const auto* u = frame->body_as_StatusUpdate()) {
      fb::TaskStatusT s;
      u->status()->UnPackTo(&s);
      heard.push_back(s.task_id + " " + fb::EnumNameTaskState(s.state));
      messages.push_back(s.message);
      if (acknowledge && !s.uuid.empty()) {
        fb::link::AckUpdateT ack;
        ack.framework_id = text(u->framework_id());
        ack.task_id = s.task_id;
        ack.uuid = s.uuid;
        say(std::move(ack));
      }
    }
  }
  template <class Body>
  void say(Body body) {
    auto bytes = std::make_shared<Buffer>(to_agent(std::move(body)));
    loop_.post([this, bytes] { events_.frame(*bytes); });
  }

  int connects = 0, closes = 0;
  bool acknowledge = true;
  std::vector<std::string> heard, messages;

 private:
  base::Loop& loop_;
  Events events_;
};

// What executors hear, as words.
struct FakeDoor final : ExecutorDoor {
  void send(std::uint64_t stream, Bytes bytes) override {
    const auto* e = view<fb::executor::Event>(bytes);
    ASSERT_TRUE(e);
    heard.push_back(std::to_string(stream) + " " + fb::executor::EnumNameEventType(e->type()));
  }
  void end(std::uint64_t stream, const Status&) override { heard.push_back(std::to_string(stream) + " end"); }
  void answer(std::uint64_t, const Status& status) override { heard.emplace_back(status ? "yes" : "no"); }
  std::vector<std::string> heard;
};

struct World {
  base::ManualLoop loop;
  FakeDisk disk;
  FakeLauncher launcher{loop};
  FakeMaster master{loop};
  FakeDoor door;
  std::unique_ptr<Agent> agent;
  std::string work_dir = "/w";

  void start() {
    AgentOptions o;
    o.work_dir = work_dir;
    o.hostname = "host";
    o.boot_id = "b";
    o.seed = 5;
    agent = std::make_unique<Agent>(loop, std::move(o), disk, launcher, master, Probes{});
    agent->door(&door);
    const auto s = agent->start();
    ASSERT_TRUE(s) << s.error().message;
    agent->of_executors(event::Serve{true, {}});
    agent->leader("m:1");
    loop.run();
    ASSERT_TRUE(agent->core().registered());
  }
  void crash() {
    agent.reset();
    master.heard.clear();
  }
  void run_task(const std::string& id) {
    master.say(agent::run_task(make_task(id), make_framework("F")));
    loop.run();
  }
  // With an executor, which is started and, unless `quiet`, subscribes on stream 1.
  std::string run_with_executor(const std::string& id, bool quiet = false) {
    auto task = make_task(id);
    task.executor = std::make_unique<fb::ExecutorInfoT>();
    task.executor->executor_id = "e";
    task.executor->command = std::move(task.command);
    master.say(agent::run_task(task, make_framework("F")));
    loop.run();
    if (!quiet) subscribe(1);
    return launcher.last.container_id;
  }
  void subscribe(std::uint64_t stream) {
    fb::executor::CallT c;
    c.type = fb::executor::CallType::SUBSCRIBE;
    c.framework_id = "F";
    c.executor_id = "e";
    c.subscribe = std::make_unique<fb::executor::SubscribeT>();
    agent->of_executors(event::ExecutorSubscribe{stream, "", pack(c)});
    loop.run();
  }
  fb::control::AnswerT ask(const fb::control::QuestionT& q) {
    const Buffer bytes = pack(q);
    fb::control::AnswerT out;
    EXPECT_TRUE(
        agent->answer(*view<fb::control::Question>(bytes), [&](fb::control::AnswerT a) { out = std::move(a); }));
    loop.run();
    return out;
  }
};

TEST(Shell, ATaskFromRunToForgotten) {
  World w;
  w.start();
  w.run_task("t");
  w.launcher.exit(w.launcher.last.container_id, 0);
  w.loop.run();
  EXPECT_THAT(w.master.heard, ElementsAre("t TASK_STARTING", "t TASK_RUNNING", "t TASK_FINISHED"));
  EXPECT_THAT(w.launcher.released, ElementsAre(w.launcher.last.sandbox));
}

TEST(Shell, AKilledAgentTakesItsTasksBack) {
  World w;
  w.start();
  w.run_task("t");
  w.crash();
  w.start();
  EXPECT_THAT(w.master.heard, ElementsAre());
  EXPECT_EQ(w.launcher.launches.size(), 1u);
  w.launcher.exit(w.launcher.last.container_id, 2);
  w.loop.run();
  EXPECT_THAT(w.master.heard, ElementsAre("t TASK_FAILED"));
}

TEST(Shell, AFullDiskRefusesNewTasksKeepsOldOnesAndRecovers) {
  World w;
  w.start();
  w.run_task("old");
  const auto old = w.launcher.last.container_id;
  w.master.heard.clear();
  w.disk.space = 10;
  w.run_task("new");  // finds out the hard way
  EXPECT_EQ(w.launcher.launches, std::vector<std::string>{"old"});
  EXPECT_EQ(w.master.heard.back(), "new TASK_FAILED");
  EXPECT_THAT(w.master.messages.back(), HasSubstr("No space left on device"));
  w.run_task("next");  // knows
  EXPECT_EQ(w.master.heard.back(), "next TASK_LOST");
  fb::control::StatusT status;
  w.agent->describe(status);
  ASSERT_EQ(status.warnings.size(), 1u);
  EXPECT_THAT(status.warnings[0], HasSubstr("No space left on device"));

  // The end of the old task is not lost, nor told before it is written.
  w.master.heard.clear();
  w.launcher.exit(old, 0);
  w.loop.advance(5s);
  EXPECT_THAT(w.master.heard, ElementsAre());
  w.disk.space = SIZE_MAX;
  w.loop.advance(2s);
  EXPECT_THAT(w.master.heard, ElementsAre("old TASK_FINISHED"));
  w.run_task("again");
  EXPECT_EQ(w.master.heard.back(), "again TASK_RUNNING");
}

TEST(Shell, KillsReachTheLauncherOnAFullDisk) {
  World w;
  w.start();
  w.run_task("t");
  w.disk.space = 0;
  fb::link::KillTaskT kill;
  kill.framework_id = "F";
  kill.task_id = "t";
  w.master.say(kill);
  w.loop.run();
  EXPECT_TRUE(w.launcher.alive.empty());
  w.disk.space = SIZE_MAX;
  w.loop.advance(2s);
  EXPECT_EQ(w.master.heard.back(), "t TASK_KILLED");
}

// Whatever the write at which the disk is full, and a crash after it: no task is lost and none lives twice.
// The journal fails in the very step in which an executor is given its task: nothing will ask for that step again.
TEST(Shell, WhatAnExecutorMayNotHearYetComesInOrderWhenTheJournalWorks) {
  World w;
  w.start();
  w.run_with_executor("t", true);
  w.disk.space = 0;
  w.subscribe(1);
  fb::link::KillTaskT kill;
  kill.framework_id = "F";
  kill.task_id = "t";
  w.master.say(std::move(kill));
  fb::link::MasterMessageT message;
  message.framework_id = "F";
  message.executor_id = "e";
  w.master.say(std::move(message));  // needs no entry, and still must not overtake
  w.loop.advance(3s);
  EXPECT_THAT(w.door.heard, ElementsAre());
  w.disk.space = SIZE_MAX;
  w.loop.advance(2s);
  EXPECT_THAT(w.door.heard, ElementsAre("1 SUBSCRIBED", "1 LAUNCH", "1 KILL", "1 MESSAGE"));
}

TEST(Shell, WhatWasWithheldFromAStreamEndsWithIt) {
  World w;
  w.start();
  w.run_with_executor("t", true);
  w.disk.space = 0;
  w.subscribe(1);
  w.subscribe(2);
  w.disk.space = SIZE_MAX;
  w.loop.advance(2s);
  EXPECT_EQ(std::count(w.door.heard.begin(), w.door.heard.end(), "1 SUBSCRIBED"), 0);
  EXPECT_EQ(std::count(w.door.heard.begin(), w.door.heard.end(), "1 LAUNCH"), 0);
  EXPECT_EQ(std::count(w.door.heard.begin(), w.door.heard.end(), "2 SUBSCRIBED"), 1);
}

TEST(Shell, TheEndOfAnExecutorIsToldOnAFullDisk) {
  World w;
  w.start();
  const auto container = w.run_with_executor("t");
  w.master.heard.clear();
  w.disk.space = 0;
  w.launcher.exit(container, 1);
  w.loop.run();
  EXPECT_THAT(w.master.heard, ElementsAre("e exited"));  // its resources are free; the task's end waits for the journal
  w.disk.space = SIZE_MAX;
  w.loop.advance(2s);
  EXPECT_THAT(w.master.heard, ElementsAre("e exited", "t TASK_FAILED"));
}

TEST(Shell, FullAtEveryWriteThenACrash) {
  for (std::size_t space = 0; space < 1500; space += 7) {
    World w;
    w.start();
    w.disk.space = space;
    w.run_task("t");
    w.loop.advance(3s);
    const bool launched = !w.launcher.launches.empty();
    const bool told_terminal = !w.master.heard.empty() && w.master.heard.back() == "t TASK_FAILED";
    EXPECT_TRUE(!launched || !told_terminal) << space;
    w.disk.space = SIZE_MAX;
    const std::set<std::string> alive = w.launcher.alive;
    w.crash();
    w.start();
    w.loop.advance(1s);
    if (launched) {
      EXPECT_EQ(w.agent->core().tasks().size(), 1u) << space;  // whoever runs is known
      EXPECT_EQ(w.launcher.alive, alive);
    } else {
      EXPECT_TRUE(w.agent->core().tasks().empty()) << space;
    }
  }
}

TEST(Shell, SyncsInTheBackgroundAndCompacts) {
  World w;
  w.start();
  w.loop.advance(2s);
  EXPECT_EQ(w.disk.syncs, 1u);
  w.loop.advance(10s);
  EXPECT_EQ(w.disk.syncs, 1u);
  std::size_t largest = 0;
  for (int i = 0; i < 2000; ++i) {
    w.run_task("t" + std::to_string(i));
    w.launcher.exit(w.launcher.last.container_id, 0);
    w.loop.run();
    largest = std::max(largest, w.disk.files["/w/agent/journal"]->size());
  }
  EXPECT_LT(largest, 1'200'000u);
  EXPECT_GT(largest, 1'000'000u);
}

TEST(Shell, StartFailsInOneSentence) {
  World w;
  w.disk.read_only = true;
  AgentOptions o;
  o.work_dir = "/w";
  w.agent = std::make_unique<Agent>(w.loop, std::move(o), w.disk, w.launcher, w.master, Probes{});
  const auto s = w.agent->start();
  ASSERT_FALSE(s);
  EXPECT_THAT(s.error().message, HasSubstr("Read-only file system"));
}

TEST(Shell, StoppedItHearsAndDoesNothing) {
  World w;
  w.start();
  w.run_task("t");
  w.agent->stop();
  w.launcher.exit(w.launcher.last.container_id, 0);
  w.loop.advance(1min);
  EXPECT_THAT(w.master.heard, ElementsAre("t TASK_STARTING", "t TASK_RUNNING"));
}

TEST(Shell, ShutdownEndsWithTheCallback) {
  World w;
  w.start();
  w.run_task("t");
  std::string message;
  w.agent->on_stopped([&](const std::string& m, bool failed) {
    message = m;
    EXPECT_FALSE(failed);
  });
  fb::link::ShutdownT shutdown;
  shutdown.message = "drained";
  w.master.say(shutdown);
  w.loop.run();
  EXPECT_THAT(message, HasSubstr("drained"));
  EXPECT_TRUE(w.launcher.alive.empty());
}

TEST(Shell, AnswersQuestionsAboutTasks) {
  World w;
  w.start();
  w.run_task("a");
  w.launcher.exit(w.launcher.last.container_id, 0);
  w.run_task("b");
  fb::control::QuestionT q;
  q.id = 9;
  fb::control::AskTasksT ask;
  ask.completed = true;
  q.ask.Set(ask);
  auto answer = w.ask(q);
  EXPECT_EQ(answer.id, 9u);
  ASSERT_TRUE(answer.say.AsTasks());
  ASSERT_EQ(answer.say.AsTasks()->tasks.size(), 2u);
  EXPECT_EQ(answer.say.AsTasks()->tasks[0]->info->task_id, "b");
  EXPECT_EQ(answer.say.AsTasks()->tasks[0]->framework_name, "test");
  EXPECT_TRUE(answer.say.AsTasks()->tasks[1]->completed);
  ask.completed = false;
  ask.task_id = "b";
  q.ask.Set(ask);
  answer = w.ask(q);
  EXPECT_EQ(answer.say.AsTasks()->tasks.size(), 1u);

  fb::control::KillTaskT kill;
  kill.task_id = "b";
  q.ask.Set(kill);
  EXPECT_TRUE(w.ask(q).say.AsDone());
  EXPECT_EQ(w.master.heard.back(), "b TASK_KILLED");
  kill.task_id = "nobody";
  q.ask.Set(kill);
  EXPECT_TRUE(w.ask(q).say.AsProblem());
}

class SandboxFiles : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/gantry-sandbox-XXXXXX";
    ASSERT_TRUE(::mkdtemp(name));
    dir = name;
    std::filesystem::create_directories(dir + "/box/sub");
    std::ofstream(dir + "/box/stdout") << "hello world";
    std::ofstream(dir + "/box/sub/file") << "deep";
    std::ofstream(dir + "/secret") << "secret";
    std::filesystem::create_symlink("../secret", dir + "/box/out");
    std::filesystem::create_symlink(dir, dir + "/box/dir");
    std::filesystem::create_symlink("sub/file", dir + "/box/in");
    ASSERT_EQ(::mkfifo((dir + "/box/pipe").c_str(), 0600), 0);
  }
  void TearDown() override { std::filesystem::remove_all(dir); }
  std::string read(const std::string& path, std::int64_t offset = 0, std::uint32_t length = 100) {
    const auto r = read_sandbox_file(dir + "/box", path, offset, length);
    if (!r) return std::string(to_string(r.error().code));
    return std::string(r->data.begin(), r->data.end()) + "|" + std::to_string(r->offset) + "|" +
           std::to_string(r->size);
  }
  std::string dir;
};

TEST_F(SandboxFiles, AreReadInPieces) {
  EXPECT_EQ(read("stdout"), "hello world|0|11");
  EXPECT_EQ(read("stdout", 6, 3), "wor|6|11");
  EXPECT_EQ(read("stdout", 50), "|50|11");
  EXPECT_EQ(read("stdout", -1), "|11|11");
  EXPECT_EQ(read("sub/file"), "deep|0|4");
  EXPECT_EQ(read("in"), "deep|0|4");
}

TEST_F(SandboxFiles, NothingOutsideIsEverRead) {
  EXPECT_EQ(read("../secret"), "PERMISSION_DENIED");
  EXPECT_EQ(read("sub/../../secret"), "PERMISSION_DENIED");
  EXPECT_EQ(read("out"), "PERMISSION_DENIED");
  EXPECT_EQ(read("dir/secret"), "PERMISSION_DENIED");
  EXPECT_EQ(read(dir + "/secret"), "INVALID_ARGUMENT");
  EXPECT_EQ(read(""), "INVALID_ARGUMENT");
  EXPECT_EQ(read("missing"), "NOT_FOUND");
  EXPECT_EQ(read("pipe"), "FAILED_PRECONDITION");
  EXPECT_EQ(read("sub"), "FAILED_PRECONDITION");
}

TEST_F(SandboxFiles, AreFoundByTaskAlsoAfterARestart) {
  World w;
  w.work_dir = dir + "/w";
  w.start();
  w.run_task("t");
  const std::string sandbox = w.launcher.last.sandbox;
  std::filesystem::create_directories(sandbox);
  std::ofstream(sandbox + "/stdout") << "output";
  std::filesystem::create_symlink(sandbox, sandbox.substr(0, sandbox.rfind('/')) + "/latest");
  fb::control::QuestionT q;
  fb::control::ReadFileT ask;
  ask.task_id = "t";
  ask.path = "stdout";
  ask.length = 100;
  q.ask.Set(ask);
  auto answer = w.ask(q);
  ASSERT_TRUE(answer.say.AsFileData());
  EXPECT_EQ(answer.say.AsFileData()->data.size(), 6u);
  w.launcher.exit(w.launcher.last.container_id, 0);
  w.loop.run();
  w.crash();
  w.start();
  ASSERT_TRUE(w.ask(q).say.AsProblem());
  ask.framework_id = "F";
  q.ask.Set(ask);
  answer = w.ask(q);
  ASSERT_TRUE(answer.say.AsFileData());
  EXPECT_EQ(answer.say.AsFileData()->size, 6);
}

TEST(Detect, TheAddressOfTheMachine) {
  EXPECT_EQ(machine_ip("10.0.0.7:5051", "host"), "10.0.0.7");
  EXPECT_EQ(machine_ip("[fd00::7]:5051", "host"), "fd00::7");
  EXPECT_EQ(machine_ip("0.0.0.0:5051", "10.0.0.8"), "10.0.0.8");
  const auto found = machine_ip("0.0.0.0:5051", "host");
  EXPECT_FALSE(found.empty());
  EXPECT_NE(found, "0.0.0.0");
}

TEST(Detect, LeavesRoomForTheSystem) {
  const auto scalar = [](const Resources& r, std::size_t i) { return *r.at(i)->scalar; };
  auto big = detect(Machine{8, 16ull << 30, 100ull << 30});
  EXPECT_EQ(scalar(big, 0), 8);
  EXPECT_EQ(scalar(big, 1), 15 * 1024);
  EXPECT_EQ(scalar(big, 2), 95 * 1024);
  EXPECT_EQ(big.at(3)->ranges.at(0).begin(), 31000u);
  EXPECT_EQ(big.at(3)->ranges.at(0).end(), 32000u);
  auto small = detect(Machine{1, 1ull << 30, 8ull << 30});
  EXPECT_EQ(scalar(small, 1), 512);
  EXPECT_EQ(scalar(small, 2), 4 * 1024);

  Resources given;
  given.push_back(std::make_unique<fb::ResourceT>());
  given.back()->name = "cpus";
  given.back()->scalar = 2;
  const auto all = complete(std::move(given), std::move(big));
  ASSERT_EQ(all.size(), 4u);
  EXPECT_EQ(*all[0]->scalar, 2);
  EXPECT_EQ(all[1]->name, "mem");
  EXPECT_GT(look_at_machine("/").memory, 0u);
}

}  // namespace
}  // namespace gantry::agent
