#include "kernel/base/log.hpp"

#include "kernel/base/log_tail.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <deque>
#include <map>
#include <mutex>

namespace gantry::base {
namespace {

std::mutex sink_mutex;
std::function<void(Level, std::string_view)> sink;  // guarded by sink_mutex

constexpr std::size_t max_sources = 256;
// Guarded by sink_mutex.
std::map<std::string, std::deque<std::string>, std::less<>>& tails() {
  static auto* all = new std::map<std::string, std::deque<std::string>, std::less<>>;  // written to until the very end
  return *all;
}

void keep(std::string_view source, const std::string& line) {
  auto& all = tails();
  auto it = all.find(source);
  if (it == all.end()) {
    if (all.size() >= max_sources) return;
    it = all.emplace(source, std::deque<std::string>()).first;
  }
  if (it->second.size() >= log_tail_lines) it->second.pop_front();
  it->second.push_back(line.substr(0, 2000));
}

constexpr std::string_view names[] = {"DEBUG", "INFO ", "WARN ", "ERROR"};

bool plain(std::string_view v) {
  if (v.empty()) return false;
  for (const unsigned char c : v)
    if (c <= ' ' || c == '"' || c == '=' || c == 0x7f) return false;
  return true;
}

void append_value(std::string& line, std::string_view v) {
  if (plain(v)) {
    line += v;
    return;
  }
  line += '"';
  for (const unsigned char c : v) {
    if (c == '"' || c == '\\') (line += '\\') += static_cast<char>(c);
    else if (c == '\n') line += "\\n";
    else if (c < ' ') line += ' ';
    else line += static_cast<char>(c);
  }
  line += '"';
}

}  // namespace

std::atomic<std::uint32_t>& log_threshold() {
  static std::atomic<std::uint32_t> threshold{GANTRY_LOG_INFO};
  return threshold;
}

std::vector<std::string> log_tail(std::string_view source, std::size_t count) {
  const std::lock_guard lock(sink_mutex);
  const auto it = tails().find(source);
  if (it == tails().end()) return {};
  const auto& lines = it->second;
  return {lines.end() - static_cast<std::ptrdiff_t>(std::min(count, lines.size())), lines.end()};
}

void set_log_sink(std::function<void(Level, std::string_view line)> s) {
  const std::lock_guard lock(sink_mutex);
  sink = std::move(s);
}

void log(Level level, std::string_view source, std::string_view message, const LogField* fields, std::size_t count) {
  if (static_cast<std::uint32_t>(level) < log_threshold().load(std::memory_order_relaxed)) return;
  timespec ts{};
  clock_gettime(CLOCK_REALTIME, &ts);
  tm t{};
  gmtime_r(&ts.tv_sec, &t);
  char stamp[40];
  const std::size_t n = std::strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &t);
  std::snprintf(stamp + n, sizeof stamp - n, ".%03ldZ ", ts.tv_nsec / 1'000'000);
  std::string line = stamp;
  line += names[static_cast<std::uint32_t>(level) & 3];
  line += ' ';
  line += source;
  line += ": ";
  for (const char c : message) line += c == '\n' ? ' ' : c;
  for (std::size_t i = 0; i < count; ++i) {
    line += ' ';
    line += fields[i].key;
    line += '=';
    append_value(line, fields[i].value);
  }
  {
    const std::lock_guard lock(sink_mutex);
    keep(source, line);
    if (sink) {
      sink(level, line);
      return;
    }
  }
  line += '\n';
  // A full disk or a closed pipe under stderr must not stop the daemon.
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, line.data(), line.size());
}

void log(Level level, std::string_view source, std::string_view message, std::initializer_list<LogField> fields) {
  log(level, source, message, fields.begin(), fields.size());
}

}  // namespace gantry::base
