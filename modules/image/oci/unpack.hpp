// A layer's archive into a directory of the form the overlay file system takes.
#pragma once

#include "base.hpp"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace gantry::image_oci {

struct UnpackLimits {
  std::uint64_t max_size = 0;  // bytes, decompressed
  std::uint64_t max_entries = 0;
};

struct Unpacked {
  std::string diff_id;     // digest of the decompressed archive
  std::uint64_t size = 0;  // bytes of its files
  std::uint64_t entries = 0;
  // What only layers below can complete: directories that came without an entry of their own and have the layer's defaults until
  // complete() gives them those of below; hard links (name, to) to files that are not in this layer.
  std::vector<std::string> implied;
  std::vector<std::pair<std::string, std::string>> links;
  std::uint64_t left_out = 0;  // attributes, devices, opaque marks that needed rights this process lacks
  [[nodiscard]] bool leans() const { return !implied.empty() || !links.empty(); }
};

// More of the archive, compressed or not; 0 at its end. Called on the thread of unpack().
using Pull = std::function<Result<std::size_t>(char* data, std::size_t size)>;

// Unpacks tar, plain or with gzip, zstd, bzip2 or xz around it, into `directory`, which is empty. Whiteouts of the archive
// (".wh.name", ".wh..wh..opq") become those of the overlay file system. INVALID_ARGUMENT for what is no such archive or leads out,
// RESOURCE_EXHAUSTED for what is over a limit, errors of `pull` as they are; all but the last name the entry.
// `algorithm` is that of the diff id. Memory is bounded by the limits, not by the archive: see kMaxHeader and kMaxNotes in unpack.cpp.
[[nodiscard]] Result<Unpacked> unpack(const Pull& pull, const std::string& directory, const UnpackLimits& limits,
                                      const Cancelled& cancelled, std::string_view algorithm = "sha256");

// Completes an unpacked layer by those below it, their directories lowest first.
[[nodiscard]] Status complete(const Unpacked& layer, const std::string& directory, const std::vector<std::string>& below);

}  // namespace gantry::image_oci
