// The files of the driver that programs in a container need: they belong to the running kernel module, so an image cannot bring
// them. Found in the system's own list of libraries.
#pragma once

#include <gantry/result.hpp>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace gantry::isolator_gpu {

// One library of /etc/ld.so.cache.
struct CachedLibrary {
  std::string name, path;  // "libcuda.so.1", "/usr/lib/x86_64-linux-gnu/libcuda.so.1"
  bool wide = true;        // for 64-bit programs
};

// Both formats in use: glibc's own (2.2 and later) and that behind an older one. Libraries for other machines are left out.
// INVALID_ARGUMENT says what does not fit.
[[nodiscard]] Result<std::vector<CachedLibrary>> parse_library_cache(std::string_view bytes);

// Whether a library is the driver's.
[[nodiscard]] bool is_of_the_driver(std::string_view name);

struct DriverFile {
  std::string source, target;  // on the agent, without symbolic links; in the container
};
inline constexpr char library_directory[] = "/usr/local/nvidia/lib64", library_directory_32[] = "/usr/local/nvidia/lib";

// Each library by the name it is loaded by and by that of its file; programs in /usr/bin. What is not there is left out.
[[nodiscard]] std::vector<DriverFile> find_driver_files(const std::vector<CachedLibrary>& libraries,
                                                        const std::vector<std::string>& program_directories);

struct DriverFiles {
  std::vector<DriverFile> files;
  std::string problem;  // why there are no libraries among them; empty: there may be
};
// The same from the list at `cache`. Blocks.
[[nodiscard]] DriverFiles driver_files(const std::string& cache, const std::vector<std::string>& program_directories);

}  // namespace gantry::isolator_gpu
