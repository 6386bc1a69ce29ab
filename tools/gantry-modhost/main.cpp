// gantry-modhost: one module in a process of its own. Started by gantryd, never by hand.
#include "keeper.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <sys/syscall.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace {

constexpr const char* usage =
    "usage: gantry-modhost --module FILE --id KIND.NAME [option]...\n"
    "\n"
    "Runs one module for gantryd, which starts this program for each table with host = \"process\" and speaks with it\n"
    "over a socket inherited as descriptor 3. It is of no use by itself; `gantry-module check` tries modules.\n"
    "\n"
    "  --user NAME         the user the module runs as\n"
    "  --capability NAME   a capability it keeps (repeated)\n"
    "  --group NAME        name of its control group\n"
    "  --memory BYTES      --cpu CORES      --processes N      --files N      its limits\n"
    "  --device PATTERN    a device it may see (repeated); without any, /dev is the machine's\n"
    "  --seccomp off       without the filter of system calls\n"
    "  --unstable          accept a module that calls itself unstable\n"
    "  --quiet             do not say which limits cannot be had\n"
    "  --version, --help\n"
    "\n"
    "Exit status: that of the module's process, 128 + n if signal n ended it; 2 wrong usage, 3 the module was refused.\n";

}  // namespace

int main(int argc, char** argv) {
  gantry::modhost::Options o;
  std::string id;
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    if (arg == "--help" || arg == "-h") return std::fputs(usage, stdout), 0;
    if (arg == "--version") return std::printf("gantry-modhost %s\n", GANTRY_VERSION), 0;
    if (arg == "--unstable") {
      o.unstable = true;
      continue;
    }
    if (arg == "--quiet") {
      o.quiet = true;
      continue;
    }
    if (i + 1 >= argc) {
      std::fprintf(stderr, "gantry-modhost: unknown or incomplete argument \"%s\"\n%s", arg.c_str(), usage);
      return 2;
    }
    const char* value = argv[++i];
    if (arg == "--module") o.module = value;
    else if (arg == "--id") id = value;
    else if (arg == "--user") o.user = value;
    else if (arg == "--group") o.group = value;
    else if (arg == "--capability") o.capabilities.emplace_back(value);
    else if (arg == "--device") o.devices.emplace_back(value);
    else if (arg == "--memory") o.memory = std::strtoull(value, nullptr, 10);
    else if (arg == "--files") o.files = std::strtoull(value, nullptr, 10);
    else if (arg == "--processes") o.processes = std::strtoull(value, nullptr, 10);
    else if (arg == "--cpu") o.cpu = std::strtod(value, nullptr);
    else if (arg == "--seccomp") o.seccomp = std::strcmp(value, "off") != 0;
    else {
      std::fprintf(stderr, "gantry-modhost: unknown argument \"%s\"\n%s", arg.c_str(), usage);
      return 2;
    }
  }
  const auto dot = id.find('.');
  if (o.module.empty() || dot == std::string::npos || o.group.find('/') != std::string::npos) {
    std::fputs(usage, stderr);
    return 2;
  }
  o.kind = id.substr(0, dot);
  o.name = id.substr(dot + 1);
  if (::fcntl(gantry::modhost::socket_fd, F_SETFD, FD_CLOEXEC) != 0 || ::fcntl(gantry::modhost::status_fd, F_SETFD, FD_CLOEXEC) != 0) {
    std::fputs("gantry-modhost: descriptors 3 and 4 are not open; gantryd starts this program, not a person\n", stderr);
    return 2;
  }
#ifdef SYS_close_range
  ::syscall(SYS_close_range, 5u, ~0u, 0u);  // whatever somebody forgot to close
#endif
  return gantry::modhost::keep(o);
}
