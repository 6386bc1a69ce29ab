// The journal under faults: torn at every byte, flipped at every byte, full at every write.
#include "kernel/agent/checkpoint.hpp"
#include "tests/kernel/agent/fake_disk.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace gantry::agent {
namespace {

using fb::record::EntryType;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

const std::string path = "/w/agent/journal";

fb::record::EntryT numbered(int n) {
  fb::record::EntryT e;
  e.type = EntryType::UPDATE;
  e.task_id = "task-" + std::to_string(n);
  e.pid = n;
  return e;
}

struct Read {
  std::vector<int> entries;
  Journal::Opened opened;
  std::unique_ptr<Journal> journal;
  std::string error;
};

Read open(Disk& disk) {
  Read out;
  auto journal = Journal::open(
      disk, "/w/agent", [&](const fb::record::Entry& e) { out.entries.push_back(e.pid()); }, &out.opened);
  if (journal) {
    out.journal = std::move(*journal);
  } else {
    out.error = journal.error().message;
  }
  return out;
}

std::vector<int> first(std::size_t n) {
  std::vector<int> out;
  for (std::size_t i = 0; i < n; ++i) out.push_back(static_cast<int>(i) + 1);
  return out;
}

TEST(JournalFile, KeepsEntriesInOrder) {
  FakeDisk disk;
  {
    auto r = open(disk);
    for (int i = 1; i <= 5; ++i) ASSERT_TRUE(r.journal->append(numbered(i)));
  }
  auto r = open(disk);
  EXPECT_EQ(r.entries, first(5));
  EXPECT_TRUE(r.opened.warning.empty());
  ASSERT_TRUE(r.journal->append(numbered(6)));
  EXPECT_EQ(open(disk).entries, first(6));
}

TEST(JournalFile, TornAtEveryByteLosesOnlyWhatWasTorn) {
  FakeDisk disk;
  std::vector<std::size_t> ends;
  {
    auto r = open(disk);
    ends.push_back(r.journal->size());
    for (int i = 1; i <= 4; ++i) {
      ASSERT_TRUE(r.journal->append(numbered(i)));
      ends.push_back(r.journal->size());
    }
  }
  const auto whole = *disk.files[path];
  for (std::size_t cut = 0; cut <= whole.size(); ++cut) {
    FakeDisk torn;
    torn.files[path] =
        std::make_shared<std::vector<std::uint8_t>>(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(cut));
    auto r = open(torn);
    ASSERT_TRUE(r.journal) << cut << ": " << r.error;
    std::size_t complete = 0;
    while (complete + 1 < ends.size() && ends[complete + 1] <= cut) ++complete;
    EXPECT_EQ(r.entries, first(complete)) << cut;
    const bool clean = cut <= ends[0] || cut == ends[complete];
    EXPECT_EQ(r.opened.warning.empty(), clean) << cut;
    // And it goes on from there.
    ASSERT_TRUE(r.journal->append(numbered(static_cast<int>(complete) + 1)));
    EXPECT_EQ(open(torn).entries, first(complete + 1)) << cut;
  }
}

TEST(JournalFile, AFlippedByteIsNoticedReportedAndKeptAside) {
  FakeDisk disk;
  std::vector<std::size_t> ends;
  {
    auto r = open(disk);
    for (int i = 1; i <= 3; ++i) {
      ends.push_back(r.journal->size());
      ASSERT_TRUE(r.journal->append(numbered(i)));
    }
  }
  const auto whole = *disk.files[path];
  for (std::size_t at = 8; at < whole.size(); ++at) {
    FakeDisk bad;
    bad.files[path] = std::make_shared<std::vector<std::uint8_t>>(whole);
    (*bad.files[path])[at] ^= 0x10;
    auto r = open(bad);
    ASSERT_TRUE(r.journal) << at;
    std::size_t frame = 0;
    while (frame + 1 < ends.size() && ends[frame + 1] <= at) ++frame;
    EXPECT_EQ(r.entries, first(frame)) << at;
    EXPECT_THAT(r.opened.warning, HasSubstr("journal.cut"));
    EXPECT_EQ(bad.files[path + ".cut"]->size(), whole.size() - ends[frame]);
  }
}

TEST(JournalFile, ForeignFilesAreNotTouched) {
  FakeDisk disk;
  const std::string text = "something else entirely";
  disk.files[path] = std::make_shared<std::vector<std::uint8_t>>(text.begin(), text.end());
  auto r = open(disk);
  EXPECT_THAT(r.error, HasSubstr("move it away"));
  EXPECT_EQ(disk.files[path]->size(), text.size());
}

TEST(JournalFile, AFullDiskAtEveryByteLosesNothingWrittenBefore) {
  for (std::size_t space = 0; space < 400; ++space) {
    for (const bool broken : {false, true}) {
      FakeDisk disk;
      disk.space = space;
      auto r = open(disk);
      if (!r.journal) {
        EXPECT_THAT(r.error, HasSubstr("free some space"));
        continue;
      }
      disk.truncate_fails = broken;
      std::size_t good = 0;
      while (r.journal->append(numbered(static_cast<int>(good) + 1))) ++good;
      EXPECT_FALSE(r.journal->append(numbered(77)) && broken);  // it must not write behind a torn frame
      FakeDisk crashed;                                         // a crash now finds the torn frame
      crashed.files[path] = std::make_shared<std::vector<std::uint8_t>>(*disk.files[path]);
      EXPECT_EQ(open(crashed).entries, first(good)) << space;
      // Space again: it goes on.
      disk.space = SIZE_MAX;
      disk.truncate_fails = false;
      ASSERT_TRUE(r.journal->append(numbered(static_cast<int>(good) + 1)));
      EXPECT_EQ(open(disk).entries, first(good + 1)) << space;
    }
  }
}

TEST(JournalFile, CompactionReplacesAtomicallyAndAFailedOneChangesNothing) {
  FakeDisk disk;
  auto r = open(disk);
  for (int i = 1; i <= 50; ++i) ASSERT_TRUE(r.journal->append(numbered(i)));
  std::vector<fb::record::EntryT> live;
  for (int i = 1; i <= 3; ++i) live.push_back(numbered(i));
  disk.space = 100;
  EXPECT_FALSE(r.journal->compact(live));
  EXPECT_EQ(disk.files.count(path + ".new"), 0u);
  disk.space = SIZE_MAX;
  ASSERT_TRUE(r.journal->append(numbered(51)));
  EXPECT_EQ(open(disk).entries, first(51));
  const auto before = r.journal->size();
  ASSERT_TRUE(r.journal->compact(live));
  EXPECT_LT(r.journal->size(), before / 10);
  ASSERT_TRUE(r.journal->append(numbered(4)));
  EXPECT_EQ(open(disk).entries, first(4));
}

TEST(JournalFile, WantsCompactionOnlyAfterRealGrowth) {
  FakeDisk disk;
  auto r = open(disk);
  auto big = numbered(1);
  big.uuid.assign(100'000, 7);
  int until = 0;
  while (!r.journal->wants_compaction() && until < 100) {
    ASSERT_TRUE(r.journal->append(big));
    ++until;
  }
  EXPECT_EQ(until, 11);
  ASSERT_TRUE(r.journal->compact({big}));
  EXPECT_FALSE(r.journal->wants_compaction());
}

TEST(JournalFile, StartErrorsTellTheRemedy) {
  FakeDisk disk;
  disk.read_only = true;
  EXPECT_THAT(open(disk).error, HasSubstr("kernel.work_dir"));
  FakeDisk used;
  used.locked = true;
  EXPECT_THAT(open(used).error, HasSubstr("another gantryd"));
}

TEST(JournalFile, ChecksumIsTheCommonOne) { EXPECT_EQ(crc32(as_bytes("123456789")), 0xCBF43926u); }

class RealDiskTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/gantry-journal-XXXXXX";
    ASSERT_TRUE(::mkdtemp(name));
    dir = name;
  }
  void TearDown() override { std::filesystem::remove_all(dir); }
  std::string dir;
};

TEST_F(RealDiskTest, WorksOnARealFileSystem) {
  {
    auto disk = make_real_disk();
    auto journal = Journal::open(*disk, dir + "/a/b", [](const fb::record::Entry&) { FAIL(); });
    ASSERT_TRUE(journal) << journal.error().message;
    for (int i = 1; i <= 3; ++i) ASSERT_TRUE((*journal)->append(numbered(i)));
    ASSERT_TRUE((*journal)->compact({numbered(1), numbered(2)}));
    ASSERT_TRUE((*journal)->append(numbered(3)));
    ASSERT_TRUE((*journal)->file()->sync());
    // Two at once are one too many.
    auto other = make_real_disk();
    auto second = Journal::open(*other, dir + "/a/b", [](const fb::record::Entry&) {});
    ASSERT_FALSE(second);
    EXPECT_THAT(second.error().message, HasSubstr("another gantryd uses"));
  }
  std::ofstream(dir + "/a/b/journal", std::ios::app) << "torn";
  auto disk = make_real_disk();
  std::vector<int> seen;
  Journal::Opened opened;
  ASSERT_TRUE(Journal::open(
      *disk, dir + "/a/b", [&](const fb::record::Entry& e) { seen.push_back(e.pid()); }, &opened));
  EXPECT_THAT(seen, ElementsAre(1, 2, 3));
  EXPECT_THAT(opened.warning, HasSubstr("4 bytes"));
}

}  // namespace
}  // namespace gantry::agent
