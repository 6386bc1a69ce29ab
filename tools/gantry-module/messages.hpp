// What methods a kind has and which tables they carry, and messages made and checked through the schema's reflection.
#pragma once

#include <gantry/message.hpp>

#include <cstdint>
#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace reflection {
struct Schema;
}

namespace gantry::kit {

struct Message {
  std::uint32_t method;
  std::string_view name;     // "PREPARE"
  std::string_view request;  // "gantry.fb.isolator.Prepare"; empty: the body is empty
  std::string_view reply;    // of the final answer; empty: none
  std::string_view chunk;    // of MORE; empty: it is no stream; "-": its chunks are empty
};

// The methods of a kind beyond the common ones; RECOVER is among them where the kind has it.
[[nodiscard]] const std::vector<Message>& messages(std::string_view kind);
// "PREPARE", "CONFIGURE", "method 99".
[[nodiscard]] std::string method_name(std::string_view kind, std::uint32_t method);
// The kind's binary schema; null for an unknown kind. "common" has Configure, Health, Error.
[[nodiscard]] const reflection::Schema* schema(std::string_view kind);

using Random = std::mt19937_64;

// A random message of the table that verifies. Texts that look like paths stay below `directory`; numbers named pid are
// never those of a living process.
[[nodiscard]] Buffer random_message(const reflection::Schema& schema, std::string_view table, Random& random,
                                    const std::string& directory);
// A table without any known field.
[[nodiscard]] Buffer empty_table();
// A table that has only fields no schema of today declares: a scalar, a text and a table, far behind the last one.
[[nodiscard]] Buffer unknown_fields();
// The message with a few bytes changed, cut off, or something else altogether. It may or may not verify.
[[nodiscard]] Buffer broken(Bytes message, Random& random);
[[nodiscard]] bool verifies(const reflection::Schema& schema, std::string_view table, Bytes message);

}  // namespace gantry::kit
