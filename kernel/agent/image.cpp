#include "kernel/agent/image.hpp"

#include "kernel/base/fd.hpp"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>

namespace gantry::agent {
namespace {

constexpr std::size_t most_of_a_file = std::size_t{4} << 20;

bool number(const std::string& s, std::uint32_t& out) {
  const auto [end, error] = std::from_chars(s.data(), s.data() + s.size(), out);
  return error == std::errc() && end == s.data() + s.size() && !s.empty();
}

std::vector<std::string> split(const std::string& text, char at) {
  std::vector<std::string> out;
  for (std::size_t from = 0;;) {
    const auto to = text.find(at, from);
    out.push_back(text.substr(from, to == text.npos ? to : to - from));
    if (to == text.npos) return out;
    from = to + 1;
  }
}

// The fields of each line of a user database that has at least `fields` of them.
std::vector<std::vector<std::string>> lines_of(const std::optional<std::string>& text, std::size_t fields) {
  std::vector<std::vector<std::string>> out;
  if (!text) return out;
  for (const auto& line : split(*text, '\n'))
    if (auto f = split(line, ':'); f.size() >= fields) out.push_back(std::move(f));
  return out;
}

base::Fd open_in(int layer, const std::string& path, int flags) {
  open_how how{};
  how.flags = static_cast<std::uint64_t>(flags | O_CLOEXEC);
  how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
  return base::Fd(static_cast<int>(::syscall(SYS_openat2, layer, path.c_str(), &how, sizeof how)));
}

}  // namespace

bool is_docker(const fb::TaskInfoT& task) { return task.container && task.container->type == fb::ContainerType::DOCKER && task.container->docker; }

std::optional<fb::image::PullT> wanted_image(const fb::TaskInfoT& task) {
  if (!task.container) return std::nullopt;
  fb::image::PullT pull;
  if (is_docker(task)) {
    if (task.container->docker->image.empty()) return std::nullopt;
    pull.name = task.container->docker->image;
    if (task.container->docker->force_pull_image.value_or(false)) pull.policy = fb::image::Policy::ALWAYS;
    return pull;
  }
  const auto* image = task.container->mesos ? task.container->mesos->image.get() : nullptr;
  if (!image) return std::nullopt;
  pull.type = image->type;
  if (!image->cached.value_or(true)) pull.policy = fb::image::Policy::ALWAYS;
  if (image->docker) {
    pull.name = image->docker->name;
    if (image->docker->credential) pull.credential = std::make_unique<fb::CredentialT>(*image->docker->credential);
    if (image->docker->config) pull.config.assign(image->docker->config->value.begin(), image->docker->config->value.end());
  }
  return pull;
}

Result<DockerWishes> docker_wishes(const fb::TaskInfoT& task) {
  DockerWishes w;
  if (!is_docker(task)) return w;
  // Without a meaning for containers of an agent, which names, ends, restarts and logs them itself.
  static constexpr const char* harmless[] = {"name", "label", "l", "rm", "restart", "log-driver", "log-opt", "detach", "d", "init", "label-file", "pull", "platform", "cidfile", "interactive", "i", "oom-kill-disable"};
  for (const auto& p : task.container->docker->parameters) {
    const std::string &key = p->key, &value = p->value;
    if (key.find('\0') != key.npos || value.find('\0') != value.npos) return fail(Code::invalid_argument, "a docker parameter has a zero byte");
    if (key == "user" || key == "u") w.user = value;
    else if (key == "workdir" || key == "w") {
      if (value.empty() || value[0] != '/') return fail(Code::invalid_argument, "docker parameter workdir=" + value + " must be an absolute path");
      w.working_directory = value;
    } else if (key == "entrypoint") {
      w.entrypoint.emplace();
      if (!value.empty()) w.entrypoint->push_back(value);
    } else if (key == "env" || key == "e") {
      if (value.empty() || value[0] == '=') return fail(Code::invalid_argument, "docker parameter env=" + value + ": write NAME=VALUE");
      // A name alone stands for the daemon's own value in Docker; tasks are told nothing of ours.
      if (value.find('=') != value.npos) w.environment.push_back(value);
    } else if (key == "group-add") {
      w.groups.push_back(value);
    } else if (std::none_of(std::begin(harmless), std::end(harmless), [&](const char* h) { return key == h; })) {
      continue;
    }
    w.heeded.push_back(key);
  }
  return w;
}

std::optional<std::string> read_in_image(const std::vector<std::string>& layers, const std::string& path) {
  for (auto layer = layers.rbegin(); layer != layers.rend(); ++layer) {
    const base::Fd top(::open(layer->c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!top) continue;
    const base::Fd file = open_in(top.get(), path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
    if (!file) {
      if (errno == ENOENT || errno == ENOTDIR || errno == ENXIO) {
        // A mark that a lower layer's file was removed cannot be opened; whatever is not there at all may be below.
        const base::Fd mark = open_in(top.get(), path, O_PATH | O_NOFOLLOW);
        struct stat s {};
        if (mark && ::fstat(mark.get(), &s) == 0 && S_ISCHR(s.st_mode)) return std::nullopt;
        continue;
      }
      return std::nullopt;
    }
    struct stat s {};
    if (::fstat(file.get(), &s) != 0 || !S_ISREG(s.st_mode) || static_cast<std::size_t>(s.st_size) > most_of_a_file) return std::nullopt;
    std::string text(static_cast<std::size_t>(s.st_size), '\0');
    const ssize_t n = ::pread(file.get(), text.data(), text.size(), 0);
    text.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
    return text;
  }
  return std::nullopt;
}

Result<Account> account_in(const std::vector<std::string>& layers, const std::string& who, const std::vector<std::string>& more_groups) {
  const auto colon = who.find(':');
  const std::string user = who.substr(0, colon), group = colon == who.npos ? "" : who.substr(colon + 1);
  const auto users = lines_of(read_in_image(layers, "/etc/passwd"), 6), groups = lines_of(read_in_image(layers, "/etc/group"), 3);
  Account a;
  a.change = true;
  a.home = "/";
  std::uint32_t id = 0;
  const bool by_number = number(user, id);
  bool found = false;
  for (const auto& f : users) {
    std::uint32_t uid = 0, gid = 0;
    if (!number(f[2], uid) || !number(f[3], gid) || !(by_number ? uid == id : f[0] == user)) continue;
    a.uid = uid;
    a.gid = gid;
    a.name = f[0];
    a.home = f[5].empty() ? "/" : f[5];
    found = true;
    break;
  }
  if (!found && !by_number) return fail(Code::not_found, "user \"" + user + "\" is not in the image's /etc/passwd");
  if (!found) {
    a.uid = id;
    a.name = id == 0 ? "root" : user;
  }
  const auto find_group = [&](const std::string& name) -> Result<std::uint32_t> {
    std::uint32_t gid = 0;
    for (const auto& f : groups)
      if (f[0] == name && number(f[2], gid)) return gid;
    if (number(name, gid)) return gid;
    return fail(Code::not_found, "group \"" + name + "\" is not in the image's /etc/group");
  };
  if (!group.empty()) {
    GANTRY_TRY(a.gid, find_group(group));
  }
  a.groups.push_back(a.gid);
  // A group that was named takes the place of those the user is a member of.
  for (const auto& f : groups) {
    std::uint32_t gid = 0;
    if (!group.empty() || f.size() < 4 || !number(f[2], gid)) continue;
    const auto members = split(f[3], ',');
    if (std::find(members.begin(), members.end(), a.name) != members.end()) a.groups.push_back(gid);
  }
  for (const auto& name : more_groups) {
    GANTRY_TRY(const std::uint32_t gid, find_group(name));
    a.groups.push_back(gid);
  }
  return a;
}

ImageConfig config_of(const fb::image::ImageT& image) {
  ImageConfig c;
  if (!image.config) return c;
  c.entrypoint = image.config->entrypoint;
  c.command = image.config->cmd;
  c.environment = image.config->env;
  c.working_directory = image.config->working_dir;
  c.user = image.config->user;
  return c;
}

}  // namespace gantry::agent
