// Finding network configurations and running CNI plugins. Blocks: for offload.
#pragma once

#include "cni_config.hpp"
#include "record.hpp"

#include <chrono>
#include <map>
#include <string>
#include <vector>

namespace gantry::isolator_network {

// What a folder of configurations holds at this moment. A file that cannot be read or parsed is left out and told about.
struct CniFolder {
  std::map<std::string, CniNetwork> networks;  // by name; of two files the first one by name counts
  std::vector<std::string> problems;           // one sentence each, with the file
};
[[nodiscard]] CniFolder read_networks(const std::string& folder);

// Of one container: what all plugins are told.
struct CniCall {
  std::vector<std::string> plugin_dirs;
  std::chrono::nanoseconds timeout{};
  std::string container_id;
  std::string netns;                           // path; empty (DEL only): it is gone
  std::string lock;                            // file that every plugin holds locked while it runs, see wait_for_plugins
};

// Waits until no plugin runs that was started with this lock file. One of an instance that was killed goes on without it, and
// DEL in the middle of its ADD would leave what ADD makes last. DEADLINE_EXCEEDED after `timeout`.
[[nodiscard]] Status wait_for_plugins(const std::string& lock, std::chrono::nanoseconds timeout);


// Runs ADD of all plugins of `end` in order; keeps the last result in it. An error names network and plugin; DEL has to follow.
[[nodiscard]] Result<CniResult> cni_add(const CniCall&, CniEnd& end);
// Runs DEL of all plugins in reverse order, of each whatever became of the others; the first error is returned.
[[nodiscard]] Status cni_del(const CniCall&, const CniEnd& end);

// A program's output, both streams; at most 1 MiB of each is kept.
struct PluginRun {
  int status = 0;                              // of wait()
  std::string output, errors;
};
// Starts `path` in a process group of its own with `input` on standard input and only `environment`; `held` is its descriptor 3.
// DEADLINE_EXCEEDED: the group was killed.
[[nodiscard]] Result<PluginRun> run_plugin(const std::string& path, const std::vector<std::string>& environment, std::string_view input,
                                           std::chrono::nanoseconds timeout, int held = -1);

}  // namespace gantry::isolator_network
