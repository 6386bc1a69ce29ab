#include "link.hpp"

#include <linux/if.h>
#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/tc_act/tc_mirred.h>
#include <netlink/errno.h>
#include <netlink/netlink.h>
#include <netlink/route/act/mirred.h>
#include <netlink/route/addr.h>
#include <netlink/route/classifier.h>
#include <netlink/route/cls/u32.h>
#include <netlink/route/link.h>
#include <netlink/route/link/bridge.h>
#include <netlink/route/link/veth.h>
#include <netlink/route/nexthop.h>
#include <netlink/route/qdisc.h>
#include <netlink/route/qdisc/tbf.h>
#include <netlink/route/route.h>
#include <netlink/route/tc.h>

#include <fcntl.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <climits>
#include <cstring>
#include <thread>

namespace gantry::isolator_network {
namespace {

// libnl counts references to its objects; each kind has its own way to let go.
template <class T, void (*put)(T*)>
struct Putter {
  void operator()(T* t) const { put(t); }
};
using Link = std::unique_ptr<rtnl_link, Putter<rtnl_link, rtnl_link_put>>;
using Address = std::unique_ptr<rtnl_addr, Putter<rtnl_addr, rtnl_addr_put>>;
using NlAddress = std::unique_ptr<nl_addr, Putter<nl_addr, nl_addr_put>>;
using RouteObject = std::unique_ptr<rtnl_route, Putter<rtnl_route, rtnl_route_put>>;
using Qdisc = std::unique_ptr<rtnl_qdisc, Putter<rtnl_qdisc, rtnl_qdisc_put>>;
using Filter = std::unique_ptr<rtnl_cls, Putter<rtnl_cls, rtnl_cls_put>>;
using Action = std::unique_ptr<rtnl_act, Putter<rtnl_act, rtnl_act_put>>;
using Cache = std::unique_ptr<nl_cache, Putter<nl_cache, nl_cache_free>>;

Error trouble(int code, const std::string& what) {
  const int n = code < 0 ? -code : code;
  Code as = Code::unavailable;
  if (n == NLE_PERM || n == NLE_NOACCESS) as = Code::permission_denied;
  else if (n == NLE_EXIST) as = Code::already_exists;
  else if (n == NLE_NODEV || n == NLE_OBJ_NOTFOUND) as = Code::not_found;
  return fail(as, what + ": " + nl_geterror(n));
}

Status done(int code, const std::string& what) {
  if (code < 0) return trouble(code, what);
  return ok;
}

NlAddress address_of(Ipv4 address, int prefix) {
  const std::uint32_t raw = __builtin_bswap32(address);
  NlAddress out(nl_addr_build(AF_INET, &raw, sizeof raw));
  if (out) nl_addr_set_prefixlen(out.get(), prefix);
  return out;
}

Device device_of(rtnl_link* l) {
  Device d;
  d.index = rtnl_link_get_ifindex(l);
  if (const char* name = rtnl_link_get_name(l)) d.name = name;
  if (const char* alias = rtnl_link_get_ifalias(l)) d.alias = alias;
  if (const char* kind = rtnl_link_get_type(l)) d.kind = kind;
  d.master = rtnl_link_get_master(l);
  d.up = rtnl_link_get_operstate(l) == IF_OPER_UP;
  d.peer = rtnl_link_get_link(l);
  d.mtu = static_cast<int>(rtnl_link_get_mtu(l));
  return d;
}

nl_sock* connected() {
  nl_sock* s = nl_socket_alloc();
  if (s && nl_connect(s, NETLINK_ROUTE) < 0) {
    nl_socket_free(s);
    s = nullptr;
  }
  return s;
}

Error memory() { return fail(Code::resource_exhausted, "out of memory for a netlink message"); }

constexpr char no_rights[] = "run gantryd with CAP_NET_ADMIN and CAP_SYS_ADMIN";

}  // namespace

Fd::~Fd() {
  if (fd_ >= 0) ::close(fd_);
}

Result<Fd> namespace_of(int pid, int pidfd) {
  const std::string path = "/proc/" + std::to_string(pid) + "/ns/net";
  Fd fd(pid > 0 ? ::open(path.c_str(), O_RDONLY | O_CLOEXEC) : -1);
  const int e = pid > 0 ? errno : ESRCH;
  // Signal 0 through the pidfd after the open: alive now, it was alive then, and the number was its own.
  const bool dead = pidfd >= 0 && ::syscall(SYS_pidfd_send_signal, pidfd, 0, nullptr, 0) != 0 && errno == ESRCH;
  if (dead || (!fd && (e == ENOENT || e == ESRCH))) return fail(Code::not_found, "process " + std::to_string(pid) + " has ended");
  if (!fd) return fail(e == EACCES || e == EPERM ? Code::permission_denied : Code::unavailable, "open " + path + ": " + std::strerror(e));
  return fd;
}

bool is_own_namespace(int fd) {
  struct stat theirs{}, ours{};
  return ::fstat(fd, &theirs) == 0 && ::stat("/proc/thread-self/ns/net", &ours) == 0 && theirs.st_ino == ours.st_ino &&
         theirs.st_dev == ours.st_dev;
}

Result<Links> Links::open(int netns) {
  nl_sock* s = nullptr;
  int error = 0;
  if (netns < 0) {
    s = connected();
  } else {
    // A thread of its own enters the namespace and ends there: were the way back to fail, one of the host's threads would be lost in it.
    std::thread([&] {
      if (::setns(netns, CLONE_NEWNET) != 0) error = errno;
      else s = connected();
    }).join();
  }
  if (error)
    return fail(error == EPERM ? Code::permission_denied : Code::unavailable,
                std::string("enter a container's network: ") + std::strerror(error) + "; " + no_rights);
  if (!s) return fail(Code::unavailable, "no netlink socket");
  return Links(s);
}

Links::Links(Links&& o) noexcept : socket_(std::exchange(o.socket_, nullptr)) {}
Links& Links::operator=(Links&& o) noexcept {
  std::swap(socket_, o.socket_);
  return *this;
}
Links::~Links() {
  if (socket_) nl_socket_free(socket_);
}

namespace {

Result<std::optional<Device>> look_for(nl_sock* socket, int index, const char* name) {
  rtnl_link* raw = nullptr;
  const int e = rtnl_link_get_kernel(socket, index, name, &raw);
  const Link link(raw);
  if (e == -NLE_OBJ_NOTFOUND || e == -NLE_NODEV) return std::optional<Device>();
  if (e < 0) return trouble(e, "look for device " + (name ? std::string(name) : std::to_string(index)));
  return std::optional<Device>(device_of(link.get()));
}

}  // namespace

Result<std::optional<Device>> Links::find(const std::string& name) const { return look_for(socket_, 0, name.c_str()); }
Result<std::optional<Device>> Links::find(int index) const { return look_for(socket_, index, nullptr); }

Result<std::vector<Device>> Links::devices() const {
  nl_cache* raw = nullptr;
  if (const int e = rtnl_link_alloc_cache(socket_, AF_UNSPEC, &raw); e < 0) return trouble(e, "list devices");
  const Cache cache(raw);
  std::vector<Device> out;
  for (nl_object* o = nl_cache_get_first(raw); o; o = nl_cache_get_next(o)) out.push_back(device_of(reinterpret_cast<rtnl_link*>(o)));
  return out;
}

Result<std::vector<Route>> Links::routes() const {
  nl_cache* raw = nullptr;
  if (const int e = rtnl_route_alloc_cache(socket_, AF_INET, 0, &raw); e < 0) return trouble(e, "list routes");
  const Cache cache(raw);
  std::vector<Route> out;
  for (nl_object* o = nl_cache_get_first(raw); o; o = nl_cache_get_next(o)) {
    auto* route = reinterpret_cast<rtnl_route*>(o);
    if (rtnl_route_get_table(route) != RT_TABLE_MAIN || rtnl_route_get_nnexthops(route) < 1) continue;
    Route r;
    if (nl_addr* to = rtnl_route_get_dst(route); to && nl_addr_get_len(to) == 4) {
      std::uint32_t bytes = 0;
      std::memcpy(&bytes, nl_addr_get_binary_addr(to), sizeof bytes);
      r.to.base = __builtin_bswap32(bytes);
      r.to.prefix = static_cast<int>(nl_addr_get_prefixlen(to));
    } else {
      r.to = {0, 0};
    }
    r.device = rtnl_route_nh_get_ifindex(rtnl_route_nexthop_n(route, 0));
    out.push_back(r);
  }
  return out;
}

Status Links::make_bridge(const std::string& name, int mtu, Ipv4 address, int prefix) {
  const Link link(rtnl_link_bridge_alloc());
  if (!link) return memory();
  rtnl_link_set_name(link.get(), name.c_str());
  if (mtu) rtnl_link_set_mtu(link.get(), static_cast<unsigned>(mtu));
  // An address given to it stays; otherwise it would be that of one of its ports, and change with them.
  const std::array<std::uint8_t, 6> mac = {0x02, 0x47, static_cast<std::uint8_t>(address >> 24), static_cast<std::uint8_t>(address >> 16),
                                           static_cast<std::uint8_t>(address >> 8), static_cast<std::uint8_t>(address)};
  const NlAddress hardware(nl_addr_build(AF_LLC, mac.data(), mac.size()));
  rtnl_link_set_addr(link.get(), hardware.get());
  GANTRY_CHECK(done(rtnl_link_add(socket_, link.get(), NLM_F_CREATE | NLM_F_EXCL), "make bridge " + name));
  GANTRY_TRY(const auto made, find(name));
  if (!made) return fail(Code::aborted, "bridge " + name + " is gone again");
  const Link change(rtnl_link_alloc());
  rtnl_link_set_ifindex(change.get(), made->index);
  rtnl_link_set_flags(change.get(), IFF_UP);
  GANTRY_CHECK(done(rtnl_link_change(socket_, change.get(), change.get(), 0), "set bridge " + name + " up"));
  return add_address(made->index, address, prefix);
}

Status Links::set_alias(const std::string& name, const std::string& alias) {
  GANTRY_TRY(const auto found, find(name));
  if (!found) return fail(Code::aborted, "device " + name + " is gone again");
  const Link change(rtnl_link_alloc());
  if (!change) return memory();
  rtnl_link_set_ifindex(change.get(), found->index);
  rtnl_link_set_ifalias(change.get(), alias.c_str());
  return done(rtnl_link_change(socket_, change.get(), change.get(), 0), "set the alias of " + name);
}

Status Links::make_veth(const std::string& name, int bridge, int mtu, bool hairpin, const std::string& peer, int netns, Ipv4 address) {
  const Link link(rtnl_link_veth_alloc());
  if (!link) return memory();
  rtnl_link_set_name(link.get(), name.c_str());
  rtnl_link_set_master(link.get(), bridge);
  rtnl_link_set_flags(link.get(), IFF_UP);
  rtnl_link* inner = rtnl_link_veth_get_peer(link.get());
  rtnl_link_set_name(inner, peer.c_str());
  rtnl_link_set_ns_fd(inner, netns);
  if (mtu) {
    rtnl_link_set_mtu(link.get(), static_cast<unsigned>(mtu));
    rtnl_link_set_mtu(inner, static_cast<unsigned>(mtu));
  }
  // From its address, so that who had the address before is not remembered by another hardware address for long.
  const std::array<std::uint8_t, 6> mac = {0x02, 0x42, static_cast<std::uint8_t>(address >> 24), static_cast<std::uint8_t>(address >> 16),
                                           static_cast<std::uint8_t>(address >> 8), static_cast<std::uint8_t>(address)};
  const NlAddress hardware(nl_addr_build(AF_LLC, mac.data(), mac.size()));
  rtnl_link_set_addr(inner, hardware.get());
  const int e = rtnl_link_add(socket_, link.get(), NLM_F_CREATE | NLM_F_EXCL);
  rtnl_link_put(inner);
  GANTRY_CHECK(done(e, "make veth " + name));
  if (!hairpin) return ok;
  GANTRY_TRY(const auto made, find(name));
  if (!made) return fail(Code::aborted, "veth " + name + " is gone again");
  return set_flags(made->index, true);
}

Status Links::set_flags(int index, bool hairpin) const {
  const Link change(rtnl_link_bridge_alloc());
  if (!change) return memory();
  rtnl_link_set_family(change.get(), AF_BRIDGE);
  rtnl_link_set_ifindex(change.get(), index);
  rtnl_link_bridge_set_flags(change.get(), hairpin ? RTNL_BRIDGE_HAIRPIN_MODE : 0);
  return done(rtnl_link_change(socket_, change.get(), change.get(), 0), "set hairpin mode of a bridge port");
}

Status Links::add_address(int index, Ipv4 address, int prefix) const {
  const Address a(rtnl_addr_alloc());
  const NlAddress local = address_of(address, prefix);
  if (!a || !local) return memory();
  rtnl_addr_set_ifindex(a.get(), index);
  rtnl_addr_set_local(a.get(), local.get());
  return done(rtnl_addr_add(socket_, a.get(), NLM_F_CREATE), "set address " + to_text(address));
}

Status Links::set_up_loopback() {
  const Link change(rtnl_link_alloc());
  if (!change) return memory();
  rtnl_link_set_ifindex(change.get(), 1);  // loopback is the first device of every namespace
  rtnl_link_set_flags(change.get(), IFF_UP);
  return done(rtnl_link_change(socket_, change.get(), change.get(), 0), "set loopback up");
}

Status Links::set_up(const std::string& device, Ipv4 address, int prefix, Ipv4 gateway) {
  GANTRY_TRY(const auto found, find(device));
  if (!found) return fail(Code::aborted, "device " + device + " of the container is gone");
  const Link change(rtnl_link_alloc());
  if (!change) return memory();
  rtnl_link_set_ifindex(change.get(), found->index);
  rtnl_link_set_flags(change.get(), IFF_UP);
  GANTRY_CHECK(done(rtnl_link_change(socket_, change.get(), change.get(), 0), "set " + device + " up"));
  GANTRY_CHECK(add_address(found->index, address, prefix));

  const RouteObject route(rtnl_route_alloc());
  const NlAddress to = address_of(0, 0);
  const NlAddress via = address_of(gateway, 32);
  rtnl_nexthop* hop = rtnl_route_nh_alloc();
  if (!route || !to || !via || !hop) return memory();
  rtnl_route_set_family(route.get(), AF_INET);
  rtnl_route_set_dst(route.get(), to.get());
  rtnl_route_nh_set_ifindex(hop, found->index);
  rtnl_route_nh_set_gateway(hop, via.get());
  rtnl_route_add_nexthop(route.get(), hop);
  const int e = rtnl_route_add(socket_, route.get(), NLM_F_CREATE | NLM_F_EXCL);
  if (e == -NLE_EXIST) return ok;  // another of its networks is the way out already
  return done(e, "set the default route");
}

void Links::await_carrier(const std::string& name) const {
  for (int i = 0; i < 400; ++i) {
    const auto found = find(name);
    if (!found || !*found || (*found)->up) return;
    std::this_thread::sleep_for(std::chrono::microseconds(500));
  }
}

Status Links::token_bucket(int index, std::uint64_t bytes_a_second, int mtu) const {
  const Link device(rtnl_link_alloc());
  const Qdisc q(rtnl_qdisc_alloc());
  if (!device || !q) return memory();
  rtnl_link_set_ifindex(device.get(), index);
  rtnl_link_set_mtu(device.get(), static_cast<unsigned>(mtu ? mtu : 1500));
  rtnl_link_set_arptype(device.get(), 1);  // Ethernet
  rtnl_tc_set_link(TC_CAST(q.get()), device.get());
  rtnl_tc_set_parent(TC_CAST(q.get()), TC_H_ROOT);
  rtnl_tc_set_handle(TC_CAST(q.get()), TC_HANDLE(1, 0));
  if (const int e = rtnl_tc_set_kind(TC_CAST(q.get()), "tbf"); e < 0) return trouble(e, "make a token bucket");
  const int rate = static_cast<int>(std::min<std::uint64_t>(bytes_a_second, INT_MAX));
  // What may go out at once: a tenth of a second; veth hands over packets of up to 64 KiB.
  const int burst = std::max(rate / 10, 128 * 1024);
  rtnl_qdisc_tbf_set_rate(q.get(), rate, burst, 0);
  rtnl_qdisc_tbf_set_limit(q.get(), std::max(rate / 5, 512 * 1024));
  return done(rtnl_qdisc_add(socket_, q.get(), NLM_F_CREATE | NLM_F_REPLACE), "limit a rate");
}

Status Links::limit(const std::string& veth, const std::string& ifb, const Rates& rates, int mtu) {
  GANTRY_TRY(const auto port, find(veth));
  if (!port) return fail(Code::aborted, "veth " + veth + " is gone");
  if (rates.ingress) GANTRY_CHECK(token_bucket(port->index, rates.ingress, mtu));  // what we send it receives
  if (!rates.egress) return ok;

  // What comes from the container is led through a device of its own, and limited where it leaves that.
  const Link device(rtnl_link_alloc());
  if (!device) return memory();
  rtnl_link_set_name(device.get(), ifb.c_str());
  rtnl_link_set_type(device.get(), "ifb");
  if (mtu) rtnl_link_set_mtu(device.get(), static_cast<unsigned>(mtu));
  rtnl_link_set_flags(device.get(), IFF_UP);
  GANTRY_CHECK(done(rtnl_link_add(socket_, device.get(), NLM_F_CREATE | NLM_F_EXCL), "make ifb " + ifb));
  GANTRY_TRY(const auto made, find(ifb));
  if (!made) return fail(Code::aborted, "ifb " + ifb + " is gone again");
  GANTRY_CHECK(token_bucket(made->index, rates.egress, mtu));

  const Qdisc ingress(rtnl_qdisc_alloc());
  const Filter all(rtnl_cls_alloc());
  const Action redirect(rtnl_act_alloc());
  if (!ingress || !all || !redirect) return memory();
  rtnl_tc_set_ifindex(TC_CAST(ingress.get()), port->index);
  rtnl_tc_set_parent(TC_CAST(ingress.get()), TC_H_INGRESS);
  rtnl_tc_set_handle(TC_CAST(ingress.get()), TC_HANDLE(0xffff, 0));
  if (const int e = rtnl_tc_set_kind(TC_CAST(ingress.get()), "ingress"); e < 0) return trouble(e, "make an ingress queue");
  GANTRY_CHECK(done(rtnl_qdisc_add(socket_, ingress.get(), NLM_F_CREATE | NLM_F_EXCL), "make an ingress queue"));

  rtnl_tc_set_kind(TC_CAST(redirect.get()), "mirred");
  rtnl_mirred_set_action(redirect.get(), TCA_EGRESS_REDIR);
  rtnl_mirred_set_policy(redirect.get(), TC_ACT_STOLEN);
  rtnl_mirred_set_ifindex(redirect.get(), static_cast<std::uint32_t>(made->index));

  rtnl_tc_set_ifindex(TC_CAST(all.get()), port->index);
  rtnl_tc_set_parent(TC_CAST(all.get()), TC_HANDLE(0xffff, 0));
  if (const int e = rtnl_tc_set_kind(TC_CAST(all.get()), "u32"); e < 0) return trouble(e, "make a filter");
  rtnl_cls_set_prio(all.get(), 1);
  rtnl_cls_set_protocol(all.get(), 0x0003);  // ETH_P_ALL
  rtnl_u32_add_key_uint32(all.get(), 0, 0, 0, 0);
  rtnl_u32_add_action(all.get(), redirect.get());
  rtnl_u32_set_cls_terminal(all.get());
  return done(rtnl_cls_add(socket_, all.get(), NLM_F_CREATE | NLM_F_EXCL), "lead what a container sends through " + ifb);
}

Status Links::remove(const std::string& name) {
  const Link link(rtnl_link_alloc());
  if (!link) return memory();
  rtnl_link_set_name(link.get(), name.c_str());
  const int e = rtnl_link_delete(socket_, link.get());
  if (e == -NLE_OBJ_NOTFOUND || e == -NLE_NODEV) return ok;
  return done(e, "remove device " + name);
}

}  // namespace gantry::isolator_network
