// Names of resources and roles as small integers, the same in the whole process; they are also the ids of allocator.fbs.
#pragma once

#include <gantry/result.hpp>

#include <cstdint>
#include <string>
#include <string_view>

namespace gantry::resource {

// A resource name such as "cpus". The well-known ones have fixed ids, in the order resources are printed.
enum class NameId : std::uint32_t { none = 0, cpus = 1, mem = 2, disk = 3, ports = 4, gpus = 5 };
// A role. `none` means "unreserved" where a reservation is asked for, and "not allocated" for allocation roles.
enum class RoleId : std::uint32_t { none = 0, star = 1 };

// [any] The id of a text, made on first use. Ids are never reused. Empty text gives `none`.
[[nodiscard]] NameId intern_name(std::string_view text);
[[nodiscard]] RoleId intern_role(std::string_view text);  // interns its ancestors too; does not validate
// [any] The text of an id; empty for `none` and unknown ids. Valid for ever.
[[nodiscard]] std::string_view text_of(NameId id);
[[nodiscard]] std::string_view text_of(RoleId id);
// The role above: "eng" of "eng/web"; none for top-level roles.
[[nodiscard]] RoleId parent_of(RoleId id);
// True if `role` is `ancestor` or lies below it ("eng" covers "eng/web").
[[nodiscard]] bool is_within(RoleId role, RoleId ancestor);

// Checks a role a framework or operator gave (mesos-kernel.md A2): not empty; each part of its path is neither empty,
// ".", "..", nor starts with "-"; no white space, backspace or other control characters; "*" only alone.
[[nodiscard]] Status validate_role(std::string_view role);

}  // namespace gantry::resource
