#include "filesystem.hpp"

GANTRY_MODULE(gantry::isolator_filesystem::Filesystem, "filesystem")
