// Command lines of mesos-master and mesos-agent, and the documents their flags take: no crash, and a translation that is TOML.
#include "tools/mesos-compat/execute.hpp"
#include "tools/mesos-compat/tables.hpp"
#include "tools/mesos-compat/translate.hpp"

#include <toml++/toml.h>

#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

using namespace gantry;
using namespace gantry::compat;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  (void)parse_credential(text);
  (void)parse_credentials(text);
  (void)parse_rate_limits(text);
  (void)resources_text(text);
  (void)resources_of(text);
  (void)Records().feed(text, [](std::string_view) {});
  // A word a line. What would read files or run commands is left out.
  std::vector<std::string> words;
  for (std::size_t at = 0; at <= text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    const std::string_view word = text.substr(at, end - at);
    if (word.find("file://") == std::string_view::npos && word.find("=/") == std::string_view::npos && word.find("command") == std::string_view::npos &&
        word.find("credential") == std::string_view::npos)
      words.emplace_back(word);
    at = end + 1;
  }
  const Role role = data[0] & 1 ? Role::agent : Role::master;
  if (data[0] & 2) words.emplace_back(role == Role::agent ? "--work_dir=w" : "--registry=in_memory");
  if (data[0] & 4) words.emplace_back("--master=m:5050");
  const auto given = read_flags(role == Role::master ? master_flags() : agent_flags(), words, {});
  if (!given) return 0;
  const auto t = translate(role, *given, Options{"/run/x"});
  if (!t) return 0;
  // TOML is UTF-8; what is not, the daemon refuses.
  if (std::any_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) >= 0x80; })) return 0;
  // Whatever the values were, it parses, and has no table but those it is made of.
  try {
    const toml::table table = toml::parse(t->toml);
    for (const auto& [key, value] : table)
      if (key.str() != "kernel" && key.str() != "election" && key.str() != "store" && key.str() != "allocator" && key.str() != "gateway" &&
          key.str() != "fetcher" && key.str() != "isolator" && key.str() != "authenticator" && key.str() != "authorizer")
        std::abort();
  } catch (const toml::parse_error&) {
    std::abort();
  }
  return 0;
}
