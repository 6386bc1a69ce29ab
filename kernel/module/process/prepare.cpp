#include "kernel/module/process/prepare.hpp"

#include <sys/stat.h>

#include <ftw.h>
#include <pwd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>

namespace gantry::module::process {
namespace {

// nftw has no room for more.
thread_local uid_t new_uid;
thread_local gid_t new_gid;

int give(const char* path, const struct stat*, int, struct FTW*) { return ::lchown(path, new_uid, new_gid); }

bool may_enter(const struct stat& st, const passwd& user) {
  if (user.pw_uid == 0) return true;
  if (st.st_uid == user.pw_uid) return st.st_mode & S_IXUSR;
  if (st.st_gid == user.pw_gid) return st.st_mode & S_IXGRP;
  return st.st_mode & S_IXOTH;
}

}  // namespace

std::string find_program(const std::string& libexec) {
  std::error_code ec;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", ec);
  for (const auto& candidate : {self.parent_path() / "gantry-modhost", std::filesystem::path(libexec) / "gantry-modhost"})
    if (std::filesystem::exists(candidate, ec)) return candidate.string();
  return {};
}

std::string group_name(const std::string& work_dir) {
  std::error_code ec;
  std::uint64_t hash = 14695981039346656037u;  // FNV-1a: the same in every build
  for (const unsigned char c : std::filesystem::weakly_canonical(work_dir, ec).string()) hash = (hash ^ c) * 1099511628211u;
  char name[24];
  std::snprintf(name, sizeof name, "%08x", static_cast<unsigned>(hash ^ (hash >> 32)));
  return name;
}

Result<std::string> choose_user(const config::ModuleConfig& m) {
  if (!m.sandbox.user.empty()) {
    if (!::getpwnam(m.sandbox.user.c_str()))
      return fail(Code::failed_precondition, m.id() + ".sandbox.user: there is no user " + m.sandbox.user +
                                                 " on this machine; create it or name another");
    const passwd* own = ::getpwuid(::geteuid());
    if (::geteuid() != 0 && (!own || m.sandbox.user != own->pw_name))
      return fail(Code::permission_denied, m.id() + ".sandbox.user: a daemon that does not run as root cannot run a module as " +
                                               m.sandbox.user + "; leave it out or start gantryd as root");
    return ::geteuid() == 0 ? m.sandbox.user : std::string();
  }
  if (::geteuid() != 0) return std::string();
  if (!m.manifest.capabilities.empty()) return std::string("root");
  for (const char* name : {"gantry-module", "nobody"})
    if (::getpwnam(name)) return std::string(name);
  return fail(Code::failed_precondition, m.id() + " runs in a process of its own, and this machine has neither the user " +
                                             "gantry-module nor nobody to run it as; create one or set sandbox.user");
}

Status hand_over(const std::string& directory, const std::string& user) {
  const passwd* found = ::getpwnam(user.c_str());
  if (!found) return fail(Code::failed_precondition, "there is no user " + user);
  const passwd account = *found;
  struct stat st{};
  if (::lstat(directory.c_str(), &st) != 0)
    return fail(Code::unavailable, "cannot look at " + directory + ": " + std::strerror(errno));
  // It was somebody else's until now, so the module cannot have put anything into it that leads elsewhere.
  if (st.st_uid != account.pw_uid) {
    new_uid = account.pw_uid;
    new_gid = account.pw_gid;
    if (::nftw(directory.c_str(), give, 16, FTW_PHYS | FTW_DEPTH) != 0)
      return fail(Code::permission_denied, "cannot give " + directory + " to user " + user + ": " + std::strerror(errno));
  }
  (void)::chmod(directory.c_str(), 0700);
  for (auto above = std::filesystem::path(directory).parent_path(); above.has_relative_path(); above = above.parent_path())
    if (::stat(above.c_str(), &st) == 0 && !may_enter(st, account))
      return fail(Code::permission_denied, directory + " is the work directory of a module that runs as user " + user +
                                               ", which cannot enter " + above.string() + "; run chmod o+x " +
                                               above.string() + " or set the module's sandbox.user");
  return ok;
}

}  // namespace gantry::module::process
