// Sandboxes on disk: making them, and choosing which old ones to collect.
#pragma once

#include "kernel/agent/spawn.hpp"

#include <set>
#include <string>
#include <vector>

namespace gantry::agent {

// Makes the directory and its parents, owned by the account (the last one only; parents are the agent's, mode 0755),
// and points the `latest` link beside it to it. Blocks.
[[nodiscard]] Status make_sandbox(const std::string& sandbox, const Account& account);

// The same for a container that others are nested in: the account may make files in it, but not move what is ours, such as the
// directory of their sandboxes. (It is the agent's, sticky, and writable for the account's group.) Blocks.
[[nodiscard]] Status make_shared_sandbox(const std::string& sandbox, const Account& account);

// The sandbox of a nested container, <sandbox of its parent>/tasks/<task>, which may be there from an earlier one. Blocks.
[[nodiscard]] Status make_nested_sandbox(const std::string& sandbox, const Account& account);

// The sandbox and what artifacts are in it already become the account's. Links are given away, not followed. Blocks.
[[nodiscard]] Status give_sandbox(const std::string& sandbox, const Account& account);

struct GcRules {
  base::Nanos delay = std::chrono::hours(24 * 7);
  double headroom = 0.1;  // fraction of the disk that shall stay free
};

// How old a sandbox may become when `used` of its disk (0..1) is in use: delay x max(0, 1 - headroom - used).
[[nodiscard]] base::Nanos allowed_age(const GcRules&, double used);

struct GcResult {
  std::size_t removed = 0;
  std::vector<std::string> problems;  // one sentence each
};
// Deletes the sandboxes below work_dir/slaves that are too old, oldest first. `keep` are in use. The age counts from
// the last change of the directory. Blocks, perhaps for long.
[[nodiscard]] GcResult collect_sandboxes(const std::string& work_dir, const GcRules&, const std::set<std::string>& keep, base::Wall now);

}  // namespace gantry::agent
