// Manifests: what a module says about itself, read from its .so without running any of its code.
#pragma once

#include "kernel/config/values.hpp"

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace gantry::config {

// One declared setting.
struct Field {
  std::string key;  // dotted path below the module's table, e.g. "limits.memory"
  Type type = Type::string;
  std::string doc;
  bool required = false;  // must be given; then there is no default
  bool reloadable = false;
  bool secret = false;               // never printed
  bool exists = false;               // path: what is given must exist and be readable
  fb::SettingT fallback;             // the default (given = false), its key and type set
  std::optional<double> min, max;    // int, float: the value; duration: ns; size: bytes; list, map: number of entries
  std::vector<std::string> choices;  // string, list: allowed texts
};

struct Manifest {
  std::string kind, name, version, license, summary;
  std::uint16_t revision_min = 1, revision_max = 1;  // kind revisions understood
  std::vector<std::string> roles;                    // of "master", "agent"
  std::vector<std::string> needs;                    // kinds, or kind.name
  std::vector<std::string> services;                 // host services, lower case
  std::vector<std::string> capabilities;
  bool unstable = false;
  std::vector<Field> fields;  // sorted by key
  std::string text;           // the TOML as it stands in the file
  [[nodiscard]] std::string id() const { return kind + "." + name; }
  [[nodiscard]] bool for_role(std::string_view role) const;
  [[nodiscard]] const Field* field(std::string_view key) const;
};

// Parses module.toml. An error names every mistake, one a line, each starting with "source:line:column".
[[nodiscard]] Result<Manifest> parse_manifest(std::string_view toml, std::string_view source);

// What is read from a library's file.
struct LibraryInfo {
  std::string manifest;              // text of the note; empty: it has none
  std::vector<std::string> symbols;  // dynamic symbols it defines
};

// Reads an ELF64 little-endian image by hand, every offset checked: outside bytes, fuzzed. No code of it runs.
[[nodiscard]] Result<LibraryInfo> inspect_library(std::string_view image);
[[nodiscard]] Result<LibraryInfo> inspect_library_file(const std::string& path);
// The manifest of the .so at `path`. Refuses a file without note or without the symbol gantry_module_v1, in one
// sentence.
[[nodiscard]] Result<Manifest> read_manifest(const std::string& path);

// The settings of a manifest as documentation: key, type, default, reload rule, sentence. For `gantry config fields`.
[[nodiscard]] std::string describe(const Manifest&);

}  // namespace gantry::config
