#include "basic.hpp"

GANTRY_MODULE(gantry::authenticator_basic::Basic, "basic")
