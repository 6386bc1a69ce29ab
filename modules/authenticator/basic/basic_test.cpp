#include "basic.hpp"

#include <gantry/testing/host.hpp>

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace gantry::authenticator_basic {
namespace {

using Method = fb::authenticator::Method;

// Made by `openssl passwd -6 -salt saltsalt correct`.
std::string hashed();

class BasicTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/gantry-basic-XXXXXX";
    dir = ::mkdtemp(name);
    path = dir + "/credentials";
    write("# people\nalice:{PLAIN}wonder:land\n\nbob:" + hashed() + "\n");
    const Status s = m.configure({{"credentials", path}, {"realm", "gantry"}});
    ASSERT_TRUE(s) << s.error().message;
  }
  void TearDown() override { std::filesystem::remove_all(dir); }
  void write(const std::string& text, mode_t mode = 0600) {
    std::ofstream(path, std::ios::trunc) << text;
    ::chmod(path.c_str(), mode);
    // Files changed within one tick of the clock would look unchanged.
    std::filesystem::last_write_time(path, std::filesystem::file_time_type::clock::now() + std::chrono::seconds(++writes));
  }
  Result<fb::authenticator::IdentityT> ask(const std::string& principal, const std::string& secret) {
    fb::authenticator::CredentialsT c;
    c.principal = principal;
    c.secret = secret;
    return m.call<fb::authenticator::Identity>(Method::AUTHENTICATE, c);
  }
  Result<fb::authenticator::IdentityT> header(const std::string& scheme, const std::string& parameters) {
    fb::authenticator::CredentialsT c;
    c.scheme = scheme;
    c.parameters = parameters;
    return m.call<fb::authenticator::Identity>(Method::AUTHENTICATE, c);
  }
  int writes = 0;
  std::string dir, path;
  testing::Host host;
  testing::Subject<Basic> m{host, "basic"};
};

std::string hashed() {
  // crypt(3) itself makes the hash: the test checks our use of it, not its output.
  static const std::string hash = [] {
    std::string out;
    FILE* p = ::popen("openssl passwd -6 -salt saltsalt correct", "r");
    char line[256] = {};
    if (p && std::fgets(line, sizeof line, p)) out = line;
    if (p) ::pclose(p);
    while (!out.empty() && out.back() == '\n') out.pop_back();
    return out.empty() ? std::string("$6$unavailable") : out;
  }();
  return hash;
}

TEST_F(BasicTest, PlainAndHashedSecrets) {
  EXPECT_EQ(ask("alice", "wonder:land")->principal, "alice");
  if (hashed() != "$6$unavailable") {
    EXPECT_EQ(ask("bob", "correct")->principal, "bob");
  }
  EXPECT_FALSE(ask("bob", std::string("correct\0x", 9))) << "crypt compares only what stands before the zero byte";
  for (const auto& [p, s] : {std::pair{"alice", "wonder"}, {"alice", ""}, {"bob", "wrong"}, {"carol", ""}, {"", ""}, {"carol", "x"}}) {
    const auto r = ask(p, s);
    ASSERT_FALSE(r) << p << " " << s;
    EXPECT_EQ(r.error().code, Code::unauthenticated);
    EXPECT_EQ(r.error().message, "unknown principal or wrong secret");
  }
}

TEST_F(BasicTest, HttpBasicHeader) {
  EXPECT_EQ(header("basic", "YWxpY2U6d29uZGVyOmxhbmQ=")->principal, "alice");
  EXPECT_EQ(header("basic", "!!!").error().code, Code::unauthenticated);
  EXPECT_EQ(header("basic", "YWxpY2U=").error().code, Code::unauthenticated);
  EXPECT_EQ(header("bearer", "x").error().code, Code::unimplemented);
}

TEST_F(BasicTest, ChallengeNamesTheRealm) {
  fb::authenticator::ChallengeT c;
  c.realm = "marathon";
  EXPECT_EQ(m.call<fb::authenticator::Challenge>(Method::CHALLENGE, c)->value, "Basic realm=\"marathon\"");
}

TEST_F(BasicTest, AChangedFileCountsAtOnceAndABrokenOneDoesNotLockOut) {
  write("alice:{PLAIN}new\n");
  EXPECT_FALSE(ask("alice", "wonder:land"));
  EXPECT_TRUE(ask("alice", "new"));
  write("nonsense\n");
  EXPECT_TRUE(ask("alice", "new"));
  EXPECT_TRUE(ask("alice", "new"));
  EXPECT_EQ(host.logs().size(), 1u);
  EXPECT_TRUE(host.logged("credentials:1: expected principal:secret"));
}

TEST_F(BasicTest, AFileOthersCanReadIsRefused) {
  write("alice:{PLAIN}x\n", 0644);
  const Status s = m.configure({{"credentials", path}, {"realm", "r"}});
  ASSERT_FALSE(s);
  EXPECT_EQ(s.error().key_path, "credentials");
  EXPECT_NE(s.error().message.find("chmod 0600"), std::string::npos);
}

TEST(Credentials, MistakesNameTheLine) {
  EXPECT_NE(parse_credentials("a:{PLAIN}x\nb\n", "f").error().message.find("f:2: expected"), std::string::npos);
  EXPECT_NE(parse_credentials("a:bare\n", "f").error().message.find("neither"), std::string::npos);
  EXPECT_NE(parse_credentials("a:{PLAIN}x\na:{PLAIN}y\n", "f").error().message.find("listed twice"), std::string::npos);
  EXPECT_TRUE(parse_credentials("", "f"));
}

TEST(Base64, DecodesStrictly) {
  EXPECT_EQ(*decode_base64(""), "");
  EXPECT_EQ(*decode_base64("Zg=="), "f");
  EXPECT_EQ(*decode_base64("Zm9v"), "foo");
  EXPECT_FALSE(decode_base64("Zm9v\n"));
  EXPECT_FALSE(decode_base64("Z=m9"));
  EXPECT_FALSE(decode_base64("Z"));
}

}  // namespace
}  // namespace gantry::authenticator_basic
