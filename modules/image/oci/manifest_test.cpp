// Manifests and configurations.
#include "manifest.hpp"

#include "world_test.hpp"

#include <random>

namespace gantry::image_oci {
namespace {

using test::Image;

const std::string kA = "sha256:" + std::string(64, 'a'), kB = "sha256:" + std::string(64, 'b');

TEST(Manifest, OciImage) {
  const Image image({test::Tar().file("a", "1").bytes(), test::Tar().file("b", "2").bytes()});
  const auto m = parse_manifest(image.manifest, "");
  ASSERT_TRUE(m) << m.error().message;
  EXPECT_EQ(m->form, Manifest::Form::image);
  EXPECT_EQ(m->config.digest, image.config_digest);
  ASSERT_EQ(m->layers.size(), 2u);
  EXPECT_EQ(m->layers[0].digest, image.layers[0]);
  EXPECT_EQ(m->layers[0].size, image.blobs.at(image.layers[0]).size());
}

TEST(Manifest, ListsAndPlatforms) {
  const auto entry = [](const std::string& digest, const std::string& platform) {
    return Image::descriptor(digest, 5, "application/vnd.oci.image.manifest.v1+json", R"(,"platform":)" + platform);
  };
  const std::string c = "sha256:" + std::string(64, 'c'), d = "sha256:" + std::string(64, 'd'), e = "sha256:" + std::string(64, 'e');
  const auto m = parse_manifest(R"({"schemaVersion":2,"manifests":[)" + entry(kA, R"({"os":"linux","architecture":"amd64"})") + "," +
                                    entry(kB, R"({"os":"linux","architecture":"arm64","variant":"v8"})") + "," +
                                    entry(c, R"({"os":"linux","architecture":"arm","variant":"v6"})") + "," +
                                    entry(d, R"({"os":"linux","architecture":"arm","variant":"v7"})") + "," +
                                    entry(e, R"({"os":"unknown","architecture":"unknown"})") + "]}",
                                "application/vnd.docker.distribution.manifest.list.v2+json");
  ASSERT_TRUE(m) << m.error().message;
  EXPECT_EQ(choose(m->manifests, {"linux", "amd64", ""})->digest, kA);
  EXPECT_EQ(choose(m->manifests, {"linux", "arm64", "v8"})->digest, kB);
  EXPECT_EQ(choose(m->manifests, {"linux", "arm64", ""})->digest, kB);
  EXPECT_EQ(choose(m->manifests, {"linux", "arm", "v7"})->digest, d);
  EXPECT_EQ(choose(m->manifests, {"linux", "arm", "v8"})->digest, d) << "the newest that runs";
  const auto none = choose(m->manifests, {"linux", "s390x", ""});
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().code, Code::not_found);
  EXPECT_NE(none.error().message.find("linux/arm64/v8"), std::string::npos) << none.error().message;
  EXPECT_FALSE(choose(m->manifests, {"linux", "arm", "v5"})) << "newer variants do not run on older machines";
}

TEST(Manifest, Schema1) {
  const auto m = parse_manifest(R"({"schemaVersion":1,"name":"x","fsLayers":[{"blobSum":")" + kB + R"("},{"blobSum":")" + kA +
                                    R"("},{"blobSum":")" + kA + R"("}],"history":[
      {"v1Compatibility":"{\"id\":\"9\",\"os\":\"linux\",\"architecture\":\"amd64\",\"config\":{\"Cmd\":[\"/bin/sh\"]}}"},
      {"v1Compatibility":"{\"id\":\"8\",\"throwaway\":true}"}, {"v1Compatibility":"{\"id\":\"7\"}"}]})",
                                "application/vnd.docker.distribution.manifest.v1+prettyjws");
  ASSERT_TRUE(m) << m.error().message;
  ASSERT_EQ(m->layers.size(), 2u);
  EXPECT_EQ(m->layers[0].digest, kA);
  EXPECT_EQ(m->layers[1].digest, kB);
  const auto c = parse_config(m->config_text);
  ASSERT_TRUE(c) << c.error().message;
  EXPECT_EQ(c->cmd, std::vector<std::string>{"/bin/sh"});
}

TEST(Manifest, SignedPart) {
  const std::string plain = "{\n   \"schemaVersion\": 1\n}";
  const std::string coded = base64_encode(R"({"formatLength":23,"formatTail":")" + base64_encode("\n}") + R"(","time":"2020"})");
  const std::string whole = plain.substr(0, 23) + ",\n   \"signatures\": [{\"protected\": \"" + coded + "\"}]\n}";
  ASSERT_TRUE(signed_part(whole)) << signed_part(whole).error().message;
  EXPECT_EQ(*signed_part(whole), plain);
  EXPECT_EQ(*signed_part(plain), plain);
  EXPECT_FALSE(signed_part(R"({"signatures":[{"protected":")" + base64_encode(R"({"formatLength":99999,"formatTail":"Cn0"})") + R"("}]})"));
}

TEST(Manifest, MistakesAreNamed) {
  const auto says = [](const std::string& text, const char* part, const char* type = "") {
    const auto m = parse_manifest(text, type);
    ASSERT_FALSE(m) << text;
    EXPECT_NE(m.error().message.find(part), std::string::npos) << m.error().message;
  };
  const std::string config = R"("config":{"digest":")" + kA + R"(","size":1})";
  says("{", "no JSON");
  says("[]", "no JSON object");
  says("{}", "neither layers");
  says("{" + config + R"(,"layers":[{"digest":"sha256:../../x"}]})", "layers[0].digest");
  says("{" + config + R"(,"layers":[{"digest":")" + kA + R"(","size":-1}]})", "layers[0].size");
  says("{" + config + R"(,"layers":{}})", "layers is not a list");
  says("{" + config + R"(,"layers":[],"manifests":[]})", "several forms");
  says("{" + config + R"(,"layers":[]})", "not what its type", "application/vnd.oci.image.index.v1+json");
  says(R"({"config":{"digest":")" + kA + R"(","mediaType":"application/vnd.cncf.helm.config.v1+json"},"layers":[]})",
       "no image of a container");
  says("{" + config + R"(,"layers":[{"digest":")" + kA + R"(","mediaType":"application/vnd.oci.image.layer.v1.tar+gzip+encrypted"}]})",
       "encrypted");
  std::string many = "{" + config + R"(,"layers":[)";
  for (int i = 0; i < 501; ++i) many += (i ? "," : "") + std::string(R"({"digest":")") + kA + "\"}";
  says(many + "]}", "at most 500");
  says(std::string(9 << 20, ' '), "larger than");
  says(std::string(100'000, '['), "no JSON");
}

TEST(Config, AllFields) {
  const auto c = parse_config(
      R"({"os":"linux","architecture":"amd64","config":{"User":"u:g","ExposedPorts":{"80/tcp":{},"53/udp":{}},"Env":["A=1","B="],
    "Entrypoint":["/e","x"],"Cmd":["c"],"Volumes":{"/data":{}},"WorkingDir":"/w","Labels":{"k":"v"},"StopSignal":"SIGINT"},"rootfs":{"type":"layers","diff_ids":[]}})");
  ASSERT_TRUE(c) << c.error().message;
  EXPECT_EQ(c->user, "u:g");
  EXPECT_EQ(c->ports, (std::vector<std::string>{"53/udp", "80/tcp"}));
  EXPECT_EQ(c->env, (std::vector<std::string>{"A=1", "B="}));
  EXPECT_EQ(c->entrypoint, (std::vector<std::string>{"/e", "x"}));
  EXPECT_EQ(c->cmd, std::vector<std::string>{"c"});
  EXPECT_EQ(c->volumes, std::vector<std::string>{"/data"});
  EXPECT_EQ(c->working_dir, "/w");
  EXPECT_EQ(c->labels, (std::vector<std::pair<std::string, std::string>>{{"k", "v"}}));
  EXPECT_EQ(c->stop_signal, "SIGINT");
  EXPECT_TRUE(parse_config(R"({"config":null,"rootfs":null})"));
  EXPECT_FALSE(parse_config(R"({"config":{"Env":["A=1\u0000B=2"]}})")) << "a zero byte would end it early";
  EXPECT_FALSE(parse_config(R"({"rootfs":{"diff_ids":["x"]}})"));
}

// Damaged texts are refused or read, nothing else.
TEST(Manifest, TenThousandMutations) {
  const Image image({test::Tar().file("a", "1").bytes()});
  std::mt19937 random(7);
  for (int i = 0; i < 10'000; ++i) {
    std::string text = i % 2 ? image.manifest : image.config;
    for (int n = 1 + static_cast<int>(random() % 6); n > 0; --n) {
      const std::size_t at = random() % text.size();
      switch (random() % 4) {
        case 0:
          text[at] = static_cast<char>(random());
          break;
        case 1:
          text.erase(at, random() % 8);
          break;
        case 2:
          text.insert(at, text.substr(random() % text.size(), random() % 40));
          break;
        default:
          text.insert(at, 1, "{}[]\",:0\\"[random() % 9]);
      }
      if (text.empty()) text = "{";
    }
    for (const Result<Manifest>& m : {parse_manifest(text, "")})
      if (!m) {
        EXPECT_FALSE(m.error().message.empty());
      }
    (void)parse_config(text);
    (void)signed_part(text);
  }
}

}  // namespace
}  // namespace gantry::image_oci
