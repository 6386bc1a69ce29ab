// The order in which instances start. Pure.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace gantry::module {

struct Node {
  std::string kind, name;
  std::vector<std::string> needs;  // "store": every instance of the kind; "store.lmdb": that one
};

struct Order {
  std::vector<std::size_t> nodes;     // what is needed before what needs it; else as given
  std::vector<std::string> problems;  // one sentence each: missing needs, one for each cycle found
};

// `nodes` is usable only if there are no problems.
[[nodiscard]] Order order(const std::vector<Node>& nodes);

}  // namespace gantry::module
