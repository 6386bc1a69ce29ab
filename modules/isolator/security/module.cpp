#include "security.hpp"

GANTRY_MODULE(gantry::isolator_security::Security, "security")
