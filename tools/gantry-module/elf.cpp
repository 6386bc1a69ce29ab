#include "tools/gantry-module/elf.hpp"

#include "kernel/config/elf_image.hpp"

#include <gantry/abi.h>

#include <elf.h>

#include <algorithm>
#include <cstddef>
#include <cstring>

namespace gantry::kit {
namespace {

constexpr std::uint64_t max_entries = 200'000;  // symbols, relocations: more is no module
constexpr std::size_t max_text = 4096;

// And the map from addresses to the file's bytes.
class Image : public config::ElfImage {
 public:
  using ElfImage::ElfImage;
  [[nodiscard]] std::string_view part(std::uint64_t at, std::uint64_t size) const {
    return ElfImage::part(at, size).value_or(std::string_view());
  }
  // A zero-terminated text at a file offset.
  [[nodiscard]] std::string text(std::uint64_t at) const {
    if (at >= bytes_.size()) return {};
    const std::string_view rest = bytes_.substr(at, max_text);
    const auto end = rest.find('\0');
    return end == std::string_view::npos ? std::string() : std::string(rest.substr(0, end));
  }
  void map(const Elf64_Phdr& p) {
    if (p.p_type == PT_LOAD) loads_.push_back(p);
  }
  [[nodiscard]] std::optional<std::uint64_t> offset(std::uint64_t address) const {
    for (const auto& p : loads_)
      if (address >= p.p_vaddr && address - p.p_vaddr < p.p_filesz && p.p_offset <= bytes_.size())
        return p.p_offset + (address - p.p_vaddr);
    return std::nullopt;
  }
  [[nodiscard]] std::size_t size() const { return bytes_.size(); }

 private:
  std::vector<Elf64_Phdr> loads_;
};

struct Dynamic {
  std::uint64_t strtab = 0, rela = 0, rela_size = 0, relr = 0, relr_size = 0;
  std::uint64_t verneed = 0, verneed_count = 0;
  std::vector<std::uint64_t> needed;
  std::optional<std::uint64_t> soname, rpath, runpath;
};

std::string machine_name(unsigned machine) {
  switch (machine) {
    case EM_X86_64: return "x86-64";
    case EM_AARCH64: return "aarch64";
    case EM_RISCV: return "riscv64";
    case EM_PPC64: return "ppc64le";
    default: return "machine " + std::to_string(machine);
  }
}

Dynamic read_dynamic(const Image& image, const Elf64_Phdr& p, ElfFacts& out) {
  Dynamic d;
  Elf64_Dyn e;
  for (std::uint64_t at = 0; at + sizeof e <= p.p_filesz && at / sizeof e < 4096; at += sizeof e) {
    if (!image.read(p.p_offset + at, e) || e.d_tag == DT_NULL) break;
    const std::uint64_t v = e.d_un.d_val;
    switch (e.d_tag) {
      case DT_NEEDED: d.needed.push_back(v); break;
      case DT_STRTAB: d.strtab = v; break;
      case DT_SONAME: d.soname = v; break;
      case DT_RPATH: d.rpath = v; break;
      case DT_RUNPATH: d.runpath = v; break;
      case DT_RELA: d.rela = v; break;
      case DT_RELASZ: d.rela_size = v; break;
      case 36: d.relr = v; break;       // DT_RELR
      case 35: d.relr_size = v; break;  // DT_RELRSZ
      case DT_VERNEED: d.verneed = v; break;
      case DT_VERNEEDNUM: d.verneed_count = v; break;
      case DT_TEXTREL: out.text_relocations = true; break;
      case DT_BIND_NOW: out.bind_now = true; break;
      case DT_FLAGS:
        if (v & DF_BIND_NOW) out.bind_now = true;
        if (v & DF_TEXTREL) out.text_relocations = true;
        break;
      case DT_FLAGS_1:
        if (v & DF_1_NOW) out.bind_now = true;
        break;
      default: break;
    }
  }
  return d;
}

void read_versions(const Image& image, const Dynamic& d, std::uint64_t strings, ElfFacts& out) {
  const auto start = image.offset(d.verneed);
  if (!d.verneed || !start) return;
  std::uint64_t at = *start;
  for (std::uint64_t i = 0; i < std::min<std::uint64_t>(d.verneed_count, 256); ++i) {
    Elf64_Verneed need;
    if (!image.read(at, need)) return;
    auto& names = out.versions[image.text(strings + need.vn_file)];
    std::uint64_t aux = at + need.vn_aux;
    for (unsigned k = 0; k < need.vn_cnt && k < 1024; ++k) {
      Elf64_Vernaux v;
      if (!image.read(aux, v)) break;
      names.push_back(image.text(strings + v.vna_name));
      if (!v.vna_next) break;
      aux += v.vna_next;
    }
    std::sort(names.begin(), names.end(), version_less);
    if (!need.vn_next) return;
    at += need.vn_next;
  }
}

// Where the dynamic linker would put an address of the library itself: place -> address. RELR places hold it in place.
std::map<std::uint64_t, std::uint64_t> read_relocations(const Image& image, const Dynamic& d, unsigned machine) {
  std::map<std::uint64_t, std::uint64_t> out;
  const std::uint32_t relative = machine == EM_X86_64 ? R_X86_64_RELATIVE : machine == EM_AARCH64 ? 1027u : 3u;
  if (const auto at = image.offset(d.rela); d.rela && at) {
    const std::uint64_t count = std::min<std::uint64_t>(d.rela_size / sizeof(Elf64_Rela), max_entries);
    for (std::uint64_t i = 0; i < count; ++i) {
      Elf64_Rela r;
      if (!image.read(*at + i * sizeof r, r)) break;
      if (ELF64_R_TYPE(r.r_info) == relative) out[r.r_offset] = static_cast<std::uint64_t>(r.r_addend);
    }
  }
  if (const auto at = image.offset(d.relr); d.relr && at) {
    const auto in_place = [&](std::uint64_t place) {
      std::uint64_t v = 0;
      if (const auto o = image.offset(place); o && image.read(*o, v)) out[place] = v;
    };
    std::uint64_t base = 0;
    const std::uint64_t count = std::min<std::uint64_t>(d.relr_size / 8, max_entries);
    for (std::uint64_t i = 0; i < count && out.size() < max_entries; ++i) {
      std::uint64_t word = 0;
      if (!image.read(*at + i * 8, word)) break;
      if ((word & 1) == 0) {
        in_place(word);
        base = word + 8;
      } else {
        for (unsigned bit = 0; bit < 63; ++bit)
          if (word >> (bit + 1) & 1) in_place(base + bit * 8);
        base += 63 * 8;
      }
    }
  }
  return out;
}

std::optional<DescriptorFacts> read_descriptor(const Image& image, std::uint64_t address,
                                               const std::map<std::uint64_t, std::uint64_t>& relocations) {
  const auto at = image.offset(address);
  gantry_module m{};
  // The part before `build`, which an early minor may have lacked.
  if (!at || image.part(*at, offsetof(gantry_module, build)).empty()) return std::nullopt;
  const std::string_view raw = image.part(*at, offsetof(gantry_module, build));
  std::memcpy(static_cast<void*>(&m), raw.data(), raw.size());
  const auto pointer = [&](std::uint64_t place) -> std::uint64_t {
    const auto it = relocations.find(place);
    return it == relocations.end() ? 0 : it->second;
  };
  const auto text = [&](std::uint64_t place) {
    const auto o = image.offset(pointer(place));
    return o && pointer(place) ? image.text(*o) : std::string();
  };
  DescriptorFacts out;
  for (const char c : m.magic) {
    if (c == '\0') break;
    out.magic += c >= 32 && c < 127 ? c : '?';
  }
  out.abi_major = m.abi_major;
  out.abi_minor = m.abi_minor;
  out.size = m.size;
  out.provider_count = m.provider_count;
  out.provider_stride = m.provider_stride;
  if (m.size >= sizeof(gantry_module)) out.build = text(address + offsetof(gantry_module, build));
  const std::uint64_t first = pointer(address + offsetof(gantry_module, providers));
  constexpr std::uint64_t least = offsetof(gantry_provider, extension);
  if (!first || m.provider_stride < least || m.abi_major != GANTRY_ABI_MAJOR) return out;
  for (std::uint64_t i = 0; i < std::min<std::uint32_t>(m.provider_count, 64); ++i) {
    const std::uint64_t place = first + i * m.provider_stride;
    const auto o = image.offset(place);
    const std::string_view record = o ? image.part(*o, least) : std::string_view();
    if (record.empty()) break;
    gantry_provider p{};
    std::memcpy(static_cast<void*>(&p), record.data(), record.size());
    ProviderFacts f;
    f.size = p.size;
    f.flags = p.flags;
    f.rev_min = p.rev_min;
    f.rev_max = p.rev_max;
    f.kind = text(place + offsetof(gantry_provider, kind));
    f.name = text(place + offsetof(gantry_provider, name));
    f.create = pointer(place + offsetof(gantry_provider, create)) != 0;
    f.call = pointer(place + offsetof(gantry_provider, call)) != 0;
    f.reply = pointer(place + offsetof(gantry_provider, reply)) != 0;
    f.cancel = pointer(place + offsetof(gantry_provider, cancel)) != 0;
    f.destroy = pointer(place + offsetof(gantry_provider, destroy)) != 0;
    out.providers.push_back(std::move(f));
  }
  return out;
}

std::string hex(std::string_view bytes) {
  std::string s;
  for (const char c : bytes) {
    s += "0123456789abcdef"[(static_cast<unsigned char>(c)) >> 4];
    s += "0123456789abcdef"[c & 15];
  }
  return s;
}

void read_build_id(const Image& image, const Elf64_Phdr& p, ElfFacts& out) {
  std::uint64_t at = 0;
  Elf64_Nhdr note;
  while (at + sizeof note <= p.p_filesz && image.read(p.p_offset + at, note)) {
    const std::uint64_t name = at + sizeof note;
    const std::uint64_t body = name + ((std::uint64_t{note.n_namesz} + 3) & ~std::uint64_t{3});
    if (note.n_type == NT_GNU_BUILD_ID && image.part(p.p_offset + name, note.n_namesz) == std::string_view("GNU", 4) &&
        note.n_descsz <= 64)
      out.build_id = hex(image.part(p.p_offset + body, note.n_descsz));
    at = body + ((std::uint64_t{note.n_descsz} + 3) & ~std::uint64_t{3});
  }
}

// The longest run of the needed version's text that is a dotted number.
std::vector<unsigned long> numbers(std::string_view s) {
  std::vector<unsigned long> out;
  unsigned long n = 0;
  bool any = false;
  for (const char c : s) {
    if (c >= '0' && c <= '9') {
      n = std::min<unsigned long>(n * 10 + static_cast<unsigned long>(c - '0'), 1'000'000);
      any = true;
    } else if (any) {
      out.push_back(n);
      n = 0;
      any = false;
    }
  }
  if (any) out.push_back(n);
  return out;
}

}  // namespace

bool version_less(std::string_view a, std::string_view b) {
  const auto x = numbers(a), y = numbers(b);
  return x != y ? x < y : a < b;
}

std::string ElfFacts::floor(std::string_view prefix) const {
  std::string best;
  for (const auto& [library, names] : versions)
    for (const auto& n : names)
      if (n.starts_with(prefix) && n.size() > prefix.size() && n[prefix.size()] >= '0' && n[prefix.size()] <= '9') {
        const std::string v = n.substr(prefix.size());
        if (best.empty() || version_less(best, v)) best = v;
      }
  return best;
}

Result<ElfFacts> read_elf(std::string_view bytes) {
  Image image(bytes);
  Elf64_Ehdr head;
  if (!image.read(0, head) || std::memcmp(head.e_ident, ELFMAG, SELFMAG) != 0)
    return fail(Code::data_loss, "it is not an ELF file");
  if (head.e_ident[EI_CLASS] != ELFCLASS64 || head.e_ident[EI_DATA] != ELFDATA2LSB)
    return fail(Code::data_loss, "it is not a 64-bit little-endian ELF file");
  if (head.e_type != ET_DYN) return fail(Code::data_loss, "it is an ELF file but not a shared library");
  ElfFacts out;
  out.file_size = bytes.size();
  out.machine = machine_name(head.e_machine);
  if (head.e_phentsize != sizeof(Elf64_Phdr) || head.e_phoff > bytes.size())
    return fail(Code::data_loss, "it has no program headers");
  std::vector<Elf64_Phdr> segments;
  for (unsigned i = 0; i < head.e_phnum; ++i) {
    Elf64_Phdr p;
    if (!image.read(head.e_phoff + std::uint64_t{i} * sizeof p, p))
      return fail(Code::data_loss, "its program headers are cut off");
    segments.push_back(p);
    image.map(p);
  }
  Dynamic dynamic;
  bool is_dynamic = false;
  for (const auto& p : segments) {
    if (p.p_offset > bytes.size()) continue;
    if (p.p_type == PT_DYNAMIC) {
      dynamic = read_dynamic(image, p, out);
      is_dynamic = true;
    } else if (p.p_type == PT_GNU_RELRO) {
      out.relro = true;
    } else if (p.p_type == PT_GNU_STACK) {
      out.executable_stack = (p.p_flags & PF_X) != 0;
    } else if (p.p_type == PT_NOTE) {
      read_build_id(image, p, out);
    }
  }
  if (!is_dynamic) return fail(Code::data_loss, "it has no dynamic section");
  const std::uint64_t strings = image.offset(dynamic.strtab).value_or(bytes.size());
  for (const std::uint64_t n : dynamic.needed) out.needed.push_back(image.text(strings + n));
  if (dynamic.soname) out.soname = image.text(strings + *dynamic.soname);
  if (dynamic.rpath) out.rpath = image.text(strings + *dynamic.rpath);
  if (dynamic.runpath) out.runpath = image.text(strings + *dynamic.runpath);
  read_versions(image, dynamic, strings, out);

  // Symbols through the section headers: the dynamic section does not say how many there are.
  std::uint64_t descriptor = 0;
  Elf64_Shdr names{};
  if (head.e_shentsize == sizeof(Elf64_Shdr) && head.e_shoff <= bytes.size())
    (void)image.read(head.e_shoff + std::uint64_t{head.e_shstrndx} * sizeof names, names);
  for (unsigned i = 0; head.e_shentsize == sizeof(Elf64_Shdr) && head.e_shoff <= bytes.size() && i < head.e_shnum; ++i) {
    Elf64_Shdr s;
    if (!image.read(head.e_shoff + std::uint64_t{i} * sizeof s, s)) break;
    if (s.sh_type == SHT_SYMTAB) out.stripped = false;
    if (s.sh_type == SHT_PROGBITS && out.compiler.empty() && names.sh_size && image.text(names.sh_offset + s.sh_name) == ".comment")
      out.compiler = image.text(s.sh_offset);
    if (s.sh_type != SHT_DYNSYM) continue;
    const std::uint64_t count = std::min<std::uint64_t>(s.sh_size / sizeof(Elf64_Sym), max_entries);
    for (std::uint64_t k = 1; k < count; ++k) {
      Elf64_Sym symbol;
      if (s.sh_offset > bytes.size() || !image.read(s.sh_offset + k * sizeof symbol, symbol)) break;
      const std::string name = image.text(strings + symbol.st_name);
      if (symbol.st_shndx == SHN_UNDEF) {
        ++out.imports;
        continue;
      }
      const unsigned bind = ELF64_ST_BIND(symbol.st_info), visibility = ELF64_ST_VISIBILITY(symbol.st_other);
      if (name.empty() || bind == STB_LOCAL || visibility == STV_HIDDEN || visibility == STV_INTERNAL) continue;
      if (symbol.st_shndx == SHN_ABS && ELF64_ST_TYPE(symbol.st_info) == STT_OBJECT) continue;  // a version's own name
      out.exports.push_back(name);
      if (bind == STB_GNU_UNIQUE) out.unique.push_back(name);
      if (name == GANTRY_MODULE_SYMBOL) descriptor = symbol.st_value;
    }
  }
  std::sort(out.exports.begin(), out.exports.end());
  if (descriptor) out.descriptor = read_descriptor(image, descriptor, read_relocations(image, dynamic, head.e_machine));
  return out;
}

}  // namespace gantry::kit
