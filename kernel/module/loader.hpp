// From a file to a provider, or to one sentence that says why not. Refuses; never warns and loads.
#pragma once

#include "kernel/config/config.hpp"
#include "kernel/module/kinds.hpp"

#include <gantry/abi.h>

#include <span>
#include <string>

namespace gantry::module {

// A provider fit to be created.
struct Loaded {
  gantry_provider provider{};  // this kernel's size; members the module's own lacks are null
  std::uint16_t revision = 0;  // the highest both sides speak
  std::string build;           // the module's stamp, for people
};

// Who may own a module's file and its directory, besides root. Defaults to the user running the daemon.
struct Trust {
  std::uint32_t owner;
  static Trust current();
};

// The file rules: an existing regular file, owned by root or trust.owner, not writable by group or others; the same for
// its directory. With `sha256` (64 hex digits) its content must have that digest.
[[nodiscard]] Status check_file(const std::string& path, const std::string& sha256,
                                const Trust& trust = Trust::current());

// Where the provider is going to run; a module may refuse one of them.
enum class Place { kernel, process };

// Everything about a descriptor that can be said without entering the module: magic, ABI, sizes, provider, kind,
// revisions, and that manifest and descriptor agree. `source` names the module in refusals: its path.
[[nodiscard]] Result<Loaded> bind_provider(const gantry_module* descriptor, const config::Manifest& manifest,
                                           const std::string& kind, const std::string& name, const std::string& source,
                                           std::span<const Kind> served = kinds, Place place = Place::kernel);

// Maps `file` and binds its provider; a mapped library is never unmapped. The file rules are not looked at: whoever
// chose the file did. `source` is its path for people.
[[nodiscard]] Result<Loaded> map_provider(const std::string& file, const config::Manifest& manifest,
                                          const std::string& kind, const std::string& name, const std::string& source,
                                          std::span<const Kind> served, Place place);

// What can be said of a module from its file alone, for one that runs in a process of its own: the file rules, the
// manifest, the kind and its revisions.
[[nodiscard]] Status check_unmapped(const config::ModuleConfig& module, std::span<const Kind> served = kinds);

// Checks and maps the library of `module`, and binds its provider. A mapped library is never unmapped. Uses
// module.manifest if the configuration has read it, else reads the note.
[[nodiscard]] Result<Loaded> load_library(const config::ModuleConfig& module, std::span<const Kind> served = kinds);

}  // namespace gantry::module
