// What all commands of `gantry` share: exit codes, where to reach things, how to print.
#pragma once

#include <gantry/result.hpp>

#include <atomic>
#include <iosfwd>
#include <string>
#include <vector>

namespace gantry::cli {

// Exit codes; --help and gantry(1) document them.
enum Exit : int {
  exit_ok = 0,
  exit_failed = 1,
  exit_usage = 2,
  exit_unreachable = 3,
  exit_not_found = 4,
  exit_denied = 5,
  exit_interrupted = 130
};
[[nodiscard]] int exit_code(const Error& error);

struct Context {
  std::ostream* out;
  std::ostream* err;
  bool json = false;      // for programs
  bool terminal = false;  // stdout is one: colours, bars
  std::string address;    // of the daemon; empty: looked for
  std::string services;   // URL of the services API
  std::string principal, secret;
  // Set by SIGINT; long commands look at it.
  const std::atomic<bool>* interrupted = nullptr;
};

// Prints "gantry: message" and gives the exit code.
int report(const Context&, const Error&);

// cluster_commands.cpp
int status(Context&);
int agents(Context&);
int frameworks(Context&);
int why_framework(Context&, const std::string& id);  // why_command.cpp
int version(Context&);

// module_commands.cpp
struct TraceOptions {
  std::string module;               // kind.name
  std::string duration, slower, every;  // with units; empty: not given
  std::vector<std::string> methods;
  bool errors = false, summary = false, all = false;
};
struct RecordOptions {
  std::string module, file, duration;
  std::string max = "1GiB", max_body = "1MiB";
  bool secrets = false;
};
int modules(Context&);
int module_show(Context&, const std::string& id, unsigned log_lines);
int module_trace(Context&, const TraceOptions&);
int module_record(Context&, const RecordOptions&);

// task_commands.cpp
struct LogOptions {
  std::string task;
  bool follow = false;
  bool standard_error = false;
  unsigned lines = 0;  // 0 = all
};
int task_list(Context&, bool all);
int task_log(Context&, const LogOptions&);
int task_kill(Context&, const std::string& task);

// exec_command.cpp
struct ExecOptions {
  std::string task;
  std::vector<std::string> command;
  bool terminal = false, input = false;
};
// The exit code is the command's; 128 and the signal if one ended it.
int task_exec(Context&, const ExecOptions&);
// stats_command.cpp
int task_stats(Context&, const std::string& task, bool once);

// image_commands.cpp
int image_list(Context&);
int image_pull(Context&, const std::string& name);
int image_prune(Context&, const std::vector<std::string>& exclude);

// app_commands.cpp
struct DeployOptions {
  bool wait = true;
  bool force = false;
};
int app_deploy(Context&, const std::string& file, DeployOptions);
int app_list(Context&);
int app_show(Context&, const std::string& id);
int app_scale(Context&, const std::string& id, unsigned instances, DeployOptions);
int app_restart(Context&, const std::string& id, DeployOptions);
int app_remove(Context&, const std::string& id, DeployOptions);

// config_commands.cpp
struct ConfigOptions {
  std::string file;
  std::vector<std::string> set;
  std::vector<std::string> module_dirs;
};
int config_check(Context&, const ConfigOptions&);
int config_show(Context&, const ConfigOptions&);
int config_fields(Context&, const std::string& id, const ConfigOptions&);
// `role`: master or agent. `flags`: as mesos-master and mesos-agent take them.
int config_from_mesos(Context&, const std::string& role, const std::vector<std::string>& flags);

}  // namespace gantry::cli
