// What the tests of this folder share: archives made by hand, layouts, a registry with faults, the real one.
#pragma once

#include "digest.hpp"
#include "pull.hpp"

#include <gtest/gtest.h>

#include <archive.h>
#include <archive_entry.h>
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <list>
#include <map>
#include <mutex>
#include <set>
#include <sstream>
#include <thread>

extern char** environ;

namespace gantry::image_oci::test {

namespace fs = std::filesystem;

class TempDir {
 public:
  // In memory, if there is such a place: for tests that make and remove many files and care for no disk.
  explicit TempDir(bool in_memory = false) {
    char memory[] = "/dev/shm/gantry-oci-XXXXXX", disk[] = "/tmp/gantry-oci-XXXXXX";
    const char* made = in_memory ? ::mkdtemp(memory) : nullptr;
    path = made ? made : ::mkdtemp(disk);
  }
  ~TempDir() {
    const Fd at(::open(fs::path(path).parent_path().c_str(), O_RDONLY | O_DIRECTORY));
    (void)remove_tree(at.get(), fs::path(path).filename());
  }
  std::string path;
};

inline void put(const std::string& path, const std::string& data) {
  fs::create_directories(fs::path(path).parent_path());
  std::ofstream(path, std::ios::binary) << data;
}
inline std::string get(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream s;
  s << in.rdbuf();
  return s.str();
}
// A shell command with a limit; its exit status.
inline int run(const std::string& command) {
  const int status = std::system(("timeout 120 sh -c '" + command + "' >/dev/null 2>&1").c_str());
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}
inline bool have(const char* program) { return run(std::string("command -v ") + program) == 0; }
inline std::set<std::string> tree(const std::string& directory) {
  std::set<std::string> out;
  std::error_code ec;
  for (fs::recursive_directory_iterator it(directory, ec), end; !ec && it != end; it.increment(ec))
    out.insert(it->path().lexically_relative(directory).string());
  return out;
}
inline const Cancelled never = [] { return false; };

// A tar archive (ustar with pax headers) of what is added, whatever it is.
class Tar {
 public:
  struct Entry {
    std::string name;
    char type = '0';
    std::string data, target;
    unsigned mode = 0644;
    unsigned uid = 0, gid = 0, major = 0, minor = 0;
    std::map<std::string, std::string> pax;
    std::uint64_t claimed = ~0ULL;  // size in the header, if it lies
  };
  Tar& add(const Entry& e) {
    if (!e.pax.empty()) {
      std::string records;
      for (const auto& [key, value] : e.pax) {
        const std::string body = " " + key + "=" + value + "\n";
        std::size_t n = body.size() + 1;
        while (std::to_string(n).size() + body.size() != n) n = std::to_string(n).size() + body.size();
        records += std::to_string(n) + body;
      }
      Entry x;
      x.name = "pax";
      x.type = 'x';
      x.data = records;
      header(x);
    }
    header(e);
    return *this;
  }
  Tar& file(const std::string& name, const std::string& data, unsigned mode = 0644) {
    return add({.name = name, .data = data, .mode = mode});
  }
  Tar& directory(const std::string& name, unsigned mode = 0755) { return add({.name = name, .type = '5', .mode = mode}); }
  Tar& link(const std::string& name, const std::string& to) { return add({.name = name, .type = '2', .target = to, .mode = 0777}); }
  Tar& hard(const std::string& name, const std::string& to) { return add({.name = name, .type = '1', .target = to}); }
  [[nodiscard]] std::string bytes() const { return out_ + std::string(1024, '\0'); }

 private:
  void header(const Entry& e) {
    char h[512] = {};
    const auto field = [&](std::size_t at, std::size_t room, const std::string& s) {
      std::memcpy(h + at, s.data(), std::min(room, s.size()));
    };
    const auto octal = [](std::uint64_t n, std::size_t digits) {
      std::string s(digits, '0');
      for (std::size_t i = digits; i-- > 0; n /= 8) s[i] = static_cast<char>('0' + n % 8);
      return s;
    };
    field(0, 100, e.name);
    field(100, 8, octal(e.mode, 7));
    field(108, 8, octal(e.uid, 7));
    field(116, 8, octal(e.gid, 7));
    field(124, 12, octal(e.claimed != ~0ULL ? e.claimed : e.data.size(), 11));
    field(136, 12, octal(1'600'000'000, 11));
    std::memset(h + 148, ' ', 8);
    h[156] = e.type;
    field(157, 100, e.target);
    field(257, 6, "ustar");
    h[263] = h[264] = '0';
    field(329, 8, octal(e.major, 7));
    field(337, 8, octal(e.minor, 7));
    unsigned sum = 0;
    for (const char c : h) sum += static_cast<unsigned char>(c);
    field(148, 7, octal(sum, 6));
    out_.append(h, sizeof h);
    out_ += e.data;
    out_.append((512 - e.data.size() % 512) % 512, '\0');
  }
  std::string out_;
};

// "gzip", "zstd", "xz", "bzip2".
inline std::string compressed(const std::string& data, const std::string& how = "gzip") {
  std::string out;
  archive* a = archive_write_new();
  archive_write_set_format_raw(a);
  if (how == "gzip") archive_write_add_filter_gzip(a);
  if (how == "zstd") archive_write_add_filter_zstd(a);
  if (how == "xz") archive_write_add_filter_xz(a);
  if (how == "bzip2") archive_write_add_filter_bzip2(a);
  archive_write_set_bytes_in_last_block(a, 1);
  archive_write_open(
      a, &out, nullptr,
      [](archive*, void* to, const void* p, std::size_t n) -> la_ssize_t {
        static_cast<std::string*>(to)->append(static_cast<const char*>(p), n);
        return static_cast<la_ssize_t>(n);
      },
      nullptr);
  archive_entry* e = archive_entry_new();
  archive_entry_set_filetype(e, AE_IFREG);
  archive_write_header(a, e);
  archive_write_data(a, data.data(), data.size());
  archive_entry_free(e);
  archive_write_free(a);
  return out;
}

// An image as blobs.
struct Image {
  std::map<std::string, std::string> blobs;  // digest -> bytes
  std::string manifest, manifest_digest, config, config_digest;
  std::vector<std::string> layers, diff_ids;  // digests

  explicit Image(const std::vector<std::string>& tars, const std::string& how = "gzip",
                 const std::string& arch = Platform::here().architecture, const std::string& run = R"({"Cmd":["/bin/true"]})") {
    std::string descriptors, ids;
    for (const std::string& tar : tars) {
      const std::string blob = how.empty() ? tar : compressed(tar, how);
      const std::string digest = digest_of(blob);
      diff_ids.push_back(digest_of(tar));
      layers.push_back(digest);
      blobs[digest] = blob;
      descriptors += (descriptors.empty() ? "" : ",") +
                     descriptor(digest, blob.size(), "application/vnd.oci.image.layer.v1.tar" + (how.empty() ? "" : "+" + how));
      ids += (ids.empty() ? "\"" : ",\"") + diff_ids.back() + "\"";
    }
    config =
        R"({"os":"linux","architecture":")" + arch + R"(","config":)" + run + R"(,"rootfs":{"type":"layers","diff_ids":[)" + ids + "]}}";
    config_digest = digest_of(config);
    blobs[config_digest] = config;
    manifest = R"({"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":)" +
               descriptor(config_digest, config.size(), "application/vnd.oci.image.config.v1+json") + R"(,"layers":[)" + descriptors + "]}";
    manifest_digest = digest_of(manifest);
    blobs[manifest_digest] = manifest;
  }
  static std::string descriptor(const std::string& digest, std::size_t size, const std::string& type, const std::string& more = "") {
    return R"({"mediaType":")" + type + R"(","digest":")" + digest + R"(","size":)" + std::to_string(size) + more + "}";
  }
  void write_layout(const std::string& directory, const std::string& tag = "latest") const {
    put(directory + "/oci-layout", R"({"imageLayoutVersion":"1.0.0"})");
    put(directory + "/index.json", R"({"schemaVersion":2,"manifests":[)" +
                                       descriptor(manifest_digest, manifest.size(), "application/vnd.oci.image.manifest.v1+json",
                                                  R"(,"annotations":{"org.opencontainers.image.ref.name":")" + tag + "\"}") +
                                       "]}");
    for (const auto& [digest, bytes] : blobs) put(directory + "/blobs/sha256/" + std::string(hex_of(digest)), bytes);
  }
};

// A web server on loopback that answers as it is told.
class Server {
 public:
  struct Request {
    std::string method, target, head, body;
    [[nodiscard]] std::string header(const std::string& name) const {
      const std::size_t at = head.find("\r\n" + name + ": ");
      return at == std::string::npos ? std::string() : head.substr(at + name.size() + 4, head.find("\r\n", at + 2) - at - name.size() - 4);
    }
  };
  struct Reply {
    int status = 200;
    std::string body;
    std::vector<std::string> headers = {};
    std::size_t stop_after = std::string::npos;  // bytes of the body; then the connection is closed
    bool stall = false;                          // instead of closing: nothing more
  };
  using Handler = std::function<Reply(const Request&)>;

  explicit Server(Handler handler) : handler_(std::move(handler)) {
    fd_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in a{};
    a.sin_family = AF_INET;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t n = sizeof a;
    if (::bind(fd_, reinterpret_cast<sockaddr*>(&a), n) != 0 || ::listen(fd_, 64) != 0 ||
        ::getsockname(fd_, reinterpret_cast<sockaddr*>(&a), &n) != 0)
      std::abort();
    port = ntohs(a.sin_port);
    acceptor_ = std::thread([this] { accept(); });
  }
  ~Server() {
    over_ = true;
    ::shutdown(fd_, SHUT_RDWR);
    acceptor_.join();
    for (auto& t : threads_) t.join();
    ::close(fd_);
  }
  [[nodiscard]] std::string host() const { return "127.0.0.1:" + std::to_string(port); }
  int port = 0;
  std::atomic<int> requests{0};

 private:
  void accept() {
    for (;;) {
      const int c = ::accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC);
      if (c < 0) return;
      threads_.emplace_back([this, c] {
        serve(c);
        ::close(c);
      });
    }
  }
  void serve(int c) {
    timeval patience{0, 100'000};
    ::setsockopt(c, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    std::string in;
    while (!over_) {
      char block[65536];
      const ssize_t got = ::recv(c, block, sizeof block, 0);
      if (got == 0) return;
      if (got < 0) continue;
      in.append(block, static_cast<std::size_t>(got));
      if (in[0] == 0x16) return;  // TLS is not spoken here
      const std::size_t end = in.find("\r\n\r\n");
      if (end == std::string::npos) continue;
      Request q;
      q.head = in.substr(0, end + 2);
      const std::string length = q.header("Content-Length");
      const std::size_t body = length.empty() ? 0 : std::stoul(length);
      if (in.size() < end + 4 + body) continue;
      q.body = in.substr(end + 4, body);
      in.erase(0, end + 4 + body);
      q.method = q.head.substr(0, q.head.find(' '));
      q.target = q.head.substr(q.method.size() + 1, q.head.find(' ', q.method.size() + 1) - q.method.size() - 1);
      ++requests;
      const Reply r = handler_(q);
      std::string out = "HTTP/1.1 " + std::to_string(r.status) + " X\r\nContent-Length: " + std::to_string(r.body.size()) + "\r\n";
      for (const auto& h : r.headers) out += h + "\r\n";
      out += "\r\n" + r.body.substr(0, r.stop_after);
      for (std::size_t sent = 0; sent < out.size() && !over_;) {
        const ssize_t n = ::send(c, out.data() + sent, out.size() - sent, MSG_NOSIGNAL);
        if (n <= 0) return;
        sent += static_cast<std::size_t>(n);
      }
      while (r.stall && !over_) std::this_thread::sleep_for(std::chrono::milliseconds(10));
      if (r.stop_after < r.body.size()) return;
    }
  }
  Handler handler_;
  int fd_ = -1;
  std::thread acceptor_;
  std::list<std::thread> threads_;
  std::atomic<bool> over_{false};
};

// Serves one image as team/app:1, Range included; `fault` may answer instead.
struct FakeRegistry {
  explicit FakeRegistry(Image i) : image(std::move(i)), server([this](const Server::Request& q) { return answer(q); }) {}
  Server::Reply answer(const Server::Request& q) {
    {
      const std::lock_guard lock(mutex);
      log.push_back(q.target);
      ranges.push_back(q.header("Range"));
    }
    if (fault)
      if (auto r = fault(q)) return *r;
    const std::string manifests = "/v2/team/app/manifests/", blobs = "/v2/team/app/blobs/";
    if (q.target == manifests + "1" || q.target == manifests + image.manifest_digest)
      return {200,
              image.manifest,
              {"Content-Type: application/vnd.oci.image.manifest.v1+json", "Docker-Content-Digest: " + image.manifest_digest}};
    if (q.target.starts_with(blobs) && image.blobs.count(q.target.substr(blobs.size())))
      return blob(q, image.blobs[q.target.substr(blobs.size())]);
    return {404, R"({"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]})"};
  }
  static Server::Reply blob(const Server::Request& q, const std::string& bytes) {
    const std::string range = q.header("Range");
    if (!range.starts_with("bytes=")) return {200, bytes};
    const std::size_t from = std::stoul(range.substr(6));
    if (from >= bytes.size()) return {416, ""};
    return {206,
            bytes.substr(from),
            {"Content-Range: bytes " + std::to_string(from) + "-" + std::to_string(bytes.size() - 1) + "/" + std::to_string(bytes.size())}};
  }
  [[nodiscard]] std::string name() const { return server.host() + "/team/app:1"; }
  int count(const std::string& part) {
    const std::lock_guard lock(mutex);
    return static_cast<int>(std::count_if(log.begin(), log.end(), [&](const std::string& t) { return t.find(part) != std::string::npos; }));
  }
  Image image;
  std::function<std::optional<Server::Reply>(const Server::Request&)> fault;
  std::mutex mutex;
  std::vector<std::string> log, ranges;
  Server server;
};

// The distribution project's registry on a free port of loopback, with its storage in a directory of its own.
class RealRegistry {
 public:
  RealRegistry() {
    for (int attempt = 0; attempt < 5 && port == 0; ++attempt) start();
  }
  ~RealRegistry() { end(); }
  void end() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
    pid_ = 0;
  }
  [[nodiscard]] std::string host() const { return "127.0.0.1:" + std::to_string(port); }
  int port = 0;
  TempDir dir;

 private:
  static int free_port() {
    const Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in a{};
    a.sin_family = AF_INET;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t n = sizeof a;
    (void)!::bind(fd.get(), reinterpret_cast<sockaddr*>(&a), n);
    (void)!::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&a), &n);
    return ntohs(a.sin_port);
  }
  void start() {
    const int p = free_port();
    put(dir.path + "/registry.yml", "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: " + dir.path +
                                        "/data\nhttp:\n  addr: 127.0.0.1:" + std::to_string(p) + "\n");
    std::string config = dir.path + "/registry.yml", log = dir.path + "/registry.log";
    char* argv[] = {const_cast<char*>("docker-registry"), const_cast<char*>("serve"), config.data(), nullptr};
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    posix_spawn_file_actions_adddup2(&actions, 1, 2);
    if (::posix_spawnp(&pid_, "docker-registry", &actions, nullptr, argv, environ) != 0) pid_ = 0;
    posix_spawn_file_actions_destroy(&actions);
    for (int i = 0; pid_ > 0 && i < 200; ++i) {
      const Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
      sockaddr_in a{};
      a.sin_family = AF_INET;
      a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      a.sin_port = htons(static_cast<std::uint16_t>(p));
      if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&a), sizeof a) == 0) {
        port = p;
        return;
      }
      if (::waitpid(pid_, nullptr, WNOHANG) == pid_) break;
      std::this_thread::sleep_for(std::chrono::milliseconds(25));
    }
    end();
  }
  pid_t pid_ = 0;
};

// A store and what a pull needs, without the module around it.
struct Puller {
  TempDir dir;
  PullOptions options;
  std::shared_ptr<Store> store;
  Traffic traffic{3};
  std::vector<std::vector<LayerProgress>> progress;
  Puller() {
    options.registry.http.connect = std::chrono::seconds(5);
    options.registry.http.stall = std::chrono::seconds(5);
    options.registry.back_off = std::chrono::milliseconds(1);
    options.limits = {1ULL << 30, 100'000};
    options.local = {dir.path};
    reopen();
  }
  void reopen() {
    store.reset();
    std::vector<std::string> problems;
    auto s = Store::open(dir.path + "/s", problems);
    EXPECT_TRUE(s) << s.error().message;
    EXPECT_EQ(problems, std::vector<std::string>{});
    store = *s;
  }
  Result<ImageRecord> pull(const std::string& name, Policy policy = Policy::if_absent, const std::string& container = "c1",
                           const Cancelled& cancelled = never) {
    PullRequest q;
    q.container = container;
    q.name = name;
    q.policy = policy;
    return pull(q, cancelled);
  }
  Result<ImageRecord> pull(const PullRequest& q, const Cancelled& cancelled = never) {
    return image_oci::pull(
        q, options, store, traffic, [&](const auto& p) { progress.push_back(p); }, cancelled, 1);
  }
  [[nodiscard]] std::string layer(const ImageRecord& r, std::size_t i) const { return store->path(r.layers.at(i)); }
};

}  // namespace gantry::image_oci::test
