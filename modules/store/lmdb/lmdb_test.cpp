#include "lmdb_store.hpp"

#include <gantry/testing/host.hpp>

#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace gantry::store_lmdb {
namespace {

namespace fs = std::filesystem;
using fb::store::OpType;
using Method = fb::store::Method;

struct TempDir {
  TempDir() {
    char name[] = "/tmp/gantry-lmdb-XXXXXX";
    path = ::mkdtemp(name);
  }
  ~TempDir() { fs::remove_all(path); }
  std::string path;
};

fb::store::CommitT commit(std::initializer_list<std::tuple<OpType, std::string, std::string, std::optional<std::uint64_t>>> ops) {
  fb::store::CommitT c;
  for (const auto& [type, key, value, expected] : ops) {
    auto op = std::make_unique<fb::store::OpT>();
    op->type = type;
    op->key = key;
    op->value.assign(value.begin(), value.end());
    if (expected) op->expected = *expected;
    c.ops.push_back(std::move(op));
  }
  return c;
}

class LmdbStoreTest : public ::testing::Test {
 protected:
  void SetUp() override { open(); }
  void open() {
    subject = std::make_unique<testing::Subject<LmdbStore>>(host, "lmdb");
    subject->work_dir(dir.path);
    const Status s = configure();
    ASSERT_TRUE(s) << s.error().message;
  }
  Status configure() { return subject->configure({{"directory", ""}, {"max_size", 64 << 20}, {"sync", false}}); }
  void reopen() {
    ASSERT_TRUE(subject->stop());
    subject.reset();
    open();
  }
  Result<fb::store::CommittedT> put(const std::string& key, const std::string& value, std::optional<std::uint64_t> expected = {}) {
    return subject->call<fb::store::Committed>(Method::COMMIT, commit({{OpType::PUT, key, value, expected}}));
  }
  Result<fb::store::RecordT> get(const std::string& key) {
    fb::store::GetT g;
    g.key = key;
    return subject->call<fb::store::Record>(Method::GET, g);
  }
  std::string value(const std::string& key) {
    auto r = get(key);
    return r ? std::string(r->value.begin(), r->value.end()) : std::string(to_string(r.error().code));
  }
  std::vector<std::string> keys(const std::string& prefix, const std::string& after = {}, std::uint32_t limit = 0) {
    fb::store::ListT l;
    l.prefix = prefix;
    l.after = after;
    l.limit = limit;
    l.keys_only = true;
    auto stream = subject->open(Method::LIST, l);
    EXPECT_TRUE(stream.done());
    EXPECT_EQ(stream.code(), Code::ok);
    std::vector<std::string> out;
    for (std::size_t i = 0; i < stream.chunks().size(); ++i) {
      const auto chunk = stream.chunk<fb::store::Records>(i);
      for (const auto& r : chunk->records) out.push_back(r->key);
    }
    return out;
  }

  TempDir dir;
  testing::Host host;
  std::unique_ptr<testing::Subject<LmdbStore>> subject;
};

TEST_F(LmdbStoreTest, RecordsSurviveAReopen) {
  ASSERT_TRUE(put("agent/a", "one"));
  ASSERT_TRUE(put("agent/b", std::string("\0two", 4)));
  reopen();
  EXPECT_EQ(value("agent/a"), "one");
  EXPECT_EQ(value("agent/b"), std::string("\0two", 4));
  EXPECT_EQ(value("agent/c"), "NOT_FOUND");
}

TEST_F(LmdbStoreTest, VersionsGrowAndAreChecked) {
  const auto first = put("k", "1", 0);
  ASSERT_TRUE(first);
  const auto again = put("k", "2", 0);
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code, Code::aborted);
  EXPECT_EQ(value("k"), "1");
  const auto second = put("k", "2", first->versions.at(0));
  ASSERT_TRUE(second);
  EXPECT_GT(second->versions.at(0), first->versions.at(0));
  reopen();
  const auto third = put("k", "3");
  ASSERT_TRUE(third);
  EXPECT_GT(third->versions.at(0), second->versions.at(0));
}

TEST_F(LmdbStoreTest, ACommitAppliesAllOrNothing) {
  ASSERT_TRUE(put("a", "old"));
  const auto r = subject->call<fb::store::Committed>(
      Method::COMMIT, commit({{OpType::PUT, "a", "new", {}}, {OpType::DELETE, "b", "", {}}, {OpType::CHECK, "c", "", 7}}));
  ASSERT_FALSE(r);
  EXPECT_EQ(r.error().code, Code::aborted);
  EXPECT_EQ(value("a"), "old");
  ASSERT_TRUE(subject->call<fb::store::Committed>(
      Method::COMMIT, commit({{OpType::PUT, "b", "x", {}}, {OpType::DELETE, "a", "", {}}, {OpType::CHECK, "c", "", 0}})));
  EXPECT_EQ(value("a"), "NOT_FOUND");
  EXPECT_EQ(value("b"), "x");
}

TEST_F(LmdbStoreTest, OneFailingCommitDoesNotSpoilItsNeighboursInABatch) {
  auto a = subject->enqueue(Method::COMMIT, commit({{OpType::PUT, "a", "1", {}}}));
  auto b = subject->enqueue(Method::COMMIT, commit({{OpType::PUT, "x", "1", {}}, {OpType::CHECK, "nope", "", 3}}));
  auto c = subject->enqueue(Method::COMMIT, commit({{OpType::PUT, "c", "1", {}}}));
  host.run();
  EXPECT_EQ(a.code(), Code::ok);
  EXPECT_EQ(b.code(), Code::aborted);
  EXPECT_EQ(c.code(), Code::ok);
  EXPECT_EQ(keys(""), (std::vector<std::string>{"a", "c"}));
}

TEST_F(LmdbStoreTest, ListsByPrefixInOrder) {
  for (const char* k : {"b/2", "a/1", "b/1", "b/10", "c"}) ASSERT_TRUE(put(k, "v"));
  EXPECT_EQ(keys("b/"), (std::vector<std::string>{"b/1", "b/10", "b/2"}));
  EXPECT_EQ(keys("b/", "b/1"), (std::vector<std::string>{"b/10", "b/2"}));
  EXPECT_EQ(keys("", "", 2), (std::vector<std::string>{"a/1", "b/1"}));
  EXPECT_EQ(keys("zzz"), std::vector<std::string>{});
}

TEST_F(LmdbStoreTest, BadKeysAndValuesAreRefusedByName) {
  for (const char* k : {"", "/a", "a/", "a//b", "a b", "\xc3\xa4"}) {
    const auto r = put(k, "v");
    ASSERT_FALSE(r) << k;
    EXPECT_EQ(r.error().code, Code::invalid_argument) << k;
  }
  EXPECT_FALSE(put(std::string(481, 'k'), "v"));
  EXPECT_TRUE(put(std::string(480, 'k'), "v"));
  const auto big = put("big", std::string((1u << 20) + 1, 'x'));
  ASSERT_FALSE(big);
  EXPECT_NE(big.error().message.find("1 MiB"), std::string::npos);
}

TEST_F(LmdbStoreTest, ASecondProcessIsRefused) {
  const auto other = Environment::open(dir.path, 64 << 20, false);
  ASSERT_FALSE(other);
  EXPECT_NE(other.error().message.find("in use by another process"), std::string::npos);
}

TEST_F(LmdbStoreTest, ATruncatedStoreIsRefusedAndNotTouched) {
  for (int i = 0; i < 200; ++i) ASSERT_TRUE(put("k/" + std::to_string(i), std::string(1000, 'v')));
  ASSERT_TRUE(subject->stop());
  subject.reset();
  const std::string file = dir.path + "/data.mdb";
  const auto whole = fs::file_size(file);
  for (const std::uintmax_t size : {whole / 2, std::uintmax_t{8192}, std::uintmax_t{100}, std::uintmax_t{0}}) {
    fs::resize_file(file, size);
    const auto r = Environment::open(dir.path, 64 << 20, false);
    ASSERT_FALSE(r) << size;
    EXPECT_EQ(r.error().code, Code::data_loss) << size << ": " << r.error().message;
    EXPECT_EQ(fs::file_size(file), size);
  }
  fs::remove(file);
  const auto r = Environment::open(dir.path, 64 << 20, false);
  ASSERT_FALSE(r);
  EXPECT_EQ(r.error().code, Code::data_loss);
}

TEST_F(LmdbStoreTest, GarbageIsRefused) {
  ASSERT_TRUE(subject->stop());
  subject.reset();
  std::ofstream(dir.path + "/data.mdb", std::ios::binary | std::ios::trunc) << std::string(65536, 'g');
  const auto r = Environment::open(dir.path, 64 << 20, false);
  ASSERT_FALSE(r);
  EXPECT_EQ(r.error().code, Code::data_loss);
}

TEST_F(LmdbStoreTest, AFullMapNamesTheRemedyAndLosesNothing) {
  ASSERT_TRUE(subject->stop());
  subject.reset();
  TempDir small;
  auto env = Environment::open(small.path, 256 << 10, false);
  ASSERT_TRUE(env);
  std::size_t stored = 0;
  for (;; ++stored) {
    const auto c = commit({{OpType::PUT, "k/" + std::to_string(stored), std::string(10000, 'v'), {}}});
    auto r = std::move((*env)->commit({&c}).at(0));
    if (r) continue;
    EXPECT_EQ(r.error().code, Code::resource_exhausted);
    EXPECT_NE(r.error().message.find("max_size"), std::string::npos);
    break;
  }
  std::size_t seen = 0;
  ASSERT_TRUE((*env)->list("k/", "", [&](std::string_view, Bytes, std::uint64_t) { return ++seen > 0; }));
  EXPECT_EQ(seen, stored);
}

TEST_F(LmdbStoreTest, AFullDiskIsReportedAndRecoversOnceThereIsSpace) {
  if (::geteuid() != 0) GTEST_SKIP() << "mounting a small tmpfs needs root";
  TempDir mount;
  if (::mount("tmpfs", mount.path.c_str(), "tmpfs", 0, "size=512k") != 0) GTEST_SKIP() << "tmpfs cannot be mounted here";
  struct Unmount {
    const std::string& path;
    ~Unmount() { ::umount2(path.c_str(), MNT_DETACH); }
  } unmount{mount.path};
  auto env = Environment::open(mount.path, 64 << 20, true);
  ASSERT_TRUE(env) << env.error().message;
  std::ofstream(mount.path + "/filler") << std::string(300 << 10, 'f');
  const auto big = commit({{OpType::PUT, "big", std::string(400 << 10, 'v'), {}}});
  auto r = std::move((*env)->commit({&big}).at(0));
  ASSERT_FALSE(r);
  EXPECT_EQ(r.error().code, Code::resource_exhausted) << r.error().message;
  fs::remove(mount.path + "/filler");
  const auto little = commit({{OpType::PUT, "little", "v", {}}});
  r = std::move((*env)->commit({&little}).at(0));
  EXPECT_TRUE(r) << r.error().message;
  EXPECT_FALSE((*env)->get("big"));
}

TEST_F(LmdbStoreTest, AReadOnlyDirectoryIsOneSentence) {
  TempDir d;
  ::chmod(d.path.c_str(), 0555);
  // Root may write anywhere, so the question is asked by a child without rights.
  const pid_t child = ::fork();
  if (child == 0) {
    if (::geteuid() == 0 && ::setuid(65534) != 0) ::_exit(2);
    const auto r = Environment::open(d.path, 64 << 20, false);
    ::_exit(!r && r.error().code == Code::failed_precondition && r.error().message.find("must exist and be writable") != std::string::npos ? 0 : 1);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST_F(LmdbStoreTest, StopFinishesAcceptedCommits) {
  auto a = subject->enqueue(Method::COMMIT, commit({{OpType::PUT, "a", "1", {}}}));
  ASSERT_TRUE(subject->stop());
  EXPECT_EQ(a.code(), Code::ok);
  subject.reset();
  open();
  EXPECT_EQ(value("a"), "1");
}

}  // namespace
}  // namespace gantry::store_lmdb
