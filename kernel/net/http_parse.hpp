// HTTP/1.1 messages out of bytes: no socket, no loop. What comes from outside is judged here and nowhere else.
#pragma once

#include "kernel/net/net.hpp"

namespace gantry::net {

// What became of the bytes fed. `consumed` of them are used up; the rest is to be fed again, with more behind it.
struct HttpProgress {
  enum class State { more, done, bad };
  State state = State::more;
  std::size_t consumed = 0;
  unsigned status = 0;  // bad: what a server answers (400, 413, 431, 501, 505)
  std::string error;    // bad: one sentence
};

// One request. Make a new one for the next.
class RequestParser {
 public:
  RequestParser(std::size_t max_header, std::size_t max_body);
  ~RequestParser();
  HttpProgress feed(std::string_view bytes);
  [[nodiscard]] bool started() const;     // any byte of the message was seen
  [[nodiscard]] bool awaits_continue() const;  // the head is complete and asks for "100 Continue"
  [[nodiscard]] bool keep_alive() const;  // after done
  [[nodiscard]] bool http10() const;      // after done
  // After done, once. `peer` stays empty.
  [[nodiscard]] HttpRequest take();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// One response; interim ones (1xx) are skipped. Header names come in lower case.
class ResponseParser {
 public:
  ResponseParser(std::size_t max_body, bool answers_head);
  ~ResponseParser();
  HttpProgress feed(std::string_view bytes);
  // The connection ended. State done if the body may end so.
  HttpProgress end();
  [[nodiscard]] HttpFetched take();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// A whole request from its bytes; INVALID_ARGUMENT if they are not one, OUT_OF_RANGE if they end too early.
[[nodiscard]] Result<HttpRequest> parse_request(Bytes bytes, const HttpServerOptions& limits = {});

struct Url {
  bool tls = false;
  std::string host;    // without brackets
  std::uint16_t port = 0;
  std::string target;  // path?query, at least "/"
  std::string authority;  // for the Host header
};
// Absolute http and https URLs, without user info.
[[nodiscard]] Result<Url> parse_url(std::string_view text);

// "HTTP/1.1 200 OK" and the like up to and with the empty line. Characters that would end a header are replaced, and
// headers that frame the message (Content-Length, Transfer-Encoding, Connection, Date) of the caller's are dropped.
struct HeadOptions {
  bool chunked = false;
  bool keep_alive = true;
  bool length_known = true;
  std::size_t length = 0;
  base::Wall wall = 0;
};
[[nodiscard]] std::string response_head(unsigned status, const std::vector<HttpHeader>& headers, const HeadOptions& options);
[[nodiscard]] std::string_view reason_phrase(unsigned status);
[[nodiscard]] bool same_name(std::string_view a, std::string_view b);  // without case
// Appends "name: value\r\n", made safe.
void append_header(std::string& out, std::string_view name, std::string_view value);

}  // namespace gantry::net
