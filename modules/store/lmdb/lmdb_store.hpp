// Store module on LMDB: reads on the strand (memory mapped), commits gathered and made durable on the blocking pool.
#pragma once

#include "environment.hpp"

#include <gantry/store.hpp>

#include <deque>

namespace gantry::store_lmdb {

class LmdbStore final : public Store {
 public:
  Task<Status> configure(Settings settings) override;
  Task<Status> stop() override;
  Task<Result<fb::store::RecordT>> get(Request<fb::store::Get>) override;
  Task<Result<fb::store::CommittedT>> commit(Request<fb::store::Commit>) override;
  void list(Request<fb::store::List>, Responder) override;

 private:
  struct Waiting {
    fb::store::CommitT commit;
    Promise<Result<fb::store::CommittedT>> done;
  };
  Task<void> drain();

  // Shared with work on the blocking pool, which may still run while the module is destroyed.
  std::shared_ptr<Environment> env_;
  std::deque<Waiting> queue_;
  bool draining_ = false;
  std::vector<Promise<bool>> idle_;
};

}  // namespace gantry::store_lmdb
