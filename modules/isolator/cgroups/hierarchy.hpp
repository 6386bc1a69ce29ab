// The cgroups of one agent: every controller that is there, of version 1, version 2 or both, behind one interface.
#pragma once

#include "controller.hpp"

#include <memory>
#include <set>
#include <string>
#include <vector>

namespace gantry::isolator_cgroups {

// `id` is a container's; methods block only as long as the kernel does.
class Hierarchy {
 public:
  Hierarchy(Layout layout, Policy policy);

  // That of the memory controller; on hybrid machines others may be elsewhere.
  [[nodiscard]] int version() const;
  // What is used and where, for the log: "cpu v1, memory v1, hugetlb v2".
  [[nodiscard]] std::string describe() const;

  // Makes the agent's own cgroups. PERMISSION_DENIED without the right, UNAVAILABLE without cpu or memory. What else the
  // settings ask for and this machine cannot do is left out and named in problems().
  Status open();
  void close();  // removes them if they are empty
  [[nodiscard]] const std::vector<std::string>& problems() const { return problems_; }
  // New settings for containers created or updated from now on; which controllers are used does not change.
  void policy(Policy policy) { policy_ = std::move(policy); }

  // A second call finds what the first one made.
  Status create(const std::string& id, const Limits&);
  Status apply(const std::string& id, const Limits&);
  // Device nodes beyond those that every container may use. OK without effect where devices are not controlled.
  Status allow(const std::string& id, const std::vector<DeviceRule>&);
  [[nodiscard]] bool controls_devices() const { return devices_ != nullptr; }

  [[nodiscard]] std::vector<std::string> enter_files(const std::string& id) const;
  // A file that kills everything in the container when 1 is written to it, or one that lists its processes.
  [[nodiscard]] std::string kill_path(const std::string& id) const;
  [[nodiscard]] bool exists(const std::string& id) const;
  [[nodiscard]] std::vector<std::string> list() const;
  [[nodiscard]] Result<OomSource> oom_source(const std::string& id) const { return memory_->oom_source(id); }
  [[nodiscard]] std::uint64_t oom_kills(const std::string& id) const { return memory_->oom_kills(id); }
  [[nodiscard]] MemoryFigures memory(const std::string& id) const { return memory_->figures(id); }
  [[nodiscard]] fb::isolator::UsageT usage(const std::string& id) const;  // [any thread, once open() has returned]
  // Kills what is left in it and removes it. False: not empty yet, try again soon.
  Result<bool> remove(const std::string& id);

 private:
  using Controllers = std::vector<std::unique_ptr<Controller>>;

  void choose();  // which controllers the policy needs
  Controllers::iterator drop(Controllers::iterator);
  Status open_v1(const Place&);
  Status open_v2();
  Status make_room() const;
  void kill(const std::string& id) const;

  Layout layout_;
  Policy policy_;
  Controllers controllers_;
  MemoryController* memory_ = nullptr;  // these are among them
  DeviceController* devices_ = nullptr;
  std::set<std::string> dirs_;     // the agent's own cgroups; co-mounted controllers share one
  std::string unified_, freezer_;  // those that can kill, pause and tell of pressure; empty: not there
  std::vector<std::string> problems_;
};

// As find_layout(). UNAVAILABLE if no hierarchy is usable.
[[nodiscard]] Result<std::unique_ptr<Hierarchy>> discover(const std::string& prefix, const std::string& root, Policy policy = {},
                                                          bool below_own = false);

}  // namespace gantry::isolator_cgroups
