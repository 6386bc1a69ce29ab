#include "shares.hpp"

#include <algorithm>
#include <cmath>
#include <string_view>
#include <utility>

namespace gantry::isolator_disk {
namespace {

bool stays_below(std::string_view path) {
  if (path.empty() || path[0] == '/') return false;
  while (!path.empty()) {
    const auto slash = std::min(path.find('/'), path.size());
    const auto part = path.substr(0, slash);
    if (part.empty() || part == "." || part == "..") return false;
    path.remove_prefix(std::min(slash + 1, path.size()));
  }
  return true;
}

}  // namespace

std::vector<Share> shares_of(const std::vector<std::unique_ptr<fb::ResourceT>>& resources) {
  std::vector<Share> out(1);
  for (const auto& r : resources) {
    if (r->name != "disk") continue;
    Share* share = &out[0];
    if (r->disk && r->disk->volume) {
      const std::string& path = r->disk->volume->container_path;
      if (!stays_below(path)) continue;
      const auto known = std::find_if(out.begin() + 1, out.end(), [&](const Share& s) { return s.path == path; });
      if (known == out.end()) {
        out.emplace_back();
        share = &out.back();
        share->path = path;
        if (r->disk->persistence) share->volume_id = r->disk->persistence->id;
      } else {
        share = &*known;
      }
      if (r->disk->source && r->disk->source->type == fb::DiskSourceType::MOUNT) share->enforced = false;
    }
    const double bytes = r->scalar.value_or(0) * 1048576.0;
    if (std::isfinite(bytes) && bytes > 0 && bytes < 9e18) share->quota += static_cast<std::uint64_t>(std::llround(bytes));
    share->resources.push_back(std::make_unique<fb::ResourceT>(*r));
  }
  return out;
}

std::string show_bytes(std::uint64_t bytes) {
  static constexpr std::pair<int, const char*> units[] = {{40, "TB"}, {30, "GB"}, {20, "MB"}, {10, "KB"}};
  for (const auto& [shift, unit] : units)
    if (bytes != 0 && bytes % (1ull << shift) == 0) return std::to_string(bytes >> shift) + unit;
  return std::to_string(bytes) + "B";
}

}  // namespace gantry::isolator_disk
