#include "namespaces.hpp"

GANTRY_MODULE(gantry::isolator_namespaces::Namespaces, "namespaces")
