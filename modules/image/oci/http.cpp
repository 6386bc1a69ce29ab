#include "http.hpp"

#include <curl/curl.h>
#include <sys/stat.h>

#include <algorithm>
#include <charconv>

namespace gantry::image_oci {
namespace {

// A blocking transfer meets real sockets, so it is timed by the real clock.
using Clock = std::chrono::steady_clock;

struct Transfer {
  const HttpOptions* options;
  const Http::Sink* sink;
  const Cancelled* cancelled;
  std::size_t limit;
  HttpAnswer answer;
  Clock::time_point last = Clock::now();
  curl_off_t seen = 0;
  Status problem;  // why a callback stopped it
};

bool equal_ignoring_case(std::string_view a, std::string_view b) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), [](char x, char y) {
           const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
           return lower(x) == lower(y);
         });
}

template <class N>
N leading_number(std::string_view text) {
  N n = 0;
  std::from_chars(text.data(), text.data() + text.size(), n);
  return n;
}

std::size_t on_header(char* data, std::size_t, std::size_t size, void* p) {
  auto& t = *static_cast<Transfer*>(p);
  t.last = Clock::now();
  std::string_view line(data, size);
  while (line.ends_with('\n') || line.ends_with('\r') || line.ends_with(' ')) line.remove_suffix(1);
  if (line.starts_with("HTTP/")) {  // a new answer, after a redirection or 100 Continue
    t.answer = {};
    if (const std::size_t space = line.find(' '); space != std::string_view::npos)
      t.answer.status = leading_number<long>(line.substr(space + 1));
    return size;
  }
  const std::size_t colon = line.find(':');
  if (colon == std::string_view::npos) return size;
  const std::string_view name = line.substr(0, colon);
  std::string_view value = line.substr(colon + 1);
  while (value.starts_with(' ') || value.starts_with('\t')) value.remove_prefix(1);
  if (equal_ignoring_case(name, "Content-Type")) t.answer.content_type = value.substr(0, value.find(';'));
  if (equal_ignoring_case(name, "Docker-Content-Digest")) t.answer.content_digest = value;
  if (equal_ignoring_case(name, "WWW-Authenticate") && t.answer.challenges.size() < 8) t.answer.challenges.emplace_back(value);
  if (equal_ignoring_case(name, "Retry-After"))
    t.answer.retry_after = std::chrono::seconds(std::clamp(leading_number<long>(value), 0L, 3600L));
  if (equal_ignoring_case(name, "Content-Range") && value.starts_with("bytes "))
    t.answer.range_from = leading_number<std::uint64_t>(value.substr(6));
  return size;
}

std::size_t on_data(char* data, std::size_t, std::size_t size, void* p) {
  auto& t = *static_cast<Transfer*>(p);
  t.last = Clock::now();
  const bool success = t.answer.status == 200 || t.answer.status == 206;
  if (success && *t.sink) {
    t.problem = (*t.sink)(t.answer, data, size);
    return t.problem ? size : 0;
  }
  const std::size_t limit = success ? t.limit : 64 * 1024;
  if (t.answer.body.size() + size > limit) {
    if (!success) return size;  // of an error its beginning will do
    t.problem = fail(Code::resource_exhausted, "the answer is larger than " + std::to_string(limit) + " bytes");
    return 0;
  }
  t.answer.body.append(data, size);
  return size;
}

int on_progress(void* p, curl_off_t, curl_off_t now, curl_off_t, curl_off_t) {
  auto& t = *static_cast<Transfer*>(p);
  if (now != t.seen) t.seen = now, t.last = Clock::now();
  if ((*t.cancelled)()) {
    t.problem = cancelled_error();
    return 1;
  }
  if (Clock::now() - t.last > t.options->stall) {
    const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(t.options->stall).count();
    t.problem = fail(Code::deadline_exceeded, "nothing received for " + std::to_string(ms) + " ms (stall_timeout)");
    return 1;
  }
  return 0;
}

bool exists(const std::string& path) {
  struct stat st {};
  return ::stat(path.c_str(), &st) == 0;
}

Error transfer_error(CURLcode code, const char* text) {
  const std::string why = *text ? text : curl_easy_strerror(code);
  switch (code) {
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CACERT_BADFILE:
      return fail(Code::failed_precondition, why + "; put its authority into `certificates`, or name the registry under `insecure`");
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
      return fail(Code::invalid_argument, why);
    default:
      return fail(Code::unavailable, why);
  }
}

}  // namespace

Http::Http(const HttpOptions& options) : options_(options), easy_(nullptr, [](void* e) { curl_easy_cleanup(e); }) {
  static const CURLcode ready = curl_global_init(CURL_GLOBAL_DEFAULT);
  if (ready == CURLE_OK) easy_.reset(curl_easy_init());
}
Http::~Http() = default;

Result<HttpAnswer> Http::exchange(const HttpRequest& request, std::size_t limit, const Sink& sink, const Cancelled& cancelled) {
  CURL* c = easy_.get();
  if (!c) return fail(Code::internal, "libcurl does not start");
  if (cancelled()) return cancelled_error();
  curl_easy_reset(c);  // connections stay
  Transfer t{&options_, &sink, &cancelled, limit, {}, Clock::now(), 0, ok};
  char text[CURL_ERROR_SIZE] = "";
  curl_slist* list = nullptr;
  for (const std::string& h : request.headers) list = curl_slist_append(list, h.c_str());
  const std::unique_ptr<curl_slist, void (*)(curl_slist*)> headers(list, &curl_slist_free_all);
  const bool tls = request.url.starts_with("https:");
  curl_easy_setopt(c, CURLOPT_URL, request.url.c_str());
  curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(c, CURLOPT_REDIR_PROTOCOLS_STR, tls ? "https" : "http,https");
  curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 1L);
  curl_easy_setopt(c, CURLOPT_MAXREDIRS, 10L);
  curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(c, CURLOPT_USERAGENT, "gantry-image");
  curl_easy_setopt(c, CURLOPT_HTTPHEADER, list);
  curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS,
                   static_cast<long>(std::chrono::duration_cast<std::chrono::milliseconds>(options_.connect).count()));
  curl_easy_setopt(c, CURLOPT_BUFFERSIZE, 256L * 1024);
  curl_easy_setopt(c, CURLOPT_ERRORBUFFER, text);
  curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, &on_header);
  curl_easy_setopt(c, CURLOPT_HEADERDATA, &t);
  curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, &on_data);
  curl_easy_setopt(c, CURLOPT_WRITEDATA, &t);
  curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
  curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, &on_progress);
  curl_easy_setopt(c, CURLOPT_XFERINFODATA, &t);
  if (request.form) {
    curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request.form->size()));
    curl_easy_setopt(c, CURLOPT_POSTFIELDS, request.form->data());
  }
  const std::string range = std::to_string(request.from) + "-";
  if (request.from > 0) curl_easy_setopt(c, CURLOPT_RANGE, range.c_str());
  if (!request.verify) {
    curl_easy_setopt(c, CURLOPT_SSL_VERIFYPEER, 0L);
    curl_easy_setopt(c, CURLOPT_SSL_VERIFYHOST, 0L);
  }
  if (tls && !options_.certificates.empty() && !request.registry.empty()) {
    const std::string at = options_.certificates + "/" + request.registry + "/";
    if (exists(at + "ca.crt")) curl_easy_setopt(c, CURLOPT_CAINFO, (at + "ca.crt").c_str());
    if (exists(at + "client.cert")) {
      curl_easy_setopt(c, CURLOPT_SSLCERT, (at + "client.cert").c_str());
      curl_easy_setopt(c, CURLOPT_SSLKEY, (at + "client.key").c_str());
    }
  }
  const CURLcode result = curl_easy_perform(c);
  if (!t.problem) return std::move(t.problem).error();
  if (result != CURLE_OK) return transfer_error(result, text);
  return std::move(t.answer);
}

std::string percent_encode(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       std::string_view("-._~").find(c) != std::string_view::npos;
    if (plain) {
      out += c;
    } else {
      const auto byte = static_cast<unsigned char>(c);
      out += '%';
      out += "0123456789ABCDEF"[byte >> 4];
      out += "0123456789ABCDEF"[byte & 15];
    }
  }
  return out;
}

}  // namespace gantry::image_oci
