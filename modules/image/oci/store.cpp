#include "store.hpp"

#include "digest.hpp"
#include "json.hpp"

#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace gantry::image_oci {
namespace {

constexpr std::size_t kMaxRecord = 16 << 20;

std::vector<std::string> names_in(const std::string& directory) {
  std::vector<std::string> out;
  const std::unique_ptr<DIR, int (*)(DIR*)> d(::opendir(directory.c_str()), &::closedir);
  if (!d) return out;
  while (const dirent* e = ::readdir(d.get()))
    if (std::strcmp(e->d_name, ".") != 0 && std::strcmp(e->d_name, "..") != 0) out.emplace_back(e->d_name);
  std::sort(out.begin(), out.end());
  return out;
}

// 130 bits of a digest in 26 letters and digits.
std::string short_name(const std::string& key) {
  const std::string_view hex = hex_of(key);
  std::string out;
  std::uint32_t bits = 0;
  int count = 0;
  for (const char c : hex) {
    bits = bits << 4 | static_cast<std::uint32_t>(c <= '9' ? c - '0' : c - 'a' + 10);
    for (count += 4; count >= 5 && out.size() < 26; count -= 5) out += "abcdefghijklmnopqrstuvwxyz234567"[bits >> (count - 5) & 31];
    if (out.size() == 26) break;
  }
  return out;
}

std::string file_name(std::string_view text) { return std::string(hex_of(digest_of(text))).substr(0, 32); }

json::array texts(const std::vector<std::string>& v) {
  json::array out;
  for (const std::string& s : v) out.emplace_back(s);
  return out;
}

void remove_below(const std::string& directory, const std::string& name) {
  const Fd at(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (at) (void)remove_tree(at.get(), name);
}

}  // namespace

Store::Pins::~Pins() {
  if (!store_) return;
  const std::lock_guard lock(store_->mutex_);
  for (const std::string& key : keys_)
    if (const auto it = store_->layers_.find(key); it != store_->layers_.end()) --it->second.pins;
}

Result<std::shared_ptr<Store>> Store::open(const std::string& directory, std::vector<std::string>& problems) {
  std::shared_ptr<Store> store(new Store(directory));
  if (Status s = store->load(problems); !s) return std::move(s).error();
  return store;
}

Status Store::load(std::vector<std::string>& problems) {
  GANTRY_CHECK(make_directory(directory_, 0700));
  // Layers hold devices and set-user-id files of strangers: nobody but the daemon may come near them other than in a container.
  if (::chmod(directory_.c_str(), 0700) != 0) return os_error("close " + directory_ + " to others", errno);
  for (const char* each : {"l", "layers", "images", "uses", "blobs", "tmp"}) GANTRY_CHECK(make_directory(directory_ + "/" + each, 0700));
  sweep();
  GANTRY_CHECK(load_layers(problems));
  for (const std::string& file : names_in(directory_ + "/images")) {
    const std::string path = directory_ + "/images/" + file;
    const auto read = [&]() -> Status {
      if (file.ends_with(".new")) return fail(Code::cancelled, "");
      GANTRY_TRY(const std::string text, read_file(path, kMaxRecord));
      GANTRY_TRY(const json::object object, parse_object(text, path));
      const Fields f(object, path + ":");
      ImageRecord r;
      GANTRY_TRY(r.name, f.text("name"));
      GANTRY_TRY(r.id, f.text("id"));
      GANTRY_TRY(r.digest, f.text("digest"));
      GANTRY_TRY(r.config_text, f.text("config"));
      GANTRY_TRY(r.layers, f.texts("layers"));
      GANTRY_TRY(r.used_ns, f.number("used_ns"));
      GANTRY_TRY(r.config, parse_config(r.config_text));
      images_[r.name] = std::move(r);
      return ok;
    };
    if (Status s = read(); !s) {
      if (s.error().code != Code::cancelled) problems.push_back("an image is forgotten: " + s.error().message);
      ::unlink(path.c_str());
    }
  }
  for (const std::string& file : names_in(directory_ + "/uses")) {
    const std::string path = directory_ + "/uses/" + file;
    const auto read = [&]() -> Status {
      if (file.ends_with(".new")) return fail(Code::cancelled, "");
      GANTRY_TRY(const std::string text, read_file(path, kMaxRecord));
      GANTRY_TRY(const json::object object, parse_object(text, path));
      const Fields f(object, path + ":");
      GANTRY_TRY(const std::string container, f.text("container"));
      Use u;
      GANTRY_TRY(u.image, f.text("image"));
      GANTRY_TRY(u.id, f.text("id"));
      GANTRY_TRY(u.layers, f.texts("layers"));
      uses_[container] = std::move(u);
      return ok;
    };
    if (Status s = read(); !s) {
      if (s.error().code != Code::cancelled) problems.push_back("a container's image is forgotten: " + s.error().message);
      ::unlink(path.c_str());
    }
  }
  return ok;
}

Status Store::load_layers(std::vector<std::string>& problems) {
  std::set<std::string> known;
  for (const std::string& file : names_in(directory_ + "/layers")) {
    const std::string path = directory_ + "/layers/" + file;
    struct stat st {};
    const auto read = [&]() -> Status {
      if (file.ends_with(".new") || ::stat((directory_ + "/l/" + file).c_str(), &st) != 0)
        return fail(Code::cancelled, "");  // never got there
      GANTRY_TRY(const std::string text, read_file(path, kMaxRecord));
      GANTRY_TRY(const json::object object, parse_object(text, path));
      const Fields f(object, path + ":");
      GANTRY_TRY(const std::string key, f.text("key"));
      GANTRY_CHECK(check_digest(key));
      if (short_name(key) != file) return fail(Code::data_loss, path + " is of another layer");
      GANTRY_TRY(layers_[key].size, f.number("size"));
      known.insert(file);
      return ok;
    };
    if (Status s = read(); !s) {
      if (s.error().code != Code::cancelled) problems.push_back("a layer is forgotten: " + s.error().message);
      ::unlink(path.c_str());
    }
  }
  for (const std::string& each : names_in(directory_ + "/l"))
    if (!known.count(each)) remove_below(directory_ + "/l", each);
  return ok;
}

void Store::sweep() {
  for (const std::string& each : names_in(directory_ + "/tmp")) remove_below(directory_ + "/tmp", each);
}

std::string Store::path(const std::string& key) const { return directory_ + "/l/" + short_name(key); }
std::string Store::blob_path(const std::string& digest) const { return directory_ + "/blobs/" + std::string(hex_of(digest)); }
std::string Store::image_path(const std::string& name) const { return directory_ + "/images/" + file_name(name); }
std::string Store::use_path(const std::string& container) const { return directory_ + "/uses/" + file_name(container); }

bool Store::find(const std::string& key, Pins& pins) {
  const std::lock_guard lock(mutex_);
  const auto it = layers_.find(key);
  if (it == layers_.end()) return false;
  ++it->second.pins;
  pins.keys_.push_back(key);
  return true;
}

std::uint64_t Store::size(const std::string& key) const {
  const std::lock_guard lock(mutex_);
  const auto it = layers_.find(key);
  return it == layers_.end() ? 0 : it->second.size;
}

Result<std::string> Store::begin() {
  const std::lock_guard lock(mutex_);
  std::string path = directory_ + "/tmp/" + std::to_string(next_++);
  if (::mkdir(path.c_str(), 0755) != 0) return os_error("create " + path, errno);
  (void)::chmod(path.c_str(), 0755);
  return path;
}

// One flush serves everybody who had written before it began.
Status Store::flush() {
  std::unique_lock lock(flush_mutex_);
  const std::uint64_t mine = flushes_begun_ + 1;
  while (flushes_done_ < mine) {
    if (flushing_) {
      flushed_.wait(lock);
      continue;
    }
    flushing_ = true;
    const std::uint64_t now = ++flushes_begun_;
    lock.unlock();
    const Fd fd(::open(directory_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    const int error = fd && ::syncfs(fd.get()) == 0 ? 0 : errno;
    lock.lock();
    flushing_ = false;
    flushes_done_ = now;
    flushed_.notify_all();
    if (error != 0) return os_error("write " + directory_ + " to the disk", error);
  }
  return ok;
}

Status Store::commit(const std::string& temporary, const std::string& key, std::uint64_t size, Pins& pins) {
  GANTRY_CHECK(flush());
  std::unique_lock lock(mutex_);
  if (const auto it = layers_.find(key); it != layers_.end()) {
    ++it->second.pins;
    pins.keys_.push_back(key);
    lock.unlock();
    abandon(temporary);
    return ok;
  }
  const std::string name = short_name(key);
  json::object record;
  record["key"] = key;
  record["size"] = size;
  GANTRY_CHECK(write_file(directory_ + "/layers/" + name, json::serialize(record)));
  if (::rename(temporary.c_str(), (directory_ + "/l/" + name).c_str()) != 0) return os_error("rename " + temporary, errno);
  GANTRY_CHECK(sync_directory(directory_ + "/l"));
  layers_[key] = {size, 1};
  pins.keys_.push_back(key);
  return ok;
}

void Store::abandon(const std::string& temporary) { remove_below(directory_ + "/tmp", temporary.substr(temporary.rfind('/') + 1)); }

void Store::blob_in_use(const std::string& path, bool used) {
  const std::lock_guard lock(mutex_);
  unsigned& n = blobs_[path];
  if (used)
    ++n;
  else if (--n == 0)
    blobs_.erase(path);
}

bool Store::complete(const ImageRecord& image) const {
  return std::all_of(image.layers.begin(), image.layers.end(), [&](const std::string& key) { return layers_.count(key) != 0; });
}

std::optional<ImageRecord> Store::image(const std::string& name) const {
  const std::lock_guard lock(mutex_);
  const auto it = images_.find(name);
  if (it == images_.end() || !complete(it->second)) return std::nullopt;
  return it->second;
}

std::vector<ImageRecord> Store::images() const {
  const std::lock_guard lock(mutex_);
  std::vector<ImageRecord> out;
  for (const auto& [name, image] : images_)
    if (complete(image)) out.push_back(image);
  return out;
}

std::uint64_t Store::total() const {
  const std::lock_guard lock(mutex_);
  std::uint64_t out = 0;
  for (const auto& [key, layer] : layers_) out += layer.size;
  return out;
}

Status Store::write_image(const ImageRecord& image) const {
  json::object record;
  record["name"] = image.name;
  record["id"] = image.id;
  record["digest"] = image.digest;
  record["layers"] = texts(image.layers);
  record["used_ns"] = image.used_ns;
  record["config"] = image.config_text;
  return write_file(image_path(image.name), json::serialize(record));
}

Status Store::put(const ImageRecord& image) {
  const std::lock_guard lock(mutex_);
  GANTRY_CHECK(write_image(image));
  images_[image.name] = image;
  return ok;
}

Status Store::use(const std::string& container, const ImageRecord& image, std::uint64_t now_ns) {
  const std::lock_guard lock(mutex_);
  if (!complete(image)) return fail(Code::aborted, "image " + image.name + " was removed meanwhile");
  json::object record;
  record["container"] = container;
  record["image"] = image.name;
  record["id"] = image.id;
  record["layers"] = texts(image.layers);
  GANTRY_CHECK(write_file(use_path(container), json::serialize(record)));
  uses_[container] = {image.name, image.id, image.layers};
  // When it was used last decides what goes first; if that is lost in a crash, little is.
  if (const auto it = images_.find(image.name); it != images_.end()) it->second.used_ns = now_ns;
  return ok;
}

Status Store::release(const std::string& container, std::uint64_t now_ns) {
  const std::lock_guard lock(mutex_);
  const auto it = uses_.find(container);
  if (it == uses_.end()) return ok;
  if (::unlink(use_path(container).c_str()) != 0 && errno != ENOENT) return os_error("release the image of container " + container, errno);
  GANTRY_CHECK(sync_directory(directory_ + "/uses"));
  if (const auto image = images_.find(it->second.image); image != images_.end()) {
    image->second.used_ns = now_ns;
    (void)write_image(image->second);
  }
  uses_.erase(it);
  return ok;
}

std::vector<std::string> Store::containers() const {
  const std::lock_guard lock(mutex_);
  std::vector<std::string> out;
  for (const auto& [container, use] : uses_) out.push_back(container);
  return out;
}

std::vector<std::string> Store::users(const ImageRecord& image) const {
  const std::lock_guard lock(mutex_);
  std::vector<std::string> out;
  for (const auto& [container, use] : uses_)
    if (use.id == image.id && use.image == image.name) out.push_back(container);
  return out;
}

// Layers of no image and no container. Moved aside under the lock, removed by sweep().
std::uint64_t Store::drop_layers() {
  std::set<std::string> needed;
  for (const auto& [name, image] : images_) needed.insert(image.layers.begin(), image.layers.end());
  for (const auto& [container, use] : uses_) needed.insert(use.layers.begin(), use.layers.end());
  std::uint64_t freed = 0;
  std::erase_if(layers_, [&](const auto& each) {
    if (each.second.pins > 0 || needed.count(each.first)) return false;
    const std::string name = short_name(each.first);
    if (::rename((directory_ + "/l/" + name).c_str(), (directory_ + "/tmp/" + std::to_string(next_++) + ".old").c_str()) != 0 &&
        errno != ENOENT)
      return false;
    ::unlink((directory_ + "/layers/" + name).c_str());
    freed += each.second.size;
    return true;
  });
  return freed;
}

Removed Store::remove(const std::function<bool(const std::string&)>& keep, const std::function<bool()>& enough,
                      const Cancelled& cancelled) {
  const std::lock_guard one(remove_);
  Removed out;
  const auto clear = [&] {
    for (const std::string& each : names_in(directory_ + "/tmp"))
      if (each.find(".old") != std::string::npos) remove_below(directory_ + "/tmp", each);
  };
  {
    const std::lock_guard lock(mutex_);
    for (const std::string& each : names_in(directory_ + "/blobs")) {
      const std::string path = directory_ + "/blobs/" + each;
      struct stat st {};
      if (blobs_.count(path) || ::stat(path.c_str(), &st) != 0) continue;
      if (::unlink(path.c_str()) == 0) out.size += static_cast<std::uint64_t>(st.st_blocks) * 512;
    }
    out.size += drop_layers();
  }
  clear();
  while (!cancelled() && !enough()) {
    {
      const std::lock_guard lock(mutex_);
      std::set<std::pair<std::string, std::string>> used;
      for (const auto& [container, use] : uses_) used.emplace(use.image, use.id);
      auto oldest = images_.end();
      for (auto it = images_.begin(); it != images_.end(); ++it) {
        if (used.count({it->first, it->second.id}) || keep(it->first)) continue;
        if (oldest == images_.end() || it->second.used_ns < oldest->second.used_ns) oldest = it;
      }
      if (oldest == images_.end()) break;
      if (::unlink(image_path(oldest->first).c_str()) != 0 && errno != ENOENT) break;
      out.images.push_back(oldest->first);
      images_.erase(oldest);
      out.size += drop_layers();
    }
    clear();
  }
  return out;
}

}  // namespace gantry::image_oci
