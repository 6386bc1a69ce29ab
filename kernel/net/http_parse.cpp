// The only file that sees Beast: its parsers, fed with bytes.
#include "kernel/net/http_parse.hpp"

#include <boost/asio/buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>

#include <cassert>
#include <optional>

namespace gantry::net {
namespace {

namespace http = boost::beast::http;
using boost::beast::error_code;

std::string lower(std::string_view s) {
  std::string out(s);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return out;
}

HttpProgress bad(unsigned status, std::string error, std::size_t consumed) {
  return {HttpProgress::State::bad, consumed, status, std::move(error)};
}

HttpProgress bad(const error_code& ec, std::size_t consumed) {
  if (ec == http::error::header_limit) return bad(431, "the header is larger than this server accepts", consumed);
  if (ec == http::error::body_limit) return bad(413, "the body is larger than this server accepts", consumed);
  if (ec == http::error::bad_version) return bad(505, "only HTTP/1.0 and HTTP/1.1 are spoken here", consumed);
  return bad(400, "malformed HTTP message: " + ec.message(), consumed);
}

// Feeds until the parser is done, wants more or fails.
template <class Parser>
HttpProgress feed_all(Parser& parser, std::string_view bytes) {
  std::size_t used = 0;
  while (!parser.is_done() && used < bytes.size()) {
    // Beast 1.81 asserts that it never sees less than a whole last chunk once it saw its first line. Fewer than these
    // five bytes cannot end a message, so they wait for the next ones.
    if (parser.is_header_done() && parser.chunked() && bytes.size() - used < 5) break;
    error_code ec;
    const std::size_t n = parser.put(boost::asio::const_buffer(bytes.data() + used, bytes.size() - used), ec);
    used += n;
    if (ec == http::error::need_more) break;
    if (ec) return bad(ec, used);
    if (n == 0) break;
  }
  return {parser.is_done() ? HttpProgress::State::done : HttpProgress::State::more, used, 0, {}};
}

template <class Message>
std::vector<HttpHeader> headers_of(const Message& message) {
  std::vector<HttpHeader> out;
  for (const auto& f : message) out.push_back({lower(f.name_string()), std::string(f.value())});
  return out;
}

}  // namespace

std::string_view HttpRequest::header(std::string_view lower_name) const {
  for (const auto& h : headers)
    if (h.name == lower_name) return h.value;
  return {};
}

// ---- requests

struct RequestParser::Impl {
  http::request_parser<http::string_body> parser;
  std::size_t max_header = 0, head = 0;  // bytes of the head so far: Beast limits a line, not what comes in many pieces
  bool started = false;
};

RequestParser::RequestParser(std::size_t max_header, std::size_t max_body) : impl_(std::make_unique<Impl>()) {
  impl_->parser.eager(true);
  impl_->parser.header_limit(static_cast<std::uint32_t>(std::min<std::size_t>(max_header, UINT32_MAX)));
  impl_->parser.body_limit(max_body);
  impl_->max_header = max_header;
}
RequestParser::~RequestParser() = default;

HttpProgress RequestParser::feed(std::string_view bytes) {
  // RFC 9112 2.2: empty lines before a request are skipped (old clients end a body with one too many).
  std::size_t skipped = 0;
  while (!impl_->started && skipped < bytes.size() && (bytes[skipped] == '\r' || bytes[skipped] == '\n')) ++skipped;
  bytes.remove_prefix(skipped);
  if (bytes.empty()) return {HttpProgress::State::more, skipped, 0, {}};
  impl_->started = true;
  auto& parser = impl_->parser;
  const bool head_was_done = parser.is_header_done();
  HttpProgress p = feed_all(parser, bytes);
  if (!head_was_done && !parser.is_header_done() && (impl_->head += p.consumed) > impl_->max_header && p.state != HttpProgress::State::bad)
    return bad(431, "the header is larger than this server accepts", p.consumed + skipped);
  p.consumed += skipped;
  if (p.state == HttpProgress::State::bad || head_was_done || !parser.is_header_done()) return p;
  // A body in an encoding this server does not know must not be taken for the next request.
  const auto& message = parser.get();
  if (message.count(http::field::transfer_encoding) != 0 && !parser.chunked())
    return bad(501, "the only transfer encoding spoken here is chunked", p.consumed);
  if (message.count(http::field::host) > 1) return bad(400, "more than one Host header", p.consumed);
  return p;
}
bool RequestParser::started() const { return impl_->started; }
bool RequestParser::awaits_continue() const {
  if (!impl_->parser.is_header_done() || impl_->parser.is_done()) return false;
  const auto& message = impl_->parser.get();
  return message.version() >= 11 && same_name(message[http::field::expect], "100-continue");
}
bool RequestParser::keep_alive() const { return impl_->parser.get().keep_alive(); }
bool RequestParser::http10() const { return impl_->parser.get().version() < 11; }
HttpRequest RequestParser::take() {
  auto message = impl_->parser.release();
  HttpRequest out;
  out.method = std::string(message.method_string());
  out.target = std::string(message.target());
  out.headers = headers_of(message);
  out.body = std::move(message.body());
  return out;
}

Result<HttpRequest> parse_request(Bytes bytes, const HttpServerOptions& limits) {
  RequestParser parser(limits.max_header, limits.max_body);
  const HttpProgress p = parser.feed({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  if (p.state == HttpProgress::State::bad) return fail(Code::invalid_argument, std::to_string(p.status) + ": " + p.error);
  if (p.state == HttpProgress::State::more) return fail(Code::out_of_range, "the request is incomplete");
  return parser.take();
}

// ---- responses

struct ResponseParser::Impl {
  std::size_t max_body;
  bool answers_head;
  std::optional<http::response_parser<http::string_body>> parser;
  void fresh() {
    parser.emplace();
    parser->eager(true);
    parser->header_limit(256u << 10);
    parser->body_limit(max_body);
    parser->skip(answers_head);
  }
};

ResponseParser::ResponseParser(std::size_t max_body, bool answers_head) : impl_(std::make_unique<Impl>()) {
  impl_->max_body = max_body;
  impl_->answers_head = answers_head;
  impl_->fresh();
}
ResponseParser::~ResponseParser() = default;

HttpProgress ResponseParser::feed(std::string_view bytes) {
  std::size_t used = 0;
  for (;;) {
    HttpProgress p = feed_all(*impl_->parser, bytes.substr(used));
    p.consumed += used;
    if (p.state != HttpProgress::State::done) return p;
    const unsigned status = impl_->parser->get().result_int();
    if (status >= 200 || status == 101) return p;
    used = p.consumed;
    impl_->fresh();
  }
}
HttpProgress ResponseParser::end() {
  if (!impl_->parser->got_some()) return bad(502, "the server closed the connection without an answer", 0);
  error_code ec;
  if (!impl_->parser->is_done()) impl_->parser->put_eof(ec);
  if (ec) return bad(502, "the server closed the connection in the middle of its answer", 0);
  return {HttpProgress::State::done, 0, 0, {}};
}
HttpFetched ResponseParser::take() {
  auto message = impl_->parser->release();
  HttpFetched out;
  out.status = message.result_int();
  out.headers = headers_of(message);
  out.body = std::move(message.body());
  return out;
}

// ---- text

std::string_view reason_phrase(unsigned status) {
  const auto s = http::obsolete_reason(http::int_to_status(status));
  return {s.data(), s.size()};
}

}  // namespace gantry::net
