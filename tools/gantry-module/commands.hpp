// The subcommands inspect, check and bench; `new` is in new.hpp. CLI11 is compiled in main.cpp and new_command.cpp only.
#pragma once

#include "tools/gantry-module/kit.hpp"

#include <ostream>
#include <string>

namespace gantry::kit {

enum Exit : int { exit_ok = 0, exit_findings = 1, exit_usage = 2 };

// What the file says, without running it. JSON for programs.
int inspect(const std::string& file, bool json, std::ostream& out, std::ostream& err);

struct CheckCommand {
  std::string file;
  CheckOptions options;
  std::string json;      // file; "-" is standard output, which then has nothing else
  std::string author;    // conformance.toml; empty: sought beside the module
  bool list = false;     // name the tests, run none
  bool quiet = false;    // no line for what passed or was skipped
};
int check(CheckCommand command, std::ostream& out, std::ostream& err);

struct BenchCommand {
  std::string file, author;
  bool json = false;
  unsigned rounds = 9;  // medians are of so many
};
int bench(const BenchCommand& command, std::ostream& out, std::ostream& err);

// Opens the module and reads its conformance.toml; says on err what is wrong.
[[nodiscard]] Result<Target> open_with_author(const std::string& file, const std::string& author);

}  // namespace gantry::kit
