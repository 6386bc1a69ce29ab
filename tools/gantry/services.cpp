#include "tools/gantry/services.hpp"

#include "tools/gantry/app_json.hpp"

#include <curl/curl.h>

#include <memory>

namespace gantry::cli {
namespace {

constexpr std::size_t max_body = 256u << 20;

std::size_t on_data(char* data, std::size_t size, std::size_t count, void* user) {
  auto& body = *static_cast<std::string*>(user);
  if (body.size() + size * count > max_body) return 0;
  body.append(data, size * count);
  return size * count;
}

}  // namespace

Result<HttpAnswer> http(const Context& c, const std::string& method, const std::string& path, const std::string& body) {
  static const bool ready = curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
  const std::unique_ptr<CURL, decltype(&curl_easy_cleanup)> curl(ready ? curl_easy_init() : nullptr,
                                                                 &curl_easy_cleanup);
  if (!curl) return fail(Code::internal, "libcurl cannot be started");
  std::string base = c.services.empty() ? "http://127.0.0.1:8080" : c.services;
  while (base.ends_with('/')) base.pop_back();
  if (base.find("://") == std::string::npos) base = "http://" + base;
  const std::string url = base + path;
  HttpAnswer answer;
  curl_slist* list = curl_slist_append(nullptr, "Accept: application/json");
  if (!body.empty()) list = curl_slist_append(list, "Content-Type: application/json");
  list = curl_slist_append(list, "Expect:");
  const std::unique_ptr<curl_slist, decltype(&curl_slist_free_all)> headers(list, &curl_slist_free_all);
  CURL* const h = curl.get();
  curl_easy_setopt(h, CURLOPT_URL, url.c_str());
  curl_easy_setopt(h, CURLOPT_CUSTOMREQUEST, method.c_str());
  curl_easy_setopt(h, CURLOPT_HTTPHEADER, headers.get());
  curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, &on_data);
  curl_easy_setopt(h, CURLOPT_WRITEDATA, &answer.body);
  curl_easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(h, CURLOPT_CONNECTTIMEOUT, 10L);
  curl_easy_setopt(h, CURLOPT_TIMEOUT, 60L);
  curl_easy_setopt(h, CURLOPT_USERAGENT, "gantry/" GANTRY_VERSION);
  if (!body.empty()) {
    curl_easy_setopt(h, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body.size()));
    curl_easy_setopt(h, CURLOPT_POSTFIELDS, body.data());
  }
  if (!c.principal.empty()) {
    curl_easy_setopt(h, CURLOPT_USERNAME, c.principal.c_str());
    curl_easy_setopt(h, CURLOPT_PASSWORD, c.secret.c_str());
  }
  const CURLcode rc = curl_easy_perform(h);
  if (rc == CURLE_URL_MALFORMAT)
    return fail(Code::invalid_argument,
                "\"" + base + "\" is not a URL; --services expects one such as http://127.0.0.1:8080");
  if (rc != CURLE_OK)
    return fail(Code::unavailable,
                "cannot reach the services API at " + base + ": " + curl_easy_strerror(rc) +
                    "; is [framework.services] configured? Name its URL with --services or GANTRY_SERVICES");
  curl_easy_getinfo(h, CURLINFO_RESPONSE_CODE, &answer.status);
  return answer;
}

Error http_error(const HttpAnswer& answer, const std::string& doing) {
  Code code = Code::unknown;
  if (answer.status == 404) code = Code::not_found;
  if (answer.status == 401 || answer.status == 403) code = Code::permission_denied;
  if (answer.status == 409) code = Code::failed_precondition;
  if (answer.status == 400 || answer.status == 422) code = Code::unknown;
  std::string message = error_message(answer.body);
  if (answer.status == 409)
    message += (message.empty() ? "another deployment changes it" : "") +
               std::string("; wait for it, or use --force to replace it");
  if (answer.status == 401) message = "credentials are needed; give --principal and --secret-file";
  if (message.empty()) message = "the services API answered with status " + std::to_string(answer.status);
  return fail(code, doing + ": " + message);
}

std::string app_path(const std::string& id) {
  static constexpr char hex[] = "0123456789ABCDEF";
  std::string out;
  std::size_t at = 0;
  while (at < id.size()) {
    const auto end = std::min(id.find('/', at), id.size());
    if (end > at) {
      out += '/';
      for (const char c : id.substr(at, end - at)) {
        const auto u = static_cast<unsigned char>(c);
        const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
                           c == '.' || c == '_' || c == '~';
        if (plain) {
          out += c;
        } else {
          out += '%';
          out += hex[u >> 4];
          out += hex[u & 15];
        }
      }
    }
    at = end + 1;
  }
  return out;
}

}  // namespace gantry::cli
