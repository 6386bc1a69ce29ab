#include "filesystem.hpp"

#include <linux/capability.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <set>

namespace gantry::isolator_filesystem {
namespace {

using fb::isolator::MountOption;
using fb::isolator::Namespace;
using fb::isolator::PreparedT;

constexpr char problem[] = "no right to mount: containers see the machine's files, and tasks with an image or volumes are refused; run gantryd as root";
constexpr auto nothing_of_devices = MS_NOSUID | MS_NODEV | MS_NOEXEC;

bool may_mount() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  return ::syscall(SYS_capget, &header, data) == 0 && (data[CAP_TO_INDEX(CAP_SYS_ADMIN)].effective & CAP_TO_MASK(CAP_SYS_ADMIN)) != 0;
}

std::string tag_of(const std::string& work_dir) {
  std::uint32_t hash = 2166136261u;
  for (const char c : work_dir) hash = (hash ^ static_cast<unsigned char>(c)) * 16777619u;
  char out[9];
  std::snprintf(out, sizeof out, "%08x", hash);
  return out;
}

template <class... O>
constexpr std::uint32_t options(O... all) {
  return (static_cast<std::uint32_t>(all) | ... | 0u);
}

fb::isolator::MountT& add(PreparedT& p, std::string source, std::string target, std::string type, std::uint64_t flags, std::uint32_t options = 0, std::string data = {}) {
  auto m = std::make_unique<fb::isolator::MountT>();
  m->source = std::move(source);
  m->target = std::move(target);
  m->type = std::move(type);
  m->flags = flags;
  m->options = options;
  m->data = std::move(data);
  p.mounts.push_back(std::move(m));
  return *p.mounts.back();
}

// The directory all layers lie in, so that a hundred of them fit into the page that mount(2) takes.
std::string common_directory(const std::vector<std::string>& layers) {
  std::string common = layers[0].substr(0, layers[0].rfind('/') + 1);
  for (const auto& l : layers)
    while (!common.empty() && l.compare(0, common.size(), common) != 0) common.erase(common.find_last_of('/', common.size() - 2) + 1);
  return common;
}

// A colon separates layers, a comma options.
std::string escaped(const std::string& path) {
  std::string out;
  for (const char c : path) {
    if (c == ':' || c == '\\' || c == ',') out += '\\';
    out += c;
  }
  return out;
}

Status add_root(PreparedT& p, const ContainerDirs& dirs, const std::vector<std::string>& layers, const std::string& image) {
  const std::string base = common_directory(layers);
  std::string data = "lowerdir=";
  for (std::size_t i = layers.size(); i-- > 0;) data += escaped(layers[i].substr(base.size())) + (i ? ":" : "");
  // Nothing of it outlives the container, so nothing has to reach the disk.
  data += ",upperdir=" + escaped(dirs.upper()) + ",workdir=" + escaped(dirs.work()) + ",volatile";
  if (data.size() >= 4096)
    return fail(Code::failed_precondition, "the image " + image + " has " + std::to_string(layers.size()) + " layers, whose names do not fit into one mount; build it with fewer");
  add(p, "overlay", dirs.root(), "overlay", 0, options(MountOption::OUTSIDE), data).base = base.empty() ? "/" : base;
  p.root = dirs.root();
  return ok;
}

void add_system(PreparedT& p) {
  add(p, "proc", "/proc", "proc", nothing_of_devices, options(MountOption::DIRECTORY));
  add(p, "sysfs", "/sys", "sysfs", nothing_of_devices | MS_RDONLY, options(MountOption::DIRECTORY));
  add(p, "/sys/fs/cgroup", "/sys/fs/cgroup", "", MS_BIND | MS_REC | nothing_of_devices | MS_RDONLY, options(MountOption::OPTIONAL));
  add(p, "devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, 0, "newinstance,ptmxmode=0666,mode=0620,gid=5");
  add(p, "shm", "/dev/shm", "tmpfs", nothing_of_devices, 0, "mode=1777,size=65536k");
  add(p, "mqueue", "/dev/mqueue", "mqueue", nothing_of_devices);
  // Whoever gives the container a network gives it others, over these.
  for (const char* f : {"/etc/hosts", "/etc/hostname", "/etc/resolv.conf"}) add(p, f, f, "", MS_BIND | MS_RDONLY, options(MountOption::FILE, MountOption::OPTIONAL));
}

// The options of `docker run --tmpfs`: some are mount flags, the others are for the file system.
std::pair<std::uint64_t, std::string> tmpfs_options(const std::string& text) {
  static constexpr std::pair<const char*, std::uint64_t> flags[] = {{"ro", MS_RDONLY}, {"noexec", MS_NOEXEC}, {"noatime", MS_NOATIME}, {"nodiratime", MS_NODIRATIME}, {"sync", MS_SYNCHRONOUS}};
  std::uint64_t set = MS_NOSUID | MS_NODEV;
  std::string data;
  for (std::size_t from = 0; from < text.size();) {
    const auto comma = std::min(text.find(',', from), text.size());
    const std::string word = text.substr(from, comma - from);
    from = comma + 1;
    const auto* const it = std::find_if(std::begin(flags), std::end(flags), [&](const auto& f) { return word == f.first; });
    if (it != std::end(flags)) set |= it->second;
    else if (word == "exec" || word == "rw" || word == "nosuid" || word == "nodev" || word.empty()) continue;
    else data += (data.empty() ? "" : ",") + word;
  }
  return {set, data};
}

void add_masks(PreparedT& p) {
  for (const char* hidden : {"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi", "/proc/timer_list",
                             "/proc/timer_stats", "/sys/firmware", "/sys/devices/virtual/powercap"})
    add(p, "", hidden, "", 0, options(MountOption::MASK));
  for (const char* fixed : {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"})
    add(p, "", fixed, "", MS_BIND | MS_REC | MS_RDONLY | nothing_of_devices, options(MountOption::OPTIONAL));
}

}  // namespace

Task<Status> Filesystem::configure(Settings settings) {
  Rules r;
  r.sandbox = tidy(settings.text("sandbox"));
  if (settings.text("sandbox").empty() || settings.text("sandbox")[0] != '/' || r.sandbox.empty() || r.sandbox == "/")
    co_return fail(Code::invalid_argument, "sandbox = \"" + settings.text("sandbox") + "\" must be an absolute path below the root, such as \"/mnt/mesos/sandbox\"", "sandbox");
  r.host_paths = settings.list("host_paths");
  for (const auto& h : r.host_paths)
    if (h.empty() || h[0] != '/') co_return fail(Code::invalid_argument, "host_paths: \"" + h + "\" must be absolute", "host_paths");
  r.create_host_paths = settings.flag("create_host_paths");
  r.mask = settings.flag("mask");
  rules_ = std::move(r);
  if (settings.reload()) co_return ok;
  const std::string& scratch = settings.text("scratch");
  if (!scratch.empty() && scratch[0] != '/') co_return fail(Code::invalid_argument, "scratch = \"" + scratch + "\" must be absolute", "scratch");
  scratch_ = scratch.empty() ? settings.work_dir() + "/containers" : scratch + "/" + tag_of(settings.work_dir());
  volumes_ = settings.work_dir() + "/volumes";
  const std::string memory = memory_directory();
  secrets_ = memory.empty() ? "" : memory + "/gantry-secrets-" + tag_of(settings.work_dir());
  co_return ok;
}

Task<Status> Filesystem::start() {
  may_ = allowed ? allowed() : may_mount();
  co_return ok;
}

Task<Result<fb::HealthT>> Filesystem::health() {
  fb::HealthT h;
  if (!may_) {
    h.state = fb::HealthState::DEGRADED;
    h.message = problem;
  }
  co_return h;
}

Task<Result<fb::isolator::RecoveredT>> Filesystem::recover(Request<fb::isolator::Recover> request) {
  std::set<std::string, std::less<>> known;
  if (request->containers())
    for (const auto* k : *request->containers()) known.emplace(text(k->container_id()));
  fb::isolator::RecoveredT out;
  std::set<std::string> orphans;
  for (const auto& place : {scratch_, secrets_}) {
    std::error_code e;
    if (place.empty()) continue;
    for (std::filesystem::directory_iterator it(place, e), end; !e && it != end; it.increment(e))
      if (const auto id = it->path().filename().string(); !known.contains(id)) orphans.insert(id);
  }
  out.orphans.assign(orphans.begin(), orphans.end());
  co_return out;
}

Task<Result<PreparedT>> Filesystem::prepare(Request<fb::isolator::Prepare> request) {
  PreparedT out;
  out.no_attach = true;
  fb::isolator::PrepareT body;
  request->UnPackTo(&body);
  const bool image = !body.layers.empty();
  if (body.container_id.empty() || body.container_id[0] == '.' || body.container_id.find('/') != std::string::npos)
    co_return fail(Code::invalid_argument, "container_id \"" + body.container_id + "\" cannot be the name of a directory");
  Plan plan;
  if (body.task) {
    GANTRY_CO_TRY(plan, plan_of(*body.task, rules_, image, !body.parent.empty()));
  }
  out.parameters = plan.parameters;
  const bool read_only_volume = std::any_of(body.volumes.begin(), body.volumes.end(), [](const auto& v) { return v->read_only; });
  const bool wanted = image || !plan.volumes.empty() || !plan.tmpfs.empty() || read_only_volume;
  if (!may_) {
    if (wanted) co_return fail(Code::failed_precondition, problem);
    co_return out;
  }
  out.namespaces = static_cast<std::uint32_t>(Namespace::MOUNT);
  const std::string sandbox = image ? rules_.sandbox : body.sandbox;
  const ContainerDirs dirs = dirs_of(body.container_id);
  if (image) {
    GANTRY_CO_CHECK(add_root(out, dirs, body.layers, body.image));
    add_system(out);
    out.sandbox = rules_.sandbox;
    out.read_only_root = plan.read_only_root;
    add(out, body.sandbox, rules_.sandbox, "", MS_BIND | MS_REC, options(MountOption::DIRECTORY));
  }
  if (rules_.mask && !plan.privileged) add_masks(out);
  // The agent's links in the sandbox lead to these.
  for (const auto& v : body.volumes)
    if (image || v->read_only)
      add(out, v->source, v->source, "", MS_BIND | MS_REC | (v->read_only ? MS_RDONLY : 0), image ? options(MountOption::DIRECTORY) : 0);

  // Off the strand: what has to be there before anything is mounted.
  const std::string secrets = secrets_.empty() ? "" : secrets_ + "/" + body.container_id;
  auto work = [&, image]() -> Status {
    if (image) GANTRY_CHECK(make_dirs(dirs, body.layers.back(), plan.devices));
    for (std::size_t i = 0; i < plan.volumes.size(); ++i) {
      const Volume& v = plan.volumes[i];
      const bool absolute = v.target[0] == '/';
      const std::string target = absolute ? v.target : sandbox + "/" + v.target;
      if (!absolute) GANTRY_CHECK(make_below(body.sandbox, v.target, body.uid, body.gid));
      std::string source = v.source.path, base;
      std::uint32_t extra = 0;
      bool file = false;
      switch (v.source.kind) {
        case Source::Kind::create: GANTRY_CHECK(make_directories(source)); [[fallthrough]];
        case Source::Kind::host: {
          std::error_code e;
          const std::string real = std::filesystem::canonical(source, e).string();
          if (e) return fail(Code::not_found, "the volume at \"" + v.target + "\": " + source + ": " + e.message());
          if (!below(real, rules_.host_paths)) return fail(Code::permission_denied, "the volume at \"" + v.target + "\": " + source + " leads to " + real + ", where this agent allows none");
          source = real;
          file = !std::filesystem::is_directory(real, e);
          break;
        }
        case Source::Kind::sandbox:
        case Source::Kind::parent:
          base = body.sandbox;
          // The sandbox of a nested container is <sandbox of its parent>/tasks/<task>.
          if (v.source.kind == Source::Kind::parent) base = std::filesystem::path(base).parent_path().parent_path().string();
          if (!source.empty()) GANTRY_CHECK(make_below(base, source, body.uid, body.gid));
          extra = options(MountOption::STRICT_SOURCE);
          if (source.empty()) source = ".";
          file = !std::filesystem::is_directory(base + "/" + source);
          break;
        case Source::Kind::named:
          source = volumes_ + "/" + source;
          GANTRY_CHECK(make_directories(source));
          break;
        case Source::Kind::secret:
          if (secrets.empty()) return fail(Code::failed_precondition, "the secret at \"" + v.target + "\": this machine has no tmpfs at /run or /dev/shm to keep it in");
          GANTRY_CHECK(write_secret(secrets, std::to_string(i), source, body.uid, body.gid));
          source = secrets + "/" + std::to_string(i);
          file = true;
          break;
      }
      // Without an image the places are the machine's: nothing is made there.
      if (image || !absolute) extra |= file ? options(MountOption::FILE) : options(MountOption::DIRECTORY);
      const std::uint64_t flags = MS_BIND | MS_REC | (v.read_only ? MS_RDONLY : 0) | (v.shared ? MS_SHARED : v.slave ? MS_SLAVE : 0);
      add(out, source, target, "", flags, extra).base = base;
    }
    return ok;
  };
  GANTRY_CO_CHECK(co_await host().offload(std::move(work)));
  for (const auto& t : plan.tmpfs) {
    const auto [flags, data] = tmpfs_options(t.options);
    add(out, "tmpfs", t.target, "tmpfs", flags, image ? options(MountOption::DIRECTORY) : 0, data);
  }
  for (const auto& d : plan.devices) {
    struct stat s {};
    if (::stat(d.source.c_str(), &s) != 0 || (!S_ISCHR(s.st_mode) && !S_ISBLK(s.st_mode))) co_return fail(Code::invalid_argument, "docker parameter device: " + d.source + " is no device of this machine");
    auto device = std::make_unique<fb::isolator::DeviceT>();
    device->character = S_ISCHR(s.st_mode);
    device->major = static_cast<int>(s.st_rdev >> 8 & 0xfff);
    device->minor = static_cast<int>((s.st_rdev & 0xff) | (s.st_rdev >> 12 & 0xfff00));
    device->access = d.access;
    out.devices.push_back(std::move(device));
    if (!d.target.starts_with("/dev/")) add(out, d.source, d.target, "", MS_BIND, options(MountOption::FILE));
  }
  co_return out;
}

Task<Status> Filesystem::cleanup(Request<fb::isolator::Cleanup> request) {
  const std::string id(text(request->container_id()));
  if (id.empty() || id[0] == '.' || id.find('/') != std::string::npos) co_return fail(Code::invalid_argument, "container_id \"" + id + "\" cannot be the name of a directory");
  const std::string top = dirs_of(id).top, secrets = secrets_.empty() ? "" : secrets_ + "/" + id;
  // Nothing of a container without an image or a secret is on disk.
  if (::access(top.c_str(), F_OK) != 0 && (secrets.empty() || ::access(secrets.c_str(), F_OK) != 0)) co_return ok;
  auto work = [top, secrets]() -> Status {
    if (!secrets.empty()) GANTRY_CHECK(remove_tree(secrets));
    return remove_tree(top);
  };
  co_return co_await host().offload(std::move(work));
}

}  // namespace gantry::isolator_filesystem
