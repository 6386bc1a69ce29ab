// A store whose disk outlives the master: commits take time, may fail, and are lost if the machine dies before they land.
#pragma once

#include "kernel/store/store.hpp"
#include "tests/sim/random.hpp"

#include <map>
#include <memory>

namespace gantry::sim {

struct Disk {
  std::map<std::string, std::vector<std::uint8_t>> records;
};

class SimStore final : public store::Store {
 public:
  // acknowledge_early: the broken guard. Answers before the record is on the disk.
  SimStore(base::Loop& loop, Random& random, Disk& disk, unsigned failure_percent, bool acknowledge_early)
      : loop_(loop), random_(random), disk_(disk), failures_(failure_percent), early_(acknowledge_early) {}
  ~SimStore() override { *alive_ = false; }
  void commit(std::vector<store::Op> ops, Function<void(Status)> done) override;
  void get(std::string key, Function<void(Result<Buffer>)> done) override;
  void list(std::string prefix, Function<void(std::string_view, Bytes)> each, Function<void(Status)> done) override;
  void set_failures(unsigned percent) { failures_ = percent; }

 private:
  base::Loop& loop_;
  Random& random_;
  Disk& disk_;
  unsigned failures_;
  bool early_;
  base::Instant last_{0};  // commits land in order
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace gantry::sim
