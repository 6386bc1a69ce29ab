#include "network.hpp"

GANTRY_MODULE(gantry::isolator_network::Network, "network")
