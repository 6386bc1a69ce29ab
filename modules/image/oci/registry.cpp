#include "registry.hpp"

#include "json.hpp"

#include <algorithm>
#include <thread>

namespace gantry::image_oci {
namespace {

constexpr const char* kAccept =
    "Accept: application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, "
    "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json, "
    "application/vnd.docker.distribution.manifest.v1+prettyjws;q=0.5, application/vnd.docker.distribution.manifest.v1+json;q=0.5";

bool space(char c) { return c == ' ' || c == '\t'; }

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }

std::string lowered(std::string_view s) {
  std::string out(s);
  std::transform(out.begin(), out.end(), out.begin(), lower);
  return out;
}

// Text of a server in a message of ours: short, and nothing that a terminal obeys.
std::string shown(std::string_view text) {
  std::string out(text.substr(0, 300));
  for (char& c : out)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  return out;
}

// {"errors": [{"code": ..., "message": ...}]}, or nothing.
std::string server_says(const std::string& body) {
  const auto object = parse_object(body, "");
  if (!object) return {};
  const auto errors = Fields(*object, "").objects("errors");
  if (!errors || errors->empty()) return {};
  const auto code = (*errors)[0].text("code"), message = (*errors)[0].text("message");
  const std::string text = message && !message->empty() ? *message : code ? *code : std::string();
  return text.empty() ? text : " (" + shown(text) + ")";
}

Error status_error(const HttpAnswer& a) {
  const std::string what = "the server answered " + std::to_string(a.status) + server_says(a.body);
  switch (a.status) {
    case 401:
      return fail(Code::unauthenticated, what + "; it does not know the account, or there is no such image");
    case 403:
      return fail(Code::permission_denied, what);
    case 404:
    case 410:
      return fail(Code::not_found, what);
    case 416:
      return fail(Code::out_of_range, what);
    default:
      break;
  }
  Error e = fail(a.status == 429 ? Code::resource_exhausted : Code::unavailable, what);
  if (a.status == 429 || a.status == 408 || a.status >= 500)
    e.retry_after_ns = static_cast<std::uint64_t>(std::max<std::int64_t>(1, a.retry_after.count()));
  return e;
}

std::string host_of(std::string_view url) {
  const std::size_t begin = url.find("://");
  if (begin == std::string_view::npos) return {};
  url.remove_prefix(begin + 3);
  return std::string(url.substr(0, url.find_first_of("/?#")));
}

}  // namespace

bool is_insecure(const std::string& host_port, const std::vector<std::string>& listed) {
  const std::string at = lowered(host_port);
  std::string host = at.substr(0, at.starts_with('[') ? at.find(']') + 1 : at.find(':'));
  // Nobody listens on the way to this machine itself.
  if (host == "localhost" || host == "[::1]" || (host.starts_with("127.") && host.find_first_not_of("0123456789.") == std::string::npos))
    return true;
  return std::any_of(listed.begin(), listed.end(), [&](const std::string& each) {
    const std::string one = lowered(each);
    if (one.starts_with("*.")) return host.size() > one.size() - 1 && host.ends_with(one.substr(1));
    return one == at || one == host;
  });
}

Challenge parse_challenge(std::string_view header) {
  Challenge c;
  const std::size_t end = std::min(header.find(' '), header.size());
  const std::string scheme = lowered(header.substr(0, end));
  if (scheme != "bearer" && scheme != "basic") return c;
  c.scheme = scheme;
  std::string_view rest = header.substr(end);
  while (true) {
    while (!rest.empty() && (space(rest.front()) || rest.front() == ',')) rest.remove_prefix(1);
    const std::size_t equal = rest.find('=');
    if (equal == std::string_view::npos) return c;
    const std::string key = lowered(rest.substr(0, equal));
    rest.remove_prefix(equal + 1);
    std::string value;
    if (rest.starts_with('"')) {
      std::size_t i = 1;
      for (; i < rest.size() && rest[i] != '"'; ++i) {
        if (rest[i] == '\\' && i + 1 < rest.size()) ++i;
        value += rest[i];
      }
      rest.remove_prefix(std::min(i + 1, rest.size()));
    } else {
      const std::size_t comma = std::min(rest.find(','), rest.size());
      value = rest.substr(0, comma);
      rest.remove_prefix(comma);
    }
    if (c.parameters.size() < 16) c.parameters.emplace(key, std::move(value));
  }
}

bool passing(const Error& e) { return e.code == Code::unavailable || e.code == Code::deadline_exceeded || e.retry_after_ns > 0; }

bool back_off(unsigned failed, std::chrono::milliseconds first, std::chrono::nanoseconds at_least, const Cancelled& cancelled) {
  std::chrono::nanoseconds wait = std::min<std::chrono::nanoseconds>(first * (1 << std::min(failed - 1, 10u)), std::chrono::seconds(10));
  wait = std::max(wait, std::min<std::chrono::nanoseconds>(at_least, std::chrono::minutes(2)));
  const auto end = std::chrono::steady_clock::now() + wait;
  while (std::chrono::steady_clock::now() < end) {
    if (cancelled()) return false;
    std::this_thread::sleep_for(std::min<std::chrono::nanoseconds>(std::chrono::milliseconds(50), end - std::chrono::steady_clock::now()));
  }
  return !cancelled();
}

Registry::Registry(Reference reference, RegistryOptions options, std::optional<Account> account, std::vector<Credentials> accounts)
    : reference_(std::move(reference)),
      options_(std::move(options)),
      account_(std::move(account)),
      accounts_(std::move(accounts)),
      endpoints_(endpoints()) {}

std::vector<Registry::Endpoint> Registry::endpoints() const {
  std::vector<Endpoint> out;
  const auto add = [&](const std::string& scheme, const std::string& rest, const std::string& credential, bool mirror) {
    const std::string host = rest.substr(0, rest.find('/'));
    const bool insecure = is_insecure(host, options_.insecure);
    if (scheme != "http") out.push_back({"https://" + rest, host, credential, !insecure, mirror});
    if (scheme == "http" || (scheme.empty() && insecure)) out.push_back({"http://" + rest, host, credential, true, mirror});
  };
  if (const auto it = options_.mirrors.find(reference_.registry); it != options_.mirrors.end())
    for (std::string url : it->second) {
      while (url.ends_with('/')) url.pop_back();
      const std::size_t colon = url.find("://");
      const std::string rest = colon == std::string::npos ? url : url.substr(colon + 3);
      add(colon == std::string::npos ? "" : url.substr(0, colon), rest, rest.substr(0, rest.find('/')), true);
    }
  add("", reference_.registry == kDockerHub ? std::string(kDockerHubApi) : reference_.registry, reference_.registry, false);
  return out;
}

Result<std::optional<Account>> Registry::account_of(const Endpoint& e, const Cancelled& cancelled) const {
  if (account_ && !e.mirror) return account_;
  for (const Credentials& c : accounts_) {
    GANTRY_TRY(auto found, c.find(e.credential, reference_.repository, cancelled));
    if (found) return found;
  }
  return std::optional<Account>();
}

Result<std::string> Registry::authorize(Http& http, const Endpoint& e, const std::vector<std::string>& challenges,
                                        const Cancelled& cancelled) {
  GANTRY_TRY(const auto account, account_of(e, cancelled));
  if (account && !account->registry_token.empty()) return "Bearer " + account->registry_token;
  const bool user = account && !account->user.empty();
  const std::string basic = user ? "Basic " + base64_encode(account->user + ":" + account->secret) : std::string();
  Challenge c;
  for (const std::string& each : challenges) {
    Challenge now = parse_challenge(each);
    if (c.scheme.empty() || now.scheme == "bearer") c = std::move(now);
  }
  if (c.scheme == "basic") {
    if (!user)
      return fail(Code::unauthenticated,
                  "it wants an account, and there is none for it; name one in the file of `credentials`, or with the image");
    return basic;
  }
  if (c.scheme != "bearer") return fail(Code::unauthenticated, "it refuses without saying how to authenticate");
  const std::string realm = c.parameters["realm"];
  if (!realm.starts_with("https://") && !realm.starts_with("http://"))
    return fail(Code::unauthenticated, "its token service \"" + shown(realm) + "\" is no http URL");
  if (!realm.starts_with("https://") && e.base.starts_with("https://") && e.verify)
    return fail(Code::permission_denied,
                "its token service " + shown(realm) + " is not encrypted, although the registry is; accounts are not sent there");
  std::string scope = c.parameters["scope"];
  if (scope.empty()) scope = "repository:" + reference_.repository + ":pull";
  HttpRequest q;
  q.url = realm;
  q.registry = host_of(realm);
  q.verify = !is_insecure(q.registry, options_.insecure);
  if (account && !account->identity_token.empty()) {
    q.form = "grant_type=refresh_token&client_id=gantry&service=" + percent_encode(c.parameters["service"]) +
             "&scope=" + percent_encode(scope) + "&refresh_token=" + percent_encode(account->identity_token);
  } else {
    q.url += (realm.find('?') == std::string::npos ? "?" : "&") + std::string("service=") + percent_encode(c.parameters["service"]) +
             "&scope=" + percent_encode(scope);
    if (user) {
      q.url += "&account=" + percent_encode(account->user);
      q.headers.push_back("Authorization: " + basic);
    }
  }
  auto answer = http.exchange(q, 1 << 20, {}, cancelled);
  if (!answer) return std::move(answer).error().because("token service " + q.registry);
  if (answer->status != 200) return status_error(*answer).because("token service " + q.registry);
  GANTRY_TRY(const json::object object, parse_object(answer->body, "the answer of token service " + q.registry));
  const Fields f(object, "the answer of token service " + q.registry + ":");
  GANTRY_TRY(std::string token, f.text("token"));
  if (token.empty()) {
    GANTRY_TRY(token, f.text("access_token"));
  }
  if (token.empty() || std::any_of(token.begin(), token.end(), [](char ch) { return ch < 0x21 || ch > 0x7e; }))
    return fail(Code::unauthenticated, "token service " + q.registry + " gave no usable token");
  return "Bearer " + token;
}

Result<HttpAnswer> Registry::get(Http& http, const Endpoint& e, HttpRequest request, std::size_t limit, const Http::Sink& sink,
                                 const Cancelled& cancelled) {
  const std::vector<std::string> headers = request.headers;
  request.verify = e.verify;
  request.registry = e.host;
  for (int attempt = 0;; ++attempt) {
    {
      const std::lock_guard lock(mutex_);
      request.headers = headers;
      if (const auto it = authorization_.find(e.base); it != authorization_.end())
        request.headers.push_back("Authorization: " + it->second);
    }
    auto answer = http.exchange(request, limit, sink, cancelled);
    if (!answer) return std::move(answer).error().because(e.base);
    if (answer->status == 200 || answer->status == 206) return answer;
    // Twice: a token may have run out in between.
    if (answer->status != 401 || attempt == 2) return status_error(*answer).because(e.base);
    if (attempt == 1 && request.headers.size() == headers.size()) return status_error(*answer).because(e.base);
    auto value = authorize(http, e, answer->challenges, cancelled);
    if (!value) return std::move(value).error().because(e.base);
    const std::lock_guard lock(mutex_);
    authorization_[e.base] = std::move(*value);
  }
}

Result<HttpAnswer> Registry::get_anywhere(Http& http, const std::string& path, const std::vector<std::string>& headers, std::size_t limit,
                                          const Cancelled& cancelled) {
  for (unsigned failed = 0;;) {
    std::size_t first = 0;
    {
      const std::lock_guard lock(mutex_);
      first = answered_;
    }
    Error last = fail(Code::internal, "no endpoint");
    bool hope = false;
    for (std::size_t i = first; i < endpoints_.size(); ++i) {
      HttpRequest q;
      q.url = endpoints_[i].base + path;
      q.headers = headers;
      auto answer = get(http, endpoints_[i], std::move(q), limit, {}, cancelled);
      if (answer) {
        const std::lock_guard lock(mutex_);
        answered_ = i;
        return answer;
      }
      last = std::move(answer).error();
      if (last.code == Code::cancelled) return last;
      hope = hope || passing(last);
      if (endpoints_[i].mirror) continue;
      if (!passing(last)) return last;
      if (last.retry_after_ns > 0) break;  // it is there: no reason to try without TLS
    }
    if (!hope || ++failed > options_.attempts) return last;
    if (!back_off(failed, options_.back_off, std::chrono::nanoseconds(last.retry_after_ns), cancelled)) return cancelled_error();
  }
}

Result<Registry::Document> Registry::manifest(const std::string& version, const std::string& expected, const Cancelled& cancelled) {
  Http http(options_.http);
  GANTRY_TRY(HttpAnswer a, get_anywhere(http, "/v2/" + reference_.repository + "/manifests/" + version, {kAccept}, kMaxJson, cancelled));
  Document d{std::move(a.body), {}, std::move(a.content_type)};
  const std::string wanted = !expected.empty() ? expected : check_digest(a.content_digest) ? a.content_digest : std::string();
  const std::string_view algorithm = wanted.empty() ? "sha256" : algorithm_of(wanted);
  d.digest = digest_of(d.body, algorithm);
  if (!wanted.empty() && d.digest != wanted) {
    const auto part = signed_part(d.body);  // schema 1
    if (!part || digest_of(*part, algorithm) != wanted)
      return fail(Code::data_loss, "the manifest is not what its digest says: expected " + wanted + ", got " + d.digest);
    d.digest = wanted;
  }
  return d;
}

Result<std::string> Registry::small_blob(const Descriptor& b, const Cancelled& cancelled) {
  Http http(options_.http);
  GANTRY_TRY(HttpAnswer a, get_anywhere(http, "/v2/" + reference_.repository + "/blobs/" + b.digest, {}, kMaxJson, cancelled));
  const std::string digest = digest_of(a.body, algorithm_of(b.digest));
  if (digest != b.digest)
    return fail(Code::data_loss, "the image's configuration is not what its digest says: expected " + b.digest + ", got " + digest);
  return std::move(a.body);
}

Result<Resolved> Registry::resolve(const Platform& platform, const Cancelled& cancelled) {
  GANTRY_TRY(Document d, manifest(reference_.version(), reference_.digest, cancelled));
  Resolved r;
  r.digest = d.digest;
  GANTRY_TRY(Manifest m, parse_manifest(d.body, d.media_type));
  for (int depth = 0; m.form == Manifest::Form::list; ++depth) {
    if (depth == 3) return fail(Code::invalid_argument, "lists of manifests within lists, more than three deep");
    GANTRY_TRY(const Descriptor one, choose(m.manifests, platform));
    GANTRY_TRY(d, manifest(one.digest, one.digest, cancelled));
    GANTRY_TRY(m, parse_manifest(d.body, d.media_type));
  }
  const bool schema1 = m.form == Manifest::Form::schema1;
  if (schema1) {
    r.config_text = std::move(m.config_text);
    r.config_digest = digest_of(r.config_text);
  } else {
    r.config_digest = m.config.digest;
    GANTRY_TRY(r.config_text, small_blob(m.config, cancelled));
  }
  r.layers = std::move(m.layers);
  GANTRY_CHECK(check_resolved(r, platform, schema1));
  return r;
}

Result<std::shared_ptr<Transfer>> Registry::open(const Descriptor&, const std::string& path) { return Transfer::to_file(path); }

Status Registry::fetch(Http& http, const Endpoint& e, const Descriptor& layer, Transfer& into, Hasher& hasher, const Cancelled& cancelled) {
  HttpRequest q;
  q.url = e.base + "/v2/" + reference_.repository + "/blobs/" + layer.digest;
  q.from = into.received();
  std::uint64_t skip = 0;
  bool begun = false;
  const Http::Sink sink = [&](const HttpAnswer& head, const char* data, std::size_t size) -> Status {
    if (!begun) {
      begun = true;
      if (head.status == 206 && head.range_from != q.from)
        return fail(Code::data_loss, "the server answered with the bytes from " + std::to_string(head.range_from) +
                                         " when asked for those from " + std::to_string(q.from));
      if (head.status == 200) skip = q.from;  // it knows no ranges: what we have comes again
    }
    const std::size_t drop = static_cast<std::size_t>(std::min<std::uint64_t>(skip, size));
    skip -= drop;
    data += drop;
    size -= drop;
    if (layer.size > 0 && into.received() + size > layer.size)
      return fail(Code::data_loss, "the server sends more than the " + std::to_string(layer.size) + " bytes that the manifest says");
    hasher.add(data, size);
    return into.append(data, size);
  };
  const auto answer = get(http, e, std::move(q), 0, sink, cancelled);
  if (!answer) return answer.error();
  if (layer.size > 0 && into.received() < layer.size)
    return fail(Code::unavailable,
                e.base + ": the server ended after " + std::to_string(into.received()) + " of " + std::to_string(layer.size) + " bytes");
  return ok;
}

void Registry::bring(const Descriptor& layer, Transfer& into, const Cancelled& cancelled) {
  Hasher hasher(algorithm_of(layer.digest));
  std::string block(256 * 1024, '\0');
  for (std::uint64_t at = 0; at < into.received();) {
    if (cancelled()) return into.end(cancelled_error());
    const auto n = into.peek(at, block.data(), static_cast<std::size_t>(std::min<std::uint64_t>(block.size(), into.received() - at)));
    if (!n) return into.end(n.error());
    hasher.add(block.data(), *n);
    at += *n;
  }
  Http http(options_.http);
  std::vector<bool> useless(endpoints_.size());
  std::size_t at = 0;
  {
    const std::lock_guard lock(mutex_);
    at = answered_;
  }
  unsigned failed = 0;
  while (layer.size == 0 || into.received() < layer.size) {
    const std::uint64_t before = into.received();
    Status s = fetch(http, endpoints_[at], layer, into, hasher, cancelled);
    if (s || s.error().code == Code::out_of_range) break;  // nothing behind what we have: the digest will tell
    if (s.error().code == Code::cancelled || s.error().code == Code::data_loss) return into.end(std::move(s));
    if (into.received() > before + (1 << 20)) failed = 0;
    if (!passing(s.error())) useless[at] = true;
    const bool last_hope = std::all_of(useless.begin() + static_cast<std::ptrdiff_t>(at), useless.end(), [](bool u) { return u; });
    if (!passing(s.error()) && last_hope) return into.end(std::move(s));
    // Who answered the manifest comes first again and again; others only if it has nothing to say.
    if (useless[at]) {
      while (useless[at]) ++at;
      continue;
    }
    if (++failed > options_.attempts) return into.end(std::move(s));
    if (!back_off(failed, options_.back_off, std::chrono::nanoseconds(s.error().retry_after_ns), cancelled))
      return into.end(cancelled_error());
  }
  const std::string digest = hasher.digest();
  if (digest != layer.digest) return into.end(fail(Code::data_loss, "its bytes are not what the digest says: they have " + digest));
  into.end(ok);
}

Status check_resolved(Resolved& r, const Platform& wanted, bool schema1) {
  // It is kept, as text within a record, so half of what a record may have is the most.
  if (r.config_text.size() > kMaxJson / 2 - 65536)
    return fail(Code::resource_exhausted, "its configuration has " + std::to_string(r.config_text.size()) + " bytes");
  GANTRY_TRY(r.config, parse_config(r.config_text));
  const Platform& p = r.config.platform;
  if (!p.os.empty() && (p.os != wanted.os || (!p.architecture.empty() && p.architecture != wanted.architecture)))
    return fail(Code::failed_precondition, "it is for " + p.text() + ", this agent runs images for " + wanted.text());
  if (schema1) {
    r.config.diff_ids.clear();
    return ok;
  }
  if (r.config.diff_ids.size() != r.layers.size())
    return fail(Code::invalid_argument, "its manifest has " + std::to_string(r.layers.size()) + " layers, its configuration " +
                                            std::to_string(r.config.diff_ids.size()));
  return ok;
}

}  // namespace gantry::image_oci
