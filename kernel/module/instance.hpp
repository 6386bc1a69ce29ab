// A provider running in this process: one token table, one strand, one gantry_host.
#pragma once

#include "kernel/module/hosted.hpp"

#include <gantry/abi.h>
#include <gantry/host_generated.h>

#include <map>
#include <memory>
#include <set>
#include <string>

namespace gantry::base {
class Metrics;
}

namespace gantry::module {

class Core;
class Outlet;
class Strands;

using Services = std::map<fb::host::Service, Service*>;

// "store", "http": the name manifests use for a service; empty for an unknown one.
[[nodiscard]] std::string service_name(std::uint32_t service);

struct InstanceSetup {
  base::Loop* loop = nullptr;
  Strands* strands = nullptr;
  base::Metrics* metrics = nullptr;
  const Services* services = nullptr;  // what this kernel offers; may grow until the instance is started
  std::set<std::string> allowed;       // what the manifest lists; others are refused with PERMISSION_DENIED
  std::string kind, name;
  gantry_provider provider{};  // completed to this kernel's size
  std::uint16_t revision = 0;  // facts() tells these two
  std::string build;
  // Bytes that may wait in either direction. A module that reads streams too slowly loses them with
  // RESOURCE_EXHAUSTED; one that floods the loop loses chunks and requests the same way.
  std::size_t queue_bytes = std::size_t{64} << 20;
  double log_rate = 50, log_burst = 200;  // records a second
  Outlet* outlet = nullptr;               // null: the log and `metrics`. Outlives the instance
};

class LocalInstance final : public HostedInstance {
 public:
  explicit LocalInstance(InstanceSetup setup);
  ~LocalInstance() override;

  [[nodiscard]] const std::string& kind() const override;
  [[nodiscard]] const std::string& name() const override;
  [[nodiscard]] State state() const override;
  [[nodiscard]] Counters counters() const override;
  // Calls are accepted from configured to degraded; in other states the answer is UNAVAILABLE.
  std::uint64_t call(std::uint32_t method, Buffer body, OnReply on_reply, CallOptions options = {}) override;
  void cancel(std::uint64_t id) override;

  [[nodiscard]] const std::string& message() const override;
  void set_state(State state, std::string message = {}) override;
  void trace(Tracer* tracer) override;
  [[nodiscard]] Facts facts() const override;
  Task<Status> create() override;
  Task<Status> stop(bool drain, base::Nanos timeout, base::Nanos grace) override;
  [[nodiscard]] std::size_t backlog() const override;

 private:
  std::shared_ptr<Core> core_;
};

}  // namespace gantry::module
