// Durable records of the kernel, over whichever store module is configured.
//
// Keys are paths ("agent/<id>"), values one flatbuffer each. All members run on the loop; `done` never runs inside the
// call. A commit is all or nothing and survives a power cut once done(ok) has run (sdk/schema/store.fbs).
#pragma once

#include "kernel/module/module.hpp"

#include <gantry/function.hpp>
#include <gantry/message.hpp>

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace gantry::store {

// One change. No value: delete the key.
struct Op {
  std::string key;
  std::optional<Buffer> value;
};

// "[A-Za-z0-9._~%-]+(/...)*", at most 512 bytes; the error names the key and what is wrong with it.
[[nodiscard]] Status validate_key(std::string_view key);
// Any text as one key segment: bytes that keys may not have become %XX. Injective.
[[nodiscard]] std::string key_segment(std::string_view text);
[[nodiscard]] std::string unkey_segment(std::string_view segment);

inline constexpr std::size_t max_value = 1u << 20;

class Store {
 public:
  virtual ~Store() = default;
  virtual void commit(std::vector<Op> ops, Function<void(Status)> done) = 0;
  // NOT_FOUND if absent.
  virtual void get(std::string key, Function<void(Result<Buffer>)> done) = 0;
  // All records below the prefix in key order; then done. `value` is valid during `each`.
  virtual void list(std::string prefix, Function<void(std::string_view key, Bytes value)> each,
                    Function<void(Status)> done) = 0;
};

// The real one. Commits that arrive while one is under way leave together in the next (group commit), so a burst of
// a thousand registrations costs a handful of disk syncs.
class ModuleStore final : public Store {
 public:
  // With a loop, what finds the module away (its process is restarted) is sent again until `patience` is over: puts and
  // deletes of the kernel say the same when said twice.
  explicit ModuleStore(module::Instance& instance, base::Loop* loop = nullptr,
                       base::Nanos patience = std::chrono::seconds(30))
      : instance_(instance), loop_(loop), patience_(patience), self_(std::make_shared<ModuleStore*>(this)) {}
  ~ModuleStore() override { *self_ = nullptr; }
  void commit(std::vector<Op> ops, Function<void(Status)> done) override;
  void get(std::string key, Function<void(Result<Buffer>)> done) override;
  void list(std::string prefix, Function<void(std::string_view, Bytes)> each, Function<void(Status)> done) override;

  struct Counters {
    std::uint64_t commits = 0;   // sent to the module
    std::uint64_t requests = 0;  // asked for by the kernel
    std::uint64_t failures = 0;
  };
  [[nodiscard]] const Counters& counters() const { return counters_; }

 private:
  struct Waiting {
    std::vector<Op> ops;
    Function<void(Status)> done;
  };
  void pump();
  void send(std::vector<Waiting> group);
  void send_commit(std::shared_ptr<std::vector<Waiting>> group, std::shared_ptr<Buffer> body, base::Instant since);
  void ask(std::string key, std::shared_ptr<Function<void(Result<Buffer>)>> done, base::Instant since);
  struct Listing;
  void ask(std::shared_ptr<Listing> listing, base::Instant since);
  // Runs `again` later if the error says that the module is away and there is still time.
  bool later(const Error& error, base::Instant since, Function<void()> again);

  module::Instance& instance_;
  base::Loop* const loop_;
  const base::Nanos patience_;
  std::shared_ptr<ModuleStore*> self_;  // emptied on destruction, so late replies find nobody
  std::deque<Waiting> waiting_;
  bool busy_ = false;
  std::size_t alone_left_ = 0;  // commits at the front to send one by one: as a group they were refused
  Counters counters_;
};

}  // namespace gantry::store
