#include "driver_files.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <optional>
#include <set>

namespace gantry::isolator_gpu {
namespace {

constexpr std::string_view old_magic = "ld.so-1.7.0", magic = "glibc-ld.so.cache1.1";

// CUDA, its compilers and media units, management, and the vendor's halves of OpenGL, OpenCL and Vulkan.
constexpr std::string_view libraries[] = {
    "libcuda.so",
    "libcudadebugger.so",
    "libnvidia-ml.so",
    "libnvidia-cfg.so",
    "libnvidia-nvvm.so",
    "libnvidia-compiler.so",
    "libnvidia-ptxjitcompiler.so",
    "libnvidia-fatbinaryloader.so",
    "libnvidia-allocator.so",
    "libnvidia-gpucomp.so",
    "libnvidia-pkcs11.so",
    "libnvidia-pkcs11-openssl3.so",
    "libnvidia-opencl.so",
    "libnvidia-encode.so",
    "libnvcuvid.so",
    "libnvidia-opticalflow.so",
    "libvdpau_nvidia.so",
    "libnvidia-fbc.so",
    "libnvidia-eglcore.so",
    "libnvidia-glcore.so",
    "libnvidia-glsi.so",
    "libnvidia-tls.so",
    "libnvidia-glvkspirv.so",
    "libnvidia-rtcore.so",
    "libnvoptix.so",
    "libGLX_nvidia.so",
    "libEGL_nvidia.so",
    "libGLESv1_CM_nvidia.so",
    "libGLESv2_nvidia.so",
};
constexpr std::string_view programs[] = {"nvidia-smi", "nvidia-debugdump", "nvidia-persistenced", "nvidia-cuda-mps-control",
                                         "nvidia-cuda-mps-server"};

// Little endian on every machine we serve, as the file is.
std::optional<std::uint32_t> word_at(std::string_view bytes, std::size_t at) {
  std::uint32_t n = 0;
  if (at > bytes.size() || bytes.size() - at < sizeof n) return std::nullopt;
  std::memcpy(&n, bytes.data() + at, sizeof n);
  return n;
}

std::optional<std::string> text_at(std::string_view bytes, std::size_t at) {
  if (at >= bytes.size()) return std::nullopt;
  const auto end = bytes.find('\0', at);
  if (end == bytes.npos) return std::nullopt;
  return std::string(bytes.substr(at, end - at));
}

// Of an entry's flags: the machine its library is for. Nothing: not for programs here.
std::optional<bool> is_wide(std::uint32_t flags) {
  if ((flags & 0xff) != 3) return std::nullopt;  // no ELF library for this C library
#if defined(__x86_64__)
  if ((flags & 0xff00) == 0x0300) return true;
  if ((flags & 0xff00) == 0) return false;
#elif defined(__aarch64__)
  if ((flags & 0xff00) == 0x0a00) return true;
#endif
  return std::nullopt;
}

std::optional<std::string> real_path(const std::string& path) {
  char* real = ::realpath(path.c_str(), nullptr);
  if (!real) return std::nullopt;
  std::string out(real);
  std::free(real);
  return out;
}

}  // namespace

Result<std::vector<CachedLibrary>> parse_library_cache(std::string_view bytes) {
  const auto wrong = [](const std::string& why) {
    return fail(Code::invalid_argument, "the list of libraries cannot be read: " + why + "; run ldconfig");
  };
  if (bytes.substr(0, old_magic.size()) == old_magic) {
    const auto count = word_at(bytes, 12);
    if (!count) return wrong("it ends in its heading");
    // Entries of 12 bytes, then the present format at the next multiple of 8.
    const std::uint64_t behind = (16 + std::uint64_t{*count} * 12 + 7) / 8 * 8;
    if (behind >= bytes.size()) return wrong("it has no part in the format of glibc 2.2 or later");
    bytes.remove_prefix(behind);
  }
  if (bytes.substr(0, magic.size()) != magic) return wrong("it does not begin with \"" + std::string(magic) + "\"");
  constexpr std::size_t header = 48, entry = 24;
  const auto count = word_at(bytes, 20);
  if (!count) return wrong("it ends in its heading");
  if (bytes.size() < header || *count > (bytes.size() - header) / entry)
    return wrong("it is too short for its " + std::to_string(*count) + " libraries");
  std::vector<CachedLibrary> out;
  for (std::uint32_t i = 0; i < *count; ++i) {
    const std::size_t at = header + std::size_t{i} * entry;
    const auto wide = is_wide(*word_at(bytes, at));
    if (!wide) continue;
    auto name = text_at(bytes, *word_at(bytes, at + 4)), path = text_at(bytes, *word_at(bytes, at + 8));
    if (!name || !path) return wrong("library " + std::to_string(i) + " has a name outside the file");
    if (path->substr(0, 1) != "/" || name->find('/') != name->npos || name->empty()) continue;
    out.push_back({*std::move(name), *std::move(path), *wide});
  }
  return out;
}

bool is_of_the_driver(std::string_view name) {
  return std::any_of(std::begin(libraries), std::end(libraries), [&](std::string_view known) {
    return name.substr(0, known.size()) == known && (name.size() == known.size() || name[known.size()] == '.');
  });
}

std::vector<DriverFile> find_driver_files(const std::vector<CachedLibrary>& all, const std::vector<std::string>& program_directories) {
  std::vector<DriverFile> out;
  std::set<std::string> targets;  // the first of a name is the one the system would load
  const auto add = [&](const std::string& source, std::string target) {
    if (targets.insert(target).second) out.push_back({source, std::move(target)});
  };
  for (const auto& library : all) {
    if (!is_of_the_driver(library.name)) continue;
    const auto real = real_path(library.path);
    if (!real) continue;
    const std::string directory = std::string(library.wide ? library_directory : library_directory_32) + "/";
    add(*real, directory + library.name);
    add(*real, directory + real->substr(real->rfind('/') + 1));  // the driver loads some by their full name
  }
  for (const auto program : programs)
    for (const auto& directory : program_directories) {
      const auto real = real_path((directory + "/").append(program));
      if (!real || ::access(real->c_str(), X_OK) != 0) continue;
      add(*real, std::string("/usr/bin/").append(program));
      break;
    }
  return out;
}

DriverFiles driver_files(const std::string& cache, const std::vector<std::string>& program_directories) {
  std::ifstream in(cache, std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  const auto libraries = parse_library_cache(bytes);
  DriverFiles out;
  if (!libraries) out.problem = libraries.error().message;
  out.files = find_driver_files(libraries ? *libraries : std::vector<CachedLibrary>{}, program_directories);
  return out;
}

}  // namespace gantry::isolator_gpu
