// Layers of images: no crash, and nothing outside the layer's directory, whatever the archive says.
#include "modules/image/oci/base.hpp"
#include "modules/image/oci/unpack.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>

using namespace gantry::image_oci;

namespace {

// A directory in memory if there is one, with a file beside the layer that must stay as it is.
struct Place {
  Place() {
    char name[] = "/dev/shm/gantry-fuzz-XXXXXX", other[] = "/tmp/gantry-fuzz-XXXXXX";
    const char* made = ::mkdtemp(name);
    if (!made) made = ::mkdtemp(other);
    if (!made) std::abort();
    path = made;
    fd = Fd(::open(made, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    ::close(::openat(fd.get(), "canary", O_CREAT | O_WRONLY | O_CLOEXEC, 0400));
  }
  ~Place() {
    const Fd above(::openat(fd.get(), "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    (void)remove_tree(above.get(), path.substr(path.rfind('/') + 1));
  }
  std::string path;
  Fd fd;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const Place place;
  ::mkdirat(place.fd.get(), "layer", 0755);
  std::size_t at = 0;
  const Pull pull = [&](char* to, std::size_t room) -> gantry::Result<std::size_t> {
    const std::size_t n = std::min(room, size - at);
    std::memcpy(to, data + at, n);
    at += n;
    return n;
  };
  const auto unpacked = unpack(pull, place.path + "/layer", {4 << 20, 500}, [] { return false; });
  if (unpacked) {
    if (unpacked->size > (4 << 20) || unpacked->diff_id.size() != 71) std::abort();
    (void)complete(*unpacked, place.path + "/layer", {});
  } else if (unpacked.error().message.empty()) {
    std::abort();
  }
  std::size_t beside = 0;
  for (const auto& each : std::filesystem::directory_iterator(place.path)) {
    ++beside;
    struct stat st {};
    if (each.path().filename() == "canary" &&
        (::lstat(each.path().c_str(), &st) != 0 || st.st_size != 0 || st.st_nlink != 1 || (st.st_mode & 07777) != 0400))
      std::abort();
  }
  if (beside != 2) std::abort();
  if (!remove_tree(place.fd.get(), "layer")) std::abort();
  return 0;
}
