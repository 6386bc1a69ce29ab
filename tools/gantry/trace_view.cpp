#include "tools/gantry/trace_view.hpp"

#include "kernel/module/method_names.hpp"
#include "tools/gantry/format.hpp"
#include "tools/gantry/json_writer.hpp"

#include <gantry/message.hpp>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <ctime>

namespace gantry::cli {
namespace {

using fb::trace::EntryT;
using fb::trace::What;

constexpr std::size_t max_open = 100'000;  // of a summary; beyond, what is open is not followed

std::string padded(std::string text, std::size_t cells, bool right = false) {
  const std::size_t w = width(text);
  if (w >= cells) return text;
  return right ? std::string(cells - w, ' ') + text : text + std::string(cells - w, ' ');
}

bool is_chunk(What w) { return w == What::CHUNK || w == What::REQUEST_CHUNK; }
bool is_final(What w) { return w == What::DONE || w == What::GAVE_UP || w == What::REQUEST_DONE; }
bool is_begin(What w) { return w == What::CALL || w == What::REQUEST; }
bool is_trouble(What w) { return w == What::FAULT || w == What::RESTART; }

std::string code_text(const EntryT& e) {
  switch (e.what) {
    case What::CALL:
      return "called";
    case What::REQUEST:
      return "asked";
    case What::CANCEL:
    case What::REQUEST_CANCEL:
      return "cancelled";
    case What::FAULT:
    case What::RESTART:
      return "";
    default:
      return std::string(to_string(static_cast<Code>(e.code)));
  }
}

const char* what_text(What w) {
  switch (w) {
    case What::CALL:
      return "call";
    case What::CHUNK:
      return "chunk";
    case What::DONE:
      return "done";
    case What::GAVE_UP:
      return "gave_up";
    case What::CANCEL:
      return "cancel";
    case What::REQUEST:
      return "request";
    case What::REQUEST_CHUNK:
      return "request_chunk";
    case What::REQUEST_DONE:
      return "request_done";
    case What::REQUEST_CANCEL:
      return "request_cancel";
    case What::FAULT:
      return "fault";
    case What::RESTART:
      return "restart";
  }
  return "unknown";
}

std::string clock_text(std::uint64_t wall_ns, const char* format, bool utc) {
  const auto seconds = static_cast<std::time_t>(wall_ns / 1'000'000'000);
  tm t{};
  if (utc)
    ::gmtime_r(&seconds, &t);
  else
    ::localtime_r(&seconds, &t);
  char text[40], fraction[8];
  std::strftime(text, sizeof text, format, &t);
  std::snprintf(fraction, sizeof fraction, ".%03u", static_cast<unsigned>(wall_ns / 1'000'000 % 1000));
  return std::string(text) + fraction;
}

std::string short_number(double v) {
  char text[32];
  std::snprintf(text, sizeof text, v < 100 ? "%.1f" : "%.0f", v);
  std::string out = text;
  if (out.ends_with(".0")) out.resize(out.size() - 2);
  return out;
}

}  // namespace

std::string latency_text(std::uint64_t ns) {
  const auto v = static_cast<double>(ns);
  if (ns < 1000) return std::to_string(ns) + "ns";
  if (v < 999'500) return short_number(v / 1e3) + "us";
  if (v < 999'500'000) return short_number(v / 1e6) + "ms";
  return short_number(v / 1e9) + "s";
}

std::string bytes_text(std::uint64_t bytes) {
  const auto v = static_cast<double>(bytes);
  if (bytes < 1000) return std::to_string(bytes);
  if (v < 999'500) return short_number(v / 1e3) + "k";
  if (v < 999'500'000) return short_number(v / 1e6) + "M";
  return short_number(v / 1e9) + "G";
}

bool TraceFilter::shows(const EntryT& e, std::string_view name) const {
  if (!methods.empty() && std::find(methods.begin(), methods.end(), name) == methods.end()) return false;
  if (errors && e.code >= 0 && !is_trouble(e.what)) return false;
  // A stream's chunks are as old as the stream; that says nothing about its speed.
  if (slower_ns && (!is_final(e.what) || e.latency_ns.value_or(0) < *slower_ns)) return false;
  return all || is_final(e.what) || is_chunk(e.what) || is_trouble(e.what);
}

std::string TraceView::name(const EntryT& e) const { return module::entry_name(kind_, e); }

std::string TraceView::message(const EntryT& e) {
  const Bytes body(e.body.data(), e.body.size());
  if (is_trouble(e.what)) return printable({reinterpret_cast<const char*>(body.data()), body.size()});
  if (e.code >= 0) return {};
  std::string out;
  if (const auto* error = view<fb::Error>(body)) out = printable(text(error->message()));
  return e.what == What::GAVE_UP ? "given up: " + out : out;
}

std::string TraceView::heading() {
  return padded("TIME", 14) + padded("METHOD", 22) + padded("CODE", 19) + padded("LATENCY", 8, true) +
         padded("ASKED", 8, true) + padded("REPLY", 8, true) + padded("FDS", 5, true) + padded("CHUNKS", 8, true) +
         "  MESSAGE";
}

std::string TraceView::row(const EntryT& e) const {
  const bool answer = is_final(e.what) || is_chunk(e.what);
  std::string out = padded(clock_text(started_wall_ns_ + e.at_ns, "%H:%M:%S", false), 14) + padded(name(e), 22);
  if (is_trouble(e.what)) return out + message(e);
  out += padded(code_text(e), 19);
  out += padded(e.latency_ns ? latency_text(*e.latency_ns) : "-", 8, true);
  out += padded(is_begin(e.what) ? bytes_text(e.size) : answer ? bytes_text(e.asked_size) : "-", 8, true);
  out += padded(answer ? bytes_text(e.size) : "-", 8, true);
  out += padded(e.nfds ? std::to_string(e.nfds) : "-", 5, true);
  out += padded(e.chunks ? std::to_string(e.chunks) : "-", 8, true);
  const std::string m = message(e);
  return m.empty() ? out : out + "  " + m;
}

std::string TraceView::json(const EntryT& e) const {
  JsonWriter w(JsonWriter::Layout::line);
  w.open('{').field("at", clock_text(started_wall_ns_ + e.at_ns, "%Y-%m-%dT%H:%M:%S", true) + "Z");
  w.field("what", what_text(e.what)).field("method", name(e));
  if (!is_trouble(e.what)) w.field("token", e.token);
  if (is_final(e.what) || is_chunk(e.what)) {
    w.field("code", code_text(e));
    if (e.latency_ns) w.field("latency_ns", *e.latency_ns);
    w.field("asked_bytes", e.asked_size).field("reply_bytes", e.size).field("chunks", e.chunks);
  } else if (is_begin(e.what)) {
    w.field("asked_bytes", e.size);
    if (e.deadline_ns) w.field("deadline_ns", e.deadline_ns);
  }
  if (e.nfds) w.field("fds", e.nfds);
  if (const std::string m = message(e); !m.empty()) w.field("message", m);
  return w.close().text();
}

// ---- latencies

void Latencies::add(std::uint64_t ns) {
  const unsigned shift = ns < 2 * per_octave ? 0 : static_cast<unsigned>(std::bit_width(ns)) - 6;
  const std::size_t index = shift * per_octave + static_cast<std::size_t>(ns >> shift);
  if (index >= buckets_.size()) buckets_.resize(index + 1);
  ++buckets_[index];
  ++count_;
  max_ = std::max(max_, ns);
}

std::uint64_t Latencies::quantile(double q) const {
  if (count_ == 0) return 0;
  const auto wanted =
      std::max<std::uint64_t>(1, static_cast<std::uint64_t>(std::ceil(q * static_cast<double>(count_))));
  std::uint64_t seen = 0;
  for (std::size_t i = 0; i < buckets_.size(); ++i) {
    seen += buckets_[i];
    if (seen < wanted) continue;
    if (i < 2 * per_octave) return i;
    const std::size_t shift = i / per_octave - 1;
    const std::uint64_t low = (i - shift * per_octave) << shift;
    return std::min(max_, low + (std::uint64_t{1} << shift) / 2);
  }
  return max_;
}

// ---- summary

void TraceSummary::add(const EntryT& e) {
  if (is_trouble(e.what)) {
    ++faults_;
    return;
  }
  const std::string name = module::entry_name(kind_, e);
  if (is_begin(e.what)) {
    if (begun_.size() < max_open) begun_[e.token] = {name, e.at_ns};
    return;
  }
  if (is_chunk(e.what)) {
    Method& m = methods_[name];
    ++m.chunks;
    m.answered += e.size;
    return;
  }
  if (!is_final(e.what)) return;
  const bool late = e.what == What::DONE && given_up_.erase(e.token) != 0;
  if (e.what == What::GAVE_UP && given_up_.size() < max_open)
    given_up_.insert(e.token);
  else
    begun_.erase(e.token);
  if (late) return;  // counted when the kernel gave it up
  Method& m = methods_[name];
  ++m.count;
  ++calls_;
  m.asked += e.asked_size;
  m.answered += e.size;
  if (e.code < 0) {
    ++m.errors;
    ++errors_;
  }
  if (e.latency_ns) m.latencies.add(*e.latency_ns);
}

std::vector<TraceSummary::Begun> TraceSummary::open() const {
  std::vector<Begun> out;
  for (const auto& [token, b] : begun_) out.push_back(b);
  std::sort(out.begin(), out.end(), [](const Begun& a, const Begun& b) { return a.at_ns < b.at_ns; });
  return out;
}

std::string TraceSummary::text(std::uint64_t now_ns, bool bold) const {
  Table t({"METHOD", "COUNT", "ERRORS", "CHUNKS", "P50", "P99", "MAX", "ASKED", "REPLIED"});
  for (const auto& entry : methods_) {
    const Method& m = entry.second;
    const auto at = [&m](double q) { return m.count ? latency_text(m.latencies.quantile(q)) : std::string("-"); };
    t.add({entry.first, std::to_string(m.count), std::to_string(m.errors), std::to_string(m.chunks), at(0.5), at(0.99),
           m.count ? latency_text(m.latencies.max()) : "-", bytes_text(m.asked), bytes_text(m.answered)});
  }
  std::string out = t.empty() ? "" : t.text(bold);
  out += plural(calls_, "call") + " in " + latency_text(now_ns) + ", " + plural(errors_, "error");
  if (faults_) out += ", " + plural(faults_, "fault");
  if (lost_) out += ", lost " + std::to_string(lost_);
  out += "\n";
  const std::vector<Begun> still = open();
  for (std::size_t i = 0; i < std::min<std::size_t>(still.size(), 5); ++i)
    out += "still open: " + still[i].name + ", for " + latency_text(now_ns - std::min(now_ns, still[i].at_ns)) + "\n";
  if (still.size() > 5) out += "still open: " + std::to_string(still.size() - 5) + " more\n";
  return out;
}

std::string TraceSummary::json(std::uint64_t now_ns) const {
  JsonWriter w(JsonWriter::Layout::line);
  w.open('{').key("summary").open('{').field("elapsed_ns", now_ns).field("calls", calls_).field("errors", errors_);
  w.field("faults", faults_).field("lost", lost_).key("methods").open('[');
  for (const auto& [name, m] : methods_) {
    w.open('{').field("method", name).field("count", m.count).field("errors", m.errors).field("chunks", m.chunks);
    w.field("p50_ns", m.latencies.quantile(0.5)).field("p99_ns", m.latencies.quantile(0.99));
    w.field("max_ns", m.latencies.max()).field("asked_bytes", m.asked).field("reply_bytes", m.answered).close();
  }
  w.close().key("open").open('[');
  for (const Begun& b : open()) w.open('{').field("method", b.name).field("since_ns", b.at_ns).close();
  return w.close().close().close().text();
}

}  // namespace gantry::cli
