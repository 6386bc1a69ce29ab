// Store `@NAME@`: records in memory, every commit in a log on disk. The contract: docs/store.md of the SDK.
//
// The log is never made shorter: write that, or keep records elsewhere, before this holds a busy cluster for years.
#pragma once

#include "log_file.hpp"

#include <gantry/store.hpp>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace @NAME_ID@ {

class @CLASS@ final : public gantry::Store {
 public:
  gantry::Task<gantry::Status> configure(gantry::Settings settings) override;
  gantry::Task<gantry::Status> start() override;
  gantry::Task<gantry::Status> stop() override;
  gantry::Task<gantry::Result<gantry::fb::store::RecordT>> get(gantry::Request<gantry::fb::store::Get>) override;
  gantry::Task<gantry::Result<gantry::fb::store::CommittedT>> commit(gantry::Request<gantry::fb::store::Commit>) override;
  void list(gantry::Request<gantry::fb::store::List>, gantry::Responder) override;

 private:
  struct Value {
    std::vector<std::uint8_t> bytes;
    std::uint64_t version = 0;
  };
  using Records = std::map<std::string, Value>;
  using Changes = std::map<std::string, std::optional<Value>>;  // nothing: deleted
  using Outcome = gantry::Result<gantry::fb::store::CommittedT>;
  struct Waiting {
    gantry::fb::store::CommitT commit;
    gantry::Promise<Outcome> answer;
  };
  // The commit after `changes`; all of it is in `changes` then, or nothing.
  [[nodiscard]] Outcome plan(const gantry::fb::store::CommitT& commit, Changes& changes);
  gantry::Task<void> write_batches();
  void apply(Changes changes);
  [[nodiscard]] bool replay(std::string_view frame);

  std::string dir_;
  bool sync_ = true, writing_ = false, stopped_ = true;
  std::shared_ptr<LogFile> log_;
  Records records_;            // what readers see: on disk, all of it
  std::uint64_t version_ = 0;  // the last one given to any key, also before a restart
  std::vector<Waiting> queue_;
  gantry::Promise<bool> idle_;
};

// 1 to 480 bytes: segments of [A-Za-z0-9._~%-] joined by single slashes.
[[nodiscard]] bool valid_key(std::string_view key);

}  // namespace @NAME_ID@
