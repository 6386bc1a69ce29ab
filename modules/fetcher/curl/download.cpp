#include "download.hpp"

#include <curl/curl.h>

#include <memory>
#include <mutex>

namespace gantry::fetcher_curl {
namespace {

// A blocking transfer meets real sockets, so it is timed by the real clock.
using Clock = std::chrono::steady_clock;

struct Transfer {
  int fd;
  const Limits* limits;
  const Cancelled* cancelled;
  std::uint64_t received = 0;
  Clock::time_point last = Clock::now();
  Status problem;  // why a callback stopped it
};

std::size_t on_data(char* data, std::size_t, std::size_t size, void* p) {
  auto& t = *static_cast<Transfer*>(p);
  t.received += size;
  t.last = Clock::now();
  if (t.received > t.limits->max_size) {
    t.problem = fail(Code::resource_exhausted, "larger than max_size (" + std::to_string(t.limits->max_size) + " bytes)");
    return 0;
  }
  t.problem = write_all(t.fd, data, size);
  return t.problem ? size : 0;
}

int on_progress(void* p, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  auto& t = *static_cast<Transfer*>(p);
  if ((*t.cancelled)()) {
    t.problem = cancelled_error();
    return 1;
  }
  if (Clock::now() - t.last > t.limits->stall) {
    const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(t.limits->stall).count();
    t.problem = fail(Code::deadline_exceeded, "nothing received for " + std::to_string(ms) + " ms (stall_timeout)");
    return 1;
  }
  return 0;
}

Code code_of(long status) {
  switch (status) {
    case 404:
    case 410: return Code::not_found;
    case 401:
    case 403: return Code::permission_denied;
    default: return Code::unavailable;
  }
}

}  // namespace

std::string without_credentials(const std::string& url) {
  const std::size_t begin = url.find("://");
  if (begin == std::string::npos) return url;
  const std::size_t end = url.find_first_of("/?#", begin + 3);
  const std::size_t at = url.rfind('@', end);
  if (at == std::string::npos || at < begin) return url;
  return url.substr(0, begin + 3) + url.substr(at + 1);
}

Status download(const std::string& url, int fd, const Limits& limits, const Cancelled& cancelled) {
  static const CURLcode ready = curl_global_init(CURL_GLOBAL_DEFAULT);
  const std::string what = "fetch " + without_credentials(url);
  const std::unique_ptr<CURL, void (*)(CURL*)> easy(ready == CURLE_OK ? curl_easy_init() : nullptr, &curl_easy_cleanup);
  if (!easy) return fail(Code::internal, what + ": libcurl does not start");
  Transfer t{fd, &limits, &cancelled, 0, Clock::now(), ok};
  CURL* c = easy.get();
  char text[CURL_ERROR_SIZE] = "";
  const auto connect_ms = std::chrono::duration_cast<std::chrono::milliseconds>(limits.connect).count();
  curl_easy_setopt(c, CURLOPT_URL, url.c_str());
  curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https,ftp,ftps");
  curl_easy_setopt(c, CURLOPT_REDIR_PROTOCOLS_STR, "http,https,ftp,ftps");
  curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 1L);
  curl_easy_setopt(c, CURLOPT_MAXREDIRS, 10L);
  curl_easy_setopt(c, CURLOPT_FAILONERROR, 1L);
  curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(c, CURLOPT_USERAGENT, "gantry-fetcher");
  curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(connect_ms));
  curl_easy_setopt(c, CURLOPT_ERRORBUFFER, text);
  curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, &on_data);
  curl_easy_setopt(c, CURLOPT_WRITEDATA, &t);
  curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
  curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, &on_progress);
  curl_easy_setopt(c, CURLOPT_XFERINFODATA, &t);

  const CURLcode result = curl_easy_perform(c);
  if (!t.problem) return std::move(t.problem).error().because(what);
  if (result == CURLE_OK) return ok;
  long status = 0;
  curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &status);
  if (result == CURLE_HTTP_RETURNED_ERROR) return fail(code_of(status), what + ": the server answered " + std::to_string(status));
  if (result == CURLE_REMOTE_FILE_NOT_FOUND) return fail(Code::not_found, what + ": there is no such file");
  if (result == CURLE_URL_MALFORMAT || result == CURLE_UNSUPPORTED_PROTOCOL) return fail(Code::invalid_argument, what + ": not a usable URL");
  return fail(Code::unavailable, what + ": " + (*text ? text : curl_easy_strerror(result)));
}

}  // namespace gantry::fetcher_curl
