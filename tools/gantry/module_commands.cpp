// gantry module list, show, trace, record.
#include "kernel/config/suggest.hpp"
#include "kernel/config/values.hpp"
#include "kernel/module/method_names.hpp"
#include "kernel/module/trace_file.hpp"
#include "tools/gantry/control.hpp"
#include "tools/gantry/format.hpp"
#include "tools/gantry/json_writer.hpp"
#include "tools/gantry/trace_view.hpp"

#include <algorithm>
#include <chrono>
#include <iostream>

namespace gantry::cli {

namespace control = fb::control;

namespace {

using Clock = std::chrono::steady_clock;
// How long one question waits for something to happen: an interrupt is noticed after at most that.
constexpr std::uint64_t patience_ns = 250'000'000;

void write_module(JsonWriter& w, const control::ModuleT& m) {
  w.field("kind", m.kind).field("name", m.name).field("version", m.version).field("state", m.state);
  w.field("host", m.host).field("path", m.path).field("message", m.message).field("build", m.build);
  w.field("calls", m.calls).field("faults", m.faults).field("slow", m.slow).field("restarts", m.restarts);
  w.field("revision", std::uint32_t{m.revision});
}

Result<std::uint64_t> duration(const std::string& text, const char* option) {
  auto d = config::parse_duration(text);
  if (!d) return std::move(d).error().because(option);
  if (*d <= 0) return fail(Code::invalid_argument, std::string(option) + " " + text + ": must be more than nothing");
  return static_cast<std::uint64_t>(*d);
}

Result<std::uint64_t> size(const std::string& text, const char* option) {
  auto s = config::parse_size(text);
  if (!s) return std::move(s).error().because(option);
  if (*s <= 0) return fail(Code::invalid_argument, std::string(option) + " " + text + ": must be more than nothing");
  return static_cast<std::uint64_t>(*s);
}

std::string several(std::uint64_t n, const char* one, const char* many) {
  return std::to_string(n) + " " + (n == 1 ? one : many);
}

// A running trace, read in pieces until somebody says stop.
class Reading {
 public:
  static Result<Reading> start(const Context& c, control::TraceModuleT ask) {
    GANTRY_TRY(auto daemon, Daemon::find(c));
    Reading r(std::move(daemon), c.interrupted);
    GANTRY_CHECK(r.daemon_.ask_for<control::TraceT>(std::move(ask), [&](const control::TraceT& t) {
      r.id_ = t.id;
      if (t.header) r.header_ = *t.header;
    }));
    r.began_ = Clock::now();
    return r;
  }
  // Hands on what comes until `each` says false, the time is over or the user interrupts.
  Status until(std::uint64_t for_ns, const std::function<bool(const control::TraceT&)>& each) {
    bool go_on = true;
    while (go_on && !(interrupted_ && interrupted_->load())) {
      const std::uint64_t now = elapsed();
      if (for_ns && now >= for_ns) break;
      control::ReadTraceT ask;
      ask.id = id_;
      ask.wait_ns = for_ns ? std::min(patience_ns, for_ns - now) : patience_ns;
      GANTRY_CHECK(
          daemon_.ask_for<control::TraceT>(std::move(ask), [&](const control::TraceT& t) { go_on = each(t); }));
    }
    control::EndTraceT end;
    end.id = id_;
    // What is over by itself needs no ending.
    (void)daemon_.ask_for<control::DoneT>(std::move(end), [](const control::DoneT&) {});
    return ok;
  }
  [[nodiscard]] const fb::trace::HeaderT& header() const { return header_; }
  [[nodiscard]] std::uint64_t elapsed() const {
    return static_cast<std::uint64_t>(std::chrono::nanoseconds(Clock::now() - began_).count());
  }

 private:
  Reading(Daemon d, const std::atomic<bool>* interrupted) : daemon_(std::move(d)), interrupted_(interrupted) {}
  Daemon daemon_;
  const std::atomic<bool>* interrupted_;
  std::uint64_t id_ = 0;
  fb::trace::HeaderT header_;
  Clock::time_point began_;
};

Status check_methods(const std::vector<std::string>& methods, const std::string& kind) {
  const std::vector<std::string> known = module::all_names(kind);
  for (const std::string& m : methods) {
    if (std::find(known.begin(), known.end(), m) != known.end()) continue;
    if (!m.empty() && m.find_first_not_of("0123456789.") == std::string::npos) continue;  // a method without a name
    const std::string hint = config::did_you_mean(m, known);
    return fail(Code::invalid_argument, "--method " + m + ": a module of kind " + kind + " has no such method" +
                                            (hint.empty() ? "; there are " + config::one_of(known) : hint));
  }
  return ok;
}

}  // namespace

int modules(Context& c) {
  Table t({"MODULE", "HOST", "STATE", "RESTARTS", "CALLS", "FAULTS", "SLOW", "VERSION", "REASON"});
  JsonWriter w;
  w.open('{').key("modules").open('[');
  auto daemon = Daemon::find(c);
  if (!daemon) return report(c, daemon.error());
  const Status s = daemon->ask_for<control::ModulesT>(control::AskModulesT{}, [&](const control::ModulesT& found) {
    for (const auto& m : found.modules) {
      t.add({m->kind + "." + m->name, m->host, m->state, std::to_string(m->restarts), std::to_string(m->calls),
             std::to_string(m->faults), std::to_string(m->slow), m->version, printable(m->message)});
      w.open('{');
      write_module(w, *m);
      w.close();
    }
  });
  w.close().close();
  if (!s) return report(c, s.error());
  *c.out << (c.json ? w.text() : t.text(c.terminal));
  return exit_ok;
}

int module_show(Context& c, const std::string& id, unsigned log_lines) {
  auto daemon = Daemon::find(c);
  if (!daemon) return report(c, daemon.error());
  control::AskModuleT ask;
  ask.module_ = id;
  ask.log_lines = log_lines;
  control::ModuleDetailT d;
  const Status s =
      daemon->ask_for<control::ModuleDetailT>(std::move(ask), [&](const control::ModuleDetailT& a) { d = a; });
  if (!s) return report(c, s.error());
  if (!d.module_) return report(c, fail(Code::internal, "the daemon's answer names no module"));
  const control::ModuleT& m = *d.module_;
  if (c.json) {
    JsonWriter w;
    w.open('{');
    write_module(w, m);
    w.field("traced", d.traced).key("settings").open('[');
    for (const auto& v : d.settings) {
      w.open('{').field("key", v->key);
      if (!v->secret) w.field("value", v->value);
      w.field("given", v->given)
          .field("secret", v->secret)
          .field("reloadable", v->reloadable)
          .field("doc", v->doc)
          .close();
    }
    w.close().key("metrics").open('[');
    for (const auto& v : d.metrics)
      w.open('{').field("name", v->name).field("value", v->value).field("unit", v->unit).field("help", v->help).close();
    w.close().list("log", d.log).field("manifest", d.manifest).close();
    *c.out << w.text();
    return exit_ok;
  }
  Table t(
      {m.kind + "." + m.name, "version " + m.version + ", revision " + std::to_string(m.revision) + " of its kind"});
  t.add({"state", m.state + (m.message.empty() ? "" : ": " + printable(m.message))});
  t.add({"host", m.host + (m.restarts ? ", " + plural(m.restarts, "restart") : "")});
  t.add({"path", m.path});
  t.add({"build", printable(m.build)});
  t.add({"counters", plural(m.calls, "call") + ", " + plural(m.faults, "fault") + ", " + std::to_string(m.slow) +
                         " slow entries" + (d.traced ? ", " + plural(d.traced, "trace") + " running" : "")});
  *c.out << t.text(c.terminal);
  const auto title = [&](const char* text) {
    *c.out << "\n" << (c.terminal ? "\033[1m" : "") << text << (c.terminal ? "\033[0m" : "") << "\n";
  };
  if (!d.settings.empty()) {
    title("Settings");
    Table settings({"KEY", "VALUE", "FROM", "RELOAD", "WHAT"});
    for (const auto& v : d.settings)
      settings.add({v->key, v->secret ? "(secret)" : printable(v->value), v->given ? "configuration" : "default",
                    v->reloadable ? "yes" : "restart", v->doc});
    *c.out << settings.text(false);
  }
  if (!d.metrics.empty()) {
    title("Metrics");
    Table metrics({"NAME", "VALUE", "UNIT", "WHAT"});
    for (const auto& v : d.metrics) {
      const auto slash = v->name.find('/');
      metrics.add({printable(v->name.substr(slash == std::string::npos ? 0 : slash + 1)), amount(v->value),
                   printable(v->unit), printable(v->help)});
    }
    *c.out << metrics.text(false);
  }
  if (!d.log.empty()) {
    title("Log");
    for (const std::string& line : d.log) *c.out << printable(line) << "\n";
  }
  return exit_ok;
}

int module_trace(Context& c, const TraceOptions& o) {
  TraceFilter filter;
  filter.methods = o.methods;
  filter.errors = o.errors;
  filter.all = o.all;
  std::uint64_t for_ns = 0, every_ns = 0;
  const auto read_options = [&]() -> Status {
    if (!o.duration.empty()) {
      GANTRY_TRY(for_ns, duration(o.duration, "--for"));
    }
    if (!o.every.empty()) {
      GANTRY_TRY(every_ns, duration(o.every, "--every"));
    }
    if (!o.slower.empty()) {
      GANTRY_TRY(filter.slower_ns, duration(o.slower, "--slower"));
    }
    return ok;
  };
  if (const Status s = read_options(); !s) return report(c, s.error());
  control::TraceModuleT ask;
  ask.module_ = o.module;
  auto reading = Reading::start(c, std::move(ask));
  if (!reading) return report(c, reading.error());
  const std::string kind = reading->header().kind;
  if (const Status s = check_methods(o.methods, kind); !s) return report(c, s.error());
  const TraceView view(reading->header());
  const bool summary_only = o.summary || every_ns;
  auto summary = std::make_unique<TraceSummary>(kind);
  const auto print_summary = [&] {
    *c.out << (c.json ? summary->json(reading->elapsed()) : summary->text(reading->elapsed(), c.terminal));
    c.out->flush();
  };
  if (!c.json && !summary_only)
    *c.out << (c.terminal ? "\033[1m" : "") << TraceView::heading() << (c.terminal ? "\033[0m" : "") << std::endl;
  std::uint64_t next = every_ns;
  const Status s = reading->until(for_ns, [&](const control::TraceT& batch) {
    for (const auto& e : batch.entries) {
      // What is filtered by method is out of the summary too; the other filters choose rows.
      const std::string name = view.name(*e);
      if (!filter.methods.empty() &&
          std::find(filter.methods.begin(), filter.methods.end(), name) == filter.methods.end())
        continue;
      summary->add(*e);
      if (summary_only || !filter.shows(*e, name)) continue;
      *c.out << (c.json ? view.json(*e) : view.row(*e) + "\n");
    }
    if (batch.lost) {
      summary->add_lost(batch.lost);
      if (!c.json && !summary_only) *c.out << "lost " << batch.lost << " (they came faster than they were read)\n";
      if (c.json && !summary_only) {
        JsonWriter w(JsonWriter::Layout::line);
        w.open('{').field("what", "lost").field("count", batch.lost).close();
        *c.out << w.text();
      }
    }
    if (every_ns && reading->elapsed() >= next) {
      print_summary();
      if (!c.json) *c.out << "\n";
      next += every_ns * ((reading->elapsed() - next) / every_ns + 1);
    }
    c.out->flush();
    return c.out->good();  // head(1) has seen enough
  });
  if (!s) return report(c, s.error());
  if (summary_only)
    print_summary();
  else if (!c.json && c.out->good())
    *c.out << plural(summary->calls(), "call") << (summary->lost() ? ", lost " + std::to_string(summary->lost()) : "")
           << "\n";
  return exit_ok;
}

int module_record(Context& c, const RecordOptions& o) {
  std::uint64_t for_ns = 0, max = 0, max_body = 0;
  const auto read_options = [&]() -> Status {
    if (!o.duration.empty()) {
      GANTRY_TRY(for_ns, duration(o.duration, "--for"));
    }
    GANTRY_TRY(max, size(o.max, "--max"));
    GANTRY_TRY(max_body, size(o.max_body, "--max-body"));
    return ok;
  };
  if (const Status s = read_options(); !s) return report(c, s.error());
  control::TraceModuleT ask;
  ask.module_ = o.module;
  ask.bodies = true;
  ask.secrets = o.secrets;
  ask.max_body = max_body;
  auto reading = Reading::start(c, std::move(ask));
  if (!reading) return report(c, reading.error());
  auto file = module::RecordingWriter::create(o.file, reading->header());
  if (!file) return report(c, file.error());
  if (!c.json && c.terminal)
    *c.err << "recording " << o.module << " to " << o.file << (for_ns ? "" : "; Ctrl-C ends it") << "\n";
  std::uint64_t entries = 0, lost = 0, blanked = 0, too_large = 0;
  bool full = false;
  Status written = ok;
  const Status s = reading->until(for_ns, [&](const control::TraceT& batch) {
    lost += batch.lost;
    for (const auto& e : batch.entries) {
      if (file->size() >= max) {
        full = true;
        return false;
      }
      written = file->add(*e);
      if (!written) return false;
      ++entries;
      blanked += e->body_state == fb::trace::BodyState::BLANKED || e->body_state == fb::trace::BodyState::MASKED;
      too_large += e->body_state == fb::trace::BodyState::TOO_LARGE;
    }
    written = file->flush();
    return written.has_value();
  });
  if (written) written = file->flush();
  if (!written) return report(c, written.error());
  // What came before the daemon went is a recording all the same.
  if (!s) report(c, s.error());
  if (c.json) {
    JsonWriter w;
    w.open('{').field("file", o.file).field("entries", entries).field("bytes", file->size()).field("lost", lost);
    w.field("without_credentials", blanked).field("too_large", too_large).field("full", full).close();
    *c.out << w.text();
  } else {
    *c.out << several(entries, "entry", "entries") << ", " << bytes_text(file->size()) << " bytes in " << o.file
           << "\n";
    if (full) *c.out << "the file has reached --max " << o.max << "\n";
    if (blanked) *c.out << several(blanked, "body", "bodies") << " without credentials; --with-secrets keeps them\n";
    if (too_large)
      *c.out << several(too_large, "body", "bodies") << " left out, larger than --max-body " << o.max_body << "\n";
    if (lost) *c.out << "lost " << lost << ": they came faster than they were read, the recording has holes\n";
  }
  return s ? int{exit_ok} : exit_code(s.error());
}

}  // namespace gantry::cli
