// Unpacking archives into a Tree: whatever is in them stays below it.
#pragma once

#include "tree.hpp"

namespace gantry::fetcher_curl {

// By its name: .tar .tar.gz .tgz .tar.bz2 .tbz2 .tar.xz .txz .zip, and .gz of a single file.
[[nodiscard]] bool is_archive(std::string_view name);

// Unpacks the archive behind `fd` (positioned anywhere) called `name` into the root of `tree`. Symbolic links are made as
// they are but never followed; hard links must stay inside; devices and fifos are refused; set-user-id bits are dropped.
// RESOURCE_EXHAUSTED when it unpacks to more than `limit` bytes.
[[nodiscard]] Status extract(int fd, const std::string& name, const Tree& tree, std::uint64_t limit, const Cancelled& cancelled);

}  // namespace gantry::fetcher_curl
