#include "seccomp.hpp"

#include <boost/json/src.hpp>

#include <linux/capability.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>

namespace gantry::isolator_security {
namespace {
namespace json = boost::json;

struct Release {
  void operator()(void* context) const { seccomp_release(context); }
};
using Context = std::unique_ptr<void, Release>;

Error wrong(const std::string& where, const std::string& what) { return fail(Code::invalid_argument, "seccomp profile: " + where + " " + what); }
Error library(const std::string& what, int rc) { return fail(Code::internal, "seccomp: " + what + ": " + std::strerror(-rc)); }

// Argument `n`, masked, is `value`.
scmp_arg_cmp masked(unsigned n, std::uint64_t mask, std::uint64_t value) { return {n, SCMP_CMP_MASKED_EQ, mask, value}; }

Result<Filter> export_filter(const Context& context) {
  const int fd = ::memfd_create("seccomp", MFD_CLOEXEC);
  if (fd < 0) return fail(Code::resource_exhausted, std::string("seccomp: no memory file: ") + std::strerror(errno));
  const int rc = seccomp_export_bpf(context.get(), fd);
  const off_t size = ::lseek(fd, 0, SEEK_END);
  Filter out(size > 0 ? static_cast<std::size_t>(size) : 0);
  const bool read = rc == 0 && ::pread(fd, out.data(), out.size(), 0) == static_cast<ssize_t>(out.size());
  ::close(fd);
  if (rc != 0) return library("cannot compile the filter", rc);
  if (!read || out.size() % 8 != 0 || out.empty()) return fail(Code::internal, "seccomp: the compiled filter could not be read back");
  return out;
}

Result<Context> new_filter(std::uint32_t action) {
  Context context(seccomp_init(action));
  if (!context) return fail(Code::resource_exhausted, "seccomp: no memory for a filter");
  // Rights and limits of the task are its own; the filter must not set no_new_privs by the way, the supervisor does.
  (void)seccomp_attr_set(context.get(), SCMP_FLTATR_CTL_NNP, 0);
  (void)seccomp_attr_set(context.get(), SCMP_FLTATR_CTL_OPTIMIZE, 2);  // a tree instead of a list, where the library can
  return context;
}

// ---- reading a profile

Result<std::uint32_t> action_of(const json::value& v, std::uint32_t error, const std::string& where) {
  const auto* s = v.if_string();
  if (!s) return wrong(where, "must be the name of an action, such as \"SCMP_ACT_ERRNO\"");
  if (*s == "SCMP_ACT_ALLOW") return SCMP_ACT_ALLOW;
  if (*s == "SCMP_ACT_ERRNO") return SCMP_ACT_ERRNO(error);
  if (*s == "SCMP_ACT_KILL" || *s == "SCMP_ACT_KILL_THREAD") return SCMP_ACT_KILL_THREAD;
  if (*s == "SCMP_ACT_KILL_PROCESS") return SCMP_ACT_KILL_PROCESS;
  if (*s == "SCMP_ACT_TRAP") return SCMP_ACT_TRAP;
  if (*s == "SCMP_ACT_LOG") return SCMP_ACT_LOG;
  if (*s == "SCMP_ACT_TRACE") return SCMP_ACT_TRACE(error);
  return wrong(where, "is \"" + std::string(*s) + "\", which is no action this release knows");
}

Result<std::uint64_t> number_at(const json::object& o, const char* key, std::uint64_t absent, const std::string& where) {
  const auto* v = o.if_contains(key);
  if (!v || v->is_null()) return absent;
  if (const auto* i = v->if_int64(); i && *i >= 0) return static_cast<std::uint64_t>(*i);
  if (const auto* u = v->if_uint64()) return *u;
  return wrong(where + "." + key, "must be a number that is not negative");
}

// Absent: 1 (EPERM). The kernel has room for 12 bits.
Result<std::uint32_t> errno_at(const json::object& o, const char* key, std::uint32_t absent, const std::string& where) {
  GANTRY_TRY(const std::uint64_t n, number_at(o, key, absent, where));
  if (n > 4095) return wrong(where + "." + key, "is " + std::to_string(n) + "; errors are 0 to 4095");
  return static_cast<std::uint32_t>(n);
}

// `read` may be handed nothing: the key is absent.
Result<std::vector<std::string>> strings_at(const json::object& o, const char* key, const std::string& where) {
  std::vector<std::string> out;
  const auto* v = o.if_contains(key);
  if (!v || v->is_null()) return out;
  const auto* list = v->if_array();
  if (!list) return wrong(where + "." + key, "must be a list of texts");
  for (const auto& one : *list) {
    if (!one.is_string()) return wrong(where + "." + key, "must be a list of texts");
    out.emplace_back(one.as_string());
  }
  return out;
}

// "4.8" -> whether this kernel is at least that.
Result<bool> kernel_at_least(const std::string& wanted, const std::string& where) {
  int major = 0, minor = 0, our_major = 0, our_minor = 0, used = 0;
  if (std::sscanf(wanted.c_str(), "%d.%d%n", &major, &minor, &used) != 2 || used != static_cast<int>(wanted.size()))
    return wrong(where, "is \"" + wanted + "\"; a kernel version is two numbers, such as \"4.8\"");
  utsname here{};
  ::uname(&here);
  std::sscanf(here.release, "%d.%d", &our_major, &our_minor);
  return our_major > major || (our_major == major && our_minor >= minor);
}

const char* architecture() {
#if defined(__x86_64__)
  return "amd64";
#elif defined(__aarch64__)
  return "arm64";
#else
  return "other";
#endif
}

// Whether a rule is meant for this container, by its `includes` and `excludes`.
Result<bool> applies(const json::object& rule, CapabilitySet bounding, const std::string& where) {
  for (const char* side : {"includes", "excludes"}) {
    const auto* v = rule.if_contains(side);
    if (!v || v->is_null()) continue;
    const auto* o = v->if_object();
    const std::string here = where + "." + side;
    if (!o) return wrong(here, "must be an object");
    const bool including = side[0] == 'i';
    GANTRY_TRY(const auto caps, strings_at(*o, "caps", here));
    GANTRY_TRY(const CapabilitySet set, parse_capabilities(caps, here + ".caps"));
    if (including ? (set & ~bounding) != 0 : (set & bounding) != 0) return false;
    GANTRY_TRY(const auto archs, strings_at(*o, "arches", here));
    bool listed = false;
    for (const auto& a : archs) listed |= a == architecture();
    if (including ? !archs.empty() && !listed : listed) return false;
    if (const auto* k = o->if_contains("minKernel"); k && !k->is_null()) {
      if (!k->is_string()) return wrong(here + ".minKernel", "must be a text such as \"4.8\"");
      GANTRY_TRY(const bool newer, kernel_at_least(std::string(k->as_string()), here + ".minKernel"));
      if (newer != including) return false;
    }
  }
  return true;
}

Result<std::vector<scmp_arg_cmp>> arguments_of(const json::object& rule, const std::string& where) {
  std::vector<scmp_arg_cmp> out;
  const auto* v = rule.if_contains("args");
  if (!v || v->is_null()) return out;
  const auto* list = v->if_array();
  if (!list) return wrong(where + ".args", "must be a list");
  static constexpr std::pair<const char*, scmp_compare> ops[] = {
      {"SCMP_CMP_NE", SCMP_CMP_NE}, {"SCMP_CMP_LT", SCMP_CMP_LT}, {"SCMP_CMP_LE", SCMP_CMP_LE},           {"SCMP_CMP_EQ", SCMP_CMP_EQ},
      {"SCMP_CMP_GE", SCMP_CMP_GE}, {"SCMP_CMP_GT", SCMP_CMP_GT}, {"SCMP_CMP_MASKED_EQ", SCMP_CMP_MASKED_EQ}};
  for (std::size_t i = 0; i < list->size(); ++i) {
    const std::string here = where + ".args[" + std::to_string(i) + "]";
    const auto* o = (*list)[i].if_object();
    if (!o) return wrong(here, "must be an object");
    scmp_arg_cmp a{};
    GANTRY_TRY(const std::uint64_t index, number_at(*o, "index", 0, here));
    if (index > 5) return wrong(here + ".index", "is " + std::to_string(index) + "; a system call has arguments 0 to 5");
    a.arg = static_cast<unsigned>(index);
    GANTRY_TRY(a.datum_a, number_at(*o, "value", 0, here));
    GANTRY_TRY(a.datum_b, number_at(*o, "valueTwo", 0, here));
    const auto* op = o->if_contains("op");
    std::optional<scmp_compare> found;
    for (const auto& [name, compare] : ops)
      if (op && op->is_string() && op->as_string() == name) found = compare;
    if (!found) return wrong(here + ".op", "must be a comparison, such as \"SCMP_CMP_EQ\"");
    a.op = *found;
    out.push_back(a);
  }
  return out;
}

Status add_rule(const Context& context, std::uint32_t action, const std::string& name, const std::vector<scmp_arg_cmp>& args, const std::string& where) {
  const int number = seccomp_syscall_resolve_name(name.c_str());
  if (number == __NR_SCMP_ERROR) return ok;
  // The library takes one comparison an argument; several of the same one are rules of their own: any of them suffices.
  bool repeated = false;
  for (std::size_t i = 0; i < args.size(); ++i)
    for (std::size_t j = 0; j < i; ++j) repeated |= args[i].arg == args[j].arg;
  int rc = 0;
  if (!repeated) rc = seccomp_rule_add_array(context.get(), action, number, static_cast<unsigned>(args.size()), args.data());
  else
    for (const auto& one : args)
      if (rc == 0) rc = seccomp_rule_add_array(context.get(), action, number, 1, &one);
  // Unknown to one of the architectures, or twice the same: nothing is lost.
  if (rc == 0 || rc == -EDOM || rc == -EEXIST) return ok;
  return wrong(where, "cannot be made a rule for \"" + name + "\": " + std::strerror(-rc));
}

Status add_architectures(const Context& context, const json::object& profile) {
  // A program of another architecture of this machine would get past the filter, so the library kills it; those that are
  // named are filtered instead. The newer form maps an architecture to its lesser ones.
  std::vector<std::string> names;
  GANTRY_TRY(names, strings_at(profile, "architectures", "profile"));
  if (const auto* map = profile.if_contains("archMap"); map && !map->is_null()) {
    if (!map->is_array()) return wrong("archMap", "must be a list");
    for (const auto& one : map->as_array()) {
      const auto* o = one.if_object();
      if (!o) return wrong("archMap", "must be a list of objects");
      const auto* main = o->if_contains("architecture");
      if (!main || !main->is_string()) return wrong("archMap", "needs an architecture in each entry");
      std::string token(main->as_string());
      for (auto& c : token) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
      if (!token.starts_with("scmp_arch_") || seccomp_arch_resolve_name(token.c_str() + 10) != seccomp_arch_native()) continue;
      GANTRY_TRY(const auto lesser, strings_at(*o, "subArchitectures", "archMap"));
      names.insert(names.end(), lesser.begin(), lesser.end());
    }
  }
  for (auto& name : names) {
    for (auto& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    const std::uint32_t token = name.starts_with("scmp_arch_") ? seccomp_arch_resolve_name(name.c_str() + 10) : 0;
    if (token == 0 || token == seccomp_arch_native()) continue;
    const int rc = seccomp_arch_add(context.get(), token);
    if (rc != 0 && rc != -EEXIST && rc != -EDOM) return library("cannot add the architecture " + name, rc);
  }
  return ok;
}

}  // namespace

Result<Filter> compile_profile(std::string_view text, CapabilitySet bounding) {
  json::error_code error;
  json::parse_options options;
  options.max_depth = 16;
  const json::value parsed = json::parse(json::string_view(text.data(), text.size()), error, {}, options);
  if (error) return fail(Code::invalid_argument, "seccomp profile: not JSON: " + error.message());
  const auto* profile = parsed.if_object();
  if (!profile) return wrong("it", "must be an object");
  const auto* by_default = profile->if_contains("defaultAction");
  if (!by_default) return wrong("defaultAction", "is missing");
  GANTRY_TRY(const std::uint32_t default_error, errno_at(*profile, "defaultErrnoRet", EPERM, "profile"));
  GANTRY_TRY(const std::uint32_t default_action, action_of(*by_default, default_error, "defaultAction"));
  GANTRY_TRY(const Context context, new_filter(default_action));
  GANTRY_CHECK(add_architectures(context, *profile));
  const auto* rules = profile->if_contains("syscalls");
  if (rules && !rules->is_null() && !rules->is_array()) return wrong("syscalls", "must be a list");
  static const json::array none;
  const json::array& list = rules && rules->is_array() ? rules->as_array() : none;
  for (std::size_t i = 0; i < list.size(); ++i) {
    const std::string where = "syscalls[" + std::to_string(i) + "]";
    const auto* rule = list[i].if_object();
    if (!rule) return wrong(where, "must be an object");
    GANTRY_TRY(auto names, strings_at(*rule, "names", where));
    if (const auto* one = rule->if_contains("name"); one && one->is_string() && !one->as_string().empty()) names.emplace_back(one->as_string());
    if (names.empty()) return wrong(where + ".names", "is missing");
    const auto* what = rule->if_contains("action");
    if (!what) return wrong(where + ".action", "is missing");
    GANTRY_TRY(const std::uint32_t number, errno_at(*rule, "errnoRet", EPERM, where));
    GANTRY_TRY(const std::uint32_t action, action_of(*what, number, where + ".action"));
    GANTRY_TRY(const bool meant, applies(*rule, bounding, where));
    if (!meant || action == default_action) continue;
    GANTRY_TRY(const auto args, arguments_of(*rule, where));
    for (const auto& name : names) GANTRY_CHECK(add_rule(context, action, name, args, where));
  }
  return export_filter(context);
}

Result<Filter> compile_builtin(CapabilitySet bounding) {
  struct Group {
    CapabilitySet unless;  // a container with this capability may
    std::vector<const char*> calls;
  };
  static const Group groups[] = {
      {only(CAP_SYS_MODULE), {"create_module", "delete_module", "finit_module", "init_module", "query_module", "get_kernel_syms"}},
      {only(CAP_SYS_BOOT), {"kexec_load", "kexec_file_load", "reboot"}},
      {only(CAP_SYS_TIME), {"settimeofday", "clock_settime", "clock_settime64", "adjtimex", "clock_adjtime", "clock_adjtime64", "stime"}},
      {only(CAP_SYS_RAWIO), {"iopl", "ioperm"}},
      {only(CAP_SYS_PACCT), {"acct"}},
      {only(CAP_SYS_ADMIN),
       {"mount", "umount", "umount2", "mount_setattr", "move_mount", "open_tree", "fsconfig", "fsmount", "fsopen", "fspick", "pivot_root", "setns", "unshare",
        "swapon", "swapoff", "quotactl", "quotactl_fd", "lookup_dcookie", "fanotify_init", "nfsservctl", "sysfs", "_sysctl", "vm86", "vm86old"}},
      {only(CAP_DAC_READ_SEARCH), {"open_by_handle_at"}},
      {only(CAP_SYS_ADMIN) | only(CAP_BPF), {"bpf"}},
      {only(CAP_SYS_ADMIN) | only(CAP_PERFMON), {"perf_event_open"}},
      {only(CAP_SYSLOG) | only(CAP_SYS_ADMIN), {"syslog"}},
      {only(CAP_SYS_TTY_CONFIG), {"vhangup"}},
      {only(CAP_SYS_PTRACE), {"kcmp", "process_madvise"}},
      {only(CAP_SYS_NICE), {"mbind", "migrate_pages", "move_pages", "set_mempolicy", "get_mempolicy"}},
      {0, {"add_key", "keyctl", "request_key", "userfaultfd", "uselib", "ustat"}},
  };
  GANTRY_TRY(const Context context, new_filter(SCMP_ACT_ALLOW));
#if defined(__x86_64__)
  for (const std::uint32_t lesser : {SCMP_ARCH_X86, SCMP_ARCH_X32})
    if (const int rc = seccomp_arch_add(context.get(), lesser); rc != 0 && rc != -EEXIST) return library("cannot add an architecture", rc);
#elif defined(__aarch64__)
  if (const int rc = seccomp_arch_add(context.get(), SCMP_ARCH_ARM); rc != 0 && rc != -EEXIST) return library("cannot add an architecture", rc);
#endif
  const std::uint32_t refuse = SCMP_ACT_ERRNO(EPERM);
  for (const auto& g : groups) {
    if (g.unless & bounding) continue;
    for (const char* call : g.calls) GANTRY_CHECK(add_rule(context, refuse, call, {}, "builtin"));
  }
  if (!(bounding & only(CAP_SYS_ADMIN))) {
    // New namespaces. clone3 hides its flags behind a pointer: libraries fall back to clone if there is no such call.
    for (const std::uint64_t flag : {CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET, CLONE_NEWCGROUP})
      GANTRY_CHECK(add_rule(context, refuse, "clone", {masked(0, flag, flag)}, "builtin"));
    GANTRY_CHECK(add_rule(context, SCMP_ACT_ERRNO(ENOSYS), "clone3", {}, "builtin"));
  }
  // Terminals: pushing characters into another's input.
  GANTRY_CHECK(add_rule(context, refuse, "ioctl", {masked(1, 0xffffffff, 0x5412)}, "builtin"));  // TIOCSTI
  return export_filter(context);
}

}  // namespace gantry::isolator_security
