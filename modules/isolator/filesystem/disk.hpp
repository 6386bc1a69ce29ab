// What the module keeps on disk for a container, and making it safely. Everything here blocks: use it off the strand.
#pragma once

#include "plan.hpp"

#include <gantry/result.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace gantry::isolator_filesystem {

// <scratch>/<container>: upper and work of the overlay, and root to mount it on.
struct ContainerDirs {
  std::string top;    // of all of them
  [[nodiscard]] std::string root() const { return top + "/root"; }
  [[nodiscard]] std::string upper() const { return top + "/upper"; }
  [[nodiscard]] std::string work() const { return top + "/work"; }
};

// Makes them, with a /dev in `upper`: the nodes every container may use, `devices` besides, and the usual links. `like` is the
// image's highest layer: the root's owner and mode are taken from it.
Status make_dirs(const ContainerDirs& dirs, const std::string& like, const std::vector<DeviceNode>& devices);
Status remove_tree(const std::string& path);  // what is not there is removed

// A directory below `top`, made if missing, without following a link that somebody may have put there. Owned by uid:gid if made.
Status make_below(const std::string& top, const std::string& relative, std::uint32_t uid, std::uint32_t gid);
Status make_directories(const std::string& path);  // of the machine; links are followed

// A file of these bytes that exists in memory only, readable by uid alone; `directory` is on a tmpfs.
Status write_secret(const std::string& directory, const std::string& name, const std::string& bytes, std::uint32_t uid, std::uint32_t gid);
// Where secrets of this machine may lie: a directory on a tmpfs. Empty: there is none.
[[nodiscard]] std::string memory_directory();

}  // namespace gantry::isolator_filesystem
