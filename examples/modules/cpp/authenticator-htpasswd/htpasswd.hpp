// Authenticator against an htpasswd file. See README.md.
#pragma once

#include <gantry/authenticator.hpp>

#include <map>
#include <memory>

namespace gantry::authenticator_htpasswd {

using Users = std::map<std::string, std::string, std::less<>>;  // name -> hash

// Parses the file's text; mistakes name `origin` and the line.
[[nodiscard]] Result<Users> parse(std::string_view content, const std::string& origin);

class Htpasswd final : public Authenticator {
 public:
  Task<Status> configure(Settings settings) override;
  Task<Result<fb::authenticator::IdentityT>> authenticate(Request<fb::authenticator::Credentials>) override;
  Task<Result<fb::authenticator::ChallengeT>> challenge(Request<fb::authenticator::Challenge>) override;

 private:
  // What was read, and the marks by which a changed file is known. Shared and const: the blocking pool reads it while
  // the strand may already hold a newer one.
  struct Loaded {
    std::shared_ptr<const Users> users;
    std::int64_t changed_ns = 0, size = 0;
    std::uint64_t inode = 0;
  };
  static Result<Loaded> load(const std::string& path, const Loaded& before);

  std::string path_, realm_;
  Loaded loaded_;
  bool reported_ = false;  // that the file is broken was said
};

}  // namespace gantry::authenticator_htpasswd
