#include "limits.hpp"

#include "files.hpp"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstring>

namespace gantry::isolator_cgroups {
namespace {

std::uint64_t megabytes(double mb) { return static_cast<std::uint64_t>(std::llround(mb * 1048576.0)); }

template <class N>
bool whole_number(std::string_view s, N& out) {
  const auto [end, error] = std::from_chars(s.data(), s.data() + s.size(), out);
  return error == std::errc() && end == s.data() + s.size();
}

}  // namespace

Limits limits_of(const std::vector<std::unique_ptr<fb::ResourceT>>& resources, const std::vector<std::unique_ptr<fb::ScalarEntryT>>& limits,
                 bool quota) {
  double cpus = 0, revocable = 0, mem = 0;
  for (const auto& r : resources) {
    if (r->name == "cpus") (r->revocable ? revocable : cpus) += r->scalar.value_or(0);
    if (r->name == "mem") mem += r->scalar.value_or(0);
  }
  std::optional<double> cpu_limit, mem_limit;
  for (const auto& l : limits) {
    if (l->key == "cpus") cpu_limit = l->value;
    if (l->key == "mem") mem_limit = l->value;
  }
  Limits out;
  // What may be taken back weighs next to nothing against what may not.
  if (cpus + revocable > 0)
    out.cpu_shares = std::max<std::uint64_t>(2, static_cast<std::uint64_t>(std::llround(cpus * 1024 + revocable * 10)));
  cpus += revocable;
  if (!cpu_limit && quota && cpus > 0) cpu_limit = cpus;
  if (cpu_limit && std::isfinite(*cpu_limit) && *cpu_limit > 0)
    out.cpu_quota_us =
        std::max<std::int64_t>(1000, std::llround(*cpu_limit * static_cast<double>(cpu_period_us)));  // the kernel's least is 1 ms
  if (mem > 0) out.memory_soft = std::max(memory_floor, megabytes(mem));
  const double hard = mem_limit.value_or(mem);
  if (std::isfinite(hard) && hard > 0) out.memory_hard = std::max(memory_floor, megabytes(hard));
  return out;
}

Result<std::uint64_t> parse_bytes(std::string_view text) {
  static constexpr std::pair<std::string_view, int> units[] = {{"", 0}, {"B", 0}, {"KiB", 10}, {"MiB", 20}, {"GiB", 30}, {"TiB", 40}};
  const auto digits = std::min(text.find_first_not_of("0123456789"), text.size());
  std::uint64_t n = 0;
  if (digits > 0 && whole_number(text.substr(0, digits), n))
    for (const auto& [unit, shift] : units)
      if (text.substr(digits) == unit && n <= (UINT64_MAX >> shift)) return n << shift;
  return fail(Code::invalid_argument, "\"" + std::string(text) + "\" is no size; write a number of bytes or, for example, \"64MiB\"");
}

Result<IoMax> parse_io_max(std::string_view text) {
  const auto wrong = [&](const std::string& why) {
    return fail(Code::invalid_argument,
                "io_max \"" + std::string(text) + "\": " + why + "; write for example \"/dev/sda rbps=10MiB wiops=200\"");
  };
  const auto words = split(text, ' ');
  if (words.size() < 2) return wrong("a device and at least one of rbps, wbps, riops and wiops are needed");
  IoMax out;
  if (words[0][0] == '/') {
    struct stat st {};
    if (::stat(std::string(words[0]).c_str(), &st) != 0)
      return wrong("cannot look at " + std::string(words[0]) + ": " + std::strerror(errno));
    if (!S_ISBLK(st.st_mode)) return wrong(std::string(words[0]) + " is no block device");
    out.major = static_cast<int>(::major(st.st_rdev));
    out.minor = static_cast<int>(::minor(st.st_rdev));
  } else {
    const auto colon = words[0].find(':');
    if (colon == words[0].npos || !whole_number(words[0].substr(0, colon), out.major) ||
        !whole_number(words[0].substr(colon + 1), out.minor) || out.major < 0 || out.minor < 0)
      return wrong("\"" + std::string(words[0]) + "\" is neither a path nor MAJOR:MINOR");
  }
  for (std::size_t i = 1; i < words.size(); ++i) {
    const auto equals = words[i].find('=');
    const std::string_view key = words[i].substr(0, equals);
    auto* field = key == "rbps"    ? &out.read_bytes
                  : key == "wbps"  ? &out.write_bytes
                  : key == "riops" ? &out.reads
                  : key == "wiops" ? &out.writes
                                   : nullptr;
    if (!field || equals == words[i].npos) return wrong("\"" + std::string(words[i]) + "\" is none of rbps=, wbps=, riops= and wiops=");
    if (words[i].substr(equals + 1) == "max") continue;
    auto n = parse_bytes(words[i].substr(equals + 1));
    if (!n) return wrong(n.error().message);
    if (*n == 0) return wrong(std::string(key) + " = 0 would stop all of it");
    *field = *n;
  }
  return out;
}

Result<std::pair<std::string, std::uint64_t>> parse_hugetlb(std::string_view text) {
  const auto equals = text.find('=');
  const std::string_view size = text.substr(0, equals);
  const auto unit = size.find_first_not_of("0123456789");
  if (equals == text.npos || unit == 0 || unit == size.npos ||
      (size.substr(unit) != "KB" && size.substr(unit) != "MB" && size.substr(unit) != "GB"))
    return fail(Code::invalid_argument, "hugetlb \"" + std::string(text) + "\" has no page size; write for example { 2MB = \"64MiB\" }");
  auto bytes = parse_bytes(text.substr(equals + 1));
  if (!bytes) return std::move(bytes).error().because("hugetlb \"" + std::string(size) + "\"");
  return std::pair(std::string(size), *bytes);
}

Status check_cpu_list(std::string_view text) {
  const auto wrong = [&] {
    return fail(Code::invalid_argument, "\"" + std::string(text) + "\" is no list of numbers and ranges; write for example \"0-3,8\"");
  };
  if (text.empty()) return ok;
  for (std::string_view rest = text; !rest.empty();) {
    const auto comma = std::min(rest.find(','), rest.size());
    const std::string_view item = rest.substr(0, comma);
    const auto dash = item.find('-');
    unsigned first = 0, last = 0;
    if (!whole_number(item.substr(0, dash), first)) return wrong();
    if (dash != item.npos && (!whole_number(item.substr(dash + 1), last) || last < first)) return wrong();
    if (comma + 1 == rest.size()) return wrong();  // ends with a comma
    rest.remove_prefix(std::min(comma + 1, rest.size()));
  }
  return ok;
}

}  // namespace gantry::isolator_cgroups
