// Whole files.
#pragma once

#include <gantry/result.hpp>

#include <cstddef>
#include <string>
#include <string_view>

namespace gantry::base {

// The bytes of the regular file at `path`, at most `most` of them (a whole number of MiB). Never blocks on what is no regular
// file. The errors do not name the path: NOT_FOUND, PERMISSION_DENIED, INVALID_ARGUMENT (another sort of file, or larger),
// UNAVAILABLE (the system cannot read it now).
[[nodiscard]] Result<std::string> read_file(const std::string& path, std::size_t most);

// All of it or nothing: a new file beside `path` takes its place. `sync`: over after a power cut as well. RESOURCE_EXHAUSTED: the disk
// is full. The errors name the path.
[[nodiscard]] Status write_whole(const std::string& path, std::string_view bytes, bool sync);

}  // namespace gantry::base
