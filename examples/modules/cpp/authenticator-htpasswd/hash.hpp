// What stands behind the colon of an htpasswd line. Pure functions: no host, no files, so they are tested as they are.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace gantry::authenticator_htpasswd {

// True if `stored` has a form that verify() knows.
[[nodiscard]] bool known_hash(std::string_view stored);

// True if the secret belongs to the stored hash. Costs milliseconds for bcrypt: not for the strand. Compares in a time
// that does not depend on where the two differ.
[[nodiscard]] bool verify(const std::string& stored, std::string_view secret);

// "user:secret" out of the parameters of an HTTP Basic header; nothing if they are no base64.
[[nodiscard]] std::optional<std::string> decode_base64(std::string_view text);

}  // namespace gantry::authenticator_htpasswd
