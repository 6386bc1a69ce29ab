// kernel.toml, embedded by the build.
#pragma once

#include <string_view>

namespace gantry::config {
extern const std::string_view kernel_toml;
}
