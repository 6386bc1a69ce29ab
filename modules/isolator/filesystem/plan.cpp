#include "plan.hpp"

#include <algorithm>

namespace gantry::isolator_filesystem {
namespace {

std::string words(const fb::VolumeT& v) { return "container.volumes: the volume at \"" + v.container_path + "\""; }

std::vector<std::string> split(std::string_view text, char at) {
  std::vector<std::string> out;
  for (std::size_t from = 0;;) {
    const auto to = text.find(at, from);
    out.emplace_back(text.substr(from, to == text.npos ? to : to - from));
    if (to == text.npos) return out;
    from = to + 1;
  }
}

bool plain_name(const std::string& s) {
  return !s.empty() && s.size() <= 255 && s[0] != '.' && std::all_of(s.begin(), s.end(), [](unsigned char c) { return std::isalnum(c) || c == '_' || c == '-' || c == '.'; });
}

// A path of the machine, or a name.
Result<Source> source_of(const std::string& path, const Rules& rules, bool docker, const std::string& what) {
  Source s;
  if (path.find('\0') != path.npos) return fail(Code::invalid_argument, what + " has a zero byte in its source");
  if (path.empty() || path[0] != '/') {
    s.kind = Source::Kind::sandbox;
    s.path = tidy("/" + path);
    if (s.path.empty()) return fail(Code::invalid_argument, what + ": the source \"" + path + "\" leads out of the sandbox");
    s.path.erase(0, 1);
    return s;
  }
  s.path = tidy(path);
  if (s.path.empty()) return fail(Code::invalid_argument, what + ": \"" + path + "\" leads above the root directory");
  if (!below(s.path, rules.host_paths)) return fail(Code::permission_denied, what + ": this agent allows no volume at " + s.path + " (isolator.filesystem, host_paths)");
  s.kind = docker && rules.create_host_paths ? Source::Kind::create : Source::Kind::host;
  return s;
}

Result<Volume> volume_of(const fb::VolumeT& v, const Rules& rules, bool docker, bool nested) {
  Volume out;
  out.read_only = v.mode == fb::VolumeMode::RO;
  out.target = v.container_path;
  const bool absolute = !v.container_path.empty() && v.container_path[0] == '/';
  const std::string clean = tidy(absolute ? v.container_path : "/" + v.container_path);
  if (clean.empty() || clean == "/" || v.container_path.find('\0') != v.container_path.npos)
    return fail(Code::invalid_argument, words(v) + ": container_path must name a place below the root or the sandbox");
  out.target = absolute ? clean : clean.substr(1);
  if (v.image) return fail(Code::failed_precondition, words(v) + " is an image; volumes of images are not supported by this release");
  const auto* source = v.source.get();
  if (!source || !source->type) {
    GANTRY_TRY(out.source, source_of(v.host_path, rules, docker, words(v)));
    return out;
  }
  switch (*source->type) {
    case fb::VolumeSourceType::HOST_PATH: {
      if (!source->host_path) return fail(Code::invalid_argument, words(v) + ": source.host_path is missing");
      GANTRY_TRY(out.source, source_of(source->host_path->path, rules, docker, words(v)));
      if (const auto* p = source->host_path->mount_propagation.get(); p && p->mode) {
        out.slave = *p->mode == fb::MountPropagationMode::HOST_TO_CONTAINER;
        out.shared = *p->mode == fb::MountPropagationMode::BIDIRECTIONAL;
      }
      return out;
    }
    case fb::VolumeSourceType::SANDBOX_PATH: {
      if (!source->sandbox_path) return fail(Code::invalid_argument, words(v) + ": source.sandbox_path is missing");
      const bool of_parent = source->sandbox_path->type == fb::SandboxPathType::PARENT;
      if (!of_parent && source->sandbox_path->type != fb::SandboxPathType::SELF)
        return fail(Code::invalid_argument, words(v) + ": source.sandbox_path.type must be SELF or PARENT");
      if (of_parent && !nested) return fail(Code::invalid_argument, words(v) + ": only nested containers have a parent's sandbox");
      if (!source->sandbox_path->path.empty() && source->sandbox_path->path[0] == '/') return fail(Code::invalid_argument, words(v) + ": source.sandbox_path.path must be relative");
      GANTRY_TRY(out.source, source_of(source->sandbox_path->path, rules, docker, words(v)));
      if (out.source.path.empty()) return fail(Code::invalid_argument, words(v) + ": source.sandbox_path.path is the sandbox itself");
      if (of_parent) out.source.kind = Source::Kind::parent;
      return out;
    }
    case fb::VolumeSourceType::SECRET:
      if (!source->secret || source->secret->reference) return fail(Code::failed_precondition, words(v) + " is a reference to a secret, which needs a secret module; this release has none. Secrets by value are supported");
      out.source = {Source::Kind::secret, std::string(source->secret->value.begin(), source->secret->value.end())};
      out.read_only = true;
      return out;
    case fb::VolumeSourceType::DOCKER_VOLUME:
      if (!source->docker_volume || !plain_name(source->docker_volume->name))
        return fail(Code::invalid_argument, words(v) + ": source.docker_volume.name must be a name of letters, digits, '_', '-' and '.'");
      if (!source->docker_volume->driver.empty() && source->docker_volume->driver != "local")
        return fail(Code::failed_precondition, words(v) + ": there is no volume driver \"" + source->docker_volume->driver + "\" here, only \"local\"");
      out.source = {Source::Kind::named, source->docker_volume->name};
      return out;
    default: return fail(Code::failed_precondition, words(v) + ": sources of type " + std::to_string(static_cast<int>(*source->type)) + " are not supported by this release");
  }
}

// "-v SOURCE:TARGET[:ro]"; a source without a slash is a name.
Result<Volume> docker_volume(const std::string& value, const Rules& rules) {
  const std::string what = "docker parameter volume=" + value;
  const auto parts = split(value, ':');
  if (parts.size() < 2 || parts.size() > 3 || parts[1].empty() || parts[1][0] != '/') return fail(Code::invalid_argument, what + ": write SOURCE:/TARGET[:ro]");
  Volume v;
  v.target = tidy(parts[1]);
  if (v.target.empty() || v.target == "/") return fail(Code::invalid_argument, what + ": \"" + parts[1] + "\" is no place below the root");
  if (plain_name(parts[0])) v.source = {Source::Kind::named, parts[0]};
  else {
    GANTRY_TRY(v.source, source_of(parts[0], rules, true, what));
  }
  for (const auto& o : split(parts.size() == 3 ? parts[2] : "", ',')) {
    if (o == "ro") v.read_only = true;
    else if (o == "rshared" || o == "shared") v.shared = true;
    else if (o == "rslave" || o == "slave") v.slave = true;
    // Labels of SELinux, copying and private propagation change nothing here.
    else if (!o.empty() && o != "rw" && o != "z" && o != "Z" && o != "nocopy" && o != "private" && o != "rprivate") return fail(Code::invalid_argument, what + ": unknown option \"" + o + "\"");
  }
  return v;
}

Status docker_parameters(const fb::DockerInfoT& docker, const Rules& rules, Plan& plan) {
  for (const auto& p : docker.parameters) {
    const std::string &key = p->key, &value = p->value;
    if (key == "volume" || key == "v") {
      GANTRY_TRY(Volume v, docker_volume(value, rules));
      plan.volumes.push_back(std::move(v));
    } else if (key == "tmpfs") {
      const auto colon = value.find(':');
      Tmpfs t{tidy(value.substr(0, colon)), colon == value.npos ? "" : value.substr(colon + 1)};
      if (value.empty() || value[0] != '/' || t.target.empty() || t.target == "/") return fail(Code::invalid_argument, "docker parameter tmpfs=" + value + ": write /TARGET[:OPTIONS]");
      plan.tmpfs.push_back(std::move(t));
    } else if (key == "device") {
      const auto parts = split(value, ':');
      DeviceNode d{tidy(parts[0]), parts.size() > 1 ? tidy(parts[1]) : "", parts.size() > 2 ? parts[2] : "rwm"};
      if (d.target.empty()) d.target = d.source;
      if (parts.size() > 3 || !d.source.starts_with("/dev/") || d.target == "/" || d.access.find_first_not_of("rwm") != std::string::npos || d.access.empty())
        return fail(Code::invalid_argument, "docker parameter device=" + value + ": write /dev/NAME[:/TARGET[:rwm]]");
      plan.devices.push_back(std::move(d));
    } else if (key == "read-only") {
      plan.read_only_root = value.empty() || value == "true";
    } else {
      continue;
    }
    plan.parameters.push_back(key);
  }
  return ok;
}

}  // namespace

std::string tidy(std::string_view path) {
  std::vector<std::string> parts;
  for (auto& p : split(path, '/')) {
    if (p.empty() || p == ".") continue;
    if (p != "..") parts.push_back(std::move(p));
    else if (parts.empty()) return {};
    else parts.pop_back();
  }
  std::string out;
  for (const auto& p : parts) out += "/" + p;
  return out.empty() ? "/" : out;
}

bool below(const std::string& path, const std::vector<std::string>& allowed) {
  return std::any_of(allowed.begin(), allowed.end(), [&](const std::string& a) {
    const std::string top = tidy(a);
    return top == "/" || path == top || path.starts_with(top + "/");
  });
}

Result<Plan> plan_of(const fb::TaskInfoT& task, const Rules& rules, bool image, bool nested) {
  Plan plan;
  const auto* c = task.container.get();
  if (!c) return plan;
  const bool docker = c->type == fb::ContainerType::DOCKER;
  for (const auto& v : c->volumes) {
    GANTRY_TRY(Volume one, volume_of(*v, rules, docker, nested));
    plan.volumes.push_back(std::move(one));
  }
  if (docker && c->docker) {
    plan.privileged = c->docker->privileged.value_or(false);
    GANTRY_CHECK(docker_parameters(*c->docker, rules, plan));
  }
  if (!image && plan.read_only_root) return fail(Code::invalid_argument, "docker parameter read-only: the container has no image");
  for (std::size_t i = 0; i < plan.volumes.size(); ++i)
    for (std::size_t j = 0; j < i; ++j)
      if (plan.volumes[i].target == plan.volumes[j].target) return fail(Code::invalid_argument, "container.volumes: there are two volumes at \"" + plan.volumes[i].target + "\"");
  return plan;
}

}  // namespace gantry::isolator_filesystem
