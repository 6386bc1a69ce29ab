#include "acl.hpp"

GANTRY_MODULE(gantry::authorizer_acl::Acl, "acl")
