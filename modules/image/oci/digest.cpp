#include "digest.hpp"

#include <openssl/evp.h>

#include <algorithm>

namespace gantry::image_oci {

Status check_digest(std::string_view digest) {
  const auto bad = [&](const char* why) {
    return fail(Code::invalid_argument, "\"" + std::string(digest.substr(0, 200)) + "\" is no digest: " + why);
  };
  const std::string_view algorithm = algorithm_of(digest), hex = hex_of(digest);
  if (algorithm != "sha256" && algorithm != "sha512") return bad("it must begin with sha256: or sha512:");
  if (hex.size() != (algorithm == "sha256" ? 64u : 128u)) return bad("wrong length");
  if (hex.find_first_not_of("0123456789abcdef") != std::string_view::npos) return bad("not in lower-case hexadecimal digits");
  return ok;
}

struct Hasher::State {
  std::string algorithm;
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  ~State() { EVP_MD_CTX_free(context); }
};

Hasher::Hasher(std::string_view algorithm) : state_(std::make_unique<State>()) {
  state_->algorithm = algorithm;
  EVP_DigestInit_ex(state_->context, algorithm == "sha512" ? EVP_sha512() : EVP_sha256(), nullptr);
}
Hasher::~Hasher() = default;
Hasher::Hasher(Hasher&&) noexcept = default;

void Hasher::add(const void* data, std::size_t size) { EVP_DigestUpdate(state_->context, data, size); }

std::string Hasher::digest() {
  unsigned char raw[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  EVP_DigestFinal_ex(state_->context, raw, &size);
  std::string out = state_->algorithm + ":";
  for (unsigned i = 0; i < size; ++i) {
    out += "0123456789abcdef"[raw[i] >> 4];
    out += "0123456789abcdef"[raw[i] & 15];
  }
  return out;
}

std::string digest_of(std::string_view data, std::string_view algorithm) {
  Hasher h(algorithm);
  h.add(data.data(), data.size());
  return h.digest();
}

std::string_view algorithm_of(std::string_view digest) { return digest.substr(0, std::min(digest.find(':'), digest.size())); }
std::string_view hex_of(std::string_view digest) {
  const std::size_t colon = digest.find(':');
  return colon == std::string_view::npos ? std::string_view() : digest.substr(colon + 1);
}

std::string chain_id(const std::string& below, const std::string& diff_id) {
  return below.empty() ? diff_id : digest_of(below + " " + diff_id);
}

Result<std::string> base64_decode(std::string_view text) {
  while (text.ends_with('=')) text.remove_suffix(1);
  std::string out;
  out.reserve(text.size() * 3 / 4);
  std::uint32_t bits = 0;
  int count = 0;
  for (const char c : text) {
    std::uint32_t v = 0;
    if (c >= 'A' && c <= 'Z')
      v = static_cast<std::uint32_t>(c - 'A');
    else if (c >= 'a' && c <= 'z')
      v = static_cast<std::uint32_t>(c - 'a' + 26);
    else if (c >= '0' && c <= '9')
      v = static_cast<std::uint32_t>(c - '0' + 52);
    else if (c == '+' || c == '-')
      v = 62;
    else if (c == '/' || c == '_')
      v = 63;
    else
      return fail(Code::invalid_argument, "not in base64");
    bits = bits << 6 | v;
    if ((count += 6) >= 8) {
      count -= 8;
      out += static_cast<char>(bits >> count & 0xff);
    }
  }
  return out;
}

std::string base64_encode(std::string_view data) {
  static constexpr char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (std::size_t i = 0; i < data.size(); i += 3) {
    const auto at = [&](std::size_t k) { return k < data.size() ? static_cast<unsigned char>(data[k]) : 0u; };
    const std::uint32_t v = at(i) << 16 | at(i + 1) << 8 | at(i + 2);
    out += digits[v >> 18];
    out += digits[v >> 12 & 63];
    out += i + 1 < data.size() ? digits[v >> 6 & 63] : '=';
    out += i + 2 < data.size() ? digits[v & 63] : '=';
  }
  return out;
}

}  // namespace gantry::image_oci
