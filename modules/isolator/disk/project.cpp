#include "project.hpp"

#include "walk.hpp"

#include <fcntl.h>
#include <linux/dqblk_xfs.h>
#include <linux/fs.h>
#include <linux/quota.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>

#ifndef SYS_quotactl_fd
#define SYS_quotactl_fd 443  // Linux 5.14, the same on all machines
#endif

namespace gantry::isolator_disk {
namespace {

constexpr std::uint64_t block = 512;                        // basic block of the xfs calls
constexpr int enforced_bit = 1 << 5, counted_bit = 1 << 4;  // of qs_flags, for projects

class File {
 public:
  File(const std::string& path, int flags) : fd_(::open(path.c_str(), flags | O_CLOEXEC)) {}
  File(int directory, const char* name, int flags) : fd_(::openat(directory, name, flags | O_CLOEXEC)) {}
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  ~File() {
    if (fd_ >= 0) ::close(fd_);
  }
  [[nodiscard]] int get() const { return fd_; }

 private:
  int fd_;
};

// The device of a mount, for kernels that cannot be asked by descriptor.
std::string device_of(int fd) {
  struct stat st {};
  if (::fstat(fd, &st) != 0) return "";
  const std::string wanted = std::to_string(major(st.st_dev)) + ":" + std::to_string(minor(st.st_dev));
  std::ifstream in("/proc/self/mountinfo");
  for (std::string line; std::getline(in, line);) {
    std::istringstream words(line);
    std::string id, parent, numbers, word;
    words >> id >> parent >> numbers;
    if (numbers != wanted) continue;
    while (words >> word && word != "-") {
    }
    std::string type, source;
    if (words >> type >> source) return source;
  }
  return "";
}

// 0, or an errno.
int quotactl(int fd, int command, std::uint32_t project, void* data) {
  const int cmd = static_cast<int>(QCMD(static_cast<unsigned>(command), PRJQUOTA));
  if (::syscall(SYS_quotactl_fd, fd, cmd, project, data) == 0) return 0;
  if (errno != ENOSYS) return errno;
  const std::string device = device_of(fd);
  return ::syscall(SYS_quotactl, cmd, device.c_str(), project, data) == 0 ? 0 : errno;
}

Error path_error(const std::string& doing, const std::string& path, int e) {
  return fail(e == EPERM || e == EACCES ? Code::permission_denied
              : e == ENOENT             ? Code::not_found
                                        : Code::internal,
              doing + " " + path + ": " + std::strerror(e));
}

}  // namespace

Result<Quotas> quotas_at(const std::string& path) {
  const File at(path, O_RDONLY | O_DIRECTORY);
  if (at.get() < 0) return path_error("cannot look at", path, errno);
  fs_quota_stat state{};
  state.qs_version = FS_QSTAT_VERSION;
  if (quotactl(at.get(), Q_XGETQSTAT, 0, &state) != 0) return Quotas::none;
  if (!(state.qs_flags & counted_bit)) return Quotas::none;
  return state.qs_flags & enforced_bit ? Quotas::enforced : Quotas::counted;
}

Result<ProjectUse> project_use(const std::string& path, std::uint32_t project) {
  const File at(path, O_RDONLY | O_DIRECTORY);
  if (at.get() < 0) return path_error("cannot look at", path, errno);
  fs_disk_quota quota{};
  const int e = quotactl(at.get(), Q_XGETQUOTA, project, &quota);
  if (e == ENOENT) return ProjectUse{};  // xfs: never used
  if (e != 0) return path_error("cannot ask for the quota of project " + std::to_string(project) + " at", path, e);
  return ProjectUse{quota.d_bcount * block, quota.d_icount, quota.d_blk_hardlimit * block};
}

Status limit_project(const std::string& path, std::uint32_t project, std::uint64_t bytes) {
  const File at(path, O_RDONLY | O_DIRECTORY);
  if (at.get() < 0) return path_error("cannot look at", path, errno);
  fs_disk_quota quota{};
  quota.d_version = FS_DQUOT_VERSION;
  quota.d_flags = FS_PROJ_QUOTA;
  quota.d_fieldmask = FS_DQ_BHARD | FS_DQ_BSOFT;
  quota.d_id = project;
  quota.d_blk_hardlimit = quota.d_blk_softlimit = (bytes + block - 1) / block;
  const int e = quotactl(at.get(), Q_XSETQLIM, project, &quota);
  if (e == ENOENT && bytes == 0) return ok;  // xfs: there is nothing to take back
  if (e != 0) return path_error("cannot set the quota of project " + std::to_string(project) + " at", path, e);
  return ok;
}

Result<std::uint32_t> project_of(const std::string& path) {
  const File at(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  fsxattr attributes{};
  if (at.get() < 0 || ::ioctl(at.get(), FS_IOC_FSGETXATTR, &attributes) != 0) return path_error("cannot read the project of", path, errno);
  return attributes.fsx_projid;
}

Status label_project(const std::string& path, std::uint32_t project, std::uint32_t replacing, const std::atomic<bool>& cancelled) {
  int problem = 0;
  std::string where;
  const auto label = [&](const Entry& e) {
    if (!e.is_directory && !e.is_file) return;  // links and pipes cannot be opened for it and take next to no space
    const File file(e.directory, e.name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    fsxattr attributes{};
    if (file.get() < 0 || ::ioctl(file.get(), FS_IOC_FSGETXATTR, &attributes) != 0) {
      if (errno != ENOENT) problem = errno, where = e.name;
      return;
    }
    if (attributes.fsx_projid != replacing && attributes.fsx_projid != project) return;
    attributes.fsx_projid = project;
    if (e.is_directory) attributes.fsx_xflags |= FS_XFLAG_PROJINHERIT;
    if (::ioctl(file.get(), FS_IOC_FSSETXATTR, &attributes) != 0) problem = errno, where = e.name;
  };
  // What somebody makes while we are on the way inherits the number, or is found: a directory is labelled before it is read.
  GANTRY_TRY(const bool whole, walk(path, {}, cancelled, label));
  if (problem) return path_error("cannot put project " + std::to_string(project) + " on " + where + " in", path, problem);
  if (!whole) return fail(Code::aborted, path + " changed while project " + std::to_string(project) + " was put on it");
  return ok;
}

}  // namespace gantry::isolator_disk
