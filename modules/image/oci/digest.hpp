// Digests of content, "sha256:<64 hex>" or "sha512:<128 hex>", as OCI's image-spec defines them.
#pragma once

#include <gantry/result.hpp>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace gantry::image_oci {

// INVALID_ARGUMENT for another algorithm, a wrong length, upper case: then it could be no file's name either.
[[nodiscard]] Status check_digest(std::string_view digest);

class Hasher {
 public:
  // `algorithm` is what stands before the colon of a checked digest.
  explicit Hasher(std::string_view algorithm = "sha256");
  ~Hasher();
  Hasher(Hasher&&) noexcept;
  void add(const void* data, std::size_t size);
  // "sha256:...". Once.
  [[nodiscard]] std::string digest();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

[[nodiscard]] std::string digest_of(std::string_view data, std::string_view algorithm = "sha256");
// What stands before the colon, and after it.
[[nodiscard]] std::string_view algorithm_of(std::string_view digest);
[[nodiscard]] std::string_view hex_of(std::string_view digest);

// The name of a stack of layers (image-spec, chain id): of the lowest it is its diff id.
[[nodiscard]] std::string chain_id(const std::string& below, const std::string& diff_id);

// Standard or URL alphabet, padding optional. INVALID_ARGUMENT otherwise.
[[nodiscard]] Result<std::string> base64_decode(std::string_view text);
[[nodiscard]] std::string base64_encode(std::string_view data);

}  // namespace gantry::image_oci
