// A Store in memory for tests and simulations: answers through a Loop, fails on demand, and survives "crashes" of what
// uses it, for the records live in a separate object.
#pragma once

#include "kernel/base/loop.hpp"
#include "kernel/store/store.hpp"

#include <functional>
#include <map>
#include <memory>

namespace gantry::store {

class FakeStore final : public Store {
 public:
  using Records = std::map<std::string, Buffer, std::less<>>;

  // Records outlive the store if they are shared: a restarted master opens a new FakeStore on the same ones.
  explicit FakeStore(base::Loop& loop, std::shared_ptr<Records> records = std::make_shared<Records>())
      : loop_(loop), records_(std::move(records)) {}

  // What happens to each commit, asked when it arrives: ok, or the error it gets (nothing is applied then).
  std::function<Status(const std::vector<Op>&)> on_commit;
  // Waits this long before a commit is applied; commits stay in order.
  base::Nanos delay{0};
  // Commits wait until release() while true.
  bool hold = false;

  void commit(std::vector<Op> ops, Function<void(Status)> done) override {
    ++commits;
    auto work = [this, alive = std::weak_ptr<int>(alive_), ops = std::move(ops), done = std::move(done)]() mutable {
      if (alive.expired()) return;
      if (on_commit) {
        if (auto s = on_commit(ops); !s) return done(std::move(s));
      }
      for (auto& op : ops) {
        if (op.value)
          records_->insert_or_assign(op.key, std::move(*op.value));
        else
          records_->erase(op.key);
      }
      done(ok);
    };
    if (hold)
      held_.emplace_back(std::move(work));
    else if (delay > base::Nanos(0))
      loop_.after(delay, std::move(work));
    else
      loop_.post(std::move(work));
  }
  void release() {
    hold = false;
    for (auto& w : std::exchange(held_, {})) loop_.post(std::move(w));
  }
  void get(std::string key, Function<void(Result<Buffer>)> done) override {
    loop_.post([this, alive = std::weak_ptr<int>(alive_), key = std::move(key), done = std::move(done)]() mutable {
      if (alive.expired()) return;
      const auto it = records_->find(key);
      if (it == records_->end()) return done(fail(Code::not_found, "no record '" + key + "'"));
      done(Buffer(Bytes(it->second)));
    });
  }
  void list(std::string prefix, Function<void(std::string_view, Bytes)> each, Function<void(Status)> done) override {
    loop_.post([this, alive = std::weak_ptr<int>(alive_), prefix = std::move(prefix), each = std::move(each),
                done = std::move(done)]() mutable {
      if (alive.expired()) return;
      for (auto it = records_->lower_bound(prefix);
           it != records_->end() && it->first.compare(0, prefix.size(), prefix) == 0; ++it)
        each(it->first, it->second);
      done(ok);
    });
  }
  [[nodiscard]] const std::shared_ptr<Records>& records() const { return records_; }

  std::uint64_t commits = 0;

 private:
  base::Loop& loop_;
  std::shared_ptr<Records> records_;
  std::shared_ptr<int> alive_ = std::make_shared<int>(0);
  std::vector<Function<void()>> held_;
};

}  // namespace gantry::store
