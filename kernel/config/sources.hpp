// Where configuration comes from: the main file, conf.d beside it, overrides of the command line; one tree in the end.
#pragma once

#include "kernel/config/config.hpp"
#include "kernel/config/tree.hpp"

namespace gantry::config {

struct Sources {
  Node root;
  std::vector<std::string> files;  // read, in order
  std::vector<Problem> problems;
  bool broken = false;  // a file is missing or is no TOML: what it would have said is unknown
};
[[nodiscard]] Sources read_sources(const Options&);

}  // namespace gantry::config
