#include "containers.hpp"

#include "toml_table.hpp"
#include "translate.hpp"

#include <boost/json.hpp>

#include <charconv>
#include <cstdio>
#include <set>

namespace gantry::compat {
namespace {
namespace json = boost::json;

// Values of --isolation: which isolator does that here, and which of its parts.
struct Meaning {
  const char* name;
  const char* isolator;  // "": nothing has to be configured for it
  const char* part;      // "": the whole of it
};
constexpr Meaning meanings[] = {
    {"posix", "", ""}, {"posix/cpu", "", ""}, {"posix/mem", "", ""}, {"process", "", ""}, {"filesystem/posix", "", ""}, {"environment_secret", "", ""},
    {"cgroups", "cgroups", ""}, {"cgroups/all", "cgroups", ""}, {"cgroups/cpu", "cgroups", ""}, {"cgroups/mem", "cgroups", ""}, {"cgroups/blkio", "cgroups", ""},
    {"cgroups/cpuset", "cgroups", ""}, {"cgroups/hugetlb", "cgroups", ""}, {"cgroups/pids", "cgroups", ""}, {"cgroups/devices", "cgroups", "devices"},
    {"linux/devices", "cgroups", "devices"},
    {"namespaces/pid", "namespaces", "pid"}, {"namespaces/ipc", "namespaces", "ipc"},
    {"filesystem/linux", "filesystem", ""}, {"filesystem/shared", "filesystem", ""}, {"docker/runtime", "filesystem", "image"}, {"volume/host_path", "filesystem", ""},
    {"volume/sandbox_path", "filesystem", ""}, {"volume/secret", "filesystem", ""}, {"docker/volume", "filesystem", ""},
    {"linux/capabilities", "security", ""}, {"linux/seccomp", "security", ""}, {"linux/nnp", "security", "nnp"}, {"posix/rlimits", "security", ""},
    {"network/cni", "network", ""}, {"network/ports", "network", "ports"},
    {"disk/du", "disk", ""}, {"posix/disk", "disk", ""}, {"disk/xfs", "disk", "xfs"},
    {"gpu/nvidia", "gpu", ""},
};

// {"capabilities": ["NET_RAW", ...]}
Result<std::vector<std::string>> capabilities(const Given& g, const char* flag) {
  std::vector<std::string> out;
  json::error_code error;
  const json::value v = json::parse(g.text(flag), error);
  const json::value* list = !error && v.is_object() ? v.as_object().if_contains("capabilities") : nullptr;
  if (!list || !list->is_array()) return fail(Code::invalid_argument, "Failed to parse --" + std::string(flag) + ": expected {\"capabilities\": [...]}");
  for (const auto& one : list->as_array()) {
    if (!one.is_string()) return fail(Code::invalid_argument, "Failed to parse --" + std::string(flag) + ": capabilities are names");
    out.emplace_back(one.as_string());
  }
  return out;
}

// "[5000-10000]"
Result<std::pair<std::int64_t, std::int64_t>> range(const std::string& text, const char* flag) {
  std::int64_t from = 0, to = 0;
  const char* const end = text.data() + text.size();
  const bool bracket = text.starts_with('[') && text.ends_with(']');
  const auto first = std::from_chars(text.data() + bracket, end, from);
  if (first.ec != std::errc() || first.ptr == end || *first.ptr != '-' || std::from_chars(first.ptr + 1, end, to).ec != std::errc() || from > to)
    return fail(Code::invalid_argument, "Failed to parse --" + std::string(flag) + "='" + text + "': expected [FIRST-LAST]");
  return std::pair(from, to);
}

std::string real(double v) {
  char out[32];
  std::snprintf(out, sizeof out, "%g", v);
  return std::string(out).find_first_of(".e") == std::string::npos ? std::string(out) + ".0" : out;
}

class Isolation {
 public:
  explicit Isolation(const Given& g) : g_(g) {}

  Result<Containers> run() {
    for (const std::string& one : split(g_.text("isolation"), ',')) {
      const auto* const it = std::find_if(std::begin(meanings), std::end(meanings), [&](const Meaning& m) { return one == m.name; });
      if (it == std::end(meanings)) out_.nothing.push_back("isolation=" + one);
      else if (*it->isolator) parts_.insert(it->isolator), parts_.insert(std::string(it->isolator) + "/" + it->part);
    }
    // Mesos adds network/cni where networks are configured.
    if (g_.has("network_cni_config_dir")) parts_.insert("network");
    const auto providers = split(g_.text("image_providers"), ',');
    for (const auto& p : providers)
      if (p != "docker") out_.nothing.push_back("image_providers=" + p);
    const auto containerizers = split(g_.text("containerizers"), ',');
    docker_ = std::find(containerizers.begin(), containerizers.end(), "docker") != containerizers.end();
    // What Docker did by itself is done by these.
    if (docker_) parts_.insert({"cgroups", "filesystem", "security", "network", "namespaces", "namespaces/pid"});
    if (docker_ || has("filesystem/image") || std::find(providers.begin(), providers.end(), "docker") != providers.end()) parts_.insert({"image", "filesystem"});
    if (has("filesystem")) parts_.insert({"namespaces", "namespaces/mount"});
    cgroups();
    namespaces();
    filesystem();
    GANTRY_CHECK(security());
    network();
    GANTRY_CHECK(disk());
    gpu();
    GANTRY_CHECK(image());
    return std::move(out_);
  }

 private:
  [[nodiscard]] bool has(const std::string& part) const { return parts_.contains(part); }
  // These flags belong to a part that is not there.
  void idle(std::initializer_list<const char*> flags) {
    for (const char* f : flags)
      if (g_.differs(f)) out_.nothing.emplace_back(f);
  }
  void put(const Table& t) { out_.toml += "\n" + t.str(); }

  void cgroups() {
    if (!has("cgroups")) return idle({"cgroups_root", "cgroups_enable_cfs", "cgroups_limit_swap"});
    Table t("isolator.cgroups");
    t.text("root", g_.text("cgroups_root"));
    t.flag("cpu_quota", g_.flag("cgroups_enable_cfs"));
    t.flag("swap_limit", g_.flag("cgroups_limit_swap"));
    t.flag("devices", docker_ || has("cgroups/devices"));
    put(t);
  }

  void namespaces() {
    if (!has("namespaces")) return idle({"disallow_sharing_agent_pid_namespace", "disallow_sharing_agent_ipc_namespace", "default_container_shm_size"});
    Table t("isolator.namespaces");
    t.flag("pid", has("namespaces/pid"));
    t.flag("mount", has("namespaces/mount"));
    t.flag("ipc", has("namespaces/ipc"));
    if (g_.flag("disallow_sharing_agent_pid_namespace")) t.flag("disallow_sharing_agent_pid", true);
    if (g_.flag("disallow_sharing_agent_ipc_namespace")) t.flag("disallow_sharing_agent_ipc", true);
    if (g_.has("default_container_shm_size")) t.size("shm_size", g_.bytes("default_container_shm_size"));
    put(t);
  }

  void filesystem() {
    if (!has("filesystem")) return idle({"sandbox_directory"});
    Table t("isolator.filesystem");
    if (g_.has("sandbox_directory")) t.text("sandbox", g_.text("sandbox_directory"));
    put(t);
  }

  Status security() {
    if (!has("security")) return idle({"effective_capabilities", "bounding_capabilities", "seccomp_config_dir", "seccomp_profile_name"}), ok;
    Table t("isolator.security");
    for (const char* flag : {"effective_capabilities", "bounding_capabilities"}) {
      if (!g_.has(flag)) continue;
      GANTRY_TRY(const auto names, capabilities(g_, flag));
      t.list(flag, names);
      // Of one of them alone the other follows.
      if (std::string_view(flag) == "effective_capabilities" && !g_.has("bounding_capabilities")) t.list("bounding_capabilities", names);
    }
    if (g_.has("seccomp_config_dir")) t.text("seccomp_profile_dir", g_.text("seccomp_config_dir"));
    if (g_.has("seccomp_profile_name")) {
      t.text("seccomp_profile", g_.text("seccomp_profile_name"));
      t.text("image_seccomp_profile", g_.text("seccomp_profile_name"));
    }
    if (has("security/nnp")) t.flag("no_new_privileges", true);
    put(t);
    return ok;
  }

  void network() {
    if (!has("network")) return idle({"network_cni_config_dir", "network_cni_plugins_dir", "enforce_container_ports", "container_ports_watch_interval", "container_ports_isolated_range", "check_agent_port_range_only"});
    Table t("isolator.network");
    if (g_.has("network_cni_config_dir")) t.text("cni_config_dir", g_.text("network_cni_config_dir"));
    if (g_.has("network_cni_plugins_dir")) t.list("cni_plugin_dirs", split(g_.text("network_cni_plugins_dir"), ':'));
    t.text("listening_ports", !has("network/ports") ? "off" : g_.flag("enforce_container_ports") ? "enforce" : "report");
    if (g_.has("container_ports_watch_interval")) t.duration("listening_ports_interval", g_.nanoseconds("container_ports_watch_interval"));
    if (g_.has("container_ports_isolated_range")) {
      std::string ports = g_.text("container_ports_isolated_range");
      std::erase_if(ports, [](char c) { return c == '[' || c == ']' || c == ' '; });
      t.text("listening_ports_range", ports);
    }
    put(t);
  }

  Status disk() {
    if (!has("disk")) return idle({"enforce_container_disk_quota", "container_disk_watch_interval", "xfs_project_range", "xfs_kill_containers"}), ok;
    Table t("isolator.disk");
    // disk/xfs always holds; disk/du where it was asked to.
    t.flag("enforce", has("disk/xfs") || g_.flag("enforce_container_disk_quota"));
    t.text("method", has("disk/xfs") ? "quota" : "count");
    if (g_.has("container_disk_watch_interval")) t.duration("interval", g_.nanoseconds("container_disk_watch_interval"));
    if (has("disk/xfs")) {
      GANTRY_TRY(const auto projects, range(g_.text("xfs_project_range"), "xfs_project_range"));
      t.number("first_project", projects.first);
      t.number("last_project", projects.second);
      if (g_.flag("xfs_kill_containers")) t.text("on_quota", "kill");
    }
    put(t);
    return ok;
  }

  void gpu() {
    if (!has("gpu")) return idle({"nvidia_gpu_devices"});
    Table t("isolator.gpu");
    if (g_.has("nvidia_gpu_devices")) t.list("cards", split(g_.text("nvidia_gpu_devices"), ','));
    put(t);
  }

  Status image() {
    if (!has("image")) return idle({"docker_registry", "docker_config", "docker_store_dir", "image_gc_config", "image_provisioner_backend"}), ok;
    Table t("image.oci");
    if (g_.has("docker_registry")) {
      std::string r = g_.text("docker_registry");
      // A folder of archives is meant as it is; of an address the scheme is not needed.
      if (r.starts_with('/') || r.starts_with("file://") || r.starts_with("hdfs://")) t.text("archives", r.starts_with("file://") ? r.substr(7) : r);
      else t.text("default_registry", r.substr(r.find("://") == r.npos ? 0 : r.find("://") + 3));
    }
    if (g_.has("docker_config")) out_.docker_config = g_.text("docker_config");
    if (g_.has("image_gc_config")) {
      json::error_code error;
      const json::value v = json::parse(g_.text("image_gc_config"), error);
      if (error || !v.is_object()) return fail(Code::invalid_argument, "Failed to parse --image_gc_config: expected a JSON object");
      const auto& o = v.as_object();
      if (const auto* headroom = o.if_contains("image_disk_headroom"); headroom && headroom->is_number()) t.raw("gc_headroom", real(headroom->to_number<double>()));
      if (const auto* every = o.if_contains("image_disk_watch_interval"); every && every->is_object())
        if (const auto* ns = every->as_object().if_contains("nanoseconds"); ns && ns->is_number()) t.duration("gc_interval", ns->to_number<std::int64_t>());
      std::vector<std::string> keep;
      if (const auto* excluded = o.if_contains("excluded_images"); excluded && excluded->is_array())
        for (const auto& one : excluded->as_array())
          if (const auto* d = one.is_object() ? one.as_object().if_contains("docker") : nullptr; d && d->is_object())
            if (const auto* n = d->as_object().if_contains("name"); n && n->is_string()) keep.emplace_back(n->as_string());
      if (!keep.empty()) t.list("gc_keep", keep);
    }
    idle({"docker_store_dir", "image_provisioner_backend"});
    out_.image = "\n" + t.str();
    return ok;
  }

  const Given& g_;
  Containers out_;
  std::set<std::string> parts_;
  bool docker_ = false;
};

}  // namespace

Result<Containers> containers_of(const Given& given) { return Isolation(given).run(); }

}  // namespace gantry::compat
