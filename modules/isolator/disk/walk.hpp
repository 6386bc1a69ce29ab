// Adding up the space of a tree that somebody else changes meanwhile, perhaps with bad intent.
#pragma once

#include <gantry/result.hpp>

#include <atomic>
#include <cstdint>
#include <functional>
#include <set>
#include <string>

namespace gantry::isolator_disk {

struct Space {
  std::uint64_t bytes = 0;  // what its files take on the disk, not their length
  bool whole = true;        // false: it changed under our feet or part of it could not be read; it is at least so much
};

// The tree at `root`, which is no symbolic link. A file with several names counts once; links are not followed, other file
// systems not entered. `exclude`: paths below the root ("a/b") that are left out with all below them. Blocks, perhaps for
// minutes; ends soon with CANCELLED once `cancelled` is true. Holds two descriptors however deep the tree is.
[[nodiscard]] Result<Space> space_of(const std::string& root, const std::set<std::string>& exclude, const std::atomic<bool>& cancelled);

// The same way through the tree for other purposes: `visit` gets the directory and the name in it of every file and directory,
// and the root itself as (root, ".") first.
struct Entry {
  int directory;  // descriptor
  const char* name;
  bool is_directory, is_file;                  // neither: a link, a pipe, ...
  std::uint64_t blocks, device, inode, names;  // blocks of 512 bytes; names: hard links
};
[[nodiscard]] Result<bool> walk(const std::string& root, const std::set<std::string>& exclude, const std::atomic<bool>& cancelled,
                                const std::function<void(const Entry&)>& visit);

}  // namespace gantry::isolator_disk
