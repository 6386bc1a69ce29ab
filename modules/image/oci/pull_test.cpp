// Pulls against a registry with faults, layouts and archives, interrupted ones included.
#include "pull.hpp"

#include "local.hpp"
#include "world_test.hpp"

#include <sys/xattr.h>

namespace gantry::image_oci {
namespace {

using namespace test;

Image two_layers(const std::string& how = "gzip") {
  return Image({Tar().file("a", "lower").directory("d").file("d/x", "1").bytes(),
                Tar().file("b", "upper").directory("d").file("d/.wh.x", "").bytes()},
               how);
}
// Not compressible, so that it has a size on the way.
std::string noise(std::size_t n, unsigned seed = 1) {
  std::string out(n, '\0');
  std::uint64_t x = seed * 2654435761u + 1;
  for (char& c : out) {
    x = x * 6364136223846793005ULL + 1442695040888963407ULL;
    c = static_cast<char>(x >> 56);
  }
  return out;
}
Image large(std::size_t size = 4 << 20) { return Image({Tar().file("big", noise(size)).bytes(), Tar().file("small", "s").bytes()}); }

void expect_error(const Result<ImageRecord>& r, Code code, std::initializer_list<const char*> parts) {
  ASSERT_FALSE(r);
  EXPECT_EQ(r.error().code, code) << r.error().message;
  for (const char* part : parts)
    EXPECT_NE(r.error().message.find(part), std::string::npos) << "\"" << part << "\" is not in: " << r.error().message;
}

TEST(Pull, FromARegistry) {
  for (const char* how : {"gzip", "zstd", ""}) {
    FakeRegistry reg(two_layers(how));
    Puller p;
    const auto r = p.pull(reg.name());
    ASSERT_TRUE(r) << r.error().message;
    EXPECT_EQ(r->id, reg.image.config_digest);
    EXPECT_EQ(r->digest, reg.image.manifest_digest);
    EXPECT_EQ(r->layers, reg.image.diff_ids);
    EXPECT_EQ(r->config.cmd, std::vector<std::string>{"/bin/true"});
    EXPECT_EQ(get(p.layer(*r, 0) + "/a"), "lower");
    EXPECT_EQ(get(p.layer(*r, 1) + "/b"), "upper");
    EXPECT_TRUE(tree(p.dir.path + "/s/tmp").empty());
    EXPECT_TRUE(tree(p.dir.path + "/s/blobs").empty()) << "packed layers do not stay";
    ASSERT_FALSE(p.progress.empty());
    for (const LayerProgress& l : p.progress.back()) {
      EXPECT_EQ(l.state, LayerProgress::State::complete);
      EXPECT_EQ(l.done, l.total);
    }
  }
}

TEST(Pull, PoliciesAndSharing) {
  FakeRegistry reg(two_layers());
  Puller p;
  expect_error(p.pull(reg.name(), Policy::never), Code::not_found, {"team/app:1", "NEVER"});
  EXPECT_EQ(reg.server.requests, 0);
  ASSERT_TRUE(p.pull(reg.name()));
  const int first = reg.server.requests;
  ASSERT_TRUE(p.pull(reg.name(), Policy::if_absent, "c2"));
  ASSERT_TRUE(p.pull(reg.name(), Policy::never, "c3"));
  EXPECT_EQ(reg.server.requests, first) << "it is here";
  ASSERT_TRUE(p.pull(reg.name(), Policy::always, "c4"));
  EXPECT_EQ(reg.count("/blobs/" + reg.image.layers[0]), 1) << "the name means the same, so its layers are here";
  // A new image under the name with one layer in common.
  const Image old = reg.image;
  reg.image = Image({Tar().file("a", "lower").directory("d").file("d/x", "1").bytes(), Tar().file("c", "new").bytes()});
  const auto r = p.pull(reg.name(), Policy::always, "c5");
  ASSERT_TRUE(r) << r.error().message;
  EXPECT_NE(r->id, old.config_digest);
  EXPECT_EQ(reg.count("/blobs/" + old.layers[0]), 1) << "shared";
  EXPECT_EQ(p.progress.back()[0].state, LayerProgress::State::shared);
}

TEST(Pull, ByDigest) {
  FakeRegistry reg(two_layers());
  Puller p;
  ASSERT_TRUE(p.pull(reg.server.host() + "/team/app@" + reg.image.manifest_digest));
  const std::string wrong = "sha256:" + std::string(64, '1');
  reg.fault = [&](const Server::Request& q) -> std::optional<Server::Reply> {
    if (q.target.ends_with(wrong)) return Server::Reply{200, reg.image.manifest};
    return {};
  };
  expect_error(p.pull(reg.server.host() + "/team/app@" + wrong), Code::data_loss, {"not what its digest says", wrong.c_str()});
}

TEST(Pull, ListOfPlatforms) {
  const Image mine({Tar().file("mine", "1").bytes()}), other({Tar().file("other", "1").bytes()}, "gzip", "s390x");
  const std::string type = "application/vnd.oci.image.manifest.v1+json";
  FakeRegistry reg(mine);
  reg.image.manifest =
      R"({"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[)" +
      Image::descriptor(other.manifest_digest, other.manifest.size(), type, R"(,"platform":{"os":"linux","architecture":"s390x"})") + "," +
      Image::descriptor(mine.manifest_digest, mine.manifest.size(), type,
                        R"(,"platform":{"os":"linux","architecture":")" + Platform::here().architecture + "\"}") +
      "]}";
  reg.image.manifest_digest = digest_of(reg.image.manifest);
  reg.fault = [&](const Server::Request& q) -> std::optional<Server::Reply> {
    for (const Image* i : {&mine, &other})
      if (q.target.ends_with("manifests/" + i->manifest_digest)) return Server::Reply{200, i->manifest, {"Content-Type: " + type}};
    if (q.target.ends_with("manifests/1"))
      return Server::Reply{200, reg.image.manifest, {"Content-Type: application/vnd.oci.image.index.v1+json"}};
    return {};
  };
  Puller p;
  const auto r = p.pull(reg.name());
  ASSERT_TRUE(r) << r.error().message;
  EXPECT_EQ(r->id, mine.config_digest);
  EXPECT_EQ(r->digest, reg.image.manifest_digest) << "what the name means is the list";
  p.options.platform = {"linux", "riscv64", ""};
  expect_error(p.pull(reg.name(), Policy::always), Code::not_found, {"linux/riscv64", "linux/s390x"});
}

TEST(Pull, WrongPlatform) {
  FakeRegistry reg(Image({Tar().file("a", "").bytes()}, "gzip", "s390x"));
  Puller p;
  expect_error(p.pull(reg.name()), Code::failed_precondition, {"linux/s390x", Platform::here().architecture.c_str()});
}

TEST(Pull, Schema1) {
  const Image base = two_layers();
  const std::string v1 =
      R"({\"id\":\"x\",\"os\":\"linux\",\"architecture\":\")" + Platform::here().architecture + R"(\",\"config\":{\"Cmd\":[\"/x\"]}})";
  const std::string plain = "{\"schemaVersion\":1,\"name\":\"team/app\",\"fsLayers\":[{\"blobSum\":\"" + base.layers[1] +
                            "\"},{\"blobSum\":\"" + base.layers[0] + "\"}],\"history\":[{\"v1Compatibility\":\"" + v1 +
                            "\"},{\"v1Compatibility\":\"{}\"}]\n}";
  const std::string protected_header =
      base64_encode(R"({"formatLength":)" + std::to_string(plain.size() - 2) + R"(,"formatTail":")" + base64_encode("\n}") + "\"}");
  const std::string signed_manifest =
      plain.substr(0, plain.size() - 2) + ",\"signatures\":[{\"protected\":\"" + protected_header + "\"}]\n}";
  FakeRegistry reg(base);
  reg.fault = [&](const Server::Request& q) -> std::optional<Server::Reply> {
    if (q.target.find("/manifests/") == std::string::npos) return {};
    return Server::Reply{
        200,
        signed_manifest,
        {"Content-Type: application/vnd.docker.distribution.manifest.v1+prettyjws", "Docker-Content-Digest: " + digest_of(plain)}};
  };
  Puller p;
  const auto r = p.pull(reg.name());
  ASSERT_TRUE(r) << r.error().message;
  EXPECT_EQ(r->layers, base.diff_ids) << "lowest first, shared with newer manifests";
  EXPECT_EQ(r->config.cmd, std::vector<std::string>{"/x"});
  EXPECT_EQ(r->digest, digest_of(plain));
}

// ---- faults

TEST(Pull, WhatIsNotThere) {
  FakeRegistry reg(two_layers());
  Puller p;
  expect_error(p.pull(reg.server.host() + "/team/app:2"), Code::not_found, {"team/app:2", "404", "manifest unknown"});
  expect_error(p.pull("127.0.0.1:1/x"), Code::unavailable, {"127.0.0.1:1"});
  expect_error(p.pull("A b"), Code::invalid_argument, {"A b"});
}

TEST(Pull, CorruptedLayer) {
  FakeRegistry reg(large());
  const std::string bad = reg.image.layers[0];
  reg.image.blobs[bad][1'000'000] ^= 1;
  Puller p;
  expect_error(p.pull(reg.name()), Code::data_loss, {bad.c_str(), "not what the digest says"});
  EXPECT_TRUE(tree(p.dir.path + "/s/tmp").empty());
  EXPECT_EQ(tree(p.dir.path + "/s/l").count("big"), 0u);
  EXPECT_FALSE(p.store->image(*full_name(reg.name(), "docker.io")));
  EXPECT_TRUE(tree(p.dir.path + "/s/blobs").empty()) << "bad bytes are not gone on from";
}

TEST(Pull, LayerThatUnpacksToSomethingElse) {
  FakeRegistry reg(two_layers());
  std::string wrong = reg.image.diff_ids[1];
  wrong[10] = wrong[10] == 'a' ? 'b' : 'a';
  reg.image.config.replace(reg.image.config.find(reg.image.diff_ids[1]), wrong.size(), wrong);
  const std::string digest = digest_of(reg.image.config);
  reg.image.blobs[digest] = reg.image.config;
  reg.image.manifest.replace(reg.image.manifest.find(reg.image.config_digest), digest.size(), digest);
  reg.image.manifest_digest = digest_of(reg.image.manifest);
  Puller p;
  expect_error(p.pull(reg.name()), Code::data_loss, {reg.image.layers[1].c_str(), wrong.c_str()});
}

TEST(Pull, AStallingRegistryIsGivenUp) {
  FakeRegistry reg(large());
  reg.fault = [&](const Server::Request& q) -> std::optional<Server::Reply> {
    if (!q.target.ends_with(reg.image.layers[0])) return {};
    Server::Reply r = FakeRegistry::blob(q, reg.image.blobs[reg.image.layers[0]]);
    r.stop_after = 1000;
    r.stall = true;
    return r;
  };
  Puller p;
  p.options.registry.http.stall = std::chrono::milliseconds(200);
  p.options.registry.attempts = 1;
  const auto begin = std::chrono::steady_clock::now();
  expect_error(p.pull(reg.name()), Code::deadline_exceeded, {"stall_timeout", reg.image.layers[0].c_str()});
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(8));
  EXPECT_EQ(reg.count(reg.image.layers[0]), 2) << "tried again once";
}

TEST(Pull, BrokenTransfersGoOnWhereTheyStopped) {
  FakeRegistry reg(large());
  const std::string blob = reg.image.layers[0];
  reg.fault = [&](const Server::Request& q) -> std::optional<Server::Reply> {
    if (!q.target.ends_with(blob)) return {};
    Server::Reply r = FakeRegistry::blob(q, reg.image.blobs[blob]);
    r.stop_after = 1'500'000;
    return r;
  };
  Puller p;
  const auto r = p.pull(reg.name());
  ASSERT_TRUE(r) << r.error().message;
  EXPECT_EQ(get(p.layer(*r, 0) + "/big"), noise(4 << 20));
  EXPECT_EQ(reg.count(blob), 3);
  EXPECT_EQ(std::count(reg.ranges.begin(), reg.ranges.end(), "bytes=1500000-"), 1);
  EXPECT_EQ(std::count(reg.ranges.begin(), reg.ranges.end(), "bytes=3000000-"), 1);
}

TEST(Pull, ARegistryWithoutRanges) {
  FakeRegistry reg(large());
  const std::string blob = reg.image.layers[0];
  int times = 0;
  reg.fault = [&](const Server::Request& q) -> std::optional<Server::Reply> {
    if (!q.target.ends_with(blob)) return {};
    Server::Reply r{200, reg.image.blobs[blob]};
    if (++times == 1) r.stop_after = 1'500'000;
    return r;
  };
  Puller p;
  const auto r = p.pull(reg.name());
  ASSERT_TRUE(r) << r.error().message;
  EXPECT_EQ(get(p.layer(*r, 0) + "/big"), noise(4 << 20));
}

TEST(Pull, GoesOnAfterARestart) {
  FakeRegistry reg(large());
  const std::string blob = reg.image.layers[0];
  const std::size_t size = reg.image.blobs[blob].size();
  Puller p;
  std::atomic<bool> stop{false};
  reg.fault = [&](const Server::Request& q) -> std::optional<Server::Reply> {
    if (!q.target.ends_with(blob) || stop) return {};
    Server::Reply r = FakeRegistry::blob(q, reg.image.blobs[blob]);
    r.stop_after = 2'000'000;
    r.stall = true;
    return r;
  };
  std::thread stopper([&] {
    while (!fs::exists(p.store->blob_path(blob)) || fs::file_size(p.store->blob_path(blob)) < 2'000'000)
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    stop = true;
  });
  expect_error(p.pull(reg.name(), Policy::if_absent, "c1", [&] { return stop.load(); }), Code::cancelled, {});
  stopper.join();
  p.reopen();
  const auto r = p.pull(reg.name());
  ASSERT_TRUE(r) << r.error().message;
  EXPECT_EQ(get(p.layer(*r, 0) + "/big"), noise(4 << 20));
  EXPECT_EQ(std::count(reg.ranges.begin(), reg.ranges.end(), "bytes=2000000-"), 1) << "of " << size << " only what was missing";
}

TEST(Pull, ABadBeginningFromBeforeIsNotTrusted) {
  FakeRegistry reg(large());
  Puller p;
  put(p.store->blob_path(reg.image.layers[0]), noise(1'000'000, 99));
  const auto r = p.pull(reg.name());
  ASSERT_TRUE(r) << r.error().message;
  EXPECT_EQ(get(p.layer(*r, 0) + "/big"), noise(4 << 20));
}

TEST(Pull, PassingErrorsAreTriedAgain) {
  FakeRegistry reg(two_layers());
  std::atomic<int> left{4};
  reg.fault = [&](const Server::Request&) -> std::optional<Server::Reply> {
    if (left.fetch_sub(1) <= 0) return {};
    return Server::Reply{left % 2 ? 503 : 429, "busy"};
  };
  Puller p;
  p.options.parallel = 1;
  const auto r = p.pull(reg.name());
  ASSERT_TRUE(r) << r.error().message;
  reg.fault = [](const Server::Request&) { return Server::Reply{503, "busy"}; };
  expect_error(p.pull(reg.name(), Policy::always), Code::unavailable, {"503"});
}

TEST(Pull, RetryAfterIsObeyed) {
  FakeRegistry reg(two_layers());
  std::atomic<int> left{1};
  reg.fault = [&](const Server::Request&) -> std::optional<Server::Reply> {
    if (left.fetch_sub(1) <= 0) return {};
    return Server::Reply{429, "", {"Retry-After: 1"}};
  };
  Puller p;
  const auto begin = std::chrono::steady_clock::now();
  ASSERT_TRUE(p.pull(reg.name()));
  EXPECT_GE(std::chrono::steady_clock::now() - begin, std::chrono::seconds(1));
}

TEST(Pull, MoreBytesThanTheManifestSays) {
  FakeRegistry reg(large());
  reg.image.blobs[reg.image.layers[0]] += std::string(10 << 20, 'x');
  Puller p;
  expect_error(p.pull(reg.name()), Code::data_loss, {"more than"});
}

TEST(Pull, ABombIsBrokenOff) {
  FakeRegistry reg(Image({Tar().file("a", std::string(64 << 20, '\0')).bytes()}));
  Puller p;
  p.options.limits.max_size = 1 << 20;
  expect_error(p.pull(reg.name()), Code::resource_exhausted, {"max_layer_size"});
  EXPECT_TRUE(tree(p.dir.path + "/s/tmp").empty());
}

// ---- accounts, mirrors

TEST(Pull, BasicAccounts) {
  FakeRegistry reg(two_layers());
  const std::string right = "Basic " + base64_encode("user:pass");
  reg.fault = [&](const Server::Request& q) -> std::optional<Server::Reply> {
    if (q.header("Authorization") == right) return {};
    return Server::Reply{401, "", {"WWW-Authenticate: Basic realm=\"x\""}};
  };
  Puller p;
  expect_error(p.pull(reg.name()), Code::unauthenticated, {"account", reg.server.host().c_str()});
  PullRequest q;
  q.container = "c1";
  q.name = reg.name();
  q.account = Account{"user", "wrong", {}, {}};
  const auto refused = p.pull(q);
  expect_error(refused, Code::unauthenticated, {"401"});
  EXPECT_EQ(refused.error().message.find("wrong"), std::string::npos) << "no secrets in messages";
  q.account->secret = "pass";
  ASSERT_TRUE(p.pull(q));
  q.account.reset();
  q.policy = Policy::always;
  q.config = R"({"auths":{")" + reg.server.host() + R"(":{"auth":")" + base64_encode("user:pass") + "\"}}}";
  ASSERT_TRUE(p.pull(q));
  q.config.clear();
  p.options.credentials = p.dir.path + "/config.json";
  put(p.options.credentials, R"({"auths":{"http://)" + reg.server.host() + R"(/v2/":{"username":"user","password":"pass"}}})");
  ASSERT_TRUE(p.pull(q));
}

TEST(Pull, Tokens) {
  FakeRegistry reg(two_layers());
  std::atomic<int> issued{0};
  Server tokens([&](const Server::Request& q) -> Server::Reply {
    if (q.method == "POST") {
      if (q.body.find("grant_type=refresh_token") == std::string::npos || q.body.find("refresh_token=identity%2Bx") == std::string::npos)
        return {401, "{}"};
    } else if (q.header("Authorization") != "Basic " + base64_encode("user:pass") ||
               q.target.find("scope=repository%3Ateam%2Fapp%3Apull") == std::string::npos ||
               q.target.find("service=reg") == std::string::npos) {
      return {401, "{}"};
    }
    return {200, R"({"token":"t)" + std::to_string(++issued) + R"(","expires_in":60})"};
  });
  std::atomic<int> expired{0};
  reg.fault = [&](const Server::Request& q) -> std::optional<Server::Reply> {
    const std::string token = q.header("Authorization");
    if (token.starts_with("Bearer t") && std::stoi(token.substr(8)) > expired) return {};
    return Server::Reply{
        401,
        "",
        {"WWW-Authenticate: Bearer realm=\"http://" + tokens.host() + "/token\",service=\"reg\",scope=\"repository:team/app:pull\""}};
  };
  Puller p;
  p.options.parallel = 1;
  PullRequest q;
  q.container = "c1";
  q.name = reg.name();
  expect_error(p.pull(q), Code::unauthenticated, {"token service"});
  q.account = Account{"user", "pass", {}, {}};
  ASSERT_TRUE(p.pull(q));
  EXPECT_EQ(issued, 1) << "one token for all requests";
  q.policy = Policy::always;
  q.account = Account{{}, {}, "identity+x", {}};
  const auto r = p.pull(q);
  ASSERT_TRUE(r) << r.error().message;
  // A token that has run out is replaced once.
  reg.image = Image({Tar().file("z", "1").bytes()});
  expired = issued.load();
  ASSERT_TRUE(p.pull(q));
}

TEST(Pull, MirrorsFirst) {
  FakeRegistry reg(two_layers()), mirror(reg.image);
  Puller p;
  p.options.registry.attempts = 0;
  p.options.registry.mirrors[reg.server.host()] = {"http://127.0.0.1:1", "http://" + mirror.server.host()};
  ASSERT_TRUE(p.pull(reg.name()));
  EXPECT_EQ(reg.server.requests, 0);
  EXPECT_GT(mirror.server.requests, 0);
  mirror.fault = [](const Server::Request&) { return Server::Reply{500, "broken"}; };
  ASSERT_TRUE(p.pull(reg.name(), Policy::always)) << "itself, when they fail";
  // A mirror that loses the layers half way.
  mirror.fault = [](const Server::Request& q) -> std::optional<Server::Reply> {
    if (q.target.find("/blobs/") == std::string::npos) return {};
    return Server::Reply{404, ""};
  };
  mirror.image = reg.image = Image({Tar().file("z", "2").bytes()});
  const auto r = p.pull(reg.name(), Policy::always);
  ASSERT_TRUE(r) << r.error().message;
}

// ---- concurrency

TEST(Pull, ManyAtOnceBringEachLayerOnce) {
  FakeRegistry reg(large());
  Puller p;
  std::vector<std::thread> threads;
  std::atomic<int> good{0};
  for (int i = 0; i < 8; ++i)
    threads.emplace_back([&, i] {
      PullRequest q;
      q.container = "c" + std::to_string(i);
      q.name = reg.name();
      if (image_oci::pull(q, p.options, p.store, p.traffic, {}, never, 1)) ++good;
    });
  for (auto& t : threads) t.join();
  EXPECT_EQ(good, 8);
  EXPECT_EQ(reg.count("/blobs/" + reg.image.layers[0]), 1);
  EXPECT_EQ(p.store->containers().size(), 8u);
}

TEST(Pull, OneThatFailsDoesNotTakeOthersWithIt) {
  FakeRegistry reg(large());
  const std::string right = "Basic " + base64_encode("user:pass");
  reg.fault = [&](const Server::Request& q) -> std::optional<Server::Reply> {
    if (q.target.find("/blobs/" + reg.image.layers[0]) == std::string::npos || q.header("Authorization") == right) return {};
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    return Server::Reply{401, "", {"WWW-Authenticate: Basic realm=\"x\""}};
  };
  Puller p;
  PullRequest bad, good;
  bad.container = "c1", bad.name = reg.name();
  good = bad;
  good.container = "c2", good.account = Account{"user", "pass", {}, {}};
  std::thread first([&] { EXPECT_FALSE(image_oci::pull(bad, p.options, p.store, p.traffic, {}, never, 1)); });
  std::this_thread::sleep_for(std::chrono::milliseconds(30));
  const auto r = image_oci::pull(good, p.options, p.store, p.traffic, {}, never, 1);
  EXPECT_TRUE(r) << r.error().message;
  first.join();
}

// ---- layouts and archives

TEST(Local, Layout) {
  Puller p;
  two_layers("zstd").write_layout(p.dir.path + "/img");
  const auto r = p.pull("file://" + p.dir.path + "/img");
  ASSERT_TRUE(r) << r.error().message;
  EXPECT_EQ(get(p.layer(*r, 1) + "/b"), "upper");
  EXPECT_TRUE(p.pull(p.dir.path + "/img:latest"));
  expect_error(p.pull(p.dir.path + "/img:2"), Code::not_found, {"\"2\"", "latest"});
  expect_error(p.pull(p.dir.path + "/nothing"), Code::not_found, {"nothing"});
  expect_error(p.pull(p.dir.path), Code::invalid_argument, {"neither an OCI layout"});
}

TEST(Local, OnlyWhereTheOperatorSays) {
  Puller p;
  two_layers().write_layout(p.dir.path + "/img/private");
  fs::create_directories(p.dir.path + "/public");
  fs::create_symlink("../img/private", p.dir.path + "/public/link");
  two_layers().write_layout(p.dir.path + "/public/own");
  p.options.local = {p.dir.path + "/public"};
  expect_error(p.pull("file://" + p.dir.path + "/img/private"), Code::permission_denied, {"local", "img/private"});
  expect_error(p.pull("file://" + p.dir.path + "/public/../img/private"), Code::permission_denied, {"local"});
  expect_error(p.pull("file://" + p.dir.path + "/public/link"), Code::permission_denied, {"local"});
  EXPECT_TRUE(p.pull("file://" + p.dir.path + "/public/own"));
  p.options.local.clear();
  expect_error(p.pull("file://" + p.dir.path + "/public/own", Policy::always), Code::permission_denied, {"local"});
}

TEST(Local, CorruptedLayout) {
  Puller p;
  Image image = two_layers();
  std::string& blob = image.blobs[image.layers[0]];
  blob[blob.size() / 2] ^= 1;
  image.write_layout(p.dir.path + "/img");
  const auto r = p.pull("file://" + p.dir.path + "/img");
  ASSERT_FALSE(r);
  EXPECT_NE(r.error().message.find(image.layers[0]), std::string::npos) << r.error().message;
}

TEST(Local, ALayoutsLinksLeadNowhere) {
  Puller p;
  Image image = two_layers();
  image.write_layout(p.dir.path + "/img");
  const std::string blob = p.dir.path + "/img/blobs/sha256/" + std::string(hex_of(image.layers[0]));
  fs::rename(blob, p.dir.path + "/outside");
  fs::create_symlink("../../../outside", blob);
  EXPECT_FALSE(p.pull("file://" + p.dir.path + "/img"));
}

// A docker-save archive as old Docker wrote it: layers in folders, one a link to another.
std::string saved(const Image& image, const std::vector<std::string>& tars, const std::string& tag, bool link = false) {
  Tar t;
  std::string layers;
  for (std::size_t i = 0; i < tars.size(); ++i) {
    const std::string name = "l" + std::to_string(i) + "/layer.tar";
    t.directory("l" + std::to_string(i));
    if (link && i > 0)
      t.link(name, "../l0/layer.tar");
    else
      t.file(name, tars[i]);
    layers += (i ? ",\"" : "\"") + name + "\"";
  }
  const std::string config = std::string(hex_of(image.config_digest)) + ".json";
  t.add({.name = "c", .data = image.config, .pax = {{"path", config}}});
  t.file("manifest.json", R"([{"Config":")" + config + R"(","RepoTags":[")" + tag + R"("],"Layers":[)" + layers + "]}]");
  return t.bytes();
}

TEST(Local, DockerSave) {
  const std::vector<std::string> tars = {Tar().file("a", noise(300'000)).bytes(), Tar().file("b", "2").bytes()};
  const Image image(tars);
  const std::string bytes = saved(image, tars, "team/app:1");
  Puller p;
  put(p.dir.path + "/plain.tar", bytes);
  put(p.dir.path + "/packed.tar", compressed(bytes, "gzip"));
  for (const char* name : {"/plain.tar", "/packed.tar", "/plain.tar:team/app:1"}) {
    const auto r = p.pull(p.dir.path + name, Policy::always);
    if (std::string_view(name).find(':') != std::string_view::npos) continue;  // a slash behind the colon: part of the path
    ASSERT_TRUE(r) << name << r.error().message;
    EXPECT_EQ(r->id, image.config_digest);
    EXPECT_EQ(r->layers, image.diff_ids);
    EXPECT_EQ(get(p.layer(*r, 0) + "/a"), noise(300'000));
  }
  EXPECT_TRUE(p.pull(p.dir.path + "/plain.tar:1"));
  expect_error(p.pull(p.dir.path + "/plain.tar:7"), Code::not_found, {"team/app:1"});
  EXPECT_TRUE(tree(p.dir.path + "/s/tmp").empty());
}

TEST(Local, DockerSaveWithTheSameLayerTwice) {
  const std::string tar = Tar().file("a", "1").bytes();
  const Image image({tar, tar});
  Puller p;
  put(p.dir.path + "/x.tar", saved(image, {tar, tar}, "x:1", true));
  const auto r = p.pull(p.dir.path + "/x.tar");
  ASSERT_TRUE(r) << r.error().message;
  EXPECT_EQ(r->layers[0], r->layers[1]);
}

TEST(Local, ArchivesDirectory) {
  Puller p;
  p.options.archives = p.dir.path + "/archives";
  p.options.registry.attempts = 0;
  p.options.default_registry = "127.0.0.1:1";
  const std::string tar = Tar().file("a", "1").bytes();
  put(p.options.archives + "/busybox.tar", saved(Image({tar}), {tar}, "busybox:latest"));
  put(p.options.archives + "/team/app:2.tar", saved(Image({tar}), {tar}, "other/name:9"));
  two_layers().write_layout(p.options.archives + "/layout");
  EXPECT_TRUE(p.pull("busybox"));
  EXPECT_TRUE(p.pull("team/app:2"));
  EXPECT_TRUE(p.pull("layout"));
  expect_error(p.pull("team/app:3"), Code::unavailable, {"127.0.0.1:1"});
}

TEST(Local, DamagedArchives) {
  const std::vector<std::string> tars = {Tar().file("a", "1").bytes()};
  const Image image(tars);
  const std::string bytes = saved(image, tars, "x:1");
  Puller p;
  for (std::size_t i = 0; i < bytes.size(); i += 97) {
    std::string damaged = bytes;
    damaged[i] = static_cast<char>(damaged[i] ^ 0x15);
    if (i % 2) damaged.resize(bytes.size() - i);
    put(p.dir.path + "/d.tar", damaged);
    const auto r = p.pull(p.dir.path + "/d.tar", Policy::always);
    if (!r) {
      EXPECT_FALSE(r.error().message.empty());
    } else {
      EXPECT_EQ(r->layers, image.diff_ids);
    }
  }
  EXPECT_TRUE(tree(p.dir.path + "/s/tmp").empty());
}

// ---- layers that need those below

TEST(Pull, LayersThatLeanOnOthers) {
  FakeRegistry reg(Image(
      {Tar().directory("tmp", 01777).file("lib/real", "data", 0640).bytes(), Tar().file("tmp/x", "1").hard("alias", "lib/real").bytes()}));
  Puller p;
  const auto r = p.pull(reg.name());
  ASSERT_TRUE(r) << r.error().message;
  struct stat st {};
  ASSERT_EQ(::stat((p.layer(*r, 1) + "/tmp").c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 07777u, 01777u) << "a directory nobody mentioned looks as below";
  EXPECT_EQ(get(p.layer(*r, 1) + "/alias"), "data");
  EXPECT_NE(r->layers[1], reg.image.diff_ids[1]) << "on other layers it would be another one";
  EXPECT_TRUE(tree(p.dir.path + "/s/tmp").empty());
  reg.image =
      Image({Tar().directory("tmp", 0700).file("lib/real", "other").bytes(), Tar().file("tmp/x", "1").hard("alias", "lib/real").bytes()});
  const auto other = p.pull(reg.name(), Policy::always, "c2");
  ASSERT_TRUE(other) << other.error().message;
  EXPECT_EQ(get(p.layer(*other, 1) + "/alias"), "other");
  EXPECT_EQ(get(p.layer(*r, 1) + "/alias"), "data");
}

// ---- the store

TEST(Store, WhatIsUsedStaysWhatIsNotGoes) {
  FakeRegistry reg(two_layers());
  Puller p;
  const auto r = p.pull(reg.name());
  ASSERT_TRUE(r);
  const auto nothing_kept = [](const std::string&) { return false; };
  const auto never_enough = [] { return false; };
  Removed gone = p.store->remove(nothing_kept, never_enough, never);
  EXPECT_TRUE(gone.images.empty()) << "in use";
  ASSERT_TRUE(p.store->release("c1", 5));
  gone = p.store->remove([&](const std::string& name) { return name == r->name; }, never_enough, never);
  EXPECT_TRUE(gone.images.empty()) << "kept by name";
  gone = p.store->remove(nothing_kept, never_enough, never);
  EXPECT_EQ(gone.images, std::vector<std::string>{r->name});
  EXPECT_GT(gone.size, 0u);
  for (const char* each : {"/s/l", "/s/layers", "/s/images", "/s/tmp"}) EXPECT_TRUE(tree(p.dir.path + each).empty()) << each;
  EXPECT_TRUE(p.store->release("c1", 5)) << "of a container it has never heard of";
}

TEST(Store, AReplacedImageStaysForItsContainer) {
  FakeRegistry reg(two_layers());
  Puller p;
  const auto old = p.pull(reg.name());
  ASSERT_TRUE(old);
  reg.image = Image({Tar().file("z", "3").bytes()});
  ASSERT_TRUE(p.pull(reg.name(), Policy::always, "c2"));
  (void)p.store->remove([](const std::string&) { return false; }, [] { return false; }, never);
  EXPECT_TRUE(fs::exists(p.layer(*old, 0) + "/a"));
  ASSERT_TRUE(p.store->release("c1", 5));
  (void)p.store->remove([](const std::string&) { return false; }, [] { return false; }, never);
  EXPECT_FALSE(fs::exists(p.layer(*old, 0)));
}

TEST(Store, TheLeastRecentlyUsedGoesFirst) {
  FakeRegistry one(Image({Tar().file("1", "1").bytes()})), two(Image({Tar().file("2", "2").bytes()}));
  Puller p;
  const auto a = p.pull(one.name()), b = p.pull(two.name(), Policy::if_absent, "c2");
  ASSERT_TRUE(a && b);
  ASSERT_TRUE(p.store->release("c2", 5));
  ASSERT_TRUE(p.store->release("c1", 9));
  int checks = 0;
  const Removed gone = p.store->remove([](const std::string&) { return false; }, [&] { return ++checks > 1; }, never);
  EXPECT_EQ(gone.images, std::vector<std::string>{b->name});
  p.reopen();
  EXPECT_TRUE(p.store->image(a->name));
}

TEST(Store, SurvivesARestart) {
  FakeRegistry reg(two_layers());
  Puller p;
  const auto r = p.pull(reg.name());
  ASSERT_TRUE(r);
  p.reopen();
  const auto again = p.store->image(r->name);
  ASSERT_TRUE(again);
  EXPECT_EQ(again->layers, r->layers);
  EXPECT_EQ(again->config.cmd, r->config.cmd);
  EXPECT_EQ(p.store->containers(), std::vector<std::string>{"c1"});
  EXPECT_EQ(p.store->size(r->layers[0]), 6u);
}

TEST(Store, LeftOversOfACrash) {
  FakeRegistry reg(two_layers());
  Puller p;
  const auto r = p.pull(reg.name());
  ASSERT_TRUE(r);
  put(p.dir.path + "/s/tmp/0/half", "x");
  put(p.dir.path + "/s/l/unknown/x", "x");
  put(p.dir.path + "/s/images/x.new", "{");
  put(p.dir.path + "/s/layers/aaaa", "{}");
  fs::remove_all(p.layer(*r, 1));
  p.reopen();
  EXPECT_FALSE(p.store->image(r->name)) << "a layer is missing";
  EXPECT_TRUE(tree(p.dir.path + "/s/tmp").empty());
  EXPECT_FALSE(fs::exists(p.dir.path + "/s/l/unknown"));
  const auto again = p.pull(reg.name());
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(reg.count("/blobs/" + reg.image.layers[0]), 1) << "the other layer is still here";
}

// kill -9 in the middle of pulls, again and again: afterwards every layer that is there is whole.
TEST(Store, KilledAtAnyPoint) {
  std::vector<std::string> tars;
  for (int i = 0; i < 6; ++i) {
    Tar t;
    for (int k = 0; k < 30; ++k) t.file("f" + std::to_string(k), noise(20'000, static_cast<unsigned>(i * 100 + k)));
    tars.push_back(t.bytes());
  }
  const Image image(tars);
  TempDir dir;
  image.write_layout(dir.path + "/img");
  unsigned finished = 0;
  for (unsigned round = 0; round < 25; ++round) {
    const pid_t pid = ::fork();
    ASSERT_GE(pid, 0);
    if (pid == 0) {
      std::vector<std::string> problems;
      auto store = Store::open(dir.path + "/s", problems);
      if (!store || !problems.empty()) ::_exit(9);
      PullOptions options;
      options.limits = {1 << 30, 1000};
      options.local = {dir.path};
      Traffic traffic(3);
      PullRequest q;
      q.container = "c" + std::to_string(round);
      q.name = dir.path + "/img";
      const auto r = image_oci::pull(q, options, *store, traffic, {}, never, round);
      ::_exit(r ? 0 : 8);
    }
    ::usleep(1000 + round * 1500);
    ::kill(pid, SIGKILL);
    int status = 0;
    ::waitpid(pid, &status, 0);
    if (WIFEXITED(status)) {
      ASSERT_EQ(WEXITSTATUS(status), 0);
      ++finished;
      fs::remove_all(dir.path + "/s");
    }
    for (const auto& layer : fs::is_directory(dir.path + "/s/l") ? tree(dir.path + "/s/l") : std::set<std::string>()) {
      if (layer.find('/') != std::string::npos) continue;
      for (int k = 0; k < 30; ++k)
        ASSERT_EQ(fs::file_size(dir.path + "/s/l/" + layer + "/f" + std::to_string(k)), 20'000u) << "round " << round;
    }
  }
  Puller p;
  p.options.local = {dir.path};
  EXPECT_TRUE(p.pull(dir.path + "/img"));
  EXPECT_LT(finished, 25u) << "never interrupted: the test is too slow to say anything";
}

}  // namespace
}  // namespace gantry::image_oci
