#include "bridge.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstdio>

namespace gantry::isolator_network {

std::string short_hash(std::string_view s) {
  std::uint32_t hash = 2166136261u;
  for (const char c : s) hash = (hash ^ static_cast<unsigned char>(c)) * 16777619u;
  char out[9];
  std::snprintf(out, sizeof out, "%08x", hash);
  return out;
}

Bridge::Bridge(std::string device, Subnet subnet, std::string owner, std::string note, bool ip_forward)
    : device_(std::move(device)), owner_(std::move(owner)), note_(std::move(note)), subnet_(subnet), ip_forward_(ip_forward),
      ports_("gantry-" + owner_, device_, subnet) {}

bool Bridge::is_ours(const Device& d) const {
  if (d.kind != "bridge") return false;
  if (d.alias.rfind("gantry " + owner_ + " ", 0) == 0) return true;
  // It gets its alias last: one without is ours if we noted that we would make it.
  return d.alias.empty() && read_file(note_) == device_ + "\n";
}

std::vector<Target> Bridge::targets() const {
  std::vector<Target> out;
  for (const auto& [address, target] : members_) out.push_back(target);
  return out;
}

Status Bridge::install() {
  GANTRY_CHECK(replace_file(note_ + "-rules", ""));
  return ports_.install(targets());
}

Status Bridge::map(const Target& target) {
  {
    const std::lock_guard lock(mutex_);
    if (!ports_.installed()) GANTRY_CHECK(install());
    GANTRY_CHECK(ports_.add(target));
    members_[target.address] = target;
  }
  PortMap::forget_flows(target);
  return ok;
}

Status Bridge::unmap(const Target& target) {
  Status removed;
  {
    const std::lock_guard lock(mutex_);
    members_.erase(target.address);
    removed = ports_.remove(target);
  }
  PortMap::forget_flows(target);
  return removed;
}

bool Bridge::used() const { return ::access(note_.c_str(), F_OK) == 0 || ::access((note_ + "-rules").c_str(), F_OK) == 0; }

Status Bridge::ensure() {
  const std::lock_guard lock(mutex_);
  return ensure_locked();
}

Status Bridge::ensure_locked() {
  GANTRY_TRY(auto links, Links::open());
  GANTRY_TRY(const auto found, links.find(device_));
  if (found && found->alias == alias() && is_ours(*found)) {
    mtu_ = found->mtu;
  } else {
    GANTRY_CHECK(make(links));
  }
  if (ports_.installed()) return ok;
  return install();
}

Status Bridge::make(Links& links) {
  GANTRY_TRY(const auto found, links.find(device_));
  if (found) {
    if (!is_ours(*found))
      return fail(Code::failed_precondition, "network device " + device_ + " exists and is not this agent's" +
                                                 (found->alias.empty() ? "" : " (" + found->alias + ")") +
                                                 "; set bridge_device, and subnet, of isolator.network to others");
    if (!members_.empty() && !found->alias.empty())
      return fail(Code::failed_precondition,
                  "bridge " + device_ + " was made for \"" + found->alias + "\" and has containers; set subnet back, or end them first");
    GANTRY_CHECK(links.remove(device_));
  }
  GANTRY_TRY(const auto routes, links.routes());
  GANTRY_TRY(const auto devices, links.devices());
  const auto device = [&](int index) {
    return std::find_if(devices.begin(), devices.end(), [index](const Device& d) { return d.index == index; });
  };
  int mtu = 0;
  for (const Route& r : routes) {
    const auto d = device(r.device);
    if (r.to.prefix == 0) {
      if (d != devices.end()) mtu = d->mtu;  // what leaves the machine fits
    } else if (r.to.overlaps(subnet_)) {
      return fail(Code::failed_precondition, "subnet " + subnet_.text() + " overlaps the route to " + r.to.text() + " through " +
                                                 (d == devices.end() ? "another device" : d->name) +
                                                 "; set subnet of isolator.network to a free one");
    }
  }
  GANTRY_CHECK(replace_file(note_, device_ + "\n"));
  GANTRY_CHECK(links.make_bridge(device_, mtu, subnet_.gateway(), subnet_.prefix));
  // For 127.0.0.1:port of this machine; the table's guard keeps containers from it.
  const std::string sysctl = "/proc/sys/net/ipv4/";
  GANTRY_CHECK(write_sysctl(sysctl + "conf/" + device_ + "/route_localnet", "1"));
  if (const auto forward = read_file(sysctl + "ip_forward"); forward && (*forward)[0] == '0') {
    if (ip_forward_) GANTRY_CHECK(write_sysctl(sysctl + "ip_forward", "1"));
    forwarding_ = ip_forward_ ? Forwarding::turned_on : Forwarding::left_off;
  }
  GANTRY_CHECK(links.set_alias(device_, alias()));
  GANTRY_TRY(const auto made, links.find(device_));
  mtu_ = made ? made->mtu : 0;
  return ok;
}

Status Bridge::restore(const std::vector<BridgeEnd>& living, const std::vector<Target>& mapped) {
  const std::lock_guard lock(mutex_);
  members_.clear();
  for (const BridgeEnd& b : living) members_[b.address] = {b.address, b.ports, {}};
  for (const Target& t : mapped) members_[t.address] = t;
  if (!living.empty()) GANTRY_CHECK(ensure_locked());
  GANTRY_TRY(auto links, Links::open());
  GANTRY_TRY(const auto bridge, links.find(device_));
  if (bridge && is_ours(*bridge)) {
    GANTRY_TRY(const auto devices, links.devices());
    for (const Device& d : devices) {
      const bool known = std::any_of(living.begin(), living.end(), [&](const BridgeEnd& b) { return b.veth == d.name; });
      if (d.master == bridge->index && !known) GANTRY_CHECK(links.remove(d.name));
    }
  }
  return install();
}

Status Bridge::connect(const BridgeEnd& end, int netns, Links& inside) {
  GANTRY_TRY(auto links, Links::open());
  GANTRY_TRY(const auto bridge, links.find(device_));
  if (!bridge) return fail(Code::aborted, "bridge " + device_ + " has been removed; launch the container again");
  GANTRY_CHECK(links.make_veth(end.veth, bridge->index, mtu_, !end.ports.empty(), end.interface, netns, end.address));
  GANTRY_CHECK(inside.set_up(end.interface, end.address, subnet_.prefix, subnet_.gateway()));
  inside.await_carrier(end.interface);
  links.await_carrier(end.veth);
  if (!(end.rates == Rates())) GANTRY_CHECK(links.limit(end.veth, end.ifb, end.rates, mtu_));
  return map({end.address, end.ports, {}});
}

Status Bridge::disconnect(const BridgeEnd& end) {
  // Each is tried, whatever became of the others.
  Status first = unmap({end.address, end.ports, {}});
  const auto keep = [&first](Status s) {
    if (!s && first) first = std::move(s);
  };
  auto links = Links::open();
  if (links) {
    keep(links->remove(end.veth));
    if (!end.ifb.empty()) keep(links->remove(end.ifb));
  } else {
    keep(links.error());
  }
  return first;
}

Status Bridge::remove() {
  const std::lock_guard lock(mutex_);
  GANTRY_TRY(auto links, Links::open());
  GANTRY_TRY(const auto found, links.find(device_));
  if (found && is_ours(*found)) GANTRY_CHECK(links.remove(device_));
  GANTRY_CHECK(ports_.drop());
  ::unlink(note_.c_str());
  ::unlink((note_ + "-rules").c_str());
  return ok;
}

}  // namespace gantry::isolator_network
