#include "kernel/base/file.hpp"

#include <gtest/gtest.h>

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace gantry::base {
namespace {

constexpr std::size_t mib = std::size_t{1} << 20;

class ReadFile : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/gantry-file-XXXXXX";
    dir_ = ::mkdtemp(name);
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }
  std::string write(const std::string& name, const std::string& bytes) {
    std::ofstream(dir_ + "/" + name, std::ios::binary) << bytes;
    return dir_ + "/" + name;
  }
  std::string dir_;
};

TEST_F(ReadFile, AllBytes) {
  const std::string bytes = std::string("a\0b\n", 4) + std::string(3 * mib - 4, 'x');
  EXPECT_EQ(read_file(write("a", bytes), 3 * mib).value(), bytes);
  EXPECT_EQ(read_file(write("empty", ""), mib).value(), "");
}

TEST_F(ReadFile, RefusesWhatIsNoneOrTooLarge) {
  EXPECT_EQ(read_file(dir_ + "/none", mib).error().code, Code::not_found);
  EXPECT_EQ(read_file(write("file", "x") + "/below", mib).error().code, Code::not_found);
  EXPECT_EQ(read_file(dir_ + "/" + std::string(300, 'n'), mib).error().code, Code::unavailable) << "no name of a file";
  EXPECT_EQ(read_file(dir_, mib).error().code, Code::invalid_argument);
  const auto large = read_file(write("large", std::string(mib + 1, 'x')), mib);
  ASSERT_FALSE(large);
  EXPECT_EQ(large.error().message, "it is larger than 1 MiB");
  const std::string fifo = dir_ + "/fifo";
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  EXPECT_EQ(read_file(fifo, mib).error().message, "it is not a regular file") << "and nobody waits for a writer";
}

TEST(WriteWhole, ReplacesAllOfItOrNothing) {
  char dir[] = "/tmp/gantry-write-XXXXXX";
  const std::string folder = ::mkdtemp(dir), path = folder + "/file";
  ASSERT_TRUE(write_whole(path, "first, and longer", false));
  ASSERT_TRUE(write_whole(path, "second", true));
  const auto read = read_file(path, std::size_t{1} << 20);
  ASSERT_TRUE(read);
  EXPECT_EQ(*read, "second");
  const auto full = write_whole("/dev/full/x", "x", false);
  ASSERT_FALSE(full);
  EXPECT_NE(full.error().message.find("cannot write /dev/full/x"), std::string::npos);
  // What stands in the way of the new one is no file: the old one stays.
  std::filesystem::create_directories(path + ".new");
  EXPECT_FALSE(write_whole(path, "third", false));
  EXPECT_EQ(read_file(path, std::size_t{1} << 20).value(), "second");
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace gantry::base
