#include "@NAME_ID@.hpp"

#include <filesystem>
#include <set>

namespace @NAME_ID@ {

using namespace gantry;
namespace fi = fb::image;
namespace fs = std::filesystem;

Task<Status> @CLASS@::configure(Settings settings) {
  root_ = settings.text("root");
  if (settings.reload()) co_return ok;
  GANTRY_CO_TRY(images_, Records::open(settings.work_dir() + "/images"));
  GANTRY_CO_TRY(users_, Records::open(settings.work_dir() + "/users"));
  co_return ok;
}

// What takes long - a download, an archive - goes to host().offload(); then keep the responder, and send Progress with more().
void @CLASS@::pull(Request<fi::Pull> request, Responder responder) {
  const auto image = bring(*request);
  if (image) responder.complete(Bytes(pack(*image)));
  else responder.fail(image.error());
}

Result<fi::ImageT> @CLASS@::bring(const fi::Pull& request) {
  const std::string container(text(request.container_id())), name(text(request.name()));
  if (!is_file_name(container)) return fail(Code::invalid_argument, "container_id \"" + container.substr(0, 100) + "\" is no name of a container");
  if (request.type() != fb::ImageType::DOCKER) return fail(Code::unimplemented, "images of this type are not supported; use type DOCKER");
  if (!is_file_name(name)) return fail(Code::invalid_argument, "image \"" + name.substr(0, 300) + "\" is no name; it is that of a directory in " + root_);
  if (!images_.has(name)) {
    if (request.policy() == fi::Policy::NEVER) return fail(Code::not_found, "image " + name + " was not pulled yet, and the policy is NEVER");
    std::error_code ec;
    if (!fs::is_directory(root_ + "/" + name, ec)) return fail(Code::not_found, "image " + name + ": there is no such directory in " + root_);
    GANTRY_CHECK(images_.put(name, ""));
  }
  // Who uses it is on the disk before the answer leaves.
  GANTRY_CHECK(users_.put(container, name));
  return describe(name);
}

fi::ImageT @CLASS@::describe(const std::string& name) const {
  fi::ImageT image;
  image.id = image.name = name;
  image.layers = {fs::absolute(root_ + "/" + name).string()};
  image.config = std::make_unique<fi::ConfigT>();
  for (const auto& [container, used] : users_.all())
    if (used == name) image.containers.push_back(container);
  return image;
}

Task<Status> @CLASS@::release(Request<fi::Release> request) { co_return users_.remove(std::string(text(request->container_id()))); }

Task<Result<fi::ImageT>> @CLASS@::inspect(Request<fi::Inspect> request) {
  const std::string name(text(request->name()));
  if (!images_.has(name)) co_return fail(Code::not_found, "image " + name.substr(0, 300) + " is not on this agent");
  co_return describe(name);
}

Task<Result<fi::ImagesT>> @CLASS@::list(Request<fi::List>) {
  fi::ImagesT out;
  for (const auto& [name, nothing] : images_.all()) out.images.push_back(std::make_unique<fi::ImageT>(describe(name)));
  co_return out;
}

Task<Result<fi::PrunedT>> @CLASS@::prune(Request<fi::Prune> request) {
  std::set<std::string> keep;
  if (const auto* exclude = request->exclude())
    for (const auto* name : *exclude) keep.emplace(text(name));
  for (const auto& [container, name] : users_.all()) keep.insert(name);
  fi::PrunedT out;
  for (const auto& [name, nothing] : images_.all())
    if (!keep.count(name)) out.images.push_back(name);
  for (const std::string& name : out.images) GANTRY_CO_CHECK(images_.remove(name));
  co_return out;
}

Task<Result<fi::RecoveredT>> @CLASS@::recover(Request<fi::Recover> request) {
  std::set<std::string> alive;
  if (const auto* containers = request->containers())
    for (const auto* container : *containers) alive.emplace(text(container));
  fi::RecoveredT out;
  for (const auto& [container, name] : users_.all())
    if (!alive.count(container)) out.orphans.push_back(container);
  co_return out;
}

}  // namespace @NAME_ID@
