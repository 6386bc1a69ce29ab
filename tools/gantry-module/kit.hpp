// The conformance kit's own words: what is checked (Target), one test (Test), what came of it (TestResult).
#pragma once

#include "kernel/config/manifest.hpp"
#include "tools/gantry-module/author.hpp"
#include "tools/gantry-module/elf.hpp"
#include "tools/gantry-module/messages.hpp"

#include <gantry/testing/subject.hpp>

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace gantry::kit {

using conformance::Check;
using conformance::Failure;
using conformance::Nanos;
using conformance::Subject;
using namespace std::chrono_literals;

// The module under check, as far as it is known without running it.
struct Target {
  std::string path;                          // absolute
  std::string image;                         // the file
  Status readable = ok;                      // whether elf is valid
  ElfFacts elf;
  std::string manifest_problem;              // why manifest is empty
  config::Manifest manifest;
  Author author;
  std::string modhost;                       // gantry-modhost; empty: not found
  [[nodiscard]] std::string id() const { return manifest.kind.empty() ? path : manifest.id(); }
  [[nodiscard]] std::uint32_t flags() const;  // of its provider, 0 if they cannot be read
  // Settings without default that the author has not given either.
  [[nodiscard]] std::vector<std::string> missing_settings() const;
};
[[nodiscard]] Result<Target> open_target(const std::string& path);

struct CheckOptions {
  std::vector<int> stages;             // empty: all
  std::vector<std::string> hosts;      // "kernel", "process"; empty: both
  std::string filter;                  // part of a test's name, * and ? allowed
  std::uint64_t seed = 1;
  bool reproduce = false;              // stage 7 in one host
  bool here = false;                   // every test in this process, for a debugger
  std::string replay;                  // a recording
  Nanos timeout = 20s;                 // of one test
  unsigned jobs = 2;
  unsigned fuzz = 150;                 // messages per method
  std::string max_glibc;               // static.glibc fails above it
};

// What a test is given. In a process of its own, but for stage 1.
class Env {
 public:
  virtual ~Env() = default;
  const Target& target;
  const CheckOptions& options;
  const std::string host;     // "kernel", "process", or "" for stage 1
  const std::string scratch;  // a directory of its own; empty for stage 1
  // The module, created on first use; skips the test if that cannot be. With `threads` the strand pool's size.
  virtual Subject& subject(Check& check, unsigned threads = 2) = 0;
  // The same, configured and started; skips if a required setting is not known.
  Subject& running(Check& check);
  void needs_settings(Check& check) const;
  [[nodiscard]] Random random(std::string_view name) const;  // by seed, host and name

 protected:
  Env(const Target& t, const CheckOptions& o, std::string h, std::string s)
      : target(t), options(o), host(std::move(h)), scratch(std::move(s)) {}
};

struct Test {
  std::string name;  // "contract.unknown_method"
  int stage = 0;
  std::string must, remedy;
  std::function<void(Env&, Check&)> run;
  bool in_kernel = true, in_process = true;  // hosts it makes sense in; neither for stage 1
};

enum class Outcome { passed, failed, skipped, waived };
[[nodiscard]] std::string_view to_string(Outcome);

struct TestResult {
  std::string name, host;
  int stage = 0;
  std::string must, remedy;
  Outcome outcome = Outcome::passed;
  std::vector<Failure> failures;
  std::string reason;  // of a skip or waiver
  std::vector<std::string> notes, log;
  std::int64_t ms = 0;
};

// Stages, in files of their own. Tests of later stages are made even if earlier ones fail.
void add_static_tests(const Target&, std::vector<Test>&);
void add_load_tests(const Target&, std::vector<Test>&);
void add_config_tests(const Target&, std::vector<Test>&);
void add_contract_tests(const Target&, std::vector<Test>&);
void add_behaviour_tests(const Target&, std::vector<Test>&);
void add_fuzz_tests(const Target&, std::vector<Test>&);
void add_replay_tests(const Target&, const std::string& recording, std::vector<Test>&);

// All that the options ask for, waivers applied, stage 6 (both hosts agree) included.
struct Report {
  std::vector<TestResult> results;
  std::vector<std::string> warnings;  // unused waivers, a host that was left out
  std::int64_t ms = 0;
  [[nodiscard]] std::size_t count(Outcome) const;
};
[[nodiscard]] std::vector<Test> all_tests(const Target&, const CheckOptions&);
[[nodiscard]] Report check(const Target&, const CheckOptions&, const std::function<void(const TestResult&)>& on_result);

[[nodiscard]] std::string report_text(const Target&, const Report&);  // what follows the lines of the tests
[[nodiscard]] std::string report_line(const TestResult&);
[[nodiscard]] std::string report_json(const Target&, const CheckOptions&, const Report&);

// How much longer things take here than on an idle machine: 1 to 20, by its load.
[[nodiscard]] int patience();
void set_patience(int);  // instead of by load; 0: by load again

// A text matches if it contains the pattern, or, when that has * or ?, fits it as a whole.
[[nodiscard]] bool matches(std::string_view text, std::string_view pattern);

}  // namespace gantry::kit
