#include "cni_run.hpp"
#include "link.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <thread>

namespace gantry::isolator_network {
namespace {

constexpr std::size_t most_output = 1 << 20;

// A pipe whose ends close themselves.
struct Pipe {
  int read = -1, write = -1;
  Pipe() = default;
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
  ~Pipe() {
    shut(read);
    shut(write);
  }
  [[nodiscard]] bool open() {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return false;
    read = ends[0];
    write = ends[1];
    return true;
  }
  static void shut(int& fd) {
    if (fd >= 0) ::close(fd);
    fd = -1;
  }
};

Error unable(const std::string& what, int e) { return fail(Code::unavailable, what + ": " + std::strerror(e)); }

// A child that is collected, dead or alive.
class Child {
 public:
  explicit Child(pid_t pid) : pid_(pid) {}
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child() {
    if (pid_ < 0) return;
    ::kill(-pid_, SIGKILL);
    (void)wait();
  }
  // False: it still runs at `end`.
  bool ends_by(std::chrono::steady_clock::time_point end) const {
    const int pidfd = static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0));
    if (pidfd < 0) return true;  // wait() will tell
    pollfd fd{pidfd, POLLIN, 0};
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - std::chrono::steady_clock::now()).count();
    const int n = ::poll(&fd, 1, static_cast<int>(std::clamp<long long>(left, 0, 3'600'000)));
    ::close(pidfd);
    return n > 0;
  }
  int wait() {
    int status = 0;
    while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    pid_ = -1;
    return status;
  }

 private:
  pid_t pid_;
};

// Feeds and drains the child until it has closed both streams. False: out of time.
bool converse(Pipe& in, Pipe& out, Pipe& err, std::string_view input, PluginRun& run, std::chrono::steady_clock::time_point end) {
  const auto drain = [](Pipe& from, std::string& into) {
    char chunk[16384];
    const ssize_t n = ::read(from.read, chunk, sizeof chunk);
    if (n > 0) into.append(chunk, std::min(static_cast<std::size_t>(n), most_output - std::min(most_output, into.size())));
    else if (n == 0 || errno != EINTR) Pipe::shut(from.read);
  };
  if (input.empty()) Pipe::shut(in.write);
  while (out.read >= 0 || err.read >= 0) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - std::chrono::steady_clock::now()).count();
    if (left <= 0) return false;
    pollfd fds[] = {{in.write, POLLOUT, 0}, {out.read, POLLIN, 0}, {err.read, POLLIN, 0}};
    if (::poll(fds, 3, static_cast<int>(std::min<long long>(left, 1000))) < 0 && errno != EINTR) return false;
    if (fds[0].revents) {
      // It may end without having read everything; that is its affair. The pipe is non-blocking, SIGPIPE is blocked.
      const ssize_t n = ::write(in.write, input.data(), input.size());
      if (n > 0) input.remove_prefix(static_cast<std::size_t>(n));
      if (input.empty() || (n < 0 && errno != EAGAIN && errno != EINTR)) Pipe::shut(in.write);
    }
    if (fds[1].revents) drain(out, run.output);
    if (fds[2].revents) drain(err, run.errors);
  }
  return true;
}

// SIGPIPE of this thread, and only this, is kept away while a pipe is written to.
class NoPipeSignal {
 public:
  NoPipeSignal() {
    ::sigemptyset(&pipe_);
    ::sigaddset(&pipe_, SIGPIPE);
    ::pthread_sigmask(SIG_BLOCK, &pipe_, &before_);
  }
  ~NoPipeSignal() {
    const timespec now{};
    while (::sigtimedwait(&pipe_, nullptr, &now) > 0) {
    }
    ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }

 private:
  sigset_t pipe_{}, before_{};
};

Result<std::string> find_plugin(const std::vector<std::string>& folders, const std::string& type) {
  std::string looked;
  for (const auto& f : folders) {
    const std::string path = f + "/" + type;
    if (::access(path.c_str(), X_OK) == 0) return path;
    looked += (looked.empty() ? "" : ", ") + f;
  }
  return fail(Code::not_found, "CNI plugin \"" + type + "\" is in none of " + (looked.empty() ? "no folders" : looked) +
                                   "; install it or set cni_plugin_dirs");
}

// One plugin, one command. What it printed, or why it failed in its own words.
Result<std::string> command(const CniCall& call, const CniEnd& end, std::size_t plugin, const std::string& verb, const std::string& input) {
  const std::string type = text_of(end.inputs[plugin], "type");
  const std::string where = "network \"" + end.network + "\": plugin " + type + ": " + verb;
  auto path = find_plugin(call.plugin_dirs, type);
  if (!path) return std::move(path).error().because("network \"" + end.network + "\"");
  std::string folders;
  for (const auto& f : call.plugin_dirs) folders += (folders.empty() ? "" : ":") + f;
  const std::vector<std::string> environment = {
      "CNI_COMMAND=" + verb, "CNI_CONTAINERID=" + call.container_id, "CNI_NETNS=" + call.netns, "CNI_IFNAME=" + end.interface,
      "CNI_PATH=" + folders, "CNI_ARGS=IgnoreUnknown=1", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"};
  const Fd lock(::open(call.lock.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!lock || ::flock(lock.get(), LOCK_SH) != 0) return unable("lock " + call.lock, errno);
  auto run = run_plugin(*path, environment, input, call.timeout, lock.get());
  if (!run) return std::move(run).error().because(where);
  if (WIFEXITED(run->status) && WEXITSTATUS(run->status) == 0) return std::move(run->output);
  const std::string how = WIFSIGNALED(run->status) ? "ended by signal " + std::to_string(WTERMSIG(run->status))
                                                   : "failed with status " + std::to_string(WEXITSTATUS(run->status));
  return fail(Code::unavailable, where + " " + how + ": " + plugin_error(run->output, run->errors));
}

}  // namespace

CniFolder read_networks(const std::string& folder) {
  CniFolder out;
  std::error_code ec;
  std::vector<std::string> files;
  for (std::filesystem::directory_iterator it(folder, ec), end; !ec && it != end; it.increment(ec)) {
    const std::string extension = it->path().extension();
    if (extension == ".conf" || extension == ".conflist" || extension == ".json") files.push_back(it->path());
  }
  if (ec && ec != std::errc::no_such_file_or_directory) out.problems.push_back("cannot read " + folder + ": " + ec.message());
  std::sort(files.begin(), files.end());
  for (const auto& file : files) {
    const auto text = read_file(file);
    if (!text) {
      out.problems.push_back("cannot read " + file + ": " + std::strerror(errno));
      continue;
    }
    auto network = parse_network(*text);
    if (!network) out.problems.push_back(file + ": " + network.error().message);
    else if (const std::string name = network->name; !out.networks.emplace(name, std::move(*network)).second)
      out.problems.push_back(file + ": there is a network \"" + name + "\" already, this one is not used");
  }
  return out;
}

Result<PluginRun> run_plugin(const std::string& path, const std::vector<std::string>& environment, std::string_view input,
                             std::chrono::nanoseconds timeout, int held) {
  const auto end = std::chrono::steady_clock::now() + timeout;
  Pipe in, out, err;
  if (!in.open() || !out.open() || !err.open()) return unable("pipe", errno);
  ::fcntl(in.write, F_SETFL, O_NONBLOCK);

  posix_spawn_file_actions_t files;
  posix_spawnattr_t how;
  ::posix_spawn_file_actions_init(&files);
  ::posix_spawnattr_init(&how);
  ::posix_spawn_file_actions_adddup2(&files, in.read, 0);
  ::posix_spawn_file_actions_adddup2(&files, out.write, 1);
  ::posix_spawn_file_actions_adddup2(&files, err.write, 2);
  if (held >= 0) ::posix_spawn_file_actions_adddup2(&files, held, 3);
  ::posix_spawn_file_actions_addclosefrom_np(&files, held >= 0 ? 4 : 3);
  // A clean start: no blocked or ignored signals of ours, and a group that can be killed with its children.
  sigset_t none, all;
  ::sigemptyset(&none);
  ::sigfillset(&all);
  ::posix_spawnattr_setsigmask(&how, &none);
  ::posix_spawnattr_setsigdefault(&how, &all);
  ::posix_spawnattr_setpgroup(&how, 0);
  ::posix_spawnattr_setflags(&how, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
  std::vector<char*> env;
  for (const auto& e : environment) env.push_back(const_cast<char*>(e.c_str()));
  env.push_back(nullptr);
  char* argv[] = {const_cast<char*>(path.c_str()), nullptr};
  pid_t pid = -1;
  const int failed = ::posix_spawn(&pid, path.c_str(), &files, &how, argv, env.data());
  ::posix_spawnattr_destroy(&how);
  ::posix_spawn_file_actions_destroy(&files);
  if (failed) return unable("start " + path, failed);

  Child child(pid);
  Pipe::shut(in.read);
  Pipe::shut(out.write);
  Pipe::shut(err.write);
  PluginRun run;
  const NoPipeSignal quiet;
  if (!converse(in, out, err, input, run, end) || !child.ends_by(end)) {
    const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(timeout).count();
    return fail(Code::deadline_exceeded, "it did not end within " + std::to_string(ms) + " ms and was killed; see cni_timeout");
  }
  run.status = child.wait();
  return run;
}

Status wait_for_plugins(const std::string& lock, std::chrono::nanoseconds timeout) {
  const Fd file(::open(lock.c_str(), O_RDWR | O_CLOEXEC));
  if (!file) return ok;  // none was ever started
  const auto end = std::chrono::steady_clock::now() + timeout;
  while (::flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
    if (std::chrono::steady_clock::now() > end) return fail(Code::deadline_exceeded, "a CNI plugin that was started earlier still runs");
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return ok;
}

Result<CniResult> cni_add(const CniCall& call, CniEnd& end) {
  CniResult result;
  for (std::size_t i = 0; i < end.inputs.size(); ++i) {
    GANTRY_TRY(const std::string said, command(call, end, i, "ADD", input_text(end.inputs[i], end.result)));
    auto parsed = parse_result(said);
    if (!parsed)
      return std::move(parsed).error().because("network \"" + end.network + "\": the answer of plugin " + text_of(end.inputs[i], "type") +
                                               " to ADD");
    result = std::move(*parsed);
    end.result = result.raw;
  }
  return result;
}

Status cni_del(const CniCall& call, const CniEnd& end) {
  Status first;
  // 0.4.0 began to give DEL the result of ADD.
  const bool with_result = end.version != "0.3.0" && end.version != "0.3.1";
  for (std::size_t i = end.inputs.size(); i-- > 0;) {
    auto said = command(call, end, i, "DEL", input_text(end.inputs[i], with_result ? end.result : Object()));
    if (!said && first) first = std::move(said).error();
  }
  return first;
}

}  // namespace gantry::isolator_network
