// Runs each test in a process of its own, several at a time: a crash is a finding, and so is a test that does not end.
#pragma once

#include "tools/gantry-module/kit.hpp"

namespace gantry::kit {

struct Planned {
  const Test* test;
  std::string host;
};

// Results in the order of `plan`; on_result is called in that order too, as early as possible.
[[nodiscard]] std::vector<TestResult> run_tests(const Target&, const CheckOptions&, const std::vector<Planned>& plan,
                                                const std::function<void(const TestResult&)>& on_result);
// In this process, for stage 1 and for a debugger.
[[nodiscard]] TestResult run_here(const Target&, const CheckOptions&, const Planned&);

// "SIGSEGV (Segmentation fault)".
[[nodiscard]] std::string signal_text(int signal);

}  // namespace gantry::kit
