#include "security.hpp"

#include <linux/capability.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>

namespace gantry::isolator_security {
namespace {

constexpr char problem[] = "no right to change capabilities: tasks that ask for some are refused, others run with the agent's own; run gantryd as root";
constexpr std::size_t most_profile_bytes = std::size_t{4} << 20;
constexpr std::size_t most_filters = 64;

bool has_rights() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  return ::syscall(SYS_capget, &header, data) == 0 && (data[0].effective & (1u << CAP_SETPCAP)) != 0 && (data[CAP_TO_INDEX(CAP_SYS_ADMIN)].effective & CAP_TO_MASK(CAP_SYS_ADMIN)) != 0;
}

Result<std::string> read_profile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return fail(Code::not_found, "seccomp profile " + path + ": " + std::strerror(errno));
  std::string text;
  text.resize(most_profile_bytes + 1);
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(in.gcount()));
  if (text.size() > most_profile_bytes) return fail(Code::invalid_argument, "seccomp profile " + path + " is larger than 4 MiB");
  return text;
}

}  // namespace

Task<Status> Security::configure(Settings settings) {
  Defaults d;
  GANTRY_CO_TRY(d.bounding, parse_capabilities(settings.list("bounding_capabilities"), "bounding_capabilities"));
  GANTRY_CO_TRY(d.effective, parse_capabilities(settings.list("effective_capabilities"), "effective_capabilities"));
  GANTRY_CO_TRY(d.image, parse_capabilities(settings.list("image_capabilities"), "image_capabilities"));
  d.profile = settings.text("seccomp_profile");
  d.image_profile = settings.text("image_seccomp_profile");
  d.allow_unconfined = settings.flag("allow_unconfined");
  d.no_new_privileges = settings.flag("no_new_privileges");
  const std::string directory = settings.text("seccomp_profile_dir");
  // A profile that cannot be used is told now, not at the first task.
  for (const auto& [key, name] : {std::pair("seccomp_profile", d.profile), std::pair("image_seccomp_profile", d.image_profile)}) {
    if (name.empty() || name == "builtin") continue;
    if (directory.empty()) co_return fail(Code::invalid_argument, std::string(key) + " = \"" + name + "\" needs seccomp_profile_dir", key);
    GANTRY_CO_TRY(const std::string text, read_profile(directory + "/" + name));
    if (auto compiled = compile_profile(text, d.image); !compiled) co_return std::move(compiled).error().because(std::string(key) + " = \"" + name + "\"");
  }
  defaults_ = std::move(d);
  directory_ = directory;
  filters_.clear();
  co_return ok;
}

Task<Status> Security::start() {
  may_ = allowed ? allowed() : has_rights();
  co_return ok;
}

Task<Result<fb::HealthT>> Security::health() {
  fb::HealthT h;
  if (!may_) {
    h.state = fb::HealthState::DEGRADED;
    h.message = problem;
  }
  co_return h;
}

Task<Result<std::shared_ptr<const Filter>>> Security::filter(std::string profile, CapabilitySet bounding) {
  std::string key = profile + '\0' + std::to_string(bounding), path;
  if (profile != "builtin") {
    if (profile.find('/') != profile.npos || profile[0] == '.') co_return fail(Code::invalid_argument, "seccomp profile \"" + profile + "\" must be the plain name of a file in seccomp_profile_dir");
    if (directory_.empty()) co_return fail(Code::failed_precondition, "seccomp profile \"" + profile + "\": this agent has no profiles; set seccomp_profile_dir of isolator.security");
    path = directory_ + "/" + profile;
    struct stat s {};
    if (::stat(path.c_str(), &s) != 0) co_return fail(Code::not_found, "seccomp profile " + path + ": " + std::strerror(errno));
    key += '\0' + std::to_string(s.st_mtim.tv_sec) + '.' + std::to_string(s.st_mtim.tv_nsec) + '.' + std::to_string(s.st_size);
  }
  if (const auto it = filters_.find(key); it != filters_.end()) co_return it->second;
  auto work = [path, bounding]() -> Result<Filter> {
    if (path.empty()) return compile_builtin(bounding);
    GANTRY_TRY(const std::string text, read_profile(path));
    auto compiled = compile_profile(text, bounding);
    if (!compiled) return std::move(compiled).error().because(path);
    return compiled;
  };
  GANTRY_CO_TRY(Filter compiled, co_await host().offload(std::move(work)));
  if (filters_.size() >= most_filters) filters_.clear();
  co_return filters_[key] = std::make_shared<const Filter>(std::move(compiled));
}

Task<Result<fb::isolator::PreparedT>> Security::prepare(Request<fb::isolator::Prepare> request) {
  fb::isolator::PreparedT out;
  out.no_attach = true;
  fb::TaskInfoT task;
  if (request->task()) request->task()->UnPackTo(&task);
  const bool image = request->layers() && request->layers()->size() > 0;
  const auto user = text(request->user());
  GANTRY_CO_TRY(const Wishes wishes, wishes_of(task, defaults_, image, user.empty() || user == "root"));
  for (const auto& l : wishes.limits) out.limits.push_back(std::make_unique<fb::isolator::ResourceLimitT>(l));
  out.no_new_privileges = wishes.no_new_privileges;
  out.parameters = wishes.parameters;
  if (wishes.capabilities) {
    // Without rights an agent has nothing to give away; tasks get no more than it has. Only what was asked for must be so.
    if (may_) out.capabilities = std::make_unique<fb::isolator::CapabilitiesT>(*wishes.capabilities);
    else if (task.container && task.container->linux_info && (!task.container->linux_info->effective_capabilities.empty() || !task.container->linux_info->bounding_capabilities.empty()))
      co_return fail(Code::failed_precondition, problem);
  }
  if (!wishes.profile.empty()) {
    GANTRY_CO_TRY(const auto compiled, co_await filter(wishes.profile, wishes.capabilities ? wishes.capabilities->bounding : all_capabilities));
    out.seccomp = *compiled;
    // The kernel takes a filter from whoever has rights or gives them up.
    if (!may_) out.no_new_privileges = true;
  }
  co_return out;
}

}  // namespace gantry::isolator_security
