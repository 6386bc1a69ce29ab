// The sandboxes of an agent as a tree that people may look into. Blocks; any thread.
#pragma once

#include <gantry/operator_generated.h>
#include <gantry/result.hpp>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace gantry::agent {

// A path is that of a file below <work_dir>/slaves as it is on this machine, or begins with /frameworks: then it is one below
// this agent's own folder there. `latest` names the last run of an executor. Nothing else can be reached, whatever links say.
struct SandboxFiles {
  std::string work_dir, agent_id;

  // What is in a folder, in order of names; of a file nothing. Paths are as asked for. NOT_FOUND, PERMISSION_DENIED.
  [[nodiscard]] Result<std::vector<std::unique_ptr<fb::ops::FileInfoT>>> list(const std::string& path) const;
  // At most `length` bytes from `offset` on, at most 1 MiB, and the size of the whole. FAILED_PRECONDITION: no regular file.
  [[nodiscard]] Result<fb::ops::ReadFileT> read(const std::string& path, std::uint64_t offset, std::optional<std::uint64_t> length) const;

 private:
  // Relative to <work_dir>/slaves.
  [[nodiscard]] Result<std::string> below(const std::string& path) const;
};

}  // namespace gantry::agent
