#include "@NAME_ID@.hpp"

namespace @NAME_ID@ {

using namespace gantry;

namespace {

// The same time wherever the two differ: answers must not tell how much of a secret was right.
bool equal(std::string_view given, std::string_view stored) {
  unsigned char difference = given.size() == stored.size() ? 0 : 1;
  for (std::size_t i = 0; i < stored.size(); ++i)
    difference |= static_cast<unsigned char>(stored[i] ^ (i < given.size() ? given[i] : '\0'));
  return difference == 0;
}

}  // namespace

std::string decode_base64(std::string_view text) {
  static constexpr std::string_view alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  while (!text.empty() && text.back() == '=') text.remove_suffix(1);
  std::string out;
  std::uint32_t bits = 0;
  int have = 0;
  for (const char c : text) {
    const std::size_t value = alphabet.find(c);
    if (value == std::string_view::npos) return {};
    bits = bits << 6 | static_cast<std::uint32_t>(value);
    if ((have += 6) >= 8) out += static_cast<char>(bits >> (have -= 8) & 0xff);
  }
  return out;
}

Task<Status> @CLASS@::configure(Settings settings) {
  principal_ = settings.text("principal");
  secret_ = settings.text("secret");
  if (secret_.empty()) co_return fail(Code::invalid_argument, "secret is empty: nobody could be let in", "secret");
  co_return ok;
}

// Three answers: an identity; UNAUTHENTICATED; UNIMPLEMENTED for a scheme that is not ours, so that the next module is asked.
// What takes long (a hash, a directory server) belongs into host().offload or host().request, never on the strand.
Task<Result<fb::authenticator::IdentityT>> @CLASS@::authenticate(Request<fb::authenticator::Credentials> request) {
  // Links of agents give principal and secret as they are; listeners the scheme and parameters of the Authorization header.
  std::string principal{text(request->principal())}, secret{text(request->secret())};
  const std::string_view scheme = text(request->scheme());
  if (scheme == "basic") {
    const std::string pair = decode_base64(text(request->parameters()));
    const std::size_t colon = std::min(pair.find(':'), pair.size());
    principal = pair.substr(0, colon);
    secret = pair.substr(std::min(colon + 1, pair.size()));
  } else if (!scheme.empty()) {
    co_return fail(Code::unimplemented, "scheme \"" + std::string(scheme) + "\" is not basic");
  }
  const bool known = equal(principal, principal_), right = equal(secret, secret_);
  // One sentence for both: it must not tell who exists.
  if (!known || !right) co_return fail(Code::unauthenticated, "unknown principal or wrong secret");
  fb::authenticator::IdentityT identity;
  identity.principal = principal;
  co_return identity;
}

Task<Result<fb::authenticator::ChallengeT>> @CLASS@::challenge(Request<fb::authenticator::Challenge> request) {
  fb::authenticator::ChallengeT out;
  out.realm = text(request->realm());
  out.value = "Basic realm=\"" + out.realm + "\"";
  co_return out;
}

}  // namespace @NAME_ID@
