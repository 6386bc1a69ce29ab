// Project quotas: a number on every file of a tree, and a limit per number that the file system itself keeps. The same calls serve
// xfs and ext4. The file system is also the record of which numbers are in use: nothing is kept elsewhere.
#pragma once

#include <gantry/result.hpp>

#include <atomic>
#include <cstdint>
#include <string>

namespace gantry::isolator_disk {

enum class Quotas { none, counted, enforced };
// What the file system of this path has. An error only if the path cannot be looked at.
[[nodiscard]] Result<Quotas> quotas_at(const std::string& path);

struct ProjectUse {
  std::uint64_t bytes = 0, files = 0;  // files: until there are none, the number is taken
  std::uint64_t limit = 0;             // bytes beyond which writing fails; 0: none
};
[[nodiscard]] Result<ProjectUse> project_use(const std::string& path, std::uint32_t project);

// Bytes beyond which writing fails with EDQUOT, rounded up to what the file system can say; 0: no limit.
Status limit_project(const std::string& path, std::uint32_t project, std::uint64_t bytes);

// The number of a directory; 0: none.
[[nodiscard]] Result<std::uint32_t> project_of(const std::string& path);
// Puts the number on the directory and all in it; what is made in it later inherits it. `replacing` is the number its files may have
// so far: others (a volume's) are left alone.
Status label_project(const std::string& path, std::uint32_t project, std::uint32_t replacing, const std::atomic<bool>& cancelled);

}  // namespace gantry::isolator_disk
