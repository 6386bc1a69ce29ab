#include "kernel/module/graph.hpp"

#include <algorithm>

namespace gantry::module {
namespace {

// Depth first; the path walked is kept, so that a cycle can be printed as one.
struct Walk {
  const std::vector<Node>& nodes;
  Order out;
  std::vector<int> seen;  // 0 not yet, 1 on the path, 2 done
  std::vector<std::size_t> path;

  std::string id(std::size_t i) const { return nodes[i].kind + "." + nodes[i].name; }

  void visit(std::size_t i) {
    if (seen[i] == 2) return;
    if (seen[i] == 1) {
      std::string text;
      for (auto it = std::find(path.begin(), path.end(), i); it != path.end(); ++it) text += id(*it) + " -> ";
      out.problems.push_back("modules need each other in a circle: " + text + id(i) +
                             "; remove one of these from `needs` of its module, or one of the modules");
      return;
    }
    seen[i] = 1;
    path.push_back(i);
    for (const std::string& need : nodes[i].needs) {
      const std::size_t dot = need.find('.');
      bool any = false;
      for (std::size_t j = 0; j < nodes.size(); ++j) {
        if (dot == std::string::npos ? nodes[j].kind != need : id(j) != need) continue;
        any = true;
        visit(j);
      }
      if (!any)
        out.problems.push_back(id(i) + " needs " +
                               (dot == std::string::npos ? "a module of kind " + need : "module " + need) +
                               ", and none is configured for this role; add a [" + need +
                               (dot == std::string::npos ? ".<name>" : "") + "] table or remove [" + id(i) + "]");
    }
    path.pop_back();
    seen[i] = 2;
    out.nodes.push_back(i);
  }
};

}  // namespace

Order order(const std::vector<Node>& nodes) {
  Walk walk{nodes, {}, std::vector<int>(nodes.size(), 0), {}};
  for (std::size_t i = 0; i < nodes.size(); ++i) walk.visit(i);
  return std::move(walk.out);
}

}  // namespace gantry::module
