// What the fetcher's cases fetch: a web server on loopback and archives made by hand.
#pragma once

#include "support.hpp"

#include <gantry/fetcher_generated.h>

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <map>
#include <mutex>
#include <thread>

namespace gantry::conformance {

// Answers GETs from `files`, 404 otherwise. A path that begins with /stall sends headers and then nothing; /500 fails.
class WebServer {
 public:
  WebServer() {
    fd_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in a{};
    a.sin_family = AF_INET;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t n = sizeof a;
    if (fd_ < 0 || ::bind(fd_, reinterpret_cast<sockaddr*>(&a), n) != 0 || ::listen(fd_, 64) != 0 ||
        ::getsockname(fd_, reinterpret_cast<sockaddr*>(&a), &n) != 0)
      return;
    port_ = ntohs(a.sin_port);
    thread_ = std::thread([this] { serve(); });
  }
  ~WebServer() {
    if (fd_ >= 0) ::shutdown(fd_, SHUT_RDWR);
    if (thread_.joinable()) thread_.join();
    if (fd_ >= 0) ::close(fd_);
    for (const int c : kept_) ::close(c);
  }
  WebServer(const WebServer&) = delete;
  WebServer& operator=(const WebServer&) = delete;
  [[nodiscard]] bool up() const { return port_ != 0; }
  [[nodiscard]] std::string base() const { return "http://127.0.0.1:" + std::to_string(port_); }
  [[nodiscard]] int requests() const { return requests_; }
  void put(const std::string& path, std::string body) {
    const std::lock_guard lock(mutex_);
    files_[path] = std::move(body);
  }
  // A port of this machine on which nobody listens.
  static std::string closed_port() {
    const WebServer s;
    return s.base();
  }

 private:
  void serve() {
    for (;;) {
      const int c = ::accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC);
      if (c < 0) return;
      timeval patience{5, 0};
      ::setsockopt(c, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
      std::string in;
      char block[4096];
      while (in.find("\r\n\r\n") == in.npos) {
        const ssize_t n = ::recv(c, block, sizeof block, 0);
        if (n <= 0) break;
        in.append(block, static_cast<std::size_t>(n));
      }
      ++requests_;
      const auto begin = in.find(' ') + 1;
      const std::string path = begin == 0 ? std::string() : in.substr(begin, in.find(' ', begin) - begin);
      if (path.starts_with("/stall")) {
        send(c, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nabc");
        kept_.push_back(c);
        continue;
      }
      send(c, answer(path));
      ::close(c);
    }
  }
  std::string answer(const std::string& path) {
    if (path.starts_with("/500")) return "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    const std::lock_guard lock(mutex_);
    const auto it = files_.find(path);
    if (it == files_.end()) return "HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\nConnection: close\r\n\r\nnope\n";
    return "HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(it->second.size()) + "\r\nConnection: close\r\n\r\n" + it->second;
  }
  static void send(int c, const std::string& data) {
    std::size_t sent = 0;
    while (sent < data.size()) {
      const ssize_t n = ::send(c, data.data() + sent, data.size() - sent, MSG_NOSIGNAL);
      if (n <= 0) return;
      sent += static_cast<std::size_t>(n);
    }
  }
  int fd_ = -1;
  int port_ = 0;
  std::thread thread_;
  std::mutex mutex_;
  std::map<std::string, std::string> files_;
  std::atomic<int> requests_{0};
  std::vector<int> kept_;
};

// A tar archive (ustar) of what is added, so that the suite needs no library.
class Tar {
 public:
  Tar& file(const std::string& name, const std::string& data, unsigned mode = 0644) { return entry(name, '0', data, {}, mode); }
  Tar& link(const std::string& name, const std::string& target) { return entry(name, '2', {}, target, 0777); }
  Tar& hard_link(const std::string& name, const std::string& target) { return entry(name, '1', {}, target, 0644); }
  Tar& directory(const std::string& name) { return entry(name, '5', {}, {}, 0755); }
  [[nodiscard]] std::string bytes() const { return out_ + std::string(1024, '\0'); }

 private:
  Tar& entry(const std::string& name, char type, const std::string& data, const std::string& target, unsigned mode) {
    char h[512] = {};
    put(h, 0, 100, name);
    put(h, 100, 8, octal(mode, 7));
    put(h, 108, 8, octal(0, 7));
    put(h, 116, 8, octal(0, 7));
    put(h, 124, 12, octal(data.size(), 11));
    put(h, 136, 12, octal(1'700'000'000, 11));
    std::memset(h + 148, ' ', 8);
    h[156] = type;
    put(h, 157, 100, target);
    put(h, 257, 6, "ustar");
    h[263] = h[264] = '0';
    unsigned sum = 0;
    for (const char c : h) sum += static_cast<unsigned char>(c);
    put(h, 148, 7, octal(sum, 6));
    out_.append(h, sizeof h);
    out_ += data;
    out_.append((512 - data.size() % 512) % 512, '\0');
    return *this;
  }
  static void put(char* h, std::size_t at, std::size_t room, const std::string& s) { std::memcpy(h + at, s.data(), std::min(room, s.size())); }
  static std::string octal(std::size_t n, std::size_t digits) {
    std::string s(digits, '0');
    for (std::size_t i = digits; i-- > 0; n /= 8) s[i] = static_cast<char>('0' + n % 8);
    return s;
  }
  std::string out_;
};

}  // namespace gantry::conformance
