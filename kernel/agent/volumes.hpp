// Persistent volumes on this machine: directories that outlive tasks, at <work_dir>/volumes/roles/<role>/<id>, or below the
// root of the disk they lie on. The master says which there are; what it no longer names is removed.
//
// <work_dir>/meta/volumes remembers what was said, and by which registry: if that has been replaced by an empty one (a master
// whose store was lost), nothing is removed, for it is not somebody's will but somebody's loss.
//
// No role sees another's data: a disk that is one volume as a whole is emptied when its volume becomes another one, also if that
// happened while the agent was away. While that cannot be done, the disk cannot be used. Data is moved aside first (which takes no
// time) and deleted later; <work_dir>/meta/volumes.trash names what was moved, and nothing else is ever deleted.
#pragma once

#include "kernel/agent/spawn.hpp"

#include <gantry/link_generated.h>
#include <gantry/result.hpp>

#include <string>
#include <string_view>
#include <vector>

namespace gantry::agent {

// Where a persistent volume lies; empty if the resource is none, or its names could lead elsewhere.
[[nodiscard]] std::string volume_path(const std::string& work_dir, const fb::ResourceT& resource);

struct VolumeChanges {
  std::vector<std::string> made, removed;
  std::vector<std::string> trash;     // to be deleted, which may take long: remove_trash()
  std::vector<std::string> problems;  // sentences for the log
};
// What the master has said of the agent's resources. `registry` names its store.
[[nodiscard]] VolumeChanges change_volumes(const std::string& work_dir, const fb::link::SetResources& said, std::string_view registry);
void remove_trash(const std::vector<std::string>& trash);  // blocks

// Puts each volume of a task into its sandbox, under its container_path, as a link. Volumes that are not there are made.
Status link_volumes(const std::string& work_dir, const std::string& sandbox,
                    const std::vector<std::unique_ptr<fb::ResourceT>>& resources, const Account& account);

}  // namespace gantry::agent
