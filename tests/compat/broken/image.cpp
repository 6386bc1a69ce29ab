// What can be wrong with images: image/oci, whose answers are changed or which is not told what happens.
#include "shim.hpp"

#include "oci.hpp"

#include <gantry/image_generated.h>

#include <set>

namespace broken {
namespace {

namespace fi = gantry::fb::image;

class ImageShim final : public Shim {
 public:
  using Shim::Shim;

  void call(const gantry_call& c) override {
    const std::uint64_t token = c.token;
    switch (c.method) {
      case GANTRY_METHOD_RECOVER:
        if (fault("orphans_nobody")) return answer(token, GANTRY_OK, gantry::pack(fi::RecoveredT{}));
        break;
      case static_cast<std::uint32_t>(fi::Method::PULL): {
        auto pull = gantry::unpack<fi::Pull>(gantry::from_abi(c.body));
        if (!pull) break;
        if (fault("pulls_always") && pull->policy == fi::Policy::NEVER) pull->policy = fi::Policy::IF_ABSENT;
        if (fault("every_id_is_a_name") &&
            (pull->container_id.empty() || pull->container_id.find('/') != std::string::npos || pull->container_id == ".."))
          pull->container_id = "odd";
        if (fault("one_type_for_all")) pull->type = gantry::fb::ImageType::DOCKER;
        if (fault("forgets_users")) return pull_and_release(token, std::move(*pull));
        return pass_pull(c, *pull);
      }
      case static_cast<std::uint32_t>(fi::Method::RELEASE):
        if (fault("never_releases")) return answer(token, GANTRY_OK);
        if (fault("release_of_unknown_fails")) {
          const auto release = gantry::unpack<fi::Release>(gantry::from_abi(c.body));
          const std::lock_guard lock(mutex_);
          if (release && users_.erase(release->container_id) == 0) {
            const Buffer e =
                gantry::pack_error(gantry::fail(gantry::Code::not_found, "container " + release->container_id + " uses no image"));
            return answer(token, GANTRY_NOT_FOUND, e);
          }
        }
        break;
      case static_cast<std::uint32_t>(fi::Method::PRUNE):
        if (fault("ignores_exclude")) {
          kept_ = gantry::pack(fi::PruneT{});
          return pass(c, kept_);
        }
        break;
      default:
        break;
    }
    pass(c);
  }

  void complete(std::uint64_t token, gantry_code code, Bytes body) override {
    if (code == GANTRY_MORE && fault("progress_is_noise")) return answer(token, code, gantry::as_bytes("50%"));
    if (code == GANTRY_OK) {
      const auto image = gantry::unpack<fi::Image>(body);
      if (image && !image->layers.empty() && (fault("relative_layers") || fault("a_layer_is_missing"))) {
        auto changed = *gantry::unpack<fi::Image>(body);
        if (fault("relative_layers"))
          for (auto& l : changed.layers) l = l.substr(l.rfind('/') + 1);
        else
          changed.layers.pop_back();
        return answer(token, code, gantry::pack(changed));
      }
    } else if (code < 0 && fault("errors_without_name")) {
      return answer(token, code, gantry::pack_error(gantry::fail(static_cast<gantry::Code>(code), "it did not work")));
    }
    answer(token, code, body);
  }

 private:
  void pass_pull(const gantry_call& c, const fi::PullT& pull) {
    {
      const std::lock_guard lock(mutex_);
      users_.insert(pull.container_id);
    }
    kept_ = gantry::pack(pull);
    pass(c, kept_);
  }
  void pull_and_release(std::uint64_t token, fi::PullT pull) {
    fi::ReleaseT release;
    release.container_id = pull.container_id;
    own_call(static_cast<std::uint32_t>(fi::Method::PULL), gantry::pack(pull), [this, token, release](gantry_code code, Bytes body) {
      if (code == GANTRY_MORE) return answer(token, code, body);
      const auto reply = std::make_shared<Buffer>(body);
      if (code != GANTRY_OK) return answer(token, code, *reply);
      own_call(static_cast<std::uint32_t>(fi::Method::RELEASE), gantry::pack(release),
               [this, token, reply](gantry_code, Bytes) { answer(token, GANTRY_OK, *reply); });
    });
  }
  std::mutex mutex_;
  std::set<std::string> users_;
  Buffer kept_;  // the module has copied it when the call returns
};

}  // namespace

gantry_provider inner_provider() { return gantry::provider<gantry::image_oci::OciImages>("oci"); }
std::unique_ptr<Shim> make_shim(const gantry_host* real) { return std::make_unique<ImageShim>(real); }

}  // namespace broken
