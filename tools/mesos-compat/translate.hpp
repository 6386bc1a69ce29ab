// Flags of Mesos to the configuration of gantryd. Pure, but for --ip_discovery_command and the files that flags name.
#pragma once

#include "flags.hpp"

#include <string>
#include <utility>
#include <vector>

namespace gantry::compat {

enum class Role { master, agent };

struct Options {
  // Where files made for the daemon are kept. Empty: only print; secrets stay where they are.
  std::string runtime_dir;
};

struct Translation {
  std::string toml;
  std::string work_dir;                                        // of the daemon
  std::vector<std::string> clear;                              // folders to be emptied before the start: records in memory
  std::vector<std::pair<std::string, std::string>> files;      // path, content; for the daemon's user only
  std::vector<std::string> nothing;                            // flags without a meaning here, as they were given
  std::vector<std::string> notes;                              // what else an operator should know
};

// Errors are those of the daemons of Mesos where they have one.
[[nodiscard]] Result<Translation> translate(Role role, const Given& given, const Options& options);

// Resources as JSON (a list of Resource messages) in the form of text: cpus(eng):4;ports:[1-2]. Text is returned as it is.
[[nodiscard]] Result<std::string> resources_text(std::string_view value);
// DomainInfo as JSON, to "region/zone".
[[nodiscard]] Result<std::string> domain_text(std::string_view value);

struct Credential {
  std::string principal, secret;
};
// The file of `--credential`: JSON {"principal": ..., "secret": ...}, or "principal secret".
[[nodiscard]] Result<Credential> parse_credential(std::string_view content);
// The file of `--credentials`: JSON {"credentials": [...]}, or such a line for each.
[[nodiscard]] Result<std::vector<Credential>> parse_credentials(std::string_view content);

// The document of `--rate_limits`: for each principal "qps", "qps/capacity" or "unlimited"; `rest`: of all others together.
struct RateLimits {
  std::vector<std::pair<std::string, std::string>> of;
  std::string rest;
};
[[nodiscard]] Result<RateLimits> parse_rate_limits(std::string_view content);

// A TOML string.
[[nodiscard]] std::string quoted(std::string_view s);

}  // namespace gantry::compat
