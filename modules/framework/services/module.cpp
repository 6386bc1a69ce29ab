#include "services.hpp"

GANTRY_MODULE(gantry::framework_services::Services, "services")
