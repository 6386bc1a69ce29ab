// The last lines of the log by source, for an operator who asks about one part of the daemon.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace gantry::base {

inline constexpr std::size_t log_tail_lines = 50;  // of each source; the first 256 sources are kept

// [any] The last lines written by `source`, oldest first, at most `count`.
[[nodiscard]] std::vector<std::string> log_tail(std::string_view source, std::size_t count = log_tail_lines);

}  // namespace gantry::base
