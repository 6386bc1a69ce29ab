// The control group of one module: its memory, CPU and number of processes, and the means to end all of it at once.
#pragma once

#include "options.hpp"

#include <string>
#include <vector>

namespace gantry::modhost {

class Group {
 public:
  // Makes the group, empty: what an earlier run left in it is killed. Without the rights for it, or without limits to set,
  // it stays unmade; `missing()` says what cannot be limited.
  explicit Group(const Options& options);
  // Puts the calling process in. False: it could not.
  bool enter() const;
  // Kills all in it until nobody is left, or it gives up after a second.
  void kill() const;
  // Whether the memory limit has killed something in it.
  [[nodiscard]] bool out_of_memory() const;
  void remove() const;
  [[nodiscard]] bool limits_memory() const { return memory_; }
  [[nodiscard]] bool limits_processes() const { return pids_; }
  [[nodiscard]] const std::string& missing() const { return missing_; }

 private:
  std::vector<std::string> folders_;  // one per hierarchy
  std::string memory_events_;         // the file that counts kills
  bool memory_ = false, cpu_ = false, pids_ = false;
  std::string missing_;
};

}  // namespace gantry::modhost
