// Reports: one line a test, then what is to be done; or JSON.
#include "tools/gantry-module/kit.hpp"

#include "tools/gantry/json_writer.hpp"

namespace gantry::kit {
namespace {

// Long values are for the JSON report.
std::string shortened(std::string s, std::size_t most) {
  for (char& c : s)
    if (static_cast<unsigned char>(c) < 32 && c != '\n') c = '?';
  if (s.size() > most) s = s.substr(0, most) + " ... (" + std::to_string(s.size()) + " characters)";
  return s;
}

std::string indented(const std::string& text, const char* first, const char* rest) {
  std::string out = first;
  for (const char c : text) {
    out += c;
    if (c == '\n') out += rest;
  }
  return out + "\n";
}

// JSON is UTF-8, what a module says need not be.
std::string utf8(std::string_view s) {
  std::string out;
  for (std::size_t i = 0; i < s.size();) {
    const auto c = static_cast<unsigned char>(s[i]);
    const std::size_t n = c < 0x80 ? 1 : c >= 0xc2 && c < 0xe0 ? 2 : c >= 0xe0 && c < 0xf0 ? 3 : c >= 0xf0 && c < 0xf5 ? 4 : 0;
    bool good = n != 0 && i + n <= s.size();
    for (std::size_t k = 1; good && k < n; ++k) good = (static_cast<unsigned char>(s[i + k]) & 0xc0) == 0x80;
    if (good && n == 3) good = !(c == 0xe0 && static_cast<unsigned char>(s[i + 1]) < 0xa0) && !(c == 0xed && static_cast<unsigned char>(s[i + 1]) >= 0xa0);
    if (good && n == 4) good = !(c == 0xf0 && static_cast<unsigned char>(s[i + 1]) < 0x90) && !(c == 0xf4 && static_cast<unsigned char>(s[i + 1]) >= 0x90);
    if (good) out += s.substr(i, n);
    else out += '?';
    i += good ? n : 1;
  }
  return out;
}

std::vector<std::string> utf8(const std::vector<std::string>& lines) {
  std::vector<std::string> out;
  for (const auto& l : lines) out.push_back(utf8(std::string_view(l)));
  return out;
}

std::string where(const TestResult& r) { return r.host.empty() ? r.name : r.name + " (" + r.host + ")"; }

}  // namespace

std::string report_line(const TestResult& r) {
  std::string line(to_string(r.outcome));
  line.resize(8, ' ');
  line += r.host.empty() ? "-" : r.host;
  line.resize(16, ' ');
  line += r.name;
  if (r.outcome == Outcome::skipped || r.outcome == Outcome::waived) line += ": " + shortened(r.reason, 200);
  else if (!r.notes.empty()) line += ": " + shortened(r.notes.front(), 200);
  return line + "\n";
}

std::string report_text(const Target& target, const Report& report) {
  std::string out;
  for (const auto& r : report.results) {
    if (r.outcome != Outcome::failed) continue;
    out += "\n" + where(r) + "\n";
    out += indented(r.must, "  must:  ", "         ");
    std::string said;
    for (const auto& f : r.failures) {
      out += indented(shortened(f.what, 1200), "  found: ", "         ");
      const std::string& remedy = f.remedy.empty() ? r.remedy : f.remedy;
      if (remedy != said) out += indented(remedy, "  do:    ", "         ");
      said = remedy;
    }
    for (const auto& line : r.log) out += indented(shortened(line, 300), "  log:   ", "         ");
  }
  if (!report.warnings.empty()) out += "\n";
  for (const auto& w : report.warnings) out += "warning: " + w + "\n";
  const auto n = [&](Outcome o) { return std::to_string(report.count(o)); };
  out += "\n" + target.id() + ": " + n(Outcome::passed) + " passed, " + n(Outcome::failed) + " failed, " + n(Outcome::skipped) +
         " skipped, " + n(Outcome::waived) + " waived in " + std::to_string(report.ms / 1000) + "." +
         std::to_string(report.ms / 100 % 10) + " s\n";
  return out;
}

std::string report_json(const Target& target, const CheckOptions& options, const Report& report) {
  cli::JsonWriter w;
  w.open('{');
  w.field("file", std::string_view(target.path)).field("module", std::string_view(target.id()));
  w.field("version", std::string_view(target.manifest.version)).field("seed", options.seed);
  w.field("passed", std::uint64_t{report.count(Outcome::passed)}).field("failed", std::uint64_t{report.count(Outcome::failed)});
  w.field("skipped", std::uint64_t{report.count(Outcome::skipped)}).field("waived", std::uint64_t{report.count(Outcome::waived)});
  w.field("ms", report.ms);
  w.list("warnings", utf8(report.warnings));
  w.key("results").open('[');
  for (const auto& r : report.results) {
    w.open('{');
    const char* outcome = r.outcome == Outcome::failed ? "failed" : r.outcome == Outcome::passed ? "passed"
                          : r.outcome == Outcome::skipped ? "skipped" : "waived";
    w.field("test", std::string_view(r.name)).field("stage", r.stage).field("host", std::string_view(r.host));
    w.field("outcome", std::string_view(outcome)).field("ms", r.ms).field("must", std::string_view(r.must));
    if (!r.reason.empty()) w.field("reason", std::string_view(utf8(r.reason)));
    if (!r.failures.empty()) {
      w.key("findings").open('[');
      for (const auto& f : r.failures) {
        w.open('{').field("what", std::string_view(utf8(f.what)));
        w.field("do", std::string_view(f.remedy.empty() ? r.remedy : f.remedy)).close();
      }
      w.close();
    }
    if (!r.notes.empty()) w.list("notes", utf8(r.notes));
    if (!r.log.empty()) w.list("log", utf8(r.log));
    w.close();
  }
  w.close().close();
  return w.text();
}

}  // namespace gantry::kit
