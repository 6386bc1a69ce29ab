// One LMDB environment, as Results: open with checks, commit batches, read.
#pragma once

#include <gantry/message.hpp>
#include <gantry/store_generated.h>

#include <lmdb.h>

#include <functional>
#include <string>

namespace gantry::store_lmdb {

// Reads may run on any thread at any time; commits from one thread at a time.
class Environment {
 public:
  // Opens or creates the store in `directory`. Errors name the directory and the remedy:
  //   FAILED_PRECONDITION  not writable, or in use by another process
  //   DATA_LOSS            truncated or not an LMDB file; nothing is touched
  static Result<std::unique_ptr<Environment>> open(const std::string& directory, std::uint64_t max_size, bool sync);
  ~Environment();
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

  // Applies each commit all or nothing, in order, and makes them durable together. One result for each.
  std::vector<Result<fb::store::CommittedT>> commit(const std::vector<const fb::store::CommitT*>& commits);

  Result<fb::store::RecordT> get(std::string_view key) const;

  // Calls each(key, value, version) in key order for keys that start with prefix and come after `after`, until it
  // returns false.
  Status list(std::string_view prefix, std::string_view after,
              const std::function<bool(std::string_view, Bytes, std::uint64_t)>& each) const;

 private:
  Environment() = default;
  Result<fb::store::CommittedT> apply(MDB_txn* parent, const fb::store::CommitT& commit, std::uint64_t version);

  std::string directory_;
  int lock_fd_ = -1;
  MDB_env* env_ = nullptr;
  MDB_dbi dbi_ = 0;
};

}  // namespace gantry::store_lmdb
