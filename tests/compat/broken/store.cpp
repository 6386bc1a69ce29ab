// What can be wrong with a store: store/lmdb, whose commits are answered or applied otherwise than they should be.
#include "shim.hpp"

#include "lmdb_store.hpp"

#include <algorithm>

namespace broken {
namespace {

namespace fs = gantry::fb::store;
constexpr std::uint32_t get = 16, commit = 17, list = 18;

class StoreShim final : public Shim {
 public:
  using Shim::Shim;

  void call(const gantry_call& c) override {
    if (c.method == commit) {
      auto body = gantry::unpack<fs::Commit>(gantry::from_abi(c.body));
      if (body) return on_commit(c, std::move(*body));
    }
    if (c.method == list && fault("list_out_of_order")) {
      reordered_ = c.token;
      return pass(c);
    }
    if (c.method == get && fault("forgets_versions")) versionless_ = c.token;
    pass(c);
  }

  void complete(std::uint64_t token, gantry_code code, Bytes body) override {
    if (token == reordered_ && code == GANTRY_MORE) {
      if (auto records = gantry::unpack<fs::Records>(body)) {
        std::reverse(records->records.begin(), records->records.end());
        return answer(token, code, gantry::pack(*records));
      }
    }
    if (token == versionless_ && code == GANTRY_OK) {
      if (auto record = gantry::unpack<fs::Record>(body)) {
        record->version = 1;
        return answer(token, code, gantry::pack(*record));
      }
    }
    answer(token, code, body);
  }

 private:
  void on_commit(const gantry_call& c, fs::CommitT body) {
    const std::uint64_t token = c.token;
    if (fault("acknowledges_before_writing")) {
      // Answered from memory; the disk follows when there is time.
      fs::CommittedT done;
      for (std::size_t i = 0; i < body.ops.size(); ++i) done.versions.push_back(++version_);
      answer(token, GANTRY_OK, gantry::pack(done));
      auto late = std::make_shared<Buffer>(gantry::pack(body));
      return later(700, [this, late] { own_call(commit, Buffer(Bytes(*late)), [](gantry_code, Bytes) {}); });
    }
    if (fault("applies_one_by_one")) {
      auto rest = std::make_shared<fs::CommitT>(std::move(body));
      return one_by_one(token, rest, 0, std::make_shared<fs::CommittedT>());
    }
    if (fault("ignores_expected"))
      for (auto& op : body.ops) op->expected = flatbuffers::nullopt;
    if (fault("loses_empty_values"))
      std::erase_if(body.ops, [](const auto& op) { return op->type == fs::OpType::PUT && op->value.empty(); });
    own_call(commit, gantry::pack(body), [this, token](gantry_code code, Bytes reply) { answer(token, code, reply); });
  }
  void one_by_one(std::uint64_t token, std::shared_ptr<fs::CommitT> all, std::size_t at, std::shared_ptr<fs::CommittedT> done) {
    if (at == all->ops.size()) return answer(token, GANTRY_OK, gantry::pack(*done));
    fs::CommitT one;
    one.ops.push_back(std::make_unique<fs::OpT>(*all->ops[at]));
    own_call(commit, gantry::pack(one), [this, token, all, at, done](gantry_code code, Bytes reply) {
      if (code != GANTRY_OK) return answer(token, code, reply);
      if (const auto* r = gantry::view<fs::Committed>(reply); r && r->versions() && r->versions()->size())
        done->versions.push_back(r->versions()->Get(0));
      one_by_one(token, all, at + 1, done);
    });
  }
  std::uint64_t version_ = 0;
  std::atomic<std::uint64_t> reordered_{0}, versionless_{0};
};

}  // namespace

gantry_provider inner_provider() { return gantry::provider<gantry::store_lmdb::LmdbStore>("lmdb"); }
std::unique_ptr<Shim> make_shim(const gantry_host* real) { return std::make_unique<StoreShim>(real); }

}  // namespace broken
