// The built-in bridge of one agent: the device, its rules, and containers on it. Methods block for a few milliseconds, may be
// called from any thread, and can be called again after a crash at any point.
#pragma once

#include "link.hpp"
#include "portmap.hpp"
#include "record.hpp"

#include <atomic>
#include <map>
#include <mutex>
#include <string>
#include <vector>

namespace gantry::isolator_network {

class Bridge {
 public:
  // `owner` tells agents of one machine apart; `note` is a file that says which device this agent is about to make, and
  // `note`-rules one that says that there is a table.
  Bridge(std::string device, Subnet subnet, std::string owner, std::string note, bool ip_forward);

  // Finds the bridge and its table, or makes them, with the mappings of the containers that are connected. FAILED_PRECONDITION:
  // the device is somebody else's, or the subnet is routed elsewhere; the message has the setting to change.
  Status ensure();
  // After a restart: `living` are connected, `mapped` are elsewhere. What else is on the bridge or mapped belongs to nobody and is removed.
  Status restore(const std::vector<BridgeEnd>& living, const std::vector<Target>& mapped);
  // The container's device, addresses, rates and ports; `netns` is borrowed, `inside` is a socket in it.
  Status connect(const BridgeEnd&, int netns, Links& inside);
  // OK for what is not there.
  Status disconnect(const BridgeEnd&);
  // Ports of a container on a network that is not ours. map() makes the table if it is not there.
  Status map(const Target&);
  Status unmap(const Target&);
  // Whether there may be something to remove.
  [[nodiscard]] bool used() const;
  // Removes device and table, if they are ours.
  Status remove();

  [[nodiscard]] const Subnet& subnet() const { return subnet_; }
  [[nodiscard]] const std::string& device() const { return device_; }
  // IPv4 forwarding was off, and ensure() has turned it on or left it so; tells once.
  enum class Forwarding { as_it_was, turned_on, left_off };
  [[nodiscard]] Forwarding take_forwarding() { return forwarding_.exchange(Forwarding::as_it_was); }

 private:
  [[nodiscard]] std::string alias() const { return "gantry " + owner_ + " " + subnet_.text(); }
  [[nodiscard]] bool is_ours(const Device&) const;
  [[nodiscard]] std::vector<Target> targets() const;
  Status install();
  Status ensure_locked();
  Status make(Links&);
  const std::string device_, owner_, note_;
  const Subnet subnet_;
  const bool ip_forward_;
  std::atomic<int> mtu_{0};
  std::atomic<Forwarding> forwarding_{Forwarding::as_it_was};
  std::mutex mutex_;                             // guards all below; making and mapping take turns
  PortMap ports_;
  std::map<Ipv4, Target> members_;                // connected containers
};

// 32 bits of a text as 8 hexadecimal digits: names of devices are short.
[[nodiscard]] std::string short_hash(std::string_view);

}  // namespace gantry::isolator_network
