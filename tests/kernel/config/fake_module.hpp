// A shared library made of bytes: enough ELF to carry a manifest and a symbol, and no code at all.
#pragma once

#include <elf.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

namespace gantry::config::testing {

inline std::string note(std::string_view manifest, std::string_view name = "Gantry", unsigned type = 1) {
  const auto pad = [](std::string& s) { s.resize((s.size() + 3) / 4 * 4); };
  Elf64_Nhdr head{static_cast<Elf64_Word>(name.size() + 1), static_cast<Elf64_Word>(manifest.size()), type};
  std::string out(reinterpret_cast<const char*>(&head), sizeof head);
  out += std::string(name) + '\0';
  pad(out);
  out += manifest;
  pad(out);
  return out;
}

// An ELF64 shared object with one note section and one dynamic symbol; "" leaves either out.
inline std::string library(std::string_view manifest, std::string_view symbol = "gantry_module_v1") {
  std::string out(sizeof(Elf64_Ehdr), '\0');
  const auto append = [&](const void* data, std::size_t n) {
    const std::size_t at = out.size();
    out.append(static_cast<const char*>(data), n);
    return at;
  };
  const std::string notes = manifest.empty() ? "" : note(manifest);
  const std::string names = std::string(1, '\0') + std::string(symbol) + '\0';
  Elf64_Sym symbols[2] = {};
  symbols[1].st_name = 1;
  symbols[1].st_shndx = 1;
  Elf64_Shdr sections[4] = {};
  sections[1].sh_type = SHT_NOTE;
  sections[1].sh_offset = append(notes.data(), notes.size());
  sections[1].sh_size = notes.size();
  sections[2].sh_type = SHT_DYNSYM;
  sections[2].sh_offset = append(symbols, sizeof symbols);
  sections[2].sh_size = symbol.empty() ? sizeof symbols[0] : sizeof symbols;
  sections[2].sh_entsize = sizeof symbols[0];
  sections[2].sh_link = 3;
  sections[3].sh_type = SHT_STRTAB;
  sections[3].sh_offset = append(names.data(), names.size());
  sections[3].sh_size = names.size();
  Elf64_Ehdr head{};
  std::memcpy(head.e_ident, ELFMAG, SELFMAG);
  head.e_ident[EI_CLASS] = ELFCLASS64;
  head.e_ident[EI_DATA] = ELFDATA2LSB;
  head.e_type = ET_DYN;
  head.e_shentsize = sizeof(Elf64_Shdr);
  head.e_shnum = 4;
  head.e_shoff = append(sections, sizeof sections);
  std::memcpy(out.data(), &head, sizeof head);
  return out;
}

// A directory that goes away.
class TempDir {
 public:
  TempDir() {
    std::string name = (std::filesystem::temp_directory_path() / "gantry-config-XXXXXX").string();
    path_ = ::mkdtemp(name.data());
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  ~TempDir() {
    std::error_code ec;
    std::filesystem::remove_all(path_, ec);
  }
  [[nodiscard]] const std::string& path() const { return path_; }
  std::string write(const std::string& name, std::string_view content) const {
    const std::filesystem::path file = std::filesystem::path(path_) / name;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file, std::ios::binary) << content;
    return file.string();
  }

 private:
  std::string path_;
};

}  // namespace gantry::config::testing
