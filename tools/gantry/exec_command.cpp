// gantry task exec: a command beside a running task, its streams ours.
#include "tools/gantry/format.hpp"
#include "tools/gantry/tasks.hpp"

#include <poll.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <iostream>
#include <set>

namespace gantry::cli {

namespace control = fb::control;

namespace {

using Clock = std::chrono::steady_clock;
// The agent takes us for gone after 20 s of silence.
constexpr auto keep_alive = std::chrono::seconds(5);
constexpr std::size_t most_unread = 16;  // pieces of input on their way

std::atomic<bool> resized{false};

// Keys go to the command as they are pressed, Ctrl-C among them; the terminal is given back whatever happens.
class RawTerminal {
 public:
  explicit RawTerminal(bool wanted) {
    if (!wanted || ::tcgetattr(0, &before_) != 0) return;
    termios raw = before_;
    ::cfmakeraw(&raw);
    active_ = ::tcsetattr(0, TCSANOW, &raw) == 0;
  }
  ~RawTerminal() {
    if (active_) ::tcsetattr(0, TCSADRAIN, &before_);
  }
  RawTerminal(const RawTerminal&) = delete;
  RawTerminal& operator=(const RawTerminal&) = delete;

 private:
  termios before_{};
  bool active_ = false;
};

bool write_all(int fd, const std::vector<std::uint8_t>& bytes) {
  for (std::size_t done = 0; done < bytes.size();) {
    const ssize_t n = ::write(fd, bytes.data() + done, bytes.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) {
      pollfd p{fd, POLLOUT, 0};
      ::poll(&p, 1, 1000);
      continue;
    }
    if (n <= 0) return false;
    done += static_cast<std::size_t>(n);
  }
  return true;
}

class Conversation {
 public:
  Conversation(Context& c, Daemon agent, const ExecOptions& o) : c_(c), agent_(std::move(agent)), options_(o) {}

  Result<int> run(const control::TaskT& task) {
    control::ExecT ask;
    ask.framework_id = task.framework_id;
    ask.task_id = id_of(task);
    ask.command = std::make_unique<fb::CommandInfoT>();
    ask.command->shell = false;
    ask.command->value = options_.command[0];
    ask.command->arguments = options_.command;
    if (const char* term = std::getenv("TERM"); term && options_.terminal) {
      ask.command->environment.push_back(std::make_unique<fb::VariableT>());
      ask.command->environment.back()->name = "TERM";
      ask.command->environment.back()->value = term;
    }
    ask.terminal = options_.terminal;
    ask.input = options_.input;
    winsize size{};
    if (options_.terminal && ::ioctl(0, TIOCGWINSZ, &size) == 0) ask.rows = size.ws_row, ask.columns = size.ws_col;
    control::QuestionT q;
    q.ask.Set(std::move(ask));
    GANTRY_TRY(id_, agent_.send(std::move(q)));
    const RawTerminal raw(options_.terminal && ::isatty(0));
    if (options_.terminal) std::signal(SIGWINCH, [](int) { resized = true; });
    for (;;) {
      GANTRY_CHECK(turn());
      if (ended_) return *ended_;
    }
  }

 private:
  Status turn() {
    pollfd fds[2] = {{agent_.fd(), POLLIN, 0}, {0, POLLIN, 0}};
    const bool reads_input = options_.input && session_ && !input_over_ && unread_.size() < most_unread;
    const int n = ::poll(fds, reads_input ? 2 : 1, 1000);
    if (n < 0 && errno != EINTR) return fail(Code::internal, "poll failed");
    if (n > 0 && fds[0].revents) GANTRY_CHECK(take_answer());
    if (ended_ || !session_) return ok;
    if (n > 0 && reads_input && fds[1].revents) GANTRY_CHECK(pass_input());
    if (resized.exchange(false)) {
      winsize size{};
      if (::ioctl(0, TIOCGWINSZ, &size) == 0) GANTRY_CHECK(say([&](control::SessionInputT& in) { in.rows = size.ws_row, in.columns = size.ws_col; }));
    }
    if (c_.interrupted && c_.interrupted->load() && !killed_) {
      killed_ = true;
      GANTRY_CHECK(say([](control::SessionInputT& in) { in.signal = SIGKILL; }));
    }
    if (Clock::now() - spoke_ >= keep_alive) GANTRY_CHECK(say([](control::SessionInputT&) {}));
    return ok;
  }

  Status take_answer() {
    GANTRY_TRY(const control::AnswerT a, agent_.receive());
    if (a.id != id_) return unread_.erase(a.id), ok;  // of our words
    if (const auto* p = a.say.AsProblem()) return fail(p->code < 0 ? static_cast<Code>(p->code) : Code::unknown, p->message);
    if (const auto* s = a.say.AsSession()) session_ = s->session;
    if (const auto* e = a.say.AsEnded()) ended_ = WIFEXITED(e->wait_status) ? WEXITSTATUS(e->wait_status) : 128 + WTERMSIG(e->wait_status);
    if (const auto* o = a.say.AsOutput()) {
      c_.out->flush();
      // Nobody reads what it says: it is of no use any more.
      if (!write_all(o->errors ? 2 : 1, o->data)) return say([](control::SessionInputT& in) { in.signal = SIGKILL; });
      taken_ += o->data.size();
      if (taken_ >= 64u << 10) GANTRY_CHECK(say([](control::SessionInputT&) {}));
    }
    return ok;
  }

  Status pass_input() {
    std::uint8_t bytes[16384];
    const ssize_t n = ::read(0, bytes, sizeof bytes);
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) return ok;
    if (n <= 0) {
      input_over_ = true;
      return say([](control::SessionInputT& in) { in.end = true; });
    }
    GANTRY_CHECK(say([&](control::SessionInputT& in) { in.data.assign(bytes, bytes + n); }));
    unread_.insert(last_);
    return ok;
  }

  template <class F>
  Status say(F fill) {
    control::SessionInputT in;
    in.session = session_;
    in.taken = std::exchange(taken_, 0);
    fill(in);
    control::QuestionT q;
    q.ask.Set(std::move(in));
    spoke_ = Clock::now();
    GANTRY_TRY(last_, agent_.send(std::move(q)));
    return ok;
  }

  Context& c_;
  Daemon agent_;
  const ExecOptions& options_;
  std::uint64_t id_ = 0, session_ = 0, taken_ = 0, last_ = 0;
  std::set<std::uint64_t> unread_;  // input that has not been read yet
  bool input_over_ = false, killed_ = false;
  std::optional<int> ended_;
  Clock::time_point spoke_ = Clock::now();
};

}  // namespace

int task_exec(Context& c, const ExecOptions& o) {
  if (o.command.empty()) return report(c, fail(Code::invalid_argument, "there is no command; write gantry task exec TASK -- COMMAND ARGUMENTS"));
  if (o.terminal && !::isatty(0)) return report(c, fail(Code::invalid_argument, "--tty needs a terminal as input; leave it out for scripts"));
  auto master = Daemon::find(c);
  if (!master) return report(c, master.error());
  auto task = find_task(*master, o.task, false);
  if (!task) return report(c, task.error());
  auto agent = agent_of(c, *master, *task, true);
  if (!agent) return report(c, agent.error());
  const auto status = Conversation(c, std::move(*agent), o).run(*task);
  return status ? *status : report(c, status.error());
}

}  // namespace gantry::cli
