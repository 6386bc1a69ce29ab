// Reading and writing the small files of a cgroup tree. All calls block only as long as the kernel does.
#pragma once

#include <gantry/result.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace gantry::isolator_cgroups {

// Parts between the separators; empty ones are left out.
[[nodiscard]] std::vector<std::string_view> split(std::string_view s, char by);

[[nodiscard]] std::optional<std::string> read_file(const std::string& path);
// One write(2). Errors name the path and the text; PERMISSION_DENIED and NOT_FOUND are told apart.
[[nodiscard]] Status write_file(const std::string& path, std::string_view text);
[[nodiscard]] bool file_exists(const std::string& path);
[[nodiscard]] Status make_dirs(const std::string& path);
[[nodiscard]] std::vector<std::string> subdirectories(const std::string& path);
[[nodiscard]] std::uint64_t read_number(const std::string& path);  // 0 if absent or not a number ("max")
// The number behind a word at the start of a line ("oom_kill 3"); 0 if there is none.
[[nodiscard]] std::uint64_t keyed_number(std::string_view text, std::string_view key);
// Lines, each ended by a newline: processes in cgroup.procs, threads in tasks.
[[nodiscard]] std::uint32_t count_lines(const std::string& path);
// Microseconds in which something waited: total= of the line "some" of a pressure file; 0 if there is none.
[[nodiscard]] std::uint64_t pressure_us(const std::string& path);
// SIGKILL to everything in a cgroup.procs file; how many there were.
std::size_t kill_procs(const std::string& procs_file);
// The same for a cgroup and all below it.
void kill_tree(const std::string& dir);
// rmdir with what cgroups below it; false: busy.
[[nodiscard]] Result<bool> remove_dir(const std::string& path);

}  // namespace gantry::isolator_cgroups
