// "Did you mean": the nearest valid word to one that is not.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace gantry::config {

// Edits (insert, delete, replace, swap neighbours) that turn a into b; letter case does not count.
[[nodiscard]] std::size_t edit_distance(std::string_view a, std::string_view b);
// The candidate nearest to `word` if it is near enough to be a slip (at most a third of its letters), else "".
[[nodiscard]] std::string nearest(std::string_view word, const std::vector<std::string>& candidates);
// "; did you mean \"x\"?" or "".
[[nodiscard]] std::string did_you_mean(std::string_view word, const std::vector<std::string>& candidates);
// The same for units, which are so short that spelled-out words ("sec", "minutes", "gb") are matched by their start.
[[nodiscard]] std::string did_you_mean_unit(std::string_view word, const std::vector<std::string>& units);
// "a, b or c"
[[nodiscard]] std::string one_of(const std::vector<std::string>& words);

}  // namespace gantry::config
