#include "standalone.hpp"

GANTRY_MODULE(gantry::election_standalone::Standalone, "standalone")
