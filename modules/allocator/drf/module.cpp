#include "drf.hpp"

GANTRY_MODULE(gantry::allocator_drf::Drf, "drf")
