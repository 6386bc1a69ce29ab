// Configuration: TOML files + conf.d + overrides + manifests -> one immutable, validated Config, or every mistake at
// once.
#pragma once

#include "kernel/config/manifest.hpp"

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace gantry::config {

// The table `sandbox` of a module with host = "process". Sizes in bytes; 0 = no limit.
struct Sandbox {
  std::string user;                        // empty: the module host chooses
  std::uint64_t memory = std::uint64_t{1} << 30;
  double cpu = 0;                          // cores
  std::uint64_t processes = 512;           // threads count
  std::uint64_t files = 1024;              // descriptors
  std::vector<std::string> devices;        // paths and patterns; empty: the machine's own /dev
  bool restart = true;                     // "on-failure"; false: "never"
  bool seccomp = true;                     // "default"; false: "off"
  bool operator==(const Sandbox&) const = default;
};

// One configured module; disabled ones are left out of the Config.
struct ModuleConfig {
  std::string kind, name;
  std::string path;             // of the .so, absolute
  std::string host = "kernel";  // or "process"; the builder has filled in what the table left out
  Sandbox sandbox;              // of host = "process"
  std::string sha256;           // pin, lower case hex; empty: none
  bool allow_unstable = false;
  Manifest manifest;
  Values settings;                        // complete and sorted by key
  Where where;                            // of its table
  std::map<std::string, Where> where_of;  // of each given key
  std::string work_dir;                   // <kernel.work_dir>/modules/<kind>.<name>; the module host creates it
  std::vector<std::string> roles;         // of this kernel
  [[nodiscard]] std::string id() const { return kind + "." + name; }
  // The body of CONFIGURE. The revision is filled in by the module host, which knows what both sides speak.
  [[nodiscard]] fb::ConfigureT configure(bool reload = false) const;
};

class Config {
 public:
  // The kernel's own settings; keys as in kernel.toml beside this file.
  [[nodiscard]] const Values& kernel() const { return kernel_; }
  // In order of first mention in the files.
  [[nodiscard]] const std::vector<ModuleConfig>& modules() const { return modules_; }
  [[nodiscard]] const ModuleConfig* module(std::string_view id) const;
  [[nodiscard]] bool master() const;
  [[nodiscard]] bool agent() const;
  [[nodiscard]] const std::vector<std::string>& roles() const { return kernel_.list("role"); }
  // Files read, in order.
  [[nodiscard]] const std::vector<std::string>& files() const { return files_; }
  [[nodiscard]] Where where(std::string_view kernel_key) const;
  // The whole configuration as TOML, defaults included (as comments), secrets replaced.
  [[nodiscard]] std::string effective() const;

 private:
  friend class Builder;
  friend struct Change diff(const Config&, const Config&);
  Values kernel_;
  std::map<std::string, Where> kernel_where_;
  std::vector<ModuleConfig> modules_;
  std::vector<std::string> files_;
};
using ConfigPtr = std::shared_ptr<const Config>;

struct Options {
  std::string file;                      // the main file; conf.d/*.toml beside it is read too, in order of name
  std::vector<std::string> set;          // "a.b.c=value" overrides, later wins
  std::vector<std::string> module_dirs;  // where modules are sought when kernel.module_dirs is not given
  bool check_files = true;               // paths must exist and be readable
  std::optional<std::string> text;       // used instead of the file's content; then no conf.d is read
};

struct Loaded {
  ConfigPtr config;               // null when there is an error among the problems
  std::vector<Problem> problems;  // sorted by place; warnings too
  [[nodiscard]] std::size_t errors() const;
};

// Reads, merges and validates. Runs no module code. All mistakes are found in one pass.
[[nodiscard]] Loaded load(const Options&);
[[nodiscard]] inline std::vector<Problem> check(const Options& options) { return load(options).problems; }

// The manifest of the kernel itself (kernel.toml, embedded).
[[nodiscard]] const Manifest& kernel_manifest();

// That of the table `sandbox` of a module.
[[nodiscard]] const Manifest& sandbox_manifest();

// ../lib/gantry/modules beside the running binary, then the installed place.
[[nodiscard]] std::vector<std::string> default_module_dirs();

// What a reload would do.
struct Change {
  ConfigPtr applied;                 // the old configuration with the reloadable differences: the new truth
  bool kernel = false;               // a reloadable kernel setting differs
  std::vector<std::string> modules;  // ids with reloadable differences, to be sent CONFIGURE{reload}
  std::vector<std::string> changed;  // "kernel.log_level: info -> debug (file:line:column)"
  std::vector<Problem> restart;      // warnings: "restart needed: ..."; these keep their old values
};
[[nodiscard]] Change diff(const Config& now, const Config& next);

}  // namespace gantry::config
