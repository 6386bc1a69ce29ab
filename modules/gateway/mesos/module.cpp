#include "mesos.hpp"

GANTRY_MODULE(gantry::gateway_mesos::Mesos, "mesos")
