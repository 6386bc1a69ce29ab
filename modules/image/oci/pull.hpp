// One image from its source into the store: resolve, bring and unpack the layers that are missing, several at once, record.
#pragma once

#include "credentials.hpp"
#include "reference.hpp"
#include "registry.hpp"
#include "store.hpp"
#include "unpack.hpp"

#include <condition_variable>
#include <memory>
#include <mutex>

namespace gantry::image_oci {

enum class Policy { if_absent, always, never };

struct PullOptions {
  std::string default_registry{kDockerHub};
  std::string archives;            // directory of archives and layouts, looked into before registries; empty: none
  std::vector<std::string> local;  // directories whose files may be named as images: file:///...
  std::string credentials;         // file; empty: none
  RegistryOptions registry;
  Platform platform = Platform::here();
  unsigned parallel = 3;  // layers at once, of all pulls together
  UnpackLimits limits;
};

struct PullRequest {
  std::string container;
  std::string name;
  Policy policy = Policy::if_absent;
  std::optional<Account> account;
  std::string config;  // accounts as JSON, beside those of PullOptions::credentials
};

struct LayerProgress {
  enum class State { waiting, transferring, complete, shared };
  std::string digest;
  State state = State::waiting;
  std::uint64_t done = 0, total = 0;
  bool operator==(const LayerProgress&) const = default;
};
using OnProgress = std::function<void(const std::vector<LayerProgress>&)>;

// A name in full, as images are recorded under. INVALID_ARGUMENT.
[[nodiscard]] Result<std::string> full_name(const std::string& name, const std::string& default_registry);

// What pulls that run at the same time share: none brings a layer that another one is bringing, and together they bring at most
// `parallel` at once. All members from any thread.
class Traffic {
 public:
  explicit Traffic(unsigned parallel) : parallel_(parallel) {}
  void set_parallel(unsigned parallel);
  // Blocks until nobody else brings these bytes, then until there is a free place. `mine` is false if it had to wait for
  // somebody: look again whether the layer is there. CANCELLED.
  class Turn {
   public:
    Turn(Turn&& o) noexcept : traffic_(std::exchange(o.traffic_, nullptr)), digest_(std::move(o.digest_)) {}
    Turn& operator=(Turn&&) = delete;
    ~Turn();

   private:
    friend class Traffic;
    Turn(Traffic* traffic, std::string digest) : traffic_(traffic), digest_(std::move(digest)) {}
    Traffic* traffic_;
    std::string digest_;
  };
  [[nodiscard]] Result<Turn> take(const std::string& digest, const Cancelled& cancelled);

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::set<std::string> under_way_;
  unsigned parallel_, busy_ = 0;
};

// Blocking; starts threads and ends them. `on_progress` is called on this thread, a few times a second at most. `now_ns` is the
// wall clock's.
[[nodiscard]] Result<ImageRecord> pull(const PullRequest& request, const PullOptions& options, const std::shared_ptr<Store>& store,
                                       Traffic& traffic, const OnProgress& on_progress, const Cancelled& cancelled, std::uint64_t now_ns);

}  // namespace gantry::image_oci
