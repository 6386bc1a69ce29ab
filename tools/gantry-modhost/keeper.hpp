// The outer process: it makes the control group, starts the one that runs the module, and ends whatever is left of it.
#pragma once

#include "options.hpp"

namespace gantry::modhost {

// Until the module's process has ended; returns its exit status, 128 + n for signal n. Runs none of the module's code.
int keep(const Options& options);

}  // namespace gantry::modhost
