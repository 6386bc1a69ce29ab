// The module as the agent meets it, against the distribution project's registry with images made by skopeo and umoci.
#include "oci.hpp"

#include "world_test.hpp"

#include <gantry/testing/host.hpp>

#include <sys/mount.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include <chrono>

namespace gantry::image_oci {
namespace {

using namespace test;
using namespace std::chrono_literals;
using fb::image::Method;
namespace fi = fb::image;

class Oci : public ::testing::Test {
 protected:
  void SetUp() override {
    m.work_dir(dir.path + "/w");
    ASSERT_TRUE(configure({}, false));
    ASSERT_TRUE(m.start());
  }
  void TearDown() override {
    if (up) {
      const auto stopping = m.open(GANTRY_METHOD_STOP, Buffer());
      EXPECT_TRUE(host.run_until([&] { return stopping.done(); }));
    }
    m.destroy();
    EXPECT_EQ(host.faults(), std::vector<std::string>{});
  }
  Status configure(testing::Values more, bool reload = true) {
    testing::Values v{{"default_registry", "docker.io"},
                      {"archives", ""},
                      {"local", std::vector<std::string>{dir.path}},
                      {"mirrors", std::map<std::string, std::string>{}},
                      {"insecure", std::vector<std::string>{}},
                      {"certificates", ""},
                      {"credentials", ""},
                      {"platform", ""},
                      {"parallel_downloads", 3},
                      {"connect_timeout", 5s},
                      {"stall_timeout", 10s},
                      {"retries", 1},
                      {"max_layer_size", 4LL << 30},
                      {"max_layer_entries", 100'000},
                      {"gc_headroom", 0.0},
                      {"gc_interval", 1h},
                      {"gc_keep", std::vector<std::string>{}}};
    for (auto& [key, value] : more) v.insert_or_assign(key, value);
    return m.configure(v, reload);
  }
  testing::Pending open_pull(const std::string& name, const std::string& container = "c1", fi::Policy policy = fi::Policy::IF_ABSENT) {
    fi::PullT p;
    p.container_id = container;
    p.name = name;
    p.policy = policy;
    return m.open(Method::PULL, p);
  }
  Result<fi::ImageT> pull(const std::string& name, const std::string& container = "c1", fi::Policy policy = fi::Policy::IF_ABSENT) {
    const auto p = open_pull(name, container, policy);
    EXPECT_TRUE(host.run_until([&] { return p.done(); }, 100s));
    last_chunks = p.chunks().size();
    for (std::size_t i = 0; i < last_chunks; ++i) EXPECT_TRUE(p.chunk<fi::Progress>(i));
    return p.result<fi::Image>();
  }
  Status release(const std::string& container) {
    fi::ReleaseT r;
    r.container_id = container;
    return m.call(Method::RELEASE, r);
  }
  Result<fi::ImagesT> list() { return m.call<fi::Images>(Method::LIST, fi::ListT{}); }

  TempDir dir;
  testing::Host host;
  testing::Subject<OciImages> m{host, "oci"};
  bool up = true;
  std::size_t last_chunks = 0;
};

TEST_F(Oci, LayoutHandsOverItsConfiguration) {
  Image(
      {Tar().file("a", "1").bytes()}, "gzip", Platform::here().architecture,
      R"({"Entrypoint":["/e"],"Cmd":["c"],"Env":["A=1"],"WorkingDir":"/w","User":"1:2","ExposedPorts":{"80/tcp":{}},"Volumes":{"/v":{}},"Labels":{"k":"v"},"StopSignal":"SIGINT"})")
      .write_layout(dir.path + "/img");
  const auto image = pull("file://" + dir.path + "/img");
  ASSERT_TRUE(image) << image.error().message;
  EXPECT_GE(last_chunks, 1u);
  ASSERT_EQ(image->layers.size(), 1u);
  EXPECT_EQ(get(image->layers[0] + "/a"), "1");
  EXPECT_EQ(image->config->entrypoint, std::vector<std::string>{"/e"});
  EXPECT_EQ(image->config->cmd, std::vector<std::string>{"c"});
  EXPECT_EQ(image->config->env, std::vector<std::string>{"A=1"});
  EXPECT_EQ(image->config->working_dir, "/w");
  EXPECT_EQ(image->config->user, "1:2");
  EXPECT_EQ(image->config->ports, std::vector<std::string>{"80/tcp"});
  EXPECT_EQ(image->config->volumes, std::vector<std::string>{"/v"});
  EXPECT_EQ(image->config->stop_signal, "SIGINT");
  ASSERT_EQ(image->config->labels.size(), 1u);
  EXPECT_EQ(image->config->labels[0]->value, "v");
  EXPECT_EQ(image->containers, std::vector<std::string>{"c1"});
  EXPECT_EQ(image->size, 1u);
  EXPECT_EQ(image->os, "linux");
}

TEST_F(Oci, ListInspectPruneRelease) {
  Image({Tar().file("a", "1").bytes()}).write_layout(dir.path + "/one");
  Image({Tar().file("b", "22").bytes()}).write_layout(dir.path + "/two");
  const std::string one = "file://" + dir.path + "/one", two = "file://" + dir.path + "/two";
  ASSERT_TRUE(pull(one, "c1"));
  ASSERT_TRUE(pull(two, "c2"));
  auto images = list();
  ASSERT_TRUE(images);
  EXPECT_EQ(images->images.size(), 2u);
  EXPECT_EQ(images->size, 3u);
  fi::InspectT i;
  i.name = one;
  EXPECT_TRUE(m.call<fi::Image>(Method::INSPECT, i));
  fi::PruneT none;
  auto pruned = m.call<fi::Pruned>(Method::PRUNE, none);
  ASSERT_TRUE(pruned);
  EXPECT_TRUE(pruned->images.empty());
  ASSERT_TRUE(release("c1"));
  ASSERT_TRUE(release("c2"));
  ASSERT_TRUE(release("c2"));
  fi::PruneT keep;
  keep.exclude = {two};
  pruned = m.call<fi::Pruned>(Method::PRUNE, keep);
  ASSERT_TRUE(pruned) << pruned.error().message;
  EXPECT_EQ(pruned->images, std::vector<std::string>{one});
  EXPECT_EQ(pruned->size, 1u);
  EXPECT_FALSE(m.call<fi::Image>(Method::INSPECT, i));
  keep.exclude = {"Not A Name"};
  EXPECT_EQ(m.call<fi::Pruned>(Method::PRUNE, keep).error().code, Code::invalid_argument);
}

TEST_F(Oci, RecoverTellsWhoIsLeft) {
  Image({Tar().file("a", "1").bytes()}).write_layout(dir.path + "/one");
  ASSERT_TRUE(pull("file://" + dir.path + "/one", "alive"));
  ASSERT_TRUE(pull("file://" + dir.path + "/one", "dead"));
  testing::Host host2;
  testing::Subject<OciImages> again(host2, "oci");
  again.work_dir(dir.path + "/w");
  ASSERT_TRUE(again.configure({{"default_registry", "docker.io"}, {"parallel_downloads", 3}, {"gc_interval", 1h}, {"gc_headroom", 0.0}}));
  ASSERT_TRUE(again.start());
  fi::RecoverT r;
  r.containers = {"alive"};
  const auto recovered = again.call<fi::Recovered>(GANTRY_METHOD_RECOVER, r);
  ASSERT_TRUE(recovered) << recovered.error().message;
  EXPECT_EQ(recovered->orphans, std::vector<std::string>{"dead"});
  EXPECT_TRUE(again.stop());
  again.destroy();
}

TEST_F(Oci, CollectsWhenTheDiskIsShort) {
  ASSERT_TRUE(configure({{"gc_headroom", 1.0}, {"gc_interval", 5s}, {"gc_keep", std::vector<std::string>{"file://" + dir.path + "/two"}}}));
  for (const char* name : {"one", "two", "three"}) {
    Image({Tar().file(name, name).bytes()}).write_layout(dir.path + "/" + name);
    ASSERT_TRUE(pull("file://" + dir.path + "/" + name, name));
  }
  ASSERT_TRUE(release("one"));
  ASSERT_TRUE(release("two"));
  host.advance(1h);
  EXPECT_TRUE(host.run_until([&] { return list()->images.size() == 2; }));
  const auto left = list();
  for (const auto& image : left->images) EXPECT_EQ(image->name.find("/one"), std::string::npos) << image->name;
}

TEST_F(Oci, WhatItRefuses) {
  EXPECT_EQ(pull("x", "").error().code, Code::invalid_argument);
  EXPECT_EQ(pull("x", "a/b").error().code, Code::invalid_argument);
  EXPECT_EQ(pull("no/such:image", "c", fi::Policy::NEVER).error().code, Code::not_found);
  fi::PullT p;
  p.container_id = "c";
  p.name = "x";
  p.type = fb::ImageType::APPC;
  const auto appc = m.open(Method::PULL, p);
  host.run();
  EXPECT_EQ(appc.code(), Code::unimplemented);
  EXPECT_EQ(configure({{"platform", "linux"}}).error().key_path, "platform");
  EXPECT_EQ(configure({{"default_registry", "http://x"}}).error().key_path, "default_registry");
  EXPECT_EQ(configure({{"gc_keep", std::vector<std::string>{"A B"}}}).error().key_path, "gc_keep");
  EXPECT_EQ(configure({{"mirrors", std::map<std::string, std::string>{{"docker.io", "ftp://x"}}}}).error().key_path, "mirrors");
}

TEST_F(Oci, CancelEndsAPull) {
  FakeRegistry reg(Image({Tar().file("a", std::string(1 << 20, 'a')).bytes()}));
  reg.fault = [&](const Server::Request& q) -> std::optional<Server::Reply> {
    if (!q.target.ends_with(reg.image.layers[0])) return {};
    Server::Reply r{200, reg.image.blobs[reg.image.layers[0]]};
    r.stop_after = 10;
    r.stall = true;
    return r;
  };
  const auto p = open_pull(reg.name());
  ASSERT_TRUE(host.run_until([&] { return reg.count(reg.image.layers[0]) > 0; }));
  p.cancel();
  const auto begin = std::chrono::steady_clock::now();
  ASSERT_TRUE(host.run_until([&] { return p.done(); }));
  EXPECT_EQ(p.code(), Code::cancelled);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 3s);
  // Stopping does the same.
  const auto q = open_pull(reg.name());
  ASSERT_TRUE(host.run_until([&] { return reg.count(reg.image.layers[0]) > 1; }));
  const auto stopping = m.open(GANTRY_METHOD_STOP, Buffer());
  ASSERT_TRUE(host.run_until([&] { return stopping.done() && q.done(); }));
  EXPECT_EQ(q.code(), Code::cancelled);
  up = false;
}

TEST_F(Oci, ReleaseInTheMiddleOfAPull) {
  FakeRegistry reg(Image({Tar().file("a", "1").bytes()}));
  std::atomic<bool> go{false};
  reg.fault = [&](const Server::Request& q) -> std::optional<Server::Reply> {
    while (q.target.ends_with(reg.image.layers[0]) && !go) std::this_thread::sleep_for(1ms);
    return {};
  };
  const auto p = open_pull(reg.name());
  ASSERT_TRUE(host.run_until([&] { return reg.count(reg.image.layers[0]) > 0; }));
  fi::ReleaseT r;
  r.container_id = "c1";
  const auto releasing = m.open(Method::RELEASE, r);
  go = true;
  ASSERT_TRUE(host.run_until([&] { return p.done() && releasing.done(); }));
  EXPECT_EQ(p.code(), Code::cancelled);
  EXPECT_TRUE(releasing.result());
  const auto images = list();
  for (const auto& each : images->images) EXPECT_TRUE(each->containers.empty()) << "nobody would ever release it";
}

// ---- the real registry

class OciReal : public Oci {
 protected:
  void SetUp() override {
    if (!have("docker-registry") || !have("skopeo") || !have("umoci")) GTEST_SKIP() << "needs docker-registry, skopeo and umoci";
    if (::geteuid() != 0) GTEST_SKIP() << "needs root, to make images with owners and devices";
    Oci::SetUp();
    ASSERT_NE(registry.port, 0) << get(registry.dir.path + "/registry.log");
  }
  void TearDown() override {
    if (!IsSkipped())
      Oci::TearDown();
    else
      m.destroy();
  }
  [[nodiscard]] int sh(const std::string& command) const { return run("cd " + dir.path + " && " + command); }
  [[nodiscard]] std::string push(const std::string& what, const std::string& name, const std::string& options = "") const {
    EXPECT_EQ(sh("skopeo --insecure-policy copy " + options + " --dest-tls-verify=false oci:" + what + " docker://" + registry.host() +
                 "/" + name),
              0)
        << what;
    return registry.host() + "/" + name;
  }
  // The layers as containers see them, below `path`.
  struct Mounted {
    Mounted(const std::vector<std::string>& layers, std::string at) : path(std::move(at)) {
      fs::create_directories(path);
      std::string lower;
      for (auto it = layers.rbegin(); it != layers.rend(); ++it) lower += (lower.empty() ? "" : ":") + fs::path(*it).filename().string();
      // As the agent mounts them: relative to the folder of layers, since the kernel takes a page of options.
      const std::string base = fs::path(layers[0]).parent_path(), options = "lowerdir=" + lower + (layers.size() == 1 ? ":" + lower : "");
      const Fd before(::open(".", O_RDONLY | O_DIRECTORY));
      if (::chdir(base.c_str()) != 0) return;
      if (layers.size() == 1)
        good = ::mount((base + "/" + lower).c_str(), path.c_str(), nullptr, MS_BIND, nullptr) == 0;
      else
        good = ::mount("overlay", path.c_str(), "overlay", MS_RDONLY, options.c_str()) == 0;
      error = errno;
      (void)!::fchdir(before.get());
    }
    ~Mounted() {
      if (good) ::umount2(path.c_str(), MNT_DETACH);
    }
    std::string path;
    bool good = false;
    int error = 0;
  };
  RealRegistry registry;
};

// Everything about files that one can tell from outside: types, modes, owners, links, sizes, times, content, attributes.
std::string described(const std::string& root) {
  std::string out;
  std::map<ino_t, std::string> first;
  for (const std::string& name : tree(root)) {
    const std::string path = root + "/" + name;
    struct stat st {};
    if (::lstat(path.c_str(), &st) != 0) continue;
    out += name + " " + std::to_string(st.st_mode) + " " + std::to_string(st.st_uid) + ":" + std::to_string(st.st_gid) + " " +
           std::to_string(st.st_mtim.tv_sec);
    if (S_ISREG(st.st_mode)) {
      out += " " + digest_of(get(path));
      if (st.st_nlink > 1) out += " link " + first.emplace(st.st_ino, name).first->second;
    }
    if (S_ISLNK(st.st_mode)) out += " -> " + fs::read_symlink(path).string();
    if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode)) out += " dev " + std::to_string(st.st_rdev);
    char names[4096], value[4096];
    const ssize_t n = ::llistxattr(path.c_str(), names, sizeof names);
    std::set<std::string> sorted;
    for (ssize_t at = 0; at < n; at += static_cast<ssize_t>(std::strlen(names + at)) + 1) sorted.insert(names + at);
    for (const std::string& each : sorted) {
      if (each.starts_with("trusted.")) continue;
      const ssize_t size = ::lgetxattr(path.c_str(), each.c_str(), value, sizeof value);
      out += " " + each + "=" + digest_of(std::string_view(value, static_cast<std::size_t>(std::max<ssize_t>(size, 0))));
    }
    out += "\n";
  }
  return out;
}

TEST_F(OciReal, FortyLayersOfEverything) {
  ASSERT_EQ(sh("umoci init --layout oci && umoci new --image oci:all && umoci unpack --image oci:all b"), 0);
  const std::string root = dir.path + "/b/rootfs/";
  const auto change = [&](int i) {
    const std::string n = std::to_string(i);
    put(root + "data/" + n, std::string(static_cast<std::size_t>(1000 + i * 37), static_cast<char>('a' + i % 26)));
    if (i % 4 == 1) {
      put(root + "bin/su" + n, "su");
      ::chown((root + "bin/su" + n).c_str(), 0, static_cast<gid_t>(i));
      ::chmod((root + "bin/su" + n).c_str(), 04755);
      fs::create_symlink("su" + n, root + "bin/link" + n);
    }
    if (i % 4 == 2) {
      put(root + "hard/a" + n, "hard" + n);
      fs::create_hard_link(root + "hard/a" + n, root + "hard/b" + n);
      put(root + "cap" + n, "ping");
      const std::string cap("\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", 20);
      ::setxattr((root + "cap" + n).c_str(), "security.capability", cap.data(), cap.size(), 0);
      ::setxattr((root + "cap" + n).c_str(), "user.note", "n", 1, 0);
    }
    if (i % 4 == 3) {
      (void)::mknod((root + "null" + n).c_str(), S_IFCHR | 0666, ::makedev(1, 3));
      (void)::mkfifo((root + "fifo" + n).c_str(), 0600);
      fs::remove(root + "data/" + std::to_string(i - 2));  // a whiteout
      fs::remove_all(root + "again");                      // and a directory that comes back with something else in it
      put(root + "again/only" + n, n);
      fs::permissions(root + "again", fs::perms(0711));
    }
    if (i % 4 == 0) {
      put(root + "sparse" + n, "begin");
      fs::resize_file(root + "sparse" + n, 3 << 20);
      fs::remove_all(root + "hard");
    }
  };
  for (int i = 1; i <= 40; ++i) {
    change(i);
    ASSERT_EQ(sh("umoci repack --refresh-bundle --image oci:all b"), 0) << i;
  }
  ASSERT_EQ(sh("umoci config --image oci:all --config.entrypoint /bin/su1 --config.cmd x --config.env A=1 --config.user 7 "
               "--config.workingdir /data --config.stopsignal SIGHUP"),
            0);
  const auto image = pull(push("oci:all", "probe/all:1"));
  ASSERT_TRUE(image) << image.error().message;
  ASSERT_EQ(image->layers.size(), 40u);
  EXPECT_EQ(image->config->user, "7");
  EXPECT_EQ(image->config->stop_signal, "SIGHUP");
  Mounted merged(image->layers, dir.path + "/merged");
  if (!merged.good) GTEST_SKIP() << "overlay cannot be mounted: " << std::strerror(merged.error);
  // Not with what the image was made of: the archives keep whole seconds, rounded.
  ASSERT_EQ(sh("umoci unpack --image oci:all reference"), 0);
  EXPECT_EQ(described(merged.path), described(dir.path + "/reference/rootfs"));
  EXPECT_TRUE(tree(dir.path + "/w/tmp").empty());
}

TEST_F(OciReal, AnIndexOfPlatforms) {
  ASSERT_EQ(sh("umoci init --layout oci && umoci new --image oci:mine && umoci unpack --image oci:mine b && echo mine > b/rootfs/who && "
               "umoci repack --image oci:mine b"),
            0);
  ASSERT_EQ(sh("umoci new --image oci:other && umoci config --image oci:other --architecture s390x && umoci unpack --image oci:other c && "
               "echo other > c/rootfs/who && "
               "umoci repack --image oci:other c"),
            0);
  // Both in one index, under one name.
  const std::string index = get(dir.path + "/oci/index.json");
  std::string manifests;
  for (const char* tag : {"mine", "other"}) {
    const std::size_t at = index.find(std::string("\"") + tag + "\"");
    ASSERT_NE(at, std::string::npos);
    const std::size_t digest = index.rfind("sha256:", at);
    const std::string one = index.substr(digest, 71);
    const std::string bytes = get(dir.path + "/oci/blobs/sha256/" + one.substr(7));
    manifests += (manifests.empty() ? "" : ",") +
                 Image::descriptor(one, bytes.size(), "application/vnd.oci.image.manifest.v1+json",
                                   std::string(R"(,"platform":{"os":"linux","architecture":")") +
                                       (tag == std::string("mine") ? Platform::here().architecture : "s390x") + "\"}");
  }
  const std::string list = R"({"schemaVersion":2,"manifests":[)" + manifests + "]}", digest = digest_of(list);
  put(dir.path + "/oci/blobs/sha256/" + digest.substr(7), list);
  put(dir.path + "/oci/index.json", R"({"schemaVersion":2,"manifests":[)" +
                                        Image::descriptor(digest, list.size(), "application/vnd.oci.image.index.v1+json",
                                                          R"(,"annotations":{"org.opencontainers.image.ref.name":"both"})") +
                                        "]}");
  const auto image = pull(push("oci:both", "probe/both:1", "--all"));
  ASSERT_TRUE(image) << image.error().message;
  EXPECT_EQ(get(image->layers.back() + "/who"), "mine\n");
  EXPECT_EQ(image->digest, digest);
  ASSERT_TRUE(configure({{"platform", "linux/s390x"}}));
  const auto other = pull(registry.host() + "/probe/both:1", "c2", fi::Policy::ALWAYS);
  ASSERT_TRUE(other) << other.error().message;
  EXPECT_EQ(get(other->layers.back() + "/who"), "other\n");
}

TEST_F(OciReal, SchemaTwoZstdAndArchives) {
  ASSERT_EQ(sh("umoci init --layout oci && umoci new --image oci:x && umoci unpack --image oci:x b && mkdir b/rootfs/etc && echo hello > "
               "b/rootfs/etc/motd && umoci repack --image oci:x b"),
            0);
  const std::string name = push("oci:x", "probe/x:oci");
  const auto oci = pull(name, "c1");
  ASSERT_TRUE(oci) << oci.error().message;
  const auto docker = pull(push("oci:x", "probe/x:docker", "--format v2s2"), "c2");
  ASSERT_TRUE(docker) << docker.error().message;
  EXPECT_EQ(docker->layers, oci->layers) << "the same layers, shared";
  const auto zstd = pull(push("oci:x", "probe/x:zstd", "--dest-compress-format zstd"), "c3");
  ASSERT_TRUE(zstd) << zstd.error().message;
  EXPECT_EQ(zstd->layers, oci->layers);
  ASSERT_EQ(sh("skopeo --insecure-policy copy oci:oci:x docker-archive:saved.tar:probe/x:1 && skopeo --insecure-policy copy oci:oci:x "
               "oci-archive:layout.tar:x && gzip -k saved.tar"),
            0);
  for (const char* each : {"/saved.tar", "/layout.tar", "/saved.tar.gz", "/oci"}) {
    const auto local = pull("file://" + dir.path + each, "c4", fi::Policy::ALWAYS);
    ASSERT_TRUE(local) << each << ": " << local.error().message;
    EXPECT_EQ(local->layers, oci->layers) << each;
  }
  EXPECT_EQ(get(oci->layers.back() + "/etc/motd"), "hello\n");
}

TEST_F(OciReal, ABlobDamagedInTheRegistry) {
  ASSERT_EQ(sh("umoci init --layout oci && umoci new --image oci:x && umoci unpack --image oci:x b && head -c 300000 /dev/urandom > "
               "b/rootfs/f && umoci repack --image oci:x b"),
            0);
  const std::string name = push("oci:x", "probe/x:1");
  // The largest blob of its storage is the layer.
  fs::path blob;
  std::uintmax_t largest = 0;
  for (const auto& each : fs::recursive_directory_iterator(registry.dir.path + "/data"))
    if (each.is_regular_file() && each.file_size() > largest) blob = each.path(), largest = each.file_size();
  std::string bytes = get(blob);
  bytes[bytes.size() / 2] ^= 1;
  put(blob, bytes);
  const auto image = pull(name);
  ASSERT_FALSE(image);
  EXPECT_EQ(image.error().code, Code::data_loss) << image.error().message;
  EXPECT_NE(image.error().message.find(blob.parent_path().filename().string()), std::string::npos) << image.error().message;
}

// The bar: at most 1.3 times `skopeo copy` to a folder plus unpacking. Run by hand, on a machine that does nothing else:
//   gantry-image-oci-test --gtest_also_run_disabled_tests --gtest_filter=*AGigabyte*
TEST_F(OciReal, DISABLED_AGigabyteInTwentyLayers) {
  std::string config, manifest, ids, descriptors;
  for (unsigned i = 0; i < 20; ++i) {
    // Files of all sizes; half of it noise, half of it text that packs well.
    Tar tar;
    std::uint64_t x = i + 1;
    std::size_t bytes = 0;
    tar.directory("usr").directory("usr/l" + std::to_string(i));
    for (unsigned k = 0; bytes < (50u << 20); ++k) {
      std::string data((k % 10 == 0 ? 2000 : k % 3 == 0 ? 400 : 20) * 1024, ' ');
      for (std::size_t at = 0; at + 8 <= data.size(); at += 8) {
        x = x * 6364136223846793005ULL + 1442695040888963407ULL;
        if (at / 4096 % 2)
          std::memcpy(&data[at], &x, 8);
        else
          data[at] = static_cast<char>('a' + x % 26);
      }
      bytes += data.size();
      tar.file("usr/l" + std::to_string(i) + "/f" + std::to_string(k), data);
    }
    const std::string raw = tar.bytes(), packed = compressed(raw), digest = digest_of(packed);
    put(dir.path + "/oci/blobs/sha256/" + digest.substr(7), packed);
    ids += (i ? ",\"" : "\"") + digest_of(raw) + "\"";
    descriptors += (i ? "," : "") + Image::descriptor(digest, packed.size(), "application/vnd.oci.image.layer.v1.tar+gzip");
  }
  config =
      R"({"os":"linux","architecture":")" + Platform::here().architecture + R"(","rootfs":{"type":"layers","diff_ids":[)" + ids + "]}}";
  manifest = R"({"schemaVersion":2,"config":)" +
             Image::descriptor(digest_of(config), config.size(), "application/vnd.oci.image.config.v1+json") + R"(,"layers":[)" +
             descriptors + "]}";
  for (const std::string* each : {&config, &manifest}) put(dir.path + "/oci/blobs/sha256/" + digest_of(*each).substr(7), *each);
  put(dir.path + "/oci/oci-layout", R"({"imageLayoutVersion":"1.0.0"})");
  put(dir.path + "/oci/index.json",
      R"({"schemaVersion":2,"manifests":[)" +
          Image::descriptor(digest_of(manifest), manifest.size(), "application/vnd.oci.image.manifest.v1+json",
                            R"(,"annotations":{"org.opencontainers.image.ref.name":"big"})") +
          "]}");
  const std::string name = push("oci:big", "probe/big:1");
  const auto timed = [](auto work) {
    ::sync();
    const auto begin = std::chrono::steady_clock::now();
    work();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  };
  for (int round = 0; round < 3; ++round) {
    const std::string n = std::to_string(round);
    const double ours = timed([&] {
      const auto image = pull(name, "c" + n);
      ASSERT_TRUE(image) << image.error().message;
    });
    ASSERT_TRUE(release("c" + n));
    ASSERT_TRUE(m.call<fi::Pruned>(Method::PRUNE, fi::PruneT{}));
    const double copy =
        timed([&] { ASSERT_EQ(sh("skopeo --insecure-policy copy --src-tls-verify=false docker://" + name + " dir:copy" + n), 0); });
    const double untar = timed([&] {
      ASSERT_EQ(sh("mkdir tar" + n + " && for l in $(grep -o \"sha256:[0-9a-f]*\" copy" + n +
                   "/manifest.json | tail -n +2 | cut -c8-); do tar -xzf copy" + n + "/$l -C tar" + n + " || exit 1; done"),
                0);
    });
    const double umoci = timed([&] {
      ASSERT_EQ(sh("skopeo --insecure-policy copy --src-tls-verify=false docker://" + name + " oci:copied" + n +
                   ":x && umoci unpack --image copied" + n + ":x bundle" + n),
                0);
    });
    std::printf("pull %.2f s; skopeo copy %.2f s + tar %.2f s = %.2f s: ratio %.2f; skopeo copy + umoci unpack %.2f s: ratio %.2f\n", ours,
                copy, untar, copy + untar, ours / (copy + untar), umoci, ours / umoci);
    EXPECT_EQ(sh("rm -rf copy" + n + " tar" + n + " copied" + n + " bundle" + n), 0);
  }
}

}  // namespace
}  // namespace gantry::image_oci
