// Structured log lines on stderr or a sink. An error is logged once, by whoever handles it at the top.
#pragma once

#include <gantry/abi.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <string>
#include <string_view>

namespace gantry::base {

enum class Level : std::uint32_t { debug = GANTRY_LOG_DEBUG, info = GANTRY_LOG_INFO, warning = GANTRY_LOG_WARNING, error = GANTRY_LOG_ERROR };

struct LogField {
  std::string_view key;
  std::string value;
};

// [any] Writes "time LEVEL source: message key=value ..." as one write(2). `source` is a folder or a module's kind.name.
void log(Level level, std::string_view source, std::string_view message, std::initializer_list<LogField> fields = {});
void log(Level level, std::string_view source, std::string_view message, const LogField* fields, std::size_t count);

inline void log_debug(std::string_view s, std::string_view m, std::initializer_list<LogField> f = {}) { log(Level::debug, s, m, f); }
inline void log_info(std::string_view s, std::string_view m, std::initializer_list<LogField> f = {}) { log(Level::info, s, m, f); }
inline void log_warning(std::string_view s, std::string_view m, std::initializer_list<LogField> f = {}) { log(Level::warning, s, m, f); }
inline void log_error(std::string_view s, std::string_view m, std::initializer_list<LogField> f = {}) { log(Level::error, s, m, f); }

// The lowest level written; modules read this word directly through gantry_host.log_threshold.
std::atomic<std::uint32_t>& log_threshold();
// Replaces stderr (tests). nullptr restores it.
void set_log_sink(std::function<void(Level, std::string_view line)> sink);

}  // namespace gantry::base
