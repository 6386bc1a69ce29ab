// Names, digests, challenges: what is read of short texts.
#include "reference.hpp"
#include "credentials.hpp"
#include "digest.hpp"
#include "registry.hpp"

#include <gtest/gtest.h>

namespace gantry::image_oci {
namespace {

const std::string kDigest = "sha256:" + std::string(64, 'a');

std::string full(const std::string& name, const std::string& registry = "docker.io") {
  const auto r = parse_reference(name, registry);
  return r ? r->text() : "error: " + r.error().message;
}

TEST(Reference, AsDockerHasThem) {
  EXPECT_EQ(full("alpine"), "docker.io/library/alpine:latest");
  EXPECT_EQ(full("alpine:3.18"), "docker.io/library/alpine:3.18");
  EXPECT_EQ(full("team/app"), "docker.io/team/app:latest");
  EXPECT_EQ(full("docker.io/alpine"), "docker.io/library/alpine:latest");
  EXPECT_EQ(full("index.docker.io/library/alpine"), "docker.io/library/alpine:latest");
  EXPECT_EQ(full("localhost/app"), "localhost/app:latest");
  EXPECT_EQ(full("localhost:5000/app:1"), "localhost:5000/app:1");
  EXPECT_EQ(full("registry.example/a/b/c:v1"), "registry.example/a/b/c:v1");
  EXPECT_EQ(full("[::1]:5000/app"), "[::1]:5000/app:latest");
  EXPECT_EQ(full("HOST/app"), "HOST/app:latest");
  EXPECT_EQ(full("app@" + kDigest), "docker.io/library/app@" + kDigest);
  EXPECT_EQ(full("app:1@" + kDigest), "docker.io/library/app:1@" + kDigest);
  EXPECT_EQ(full("a__b/c-d.e_f---g"), "docker.io/a__b/c-d.e_f---g:latest");
  EXPECT_EQ(parse_reference("app:1@" + kDigest)->version(), kDigest);
}

TEST(Reference, OtherDefaultRegistry) {
  EXPECT_EQ(full("alpine", "reg:5000"), "reg:5000/alpine:latest");
  EXPECT_EQ(full("docker.io/alpine", "reg:5000"), "docker.io/library/alpine:latest");
}

TEST(Reference, FamiliarNames) {
  EXPECT_EQ(parse_reference("alpine")->familiar(), "alpine");
  EXPECT_EQ(parse_reference("alpine:3")->familiar(), "alpine:3");
  EXPECT_EQ(parse_reference("reg:5000/x")->familiar(), "reg:5000/x");
}

TEST(Reference, RefusesWhatIsNone) {
  for (const std::string& bad : {std::string(),
                                 std::string("Alpine"),
                                 std::string("a//b"),
                                 std::string("/a"),
                                 std::string("a/"),
                                 std::string("a:"),
                                 std::string("a:b/c:"),
                                 std::string("a@sha256:abc"),
                                 std::string("a@md5:") + std::string(32, 'a'),
                                 std::string("-a"),
                                 std::string("a..b"),
                                 std::string("a___b"),
                                 std::string("a b"),
                                 std::string("a\n"),
                                 std::string("reg:port/a"),
                                 std::string("reg:123456/a"),
                                 std::string("../../etc"),
                                 std::string(64, 'a'),
                                 std::string("x/") + std::string(300, 'a'),
                                 std::string("a:") + std::string(129, 't'),
                                 std::string("a:.t"),
                                 std::string("a@sha256:") + std::string(64, 'A'),
                                 std::string("[::1/a"),
                                 std::string("re_g.x/a"),
                                 std::string("a?b"),
                                 std::string("a%2e")}) {
    const auto r = parse_reference(bad);
    EXPECT_FALSE(r) << bad << " -> " << (r ? r->text() : "");
    if (!r) {
      EXPECT_EQ(r.error().code, Code::invalid_argument) << bad;
    }
  }
}

TEST(Reference, Local) {
  EXPECT_TRUE(is_local("/a"));
  EXPECT_TRUE(is_local("file:///a"));
  EXPECT_FALSE(is_local("a"));
  EXPECT_EQ(parse_local("file:///no/such:1.2")->path, "/no/such");
  EXPECT_EQ(parse_local("file:///no/such:1.2")->tag, "1.2");
  EXPECT_EQ(parse_local("/no:x/such")->path, "/no:x/such");
  EXPECT_FALSE(parse_local("file://host/x"));
  EXPECT_FALSE(parse_local("file:x"));
}

TEST(Digest, Known) {
  EXPECT_EQ(digest_of(""), "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_TRUE(check_digest(digest_of("x", "sha512")));
  EXPECT_FALSE(check_digest("sha256:../../etc/passwd"));
  EXPECT_EQ(chain_id("", kDigest), kDigest);
  EXPECT_EQ(chain_id(kDigest, kDigest), digest_of(kDigest + " " + kDigest));
}

TEST(Digest, Base64) {
  for (const std::string& s :
       {std::string(), std::string("a"), std::string("ab"), std::string("abc"), std::string("user:\xff\x00pass", 11)})
    EXPECT_EQ(*base64_decode(base64_encode(s)), s);
  EXPECT_EQ(base64_encode("user:pass"), "dXNlcjpwYXNz");
  EXPECT_FALSE(base64_decode("a b"));
}

TEST(Challenge, OfRegistries) {
  const Challenge c = parse_challenge(R"(Bearer realm="https://auth.example/token",service="reg, \"x\"",scope="repository:a/b:pull")");
  EXPECT_EQ(c.scheme, "bearer");
  EXPECT_EQ(c.parameters.at("realm"), "https://auth.example/token");
  EXPECT_EQ(c.parameters.at("service"), "reg, \"x\"");
  EXPECT_EQ(c.parameters.at("scope"), "repository:a/b:pull");
  EXPECT_EQ(parse_challenge("Basic realm=x").scheme, "basic");
  EXPECT_EQ(parse_challenge("Negotiate").scheme, "");
  EXPECT_EQ(parse_challenge("").scheme, "");
  EXPECT_EQ(parse_challenge("Bearer realm=\"unended").parameters.at("realm"), "unended");
}

TEST(Insecure, ListedAndLoopback) {
  EXPECT_TRUE(is_insecure("127.0.0.1:5000", {}));
  EXPECT_TRUE(is_insecure("localhost", {}));
  EXPECT_TRUE(is_insecure("[::1]:5000", {}));
  EXPECT_FALSE(is_insecure("127.evil.example", {}));
  EXPECT_FALSE(is_insecure("reg.example:5000", {}));
  EXPECT_TRUE(is_insecure("reg.example:5000", {"reg.example:5000"}));
  EXPECT_TRUE(is_insecure("reg.example:5000", {"reg.example"}));
  EXPECT_FALSE(is_insecure("reg.example:5001", {"reg.example:5000"}));
  EXPECT_TRUE(is_insecure("a.corp", {"*.corp"}));
  EXPECT_FALSE(is_insecure("corp", {"*.corp"}));
  EXPECT_FALSE(is_insecure("evilcorp", {"*.corp"}));
}

TEST(Credentials, OfTheClientsFile) {
  const Cancelled never = [] { return false; };
  const auto c = Credentials::parse(R"({"auths": {
      "https://index.docker.io/v1/": {"auth": "dXNlcjpwYXNz"},
      "reg.example:5000": {"username": "u", "password": "p"},
      "reg.example:5000/team": {"username": "t", "password": "q"},
      "tok.example": {"identitytoken": "abc"}, "kept.example": {}}})",
                                    "file", true);
  ASSERT_TRUE(c) << c.error().message;
  EXPECT_EQ((*c->find("docker.io", "library/alpine", never))->secret, "pass");
  EXPECT_EQ((*c->find("reg.example:5000", "other/x", never))->user, "u");
  EXPECT_EQ((*c->find("reg.example:5000", "team/x", never))->user, "t");
  EXPECT_EQ((*c->find("reg.example:5000", "teamster/x", never))->user, "u");
  EXPECT_EQ((*c->find("tok.example", "x", never))->identity_token, "abc");
  EXPECT_FALSE(*c->find("reg.example", "x", never));
  EXPECT_FALSE(*c->find("kept.example", "x", never));
}

TEST(Credentials, MistakesAreNamed) {
  const auto bad = Credentials::parse(R"({"auths": {"reg.example": {"auth": "%%"}}})", "the file", true);
  ASSERT_FALSE(bad);
  EXPECT_NE(bad.error().message.find("reg.example"), std::string::npos) << bad.error().message;
  EXPECT_FALSE(Credentials::parse("[]", "x", true));
  EXPECT_FALSE(Credentials::parse(R"({"credHelpers": {"a.example": "../../bin/sh"}})", "x", true));
  EXPECT_TRUE(Credentials::parse(R"({"credHelpers": {"a.example": "../../bin/sh"}})", "x", false))
      << "not run from there, so not looked at";
}

}  // namespace
}  // namespace gantry::image_oci
