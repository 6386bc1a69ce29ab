#include "htpasswd.hpp"

#include "hash.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace gantry::authenticator_htpasswd {
namespace {

constexpr std::size_t kLongestFile = 16u << 20;

}  // namespace

Result<Users> parse(std::string_view content, const std::string& origin) {
  Users out;
  for (std::size_t number = 1; !content.empty(); ++number) {
    const std::size_t end = std::min(content.find('\n'), content.size());
    std::string_view line = content.substr(0, end);
    content.remove_prefix(std::min(end + 1, content.size()));
    while (!line.empty() && (line.back() == '\r' || line.back() == ' ')) line.remove_suffix(1);
    if (line.empty() || line.front() == '#') continue;
    const std::string where = origin + ":" + std::to_string(number) + ": ";
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos || colon == 0)
      return fail(Code::invalid_argument, where + "expected user:hash, as `htpasswd -B` writes it", "file");
    const std::string user(line.substr(0, colon));
    if (!known_hash(line.substr(colon + 1)))
      return fail(Code::invalid_argument, where + "the hash of \"" + user + "\" is none of bcrypt, apr1, {SHA}, crypt(5); make it with `htpasswd -B`", "file");
    if (!out.emplace(user, line.substr(colon + 1)).second)
      return fail(Code::invalid_argument, where + "user \"" + user + "\" is listed twice", "file");
  }
  return out;
}

// Reads the file if it changed since `before`. Runs on the blocking pool: the disk may be slow or remote.
Result<Htpasswd::Loaded> Htpasswd::load(const std::string& path, const Loaded& before) {
  const auto wrong = [&](std::string why) { return fail(Code::failed_precondition, "htpasswd file " + path + why, "file"); };
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // O_NONBLOCK: a fifo would hold us for ever
  if (fd < 0) return wrong(std::string(": ") + std::strerror(errno) + "; make it with `htpasswd -Bc`");
  const struct Close {
    int fd;
    ~Close() { ::close(fd); }
  } close{fd};
  struct stat st {};
  if (::fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) return wrong(" is no regular file");
  if (st.st_mode & S_IWOTH) return wrong(" can be changed by anybody; chmod o-w it");
  Loaded now{nullptr, st.st_mtim.tv_sec * 1'000'000'000 + st.st_mtim.tv_nsec, st.st_size, st.st_ino};
  if (before.users && before.changed_ns == now.changed_ns && before.size == now.size && before.inode == now.inode) return before;
  if (static_cast<std::size_t>(st.st_size) > kLongestFile) return wrong(" is larger than 16 MiB");
  std::string content;
  char block[16384];
  ssize_t n = 0;
  while ((n = ::read(fd, block, sizeof block)) > 0 && content.size() <= kLongestFile) content.append(block, static_cast<std::size_t>(n));
  if (n < 0) return wrong(std::string(": ") + std::strerror(errno));
  GANTRY_TRY(Users users, parse(content, path));
  now.users = std::make_shared<const Users>(std::move(users));
  return now;
}

Task<Status> Htpasswd::configure(Settings settings) {
  realm_ = settings.text("realm");
  if (settings.reload()) co_return ok;  // `file` is not marked reloadable, so it is the same
  path_ = settings.text("file");
  // Two steps: gcc 12 destroys twice what a lambda inside a co_await expression has captured.
  auto loading = host().offload([path = path_] { return load(path, {}); });
  GANTRY_CO_TRY(loaded_, co_await std::move(loading));
  co_return ok;
}

Task<Result<fb::authenticator::IdentityT>> Htpasswd::authenticate(Request<fb::authenticator::Credentials> request) {
  std::string user{text(request->principal())}, secret{text(request->secret())};
  const std::string_view scheme = text(request->scheme());
  if (scheme == "basic") {
    const auto pair = decode_base64(text(request->parameters()));
    const std::size_t colon = pair ? pair->find(':') : std::string::npos;
    if (colon == std::string::npos) co_return fail(Code::unauthenticated, "the credentials are no base64 of user:secret");
    user = pair->substr(0, colon);
    secret = pair->substr(colon + 1);
  } else if (!scheme.empty()) {
    // Not ours: the kernel asks the next authenticator.
    co_return fail(Code::unimplemented, "scheme \"" + std::string(scheme) + "\" is not basic");
  }
  struct Checked {
    Result<Loaded> loaded;
    bool good = false;
  };
  // Hashing takes milliseconds by design. On the strand it would hold up everybody who waits to be let in.
  auto checking = host().offload([path = path_, before = loaded_, user, secret] {
    Checked c{load(path, before)};
    const Users& users = *(c.loaded ? c.loaded->users : before.users);
    const auto it = users.find(user);
    // An unknown user costs the same work as a known one, or timing would tell who exists.
    const bool match = !users.empty() && verify(it == users.end() ? users.begin()->second : it->second, secret);
    c.good = match && it != users.end() && !secret.empty();  // a file may hold the hash of nothing
    return c;
  });
  Checked checked = co_await std::move(checking);
  if (checked.loaded) {
    loaded_ = std::move(*checked.loaded);
    reported_ = false;
  } else if (!std::exchange(reported_, true)) {
    // A file broken by an editor must not lock everybody out, nor fill the log.
    host().warning(checked.loaded.error().message + "; what was read last stays in force");
  }
  // One sentence for both, so that it does not tell who exists.
  if (!checked.good) co_return fail(Code::unauthenticated, "unknown user or wrong secret");
  fb::authenticator::IdentityT identity;
  identity.principal = user;
  co_return identity;
}

Task<Result<fb::authenticator::ChallengeT>> Htpasswd::challenge(Request<fb::authenticator::Challenge> request) {
  fb::authenticator::ChallengeT out;
  out.realm = text(request->realm());
  if (out.realm.empty()) out.realm = realm_;
  out.value = "Basic realm=\"" + out.realm + "\"";
  co_return out;
}

}  // namespace gantry::authenticator_htpasswd
