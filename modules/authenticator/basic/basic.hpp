// Authenticator for principals and secrets kept in a file.
#pragma once

#include <gantry/authenticator.hpp>

#include <map>

namespace gantry::authenticator_basic {

using Credentials = std::map<std::string, std::string, std::less<>>;  // principal -> crypt(5) hash or "{PLAIN}..."

// Parses the file's text; `origin` is named in errors, which carry the line.
Result<Credentials> parse_credentials(std::string_view content, const std::string& origin);
// Decodes RFC 4648 base64; nothing but the alphabet and padding is allowed.
Result<std::string> decode_base64(std::string_view text);
// True if the secret matches the stored form. Takes the same time wherever they differ; hashing costs milliseconds.
bool matches(const std::string& stored, std::string_view secret);

class Basic final : public Authenticator {
 public:
  Task<Status> configure(Settings settings) override;
  Task<Result<fb::authenticator::IdentityT>> authenticate(Request<fb::authenticator::Credentials>) override;
  Task<Result<fb::authenticator::ChallengeT>> challenge(Request<fb::authenticator::Challenge>) override;

 private:
  struct Loaded {
    std::shared_ptr<const Credentials> credentials;
    std::int64_t stamp = 0;  // modification time, nanoseconds
  };
  static Result<Loaded> load(const std::string& path, const Loaded& before);

  std::string path_;
  std::string realm_;
  Loaded loaded_;
  bool reported_ = false;  // a broken file was logged; say it once
};

}  // namespace gantry::authenticator_basic
