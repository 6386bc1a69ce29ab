// What the isolators of a container asked for, as one; and what of it a command beside the container needs, kept on disk.
#pragma once

#include "kernel/agent/spawn.hpp"

#include <gantry/container_generated.h>
#include <gantry/isolator_generated.h>
#include <gantry/result.hpp>

#include <map>
#include <string>

namespace gantry::agent {

class Preparations {
 public:
  // Adds an isolator's answer. Two that contradict each other are refused, and both are named.
  Status add(const std::string& isolator, fb::isolator::PreparedT answer);
  // All are asked. Refuses what cannot be done: mounts without a mount namespace, a host name without its own.
  // Mounts come in order of depth: /dev before /dev/shm, whoever asked for which.
  Status complete();

  [[nodiscard]] const fb::isolator::PreparedT& all() const { return all_; }
  // Puts it into the description of the first process, all but the environment.
  void apply(Spawn&) const;

 private:
  Status take(const std::string& what, std::string& into, std::string value, const std::string& isolator);

  fb::isolator::PreparedT all_;
  std::map<std::string, std::string> first_;  // what can be wanted only once -> who wanted it
};

// What a command beside the container is given, as table Inside; and back: its namespaces are then those to join. Not in it:
// arguments, files, mounts, descriptors.
[[nodiscard]] fb::container::InsideT inside_of(const Spawn&);
[[nodiscard]] Spawn spawn_inside(const fb::container::InsideT&);

// <work_dir>/meta/inside/<container>. Blocks. Written whole or not at all; not synced, since no container outlives the machine.
Status write_inside(const std::string& path, const fb::container::InsideT&);
[[nodiscard]] Result<fb::container::InsideT> read_inside(const std::string& path);

}  // namespace gantry::agent
