#include "kernel/base/heap.hpp"

#include "kernel/base/log.hpp"

#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <string>

namespace gantry::base {

namespace {

constexpr std::size_t kLeast = std::size_t{32} << 20;

std::size_t resident_bytes() {
  std::FILE* f = std::fopen("/proc/self/statm", "re");
  if (!f) return 0;
  unsigned long total = 0, resident = 0;
  const int n = std::fscanf(f, "%lu %lu", &total, &resident);
  std::fclose(f);
  return n == 2 ? resident * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)) : 0;
}

}  // namespace

HeapUse heap_use() {
  HeapUse use;
  use.resident = resident_bytes();
#if defined(__GLIBC__)
  const auto info = ::mallinfo2();
  use.in_use = info.uordblks + info.hblkhd;
#else
  use.in_use = use.resident;
#endif
  return use;
}

bool worth_giving_back(const HeapUse& now, std::size_t after_last) {
  // Scattered pages stay whatever is tried, so what was resident after the last time is no reason to try again.
  if (now.resident < after_last + kLeast) return false;
  return now.resident > now.in_use + std::max(kLeast, now.in_use / 8);
}

void HeapKeeper::start() {
  timer_ = loop_.after(interval_, [this, state = state_] {
    timer_ = 0;
    loop_.offload(
        [state] {
          // Cheap first: counting what is in use walks the heap's free lists.
          const std::size_t before = resident_bytes();
          state->after_last = std::min(state->after_last, before);
          if (before < state->after_last + kLeast || !worth_giving_back(heap_use(), state->after_last)) return;
#if defined(__GLIBC__)
          ::malloc_trim(0);
#endif
          state->after_last = resident_bytes();
          log_debug("kernel", "memory given back",
                    {{"resident_before", std::to_string(before)}, {"resident", std::to_string(state->after_last)}});
        },
        [this, state] {
          if (!state->stopped) start();
        });
  });
}

void HeapKeeper::stop() {
  state_->stopped = true;
  if (timer_) loop_.cancel(std::exchange(timer_, 0));
}

}  // namespace gantry::base
