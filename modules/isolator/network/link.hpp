// Devices, addresses, routes and rates of one network namespace, through rtnetlink (libnl). Blocks, for a moment only.
#pragma once

#include "address.hpp"
#include "plan.hpp"

#include <gantry/result.hpp>

#include <memory>
#include <optional>
#include <string>
#include <vector>

struct nl_sock;

namespace gantry::isolator_network {

// A descriptor that closes itself.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& o) noexcept : fd_(std::exchange(o.fd_, -1)) {}
  Fd& operator=(Fd&& o) noexcept {
    std::swap(fd_, o.fd_);
    return *this;
  }
  ~Fd();
  [[nodiscard]] int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

// The network namespace of a process: of `pidfd` if it is one (>= 0), and then surely of that process, else of the one that
// has this number now. NOT_FOUND: it has ended.
[[nodiscard]] Result<Fd> namespace_of(int pid, int pidfd);
// Whether it is the calling thread's own.
[[nodiscard]] bool is_own_namespace(int fd);

struct Device {
  int index = 0;
  std::string name, alias, kind;   // kind: "bridge", "veth", ...
  int master = 0;                  // index of the bridge it belongs to
  int mtu = 0;
  bool up = false;                 // it carries packets
  int peer = 0;                    // index of the device at the other end, in its own namespace
};
struct Route {
  Subnet to;                       // prefix 0: default
  int device = 0;
};

class Links {
 public:
  // Of the calling thread's namespace, or of `netns` (borrowed). PERMISSION_DENIED without CAP_SYS_ADMIN for another one.
  [[nodiscard]] static Result<Links> open(int netns = -1);
  Links(Links&&) noexcept;
  Links& operator=(Links&&) noexcept;
  ~Links();

  [[nodiscard]] Result<std::optional<Device>> find(const std::string& name) const;
  [[nodiscard]] Result<std::optional<Device>> find(int index) const;
  [[nodiscard]] Result<std::vector<Device>> devices() const;
  [[nodiscard]] Result<std::vector<Route>> routes() const;  // IPv4, main table

  // A bridge with its own address, up.
  Status make_bridge(const std::string& name, int mtu, Ipv4 address, int prefix);
  // A text the kernel keeps with a device, shown by `ip link`.
  Status set_alias(const std::string& name, const std::string& alias);
  // A pair: `name` here, on the bridge and up; `peer` in the namespace `netns`. `hairpin`: frames may go back through the port they came
  // from.
  Status make_veth(const std::string& name, int bridge, int mtu, bool hairpin, const std::string& peer, int netns, Ipv4 address);
  // Loopback up; `device` up with its address, and the default route through it.
  Status set_up(const std::string& device, Ipv4 address, int prefix, Ipv4 gateway);
  Status set_up_loopback();
  // Waits, for 200 ms at most, until the device carries packets: the kernel tells a bridge of a new carrier a little later, and what
  // is sent before that is lost, after which TCP and ARP wait for a second.
  void await_carrier(const std::string& name) const;
  // Rates of the container behind `veth`, the machine's end. Sending is limited on `ifb`, which is made for it.
  Status limit(const std::string& veth, const std::string& ifb, const Rates& rates, int mtu);
  // OK if there is no such device.
  Status remove(const std::string& name);

 private:
  explicit Links(nl_sock* s) : socket_(s) {}
  Status add_address(int index, Ipv4 address, int prefix) const;
  Status set_flags(int index, bool hairpin) const;
  Status token_bucket(int index, std::uint64_t bytes_a_second, int mtu) const;
  nl_sock* socket_ = nullptr;
};

}  // namespace gantry::isolator_network
