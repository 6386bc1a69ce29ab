// What registries and layouts say in words: names, manifests, configurations, challenges, credentials, indexes of archives.
#include "modules/image/oci/credentials.hpp"
#include "modules/image/oci/digest.hpp"
#include "modules/image/oci/local.hpp"
#include "modules/image/oci/manifest.hpp"
#include "modules/image/oci/reference.hpp"
#include "modules/image/oci/registry.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <string_view>

using namespace gantry::image_oci;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data + 1), size - 1);
  switch (data[0] % 6) {
    case 0: {
      const auto r = parse_reference(text);
      // A name in full means the same again, and cannot be a path that leads anywhere.
      if (r && (!parse_reference(r->text()) || parse_reference(r->text())->text() != r->text())) std::abort();
      if (r && r->text().find("..") != std::string::npos && r->repository.find("..") != std::string::npos) std::abort();
      (void)parse_local(text);
      break;
    }
    case 1: {
      const auto m = parse_manifest(text, "");
      if (!m && m.error().message.empty()) std::abort();
      if (m)
        for (const auto* list : {&m->layers, &m->manifests})
          for (const Descriptor& d : *list)
            if (!check_digest(d.digest)) std::abort();
      if (m) (void)choose(m->manifests, {"linux", "arm", "v7"});
      (void)signed_part(text);
      break;
    }
    case 2: {
      const auto c = parse_config(text);
      if (c)
        for (const auto& e : c->env)
          if (e.find('\0') != std::string::npos) std::abort();
      break;
    }
    case 3:
      (void)parse_challenge(text);
      break;
    case 4: {
      const auto c = Credentials::parse(text, "file", true);
      if (c) (void)registry_of_key(text);
      break;
    }
    default: {
      static const int fd = ::memfd_create("archive", MFD_CLOEXEC);
      if (fd < 0 || ::ftruncate(fd, 0) != 0 || ::pwrite(fd, text.data(), text.size(), 0) != static_cast<ssize_t>(text.size())) break;
      const auto members = index_tar(fd, [] { return false; });
      if (members)
        for (const auto& [name, m] : *members)
          if (m.offset + m.size > text.size() || name.empty() || name.front() == '/') std::abort();
    }
  }
  return 0;
}
