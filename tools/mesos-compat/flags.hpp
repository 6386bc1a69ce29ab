// Flags as the daemons of Mesos take them: --name=value, --name, --no-name, MESOS_NAME in the environment; the last is overridden by
// the first. The texts of errors are theirs.
#pragma once

#include <gantry/result.hpp>

#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace gantry::compat {

enum class Kind {
  boolean,
  text,      // "file:///path" stands for what is in that file
  path,      // "file:///path" is /path
  contents,  // "file:///path" and "/path" stand for what is in that file: secrets, JSON
  number,
  real,
  duration,  // "15secs"
  size,      // "2GB"
};

// What becomes of a flag.
enum class Fate {
  maps,     // a setting here
  here,     // what it asks for is how it is here, or makes no difference
  nothing,  // has no meaning here: named in the warning, unless its value is the default
};

struct Flag {
  std::string_view name;
  Kind kind;
  std::string_view value;  // the default; empty: none
  Fate fate;
  std::string_view help;  // one sentence
  std::string_view old;   // its name in earlier releases; empty: none
  bool required = false;
};

// What was given, by name of the flag.
class Given {
 public:
  [[nodiscard]] bool has(std::string_view name) const { return values_.find(name) != values_.end(); }
  // The value, else the default, else empty.
  [[nodiscard]] const std::string& text(std::string_view name) const;
  [[nodiscard]] bool flag(std::string_view name) const { return text(name) == "true" || text(name) == "1"; }
  [[nodiscard]] std::int64_t number(std::string_view name) const;
  [[nodiscard]] std::int64_t nanoseconds(std::string_view name) const;
  [[nodiscard]] std::int64_t bytes(std::string_view name) const;
  // Where the value of a flag of kind path or contents was read from; empty: it was written out.
  [[nodiscard]] const std::string& origin(std::string_view name) const;
  // Differs from the default.
  [[nodiscard]] bool differs(std::string_view name) const;
  [[nodiscard]] const std::vector<std::string>& warnings() const { return warnings_; }  // of old names

 private:
  friend Result<Given> read_flags(std::span<const Flag>, std::span<const std::string>, const std::map<std::string, std::string>&);
  std::span<const Flag> flags_;
  std::map<std::string, std::string, std::less<>> values_, defaults_, origins_;
  std::vector<std::string> warnings_;
};

// `words` is a command line without the program, `environment` what may hold MESOS_NAME. Words that are no flags are left alone, as is
// everything behind "--".
[[nodiscard]] Result<Given> read_flags(std::span<const Flag> flags, std::span<const std::string> words,
                                       const std::map<std::string, std::string>& environment);

// "Usage: mesos-master [options]" and a line or more for each flag.
[[nodiscard]] std::string usage(std::string_view program, std::span<const Flag> flags, std::string_view message = {});

// "1.5secs" -> nanoseconds. Units ns us ms secs mins hrs days weeks.
[[nodiscard]] Result<std::int64_t> parse_duration(std::string_view text);
// "512MB" -> bytes. Units B KB MB GB TB, powers of 1024.
[[nodiscard]] Result<std::int64_t> parse_bytes(std::string_view text);

// The whole file; the error names it.
[[nodiscard]] Result<std::string> read_file(const std::string& path);

// This process's environment.
[[nodiscard]] std::map<std::string, std::string> environment();

}  // namespace gantry::compat
