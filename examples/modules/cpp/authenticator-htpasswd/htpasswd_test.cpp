#include "hash.hpp"
#include "htpasswd.hpp"

#include <gantry/testing/host.hpp>

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace gantry::authenticator_htpasswd {
namespace {

using Method = fb::authenticator::Method;

// "secret" in each form; written down from `openssl passwd` and crypt(3), so the test does not believe our own code.
constexpr char bcrypt[] = "$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a";
constexpr char apr1[] = "$apr1$saltsalt$LrttParrLPdxvgutaSXWJ0";
constexpr char sha[] = "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=";

TEST(Hash, EachFormTakesItsSecretAndNoOther) {
  for (const char* hash : {bcrypt, apr1, sha}) {
    EXPECT_TRUE(known_hash(hash)) << hash;
    EXPECT_TRUE(verify(hash, "secret")) << hash;
    for (const std::string wrong : {"", "Secret", "secret ", "secre"}) EXPECT_FALSE(verify(hash, wrong)) << hash << " " << wrong;
    EXPECT_FALSE(verify(hash, std::string("secret\0x", 8))) << hash;
  }
  EXPECT_TRUE(verify("$apr1$s$e2aCb9PLCjZ2t55SoAxXn.", ""));
  EXPECT_TRUE(verify("$apr1$ab$emhXCSmhA4XDBMQyByY/k/", "a rather long secret, longer than sixteen"));
}

TEST(Hash, NonsenseLetsNobodyIn) {
  for (const char* hash : {"", "$", "$$", "$apr1$", "$apr1$saltsalt", "$apr1$muchtoolongsalt$x", "{SHA}", "$2y$05$", "secret"}) {
    EXPECT_FALSE(verify(hash, "secret")) << hash;
    EXPECT_FALSE(verify(hash, "")) << hash;
  }
  EXPECT_FALSE(known_hash("secret"));
}

TEST(Base64, IsStrict) {
  EXPECT_EQ(decode_base64(""), "");
  EXPECT_EQ(decode_base64("YTpi"), "a:b");
  EXPECT_EQ(decode_base64("YTo="), "a:");
  EXPECT_EQ(decode_base64("YQ=="), "a");
  for (const char* wrong : {"Y", "YQ", "YQ=", "Y===", "Y=Q=", "YTp\n", "!!!!"}) EXPECT_FALSE(decode_base64(wrong)) << wrong;
}

TEST(Parse, MistakesNameTheLine) {
  EXPECT_NE(parse("a:{SHA}x\nb\n", "f").error().message.find("f:2: expected user:hash"), std::string::npos);
  EXPECT_NE(parse("a:plain\n", "f").error().message.find("htpasswd -B"), std::string::npos);
  EXPECT_NE(parse("a:{SHA}x\na:{SHA}y\n", "f").error().message.find("listed twice"), std::string::npos);
  EXPECT_EQ(parse("# people\r\n\r\na:{SHA}x\r\n", "f")->at("a"), "{SHA}x");
}

class HtpasswdTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/gantry-htpasswd-XXXXXX";
    dir = ::mkdtemp(name);
    write(std::string("alice:") + bcrypt + "\nbob:" + apr1 + "\n");
    const Status s = m.configure({{"file", dir + "/users"}, {"realm", "gantry"}});
    ASSERT_TRUE(s) << s.error().message;
  }
  void TearDown() override {
    EXPECT_EQ(host.faults(), std::vector<std::string>{});
    std::filesystem::remove_all(dir);
  }
  void write(const std::string& text, mode_t mode = 0644) const {
    std::ofstream(dir + "/users", std::ios::trunc) << text;
    ::chmod((dir + "/users").c_str(), mode);
  }
  Result<fb::authenticator::IdentityT> ask(const std::string& user, const std::string& secret) {
    fb::authenticator::CredentialsT c;
    c.principal = user;
    c.secret = secret;
    return m.call<fb::authenticator::Identity>(Method::AUTHENTICATE, c);
  }
  Result<fb::authenticator::IdentityT> header(const char* scheme, const char* parameters) {
    fb::authenticator::CredentialsT c;
    c.scheme = scheme;
    c.parameters = parameters;
    return m.call<fb::authenticator::Identity>(Method::AUTHENTICATE, c);
  }
  std::string dir;
  testing::Host host;
  testing::Subject<Htpasswd> m{host, "htpasswd"};
};

TEST_F(HtpasswdTest, LetsInWhoKnowsTheSecretAndTellsOthersNothing) {
  EXPECT_EQ(ask("alice", "secret")->principal, "alice");
  EXPECT_EQ(ask("bob", "secret")->principal, "bob");
  for (const auto& [user, secret] : {std::pair{"alice", "wrong"}, {"alice", ""}, {"carol", "secret"}, {"", "secret"}, {"", ""}}) {
    const auto r = ask(user, secret);
    ASSERT_FALSE(r) << user;
    EXPECT_EQ(r.error().code, Code::unauthenticated);
    EXPECT_EQ(r.error().message, "unknown user or wrong secret");
  }
}

TEST_F(HtpasswdTest, HttpBasic) {
  EXPECT_EQ(header("basic", "YWxpY2U6c2VjcmV0")->principal, "alice");
  EXPECT_EQ(header("basic", "YWxpY2U=").error().code, Code::unauthenticated);
  EXPECT_EQ(header("basic", "?").error().code, Code::unauthenticated);
  EXPECT_EQ(header("bearer", "x").error().code, Code::unimplemented);
  fb::authenticator::ChallengeT c;
  EXPECT_EQ(m.call<fb::authenticator::Challenge>(Method::CHALLENGE, c)->value, "Basic realm=\"gantry\"");
}

TEST_F(HtpasswdTest, AChangedFileCountsAtOnceAndABrokenOneLocksNobodyOut) {
  write(std::string("carol:") + sha + "\n");
  EXPECT_FALSE(ask("alice", "secret"));
  EXPECT_TRUE(ask("carol", "secret"));
  write("half a li");
  EXPECT_TRUE(ask("carol", "secret"));
  EXPECT_TRUE(ask("carol", "secret"));
  EXPECT_EQ(host.logs().size(), 1u);
  EXPECT_TRUE(host.logged("users:1: expected user:hash"));
  std::filesystem::remove(dir + "/users");
  EXPECT_TRUE(ask("carol", "secret"));
  write("");  // nobody is a valid list
  EXPECT_FALSE(ask("carol", "secret"));
}

TEST_F(HtpasswdTest, AFileThatCannotBeTrustedIsRefusedByKey) {
  for (const char* file : {"/nowhere", "/dev/null", "/"}) {
    const Status s = m.configure({{"file", file}, {"realm", "r"}});
    ASSERT_FALSE(s) << file;
    EXPECT_EQ(s.error().key_path, "file");
  }
  write("", 0666);
  EXPECT_NE(m.configure({{"file", dir + "/users"}, {"realm", "r"}}).error().message.find("chmod"), std::string::npos);
}

}  // namespace
}  // namespace gantry::authenticator_htpasswd
