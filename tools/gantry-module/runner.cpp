#include "tools/gantry-module/runner.hpp"

#include "kernel/base/fd.hpp"
#include "tools/gantry-module/subject.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <optional>

namespace gantry::kit {
namespace {

using Clock = std::chrono::steady_clock;

constexpr const char* crash_remedy =
    "run it under a debugger: gdb --args gantry-module check FILE --host kernel --here -k TEST; a module must not crash "
    "on any input, because in process it takes the daemon with it";

class TheEnv final : public Env {
 public:
  TheEnv(const Target& t, const CheckOptions& o, std::string h, std::string s, Doing* doing)
      : Env(t, o, std::move(h), std::move(s)), doing_(doing) {}

  Subject& subject(Check& check, unsigned threads) override {
    if (subject_) return *subject_;
    auto made = make_subject({target, host, scratch, threads, doing_});
    if (!made) {
      check.fail("it cannot be created: " + Check::describe(made.error()),
                 "see load.map and load.create: the daemon could not start it either");
      throw Check::Stop{};
    }
    subject_ = std::move(*made);
    return *subject_;
  }
  // What holds after every case, whatever it was about.
  void finish(Check& check) {
    if (!subject_) return;
    const bool failed_before = !check.failures.empty();
    if (subject_->exists()) {
      const Status s = subject_->down();
      if (!s && !failed_before)
        check.fail("at the end of the test: " + Check::describe(s.error()),
                   "complete every call after a cancel or STOP, soon, and let destroy return");
    }
    subject_->turn(1ms);
    if (const auto n = subject_->faults())
      check.fail("the host noticed " + std::to_string(n) + (n == 1 ? " breach" : " breaches") + " of the ABI",
                 "complete each token exactly once, with a code of the catalogue and a body that verifies; the log says which");
    if (subject_->crashes() > subject_->kills())
      check.fail("its process ended unasked: " + subject_->state(), crash_remedy);
    for (const auto& s : subject_->stalls())
      check.fail(s, "blocking work belongs into host().offload(), waiting into a timer");
    if (!check.failures.empty()) log = subject_->last_lines(8);
    subject_.reset();
  }
  std::vector<std::string> log;

 private:
  Doing* doing_;
  std::unique_ptr<HostedSubject> subject_;
};

// Results cross the process border as a row of texts.
class Writer {
 public:
  void text(std::string_view s) {
    const auto n = static_cast<std::uint32_t>(s.size());
    out_.append(reinterpret_cast<const char*>(&n), sizeof n);
    out_ += s;
  }
  void list(const std::vector<std::string>& v) {
    text(std::to_string(v.size()));
    for (const auto& s : v) text(s);
  }
  [[nodiscard]] const std::string& bytes() const { return out_; }

 private:
  std::string out_;
};
class Reader {
 public:
  explicit Reader(std::string bytes) : in_(std::move(bytes)) {}
  std::string text() {
    std::uint32_t n = 0;
    if (in_.size() - at_ < sizeof n) return bad();
    std::memcpy(&n, in_.data() + at_, sizeof n);
    at_ += sizeof n;
    if (in_.size() - at_ < n) return bad();
    at_ += n;
    return in_.substr(at_ - n, n);
  }
  std::vector<std::string> list() {
    std::vector<std::string> v(std::min<std::size_t>(std::strtoul(text().c_str(), nullptr, 10), 10'000));
    for (auto& s : v) s = text();
    return v;
  }
  [[nodiscard]] bool ok() const { return ok_; }

 private:
  std::string bad() {
    ok_ = false;
    at_ = in_.size();
    return {};
  }
  std::string in_;
  std::size_t at_ = 0;
  bool ok_ = true;
};

std::string encode(const Check& check, const std::vector<std::string>& log) {
  Writer w;
  std::vector<std::string> what, remedy;
  for (const auto& f : check.failures) {
    what.push_back(f.what.substr(0, 4000));
    remedy.push_back(f.remedy);
  }
  w.list(what);
  w.list(remedy);
  w.text(check.skipped);
  w.list(check.notes);
  w.list(log);
  w.text("end");
  return w.bytes();
}

bool decode(std::string bytes, TestResult& out) {
  Reader r(std::move(bytes));
  const auto what = r.list(), remedy = r.list();
  const std::string skipped = r.text();
  out.notes = r.list();
  out.log = r.list();
  if (r.text() != "end" || !r.ok() || what.size() != remedy.size()) return false;
  for (std::size_t i = 0; i < what.size(); ++i) out.failures.push_back({what[i], remedy[i]});
  out.reason = skipped;
  out.outcome = !out.failures.empty() ? Outcome::failed : !skipped.empty() ? Outcome::skipped : Outcome::passed;
  return true;
}

// The test in this process. Returns the subject's last log lines.
std::vector<std::string> run_body(const Target& target, const CheckOptions& options, const Planned& p,
                                  const std::string& scratch, Doing* doing, Check& check) {
  TheEnv env(target, options, p.host, scratch, doing);
  const auto guarded = [&](auto&& f) {
    try {
      f();
    } catch (const Check::Stop&) {
    } catch (const std::exception& e) {
      check.fail(std::string("the test itself threw: ") + e.what());
    }
  };
  guarded([&] { p.test->run(env, check); });
  guarded([&] { env.finish(check); });
  return env.log;
}

std::string read_all(int fd, std::size_t most) {
  std::string s;
  const off_t size = ::lseek(fd, 0, SEEK_END);
  if (size <= 0) return s;
  const std::size_t n = std::min<std::size_t>(static_cast<std::size_t>(size), most);
  s.resize(n);
  // The end of it: what was said last matters.
  const ssize_t got = ::pread(fd, s.data(), n, size - static_cast<off_t>(n));
  s.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
  return s;
}

void write_all(int fd, std::string_view s) {
  while (!s.empty()) {
    const ssize_t n = ::write(fd, s.data(), s.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return;
    s.remove_prefix(static_cast<std::size_t>(n));
  }
}

std::string make_scratch() {
  const char* tmp = std::getenv("TMPDIR");
  std::string path = std::string(tmp && *tmp ? tmp : "/tmp") + "/gantry-check.XXXXXX";
  return ::mkdtemp(path.data()) ? path : std::string();
}

// One test under way.
struct Running {
  std::size_t index = 0;
  pid_t pid = 0;
  base::Fd pidfd, result, output;
  std::string scratch;
  Doing* doing = nullptr;
  Clock::time_point begun;
};

class Pool {
 public:
  Pool(const Target& t, const CheckOptions& o, const std::vector<Planned>& plan)
      : target_(t), options_(o), plan_(plan), timeout_(o.timeout < 1s ? o.timeout : o.timeout * patience()) {}

  std::vector<TestResult> run(const std::function<void(const TestResult&)>& on_result) {
    results_.resize(plan_.size());
    done_.resize(plan_.size());
    std::size_t next = 0, told = 0;
    while (told < plan_.size()) {
      while (running_.size() < std::max(1u, options_.jobs) && next < plan_.size()) start(next++);
      if (!running_.empty()) collect();
      for (; told < plan_.size() && done_[told]; ++told)
        if (on_result) on_result(results_[told]);
    }
    return std::move(results_);
  }

 private:
  void start(std::size_t index) {
    const Planned& p = plan_[index];
    results_[index] = blank(p);
    if (p.test->stage == 1) {
      results_[index] = run_here(target_, options_, p);
      done_[index] = true;
      return;
    }
    Running r;
    r.index = index;
    r.scratch = make_scratch();
    r.result = base::Fd(::memfd_create("gantry-result", MFD_CLOEXEC));
    r.output = base::Fd(::memfd_create("gantry-output", MFD_CLOEXEC));
    void* shared = ::mmap(nullptr, sizeof(Doing), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (r.scratch.empty() || !r.result || !r.output || shared == MAP_FAILED)
      return broken(index, std::string("cannot prepare the test: ") + std::strerror(errno));
    r.doing = static_cast<Doing*>(shared);
    r.begun = Clock::now();
    r.pid = ::fork();
    if (r.pid == 0) child(p, r);
    if (r.pid < 0) return broken(index, std::string("cannot fork: ") + std::strerror(errno));
    ::setpgid(r.pid, r.pid);
    r.pidfd = base::Fd(static_cast<int>(::syscall(SYS_pidfd_open, r.pid, 0)));
    running_.push_back(std::move(r));
  }

  [[noreturn]] void child(const Planned& p, const Running& r) {
    ::setpgid(0, 0);
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    const rlimit none{0, 0};
    ::setrlimit(RLIMIT_CORE, &none);
    const int null = ::open("/dev/null", O_RDONLY);
    ::dup2(null, 0);
    ::dup2(r.output.get(), 1);
    ::dup2(r.output.get(), 2);
    ::signal(SIGINT, SIG_DFL);
    if (::chdir(r.scratch.c_str()) != 0) ::_exit(125);
    Check check;
    const auto log = run_body(target_, options_, p, r.scratch, r.doing, check);
    write_all(r.result.get(), encode(check, log));
    // Threads the module left behind must not run into static destructors.
    ::_exit(0);
  }

  void collect() {
    std::vector<pollfd> fds;
    auto wait = Nanos(1s);
    for (const auto& r : running_) {
      fds.push_back({r.pidfd.get(), POLLIN, 0});
      wait = std::min<Nanos>(wait, r.begun + timeout_ - Clock::now());
    }
    (void)::poll(fds.data(), fds.size(), static_cast<int>(std::max<std::int64_t>(wait / 1ms, 0) + 1));
    for (std::size_t i = running_.size(); i-- > 0;) {
      Running& r = running_[i];
      int status = 0;
      bool late = false;
      if (::waitpid(r.pid, &status, WNOHANG) != r.pid) {
        if (Clock::now() - r.begun < timeout_) continue;
        late = true;
        ::kill(r.pid, SIGKILL);
        ::waitpid(r.pid, &status, 0);
      }
      ::kill(-r.pid, SIGKILL);  // whatever it started in its group
      ended(r, status, late);
      running_.erase(running_.begin() + static_cast<std::ptrdiff_t>(i));
    }
  }

  void ended(Running& r, int status, bool late) {
    TestResult& out = results_[r.index];
    out.ms = (Clock::now() - r.begun) / 1ms;
    r.doing->text[sizeof r.doing->text - 1] = '\0';
    const std::string doing = r.doing->text[0] ? r.doing->text : "it was loaded";
    if (late) {
      out.outcome = Outcome::failed;
      out.failures.push_back({"the test did not end within " + std::to_string(timeout_ / 1s) + " s; the module was last asked for " + doing,
                              "something blocks for ever: an entry must return at once, destroy too"});
    } else if (WIFSIGNALED(status)) {
      out.outcome = Outcome::failed;
      out.failures.push_back({"the module crashed with " + signal_text(WTERMSIG(status)) + "; last asked for " + doing, crash_remedy});
    } else if (WEXITSTATUS(status) != 0 || !decode(read_all(r.result.get(), 1 << 24), out)) {
      out.outcome = Outcome::failed;
      out.failures.push_back({"the module ended its process with status " + std::to_string(WEXITSTATUS(status)) + "; last asked for " + doing,
                              "a module must not call exit(): report an error or fail the call"});
    }
    if (out.outcome == Outcome::failed) {
      std::string said = read_all(r.output.get(), 2000);
      for (std::size_t at = 0; at < said.size();) {
        const auto end = std::min(said.find('\n', at), said.size());
        if (end > at) out.log.push_back("stderr: " + said.substr(at, end - at));
        at = end + 1;
      }
    }
    ::munmap(r.doing, sizeof(Doing));
    std::error_code ec;
    std::filesystem::remove_all(r.scratch, ec);
    done_[r.index] = true;
  }

  void broken(std::size_t index, std::string why) {
    results_[index].outcome = Outcome::failed;
    results_[index].failures.push_back({std::move(why), "this is no fault of the module"});
    done_[index] = true;
  }
  static TestResult blank(const Planned& p) {
    TestResult r;
    r.name = p.test->name;
    r.host = p.host;
    r.stage = p.test->stage;
    r.must = p.test->must;
    r.remedy = p.test->remedy;
    return r;
  }

  const Target& target_;
  const CheckOptions& options_;
  const std::vector<Planned>& plan_;
  const Nanos timeout_;
  std::vector<TestResult> results_;
  std::vector<char> done_;
  std::vector<Running> running_;
};

}  // namespace

std::string signal_text(int signal) {
  const char* name = ::sigabbrev_np(signal);
  const char* words = ::sigdescr_np(signal);
  return (name ? "SIG" + std::string(name) : "signal " + std::to_string(signal)) + (words ? " (" + std::string(words) + ")" : "");
}

std::vector<TestResult> run_tests(const Target& target, const CheckOptions& options, const std::vector<Planned>& plan,
                                  const std::function<void(const TestResult&)>& on_result) {
  return Pool(target, options, plan).run(on_result);
}

TestResult run_here(const Target& target, const CheckOptions& options, const Planned& p) {
  TestResult out;
  out.name = p.test->name;
  out.host = p.host;
  out.stage = p.test->stage;
  out.must = p.test->must;
  out.remedy = p.test->remedy;
  const auto begun = Clock::now();
  const std::string scratch = p.test->stage == 1 ? std::string() : make_scratch();
  Check check;
  const auto log = run_body(target, options, p, scratch, nullptr, check);
  if (!decode(encode(check, log), out)) out.outcome = Outcome::failed;
  out.ms = (Clock::now() - begun) / 1ms;
  std::error_code ec;
  if (!scratch.empty()) std::filesystem::remove_all(scratch, ec);
  return out;
}

}  // namespace gantry::kit
