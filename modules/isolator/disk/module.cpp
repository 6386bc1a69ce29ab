#include "disk.hpp"

GANTRY_MODULE(gantry::isolator_disk::Disk, "disk")
