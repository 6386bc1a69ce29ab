// Layers, images and who uses them, in the module's directory:
//
//   l/<26 letters>       a layer, complete; the name is short because mount(2) takes a page of them
//   layers/<26 letters>  its record: key (digest) and size
//   images/<hash>        an image by its name in full: id, configuration, keys of its layers
//   uses/<hash>          a container and the image it uses
//   blobs/<hex>          bytes of layers on their way
//   tmp/                 layers being unpacked, and what is being removed
//
// Records are written aside and renamed; a layer is renamed to its place when it is complete and on the disk, after its record.
// Whenever the process dies, what is found later is complete or gone.
#pragma once

#include "base.hpp"
#include "manifest.hpp"

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace gantry::image_oci {

struct ImageRecord {
  std::string name, id, digest;
  std::string config_text;
  std::vector<std::string> layers;  // keys, lowest first
  std::uint64_t used_ns = 0;
  ImageConfig config;  // of config_text
};

struct Removed {
  std::vector<std::string> images;
  std::uint64_t size = 0;
};

// All members may be called from any thread; they block on the disk, none for long but open(), commit() and remove().
class Store {
 public:
  // Makes what is missing and clears what an interrupted process left; `problems` are sentences about records that could not be
  // read and are gone.
  [[nodiscard]] static Result<std::shared_ptr<Store>> open(const std::string& directory, std::vector<std::string>& problems);

  // ---- layers, while they are needed by somebody
  class Pins {
   public:
    Pins() = default;
    explicit Pins(std::shared_ptr<Store> store) : store_(std::move(store)) {}
    Pins(Pins&&) = default;
    Pins& operator=(Pins&&) = default;
    ~Pins();

   private:
    friend class Store;
    std::shared_ptr<Store> store_;
    std::vector<std::string> keys_;
  };
  // Whether the layer is here; it will not be removed as long as `pins` live.
  [[nodiscard]] bool find(const std::string& key, Pins& pins);
  [[nodiscard]] std::string path(const std::string& key) const;
  [[nodiscard]] std::uint64_t size(const std::string& key) const;
  // A new empty directory for a layer to be.
  [[nodiscard]] Result<std::string> begin();
  // It is complete: to the disk, then to its place. If it is there already, that one stays.
  [[nodiscard]] Status commit(const std::string& temporary, const std::string& key, std::uint64_t size, Pins& pins);
  void abandon(const std::string& temporary);
  [[nodiscard]] std::string blob_path(const std::string& digest) const;
  void blob_in_use(const std::string& path, bool used);

  // ---- images
  // Complete ones only.
  [[nodiscard]] std::optional<ImageRecord> image(const std::string& name) const;
  [[nodiscard]] std::vector<ImageRecord> images() const;
  [[nodiscard]] std::uint64_t total() const;  // bytes of all layers
  [[nodiscard]] Status put(const ImageRecord& image);
  // From now on its layers stay, until release(). A second one for the same container replaces the first.
  [[nodiscard]] Status use(const std::string& container, const ImageRecord& image, std::uint64_t now_ns);
  [[nodiscard]] Status release(const std::string& container, std::uint64_t now_ns);
  [[nodiscard]] std::vector<std::string> containers() const;
  [[nodiscard]] std::vector<std::string> users(const ImageRecord& image) const;

  // Images in use by nobody, the least recently used first, until `enough()` is true, and layers that belong to none, unless pinned;
  // `keep` decides by name. Also beginnings of layers that no pull waits for.
  [[nodiscard]] Removed remove(const std::function<bool(const std::string& name)>& keep, const std::function<bool()>& enough,
                               const Cancelled& cancelled);

 private:
  struct Layer {
    std::uint64_t size = 0;
    unsigned pins = 0;
  };
  struct Use {
    std::string image, id;
    std::vector<std::string> layers;
  };
  explicit Store(std::string directory) : directory_(std::move(directory)) {}
  Status load(std::vector<std::string>& problems);
  Status load_layers(std::vector<std::string>& problems);
  [[nodiscard]] std::string image_path(const std::string& name) const;
  [[nodiscard]] std::string use_path(const std::string& container) const;
  [[nodiscard]] Status write_image(const ImageRecord& image) const;
  [[nodiscard]] bool complete(const ImageRecord& image) const;
  std::uint64_t drop_layers();
  void sweep();
  [[nodiscard]] Status flush();

  const std::string directory_;
  mutable std::mutex mutex_;
  std::mutex remove_;  // one removal at a time
  std::mutex flush_mutex_;
  std::condition_variable flushed_;
  std::uint64_t flushes_begun_ = 0, flushes_done_ = 0;
  bool flushing_ = false;
  std::map<std::string, Layer> layers_;
  std::map<std::string, ImageRecord> images_;
  std::map<std::string, Use> uses_;
  std::map<std::string, unsigned> blobs_;
  std::uint64_t next_ = 0;
};

}  // namespace gantry::image_oci
