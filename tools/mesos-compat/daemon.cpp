#include "daemon.hpp"

#include "tables.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

namespace gantry::compat {
namespace {

namespace fs = std::filesystem;

std::span<const Flag> flags_of(Role role) { return role == Role::master ? master_flags() : agent_flags(); }

std::string list(const std::vector<std::string>& words) {
  std::string out;
  for (const auto& w : words) out += (out.empty() ? "" : ", ") + w;
  return out;
}

// Beside this program in a build folder, else where it is installed, else wherever PATH says.
std::string gantryd() {
  std::error_code ec;
  const auto self = fs::read_symlink("/proc/self/exe", ec).parent_path();
  for (const fs::path& candidate : {self / "gantryd", self / "../sbin/gantryd", fs::path(GANTRY_SBIN_DIR) / "gantryd"})
    if (fs::exists(candidate, ec)) return candidate.lexically_normal();
  return "gantryd";
}

// Replaces a file at once, readable by its owner only.
Status write(const std::string& path, const std::string& content) {
  const std::string fresh = path + ".new";
  const int fd = ::open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  const auto refuse = [&] { return fail(Code::failed_precondition, path + ": " + std::strerror(errno)); };
  if (fd < 0) return refuse();
  const char* at = content.data();
  std::size_t left = content.size();
  bool good = ::fchmod(fd, 0600) == 0;
  while (good && left > 0) {
    const ssize_t n = ::write(fd, at, left);
    good = n > 0;
    if (good) at += n, left -= static_cast<std::size_t>(n);
  }
  ::close(fd);
  if (!good || ::rename(fresh.c_str(), path.c_str()) != 0) return refuse();
  return ok;
}

int mistake(std::string_view program, const Error& e) {
  std::fprintf(stderr, "%s\n\nSee `%.*s --help` for a list of supported flags.\n", e.message.c_str(), static_cast<int>(program.size()), program.data());
  return 1;
}

}  // namespace

int run_daemon(Role role, std::span<const std::string> words, std::string_view program) {
  const auto given = read_flags(flags_of(role), words, environment());
  if (!given) return mistake(program, given.error());
  if (given->flag("help")) {
    std::fputs(usage(program, flags_of(role)).c_str(), stdout);
    return 0;
  }
  if (given->flag("version")) {
    std::printf("mesos %.*s\n", static_cast<int>(kMesosVersion.size()), kMesosVersion.data());
    return 0;
  }
  Options options;
  if (given->has("work_dir")) {
    options.runtime_dir = given->text("work_dir") + "/mesos-compat";
    options.runtime_dir += role == Role::master ? "/master" : "/agent";
  } else {
    // A master without records has nothing to keep.
    std::string pattern = (fs::temp_directory_path() / "mesos-master-XXXXXX").string();
    if (!::mkdtemp(pattern.data())) return mistake(program, fail(Code::internal, "no temporary folder: " + std::string(std::strerror(errno))));
    options.runtime_dir = pattern;
  }
  auto t = translate(role, *given, options);
  if (!t) return mistake(program, t.error());
  std::error_code ec;
  fs::create_directories(options.runtime_dir, ec);
  if (ec) return mistake(program, fail(Code::failed_precondition, "--work_dir: " + options.runtime_dir + ": " + ec.message()));
  for (const std::string& folder : t->clear) fs::remove_all(folder, ec);
  const std::string config = options.runtime_dir + "/gantry.toml";
  t->files.emplace_back(config, "# Written by " + std::string(program) + " from its flags at each start; changes here are lost.\n" + t->toml);
  for (const auto& [path, content] : t->files)
    if (const Status s = write(path, content); !s) return mistake(program, s.error());
  for (const auto& n : t->notes) std::fprintf(stderr, "%.*s: %s\n", static_cast<int>(program.size()), program.data(), n.c_str());
  if (!t->nothing.empty())
    std::fprintf(stderr, "%.*s: warning: no meaning here, ignored: %s\n", static_cast<int>(program.size()), program.data(), list(t->nothing).c_str());
  std::fflush(nullptr);
  const std::string daemon = gantryd();
  ::execlp(daemon.c_str(), "gantryd", "--config", config.c_str(), static_cast<char*>(nullptr));
  return mistake(program, fail(Code::not_found, "cannot run " + daemon + ": " + std::strerror(errno)));
}

Result<std::string> configuration(Role role, std::span<const std::string> words) {
  GANTRY_TRY(const Given given, read_flags(flags_of(role), words, {}));
  GANTRY_TRY(const Translation t, translate(role, given, {}));
  std::string out;
  for (const auto& n : t.notes) out += "# " + n + "\n";
  if (!t.nothing.empty()) out += "# no meaning here: " + list(t.nothing) + "\n";
  if (!out.empty()) out += "\n";
  return out + t.toml;
}

}  // namespace gantry::compat
