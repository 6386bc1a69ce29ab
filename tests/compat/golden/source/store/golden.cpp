// A store in memory. Uses settings of each type, timers, offloaded work, metrics, logs, streams and errors.
#include <gantry/store.hpp>

#include <map>

namespace {

using namespace gantry;

class Golden final : public Store {
 public:
  Task<Status> configure(Settings s) override {
    if (!s.reload()) {
      name_ = s.text("name");
      most_ = static_cast<std::size_t>(s.number("most"));
      pause_ = s.duration("pause");
      for (const std::string& key : s.list("seeds")) records_[key] = {++version_, {}};
      commits_ = host().metric("golden_commits", fb::MetricKind::COUNTER, "1", "Commits applied");
    }
    if (s.text("name") == "refused") co_return fail(Code::invalid_argument, "refused is no name; use another", "name");
    strict_ = s.flag("strict");
    co_return ok;
  }
  Task<Status> start() override {
    host().info("started", {{"name", name_}});
    host().timer(pause_, [this] { well_ = true; });
    co_return ok;
  }
  Task<Result<fb::HealthT>> health() override {
    fb::HealthT h;
    h.state = well_ ? fb::HealthState::OK : fb::HealthState::DEGRADED;
    h.message = name_;
    co_return h;
  }
  Task<Result<fb::store::RecordT>> get(Request<fb::store::Get> r) override {
    const auto it = records_.find(std::string(text(r->key())));
    if (it == records_.end()) co_return fail(Code::not_found, "no record " + std::string(text(r->key())));
    co_return record(it->first, false);
  }
  Task<Result<fb::store::CommittedT>> commit(Request<fb::store::Commit> r) override {
    // Through the pool and back, as a store with a disk would.
    auto waking = host().offload([]() -> Status { return ok; });
    Status awake = co_await std::move(waking);
    if (!awake.has_value()) co_return awake.error();
    Status fit = check(*r);
    if (!fit.has_value()) co_return fit.error();
    fb::store::CommittedT done;
    for (const auto* op : *r->ops()) {
      const std::string key(text(op->key()));
      if (op->type() == fb::store::OpType::DELETE) {
        records_.erase(key);
        done.versions.push_back(0);
      } else if (op->type() == fb::store::OpType::PUT) {
        auto& [version, value] = records_[key];
        version = ++version_;
        value.assign(op->value()->begin(), op->value()->end());
        done.versions.push_back(version);
      } else {
        done.versions.push_back(version_of(key));
      }
    }
    commits_.add();
    co_return done;
  }
  void list(Request<fb::store::List> r, Responder out) override {
    const std::string prefix(text(r->prefix()));
    for (const auto& [key, kept] : records_) {
      if (key.compare(0, prefix.size(), prefix) != 0) continue;
      fb::store::RecordsT chunk;
      chunk.records.push_back(std::make_unique<fb::store::RecordT>(record(key, r->keys_only())));
      const Buffer b = pack(chunk);
      out.more(Bytes(b));
    }
    out.complete();
  }

 private:
  [[nodiscard]] std::uint64_t version_of(const std::string& key) const {
    const auto it = records_.find(key);
    return it == records_.end() ? 0 : it->second.first;
  }
  Status check(const fb::store::Commit& c) const {
    if (!c.ops()) return fail(Code::invalid_argument, "a commit without operations");
    for (const auto* op : *c.ops()) {
      const std::string key(text(op->key()));
      if (op->expected() && *op->expected() != version_of(key)) return fail(Code::aborted, "record " + key + " has another version");
      if (op->type() == fb::store::OpType::PUT && (!op->value() || (strict_ && op->value()->size() > most_)))
        return fail(Code::resource_exhausted, "record " + key + " has no value, or one above " + std::to_string(most_) + " bytes");
    }
    return ok;
  }
  [[nodiscard]] fb::store::RecordT record(const std::string& key, bool bare) const {
    fb::store::RecordT r;
    r.key = key;
    r.version = records_.at(key).first;
    if (!bare) r.value = records_.at(key).second;
    return r;
  }

  std::map<std::string, std::pair<std::uint64_t, std::vector<std::uint8_t>>> records_;
  std::uint64_t version_ = 0;
  std::string name_;
  std::size_t most_ = 0;
  std::chrono::nanoseconds pause_{0};
  bool strict_ = true, well_ = false;
  Metric commits_;
};

}  // namespace

GANTRY_MODULE(Golden, "golden")
