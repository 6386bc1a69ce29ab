// memory: soft and hard limit, swap, and the news that it ran out.
#include "controller.hpp"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace gantry::isolator_cgroups {
namespace {

// Version 1 says "no limit" as the largest number of whole pages.
std::uint64_t finite(std::uint64_t n) { return n >= (1ull << 62) ? 0 : n; }

Status needs_swap_accounting(const std::string& file) {
  // Without swap there is nothing to limit; /proc/swaps has a heading.
  if (file_exists(file) || count_lines("/proc/swaps") <= 1) return ok;
  return fail(
      Code::unavailable,
      "this kernel does not account swap, so containers may use it beyond their memory limit; boot it with swapaccount=1 or turn swap off");
}

class MemoryV1 final : public MemoryController {
 public:
  using MemoryController::MemoryController;

  Status open() override { return policy().swap_limit ? needs_swap_accounting(place().dir + "/memory.memsw.limit_in_bytes") : Status(ok); }

  Status apply(const std::string& id, const Limits& l) override {
    if (l.memory_soft && l.memory_soft != l.memory_hard) {
      GANTRY_CHECK(write_file(file(id, "memory.soft_limit_in_bytes"), std::to_string(l.memory_soft)));
    }
    if (!l.memory_hard) return ok;
    // Memory and swap together; never less than memory alone, so the order depends on the direction.
    const std::string swap = file(id, "memory.memsw.limit_in_bytes"), hard = std::to_string(l.memory_hard);
    if (!file_exists(swap)) return write_file(file(id, "memory.limit_in_bytes"), hard);
    const std::uint64_t before = finite(read_number(swap));
    const std::string together = policy().swap_limit ? std::to_string(l.memory_hard + policy().swap) : "-1";
    const bool grows = before != 0 && (!policy().swap_limit || before < l.memory_hard + policy().swap);
    if (grows) GANTRY_CHECK(write_file(swap, together));
    GANTRY_CHECK(write_file(file(id, "memory.limit_in_bytes"), hard));
    if (!grows && (policy().swap_limit || before != 0)) GANTRY_CHECK(write_file(swap, together));
    return ok;
  }

  [[nodiscard]] Result<OomSource> oom_source(const std::string& id) const override {
    const std::string path = file(id, "memory.oom_control");
    const int control = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (control < 0) return fail(Code::internal, "cannot open " + path + ": " + std::strerror(errno));
    const int event = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    Status registered = event < 0 ? Status(fail(Code::resource_exhausted, std::string("cannot make an eventfd: ") + std::strerror(errno)))
                                  : write_file(file(id, "cgroup.event_control"), std::to_string(event) + " " + std::to_string(control));
    ::close(control);
    if (!registered) {
      if (event >= 0) ::close(event);
      return registered.error();
    }
    return OomSource{event, EPOLLIN};
  }
  [[nodiscard]] std::uint64_t oom_kills(const std::string& id) const override {
    return keyed_number(read_file(file(id, "memory.oom_control")).value_or(""), "oom_kill");
  }
  [[nodiscard]] MemoryFigures figures(const std::string& id) const override {
    return {finite(read_number(file(id, "memory.limit_in_bytes"))), read_number(file(id, "memory.max_usage_in_bytes"))};
  }

  void measure(const std::string& id, fb::isolator::UsageT& u) const override {
    const std::string stat = read_file(file(id, "memory.stat")).value_or("");
    u.memory_rss = keyed_number(stat, "total_rss");
    u.memory_cache = keyed_number(stat, "total_cache");
    u.memory_mapped = keyed_number(stat, "total_mapped_file");
    u.memory_swap = keyed_number(stat, "total_swap");
    u.page_faults = keyed_number(stat, "total_pgfault");
    u.major_faults = keyed_number(stat, "total_pgmajfault");
    u.memory_kernel = read_number(file(id, "memory.kmem.usage_in_bytes"));
    u.memory_total = read_number(file(id, "memory.usage_in_bytes"));
    u.memory_limit = finite(read_number(file(id, "memory.limit_in_bytes")));
    u.memory_soft_limit = finite(read_number(file(id, "memory.soft_limit_in_bytes")));
    u.oom_kills = oom_kills(id);
  }
};

class MemoryV2 final : public MemoryController {
 public:
  using MemoryController::MemoryController;

  Status open() override { return policy().swap_limit ? needs_swap_accounting(place().dir + "/memory.swap.max") : Status(ok); }

  Status apply(const std::string& id, const Limits& l) override {
    if (l.memory_soft && l.memory_soft != l.memory_hard) {
      GANTRY_CHECK(write_file(file(id, "memory.low"), std::to_string(l.memory_soft)));
    }
    GANTRY_CHECK(write_file(file(id, "memory.max"), l.memory_hard ? std::to_string(l.memory_hard) : std::string("max")));
    // A limit that swap can dodge is none. Absent where there is no swap accounting.
    if (l.memory_hard && file_exists(file(id, "memory.swap.max")))
      return write_file(file(id, "memory.swap.max"), policy().swap_limit ? std::to_string(policy().swap) : std::string("max"));
    return ok;
  }

  [[nodiscard]] Result<OomSource> oom_source(const std::string& id) const override {
    const std::string path = file(id, "memory.events");
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return fail(Code::internal, "cannot open " + path + ": " + std::strerror(errno));
    char text[512];
    (void)!::read(fd, text, sizeof text);  // changes are told from what was read last
    return OomSource{fd, EPOLLPRI};
  }
  [[nodiscard]] std::uint64_t oom_kills(const std::string& id) const override {
    return keyed_number(read_file(file(id, "memory.events")).value_or(""), "oom_kill");
  }
  [[nodiscard]] MemoryFigures figures(const std::string& id) const override {
    // memory.peak came with Linux 5.19.
    return {read_number(file(id, "memory.max")), std::max(read_number(file(id, "memory.peak")), read_number(file(id, "memory.current")))};
  }

  void measure(const std::string& id, fb::isolator::UsageT& u) const override {
    const std::string stat = read_file(file(id, "memory.stat")).value_or("");
    u.memory_rss = keyed_number(stat, "anon");
    u.memory_cache = keyed_number(stat, "file");
    u.memory_mapped = keyed_number(stat, "file_mapped");
    u.page_faults = keyed_number(stat, "pgfault");
    u.major_faults = keyed_number(stat, "pgmajfault");
    // The sum came with Linux 5.18; before it there are its parts.
    u.memory_kernel = keyed_number(stat, "kernel");
    if (u.memory_kernel == 0)
      for (const char* part : {"kernel_stack", "slab", "percpu", "sock", "vmalloc", "pagetables"})
        u.memory_kernel += keyed_number(stat, part);
    u.memory_swap = read_number(file(id, "memory.swap.current"));
    u.memory_total = read_number(file(id, "memory.current"));
    u.memory_limit = read_number(file(id, "memory.max"));
    u.memory_soft_limit = read_number(file(id, "memory.low"));
    u.oom_kills = oom_kills(id);
  }
};

}  // namespace

std::unique_ptr<MemoryController> make_memory(Place place, const Policy& policy) {
  if (place.version == 2) return std::make_unique<MemoryV2>(std::move(place), policy);
  return std::make_unique<MemoryV1>(std::move(place), policy);
}

}  // namespace gantry::isolator_cgroups
