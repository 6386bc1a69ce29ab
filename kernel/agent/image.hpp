// The image of a container: which one a task asks for, and what it means for the account and the command. Pure, but for
// account_in(), which reads the image's user database.
#pragma once

#include "kernel/agent/describe.hpp"
#include "kernel/agent/spawn.hpp"

#include <gantry/image_generated.h>
#include <gantry/result.hpp>

#include <optional>
#include <string>
#include <vector>

namespace gantry::agent {

// What to pull for a task; nothing if it has no image. `container_id` is left empty.
[[nodiscard]] std::optional<fb::image::PullT> wanted_image(const fb::TaskInfoT& task);
[[nodiscard]] bool is_docker(const fb::TaskInfoT& task);

// What parameters of `docker run` mean for the first process; others belong to isolators.
struct DockerWishes {
  std::optional<std::string> user, working_directory;
  std::optional<std::vector<std::string>> entrypoint;
  std::vector<std::string> environment, groups;
  std::vector<std::string> heeded;  // keys, those without meaning here among them
};
[[nodiscard]] Result<DockerWishes> docker_wishes(const fb::TaskInfoT& task);

// The account that "user", "uid", "user:group" or "uid:gid" is in the image whose layers these are, lowest first: by its
// /etc/passwd and /etc/group. NOT_FOUND names what is not there. Blocks.
[[nodiscard]] Result<Account> account_in(const std::vector<std::string>& layers, const std::string& user, const std::vector<std::string>& more_groups);

// The bytes of a file of an image, as a container would see it at first. Links inside the image are followed. Blocks.
[[nodiscard]] std::optional<std::string> read_in_image(const std::vector<std::string>& layers, const std::string& path);

[[nodiscard]] ImageConfig config_of(const fb::image::ImageT& image);

}  // namespace gantry::agent
