// What is mounted where in a container: pure, from the task and what the module was told.
#pragma once

#include <gantry/isolator_generated.h>
#include <gantry/result.hpp>

#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace gantry::isolator_filesystem {

struct Rules {
  std::string sandbox = "/mnt/mesos/sandbox";
  std::vector<std::string> host_paths = {"/"};
  bool create_host_paths = true, mask = true;
};

// Paths of the machine that a container uses, and how they have to be made ready.
struct Source {
  enum class Kind {
    host,    // must be there
    create,  // a directory, made if it is missing (Docker's volumes)
    sandbox, // below the sandbox, made if it is missing, owned by the task's user; no links on the way
    parent,  // the same below the sandbox of the container it is nested in
    named,   // a volume by name, kept by this module
    secret,  // a file with these bytes
  } kind = Kind::host;
  std::string path;     // host, create: absolute; sandbox, parent: relative; named: the name; secret: the bytes
};

struct Volume {
  Source source;
  std::string target;   // absolute in the container, or relative to the sandbox
  bool read_only = false, shared = false, slave = false;
};

struct Tmpfs {
  std::string target, options;
};

struct DeviceNode {
  std::string source, target, access;
};

struct Plan {
  std::vector<Volume> volumes;
  std::vector<Tmpfs> tmpfs;
  std::vector<DeviceNode> devices;
  bool read_only_root = false, privileged = false;
  std::vector<std::string> parameters;  // keys of docker.parameters that were heeded
};

// INVALID_ARGUMENT, PERMISSION_DENIED or FAILED_PRECONDITION name the volume. Source: mesos-kernel.md A6 filesystem, A7;
// marathon.md A4; docker run.
[[nodiscard]] Result<Plan> plan_of(const fb::TaskInfoT& task, const Rules& rules, bool image, bool nested = false);

// Absolute, without "." and "..", no slash at the end. Empty if ".." would lead above the root.
[[nodiscard]] std::string tidy(std::string_view path);
[[nodiscard]] bool below(const std::string& path, const std::vector<std::string>& allowed);

}  // namespace gantry::isolator_filesystem
