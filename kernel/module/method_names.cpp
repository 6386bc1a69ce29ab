#include "kernel/module/method_names.hpp"

#include <gantry/allocator_generated.h>
#include <gantry/authenticator_generated.h>
#include <gantry/authorizer_generated.h>
#include <gantry/control_generated.h>
#include <gantry/election_generated.h>
#include <gantry/fetcher_generated.h>
#include <gantry/framework_generated.h>
#include <gantry/host_generated.h>
#include <gantry/image_generated.h>
#include <gantry/isolator_generated.h>
#include <gantry/store_generated.h>

#include <algorithm>
#include <array>

namespace gantry::module {
namespace {

using HostService = fb::host::Service;
using fb::trace::BodyState;
using fb::trace::What;

constexpr std::array<const char*, 6> common = {"CONFIGURE", "START", "STOP", "HEALTH", "RECOVER", "CREDIT"};

struct Names {
  std::string_view of;  // kind, or service in lower case
  const char* (*name)(std::uint32_t);
  std::uint32_t last;
};
// A method's name is in the generated header of its schema.
#define GANTRY_NAMES(of, space, Enum)                                                       \
  Names {                                                                                   \
    of, [](std::uint32_t m) { return space::EnumName##Enum(static_cast<space::Enum>(m)); }, \
        static_cast<std::uint32_t>(space::Enum::MAX)                                        \
  }
const std::array kinds_names = {
    GANTRY_NAMES("allocator", fb::allocator, Method), GANTRY_NAMES("authenticator", fb::authenticator, Method),
    GANTRY_NAMES("authorizer", fb::authorizer, Method),
    GANTRY_NAMES("election", fb::election, Method),   GANTRY_NAMES("fetcher", fb::fetcher, Method),
    GANTRY_NAMES("image", fb::image, Method),
    GANTRY_NAMES("isolator", fb::isolator, Method),   GANTRY_NAMES("store", fb::store, Method),
};
const std::array services_names = {
    GANTRY_NAMES("cluster", fb::host, ClusterMethod),
    GANTRY_NAMES("store", fb::store, Method),
    GANTRY_NAMES("http", fb::host, HttpMethod),
    GANTRY_NAMES("state", fb::host, StateMethod),
    GANTRY_NAMES("operate", fb::host, OperateMethod),
    GANTRY_NAMES("executors", fb::host, ExecutorMethod),
    GANTRY_NAMES("auth", fb::authenticator, Method),
    GANTRY_NAMES("authorize", fb::authorizer, Method),
};
#undef GANTRY_NAMES

template <class Table>
const Names* find(const Table& table, std::string_view of) {
  const auto it = std::find_if(table.begin(), table.end(), [&](const Names& n) { return n.of == of; });
  return it == table.end() ? nullptr : &*it;
}

std::string named(const Names* names, std::uint32_t method) {
  if (names) {
    const std::string_view name = names->name(method);
    if (!name.empty()) return std::string(name);
  }
  return std::to_string(method);
}

std::string lower(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](unsigned char c) { return static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c); });
  return out;
}

void stars(const flatbuffers::String* s) {
  if (!s) return;
  auto* at = const_cast<char*>(s->c_str());  // inside the caller's own copy
  std::fill(at, at + s->size(), '*');
}

// Whether there was something to hide.
template <class Headers>
bool mask_headers(const Headers* headers) {
  static constexpr std::array<std::string_view, 6> hidden = {"authorization", "proxy-authorization", "cookie",
                                                             "set-cookie",    "x-auth-token",        "x-registry-auth"};
  bool any = false;
  if (!headers) return any;
  for (const auto* h : *headers) {
    if (std::find(hidden.begin(), hidden.end(), lower(text(h->name()))) == hidden.end()) continue;
    stars(h->value());
    any = true;
  }
  return any;
}

// "https://user:password@host/": what is before the @.
bool mask_user(const flatbuffers::String* url) {
  const std::string_view whole = text(url);
  const auto scheme = whole.find("://");
  if (scheme == std::string_view::npos) return false;
  const auto begin = scheme + 3;
  const auto end = whole.substr(0, whole.find_first_of("/?#", begin)).rfind('@');
  if (end == std::string_view::npos || end <= begin) return false;
  auto* at = const_cast<char*>(url->c_str());
  std::fill(at + begin, at + end, '*');
  return true;
}

// The body is T: its headers are masked. Anything else is blanked, as nobody knows what it holds.
template <class T>
BodyState mask_message(std::vector<std::uint8_t>& body) {
  const auto* message = view<T>(body);
  if (!message) {
    body.clear();
    return BodyState::BLANKED;
  }
  return mask_headers(message->headers()) ? BodyState::MASKED : BodyState::WHOLE;
}

BodyState blank(std::vector<std::uint8_t>& body) {
  body.clear();
  return BodyState::BLANKED;
}

// A pull may carry accounts of registries.
BodyState mask_pull(std::vector<std::uint8_t>& body) {
  const auto* pull = view<fb::image::Pull>(body);
  if (!pull) return blank(body);
  const auto* secret = pull->credential() ? pull->credential()->secret() : nullptr;
  if (!secret && !pull->config()) return BodyState::WHOLE;
  stars(secret);
  stars(pull->config());
  return BodyState::MASKED;
}

BodyState hide_in_http(const fb::trace::EntryT& e, std::vector<std::uint8_t>& body) {
  const bool asked = e.what == What::REQUEST;
  switch (static_cast<fb::host::HttpMethod>(e.method)) {
    case fb::host::HttpMethod::LISTEN:
      // The first chunk is a Listening, all others are Requests.
      if (asked || (!view<fb::host::Request>(body) && view<fb::host::Listening>(body))) return BodyState::WHOLE;
      return mask_message<fb::host::Request>(body);
    case fb::host::HttpMethod::RESPOND:
      return asked ? mask_message<fb::host::Respond>(body) : BodyState::WHOLE;
    case fb::host::HttpMethod::FETCH:
      if (!asked) return mask_message<fb::host::Fetched>(body);
      if (const auto* fetch = view<fb::host::Fetch>(body); fetch && mask_user(fetch->url())) {
        mask_headers(fetch->headers());
        return BodyState::MASKED;
      }
      return mask_message<fb::host::Fetch>(body);
    default:
      return BodyState::WHOLE;
  }
}

}  // namespace

std::string method_name(std::string_view kind, std::uint32_t method) {
  if (method < common.size()) return common[method];
  return named(find(kinds_names, kind), method);
}

std::string request_name(std::uint32_t service, std::uint32_t method) {
  // Not service_name() of instance.hpp: programs that only read recordings need no module host.
  const std::string name = service == 0 ? "" : lower(fb::host::EnumNameService(static_cast<HostService>(service)));
  return (name.empty() ? std::to_string(service) : name) + "." + named(find(services_names, name), method);
}

bool is_request(What what) { return what >= What::REQUEST && what <= What::REQUEST_CANCEL; }

std::string entry_name(std::string_view kind, const fb::trace::EntryT& e) {
  if (e.what == What::FAULT || e.what == What::RESTART) return fb::trace::EnumNameWhat(e.what);
  return is_request(e.what) ? request_name(e.service, e.method) : method_name(kind, e.method);
}

std::vector<std::string> all_names(std::string_view kind) {
  std::vector<std::string> out(common.begin(), common.end());
  const auto add = [&](const Names& names, const std::string& before) {
    for (std::uint32_t m = 16; m <= names.last; ++m)
      if (const std::string_view name = names.name(m); !name.empty()) out.push_back(before + std::string(name));
  };
  if (const Names* names = find(kinds_names, kind)) add(*names, "");
  for (const Names& names : services_names) add(names, std::string(names.of) + ".");
  return out;
}

BodyState hide_credentials(std::string_view kind, const fb::trace::EntryT& e, bool secret_settings,
                           std::vector<std::uint8_t>& body) {
  if (body.empty()) return BodyState::WHOLE;
  if (e.code < 0) return BodyState::WHOLE;  // an Error: a sentence for people
  switch (e.what) {
    case What::CALL:
      if (e.method == GANTRY_METHOD_CONFIGURE && secret_settings) return blank(body);
      if (e.method >= 16 && (kind == "authenticator" || kind == "secret")) return blank(body);
      if (kind == "image" && e.method == static_cast<std::uint32_t>(fb::image::Method::PULL)) return mask_pull(body);
      return BodyState::WHOLE;
    case What::CHUNK:
    case What::DONE:
      return kind == "secret" && e.method >= 16 ? blank(body) : BodyState::WHOLE;
    case What::REQUEST:
    case What::REQUEST_CHUNK:
    case What::REQUEST_DONE:
      break;
    default:
      return BodyState::WHOLE;
  }
  switch (static_cast<HostService>(e.service)) {
    case HostService::HTTP:
      return hide_in_http(e, body);
    case HostService::AUTH:
      return blank(body);
    case HostService::EXECUTORS:  // a request shows the executor's token
      return e.what == What::REQUEST ? blank(body) : BodyState::WHOLE;
    case HostService::QUERY: {
      if (e.what != What::REQUEST) return BodyState::WHOLE;
      const auto* question = view<fb::control::Question>(body);
      if (!question) return blank(body);
      if (text(question->secret()).empty()) return BodyState::WHOLE;
      stars(question->secret());
      return BodyState::MASKED;
    }
    default:
      return BodyState::WHOLE;
  }
}

}  // namespace gantry::module
