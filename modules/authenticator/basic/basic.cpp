#include "basic.hpp"

#include <crypt.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace gantry::authenticator_basic {
namespace {

bool equal_constant_time(std::string_view a, std::string_view b) {
  unsigned char difference = a.size() == b.size() ? 0 : 1;
  for (std::size_t i = 0; i < b.size(); ++i) difference |= static_cast<unsigned char>(b[i] ^ (i < a.size() ? a[i] : '\0'));
  return difference == 0;
}

}  // namespace

Result<Credentials> parse_credentials(std::string_view content, const std::string& origin) {
  Credentials out;
  std::size_t number = 0;
  while (!content.empty()) {
    const std::size_t end = std::min(content.find('\n'), content.size());
    std::string_view line = content.substr(0, end);
    content.remove_prefix(std::min(end + 1, content.size()));
    ++number;
    while (!line.empty() && (line.back() == '\r' || line.back() == ' ')) line.remove_suffix(1);
    if (line.empty() || line.front() == '#') continue;
    const std::string where = origin + ":" + std::to_string(number) + ": ";
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos || colon == 0)
      return fail(Code::invalid_argument, where + "expected principal:secret", "credentials");
    const std::string_view secret = line.substr(colon + 1);
    if (!secret.starts_with("{PLAIN}") && !secret.starts_with('$'))
      return fail(Code::invalid_argument, where + "the secret of \"" + std::string(line.substr(0, colon)) +
                                              "\" is neither a crypt(5) hash ($...) nor {PLAIN}text", "credentials");
    if (!out.emplace(line.substr(0, colon), secret).second)
      return fail(Code::invalid_argument, where + "principal \"" + std::string(line.substr(0, colon)) + "\" is listed twice", "credentials");
  }
  return out;
}

Result<std::string> decode_base64(std::string_view text) {
  std::string out;
  std::uint32_t bits = 0;
  int have = 0;
  std::size_t padding = 0;
  for (const char c : text) {
    int v = 0;
    if (c >= 'A' && c <= 'Z') v = c - 'A';
    else if (c >= 'a' && c <= 'z') v = c - 'a' + 26;
    else if (c >= '0' && c <= '9') v = c - '0' + 52;
    else if (c == '+') v = 62;
    else if (c == '/') v = 63;
    else if (c == '=' && padding < 2) {
      ++padding;
      continue;
    } else return fail(Code::unauthenticated, "the credentials are not base64");
    if (padding) return fail(Code::unauthenticated, "the credentials are not base64");
    bits = bits << 6 | static_cast<std::uint32_t>(v);
    have += 6;
    if (have >= 8) {
      have -= 8;
      out += static_cast<char>(bits >> have & 0xff);
    }
  }
  if (have >= 6) return fail(Code::unauthenticated, "the credentials are not base64");
  return out;
}

bool matches(const std::string& stored, std::string_view secret) {
  if (secret.find('\0') != std::string_view::npos) return false;  // crypt would compare only what stands before it
  if (stored.starts_with("{PLAIN}")) return equal_constant_time(secret, std::string_view(stored).substr(7));
  auto data = std::make_unique<crypt_data>();
  const char* hash = crypt_r(std::string(secret).c_str(), stored.c_str(), data.get());
  return hash && hash[0] != '*' && equal_constant_time(hash, stored);
}

Result<Basic::Loaded> Basic::load(const std::string& path, const Loaded& before) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return fail(Code::failed_precondition, "credentials " + path + ": " + std::strerror(errno) + "; make the file, owned by the daemon's user, mode 0600", "credentials");
  struct Close {
    int fd;
    ~Close() { ::close(fd); }
  } close{fd};
  struct stat st{};
  if (::fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) return fail(Code::failed_precondition, "credentials " + path + " is not a regular file", "credentials");
  if (st.st_mode & (S_IRWXO | S_IWGRP))
    return fail(Code::failed_precondition, "credentials " + path + " can be read or changed by others; chmod 0600 it", "credentials");
  const std::int64_t stamp = st.st_mtim.tv_sec * 1'000'000'000 + st.st_mtim.tv_nsec;
  if (before.credentials && before.stamp == stamp) return before;
  std::string content;
  char block[16384];
  ssize_t n = 0;
  while ((n = ::read(fd, block, sizeof block)) > 0 && content.size() < (16u << 20)) content.append(block, static_cast<std::size_t>(n));
  if (n < 0) return fail(Code::failed_precondition, "credentials " + path + ": " + std::strerror(errno), "credentials");
  GANTRY_TRY(auto credentials, parse_credentials(content, path));
  return Loaded{std::make_shared<const Credentials>(std::move(credentials)), stamp};
}

Task<Status> Basic::configure(Settings settings) {
  path_ = settings.text("credentials");
  realm_ = settings.text("realm");
  auto loading = host().offload([path = path_] { return load(path, {}); });
  GANTRY_CO_TRY(loaded_, co_await std::move(loading));
  co_return ok;
}

Task<Result<fb::authenticator::IdentityT>> Basic::authenticate(Request<fb::authenticator::Credentials> request) {
  std::string principal{text(request->principal())};
  std::string secret{text(request->secret())};
  const std::string_view scheme = text(request->scheme());
  if (scheme == "basic") {
    GANTRY_CO_TRY(const std::string pair, decode_base64(text(request->parameters())));
    const std::size_t colon = pair.find(':');
    if (colon == std::string::npos) co_return fail(Code::unauthenticated, "the credentials have no ':'");
    principal = pair.substr(0, colon);
    secret = pair.substr(colon + 1);
  } else if (!scheme.empty()) {
    co_return fail(Code::unimplemented, "scheme \"" + std::string(scheme) + "\" is not basic");
  }
  struct Checked {
    Result<Loaded> loaded;
    bool good;
  };
  auto checking = host().offload([path = path_, before = loaded_, principal, secret] {
    Checked c{load(path, before), false};
    // A file that became unreadable does not lock everybody out: the last good one counts.
    const Loaded& use = c.loaded ? *c.loaded : before;
    const auto it = use.credentials->find(principal);
    // An unknown principal costs the same as a wrong secret.
    const bool match = matches(it == use.credentials->end() ? std::string("{PLAIN}") : it->second, secret);
    c.good = match && it != use.credentials->end() && !secret.empty();
    return c;
  });
  const Checked checked = co_await std::move(checking);
  if (checked.loaded) {
    loaded_ = *checked.loaded;
    reported_ = false;
  } else if (!std::exchange(reported_, true)) {
    host().warning(checked.loaded.error().message + "; the credentials read last stay in force");
  }
  if (!checked.good) co_return fail(Code::unauthenticated, "unknown principal or wrong secret");
  fb::authenticator::IdentityT identity;
  identity.principal = principal;
  co_return identity;
}

Task<Result<fb::authenticator::ChallengeT>> Basic::challenge(Request<fb::authenticator::Challenge> request) {
  fb::authenticator::ChallengeT out;
  out.realm = text(request->realm());
  if (out.realm.empty()) out.realm = realm_;
  out.value = "Basic realm=\"" + out.realm + "\"";
  co_return out;
}

}  // namespace gantry::authenticator_basic
