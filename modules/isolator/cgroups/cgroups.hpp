// Isolator `cgroups`: CPU, memory, processes, disks and devices of containers, by the kernel's control groups. See README.md.
#pragma once

#include "hierarchy.hpp"
#include "oom.hpp"

#include <gantry/isolator.hpp>

#include <map>
#include <memory>

namespace gantry::isolator_cgroups {

class Cgroups final : public Isolator {
 public:
  ~Cgroups() override;

  Task<Status> configure(Settings) override;
  Task<Status> start() override;
  Task<Status> stop() override;
  Task<Result<fb::HealthT>> health() override;

  Task<Result<fb::isolator::RecoveredT>> recover(Request<fb::isolator::Recover>) override;
  Task<Result<fb::isolator::PreparedT>> prepare(Request<fb::isolator::Prepare>) override;
  Task<Status> attach(Request<fb::isolator::Attach>) override;
  void watch(Request<fb::isolator::Watch>, Responder) override;
  void cancelled(std::uint64_t token) override;
  Task<Status> update(Request<fb::isolator::Update>) override;
  Task<Result<fb::isolator::UsagesT>> usage(Request<fb::isolator::UsageRequest>) override;
  Task<Status> cleanup(Request<fb::isolator::Cleanup>) override;

 private:
  struct Container {
    double requested_mb = 0;                        // memory limit, for the message
    bool reported = false;                          // the limitation went to the watcher
    std::optional<fb::isolator::LimitedT> pending;  // it happened, nobody watches yet
    Responder watcher;
  };

  void open();                        // once: finds and opens the hierarchy, or explains why not
  void adopt(const std::string& id);  // begins to look after a cgroup
  void on_oom(const std::string& id);
  void report_oom(const std::string& id, Container&);

  std::string prefix_, root_;
  bool below_own_ = false;  // in our own cgroup instead of at the top
  bool quota_ = true;
  Policy policy_;
  bool opened_ = false;
  std::string problem_;                 // what is not enforced, and why; empty: everything is
  std::shared_ptr<Hierarchy> cgroups_;  // nullptr: degraded
  std::unique_ptr<OomListener> listener_;
  std::map<std::string, Container> containers_;
  std::map<std::string, std::string> shares_;  // containers in the cgroups of another -> that one
};

}  // namespace gantry::isolator_cgroups
