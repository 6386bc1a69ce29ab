// conformance.toml: what only the author knows of a module, and which findings are accepted for which reason.
//
//   [settings]                        # what the module needs on a desk; checked against the manifest
//   credentials = "@scratch@/users"   # @scratch@ is the directory of the case
//   [files]                           # written below it before each case, readable by the module only
//   users = "alice:{PLAIN}wonderland\n"
//   [fixture]                         # what the suites of a kind ask for (sdk/docs/<kind>.md)
//   principal = "alice"
//   [[waiver]]
//   test = "isolator.usage_unknown"   # * at the end stands for the rest of the name
//   host = "process"                  # optional: in that host only
//   reason = "one sentence"           # required
#pragma once

#include "kernel/config/manifest.hpp"

#include <map>
#include <string>
#include <vector>

namespace gantry::kit {

struct Waiver {
  std::string test, host, reason;
  config::Where where;
  [[nodiscard]] bool covers(std::string_view test_name, std::string_view host_name) const;
};

// What "@scratch@" is in Author::settings: a path setting has to begin with a slash.
inline constexpr std::string_view scratch_mark = "/@scratch@";

struct Author {
  std::string file;  // empty: there is none
  std::vector<fb::SettingT> settings;
  std::map<std::string, std::string> files;
  std::map<std::string, std::string, std::less<>> fixture;
  std::vector<Waiver> waivers;
};

// Beside the module: <name of the .so without .so>.conformance.toml, conformance.toml, or the latter one folder up.
// Empty if there is none.
[[nodiscard]] std::string find_author_file(const std::string& module_path);
// Reads and checks it; an error names every mistake with file, line and column.
[[nodiscard]] Result<Author> read_author(const std::string& path, const config::Manifest& manifest);
[[nodiscard]] Result<Author> parse_author(std::string_view toml, const std::string& path, const config::Manifest& manifest);

}  // namespace gantry::kit
