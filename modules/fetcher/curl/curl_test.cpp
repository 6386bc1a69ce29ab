#include "curl.hpp"

#include "extract.hpp"

#include <gantry/testing/host.hpp>

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <pwd.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <thread>

namespace gantry::fetcher_curl {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

struct TempDir {
  TempDir() {
    char name[] = "/tmp/gantry-fetch-XXXXXX";
    path = ::mkdtemp(name);
    ::chmod(path.c_str(), 0755);
  }
  ~TempDir() { fs::remove_all(path); }
  std::string operator/(const std::string& s) const { return path + "/" + s; }
  std::string path;
};

std::string slurp(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream s;
  s << in.rdbuf();
  return s.str();
}
void spit(const std::string& path, const std::string& data) { std::ofstream(path, std::ios::binary) << data; }

// Answers GETs on loopback from a map; counts them. A body of "<stall>" sends headers and then nothing.
class Server {
 public:
  Server() {
    fd_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in a{};
    a.sin_family = AF_INET;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t n = sizeof a;
    EXPECT_EQ(::bind(fd_, reinterpret_cast<sockaddr*>(&a), sizeof a), 0);
    EXPECT_EQ(::listen(fd_, 16), 0);
    ::getsockname(fd_, reinterpret_cast<sockaddr*>(&a), &n);
    base = "http://127.0.0.1:" + std::to_string(ntohs(a.sin_port));
    thread_ = std::thread([this] { serve(); });
  }
  ~Server() {
    ::shutdown(fd_, SHUT_RDWR);
    thread_.join();
    ::close(fd_);
    for (const int c : kept_) ::close(c);
  }
  std::string base;
  std::map<std::string, std::string> files;  // filled before the first request
  std::atomic<int> requests{0};

 private:
  void serve() {
    for (;;) {
      const int c = ::accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC);
      if (c < 0) return;
      std::string in;
      char buffer[4096];
      while (in.find("\r\n\r\n") == std::string::npos) {
        const ssize_t n = ::recv(c, buffer, sizeof buffer, 0);
        if (n <= 0) break;
        in.append(buffer, static_cast<std::size_t>(n));
      }
      ++requests;
      std::string path = in.substr(in.find(' ') + 1);
      path = path.substr(0, path.find(' '));
      const auto it = files.find(path);
      std::string out;
      if (it == files.end()) out = "HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\nConnection: close\r\n\r\nnope";
      else if (it->second == "<stall>") out = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc";
      else if (it->second.starts_with("<to>")) out = "HTTP/1.1 302 Found\r\nLocation: " + it->second.substr(4) + "\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
      else out = "HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(it->second.size()) + "\r\nConnection: close\r\n\r\n" + it->second;
      (void)::send(c, out.data(), out.size(), MSG_NOSIGNAL);
      if (it != files.end() && it->second == "<stall>") kept_.push_back(c);
      else ::close(c);
    }
  }
  int fd_;
  std::thread thread_;
  std::vector<int> kept_;
};

struct Item {
  int type;
  std::string path, data;  // data: contents or link target
  bool hard = false;
};
std::string make_archive(const std::vector<Item>& items, const std::string& kind) {
  std::string out(1 << 20, '\0');
  std::size_t used = 0;
  archive* a = archive_write_new();
  if (kind == "zip") archive_write_set_format_zip(a);
  else archive_write_set_format_pax_restricted(a);
  if (kind == "gz") archive_write_add_filter_gzip(a);
  if (kind == "bz2") archive_write_add_filter_bzip2(a);
  if (kind == "xz") archive_write_add_filter_xz(a);
  archive_write_open_memory(a, out.data(), out.size(), &used);
  for (const auto& i : items) {
    archive_entry* e = archive_entry_new();
    archive_entry_set_pathname(e, i.path.c_str());
    if (i.hard) {
      archive_entry_set_filetype(e, AE_IFREG);
      archive_entry_set_hardlink(e, i.data.c_str());
    } else {
      archive_entry_set_filetype(e, static_cast<unsigned>(i.type));
      if (i.type == AE_IFLNK) archive_entry_set_symlink(e, i.data.c_str());
      if (i.type == AE_IFREG) archive_entry_set_size(e, static_cast<la_int64_t>(i.data.size()));
    }
    archive_entry_set_perm(e, i.type == AE_IFDIR ? 0755 : 04755);
    archive_write_header(a, e);
    if (i.type == AE_IFREG && !i.hard) archive_write_data(a, i.data.data(), i.data.size());
    archive_entry_free(e);
  }
  archive_write_close(a);
  archive_write_free(a);
  out.resize(used);
  return out;
}

class Fetching : public ::testing::Test {
 protected:
  void SetUp() override {
    fs::create_directory(dir / "box");
    box = dir / "box";
    module.work_dir(dir / "work");
    configure({});
  }
  void TearDown() override {
    EXPECT_TRUE(module.stop());
    module.destroy();
    EXPECT_EQ(host.faults(), std::vector<std::string>{});
  }
  void configure(const testing::Values& values, bool reload = false) {
    module.defaults({{"cache_size", 2 << 20}, {"stall_timeout", 10s}, {"connect_timeout", 5s}, {"max_size", 1 << 20}});
    const Status s = module.configure(values, reload);
    ASSERT_TRUE(s) << s.error().message;
  }
  fb::fetcher::FetchT message(const std::vector<fb::UriT>& uris, const std::string& user = "") {
    fb::fetcher::FetchT f;
    f.container_id = "c";
    f.directory = box;
    f.user = user;
    for (const auto& u : uris) f.uris.push_back(std::make_unique<fb::UriT>(u));
    return f;
  }
  Status fetch(const std::vector<fb::UriT>& uris, const std::string& user = "") { return module.call(fb::fetcher::Method::FETCH, message(uris, user)); }
  static fb::UriT uri(const std::string& value, const std::string& output = "") {
    fb::UriT u;
    u.value = value;
    u.output_file = output;
    return u;
  }
  static fb::UriT cached(const std::string& value) {
    fb::UriT u = uri(value);
    u.cache = true;
    return u;
  }
  std::string error(const std::vector<fb::UriT>& uris) {
    const Status s = fetch(uris);
    return s ? "" : std::string(to_string(s.error().code)) + " " + s.error().message;
  }
  static bool has(const std::string& s, const std::string& part) { return s.find(part) != std::string::npos; }

  TempDir dir;
  std::string box;
  Server server;
  testing::Host host;
  testing::Subject<CurlFetcher> module{host, "curl"};
};

TEST_F(Fetching, HttpFileAndPlainPathInOrder) {
  server.files["/app.bin?x=1"] = "from http";
  spit(dir / "local.txt", "from file");
  spit(dir / "plain", "plain");
  ASSERT_EQ(::chmod((dir / "plain").c_str(), 0755), 0);
  const Status s = fetch({uri(server.base + "/app.bin?x=1"), uri("file://" + (dir / "local.txt")), uri(dir / "plain", "sub/renamed")});
  ASSERT_TRUE(s) << s.error().message;
  EXPECT_EQ(slurp(box + "/app.bin"), "from http");
  EXPECT_EQ(slurp(box + "/local.txt"), "from file");
  EXPECT_EQ(slurp(box + "/sub/renamed"), "plain");
  EXPECT_TRUE(::access((box + "/sub/renamed").c_str(), X_OK) == 0 && (fs::status(box + "/sub/renamed").permissions() & fs::perms::owner_exec) != fs::perms::none);
  EXPECT_EQ(fs::status(box + "/app.bin").permissions() & fs::perms::owner_exec, fs::perms::none);
  EXPECT_EQ(host.metric("fetcher/fetched"), 1);
}

TEST_F(Fetching, ExecutableIsNeverUnpacked) {
  server.files["/run.gz"] = "#!/bin/sh";
  fb::UriT u = uri(server.base + "/run.gz");
  u.executable = true;
  ASSERT_TRUE(fetch({u}));
  EXPECT_NE(fs::status(box + "/run.gz").permissions() & fs::perms::others_exec, fs::perms::none);
}

TEST_F(Fetching, FollowsRedirectsButNotToFiles) {
  server.files["/a"] = "<to>" + server.base + "/b";
  server.files["/b"] = "end";
  server.files["/evil"] = "<to>file:///etc/passwd";
  ASSERT_TRUE(fetch({uri(server.base + "/a")}));
  EXPECT_EQ(slurp(box + "/a"), "end");
  EXPECT_NE(error({uri(server.base + "/evil")}), "");
  EXPECT_FALSE(fs::exists(box + "/evil"));
}

TEST_F(Fetching, ErrorsNameUrlAndStatus) {
  std::string e = error({uri("http://user:secret@" + server.base.substr(7) + "/missing")});
  EXPECT_TRUE(has(e, "NOT_FOUND") && has(e, server.base + "/missing") && has(e, "404")) << e;
  EXPECT_FALSE(has(e, "secret")) << e;
  EXPECT_TRUE(fs::is_empty(box)) << "nothing half-fetched stays";
  EXPECT_TRUE(has(error({uri("hdfs://x/y")}), "'hdfs', which is not supported"));
  EXPECT_TRUE(has(error({uri("relative/path")}), "relative path"));
  EXPECT_TRUE(has(error({uri("file://host/x")}), "another host"));
  EXPECT_TRUE(has(error({uri(server.base + "/")}), "set output_file"));
  EXPECT_TRUE(has(error({uri("")}), "empty"));
  EXPECT_TRUE(has(error({uri(dir / "absent")}), "NOT_FOUND"));
  EXPECT_TRUE(has(error({uri(dir.path)}), "not a regular file"));
  EXPECT_TRUE(has(error({uri("http://127.0.0.1:1/x")}), "UNAVAILABLE"));
  EXPECT_EQ(fetch({uri(server.base + "/x")}, "no-such-user").error().code, Code::not_found);
  EXPECT_GT(host.metric("fetcher/failed"), 5);
}

TEST_F(Fetching, OutputFileStaysInside) {
  server.files["/x"] = "x";
  EXPECT_TRUE(has(error({uri(server.base + "/x", "/etc/x")}), "absolute"));
  EXPECT_TRUE(has(error({uri(server.base + "/x", "../x")}), "'..'"));
  EXPECT_TRUE(has(error({uri(server.base + "/x", "a/../../x")}), "'..'"));
  EXPECT_TRUE(has(error({uri(server.base + "/x", "./")}), "names no file"));
  fs::create_directory_symlink(dir.path, box + "/out");
  EXPECT_NE(error({uri(server.base + "/x", "out/x")}), "");
  EXPECT_FALSE(fs::exists(dir / "x"));
  spit(dir / "victim", "old");
  fs::create_symlink(dir / "victim", box + "/link");
  ASSERT_TRUE(fetch({uri(server.base + "/x", "link")}));
  EXPECT_EQ(slurp(dir / "victim"), "old") << "a link in the way is replaced, not written through";
}

TEST_F(Fetching, TooLarge) {
  server.files["/big"] = std::string(3 << 20, 'x');
  EXPECT_TRUE(has(error({uri(server.base + "/big")}), "RESOURCE_EXHAUSTED"));
  spit(dir / "big", std::string(3 << 20, 'x'));
  EXPECT_TRUE(has(error({uri(dir / "big")}), "max_size"));
  EXPECT_TRUE(fs::is_empty(box));
}

TEST_F(Fetching, StallsEnd) {
  server.files["/slow"] = "<stall>";
  configure({{"stall_timeout", 50ms}}, true);
  const std::string e = error({uri(server.base + "/slow")});
  EXPECT_TRUE(has(e, "DEADLINE_EXCEEDED") && has(e, "stall_timeout")) << e;
}

TEST_F(Fetching, CancelBeforeAndDuringTheTransfer) {
  server.files["/slow"] = "<stall>";
  auto p = module.enqueue(fb::fetcher::Method::FETCH, message({uri(server.base + "/slow")}));
  p.cancel();
  host.run();
  ASSERT_TRUE(p.done());
  EXPECT_EQ(p.code(), Code::cancelled);
  const int fd = ::open((dir / "t").c_str(), O_RDWR | O_CREAT, 0600);
  std::atomic<int> asked{0};
  const Status s = download(server.base + "/slow", fd, {10s, 5s, 1000}, [&] { return server.requests > 0 && ++asked > 1; });
  ::close(fd);
  ASSERT_FALSE(s);
  EXPECT_EQ(s.error().code, Code::cancelled);
}

TEST_F(Fetching, CacheServesAgainPerUser) {
  server.files["/lib"] = "library";
  ASSERT_TRUE(fetch({cached(server.base + "/lib")}));
  fs::remove(box + "/lib");
  ASSERT_TRUE(fetch({cached(server.base + "/lib")}));
  EXPECT_EQ(slurp(box + "/lib"), "library");
  EXPECT_EQ(server.requests, 1);
  const passwd* me = ::getpwuid(::geteuid());
  if (!me) GTEST_SKIP() << "the test's own user has no name";
  ASSERT_TRUE(fetch({cached(server.base + "/lib")}, me->pw_name));
  EXPECT_EQ(server.requests, 2) << "another user's copy is not shared";
  EXPECT_TRUE(has(error({cached(server.base + "/none")}), "404"));
}

TEST_F(Fetching, CacheMakesRoomAndIsBypassed) {
  configure({{"cache_size", 25}}, true);
  for (const char* n : {"/a", "/b", "/c"}) server.files[n] = std::string(10, n[1]);
  server.files["/huge"] = std::string(100, 'h');
  ASSERT_TRUE(fetch({cached(server.base + "/a"), cached(server.base + "/b"), cached(server.base + "/a"), cached(server.base + "/c")}));
  EXPECT_EQ(server.requests, 3);
  ASSERT_TRUE(fetch({cached(server.base + "/a")}));
  EXPECT_EQ(server.requests, 3) << "used last, still there";
  ASSERT_TRUE(fetch({cached(server.base + "/b")}));
  EXPECT_EQ(server.requests, 4) << "b made way for c";
  ASSERT_TRUE(fetch({cached(server.base + "/huge")}));
  EXPECT_EQ(slurp(box + "/huge").size(), 100u) << "too large for the cache, fetched all the same";
  fs::remove_all(dir / "work/cache");
  ASSERT_TRUE(fetch({cached(server.base + "/a")})) << "a broken cache is bypassed";
  configure({{"cache_size", 0}}, true);
  ASSERT_TRUE(fetch({cached(server.base + "/a")}));
}

TEST_F(Fetching, UnpacksEveryKindOfArchive) {
  const std::vector<Item> items = {{AE_IFDIR, "d/", ""}, {AE_IFREG, "d/run", "#!"}, {AE_IFREG, "e/f/deep", "deep"}, {AE_IFLNK, "link", "d/run"}};
  const std::map<std::string, std::string> kinds = {{"a.tar", "tar"},      {"a.tar.gz", "gz"}, {"a.tgz", "gz"},    {"a.tar.bz2", "bz2"},
                                                    {"a.tbz2", "bz2"},     {"a.tar.xz", "xz"}, {"a.txz", "xz"}, {"a.zip", "zip"}};
  for (const auto& [name, kind] : kinds) {
    spit(dir / name, make_archive(items, kind));
    const Status s = fetch({name == "a.zip" ? cached(dir / name) : uri(dir / name)});
    ASSERT_TRUE(s) << name << ": " << s.error().message;
    EXPECT_EQ(slurp(box + "/e/f/deep"), "deep") << name;
    EXPECT_EQ(slurp(box + "/link"), "#!") << name;
    EXPECT_EQ(static_cast<int>(fs::status(box + "/d/run").permissions()) & 07777, 0755) << name << ": executable, but never set-user-id";
    fs::remove_all(box + "/d");
    fs::remove_all(box + "/e");
    fs::remove(box + "/link");
  }
  archive* a = archive_write_new();
  std::string out(4096, '\0');
  std::size_t used = 0;
  archive_write_set_format_raw(a);
  archive_write_add_filter_gzip(a);
  archive_write_open_memory(a, out.data(), out.size(), &used);
  archive_entry* e = archive_entry_new();
  archive_entry_set_filetype(e, AE_IFREG);
  archive_write_header(a, e);
  archive_write_data(a, "words", 5);
  archive_entry_free(e);
  archive_write_close(a);
  archive_write_free(a);
  spit(dir / "text.gz", out.substr(0, used));
  ASSERT_TRUE(fetch({uri(dir / "text.gz")}));
  EXPECT_EQ(slurp(box + "/text"), "words");

  fb::UriT packed = uri(dir / "a.tar");
  packed.extract = false;
  ASSERT_TRUE(fetch({packed}));
  EXPECT_FALSE(fs::exists(box + "/d"));
  spit(dir / "broken.tar.gz", "this is no archive");
  EXPECT_TRUE(has(error({uri(dir / "broken.tar.gz")}), "unpack broken.tar.gz"));
}

TEST_F(Fetching, ArchivesCannotEscape) {
  spit(dir / "victim", "old");
  const std::vector<std::vector<Item>> evil = {
      {{AE_IFREG, "../victim", "new"}},
      {{AE_IFREG, dir / "victim", "new"}},
      {{AE_IFREG, "a/../../victim", "new"}},
      {{AE_IFLNK, "out", dir.path}, {AE_IFREG, "out/victim", "new"}},
      {{AE_IFLNK, "out", ".."}, {AE_IFREG, "out/victim", "new"}},
      {{AE_IFLNK, "l", dir / "victim"}, {AE_IFREG, "h", "l", true}},
      {{AE_IFREG, "h", dir / "victim", true}},
      {{AE_IFREG, "h", "../victim", true}},
      {{AE_IFIFO, "pipe", ""}},
  };
  for (std::size_t i = 0; i < evil.size(); ++i) {
    spit(dir / "evil.tar", make_archive(evil[i], "tar"));
    EXPECT_NE(error({uri(dir / "evil.tar")}), "") << i;
    EXPECT_EQ(slurp(dir / "victim"), "old") << i;
    fs::remove_all(box);
    fs::create_directory(box);
  }
  // A link that is replaced by a file of the same name is not written through.
  spit(dir / "twice.tar", make_archive({{AE_IFLNK, "l", dir / "victim"}, {AE_IFREG, "l", "new"}}, "tar"));
  ASSERT_TRUE(fetch({uri(dir / "twice.tar")}));
  EXPECT_EQ(slurp(dir / "victim"), "old");
  EXPECT_EQ(slurp(box + "/l"), "new");
  // Bombs end at max_size.
  spit(dir / "bomb.tar.gz", make_archive({{AE_IFREG, "a", std::string(700'000, 'a')}, {AE_IFREG, "b", std::string(700'000, 'b')}}, "gz"));
  EXPECT_TRUE(has(error({uri(dir / "bomb.tar.gz")}), "max_size"));
}

TEST_F(Fetching, ResultsBelongToTheUser) {
  if (::geteuid() != 0) GTEST_SKIP() << "giving files away needs root";
  const passwd* nobody = ::getpwnam("nobody");
  if (!nobody) GTEST_SKIP() << "there is no user nobody";
  const uid_t uid = nobody->pw_uid;
  server.files["/f"] = "x";
  spit(dir / "a.tar", make_archive({{AE_IFREG, "sub/x", "x"}, {AE_IFLNK, "l", "sub/x"}}, "tar"));
  const Status s = fetch({uri(server.base + "/f", "made/f"), uri(dir / "a.tar")}, "nobody");
  ASSERT_TRUE(s) << s.error().message;
  for (const char* p : {"made", "made/f", "sub", "sub/x", "l", "a.tar"}) {
    struct stat st {};
    ASSERT_EQ(::lstat((box + "/" + p).c_str(), &st), 0) << p;
    EXPECT_EQ(st.st_uid, uid) << p;
  }
  spit(dir / "private", "root only");
  ASSERT_EQ(::chmod((dir / "private").c_str(), 0600), 0);
  EXPECT_EQ(fetch({uri(dir / "private")}, "nobody").error().code, Code::permission_denied) << "a task fetches with its user's rights";
  EXPECT_EQ(::geteuid(), 0u);
  ASSERT_TRUE(fetch({uri(dir / "private")}));
}

TEST(Source, Parses) {
  EXPECT_EQ(parse_source("http://h/a/b.tgz?x=/y")->name, "b.tgz");
  EXPECT_EQ(parse_source("HTTPS://h/a#f/g")->name, "a");
  EXPECT_EQ(parse_source("http://host")->name, "");
  EXPECT_EQ(parse_source("file://localhost/x/y")->location, "/x/y");
  EXPECT_FALSE(parse_source(std::string("http://h/a\nb")));
  EXPECT_EQ(without_credentials("http://u:p@h/x@y"), "http://h/x@y");
  EXPECT_TRUE(is_archive("x.tar.gz"));
  EXPECT_FALSE(is_archive("x.jar"));
  EXPECT_FALSE(is_archive(".tgz"));
}

}  // namespace
}  // namespace gantry::fetcher_curl
