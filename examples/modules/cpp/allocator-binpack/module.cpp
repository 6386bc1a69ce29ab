#include "binpack.hpp"

GANTRY_MODULE(gantry::allocator_binpack::Binpack, "binpack")
