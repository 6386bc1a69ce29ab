// Isolator `namespaces`: tells the launcher which namespaces a container gets. See README.md.
#pragma once

#include <gantry/isolator.hpp>

#include <cstdint>
#include <functional>

namespace gantry::isolator_namespaces {

// What the operator has decided.
struct Policy {
  std::uint32_t wanted = 0;                 // Namespace bits every container gets that does not ask otherwise
  std::uint64_t shm_size = 0;               // bytes; 0: the kernel's default
  bool share_pid = true, share_ipc = true;  // a task may ask for the machine's
};

// What one container gets. Pure. INVALID_ARGUMENT and FAILED_PRECONDITION name the field of the task.
// Source of the rules for ipc: Mesos's isolator namespaces/ipc (mesos-kernel.md A6, "security").
[[nodiscard]] Result<fb::isolator::PreparedT> namespaces_of(const Policy&, const fb::isolator::PrepareT&);

class Namespaces final : public Isolator {
 public:
  Task<Status> configure(Settings) override;
  Task<Status> start() override;
  Task<Result<fb::HealthT>> health() override;
  Task<Result<fb::isolator::PreparedT>> prepare(Request<fb::isolator::Prepare>) override;
  Task<Status> cleanup(Request<fb::isolator::Cleanup>) override { co_return ok; }

  // Replaced by tests: whether this process may make namespaces.
  std::function<bool()> allowed;

 private:
  Policy policy_;
  bool may_ = true;
};

}  // namespace gantry::isolator_namespaces
