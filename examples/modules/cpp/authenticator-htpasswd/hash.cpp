#include "hash.hpp"

#include <crypt.h>
#include <openssl/evp.h>

#include <array>
#include <memory>
#include <vector>

namespace gantry::authenticator_htpasswd {
namespace {

using Digest = std::vector<unsigned char>;

Digest digest(const EVP_MD* kind, std::string_view data) {
  Digest out(EVP_MAX_MD_SIZE);
  unsigned int size = 0;
  if (EVP_Digest(data.data(), data.size(), out.data(), &size, kind, nullptr) != 1) size = 0;
  out.resize(size);
  return out;
}
void append(std::string& to, const Digest& d, std::size_t n) { to.append(reinterpret_cast<const char*>(d.data()), std::min(n, d.size())); }

bool equal_constant_time(std::string_view a, std::string_view b) {
  unsigned char difference = a.size() == b.size() ? 0 : 1;
  for (std::size_t i = 0; i < b.size(); ++i) difference |= static_cast<unsigned char>(b[i] ^ (i < a.size() ? a[i] : '\0'));
  return difference == 0;
}

std::string encode_base64(const Digest& d) {
  std::string out(4 * ((d.size() + 2) / 3) + 1, '\0');
  EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()), d.data(), static_cast<int>(d.size()));
  out.pop_back();
  return out;
}

// The MD5 scheme of web servers: as md5crypt, a thousand rounds, under another name.
std::string apr1(std::string_view secret, std::string_view salt) {
  const EVP_MD* md5 = EVP_md5();
  const std::string s(secret), t(salt);
  const Digest alternate = digest(md5, s + t + s);
  if (alternate.size() != 16) return {};  // a machine without MD5 lets nobody in
  std::string data = s + "$apr1$" + t;
  for (std::size_t left = s.size(); left > 0; left -= std::min<std::size_t>(left, 16)) append(data, alternate, left);
  for (std::size_t bits = s.size(); bits > 0; bits >>= 1) data += bits & 1 ? '\0' : s[0];
  Digest d = digest(md5, data);
  for (int round = 0; round < 1000; ++round) {
    std::string next;
    if (round & 1) next += s;
    else append(next, d, 16);
    if (round % 3) next += t;
    if (round % 7) next += s;
    if (round & 1) append(next, d, 16);
    else next += s;
    d = digest(md5, next);
  }
  static constexpr char alphabet[] = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
  std::string out = "$apr1$" + t + "$";
  const auto put = [&](unsigned value, int characters) {
    for (; characters > 0; --characters, value >>= 6) out += alphabet[value & 63];
  };
  static constexpr int order[5][3] = {{0, 6, 12}, {1, 7, 13}, {2, 8, 14}, {3, 9, 15}, {4, 10, 5}};
  for (const auto& o : order)
    put(static_cast<unsigned>(d[static_cast<std::size_t>(o[0])]) << 16 | static_cast<unsigned>(d[static_cast<std::size_t>(o[1])]) << 8 |
            d[static_cast<std::size_t>(o[2])], 4);
  put(d[11], 2);
  return out;
}

}  // namespace

bool known_hash(std::string_view stored) {
  return stored.starts_with("{SHA}") || (stored.starts_with('$') && stored.find('$', 1) != std::string_view::npos);
}

bool verify(const std::string& stored, std::string_view secret) {
  if (stored.starts_with("{SHA}")) return equal_constant_time("{SHA}" + encode_base64(digest(EVP_sha1(), secret)), stored);
  if (stored.starts_with("$apr1$")) {
    const std::size_t end = stored.find('$', 6);
    if (end == std::string::npos || end > 6 + 8) return false;
    return equal_constant_time(apr1(secret, std::string_view(stored).substr(6, end - 6)), stored);
  }
  // bcrypt and the rest of crypt(5). crypt_r, for several of these run on the blocking pool at once; 32 KiB, so not on
  // the stack. A secret with a zero byte would be cut short by it.
  if (!stored.starts_with('$') || secret.find('\0') != std::string_view::npos) return false;
  auto data = std::make_unique<crypt_data>();
  const char* hash = crypt_r(std::string(secret).c_str(), stored.c_str(), data.get());
  return hash && hash[0] != '*' && equal_constant_time(hash, stored);
}

std::optional<std::string> decode_base64(std::string_view text) {
  const std::size_t used = std::min(text.find('='), text.size());
  const std::size_t padding = text.size() - used;
  if (text.size() % 4 != 0 || padding > 2 || text.find_first_not_of('=', used) != std::string_view::npos) return std::nullopt;
  std::string out(text.size() / 4 * 3, '\0');
  const int n = EVP_DecodeBlock(reinterpret_cast<unsigned char*>(out.data()), reinterpret_cast<const unsigned char*>(text.data()),
                                static_cast<int>(text.size()));
  if (n != static_cast<int>(out.size())) return std::nullopt;
  out.resize(out.size() - padding);
  return out;
}

}  // namespace gantry::authenticator_htpasswd
