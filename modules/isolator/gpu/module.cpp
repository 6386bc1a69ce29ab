#include "gpu.hpp"

GANTRY_MODULE(gantry::isolator_gpu::Gpu, "gpu")
