// Plays a scenario on the simulated cluster.
#pragma once

#include "tests/scenario/scenario.hpp"

#include <string>

namespace gantry::scenario {

// "" if everything went as expected; else one text: "file:line:column: error: ..." with what was heard instead.
[[nodiscard]] std::string play(const Scenario& scenario, bool trace);

// Reads and plays a file. Problems of reading come back the same way, one a line.
[[nodiscard]] std::string play_file(const std::string& path, bool trace);

}  // namespace gantry::scenario
