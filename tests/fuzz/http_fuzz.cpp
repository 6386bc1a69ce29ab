// HTTP requests, responses and URLs: no crash, no overrun, and the same judgement whole and in pieces.
#include "kernel/net/http_parse.hpp"

#include <cstdlib>

namespace {

using gantry::net::HttpProgress;

template <class Parser>
HttpProgress feed_in_pieces(Parser& parser, std::string_view text, std::size_t step) {
  std::string in;
  HttpProgress p;
  for (std::size_t at = 0; at < text.size() && p.state == HttpProgress::State::more; at += step) {
    in += text.substr(at, step);
    p = parser.feed(in);
    if (p.consumed > in.size()) std::abort();
    in.erase(0, p.consumed);
  }
  return p;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace gantry::net;
  if (size == 0) return 0;
  const std::size_t step = data[0] % 13 + 1;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);

  RequestParser whole(2048, 2048), cut(2048, 2048);
  const HttpProgress a = whole.feed(text);
  const HttpProgress b = feed_in_pieces(cut, text, step);
  if (a.consumed > text.size()) std::abort();
  if (a.state == HttpProgress::State::done && b.state == HttpProgress::State::done) {
    const HttpRequest x = whole.take(), y = cut.take();
    if (x.method != y.method || x.target != y.target || x.body != y.body || x.headers.size() != y.headers.size()) std::abort();
    if (x.body.size() > 2048) std::abort();
    for (const auto& h : x.headers)
      if (h.value.find_first_of("\r\n") != std::string::npos) std::abort();
  } else if (a.state == HttpProgress::State::done || b.state == HttpProgress::State::done) {
    std::abort();  // where a message ends must not depend on how it was cut
  }

  ResponseParser response(2048, data[0] & 1);
  if (feed_in_pieces(response, text, step).state == HttpProgress::State::more) (void)response.end();
  (void)parse_url(text);
  (void)parse_address(text);
  return 0;
}
