#include "devices.hpp"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>

namespace gantry::isolator_cgroups {
namespace {

bool is_access(std::string_view s) { return !s.empty() && s.size() <= 3 && s.find_first_not_of("rwm") == s.npos; }

// A number, or "*" for all.
bool parse_part(std::string_view s, int& out) {
  if (s == "*") return out = -1, true;
  const auto [end, error] = std::from_chars(s.data(), s.data() + s.size(), out);
  return error == std::errc() && end == s.data() + s.size() && out >= 0;
}

std::string part(int n) { return n < 0 ? "*" : std::to_string(n); }

}  // namespace

std::string DeviceRule::text() const { return std::string(1, kind) + " " + part(major) + ":" + part(minor) + " " + access; }

const std::vector<DeviceRule>& default_devices() {
  static const std::vector<DeviceRule> all{
      {'c', -1, -1, "m"},                         // to make a node is not to use it
      {'b', -1, -1, "m"},    {'c', 1, 3, "rwm"},  // null
      {'c', 1, 5, "rwm"},                         // zero
      {'c', 1, 7, "rwm"},                         // full
      {'c', 1, 8, "rwm"},                         // random
      {'c', 1, 9, "rwm"},                         // urandom
      {'c', 4, 0, "rwm"},                         // tty0
      {'c', 4, 1, "rwm"},                         // tty1
      {'c', 5, 0, "rwm"},                         // tty
      {'c', 5, 1, "rwm"},                         // console
      {'c', 5, 2, "rwm"},                         // ptmx
      {'c', 136, -1, "rwm"},                      // pts/*
      {'c', 10, 200, "rwm"},                      // net/tun
  };
  return all;
}

Result<DeviceRule> parse_device(std::string_view text) {
  const auto wrong = [&](const std::string& why) {
    return fail(Code::invalid_argument,
                "device \"" + std::string(text) + "\" " + why + "; write \"c 10:229 rwm\", \"b 8:* r\" or \"/dev/fuse rw\"");
  };
  const auto last = text.rfind(' ');
  if (last == text.npos || !is_access(text.substr(last + 1))) return wrong("does not end with an access of r, w and m");
  DeviceRule rule;
  rule.access = text.substr(last + 1);
  const std::string_view what = text.substr(0, last);
  if (what.substr(0, 1) == "/") {
    struct stat st {};
    const std::string path(what);
    if (::stat(path.c_str(), &st) != 0) return wrong(std::string("cannot be looked at: ") + std::strerror(errno));
    if (!S_ISCHR(st.st_mode) && !S_ISBLK(st.st_mode)) return wrong("is no device");
    rule.kind = S_ISCHR(st.st_mode) ? 'c' : 'b';
    rule.major = static_cast<int>(::major(st.st_rdev));
    rule.minor = static_cast<int>(::minor(st.st_rdev));
    return rule;
  }
  const auto colon = what.find(':');
  if (what.size() < 5 || (what[0] != 'c' && what[0] != 'b') || what[1] != ' ' || colon == what.npos ||
      !parse_part(what.substr(2, colon - 2), rule.major) || !parse_part(what.substr(colon + 1), rule.minor))
    return wrong("has no kind and number");
  rule.kind = what[0];
  return rule;
}

Result<DeviceRule> device_of(const fb::isolator::DeviceT& d) {
  DeviceRule rule{d.character ? 'c' : 'b', std::max(d.major, -1), std::max(d.minor, -1), d.access};
  if (!is_access(d.access))
    return fail(Code::invalid_argument, "access \"" + d.access + "\" of device " + rule.text() + " is not made of r, w and m");
  return rule;
}

}  // namespace gantry::isolator_cgroups
