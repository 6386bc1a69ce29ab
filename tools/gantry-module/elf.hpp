// What a module's file says without being run: dynamic section, symbols, versions, and the descriptor itself, read
// through its relocations. Outside bytes: every offset is checked, nothing is trusted (fuzzed: tests/fuzz/elf_fuzz.cpp).
#pragma once

#include <gantry/result.hpp>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace gantry::kit {

// A provider record as it lies in the file; texts that the file does not hold in readable form are empty.
struct ProviderFacts {
  std::string kind, name;
  std::uint32_t size = 0, flags = 0;
  std::uint16_t rev_min = 0, rev_max = 0;
  bool create = false, call = false, reply = false, cancel = false, destroy = false;  // whether they are filled in
};

// gantry_module_v1 as it lies in the file.
struct DescriptorFacts {
  std::string magic;  // up to eight characters
  std::uint16_t abi_major = 0, abi_minor = 0;
  std::uint32_t size = 0, provider_count = 0, provider_stride = 0;
  std::vector<ProviderFacts> providers;  // as many as could be read, at most 64
  std::string build;
};

struct ElfFacts {
  std::uint64_t file_size = 0;
  std::string machine;                // "x86-64", "aarch64", "machine 243"
  std::string soname, rpath, runpath;
  std::vector<std::string> needed;
  std::vector<std::string> exports;   // defined, visible symbols; sorted
  std::vector<std::string> unique;    // of them those with binding UNIQUE
  std::size_t imports = 0;            // undefined symbols
  std::map<std::string, std::vector<std::string>> versions;  // library -> version names it must offer
  bool relro = false, bind_now = false, text_relocations = false, executable_stack = false, stripped = true;
  std::string build_id;               // hex
  std::string compiler;               // first text of .comment
  std::optional<DescriptorFacts> descriptor;

  // The highest version of a family that is needed: ("GLIBC_") -> "2.34"; empty if none.
  [[nodiscard]] std::string floor(std::string_view prefix) const;
};

[[nodiscard]] Result<ElfFacts> read_elf(std::string_view image);

// "2.9" < "2.14": dotted numbers.
[[nodiscard]] bool version_less(std::string_view a, std::string_view b);

}  // namespace gantry::kit
