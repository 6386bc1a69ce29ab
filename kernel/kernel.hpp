// The composition root: the one place that knows all parts. Start order is written in Kernel::start, stop is its reverse.
#pragma once

#include "kernel/config/config.hpp"

#include <string>

namespace gantry::kernel {

// Runs a daemon until a signal or a fatal error ends it. Returns the process's exit status (see gantryd --help).
int run(config::Options options, config::ConfigPtr config, std::string version);

}  // namespace gantry::kernel
