#include "wishes.hpp"

#include <sys/resource.h>

#include <algorithm>
#include <charconv>
#include <limits>
#include <set>

namespace gantry::isolator_security {
namespace {

constexpr std::uint64_t unlimited = std::numeric_limits<std::uint64_t>::max();

struct LimitName {
  fb::RLimitType type;
  std::uint32_t resource;
  const char* docker;  // as --ulimit calls it
};
constexpr LimitName limit_names[] = {
    {fb::RLimitType::RLMT_AS, RLIMIT_AS, "as"},
    {fb::RLimitType::RLMT_CORE, RLIMIT_CORE, "core"},
    {fb::RLimitType::RLMT_CPU, RLIMIT_CPU, "cpu"},
    {fb::RLimitType::RLMT_DATA, RLIMIT_DATA, "data"},
    {fb::RLimitType::RLMT_FSIZE, RLIMIT_FSIZE, "fsize"},
    {fb::RLimitType::RLMT_LOCKS, RLIMIT_LOCKS, "locks"},
    {fb::RLimitType::RLMT_MEMLOCK, RLIMIT_MEMLOCK, "memlock"},
    {fb::RLimitType::RLMT_MSGQUEUE, RLIMIT_MSGQUEUE, "msgqueue"},
    {fb::RLimitType::RLMT_NICE, RLIMIT_NICE, "nice"},
    {fb::RLimitType::RLMT_NOFILE, RLIMIT_NOFILE, "nofile"},
    {fb::RLimitType::RLMT_NPROC, RLIMIT_NPROC, "nproc"},
    {fb::RLimitType::RLMT_RSS, RLIMIT_RSS, "rss"},
    {fb::RLimitType::RLMT_RTPRIO, RLIMIT_RTPRIO, "rtprio"},
    {fb::RLimitType::RLMT_RTTIME, RLIMIT_RTTIME, "rttime"},
    {fb::RLimitType::RLMT_SIGPENDING, RLIMIT_SIGPENDING, "sigpending"},
    {fb::RLimitType::RLMT_STACK, RLIMIT_STACK, "stack"},
};

Status add_limit(std::vector<fb::isolator::ResourceLimitT>& to, std::uint32_t resource, std::uint64_t soft, std::uint64_t hard, const std::string& what) {
  if (soft > hard) return fail(Code::invalid_argument, what + ": the soft limit " + std::to_string(soft) + " is above the hard limit " + std::to_string(hard));
  for (const auto& have : to)
    if (have.resource == resource) return fail(Code::invalid_argument, what + " is there twice");
  fb::isolator::ResourceLimitT l;
  l.resource = resource;
  l.soft = soft;
  l.hard = hard;
  to.push_back(std::move(l));
  return ok;
}

Status limits_of(const fb::ContainerInfoT& container, std::vector<fb::isolator::ResourceLimitT>& to) {
  for (const auto& r : container.rlimits) {
    const auto* const it = std::find_if(std::begin(limit_names), std::end(limit_names), [&](const auto& n) { return r->type && n.type == *r->type; });
    if (it == std::end(limit_names)) return fail(Code::invalid_argument, "container.rlimit_info: the type " + std::to_string(r->type ? static_cast<int>(*r->type) : 0) + " is no limit of this system");
    const std::string what = std::string("container.rlimit_info ") + fb::EnumNameRLimitType(it->type);
    // Both, or neither for unlimited.
    if (r->soft.has_value() != r->hard.has_value()) return fail(Code::invalid_argument, what + " has one of soft and hard; give both, or neither for no limit");
    GANTRY_CHECK(add_limit(to, it->resource, r->soft.value_or(unlimited), r->hard.value_or(unlimited), what));
  }
  return ok;
}

// "nofile=1024:2048" or "core=-1".
Status docker_limit(const std::string& value, std::vector<fb::isolator::ResourceLimitT>& to) {
  const std::string what = "docker parameter ulimit=" + value;
  const auto equals = value.find('=');
  const std::string name = value.substr(0, equals);
  const auto* const it = std::find_if(std::begin(limit_names), std::end(limit_names), [&](const auto& n) { return n.docker == name; });
  if (equals == value.npos || it == std::end(limit_names)) return fail(Code::invalid_argument, what + ": write NAME=SOFT[:HARD], such as nofile=1024:2048");
  const auto number = [](const std::string& s, std::uint64_t& out) {
    if (s == "-1" || s == "unlimited") return out = unlimited, true;
    const auto [end, error] = std::from_chars(s.data(), s.data() + s.size(), out);
    return error == std::errc() && end == s.data() + s.size() && !s.empty();
  };
  const std::string rest = value.substr(equals + 1);
  const auto colon = rest.find(':');
  std::uint64_t soft = 0, hard = 0;
  if (!number(rest.substr(0, colon), soft) || (colon != rest.npos && !number(rest.substr(colon + 1), hard)))
    return fail(Code::invalid_argument, what + ": the limits must be numbers, or -1 for none");
  if (colon == rest.npos) hard = soft;
  return add_limit(to, it->resource, soft, hard, what);
}

Status docker_parameters(const fb::DockerInfoT& docker, const Defaults& defaults, CapabilitySet& set, Wishes& w) {
  CapabilitySet add = 0, drop = 0;
  bool drop_all = false;
  for (const auto& p : docker.parameters) {
    const std::string& key = p->key;
    if (key == "cap-add" || key == "cap-drop") {
      GANTRY_TRY(const CapabilitySet one, parse_capabilities({p->value}, "docker parameter " + key));
      if (key == "cap-add") add |= one;
      else if (one == all_capabilities) drop_all = true;
      else drop |= one;
    } else if (key == "ulimit") {
      GANTRY_CHECK(docker_limit(p->value, w.limits));
    } else if (key == "security-opt") {
      const auto at = p->value.find_first_of("=:");
      const std::string name = p->value.substr(0, at), value = at == p->value.npos ? "" : p->value.substr(at + 1);
      if (name == "no-new-privileges") {
        w.no_new_privileges = value.empty() || value == "true";
      } else if (name == "seccomp") {
        if (value == "unconfined" && !defaults.allow_unconfined)
          return fail(Code::permission_denied, "docker parameter security-opt=" + p->value + ": this agent's isolator.security has allow_unconfined = false");
        w.profile = value == "unconfined" ? "" : value;
      } else if (name != "apparmor" && name != "label") {  // those are of security modules that Gantry does not drive: nothing to relax
        return fail(Code::invalid_argument, "docker parameter security-opt=" + p->value + " is unknown; there are no-new-privileges and seccomp=PROFILE");
      }
    } else {
      continue;
    }
    w.parameters.push_back(key);
  }
  set = ((drop_all ? 0 : set) | add) & ~drop;
  return ok;
}

}  // namespace

Result<Wishes> wishes_of(const fb::TaskInfoT& task, const Defaults& defaults, bool image, bool root) {
  Wishes w;
  w.no_new_privileges = defaults.no_new_privileges;
  w.profile = image ? defaults.image_profile : defaults.profile;
  CapabilitySet bounding = image ? defaults.image : defaults.bounding;
  CapabilitySet effective = image ? defaults.image : defaults.effective & defaults.bounding;
  // Users other than root have no capabilities of their own, unless the operator or the task says which.
  if (!root && (image || defaults.effective == all_capabilities)) effective = 0;
  bool said = image || defaults.bounding != all_capabilities || defaults.effective != all_capabilities;

  if (const auto* c = task.container.get()) {
    GANTRY_CHECK(limits_of(*c, w.limits));
    if (const auto* l = c->linux_info.get()) {
      // The older field counts as the effective ones.
      const auto& wanted = !l->effective_capabilities.empty() ? l->effective_capabilities : l->capability_info;
      GANTRY_TRY(const CapabilitySet wanted_effective, to_set(wanted));
      GANTRY_TRY(const CapabilitySet wanted_bounding, to_set(l->bounding_capabilities));
      for (const auto& [set, field] : {std::pair(wanted_effective, "effective_capabilities"), std::pair(wanted_bounding, "bounding_capabilities")})
        if (const CapabilitySet beyond = set & ~defaults.bounding)
          return fail(Code::permission_denied, std::string("container.linux_info.") + field + ": this agent does not allow " + names_of(beyond) + " (isolator.security, bounding_capabilities)");
      if (wanted_effective && wanted_bounding && (wanted_effective & ~wanted_bounding))
        return fail(Code::invalid_argument, "container.linux_info: effective_capabilities has " + names_of(wanted_effective & ~wanted_bounding) + ", which bounding_capabilities lacks");
      if (wanted_effective || wanted_bounding) {
        said = true;
        bounding = wanted_bounding ? wanted_bounding : wanted_effective;
        effective = wanted_effective ? wanted_effective : effective & bounding;
      }
      if (const auto* s = l->seccomp.get()) {
        const bool unconfined = s->unconfined.value_or(false);
        if (unconfined && !s->profile_name.empty()) return fail(Code::invalid_argument, "container.linux_info.seccomp has both a profile_name and unconfined; choose one");
        if (unconfined && !defaults.allow_unconfined)
          return fail(Code::permission_denied, "container.linux_info.seccomp.unconfined: this agent's isolator.security has allow_unconfined = false");
        if (unconfined) w.profile.clear();
        else if (!s->profile_name.empty()) w.profile = s->profile_name;
      }
    }
    if (const auto* d = c->docker.get(); d && c->type == fb::ContainerType::DOCKER) {
      CapabilitySet set = bounding;
      GANTRY_CHECK(docker_parameters(*d, defaults, set, w));
      if (d->privileged.value_or(false)) {
        if (!defaults.allow_unconfined) return fail(Code::permission_denied, "container.docker.privileged: this agent's isolator.security has allow_unconfined = false");
        set = all_capabilities;
        w.profile.clear();
      }
      said |= set != bounding;
      if (root) effective = set;
      bounding = set;
    }
  }
  if (said) {
    w.capabilities.emplace();
    w.capabilities->bounding = bounding;
    w.capabilities->effective = effective & bounding;
  }
  return w;
}

}  // namespace gantry::isolator_security
