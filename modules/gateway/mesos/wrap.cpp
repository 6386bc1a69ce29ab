#include "wrap.hpp"

#include <zlib.h>

#include <algorithm>
#include <cctype>

namespace gantry::gateway_mesos {
namespace {

constexpr std::size_t kWorthPacking = 1024;

// gzip, or nothing where that fails.
std::string packed(const std::string& body) {
  z_stream z{};
  if (deflateInit2(&z, 1, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK) return {};
  std::string out(deflateBound(&z, body.size()), '\0');
  z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(body.data()));
  z.avail_in = static_cast<uInt>(body.size());
  z.next_out = reinterpret_cast<Bytef*>(out.data());
  z.avail_out = static_cast<uInt>(out.size());
  const int end = deflate(&z, Z_FINISH);
  out.resize(z.total_out);
  deflateEnd(&z);
  return end == Z_STREAM_END ? out : std::string();
}

// A name of JavaScript: nothing else may be put before an answer.
bool callback_name(std::string_view s) {
  return !s.empty() && s.size() <= 128 &&
         std::all_of(s.begin(), s.end(), [](unsigned char c) { return std::isalnum(c) || c == '_' || c == '.' || c == '$'; });
}

}  // namespace

Wrapping wrapping(const Exchange& e) {
  Wrapping w;
  if (const std::string* jsonp = e.query("jsonp"); jsonp && callback_name(*jsonp)) w.callback = *jsonp;
  const std::string* accept = e.header("accept-encoding");
  w.zip = accept && accept->find("gzip") != std::string::npos && accept->find("gzip;q=0") == std::string::npos;
  return w;
}

Wrapped wrap(std::string body, std::string_view type, const Wrapping& how) {
  Wrapped w{std::move(body), type, false};
  if (!how.callback.empty() && type == kJson) {
    w.body = how.callback + "(" + w.body + ");";
    w.type = "text/javascript";
  }
  if (how.zip && w.body.size() >= kWorthPacking) {
    if (std::string small = packed(w.body); !small.empty()) {
      w.body = std::move(small);
      w.zipped = true;
    }
  }
  return w;
}

void send(const ExchangePtr& e, const Wrapped& w) {
  Headers headers;
  if (w.zipped) headers.emplace_back("Content-Encoding", "gzip");
  e->answer(200, w.body, w.body.empty() ? std::string_view() : w.type, std::move(headers));
}

void finish(const ExchangePtr& e, std::string body, std::string_view type) { send(e, wrap(std::move(body), type, wrapping(*e))); }

}  // namespace gantry::gateway_mesos
