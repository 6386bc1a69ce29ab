// Isolator `filesystem`: what a container sees of the file system. See README.md.
#pragma once

#include "disk.hpp"
#include "plan.hpp"

#include <gantry/isolator.hpp>

#include <string>

namespace gantry::isolator_filesystem {

class Filesystem final : public Isolator {
 public:
  Task<Status> configure(Settings) override;
  Task<Status> start() override;
  Task<Result<fb::HealthT>> health() override;
  Task<Result<fb::isolator::RecoveredT>> recover(Request<fb::isolator::Recover>) override;
  Task<Result<fb::isolator::PreparedT>> prepare(Request<fb::isolator::Prepare>) override;
  Task<Status> cleanup(Request<fb::isolator::Cleanup>) override;

  bool (*allowed)() = nullptr;  // tests: instead of asking the system for our rights

 private:
  [[nodiscard]] ContainerDirs dirs_of(const std::string& id) const { return {scratch_ + "/" + id}; }

  Rules rules_;
  std::string scratch_, volumes_, secrets_;
  bool may_ = true;
};

}  // namespace gantry::isolator_filesystem
