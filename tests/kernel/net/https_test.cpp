#include "kernel/base/fd.hpp"
#include "kernel/net/net.hpp"

#include <gtest/gtest.h>

#include <arpa/inet.h>
#include <csignal>
#include <cstdlib>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>

namespace gantry::net {
namespace {

using namespace std::chrono_literals;

// A key and a certificate for "localhost", signed by itself.
struct Identity {
  EVP_PKEY* key = EVP_EC_gen("P-256");
  X509* cert = X509_new();
  Identity() {
    X509_set_version(cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
    X509_gmtime_adj(X509_getm_notBefore(cert), -60);
    X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
    X509_set_pubkey(cert, key);
    X509_NAME* name = X509_get_subject_name(cert);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, reinterpret_cast<const unsigned char*>("localhost"), -1, -1, 0);
    X509_set_issuer_name(cert, name);
    X509_EXTENSION* san = X509V3_EXT_conf_nid(nullptr, nullptr, NID_subject_alt_name, "DNS:localhost");
    X509_add_ext(cert, san, -1);
    X509_EXTENSION_free(san);
    X509_sign(cert, key, EVP_sha256());
  }
  ~Identity() {
    X509_free(cert);
    EVP_PKEY_free(key);
  }
};

// Answers one connection in a thread, blocking.
class TlsServer {
 public:
  TlsServer(const Identity& id, std::string answer, bool clean_end = true) : answer_(std::move(answer)), clean_end_(clean_end) {
    context_ = SSL_CTX_new(TLS_server_method());
    SSL_CTX_use_certificate(context_, id.cert);
    SSL_CTX_use_PrivateKey(context_, id.key);
    listener_ = base::Fd(::socket(AF_INET, SOCK_STREAM, 0));
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ::bind(listener_.get(), reinterpret_cast<sockaddr*>(&at), sizeof at);
    ::listen(listener_.get(), 1);
    socklen_t size = sizeof at;
    ::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&at), &size);
    port = ntohs(at.sin_port);
    thread_ = std::thread([this] { serve(); });
  }
  ~TlsServer() {
    thread_.join();
    SSL_CTX_free(context_);
  }
  std::uint16_t port = 0;
  std::string request;

 private:
  void serve() {
    const base::Fd fd(::accept(listener_.get(), nullptr, nullptr));
    SSL* ssl = SSL_new(context_);
    SSL_set_fd(ssl, fd.get());
    if (SSL_accept(ssl) == 1) {
      char buffer[4096];
      while (request.find("\r\n\r\n") == std::string::npos) {
        const int n = SSL_read(ssl, buffer, sizeof buffer);
        if (n <= 0) break;
        request.append(buffer, static_cast<std::size_t>(n));
      }
      SSL_write(ssl, answer_.data(), static_cast<int>(answer_.size()));
      if (clean_end_) SSL_shutdown(ssl);
    }
    SSL_free(ssl);
  }
  std::string answer_;
  bool clean_end_;
  SSL_CTX* context_;
  base::Fd listener_;
  std::thread thread_;
};

struct HttpsTest : testing::Test {
  // The client reads the system's certificates once, so the trusted one is made once too.
  static void SetUpTestSuite() {
    trusted = new Identity;
    std::FILE* f = std::fopen(path().c_str(), "w");
    ASSERT_TRUE(f);
    PEM_write_X509(f, trusted->cert);
    std::fclose(f);
    ::setenv("SSL_CERT_FILE", path().c_str(), 1);
  }
  static void TearDownTestSuite() {
    ::unlink(path().c_str());
    delete trusted;
  }
  static std::string path() { return testing::TempDir() + "/gantry-https-" + std::to_string(::getpid()) + ".pem"; }
  static inline Identity* trusted = nullptr;

  std::unique_ptr<RealLoop> loop = make_real_loop(1);
  Result<HttpFetched> fetch(const std::string& url, bool verify = true) {
    Result<HttpFetched> out = fail(Code::unknown, "never called");
    HttpFetch f;
    f.url = url;
    f.verify = verify;
    f.timeout = 10s;
    fetch_http(*loop, std::move(f), [&](Result<HttpFetched> r) {
      out = std::move(r);
      loop->stop();
    });
    loop->run();
    return out;
  }
  const std::string answer = "HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + std::string(200000, 'z');
};

TEST_F(HttpsTest, FetchesFromAServerItTrusts) {
  TlsServer server(*trusted, answer);
  const auto r = fetch("https://localhost:" + std::to_string(server.port) + "/path");
  ASSERT_TRUE(r) << r.error().message;
  EXPECT_EQ(r->body.size(), 200000u);
}

TEST_F(HttpsTest, RefusesAStranger) {
  const Identity stranger;
  TlsServer server(stranger, answer);
  const auto r = fetch("https://localhost:" + std::to_string(server.port) + "/");
  ASSERT_FALSE(r);
  EXPECT_EQ(r.error().code, Code::unavailable);
  EXPECT_NE(r.error().message.find("certificate"), std::string::npos) << r.error().message;
  EXPECT_EQ(server.request, "");
}

TEST_F(HttpsTest, RefusesACertificateForAnotherName) {
  TlsServer server(*trusted, answer);
  const auto r = fetch("https://127.0.0.1:" + std::to_string(server.port) + "/");
  ASSERT_FALSE(r);
  EXPECT_NE(r.error().message.find("mismatch"), std::string::npos) << r.error().message;
}

TEST_F(HttpsTest, TakesAStrangerWhenToldNotToVerify) {
  const Identity stranger;
  TlsServer server(stranger, answer);
  EXPECT_TRUE(fetch("https://localhost:" + std::to_string(server.port) + "/", false));
}

TEST_F(HttpsTest, AnAnswerCutShortIsNoAnswer) {
  TlsServer server(*trusted, "HTTP/1.1 200 OK\r\n\r\nhalf of it", false);
  EXPECT_FALSE(fetch("https://localhost:" + std::to_string(server.port) + "/"));
}

TEST_F(HttpsTest, AServerThatSpeaksNoTlsIsReported) {
  auto plain = serve_http(*loop, *parse_address("127.0.0.1:0"), [](HttpRequest, HttpReplyPtr) {});
  ASSERT_TRUE(plain);
  const auto r = fetch("https://" + (*plain)->address().text() + "/");
  ASSERT_FALSE(r);
  EXPECT_NE(r.error().message.find("TLS with"), std::string::npos) << r.error().message;
}

TEST_F(HttpsTest, UnixSocketsCarryHttpToo) {
  const std::string socket = testing::TempDir() + "/gantry-http-" + std::to_string(::getpid()) + ".sock";
  auto server = serve_http(*loop, *parse_address("unix:" + socket), [](HttpRequest r, HttpReplyPtr reply) { reply->send(200, {}, r.target); });
  ASSERT_TRUE(server) << server.error().message;
  HttpFetch f;
  f.url = "http://localhost/over/unix";
  f.unix_socket = socket;
  std::string body;
  fetch_http(*loop, std::move(f), [&](Result<HttpFetched> r) {
    ASSERT_TRUE(r) << r.error().message;
    body = r->body;
    loop->stop();
  });
  loop->run();
  EXPECT_EQ(body, "/over/unix");
}

TEST_F(HttpsTest, BrokenPipesDoNotKillAndChildrenGetTheDefault) {
  struct sigaction now{};
  ASSERT_EQ(::sigaction(SIGPIPE, nullptr, &now), 0);
  EXPECT_TRUE(now.sa_handler != SIG_DFL && now.sa_handler != SIG_IGN);  // exec resets a handler, but not SIG_IGN
  ASSERT_EQ(::raise(SIGPIPE), 0);
}

}  // namespace
}  // namespace gantry::net
