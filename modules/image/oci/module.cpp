#include "oci.hpp"

GANTRY_MODULE(gantry::image_oci::OciImages, "oci")
