// What methods are called in their schemas, and which of them carry credentials. For traces, recordings and messages to
// people; nothing is decided by it.
#pragma once

#include <gantry/trace_generated.h>
#include <gantry/message.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace gantry::module {

// "PREPARE", "CONFIGURE"; the number as text when the schema has none for it.
[[nodiscard]] std::string method_name(std::string_view kind, std::uint32_t method);
// The same of a host service, with its name: "store.COMMIT", "http.FETCH".
[[nodiscard]] std::string request_name(std::uint32_t service, std::uint32_t method);
// Of an entry: request_name for requests and their answers, else method_name.
[[nodiscard]] std::string entry_name(std::string_view kind, const fb::trace::EntryT& entry);
[[nodiscard]] bool is_request(fb::trace::What what);
// All a trace of this kind can show.
[[nodiscard]] std::vector<std::string> all_names(std::string_view kind);

// The body of an entry made fit for eyes that may not see credentials: left as it is (WHOLE), with '*' for them
// (MASKED), or emptied (BLANKED). Credentials are what proves who somebody is: an authenticator's questions, secrets in
// CONFIGURE (secret_settings), Authorization and cookies in HTTP, secrets of questions. Not what tasks are given: their
// environment is part of what a module is told.
[[nodiscard]] fb::trace::BodyState hide_credentials(std::string_view kind, const fb::trace::EntryT& entry,
                                                    bool secret_settings, std::vector<std::uint8_t>& body);

}  // namespace gantry::module
