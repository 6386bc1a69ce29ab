// The note and the dynamic symbols of an ELF64 file, read by hand: these are bytes from outside.
#include "kernel/base/file.hpp"
#include "kernel/config/elf_image.hpp"
#include "kernel/config/manifest.hpp"

#include <gantry/abi.h>

#include <elf.h>

#include <algorithm>
#include <cstring>

namespace gantry::config {
namespace {

constexpr std::size_t max_library = 1u << 30;
constexpr std::size_t max_manifest = 1u << 20;
constexpr std::size_t max_symbols = 100'000;

std::uint64_t align4(std::uint64_t n) { return (n + 3) & ~std::uint64_t{3}; }

// Walks the notes of a section; sets `manifest` when ours is among them.
Status read_notes(std::string_view section, std::string& manifest) {
  const ElfImage image(section);
  std::uint64_t at = 0;
  Elf64_Nhdr note;
  while (image.read(at, note)) {
    at += sizeof note;
    const auto name = image.part(at, note.n_namesz);
    const auto body = image.part(at + align4(note.n_namesz), note.n_descsz);
    if (!name || !body) return fail(Code::data_loss, "its section " GANTRY_NOTE_SECTION " is cut off");
    if (*name == std::string_view(GANTRY_NOTE_NAME, sizeof GANTRY_NOTE_NAME) && note.n_type == GANTRY_NOTE_MANIFEST) {
      if (body->size() > max_manifest) return fail(Code::data_loss, "its manifest is larger than 1 MiB");
      if (!manifest.empty()) return fail(Code::data_loss, "it carries two manifests");
      manifest = *body;
      if (manifest.empty()) return fail(Code::data_loss, "its manifest is empty");
    }
    at += align4(note.n_namesz) + align4(note.n_descsz);
  }
  return ok;
}

}  // namespace

Result<LibraryInfo> inspect_library(std::string_view bytes) {
  const ElfImage image(bytes);
  Elf64_Ehdr head;
  if (!image.read(0, head) || std::memcmp(head.e_ident, ELFMAG, SELFMAG) != 0)
    return fail(Code::data_loss, "it is not an ELF file");
  if (head.e_ident[EI_CLASS] != ELFCLASS64 || head.e_ident[EI_DATA] != ELFDATA2LSB)
    return fail(Code::data_loss, "it is not a 64-bit little-endian ELF file");
  if (head.e_type != ET_DYN) return fail(Code::data_loss, "it is an ELF file but not a shared library");
  if (head.e_shentsize != sizeof(Elf64_Shdr)) return fail(Code::data_loss, "it has no section headers");

  std::vector<Elf64_Shdr> sections;
  for (unsigned i = 0; i < head.e_shnum; ++i) {
    Elf64_Shdr s;
    if (head.e_shoff > bytes.size() || !image.read(head.e_shoff + std::uint64_t{i} * sizeof s, s))
      return fail(Code::data_loss, "its section headers are cut off");
    sections.push_back(s);
  }
  LibraryInfo info;
  for (const Elf64_Shdr& s : sections) {
    if (s.sh_type == SHT_NOTE) {
      const auto body = image.part(s.sh_offset, s.sh_size);
      if (!body) return fail(Code::data_loss, "a note section is cut off");
      GANTRY_CHECK(read_notes(*body, info.manifest));
    } else if (s.sh_type == SHT_DYNSYM) {
      const auto table = image.part(s.sh_offset, s.sh_size);
      if (!table || s.sh_entsize != sizeof(Elf64_Sym) || s.sh_link >= sections.size())
        return fail(Code::data_loss, "its symbol table is broken");
      const auto names = image.part(sections[s.sh_link].sh_offset, sections[s.sh_link].sh_size);
      if (!names) return fail(Code::data_loss, "its symbol names are cut off");
      const ElfImage symbols(*table);
      const std::uint64_t count = std::min<std::uint64_t>(table->size() / sizeof(Elf64_Sym), max_symbols);
      for (std::uint64_t i = 0; i < count; ++i) {
        Elf64_Sym symbol;
        if (!symbols.read(i * sizeof symbol, symbol)) break;
        if (symbol.st_shndx == SHN_UNDEF || symbol.st_name >= names->size()) continue;
        const std::string_view rest = names->substr(symbol.st_name);
        const auto end = rest.find('\0');
        if (end == std::string_view::npos || end == 0 || end > 4096) continue;
        info.symbols.emplace_back(rest.substr(0, end));
      }
    }
  }
  return info;
}

Result<LibraryInfo> inspect_library_file(const std::string& path) {
  const auto bytes = base::read_file(path, max_library);
  if (!bytes) return bytes.error().because("cannot read it");
  return inspect_library(*bytes);
}

Result<Manifest> read_manifest(const std::string& path) {
  auto info = inspect_library_file(path);
  if (!info) return std::move(info).error().because(path + " is not a Gantry module");
  if (info->manifest.empty())
    return fail(Code::invalid_argument, path +
                                            " is not a Gantry module: it has no manifest (section " GANTRY_NOTE_SECTION
                                            "); build it with gantry_add_module()");
  if (std::find(info->symbols.begin(), info->symbols.end(), GANTRY_MODULE_SYMBOL) == info->symbols.end())
    return fail(Code::invalid_argument,
                path + " does not export " GANTRY_MODULE_SYMBOL ", which this gantryd (ABI major " +
                    std::to_string(GANTRY_ABI_MAJOR) +
                    ") needs; rebuild it against the SDK of this major, with GANTRY_MODULE in one file");
  return parse_manifest(info->manifest, path);
}

}  // namespace gantry::config
