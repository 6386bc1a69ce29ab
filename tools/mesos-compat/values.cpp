// Values of flags that are documents: resources, credentials.
#include "translate.hpp"

#include <boost/json.hpp>

#include <algorithm>
#include <charconv>
#include <cmath>

namespace gantry::compat {
namespace {

namespace json = boost::json;

Result<json::value> parse(std::string_view text, const std::string& what) {
  json::error_code ec;
  json::parse_options options;
  options.max_depth = 32;
  json::value v = json::parse({text.data(), text.size()}, ec, {}, options);
  if (ec) return fail(Code::invalid_argument, what + " is no JSON: " + ec.message());
  return v;
}

const json::value* member(const json::object& o, std::string_view key) {
  const auto it = o.find(json::string_view(key.data(), key.size()));
  return it == o.end() || it->value().is_null() ? nullptr : &it->value();
}
std::optional<std::string> text_of(const json::object& o, std::string_view key) {
  const json::value* v = member(o, key);
  if (!v || !v->is_string()) return std::nullopt;
  return std::string(v->get_string().data(), v->get_string().size());
}
std::optional<double> number_of(const json::value* v) {
  if (!v) return std::nullopt;
  if (v->is_double()) return v->get_double();
  if (v->is_int64()) return static_cast<double>(v->get_int64());
  if (v->is_uint64()) return static_cast<double>(v->get_uint64());
  return std::nullopt;
}

std::string decimal(double d) {
  char text[64];
  const auto [end, ec] = std::to_chars(text, text + sizeof text, d);
  return ec == std::errc() ? std::string(text, end) : "0";
}

// The role a resource is reserved for; "*": for none.
Result<std::string> role_of(const json::object& r, const std::string& where) {
  std::string role = text_of(r, "role").value_or("*");
  if (const json::value* list = member(r, "reservations"); list && list->is_array() && !list->get_array().empty()) {
    if (list->get_array().size() > 1) return fail(Code::invalid_argument, where + " has refined reservations; an agent cannot be started with them");
    const json::value& top = list->get_array()[0];
    if (!top.is_object()) return fail(Code::invalid_argument, where + ".reservations[0] is no object");
    if (text_of(top.get_object(), "type").value_or("STATIC") == "DYNAMIC")
      return fail(Code::invalid_argument, where + " is dynamically reserved; an agent cannot be started with it");
    role = text_of(top.get_object(), "role").value_or("*");
  }
  return role;
}

Result<std::string> resource_text(const json::value& v, const std::string& where) {
  if (!v.is_object()) return fail(Code::invalid_argument, where + " is no object");
  const json::object& r = v.get_object();
  const auto name = text_of(r, "name");
  if (!name || name->empty()) return fail(Code::invalid_argument, where + " has no name");
  for (const char* other : {"disk", "revocable", "shared", "provider_id"})
    if (member(r, other))
      return fail(Code::invalid_argument, where + " (" + *name + ") has '" + other + "', which an agent of Gantry cannot be started with");
  GANTRY_TRY(const std::string role, role_of(r, where));
  std::string out = *name + (role == "*" ? "" : "(" + role + ")") + ":";
  const std::string type = text_of(r, "type").value_or("");
  if (type == "SCALAR") {
    const json::value* scalar = member(r, "scalar");
    const auto n = scalar && scalar->is_object() ? number_of(member(scalar->get_object(), "value")) : std::nullopt;
    if (!n || !(*n >= 0) || !std::isfinite(*n)) return fail(Code::invalid_argument, where + " (" + *name + ") has no scalar.value");
    return out + decimal(*n);
  }
  if (type == "RANGES") {
    const json::value* ranges = member(r, "ranges");
    const json::value* list = ranges && ranges->is_object() ? member(ranges->get_object(), "range") : nullptr;
    if (!list || !list->is_array()) return fail(Code::invalid_argument, where + " (" + *name + ") has no ranges.range");
    std::string inside;
    for (const auto& one : list->get_array()) {
      const auto begin = one.is_object() ? number_of(member(one.get_object(), "begin")) : std::nullopt;
      const auto end = one.is_object() ? number_of(member(one.get_object(), "end")) : std::nullopt;
      if (!begin || !end || *begin < 0 || *end < 0 || *begin > 1e15 || *end > 1e15)
        return fail(Code::invalid_argument, where + " (" + *name + ") has a range without begin and end");
      inside += (inside.empty() ? "" : ", ") + std::to_string(static_cast<std::uint64_t>(*begin)) + "-" + std::to_string(static_cast<std::uint64_t>(*end));
    }
    return out + "[" + inside + "]";
  }
  if (type == "SET") {
    const json::value* set = member(r, "set");
    const json::value* list = set && set->is_object() ? member(set->get_object(), "item") : nullptr;
    if (!list || !list->is_array()) return fail(Code::invalid_argument, where + " (" + *name + ") has no set.item");
    std::string inside;
    for (const auto& one : list->get_array()) {
      if (!one.is_string()) return fail(Code::invalid_argument, where + " (" + *name + ") has an item that is no string");
      inside += (inside.empty() ? "" : ", ") + std::string(one.get_string().data(), one.get_string().size());
    }
    return out + "{" + inside + "}";
  }
  return fail(Code::invalid_argument, where + " (" + *name + ") has the type '" + type + "'; there are SCALAR, RANGES and SET");
}

bool starts_document(std::string_view text, std::string_view open) {
  const auto at = text.find_first_not_of(" \t\r\n");
  return at != std::string_view::npos && open.find(text[at]) != std::string_view::npos;
}

Result<Credential> credential_of(const json::value& v, const std::string& where) {
  if (!v.is_object()) return fail(Code::invalid_argument, where + " is no object with principal and secret");
  Credential c;
  const auto principal = text_of(v.get_object(), "principal");
  if (!principal || principal->empty()) return fail(Code::invalid_argument, where + " has no principal");
  c.principal = *principal;
  c.secret = text_of(v.get_object(), "secret").value_or("");
  return c;
}

Result<Credential> credential_of(std::string_view line, const std::string& where) {
  std::vector<std::string> words;
  while (!line.empty()) {
    const auto begin = line.find_first_not_of(" \t\r");
    if (begin == std::string_view::npos) break;
    line.remove_prefix(begin);
    const auto end = std::min(line.find_first_of(" \t\r"), line.size());
    words.emplace_back(line.substr(0, end));
    line.remove_prefix(end);
  }
  if (words.size() != 2) return fail(Code::invalid_argument, "Invalid credential format at " + where + ": expected 'principal secret'");
  return Credential{words[0], words[1]};
}

}  // namespace

Result<std::string> resources_text(std::string_view value) {
  if (!starts_document(value, "[{")) return std::string(value);
  GANTRY_TRY(const json::value document, parse(value, "--resources"));
  if (!document.is_array()) return fail(Code::invalid_argument, "--resources is JSON, but no list of resources");
  std::string out;
  std::size_t n = 0;
  for (const auto& one : document.get_array()) {
    GANTRY_TRY(const std::string text, resource_text(one, "--resources[" + std::to_string(n++) + "]"));
    out += (out.empty() ? "" : ";") + text;
  }
  return out;
}

Result<std::string> domain_text(std::string_view value) {
  GANTRY_TRY(const json::value document, parse(value, "--domain"));
  const auto below = [](const json::value* v, std::string_view key) -> const json::value* {
    return v && v->is_object() ? member(v->get_object(), key) : nullptr;
  };
  const auto* fault = below(&document, "fault_domain");
  const auto name = [&](std::string_view part) -> std::optional<std::string> {
    const auto* v = below(fault, part);
    return v && v->is_object() ? text_of(v->get_object(), "name") : std::nullopt;
  };
  const auto region = name("region"), zone = name("zone");
  if (!region || !zone)
    return fail(Code::invalid_argument, "--domain has no fault_domain with region.name and zone.name, as in "
                                        "{\"fault_domain\": {\"region\": {\"name\": \"eu\"}, \"zone\": {\"name\": \"a\"}}}");
  return *region + "/" + *zone;
}

Result<RateLimits> parse_rate_limits(std::string_view content) {
  GANTRY_TRY(const json::value document, parse(content, "--rate_limits"));
  if (!document.is_object()) return fail(Code::invalid_argument, "--rate_limits is no object");
  const auto limit = [](const json::object& o, const char* qps, const char* capacity) -> Result<std::string> {
    const auto rate = number_of(member(o, qps)), most = number_of(member(o, capacity));
    if (!rate) return std::string();
    if (!(*rate > 0) || !std::isfinite(*rate)) return fail(Code::invalid_argument, std::string("--rate_limits: ") + qps + " must be greater than zero");
    if (most && !(*most >= 1 && *most < 1e15)) return fail(Code::invalid_argument, std::string("--rate_limits: ") + capacity + " must be at least one");
    return decimal(*rate) + (most ? "/" + std::to_string(static_cast<std::uint64_t>(*most)) : "");
  };
  RateLimits out;
  GANTRY_TRY(out.rest, limit(document.get_object(), "aggregate_default_qps", "aggregate_default_capacity"));
  const json::value* list = member(document.get_object(), "limits");
  if (!list) return out;
  if (!list->is_array()) return fail(Code::invalid_argument, "--rate_limits: limits is no list");
  for (const auto& one : list->get_array()) {
    const auto principal = one.is_object() ? text_of(one.get_object(), "principal") : std::nullopt;
    if (!principal || principal->empty()) return fail(Code::invalid_argument, "--rate_limits: a limit has no principal");
    GANTRY_TRY(std::string text, limit(one.get_object(), "qps", "capacity"));
    if (std::any_of(out.of.begin(), out.of.end(), [&](const auto& o) { return o.first == *principal; }))
      return fail(Code::invalid_argument, "--rate_limits: duplicate principal '" + *principal + "'");
    out.of.emplace_back(*principal, text.empty() ? "unlimited" : text);
  }
  return out;
}

Result<Credential> parse_credential(std::string_view content) {
  if (starts_document(content, "{")) {
    GANTRY_TRY(const json::value document, parse(content, "the credential"));
    return credential_of(document, "the credential");
  }
  while (!content.empty() && (content.back() == '\n' || content.back() == '\r')) content.remove_suffix(1);
  if (content.find('\n') != std::string_view::npos) return fail(Code::invalid_argument, "Found more than one credential; --credential takes one");
  return credential_of(content, "line 1");
}

Result<std::vector<Credential>> parse_credentials(std::string_view content) {
  std::vector<Credential> out;
  if (starts_document(content, "{[")) {
    GANTRY_TRY(const json::value document, parse(content, "the credentials"));
    const json::value* list = document.is_object() ? member(document.get_object(), "credentials") : nullptr;
    if (!list || !list->is_array()) return fail(Code::invalid_argument, "the credentials are JSON without a list 'credentials'");
    std::size_t n = 0;
    for (const auto& one : list->get_array()) {
      GANTRY_TRY(Credential c, credential_of(one, "credentials[" + std::to_string(n++) + "]"));
      out.push_back(std::move(c));
    }
    return out;
  }
  std::size_t n = 0;
  while (!content.empty()) {
    const auto end = std::min(content.find('\n'), content.size());
    const std::string_view line = content.substr(0, end);
    content.remove_prefix(std::min(end + 1, content.size()));
    ++n;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    GANTRY_TRY(Credential c, credential_of(line, "line " + std::to_string(n)));
    out.push_back(std::move(c));
  }
  return out;
}

}  // namespace gantry::compat
