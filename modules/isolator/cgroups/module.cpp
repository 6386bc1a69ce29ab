#include "cgroups.hpp"

GANTRY_MODULE(gantry::isolator_cgroups::Cgroups, "cgroups")
