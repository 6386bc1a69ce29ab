// Recordings: written, read again, cut short, damaged.
#include "kernel/module/trace_file.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

namespace gantry::module {
namespace {

using testing::HasSubstr;

class RecordingFile : public testing::Test {
 protected:
  void SetUp() override {
    const char* tmp = std::getenv("TMPDIR");
    std::string t = std::string(tmp ? tmp : "/tmp") + "/gantry-recording-XXXXXX";
    ASSERT_NE(::mkdtemp(t.data()), nullptr);
    dir = t;
    path = dir + "/calls";
  }
  void TearDown() override { std::filesystem::remove_all(dir); }
  void write(int entries) {
    fb::trace::HeaderT h;
    h.kind = "isolator";
    h.name = "cgroups";
    h.revision = 1;
    h.configure = std::make_unique<fb::ConfigureT>();
    auto w = RecordingWriter::create(path, h);
    ASSERT_TRUE(w.has_value()) << w.error().message;
    for (int i = 0; i < entries; ++i) {
      fb::trace::EntryT e;
      e.token = static_cast<std::uint64_t>(i);
      e.method = 16;
      e.body.assign(static_cast<std::size_t>(i % 1000), static_cast<std::uint8_t>(i));
      if (i % 2) e.latency_ns = 0;
      ASSERT_TRUE(w->add(e).has_value());
    }
    ASSERT_TRUE(w->flush().has_value());
    EXPECT_EQ(w->size(), std::filesystem::file_size(path));
  }
  [[nodiscard]] std::vector<std::uint8_t> bytes() const {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  }
  std::string dir, path;
};

TEST_F(RecordingFile, IsReadAsWritten) {
  write(2'500);
  const auto r = read_recording(path);
  ASSERT_TRUE(r.has_value()) << r.error().message;
  EXPECT_FALSE(r->cut);
  EXPECT_EQ(r->header.kind, "isolator");
  EXPECT_NE(r->header.configure, nullptr);
  ASSERT_EQ(r->entries.size(), 2'500u);
  EXPECT_EQ(r->entries[1'999].body.size(), 999u);
  EXPECT_EQ(r->entries[1'999].latency_ns, 0u);
  EXPECT_FALSE(r->entries[2'000].latency_ns.has_value()) << "unknown is not nothing";
}
TEST_F(RecordingFile, IsItsOwnersAlone) {
  write(0);
  struct stat st {};
  ASSERT_EQ(::stat(path.c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777, 0600u);
}
TEST_F(RecordingFile, AnyCutTailIsTolerated) {
  write(3);
  const auto whole = bytes();
  const std::size_t header_end = 8 + 4 + (whole[8] | std::size_t{whole[9]} << 8);
  std::size_t entries = 0;
  for (std::size_t n = 0; n <= whole.size(); ++n) {
    const auto r = parse_recording({whole.data(), n});
    if (n < header_end) {
      EXPECT_FALSE(r.has_value()) << n;
      continue;
    }
    ASSERT_TRUE(r.has_value()) << n << ": " << r.error().message;
    EXPECT_GE(r->entries.size(), entries);
    entries = r->entries.size();
    if (n == header_end || n == whole.size()) {
      EXPECT_FALSE(r->cut);
    }
    if (n == header_end + 1) {
      EXPECT_TRUE(r->cut);
    }
  }
  EXPECT_EQ(entries, 3u);
}
TEST_F(RecordingFile, DamageIsNamedNotCrashedOn) {
  write(5);
  const auto whole = bytes();
  for (std::size_t i = 0; i < whole.size(); ++i)
    for (const int flip : {0x01, 0x80, 0xff}) {
      auto broken = whole;
      broken[i] = static_cast<std::uint8_t>(broken[i] ^ flip);
      (void)parse_recording(broken);
    }
  auto other = whole;
  other[0] = 'X';
  EXPECT_THAT(parse_recording(other).error().message, HasSubstr("does not start with GANTRYTR"));
  other = whole;
  other[11] = 0x7f;
  EXPECT_THAT(parse_recording(other).error().message, HasSubstr("damaged at byte 8"));
}
TEST_F(RecordingFile, ALaterFormatIsRefused) {
  write(0);
  auto file = bytes();
  fb::trace::HeaderT h;
  h.version = 2;
  const Buffer packed = pack(h);
  file.resize(8);
  for (unsigned i = 0; i < 4; ++i) file.push_back(static_cast<std::uint8_t>(packed.size() >> (8 * i)));
  file.insert(file.end(), packed.data(), packed.data() + packed.size());
  EXPECT_THAT(parse_recording(file).error().message, HasSubstr("has format 2, this program reads up to 1"));
}
TEST_F(RecordingFile, ItsPathIsInTheError) {
  EXPECT_THAT(read_recording(dir + "/none").error().message, HasSubstr("/none"));
  EXPECT_THAT(RecordingWriter::create(dir + "/no/dir", {}).error().message, HasSubstr("cannot write"));
}
TEST_F(RecordingFile, AFullDiskIsAnError) {
  if (::access("/dev/full", W_OK) != 0) GTEST_SKIP() << "this machine has no /dev/full";
  const auto w = RecordingWriter::create("/dev/full", {});
  ASSERT_FALSE(w.has_value());
  EXPECT_THAT(w.error().message, HasSubstr("No space left"));
}

}  // namespace
}  // namespace gantry::module
