// Which container has which cards: in memory, and one small file a container, so that a later life of the agent knows.
#pragma once

#include "nvml.hpp"

#include <gantry/result.hpp>

#include <map>
#include <string>
#include <vector>

namespace gantry::isolator_gpu {

class Ledger {
 public:
  Ledger() = default;
  // `directory` exists; the files in it are ours alone.
  explicit Ledger(std::string directory) : directory_(std::move(directory)) {}

  // Reads all files. A file that is not ours or is damaged is an error that names it.
  Status load();
  // Gives the container `count` cards of `cards` that are well and nobody's, in order; the same answer as before if it has cards
  // already. In memory only: record() comes next. RESOURCE_EXHAUSTED names how many are free.
  Result<std::vector<std::string>> take(const std::string& id, unsigned count, const std::vector<Card>& cards);
  // [any thread, blocks] Writes it down, durably; nothing of the object but its directory is used.
  [[nodiscard]] Status record(const std::string& id, const std::vector<std::string>& uuids) const;
  // OK if there is nothing to give back.
  Status give_back(const std::string& id);

  // uuids; nullptr if it has none.
  [[nodiscard]] const std::vector<std::string>* of(const std::string& id) const;
  [[nodiscard]] const std::map<std::string, std::vector<std::string>>& all() const { return taken_; }

 private:
  [[nodiscard]] std::string path(const std::string& id) const { return directory_ + "/" + id; }
  std::string directory_;
  std::map<std::string, std::vector<std::string>> taken_;  // container -> uuids
};

}  // namespace gantry::isolator_gpu
