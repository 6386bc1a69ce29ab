#include "htpasswd.hpp"

GANTRY_MODULE(gantry::authenticator_htpasswd::Htpasswd, "htpasswd")
