// The image of a container: pulled, and the account and the command found in it.
#include "kernel/agent/container_launcher.hpp"
#include "kernel/base/log.hpp"

#include <gantry/image_generated.h>

namespace gantry::agent {
namespace {

using ImageMethod = fb::image::Method;
constexpr std::uint32_t id(ImageMethod m) { return static_cast<std::uint32_t>(m); }
constexpr auto progress_interval = std::chrono::seconds(10);

std::string megabytes(std::uint64_t bytes) { return std::to_string((bytes + (1u << 19)) >> 20) + " MB"; }

}  // namespace

Task<Status> ContainerLauncher::pull_and_prepare(ContainerPtr c) {
  GANTRY_CO_CHECK(co_await pull(c));
  if (c->kill_wanted || stopping_) co_return fail(Code::cancelled, "killed while it was being launched");
  if (c->image) {
    const fb::TaskInfoT& task = *c->spec.task;
    const bool docker = is_docker(task);
    ImageConfig config = config_of(*c->image);
    // Whoever is named for this task alone comes first, then the image's own user; the framework's is for tasks nobody else names.
    const std::string named = c->docker.user.value_or(docker || c->user_in_image ? task.command->user : "");
    const std::string user = !named.empty() ? named : task.command->user.empty() || docker ? config.user : "";
    if (options_.switch_user && (!user.empty() || docker)) {
      auto find = [layers = c->image->layers, user = user.empty() ? std::string("0") : user, groups = c->docker.groups] { return account_in(layers, user, groups); };
      auto found = co_await off(std::move(find));
      if (!found) co_return std::move(found).error().because("image " + c->image->name);
      c->how.account = std::move(*found);
    }
    if (c->docker.entrypoint) {
      config.entrypoint = *c->docker.entrypoint;
      config.command.clear();
    }
    GANTRY_CO_CHECK(put_command(c->how, *task.command, &config, docker));
    c->how.directory = c->docker.working_directory.value_or(config.working_directory);
    if (c->how.directory.empty() && docker) c->how.directory = "/";
    if (!c->how.directory.empty() && (c->how.directory[0] != '/' || c->how.directory.find('\0') != std::string::npos)) c->how.directory.insert(0, "/");
  }
  co_return co_await prepare(c);
}

Task<Status> ContainerLauncher::pull(ContainerPtr c) {
  auto wanted = wanted_image(*c->spec.task);
  if (!wanted) co_return ok;
  if (!options_.image) co_return fail(Code::failed_precondition, "the task has the image " + wanted->name + ", but this agent has no module for images; configure one, e.g. [image.oci]");
  wanted->container_id = c->spec.container_id;
  c->undo.push_back([this, name = c->spec.container_id] { return release_image(name); });
  co_await until_back(options_.image);
  Promise<Result<Buffer>> done;
  const base::Instant begun = loop_.now();
  auto told = std::make_shared<base::Instant>(begun);
  const std::uint64_t call = options_.image->call(id(ImageMethod::PULL), pack(*wanted), [this, done, told, name = wanted->name](gantry_code code, Bytes bytes) {
    if (code != GANTRY_MORE) return code == GANTRY_OK ? done.set(Buffer(bytes)) : done.set(unpack_error(code, bytes));
    if (loop_.now() - *told < progress_interval) return;
    const auto progress = unpack<fb::image::Progress>(bytes);
    if (!progress) return;
    *told = loop_.now();
    std::uint64_t have = 0, all = 0;
    for (const auto& l : progress->layers) have += l->done, all += l->total;
    base::log_info("agent", "pulling an image", {{"image", name}, {"done", megabytes(have)}, {"of", megabytes(all)}});
  });
  c->interrupt_pull = [this, call] { options_.image->cancel(call); };
  Result<Buffer> reply = co_await done.get();
  c->interrupt_pull = nullptr;
  if (!reply) co_return std::move(reply).error().because("Failed to pull the image '" + wanted->name + "'");
  auto image = unpack<fb::image::Image>(Bytes(*reply));
  if (!image) co_return std::move(image).error().because(options_.image->id() + " answered what is no image");
  if (image->layers.empty()) co_return fail(Code::failed_precondition, "the image " + image->name + " has no layers: there is nothing to run in it");
  const auto seconds = std::chrono::duration<double>(loop_.now() - begun).count();
  if (seconds > 1) base::log_info("agent", "pulled an image", {{"image", image->name}, {"size", megabytes(image->size)}, {"seconds", std::to_string(seconds)}});
  c->image = std::move(*image);
  co_return ok;
}

Task<void> ContainerLauncher::release_image(std::string container_id) {
  fb::image::ReleaseT body;
  body.container_id = container_id;
  const auto done = co_await ask(options_.image, id(ImageMethod::RELEASE), pack(body));
  if (!done) base::log_error("agent", options_.image->id() + " could not release an image: " + done.error().message, {{"container", container_id}});
}

}  // namespace gantry::agent
