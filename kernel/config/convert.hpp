// A TOML value against its declaration.
#pragma once

#include "kernel/config/manifest.hpp"
#include "kernel/config/tree.hpp"

namespace gantry::config {

// The value as setting `field.key`, type, bounds and choices checked. The error's message says what was expected and
// what was found; the caller puts the key in front.
[[nodiscard]] Result<fb::SettingT> to_setting(const Field& field, const Node& node);

// "host:port", "[v6]:port", ":port" or "unix:/path".
[[nodiscard]] Status check_address(std::string_view text);
// Whether only this machine can reach it: 127/8, ::1, localhost, unix sockets, and "" (off).
[[nodiscard]] bool is_loopback(std::string_view address);

// The setting as TOML text on the right of "=".
[[nodiscard]] std::string to_toml(const Field& field, const fb::SettingT& value);
[[nodiscard]] std::string toml_string(std::string_view text);

}  // namespace gantry::config
