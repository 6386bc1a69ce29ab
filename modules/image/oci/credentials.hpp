// Accounts of registries, as the registry client's config.json has them.
#pragma once

#include "base.hpp"

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace gantry::image_oci {

struct Account {
  std::string user, secret;
  std::string identity_token;  // exchanged for access at the registry's token service instead of user and secret
  std::string registry_token;  // access itself
};

class Credentials {
 public:
  // JSON: auths{registry: {auth | username, password, identitytoken, registrytoken}}, and, only if `helpers`, credHelpers and
  // credsStore: programs docker-credential-<name>. Whoever writes a file with helpers has programs run by the daemon.
  [[nodiscard]] static Result<Credentials> parse(std::string_view text, std::string_view what, bool helpers);

  // Of a registry ("docker.io", "host:port") and repository; the longest entry that fits. A helper that fails is an error.
  [[nodiscard]] Result<std::optional<Account>> find(const std::string& registry, const std::string& repository,
                                                    const Cancelled& cancelled) const;

 private:
  struct Entry {
    std::string at;  // "docker.io", "host:port", "host:port/team"
    Account account;
    std::string helper;
    std::string asked_as;  // what the helper knows it as
  };
  std::vector<Entry> entries_;
  std::string store_;  // helper for all registries without an entry
};

// Keys come as "https://index.docker.io/v1/", "registry.example", "registry.example/team".
[[nodiscard]] std::string registry_of_key(std::string_view key);

}  // namespace gantry::image_oci
