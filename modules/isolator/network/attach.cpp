// What ATTACH and CLEANUP do on the pool, without the instance: record in, networks out, and back.
#include "network.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace gantry::isolator_network {
namespace {

Status errno_status(const std::string& what) { return fail(Code::unavailable, what + ": " + std::strerror(errno)); }

// The namespace stays reachable when its processes have ended: plugins want it for DEL.
Status keep_namespace(const std::string& path, int netns) {
  GANTRY_CHECK(overwrite_file(path, ""));
  if (::mount(("/proc/self/fd/" + std::to_string(netns)).c_str(), path.c_str(), nullptr, MS_BIND, nullptr) != 0)
    return errno_status("keep the network namespace at " + path);
  return ok;
}

// Rates on a CNI network whose plugins limit nothing: on the machine's end, if there is one.
Status limit_cni(const CniEnd& end, int netns) {
  if (end.rates == Rates()) return ok;
  GANTRY_TRY(const auto inside, Links::open(netns));
  GANTRY_TRY(const auto device, inside.find(end.interface));
  GANTRY_TRY(auto links, Links::open());
  std::optional<Device> outer;
  if (device && device->kind == "veth" && device->peer) {
    GANTRY_TRY(outer, links.find(device->peer));
  }
  if (!outer || outer->kind != "veth")
    return fail(Code::failed_precondition,
                "network \"" + end.network +
                    "\" cannot limit rates: no plugin of it declares the capability bandwidth, and it has no veth; "
                    "add plugin bandwidth to its configuration, or ask for no limit");
  return links.limit(outer->name, end.ifb, end.rates, outer->mtu);
}

}  // namespace

// The folder of a container has no folders of its own.
Status remove_folder(const std::string& folder) {
  DIR* dir = ::opendir(folder.c_str());
  if (!dir) return errno == ENOENT ? Status(ok) : errno_status("open " + folder);
  while (const dirent* e = ::readdir(dir))
    if (std::strcmp(e->d_name, ".") != 0 && std::strcmp(e->d_name, "..") != 0) ::unlinkat(::dirfd(dir), e->d_name, 0);
  ::closedir(dir);
  if (::rmdir(folder.c_str()) != 0 && errno != ENOENT) return errno_status("remove " + folder);
  return ok;
}

Resolver merged(Resolver base, const Resolver& over) {
  if (!over.nameservers.empty()) base.nameservers = over.nameservers;
  if (!over.search.empty()) base.search = over.search;
  if (!over.options.empty()) base.options = over.options;
  return base;
}

Result<AttachDone> attach_networks(AttachWork& work) {
  GANTRY_TRY(auto inside, Links::open(work.netns.get()));
  GANTRY_CHECK(inside.set_up_loopback());
  std::map<std::string, std::vector<std::string>> addresses;  // by interface
  if (work.record.bridge) {
    GANTRY_CHECK(work.bridge->connect(*work.record.bridge, work.netns.get(), inside));
    addresses[work.record.bridge->interface] = {to_text(work.record.bridge->address)};
  }
  Resolver told;
  if (!work.record.cni.empty()) {
    const std::string path = work.folder + "/netns";
    GANTRY_CHECK(keep_namespace(path, work.netns.get()));
    work.call.netns = path;
    for (CniEnd& end : work.record.cni) {
      GANTRY_TRY(CniResult result, cni_add(work.call, end));
      GANTRY_CHECK(limit_cni(end, work.netns.get()));
      if (told.empty()) told = result.dns;
      for (const auto& address : result.addresses)
        if (end.address.empty() && parse_interface(address)) end.address = address;
      if (const auto target = end.target()) {
        GANTRY_CHECK(replace_file(work.folder + "/record.json", print_record(work.record)));
        GANTRY_CHECK(work.bridge->map(*target));
      } else if (!end.ports.empty()) {
        return fail(Code::failed_precondition,
                    "network \"" + end.network + "\" gave the container no IPv4 address to which ports could be mapped");
      }
      addresses[end.interface] = std::move(result.addresses);
    }
    GANTRY_CHECK(replace_file(work.folder + "/record.json", print_record(work.record)));
    // In place: the container has these very files mounted.
    std::vector<std::string> all;
    for (const auto& [interface, some] : addresses) all.insert(all.end(), some.begin(), some.end());
    GANTRY_CHECK(overwrite_file(work.folder + "/hosts", hosts_file(work.record.hostname, all, work.extra_hosts)));
    if (!told.empty())
      GANTRY_CHECK(overwrite_file(work.folder + "/resolv.conf", print_resolv_conf(merged(merged(work.resolver, told), work.own))));
  }
  AttachDone done;
  fb::isolator::AttachedT attached;
  for (std::size_t i = 0; i < work.wanted.size(); ++i) {
    done.networks.push_back(answer(work.wanted[i], addresses["eth" + std::to_string(i)]));
    attached.networks.push_back(std::make_unique<fb::NetworkInfoT>(done.networks.back()));
  }
  const Buffer bytes = pack(attached);
  GANTRY_CHECK(replace_file(work.folder + "/attached", {reinterpret_cast<const char*>(bytes.data()), bytes.size()}));
  done.record = std::move(work.record);
  return done;
}

Status undo(const Record& record, const std::string& folder, CniCall call, Bridge* bridge) {
  Status first;
  const auto keep = [&first](Status s) {
    if (!s && first) first = std::move(s);
  };
  const std::string netns = folder + "/netns";
  // A plain file is what is left of a mount after a restart of the machine, or before it was made.
  const Fd file(::open(netns.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat inside{}, around{};
  const bool mounted = file && ::fstat(file.get(), &inside) == 0 && ::stat(folder.c_str(), &around) == 0 && inside.st_dev != around.st_dev;
  if (mounted) call.netns = netns;
  if (!record.cni.empty()) GANTRY_CHECK(wait_for_plugins(call.lock, call.timeout));
  for (auto end = record.cni.rbegin(); end != record.cni.rend(); ++end) keep(cni_del(call, *end));
  if (!record.cni.empty()) {
    auto links = Links::open();
    for (const CniEnd& end : record.cni)
      if (links && !end.ifb.empty()) keep(links->remove(end.ifb));
    for (const CniEnd& end : record.cni)
      if (const auto target = end.target()) keep(bridge->unmap(*target));
  }
  if (record.bridge) keep(bridge->disconnect(*record.bridge));
  if (!first) return first;
  if (mounted && ::umount2(netns.c_str(), MNT_DETACH) != 0) return errno_status("let go of the network namespace at " + netns);
  while (mounted && ::umount2(netns.c_str(), MNT_DETACH) == 0) {
  }  // an ATTACH that was repeated mounts it on top
  return remove_folder(folder);
}

}  // namespace gantry::isolator_network
