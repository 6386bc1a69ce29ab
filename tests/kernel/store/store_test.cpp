// Keys, group commit over a module, the corners of the service STORE.
#include "kernel/store/store.hpp"

#include "../master/fake_instance.hpp"
#include "kernel/base/manual_loop.hpp"
#include "kernel/store/fake_store.hpp"
#include "kernel/store/store_service.hpp"

#include <gantry/store_generated.h>
#include <gtest/gtest.h>

namespace gantry::store {
namespace {

namespace fs = fb::store;

TEST(Keys, AreCheckedAndMade) {
  for (const auto* good : {"a", "a/b", "agent/x-S0", "a%2Fb/_~."}) EXPECT_TRUE(validate_key(good)) << good;
  for (const auto* bad : {"", "/", "a/", "/a", "a//b", "a b", "a\n", "\xc3\xa9"})
    EXPECT_FALSE(validate_key(bad)) << bad;
  EXPECT_FALSE(validate_key(std::string(513, 'a')));
  for (const auto* text : {"plain-1", "with/slash", "100%", "\xc3\xa9 x", "%41"}) {
    EXPECT_TRUE(validate_key(key_segment(text))) << text;
    EXPECT_EQ(unkey_segment(key_segment(text)), text);
  }
  EXPECT_NE(key_segment("a/b"), key_segment("a%2Fb"));
}

// A store module with versions, in memory.
struct Disk {
  std::map<std::string, std::vector<std::uint8_t>> records;
  std::vector<std::size_t> commits;  // ops in each
  std::string poison;                // a commit with this key is refused
  gantry_code failure = GANTRY_OK;
  void operator()(std::uint32_t method, Bytes body, const std::function<void(gantry_code, Bytes)>& reply) {
    if (failure < 0) return reply(failure, pack_error(fail(Code::resource_exhausted, "no space left on device")));
    if (method == static_cast<std::uint32_t>(fs::Method::COMMIT)) {
      const auto c = unpack<fs::Commit>(body).value();
      commits.push_back(c.ops.size());
      for (const auto& op : c.ops)
        if (op->key == poison) return reply(GANTRY_INVALID_ARGUMENT, {});
      for (const auto& op : c.ops) {
        if (op->type == fs::OpType::PUT)
          records[op->key] = op->value;
        else
          records.erase(op->key);
      }
      fs::CommittedT done;
      done.versions.resize(c.ops.size(), 1);
      return reply(GANTRY_OK, pack(done));
    }
    if (method == static_cast<std::uint32_t>(fs::Method::GET)) {
      const auto g = unpack<fs::Get>(body).value();
      if (!records.contains(g.key)) return reply(GANTRY_NOT_FOUND, {});
      fs::RecordT r;
      r.key = g.key;
      r.value = records[g.key];
      return reply(GANTRY_OK, pack(r));
    }
    const auto l = unpack<fs::List>(body).value();
    for (const auto& [k, v] : records) {
      if (k.compare(0, l.prefix.size(), l.prefix) != 0 || k <= l.after) continue;
      fs::RecordsT rs;
      rs.records.push_back(std::make_unique<fs::RecordT>());
      rs.records[0]->key = k;
      rs.records[0]->value = v;
      reply(GANTRY_MORE, pack(rs));
    }
    reply(GANTRY_OK, {});
  }
};

std::vector<Op> put(std::string key, std::string_view value) {
  std::vector<Op> ops;
  ops.push_back({std::move(key), Buffer(as_bytes(value))});
  return ops;
}

struct ModuleStoreTest : testing::Test {
  base::ManualLoop loop;
  Disk disk;
  module::FakeInstance instance{loop, "store", "fake",
                                [this](std::uint32_t m, Bytes b, const auto& r) { disk(m, b, r); }};
  ModuleStore store{instance};
};

TEST_F(ModuleStoreTest, GathersWhatArrivesWhileACommitIsUnderWay) {
  int done = 0;
  for (int i = 0; i < 100; ++i)
    store.commit(put("k/" + std::to_string(i), "v"), [&](Status s) { done += s.has_value(); });
  EXPECT_EQ(done, 0);
  loop.run();
  EXPECT_EQ(done, 100);
  EXPECT_EQ(disk.commits, (std::vector<std::size_t>{1, 99}));
  EXPECT_EQ(disk.records.size(), 100u);
}

TEST_F(ModuleStoreTest, OneBadMemberDoesNotSpoilTheGroup) {
  disk.poison = "bad";
  std::vector<bool> results(4);
  store.commit(put("first", "v"), [&](Status s) { results[0] = s.has_value(); });
  store.commit(put("a", "v"), [&](Status s) { results[1] = s.has_value(); });
  store.commit(put("bad", "v"), [&](Status s) { results[2] = s.has_value(); });
  store.commit(put("b", "v"), [&](Status s) { results[3] = s.has_value(); });
  loop.run();
  EXPECT_EQ(results, (std::vector<bool>{true, true, false, true}));
  EXPECT_EQ(disk.records.size(), 3u);
}

TEST_F(ModuleStoreTest, AFullDiskFailsClearlyAndHealsItself) {
  disk.failure = GANTRY_RESOURCE_EXHAUSTED;
  Status s = ok;
  store.commit(put("k", "v"), [&](Status x) { s = std::move(x); });
  loop.run();
  EXPECT_EQ(s.error().code, Code::resource_exhausted);
  EXPECT_NE(s.error().message.find("free space"), std::string::npos) << s.error().message;
  disk.failure = GANTRY_OK;
  store.commit(put("k", "v"), [&](Status x) { s = std::move(x); });
  loop.run();
  EXPECT_TRUE(s);
}

TEST_F(ModuleStoreTest, ReadsBack) {
  disk.records = {{"a/1", {1}}, {"a/2", {2}}, {"b/1", {3}}};
  std::vector<std::string> keys;
  Status end = fail(Code::unknown, "");
  store.list(
      "a/", [&](std::string_view k, Bytes v) { keys.push_back(std::string(k) + "=" + std::to_string(v[0])); },
      [&](Status s) { end = std::move(s); });
  std::optional<Result<Buffer>> there, absent;
  store.get("b/1", [&](Result<Buffer> r) { there = std::move(r); });
  store.get("c", [&](Result<Buffer> r) { absent = std::move(r); });
  loop.run();
  EXPECT_TRUE(end);
  EXPECT_EQ(keys, (std::vector<std::string>{"a/1=1", "a/2=2"}));
  EXPECT_EQ(there->value().size(), 1u);
  EXPECT_EQ(absent->error().code, Code::not_found);
}

TEST_F(ModuleStoreTest, ServiceKeepsEachModuleInItsCorner) {
  StoreService service(instance);
  module::FakeInstance a(loop, "framework", "a", {}), b(loop, "framework", "b", {});
  const auto ask = [&](module::Instance& who, fs::Method m, const Buffer& body) {
    std::vector<std::pair<gantry_code, Buffer>> out;
    service.request({&who, static_cast<std::uint32_t>(m), body, 1},
                    [&](gantry_code code, Bytes bytes) { out.emplace_back(code, Buffer(bytes)); });
    loop.run();
    return out;
  };
  const auto commit = [&](module::Instance& who, std::string key) {
    fs::CommitT c;
    c.ops.push_back(std::make_unique<fs::OpT>());
    c.ops[0]->key = std::move(key);
    c.ops[0]->value = {9};
    return ask(who, fs::Method::COMMIT, pack(c)).at(0).first;
  };
  EXPECT_EQ(commit(a, "x"), GANTRY_OK);
  EXPECT_TRUE(disk.records.contains("module/framework.a/x"));
  EXPECT_EQ(commit(a, "../framework.b/y"), GANTRY_OK);  // a segment like any other: it stays in the corner
  EXPECT_TRUE(disk.records.contains("module/framework.a/../framework.b/y"));
  EXPECT_EQ(commit(a, "/x"), GANTRY_INVALID_ARGUMENT);
  EXPECT_EQ(commit(a, ""), GANTRY_INVALID_ARGUMENT);
  EXPECT_EQ(commit(b, "x"), GANTRY_OK);
  fs::GetT g;
  g.key = "x";
  auto got = ask(b, fs::Method::GET, pack(g));
  EXPECT_EQ(unpack<fs::Record>(got.at(0).second)->key, "x");
  fs::ListT l;
  auto listed = ask(b, fs::Method::LIST, pack(l));
  ASSERT_EQ(listed.size(), 2u);
  EXPECT_EQ(unpack<fs::Records>(listed[0].second)->records[0]->key, "x");
  EXPECT_EQ(ask(b, static_cast<fs::Method>(99), pack(l)).at(0).first, GANTRY_UNIMPLEMENTED);
  EXPECT_EQ(ask(b, fs::Method::GET, Buffer(Bytes(std::vector<std::uint8_t>(9, 0xff)))).at(0).first,
            GANTRY_INVALID_ARGUMENT);
}

TEST(FakeStore, FailsOnDemandAndKeepsItsRecords) {
  base::ManualLoop loop;
  auto records = std::make_shared<FakeStore::Records>();
  FakeStore s(loop, records);
  Status last = ok;
  s.on_commit = [](const auto& ops) -> Status {
    return ops[0].key == "no" ? Status(fail(Code::resource_exhausted, "full")) : ok;
  };
  s.commit(put("no", "v"), [&](Status x) { last = std::move(x); });
  s.commit(put("yes", "v"), [](Status x) { EXPECT_TRUE(x); });
  loop.run();
  EXPECT_FALSE(last);
  FakeStore again(loop, records);
  bool found = false;
  again.get("yes", [&](Result<Buffer> r) { found = r.has_value(); });
  loop.run();
  EXPECT_TRUE(found);
}

}  // namespace
}  // namespace gantry::store
