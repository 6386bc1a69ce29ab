#include "kernel/module/loader.hpp"

#include "kernel/base/fd.hpp"

#include <openssl/evp.h>
#include <boost/dll/shared_library.hpp>

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <mutex>

namespace gantry::module {
namespace {

std::string in_quotes(std::string_view s) { return "\"" + std::string(s) + "\""; }

std::string owner_name(std::uint32_t uid) { return uid == 0 ? "root" : "user " + std::to_string(uid); }

std::string octal(unsigned mode) {
  std::string s;
  for (int shift = 9; shift >= 0; shift -= 3) s += static_cast<char>('0' + ((mode >> shift) & 7));
  return s;
}

Status check_owner(const struct stat& st, const std::string& what, const std::string& path, const Trust& trust) {
  if (st.st_uid != 0 && st.st_uid != trust.owner)
    return fail(Code::permission_denied, what + " is owned by " + owner_name(st.st_uid) + ", the daemon runs as " +
                                             owner_name(trust.owner) +
                                             ": whoever owns it controls the daemon; run chown " +
                                             owner_name(trust.owner).substr(trust.owner ? 5 : 0) + " " + path);
  if (st.st_mode & (S_IWGRP | S_IWOTH))
    return fail(Code::permission_denied, what + " is writable by " + ((st.st_mode & S_IWOTH) ? "others" : "its group") +
                                             " (mode " + octal(st.st_mode & 07777) +
                                             "), and the daemon runs its code as " + owner_name(trust.owner) +
                                             "; run chmod go-w " + path);
  return ok;
}

Result<std::string> digest(int fd, const std::string& path) {
  const std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)> ctx(EVP_MD_CTX_new(), &EVP_MD_CTX_free);
  if (!ctx || EVP_DigestInit_ex(ctx.get(), EVP_sha256(), nullptr) != 1)
    return fail(Code::internal, "SHA-256 is not available in this OpenSSL");
  std::vector<char> block(1 << 16);
  for (;;) {
    const ssize_t n = ::read(fd, block.data(), block.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail(Code::unavailable, "cannot read " + path + ": " + std::strerror(errno));
    if (n == 0) break;
    EVP_DigestUpdate(ctx.get(), block.data(), static_cast<std::size_t>(n));
  }
  unsigned char out[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  EVP_DigestFinal_ex(ctx.get(), out, &size);
  std::string hex;
  for (unsigned i = 0; i < size; ++i) {
    hex += "0123456789abcdef"[out[i] >> 4];
    hex += "0123456789abcdef"[out[i] & 15];
  }
  return hex;
}

std::string range(std::uint16_t min, std::uint16_t max) {
  return min == max ? std::to_string(min) : std::to_string(min) + " to " + std::to_string(max);
}

std::string kind_list(std::span<const Kind> served) {
  std::string s;
  for (const Kind& k : served) (s += s.empty() ? "" : ", ") += k.name;
  return s;
}

// Keeps every library for the life of the process: modules' threads and static destructors survive no unloading.
void* map_library(const std::string& path, std::string& error) {
  static std::mutex mutex;
  static auto* libraries = new std::vector<boost::dll::shared_library>;
  const std::lock_guard lock(mutex);
  boost::dll::shared_library library;
  boost::dll::fs::error_code ec;
  library.load(path, boost::dll::load_mode::rtld_now | boost::dll::load_mode::rtld_local, ec);
  if (ec) {
    // Boost drops the dynamic linker's own words, which name the missing library or symbol.
    const char* why = ::dlerror();
    error = why ? why : ec.message();
    return nullptr;
  }
  if (!library.has(GANTRY_MODULE_SYMBOL)) {
    libraries->push_back(std::move(library));
    return nullptr;
  }
  void* symbol = const_cast<gantry_module*>(&library.get<const gantry_module>(GANTRY_MODULE_SYMBOL));
  libraries->push_back(std::move(library));
  return symbol;
}

}  // namespace

Trust Trust::current() { return {static_cast<std::uint32_t>(::geteuid())}; }

Status check_file(const std::string& path, const std::string& sha256, const Trust& trust) {
  const std::unique_ptr<char, void (*)(void*)> real(::realpath(path.c_str(), nullptr), &::free);
  if (!real)
    return fail(Code::not_found, "module file " + path + " cannot be found: " + std::strerror(errno) +
                                     "; set `path`, or install the module into a directory of kernel.module_dirs");
  const std::string file = real.get();
  const base::Fd fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat st {};
  if (!fd || ::fstat(fd.get(), &st) != 0)
    return fail(Code::permission_denied, "module file " + file + " cannot be opened: " + std::strerror(errno) +
                                             "; make it readable for the daemon");
  if (!S_ISREG(st.st_mode))
    return fail(Code::failed_precondition,
                "module file " + file + " is not a regular file; set `path` to the module's .so");
  GANTRY_CHECK(check_owner(st, "module file " + file, file, trust));
  const std::string directory = file.substr(0, std::max<std::size_t>(file.rfind('/'), 1));
  struct stat dir {};
  if (::stat(directory.c_str(), &dir) != 0)
    return fail(Code::permission_denied,
                "directory " + directory + " of a module cannot be examined: " + std::strerror(errno));
  GANTRY_CHECK(
      check_owner(dir, "directory " + directory + " of module " + file.substr(file.rfind('/') + 1), directory, trust));
  if (sha256.empty()) return ok;
  GANTRY_TRY(const std::string hex, digest(fd.get(), file));
  if (hex != sha256)
    return fail(Code::failed_precondition, "module file " + file + " has sha256 " + hex + ", the configuration pins " +
                                               sha256 + "; install the pinned file or change `sha256`");
  return ok;
}

Result<Loaded> bind_provider(const gantry_module* m, const config::Manifest& manifest, const std::string& kind,
                             const std::string& name, const std::string& source, std::span<const Kind> served,
                             Place place) {
  const auto refuse = [&](std::string why) {
    return fail(Code::failed_precondition, "module " + source + " " + std::move(why));
  };
  if (!m)
    return refuse("does not export " GANTRY_MODULE_SYMBOL "; build it with gantry_add_module() against ABI major " +
                  std::to_string(GANTRY_ABI_MAJOR));
  if (std::memcmp(m->magic, GANTRY_MAGIC, sizeof m->magic) != 0)
    return refuse("exports " GANTRY_MODULE_SYMBOL " without the mark " GANTRY_MAGIC
                  " this kernel expects; export it with GANTRY_MODULE or fill gantry_module.magic");
  const std::string kernel_abi = std::to_string(GANTRY_ABI_MAJOR) + "." + std::to_string(GANTRY_ABI_MINOR);
  if (m->abi_major != GANTRY_ABI_MAJOR)
    return refuse("was built for ABI " + std::to_string(m->abi_major) + "." + std::to_string(m->abi_minor) +
                  ", this kernel speaks " + kernel_abi +
                  "; rebuild it with the headers of this kernel or install the build for ABI " +
                  std::to_string(GANTRY_ABI_MAJOR));
  if (m->size < offsetof(gantry_module, build))
    return refuse("has a descriptor of " + std::to_string(m->size) + " bytes, ABI " + kernel_abi + " has " +
                  std::to_string(sizeof(gantry_module)) + "; rebuild it with abi.h unchanged");
  if (m->provider_count == 0 || !m->providers || m->provider_count > 1024)
    return refuse("has " + std::to_string(m->provider_count) +
                  " providers, this kernel needs 1 to 1024; export one with GANTRY_MODULE");
  // The part the kernel calls; `extension` and what later minors append may be missing.
  constexpr std::size_t least = offsetof(gantry_provider, extension);
  if (m->provider_stride < least || m->provider_stride % alignof(gantry_provider) != 0)
    return refuse("has provider records " + std::to_string(m->provider_stride) + " bytes apart, ABI " + kernel_abi +
                  " needs at least " + std::to_string(least) + " and a multiple of " +
                  std::to_string(alignof(gantry_provider)) + "; set provider_stride = sizeof(gantry_provider)");
  const gantry_provider* found = nullptr;
  std::string offered;
  for (std::uint32_t i = 0; i < m->provider_count; ++i) {
    const auto* p = reinterpret_cast<const gantry_provider*>(reinterpret_cast<const char*>(m->providers) +
                                                             std::size_t{i} * m->provider_stride);
    if (p->size < least || p->size > m->provider_stride)
      return refuse("has a provider record of " + std::to_string(p->size) + " bytes, ABI " + kernel_abi + " needs " +
                    std::to_string(least) + " to its stride of " + std::to_string(m->provider_stride) +
                    "; set size = sizeof(gantry_provider)");
    if (!p->kind || !p->name)
      return refuse("has a provider without kind or name; this kernel needs both, fill them in");
    (offered += offered.empty() ? "" : ", ") += std::string(p->kind) + "." + p->name;
    if (kind == p->kind && name == p->name) found = p;
  }
  const std::string id = kind + "." + name;
  if (manifest.id() != id)
    return refuse("carries the manifest of " + manifest.id() + ", the configuration asks it for " + id +
                  "; correct the table's name or `path`");
  if (!found)
    return refuse("says in its manifest that it is " + id + ", its descriptor offers " + offered +
                  "; build both from one module.toml");
  const Kind* k = find_kind(kind, served);
  if (!k)
    return refuse("is of kind " + in_quotes(kind) + ", this kernel serves " + kind_list(served) +
                  "; remove it or upgrade gantryd");
  if (found->rev_min != manifest.revision_min || found->rev_max != manifest.revision_max)
    return refuse("says in its manifest that it speaks revision " +
                  range(manifest.revision_min, manifest.revision_max) + " of " + kind + ", its descriptor says " +
                  range(found->rev_min, found->rev_max) + "; build both from one module.toml");
  if (found->rev_min > found->rev_max || found->rev_min > k->current || found->rev_max < k->previous)
    return refuse("speaks revision " + range(found->rev_min, found->rev_max) + " of kind " + kind +
                  ", this kernel serves " + range(k->previous, k->current) + "; " +
                  (found->rev_min > k->current ? "upgrade gantryd or install an older build of the module"
                                               : "install a newer build of the module"));
  if (!found->create || !found->call || !found->destroy || !found->reply || !found->cancel)
    return refuse("leaves a function of its provider " + id +
                  " empty, this kernel calls create, call, reply, cancel and destroy; fill them in");
  if ((found->flags & GANTRY_NEEDS_PROCESS) && place == Place::kernel)
    return refuse("must run in a process of its own (GANTRY_NEEDS_PROCESS), [" + id +
                  "] runs it in the kernel's; write host = \"process\" there");
  if ((found->flags & GANTRY_NEVER_PROCESS) && place == Place::process)
    return refuse("cannot run in a process of its own (GANTRY_NEVER_PROCESS), [" + id +
                  "] asks for that; write host = \"kernel\" there");
  Loaded out;
  std::memcpy(&out.provider, found, std::min<std::size_t>(found->size, sizeof(gantry_provider)));
  out.provider.size = sizeof(gantry_provider);
  out.revision = std::min(found->rev_max, k->current);
  if (m->size >= offsetof(gantry_module, build) + sizeof(m->build) && m->build) out.build = m->build;
  return out;
}

Result<Loaded> map_provider(const std::string& file, const config::Manifest& manifest, const std::string& kind,
                            const std::string& name, const std::string& source, std::span<const Kind> served,
                            Place place) {
  std::string error;
  const void* symbol = map_library(file, error);
  if (!error.empty())
    return fail(Code::failed_precondition, "module " + source + " cannot be mapped into " +
                                               (place == Place::kernel ? "this kernel: " : "its process: ") + error +
                                               "; install what it needs or rebuild it for this machine");
  return bind_provider(static_cast<const gantry_module*>(symbol), manifest, kind, name, source, served, place);
}

namespace {

Status check_stable(const config::ModuleConfig& module, const config::Manifest& manifest) {
  if (!manifest.unstable || module.allow_unstable) return ok;
  return fail(Code::failed_precondition,
              "module " + module.path +
                  " marks itself unstable, which this kernel does not load unasked; set allow_unstable = true in [" +
                  module.id() + "] or use a stable build");
}

}  // namespace

Status check_unmapped(const config::ModuleConfig& module, std::span<const Kind> served) {
  GANTRY_CHECK(check_file(module.path, module.sha256));
  config::Manifest read;
  const config::Manifest* manifest = &module.manifest;
  if (manifest->kind.empty()) {
    GANTRY_TRY(read, config::read_manifest(module.path));
    manifest = &read;
  }
  if (manifest->id() != module.id())
    return fail(Code::failed_precondition, "module " + module.path + " carries the manifest of " + manifest->id() +
                                               ", the configuration asks it for " + module.id() +
                                               "; correct the table's name or `path`");
  const Kind* k = find_kind(module.kind, served);
  if (!k)
    return fail(Code::failed_precondition, "module " + module.path + " is of kind " + in_quotes(module.kind) +
                                               ", this kernel serves " + kind_list(served) +
                                               "; remove it or upgrade gantryd");
  if (manifest->revision_min > k->current || manifest->revision_max < k->previous)
    return fail(Code::failed_precondition,
                "module " + module.path + " speaks revision " + range(manifest->revision_min, manifest->revision_max) +
                    " of kind " + module.kind + ", this kernel serves " + range(k->previous, k->current) + "; " +
                    (manifest->revision_min > k->current ? "upgrade gantryd or install an older build of the module"
                                                         : "install a newer build of the module"));
  return check_stable(module, *manifest);
}

Result<Loaded> load_library(const config::ModuleConfig& module, std::span<const Kind> served) {
  GANTRY_CHECK(check_file(module.path, module.sha256));
  config::Manifest read;
  const config::Manifest* manifest = &module.manifest;
  if (manifest->kind.empty()) {
    GANTRY_TRY(read, config::read_manifest(module.path));
    manifest = &read;
  }
  GANTRY_CHECK(check_stable(module, *manifest));
  return map_provider(module.path, *manifest, module.kind, module.name, module.path, served, Place::kernel);
}

}  // namespace gantry::module
