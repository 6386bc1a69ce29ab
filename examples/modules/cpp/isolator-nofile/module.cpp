// A file of its own, so that the test can link the class without the exported symbol.
#include "nofile.hpp"

GANTRY_MODULE(gantry::isolator_nofile::Nofile, "nofile")
