// Which ports the processes of containers on the machine's network listen on. Blocks: for offload.
#pragma once

#include "address.hpp"

#include <gantry/result.hpp>

#include <map>
#include <set>
#include <string>
#include <vector>

namespace gantry::isolator_network {

// A container's first process; all its descendants are the container's (the supervisor adopts orphans).
struct Root {
  std::string container_id;
  int pid = 0;
};

// Inode -> port of the TCP sockets that listen in the calling thread's namespace, by sock_diag: the kernel picks them, the
// table of all connections is not read.
[[nodiscard]] Result<std::map<std::uint64_t, std::uint32_t>> listening_sockets();

// Container -> ports within `watched`. Containers that listen on none are left out.
[[nodiscard]] Result<std::map<std::string, std::set<std::uint32_t>>> listening_ports(const std::vector<Root>& roots,
                                                                                     const PortRanges& watched);

}  // namespace gantry::isolator_network
