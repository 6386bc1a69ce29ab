#include "reference.hpp"

#include "digest.hpp"

#include <sys/stat.h>

#include <algorithm>

namespace gantry::image_oci {
namespace {

bool lower(char c) { return c >= 'a' && c <= 'z'; }
bool upper(char c) { return c >= 'A' && c <= 'Z'; }
bool digit(char c) { return c >= '0' && c <= '9'; }
bool all(std::string_view s, bool (*pred)(char)) { return std::all_of(s.begin(), s.end(), pred); }

// "[a-z0-9]+" parts, joined by ".", "_", "__" or any number of "-".
bool is_component(std::string_view s) {
  std::size_t i = 0;
  while (true) {
    const std::size_t word = i;
    while (i < s.size() && (lower(s[i]) || digit(s[i]))) ++i;
    if (i == word) return false;
    if (i == s.size()) return true;
    if (s[i] == '-') {
      while (i < s.size() && s[i] == '-') ++i;
    } else if (s[i] == '.') {
      ++i;
    } else if (s[i] == '_') {
      ++i;
      if (i < s.size() && s[i] == '_') ++i;
    } else {
      return false;
    }
  }
}

bool is_host_label(std::string_view s) {
  if (s.empty() || s.front() == '-' || s.back() == '-') return false;
  return all(s, [](char c) { return lower(c) || upper(c) || digit(c) || c == '-'; });
}

bool is_registry(std::string_view s) {
  std::string_view host = s;
  if (s.starts_with('[')) {
    const std::size_t end = s.find(']');
    if (end == std::string_view::npos || end < 2) return false;
    if (!all(s.substr(1, end - 1), [](char c) { return digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F') || c == ':'; }))
      return false;
    host = s.substr(end + 1);
    if (host.empty()) return true;
    if (!host.starts_with(':')) return false;
  } else {
    host = s.substr(0, s.find(':'));
    for (std::size_t at = 0;;) {
      const std::size_t dot = host.find('.', at);
      if (!is_host_label(host.substr(at, dot == std::string_view::npos ? dot : dot - at))) return false;
      if (dot == std::string_view::npos) break;
      at = dot + 1;
    }
    host = s.substr(host.size());
  }
  if (host.empty()) return true;
  const std::string_view port = host.substr(1);
  return !port.empty() && port.size() <= 5 && all(port, digit);
}

bool is_tag(std::string_view s) {
  if (s.empty() || s.size() > 128 || s.front() == '.' || s.front() == '-') return false;
  return all(s, [](char c) { return lower(c) || upper(c) || digit(c) || c == '_' || c == '.' || c == '-'; });
}

}  // namespace

std::string Reference::text() const {
  return registry + "/" + repository + (tag.empty() ? "" : ":" + tag) + (digest.empty() ? "" : "@" + digest);
}

std::string Reference::familiar() const {
  std::string name = registry == kDockerHub ? repository : registry + "/" + repository;
  if (registry == kDockerHub && name.starts_with("library/")) name.erase(0, 8);
  if (!digest.empty()) return name + "@" + digest;
  return tag == "latest" ? name : name + ":" + tag;
}

Result<Reference> parse_reference(std::string_view name, std::string_view default_registry) {
  const auto bad = [&](const std::string& why) {
    return fail(Code::invalid_argument, "image \"" + std::string(name.substr(0, 300)) + "\": " + why);
  };
  if (name.empty()) return fail(Code::invalid_argument, "the image has no name");
  if (name.size() > 1024) return bad("longer than 1024 characters");
  Reference r;
  std::string_view rest = name;
  if (const std::size_t at = rest.find('@'); at != std::string_view::npos) {
    r.digest = rest.substr(at + 1);
    if (Status s = check_digest(r.digest); !s) return bad(s.error().message);
    rest = rest.substr(0, at);
  }
  if (const std::size_t colon = rest.rfind(':'); colon != std::string_view::npos && rest.find('/', colon) == std::string_view::npos) {
    r.tag = rest.substr(colon + 1);
    if (!is_tag(r.tag)) return bad("\"" + r.tag + "\" is no tag: letters, digits, _ . and -, at most 128");
    rest = rest.substr(0, colon);
  }
  if (r.tag.empty() && r.digest.empty()) r.tag = "latest";
  const std::size_t slash = rest.find('/');
  const std::string_view first = rest.substr(0, slash);
  if (slash != std::string_view::npos &&
      (first.find_first_of(".:[") != std::string_view::npos || first == "localhost" || std::any_of(first.begin(), first.end(), upper))) {
    if (!is_registry(first)) return bad("\"" + std::string(first) + "\" is no host name of a registry");
    r.registry = first;
    rest = rest.substr(slash + 1);
  } else {
    r.registry = default_registry;
    if (rest.size() == 64 && rest.find_first_not_of("0123456789abcdef") == std::string_view::npos)
      return bad("64 hexadecimal digits are an id; use a name, or name@sha256:digest");
  }
  if (r.registry == "index.docker.io" || r.registry == kDockerHubApi) r.registry = kDockerHub;
  if (rest.empty() || r.registry.size() + rest.size() > 255)
    return bad(rest.empty() ? "it names no repository" : "longer than 255 characters");
  for (std::size_t at = 0;;) {
    const std::size_t end = rest.find('/', at);
    const std::string_view part = rest.substr(at, end == std::string_view::npos ? end : end - at);
    if (!is_component(part))
      return bad("\"" + std::string(part) + "\" is no part of a repository's name: lower-case letters and digits, joined by . _ __ or -");
    if (end == std::string_view::npos) break;
    at = end + 1;
  }
  r.repository = rest;
  if (r.registry == kDockerHub && rest.find('/') == std::string_view::npos) r.repository.insert(0, "library/");
  return r;
}

bool is_local(std::string_view name) { return name.starts_with('/') || name.starts_with("file:"); }

Result<LocalName> parse_local(std::string_view name) {
  const auto bad = [&](const char* why) {
    return fail(Code::invalid_argument, "image \"" + std::string(name.substr(0, 300)) + "\": " + why);
  };
  LocalName out;
  std::string_view path = name;
  if (path.starts_with("file://localhost/"))
    path.remove_prefix(16);
  else if (path.starts_with("file://"))
    path.remove_prefix(7);
  if (!path.starts_with('/')) return bad("names no file; use file:///absolute/path");
  if (path.size() > 4000 || path.find('\0') != std::string_view::npos || path.find('\n') != std::string_view::npos)
    return bad("is no path");
  out.path = path;
  struct stat st {};
  if (::stat(out.path.c_str(), &st) == 0) return out;
  const std::size_t colon = path.rfind(':');
  if (colon != std::string_view::npos && path.find('/', colon) == std::string_view::npos) {
    out.path = path.substr(0, colon);
    out.tag = path.substr(colon + 1);
    if (out.tag.empty() || out.path == "/") return bad("names no file");
  }
  return out;
}

}  // namespace gantry::image_oci
