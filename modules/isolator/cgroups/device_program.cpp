// The filter of version 2: instructions written by hand, so that nothing has to be compiled or shipped for it.
#include "devices.hpp"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>

namespace gantry::isolator_cgroups {
namespace {

// By it we know our own; the kernel keeps 15 characters.
constexpr char program_name[BPF_OBJ_NAME_LEN] = "gantry_devices";

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(Descriptor&& o) noexcept : fd_(std::exchange(o.fd_, -1)) {}
  Descriptor& operator=(Descriptor&&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  [[nodiscard]] int get() const { return fd_; }

 private:
  int fd_;
};

int bpf(int command, bpf_attr& attribute) { return static_cast<int>(::syscall(SYS_bpf, command, &attribute, sizeof attribute)); }
std::uint64_t address(const void* p) { return reinterpret_cast<std::uintptr_t>(p); }

Error bpf_error(const std::string& doing) {
  const int e = errno;
  return fail(e == EPERM || e == EACCES    ? Code::permission_denied
              : e == EINVAL || e == ENOSYS ? Code::unimplemented
                                           : Code::internal,
              doing + ": " + std::strerror(e));
}

bpf_insn instruction(std::uint8_t code, std::uint8_t to, std::uint8_t from, std::int16_t offset, std::int32_t number) {
  bpf_insn i{};
  i.code = code;
  i.dst_reg = to & 15;
  i.src_reg = from & 15;
  i.off = offset;
  i.imm = number;
  return i;
}

Result<Descriptor> load(const std::vector<DeviceRule>& rules) {
  const auto program = device_program(rules);
  static constexpr char license[] = "Apache-2.0";
  bpf_attr a{};
  a.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
  a.insn_cnt = static_cast<std::uint32_t>(program.size());
  a.insns = address(program.data());
  a.license = address(license);
  std::memcpy(a.prog_name, program_name, sizeof a.prog_name);
  Descriptor fd(bpf(BPF_PROG_LOAD, a));
  if (fd.get() < 0) return bpf_error("cannot load the device filter");
  return fd;
}

Result<Descriptor> open_cgroup(const std::string& path) {
  Descriptor fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (fd.get() < 0) return fail(errno == ENOENT ? Code::not_found : Code::internal, "cannot open " + path + ": " + std::strerror(errno));
  return fd;
}

// A program of ours at this cgroup; a descriptor of -1 if there is none.
Result<Descriptor> find_ours(int cgroup, const std::string& path) {
  std::array<std::uint32_t, 64> ids{};  // the kernel's own limit of programs at one cgroup
  bpf_attr query{};
  query.query.target_fd = static_cast<std::uint32_t>(cgroup);
  query.query.attach_type = BPF_CGROUP_DEVICE;
  query.query.prog_ids = address(ids.data());
  query.query.prog_cnt = ids.size();
  if (bpf(BPF_PROG_QUERY, query) != 0) return bpf_error("cannot ask for the device filters of " + path);
  for (std::uint32_t i = 0; i < query.query.prog_cnt; ++i) {
    bpf_attr by_id{};
    by_id.prog_id = ids[i];
    Descriptor fd(bpf(BPF_PROG_GET_FD_BY_ID, by_id));
    if (fd.get() < 0) continue;  // has gone meanwhile
    bpf_prog_info about{};
    bpf_attr info{};
    info.info.bpf_fd = static_cast<std::uint32_t>(fd.get());
    info.info.info_len = sizeof about;
    info.info.info = address(&about);
    if (bpf(BPF_OBJ_GET_INFO_BY_FD, info) == 0 && std::strncmp(about.name, program_name, sizeof about.name) == 0) return fd;
  }
  return Descriptor(-1);
}

}  // namespace

std::vector<bpf_insn> device_program(const std::vector<DeviceRule>& rules) {
  constexpr std::uint8_t load_word = BPF_LDX | BPF_W | BPF_MEM, move = BPF_ALU64 | BPF_MOV | BPF_X, set = BPF_ALU64 | BPF_MOV | BPF_K,
                         both = BPF_ALU64 | BPF_AND | BPF_K, right = BPF_ALU64 | BPF_RSH | BPF_K, unless = BPF_JMP | BPF_JNE | BPF_K;
  constexpr std::uint8_t kind = BPF_REG_2, access = BPF_REG_3, major = BPF_REG_4, minor = BPF_REG_5, scratch = BPF_REG_1,
                         answer = BPF_REG_0;
  std::vector<bpf_insn> out{
      // The kind is in the lower half of the first word, the access in the upper.
      instruction(load_word, kind, BPF_REG_1, offsetof(bpf_cgroup_dev_ctx, access_type), 0),
      instruction(move, access, kind, 0, 0),
      instruction(both, kind, 0, 0, 0xffff),
      instruction(right, access, 0, 0, 16),
      instruction(load_word, major, BPF_REG_1, offsetof(bpf_cgroup_dev_ctx, major), 0),
      instruction(load_word, minor, BPF_REG_1, offsetof(bpf_cgroup_dev_ctx, minor), 0),
  };
  for (const auto& rule : rules) {
    std::vector<bpf_insn> test{instruction(unless, kind, 0, 0, rule.kind == 'b' ? BPF_DEVCG_DEV_BLOCK : BPF_DEVCG_DEV_CHAR)};
    std::int32_t granted = 0;
    for (const char c : rule.access) granted |= c == 'r' ? BPF_DEVCG_ACC_READ : c == 'w' ? BPF_DEVCG_ACC_WRITE : BPF_DEVCG_ACC_MKNOD;
    constexpr std::int32_t everything = BPF_DEVCG_ACC_READ | BPF_DEVCG_ACC_WRITE | BPF_DEVCG_ACC_MKNOD;
    if (granted != everything) {  // something else wanted: not by this rule
      test.push_back(instruction(move, scratch, access, 0, 0));
      test.push_back(instruction(both, scratch, 0, 0, everything & ~granted));
      test.push_back(instruction(unless, scratch, 0, 0, 0));
    }
    if (rule.major >= 0) test.push_back(instruction(unless, major, 0, 0, rule.major));
    if (rule.minor >= 0) test.push_back(instruction(unless, minor, 0, 0, rule.minor));
    test.push_back(instruction(set, answer, 0, 0, 1));
    test.push_back(instruction(BPF_JMP | BPF_EXIT, 0, 0, 0, 0));
    // Whatever does not hold leads behind the rule.
    for (std::size_t i = 0; i < test.size(); ++i)
      if (test[i].code == unless) test[i].off = static_cast<std::int16_t>(test.size() - i - 1);
    out.insert(out.end(), test.begin(), test.end());
  }
  out.push_back(instruction(set, answer, 0, 0, 0));
  out.push_back(instruction(BPF_JMP | BPF_EXIT, 0, 0, 0, 0));
  return out;
}

Status can_load_device_programs() {
  const auto loaded = load(default_devices());
  return loaded ? Status(ok) : Status(loaded.error());
}

Status enforce_devices(const std::string& cgroup, const std::vector<DeviceRule>& rules) {
  GANTRY_TRY(const Descriptor dir, open_cgroup(cgroup));
  GANTRY_TRY(const Descriptor before, find_ours(dir.get(), cgroup));
  GANTRY_TRY(const Descriptor program, load(rules));
  bpf_attr a{};
  a.target_fd = static_cast<std::uint32_t>(dir.get());
  a.attach_bpf_fd = static_cast<std::uint32_t>(program.get());
  a.attach_type = BPF_CGROUP_DEVICE;
  a.attach_flags = BPF_F_ALLOW_MULTI;
  if (before.get() >= 0) {
    a.attach_flags |= BPF_F_REPLACE;
    a.replace_bpf_fd = static_cast<std::uint32_t>(before.get());
  }
  if (bpf(BPF_PROG_ATTACH, a) != 0) return bpf_error("cannot put the device filter on " + cgroup);
  return ok;
}

Result<bool> devices_enforced(const std::string& cgroup) {
  GANTRY_TRY(const Descriptor dir, open_cgroup(cgroup));
  GANTRY_TRY(const Descriptor ours, find_ours(dir.get(), cgroup));
  return ours.get() >= 0;
}

}  // namespace gantry::isolator_cgroups
