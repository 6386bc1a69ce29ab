// IPv4 addresses, subnets and port ranges as numbers. Pure.
#pragma once

#include <gantry/result.hpp>

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace gantry::isolator_network {

using Ipv4 = std::uint32_t;  // host byte order

[[nodiscard]] std::string to_text(Ipv4 address);
[[nodiscard]] std::optional<Ipv4> parse_ipv4(std::string_view text);
[[nodiscard]] bool is_address(const std::string& text);  // IPv4 or IPv6

struct Subnet {
  Ipv4 base = 0;      // without host bits
  int prefix = 32;    // length
  [[nodiscard]] Ipv4 mask() const { return prefix == 0 ? 0 : ~Ipv4{0} << (32 - prefix); }
  [[nodiscard]] bool contains(Ipv4 a) const { return (a & mask()) == base; }
  [[nodiscard]] bool overlaps(const Subnet& o) const { return contains(o.base) || o.contains(base); }
  [[nodiscard]] Ipv4 gateway() const { return base + 1; }            // the bridge's own address
  [[nodiscard]] Ipv4 first() const { return base + 2; }              // of a container
  [[nodiscard]] Ipv4 last() const { return (base | ~mask()) - 1; }
  [[nodiscard]] std::string text() const { return to_text(base) + "/" + std::to_string(prefix); }
  friend bool operator==(const Subnet&, const Subnet&) = default;
};
// "10.1.0.5/16" as an address and its subnet; nothing for IPv6 or what is neither.
[[nodiscard]] std::optional<std::pair<Ipv4, Subnet>> parse_interface(std::string_view text);
// "10.1.0.0/16", from /8 to /29. INVALID_ARGUMENT says what is wrong; host bits must be zero.
[[nodiscard]] Result<Subnet> parse_subnet(std::string_view text);

// The addresses of the containers of one subnet. An address that was given back is not given again until all others were:
// neighbours and connection tracking still know its former owner.
class Pool {
 public:
  Pool() = default;
  explicit Pool(Subnet s) : subnet_(s), next_(s.first()) {}
  // RESOURCE_EXHAUSTED if none is left.
  [[nodiscard]] Result<Ipv4> take();
  // Marks one as taken; false if it is not of this subnet or taken already.
  bool adopt(Ipv4);
  void give_back(Ipv4 a) { taken_.erase(a); }
  [[nodiscard]] const Subnet& subnet() const { return subnet_; }
  [[nodiscard]] std::size_t taken() const { return taken_.size(); }

 private:
  Subnet subnet_;
  Ipv4 next_ = 0;
  std::set<Ipv4> taken_;
};

// Port numbers as inclusive ranges.
struct PortRange {
  std::uint32_t begin = 0, end = 0;
  friend bool operator==(const PortRange&, const PortRange&) = default;
};
using PortRanges = std::vector<PortRange>;
[[nodiscard]] bool contains(const PortRanges&, std::uint32_t port);
// "31000-32000,8080". INVALID_ARGUMENT names the part that is none.
[[nodiscard]] Result<PortRanges> parse_ports(std::string_view text);
// Sorted numbers as Mesos prints ranges: "[31000-31002, 31010-31010]".
[[nodiscard]] std::string print_ports(const std::set<std::uint32_t>& ports);

// "10MiB", "500KB", "1000": bytes a second. Bits are written "10Mbit", "1Gbit". INVALID_ARGUMENT for anything else, and for 0.
[[nodiscard]] Result<std::uint64_t> parse_rate(std::string_view text);

}  // namespace gantry::isolator_network
