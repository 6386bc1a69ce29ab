#include "kernel/base/loop.hpp"

namespace gantry::base {

Task<void> Loop::sleep(Nanos d) {
  Promise<bool> done;
  after(d, [done] { done.set(true); });
  co_await done.get();
}

}  // namespace gantry::base
