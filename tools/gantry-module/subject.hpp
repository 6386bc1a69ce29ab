// conformance::Subject over the kernel's own module hosting: LocalInstance and ProcessInstance on a real loop.
#pragma once

#include "tools/gantry-module/kit.hpp"

#include <memory>
#include <string>

namespace gantry::kit {

// What the runner learns of a module that takes the process with it: kept in memory both share.
struct Doing {
  char text[240];
};

struct SubjectSetup {
  const Target& target;
  std::string host;     // "kernel" or "process"
  std::string scratch;
  unsigned threads = 2;
  Doing* doing = nullptr;
};

// What the runner does with a subject after the case, beyond what the case may.
class HostedSubject : public Subject {
 public:
  // Entries longer than the stall limit (in process only), "CONFIGURE held the strand for 412 ms".
  [[nodiscard]] virtual std::vector<std::string> stalls() const = 0;
  // Times kill() ended its process.
  [[nodiscard]] virtual std::uint32_t kills() const = 0;
  // The last lines it logged.
  [[nodiscard]] virtual std::vector<std::string> last_lines(std::size_t n) const = 0;
};

// The subject, its instance created. Only one at a time in a process.
[[nodiscard]] Result<std::unique_ptr<HostedSubject>> make_subject(SubjectSetup setup);

}  // namespace gantry::kit
