// Isolator `nofile`: caps the open files of a task. See README.md.
#pragma once

#include <gantry/isolator.hpp>

#include <map>
#include <string>

namespace gantry::isolator_nofile {

// No override locks anything: the host enters an instance one call at a time (one strand).
class Nofile final : public Isolator {
 public:
  Task<Status> configure(Settings settings) override;
  Task<Result<fb::isolator::RecoveredT>> recover(Request<fb::isolator::Recover>) override;
  Task<Result<fb::isolator::PreparedT>> prepare(Request<fb::isolator::Prepare>) override;
  Task<Status> attach(Request<fb::isolator::Attach>) override;
  Task<Status> cleanup(Request<fb::isolator::Cleanup>) override;

 private:
  // What the task asks for, else the default; an Error if that is no number or above the ceiling.
  [[nodiscard]] Result<std::int64_t> limit_of(const fb::TaskInfo* task) const;

  std::int64_t limit_ = 0;
  std::int64_t ceiling_ = 0;
  std::map<std::string, std::int64_t, std::less<>> prepared_;  // container -> limit; until its cleanup
};

}  // namespace gantry::isolator_nofile
