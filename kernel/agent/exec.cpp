// Commands beside a container with their streams in somebody's hands: `gantry task exec`.
#include "kernel/agent/container_launcher.hpp"
#include "kernel/base/log.hpp"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <deque>

namespace gantry::agent {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t most_on_the_way = std::size_t{1} << 20;  // output nobody has taken yet
constexpr std::size_t most_input = std::size_t{8} << 20;       // input the command has not read yet, of those who do not wait
constexpr std::size_t little_input = std::size_t{64} << 10;
constexpr auto input_pause = 5ms;
constexpr auto patience = 20s;  // without a word of whoever asked

// What the command gets, and what of it stays with us.
struct Streams {
  base::Fd in, out, err;        // ours
  base::Fd their_in, their_out, their_err;
};

Error cannot(const std::string& what) { return fail(errno == EMFILE || errno == ENFILE ? Code::resource_exhausted : Code::internal, "cannot " + what + ": " + std::strerror(errno)); }

Status set_size(int fd, unsigned rows, unsigned columns) {
  winsize size{};
  size.ws_row = static_cast<unsigned short>(rows);
  size.ws_col = static_cast<unsigned short>(columns);
  return ::ioctl(fd, TIOCSWINSZ, &size) == 0 ? ok : Status(cannot("set the size of the terminal"));
}

Result<Streams> make_terminal(unsigned rows, unsigned columns) {
  Streams s;
  base::Fd master(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK));
  char name[64];
  if (!master || ::grantpt(master.get()) != 0 || ::unlockpt(master.get()) != 0 || ::ptsname_r(master.get(), name, sizeof name) != 0) return cannot("make a terminal");
  s.their_in = base::Fd(::open(name, O_RDWR | O_NOCTTY | O_CLOEXEC));
  if (!s.their_in) return cannot("open the terminal " + std::string(name));
  if (rows && columns) GANTRY_CHECK(set_size(master.get(), rows, columns));
  s.in = base::Fd(::fcntl(master.get(), F_DUPFD_CLOEXEC, 0));
  s.out = std::move(master);
  return s;
}

Result<Streams> make_pipes(bool input) {
  Streams s;
  const auto pipe = [](base::Fd& read, base::Fd& write) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return false;
    read = base::Fd(ends[0]);
    write = base::Fd(ends[1]);
    return true;
  };
  const auto unblocked = [](const base::Fd& fd) { return ::fcntl(fd.get(), F_SETFL, O_NONBLOCK) == 0; };
  if (!pipe(s.out, s.their_out) || !pipe(s.err, s.their_err) || (input && !pipe(s.their_in, s.in))) return cannot("make pipes");
  if (!unblocked(s.out) || !unblocked(s.err) || (input && !unblocked(s.in))) return cannot("make pipes");
  return s;
}

}  // namespace

// One command. Lives while it runs or somebody holds it; the launcher's coroutine ends it.
class ContainerLauncher::Session final : public Beside, public std::enable_shared_from_this<Session> {
 public:
  Session(ContainerLauncher& launcher, ExecOptions options, Function<void(bool, Bytes)> output) : launcher_(launcher), options_(std::move(options)), output_(std::move(output)) {}

  // ---- whoever asked
  void write(Bytes bytes, Function<void()> read) override {
    heard();
    if (finished_ || input_over_ || (!options_.input && !options_.terminal)) return read();
    if (input_.size() + bytes.size() > most_input) return kill_it(), read();
    input_.insert(input_.end(), bytes.begin(), bytes.end());
    readers_.push_back(std::move(read));
    pump_input();
  }
  void end_input() override {
    heard();
    input_over_ = true;
    // On a terminal the end is a character, as if somebody had typed it.
    if (options_.terminal && !finished_) input_.push_back(4);
    pump_input();
  }
  void resize(unsigned rows, unsigned columns) override {
    heard();
    if (options_.terminal && streams_.out) (void)set_size(streams_.out.get(), rows, columns);
  }
  void signal(int number) override {
    heard();
    if (number == SIGKILL) return kill_it();
    if (task_pid_ > 0 && running_ && number > 0 && number < 65) ::kill(task_pid_, number);
  }
  void taken(std::uint64_t bytes) override {
    heard();
    on_the_way_ -= std::min<std::uint64_t>(bytes, on_the_way_);
    watch();
  }

  // ---- the launcher
  gantry::Task<Result<int>> run(ContainerPtr c) {
    const auto self = shared_from_this();
    Spawn how;
    auto work = [self, c, &how, inside = launcher_.inside_path(c->spec.container_id), supervisor = launcher_.options_.supervisor]() -> Result<Spawned> {
      GANTRY_TRY(const auto kept, read_inside(inside));
      how = spawn_inside(kept);
      how.supervisor = supervisor;
      how.container_id = c->spec.container_id;
      how.join_pidfd = c->spawned.pidfd.get();
      how.beside = true;
      GANTRY_CHECK(put_command(how, self->options_.command, nullptr, false));
      Environment environment(how.environment);
      if (self->options_.terminal) environment.set("TERM", "xterm");
      GANTRY_CHECK(put_variables(environment, self->options_.command));
      how.environment = environment.take();
      Streams& s = self->streams_;
      GANTRY_TRY(s, self->options_.terminal ? make_terminal(self->options_.rows, self->options_.columns) : make_pipes(self->options_.input));
      how.terminal = self->options_.terminal;
      how.in_fd = s.their_in.get();
      how.out_fd = how.terminal ? how.in_fd : s.their_out.get();
      how.err_fd = how.terminal ? how.in_fd : s.their_err.get();
      auto spawned = spawn_supervised(how);
      s.their_in.reset(), s.their_out.reset(), s.their_err.reset();
      return spawned;
    };
    auto spawned = co_await launcher_.off(std::move(work));
    if (!spawned) co_return std::move(spawned).error();
    co_await launcher_.readable(spawned->control.get());
    const auto started = read_report(spawned->control.get(), how);
    if (!started) {
      co_await launcher_.readable(spawned->pidfd.get());
      (void)reap(spawned->pidfd.get());
      co_return started.error();
    }
    task_pid_ = *started;
    pidfd_ = spawned->pidfd.get();
    running_ = true;
    if (!options_.input && !options_.terminal) streams_.in.reset();
    heard();
    watch();
    look_after();
    pump_input();
    co_await launcher_.readable(pidfd_);
    running_ = false;
    const auto status = reap(pidfd_);
    // What it said is told before its end. Something it left behind may hold the streams open; that is not waited for.
    stop_watching();
    for (int i = 0; i < 2; ++i) drain(i == 1);
    streams_ = {};
    launcher_.loop_.cancel(std::exchange(timer_, 0));
    launcher_.loop_.cancel(std::exchange(input_timer_, 0));
    output_ = nullptr;
    if (!status) co_return fail(Code::internal, "the end of the command was not seen");
    co_return *status;
  }
  // Nothing more is read or written, whether it ran or not.
  void finish() {
    finished_ = true;
    input_.clear();
    for (auto& read : std::exchange(readers_, {})) read();
  }
  void kill_it() {
    if (running_) signal_pidfd(pidfd_, SIGUSR1);
  }

 private:
  void heard() { heard_ = launcher_.loop_.now(); }

  void look_after() {
    timer_ = launcher_.loop_.after(1s, [weak = weak_from_this()] {
      const auto self = weak.lock();
      if (!self || !self->running_) return;
      // Whoever asked is gone, or the container ends and we with it.
      if (self->launcher_.loop_.now() - self->heard_ > patience || self->launcher_.stopping_) self->kill_it();
      self->look_after();
    });
  }

  void pump_input() {
    if (!streams_.in || !running_) return;
    while (!input_.empty()) {
      const ssize_t n = ::write(streams_.in.get(), input_.data(), input_.size());
      if (n > 0) {
        input_.erase(input_.begin(), input_.begin() + n);
        tell_readers();
        continue;
      }
      if (n < 0 && errno == EINTR) continue;
      if (n < 0 && errno == EAGAIN) {
        if (!input_timer_)
          input_timer_ = launcher_.loop_.after(input_pause, [weak = weak_from_this()] {
            if (const auto self = weak.lock()) self->input_timer_ = 0, self->pump_input();
          });
        return;
      }
      input_.clear();  // it reads no more
    }
    if (input_over_ && !options_.terminal) streams_.in.reset();
    tell_readers();
  }
  void tell_readers() {
    if (input_.size() > little_input) return;
    for (auto& read : std::exchange(readers_, {})) read();
  }

  void watch() {
    if (!running_ || on_the_way_ >= most_on_the_way) return;
    for (const bool errors : {false, true}) {
      const base::Fd& fd = errors ? streams_.err : streams_.out;
      std::uint64_t& id = errors ? err_watch_ : out_watch_;
      if (!fd || id) continue;
      id = launcher_.options_.watch_readable(fd.get(), [weak = weak_from_this(), errors] {
        if (const auto self = weak.lock()) self->launcher_.loop_.post([self, errors] { self->on_readable(errors); });
      });
    }
  }
  void stop_watching() {
    for (auto* id : {&out_watch_, &err_watch_})
      if (*id) launcher_.options_.unwatch(std::exchange(*id, 0));
  }
  void on_readable(bool errors) {
    if (!running_ || !(errors ? err_watch_ : out_watch_)) return;
    if (!read_some(errors)) {
      launcher_.options_.unwatch(std::exchange(errors ? err_watch_ : out_watch_, 0));
      (errors ? streams_.err : streams_.out).reset();
    }
    if (on_the_way_ >= most_on_the_way) stop_watching();
  }
  // False: it has ended. A terminal whose last user has gone says EIO.
  bool read_some(bool errors) {
    std::uint8_t bytes[16384];
    const ssize_t n = ::read((errors ? streams_.err : streams_.out).get(), bytes, sizeof bytes);
    if (n < 0) return errno == EAGAIN || errno == EINTR;
    if (n == 0) return false;
    on_the_way_ += static_cast<std::uint64_t>(n);
    if (output_) output_(errors, Bytes(bytes, static_cast<std::size_t>(n)));
    return true;
  }
  void drain(bool errors) {
    const base::Fd& fd = errors ? streams_.err : streams_.out;
    // The end is at hand: what the system still holds of it is no more than a pipe's worth.
    for (std::size_t had = on_the_way_; fd && read_some(errors) && on_the_way_ != had; had = on_the_way_) {}
  }

  ContainerLauncher& launcher_;
  ExecOptions options_;
  Function<void(bool, Bytes)> output_;
  Streams streams_;
  std::vector<std::uint8_t> input_;
  std::vector<Function<void()>> readers_;  // who waits for their input to be read
  bool input_over_ = false, running_ = false, finished_ = false;
  int task_pid_ = 0, pidfd_ = -1;
  std::uint64_t on_the_way_ = 0, out_watch_ = 0, err_watch_ = 0;
  base::Instant heard_{0};
  base::TimerId timer_ = 0, input_timer_ = 0;
};

std::shared_ptr<Beside> ContainerLauncher::exec(const std::string& container_id, ExecOptions options, Function<void(bool, Bytes)> output, Function<void(Result<int>)> ended) {
  const ContainerPtr c = find(container_id);
  auto session = std::make_shared<Session>(*this, std::move(options), std::move(output));
  begin();
  loop_.post([this, c, session, container_id, ended = std::move(ended)]() mutable {
    if (!c || c->phase != Container::Phase::running || stopping_) {
      session->finish();
      ended(fail(Code::not_found, "container " + container_id + " is not running"));
      return end();
    }
    sessions_.push_back(session);
    spawn(session->run(c), [this, session, ended = std::move(ended)](Result<int> r) mutable {
      std::erase(sessions_, session);
      session->finish();
      ended(std::move(r));
      end();
    });
  });
  return session;
}

void ContainerLauncher::end_sessions() {
  for (const auto& s : sessions_) s->kill_it();
}

}  // namespace gantry::agent
