#include "kernel/config/values.hpp"
#include "kernel/config/suggest.hpp"

#include <gtest/gtest.h>

namespace gantry::config {
namespace {

TEST(Duration, ReadsUnitsAndCompounds) {
  EXPECT_EQ(*parse_duration("250ms"), 250'000'000);
  EXPECT_EQ(*parse_duration("1h30m"), 5'400'000'000'000);
  EXPECT_EQ(*parse_duration("7d"), 7LL * 86400 * 1'000'000'000);
  EXPECT_EQ(*parse_duration("1.5s"), 1'500'000'000);
  EXPECT_EQ(*parse_duration("0.25h"), 900'000'000'000);
  EXPECT_EQ(*parse_duration("10min"), 600'000'000'000);
  EXPECT_EQ(*parse_duration("0"), 0);
  EXPECT_EQ(*parse_duration("0s"), 0);
}

TEST(Duration, RefusesWithARemedy) {
  EXPECT_EQ(parse_duration("5").error().message,
            "expected a duration such as \"250ms\", \"5s\" or \"1h30m\", got \"5\" without a unit");
  EXPECT_NE(parse_duration("5sec").error().message.find("there is no unit \"sec\"; did you mean \"s\"?"),
            std::string::npos);
  EXPECT_NE(parse_duration("5minutes").error().message.find("did you mean \"m\"?"), std::string::npos);
  EXPECT_NE(parse_duration("5millis").error().message.find("did you mean \"ms\"?"), std::string::npos);
  for (const char* bad : {"", "-5s", "s", "5s x", "5 s", "1.s", "99999999999999999999s", "300000000000h", "5ss"})
    EXPECT_FALSE(parse_duration(bad)) << bad;
}

TEST(Size, BinaryAndDecimal) {
  EXPECT_EQ(*parse_size("20GiB"), 20LL << 30);
  EXPECT_EQ(*parse_size("512MB"), 512'000'000);
  EXPECT_EQ(*parse_size("10k"), 10240);
  EXPECT_EQ(*parse_size("1.5 GiB"), 3LL << 29);
  EXPECT_EQ(*parse_size("7B"), 7);
  for (const char* bad : {"", "10", "10xB", "-1k", "1k1k", "9000000PiB"}) EXPECT_FALSE(parse_size(bad)) << bad;
  EXPECT_NE(parse_size("10gib").error().message.find("did you mean \"GiB\"?"), std::string::npos);
}

TEST(Format, IsReadBackUnchanged) {
  for (const std::int64_t v : {0LL, 1LL, 999LL, 1'500'000'000LL, 5'400'000'000'000LL, 604'800'000'000'000LL})
    EXPECT_EQ(*parse_duration(format_duration(v)), v);
  for (const std::int64_t v : {0LL, 1LL, 1023LL, 1024LL, 1536LL, 20LL << 30, 512'000'000LL})
    EXPECT_EQ(*parse_size(format_size(v)), v);
  EXPECT_EQ(format_duration(5'400'000'000'000), "1h30m");
  EXPECT_EQ(format_size(1LL << 30), "1GiB");
}

TEST(Suggest, FindsSlipsOnly) {
  EXPECT_EQ(nearest("cgrups", {"cgroups", "namespaces"}), "cgroups");
  EXPECT_EQ(nearest("wrok_dir", {"work_dir", "role"}), "work_dir");
  EXPECT_EQ(nearest("LISTEN", {"listen"}), "listen");
  EXPECT_EQ(nearest("banana", {"cgroups", "namespaces"}), "");
  EXPECT_EQ(edit_distance("ab", "ba"), 1u);
  EXPECT_EQ(edit_distance("", "abc"), 3u);
}

TEST(Problem, Text) {
  const Problem p{Severity::error, {"a.toml", 3, 7}, "no"};
  EXPECT_EQ(p.text(), "a.toml:3:7: error: no");
  const Problem w{Severity::warning, {"a.toml", 0, 0}, "hm"};
  EXPECT_EQ(w.text(), "a.toml: warning: hm");
}

}  // namespace
}  // namespace gantry::config
