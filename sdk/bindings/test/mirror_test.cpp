// The Rust mirror of abi.h against the header: every struct, member and number, by a C probe that reads the header.
#include "rust_library.hpp"

#include <algorithm>
#include <sstream>

extern "C" int gantry_test_probe(char* out, std::size_t size);

namespace gantry::bindings {
namespace {

std::vector<std::string> lines(const std::string& text) {
  std::vector<std::string> out;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) out.push_back(line);
  std::sort(out.begin(), out.end());
  return out;
}

TEST(Mirror, HasEveryMemberWhereTheHeaderHasIt) {
  const RustLibrary rust;
  if (!rust.loaded()) GTEST_SKIP() << rust.why();
  std::string c(1 << 16, '\0');
  c.resize(static_cast<std::size_t>(gantry_test_probe(c.data(), c.size())));
  ASSERT_GT(lines(c).size(), 80u);
  EXPECT_EQ(lines(rust.layout()), lines(c));
}

}  // namespace
}  // namespace gantry::bindings
