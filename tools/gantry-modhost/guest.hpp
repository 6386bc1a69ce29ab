// The inner process: maps the library and runs its provider like the kernel would, with a socket for a kernel.
#pragma once

#include "options.hpp"

#include <gantry/result.hpp>

namespace gantry::modhost {

// `file`: the library, open, or -1. `shut`: an error is passed on, and nothing is mapped. Ends the process rather than
// return when the kernel closes the socket or has the module destroyed.
int run_guest(const Options& options, int file, const Status& shut);

}  // namespace gantry::modhost
