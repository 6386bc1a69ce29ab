// ACL files: no crash; what is accepted decides, and the same way twice.
#include "modules/authorizer/acl/rules.hpp"

#include <cstdlib>
#include <string_view>

using namespace gantry::authorizer_acl;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto acls = Acls::parse(text);
  if (!acls) {
    if (acls.error().message.find("acls") == std::string::npos) std::abort();  // every mistake names its field
    return 0;
  }
  const std::string_view word = text.substr(0, size / 2);
  for (const std::string_view action : {"run_task", "register_framework", "view_flags", "get_endpoint", "nothing"}) {
    for (const bool named : {true, false}) {
      const auto who = named ? std::optional(word) : std::nullopt;
      const bool yes = acls->allowed(who, action, word);
      if (yes != acls->allowed(who, action, word)) std::abort();
      if (acls->rules() == 0 && yes != acls->permissive()) std::abort();
    }
  }
  return 0;
}
