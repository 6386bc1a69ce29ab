// What calling a module costs: its own code, the way through the kernel, the way through gantry-modhost.
#include "tools/gantry-module/commands.hpp"

#include "kernel/module/loader.hpp"
#include "tools/gantry-module/subject.hpp"
#include "tools/gantry/json_writer.hpp"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <iomanip>

namespace gantry::kit {
namespace {

using Clock = std::chrono::steady_clock;

struct Figure {
  std::string name, unit, what;
  double value = 0;
};

double median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v.empty() ? 0 : v[v.size() / 2];
}

// The median over rounds of what one call of fn costs, in nanoseconds.
template <class F>
double cost(unsigned rounds, unsigned calls, F fn) {
  std::vector<double> each;
  for (unsigned r = 0; r < rounds; ++r) {
    const auto begun = Clock::now();
    fn(calls);
    each.push_back(static_cast<double>((Clock::now() - begun) / 1ns) / calls);
  }
  return median(std::move(each));
}

Result<std::vector<Figure>> alone(const Target& target, unsigned rounds) {
  config::ModuleConfig c;
  c.kind = target.manifest.kind;
  c.name = target.manifest.name;
  c.path = target.path;
  c.manifest = target.manifest;
  c.allow_unstable = true;
  GANTRY_TRY(const module::Loaded loaded, module::load_library(c));
  std::vector<Figure> out;
  testing::Host host;
  out.push_back({"create_destroy", "ns", "create and destroy one instance",
                 cost(rounds, 200, [&](unsigned n) {
                   for (unsigned i = 0; i < n; ++i) testing::Instance instance(host, loaded.provider);
                 })});
  testing::Instance instance(host, loaded.provider);
  if (!instance.created()) return fail(Code::resource_exhausted, "create() returned NULL");
  bool completed = true;
  out.push_back({"call_alone", "ns", "HEALTH in the module alone, the fake host included",
                 cost(rounds, 2000, [&](unsigned n) {
                   for (unsigned i = 0; i < n; ++i) completed &= instance.open(GANTRY_METHOD_HEALTH, Buffer()).done();
                 })});
  if (!completed) out.pop_back();  // it answers later: that is no cost of a call
  return out;
}

Status hosted(const Target& target, const std::string& host, const std::string& scratch, unsigned rounds, std::vector<Figure>& out) {
  const auto begun = Clock::now();
  GANTRY_TRY(auto subject, make_subject({target, host, scratch, 2, nullptr}));
  const double started = static_cast<double>((Clock::now() - begun) / 1us);
  GANTRY_CHECK(subject->up());
  const std::string in = host == "kernel" ? "in process" : "in gantry-modhost";
  out.push_back({host + "_start", "us", "until the instance exists, " + in, started});
  const unsigned calls = host == "kernel" ? 2000 : 500;
  out.push_back({host + "_call", "us", "HEALTH, one at a time, " + in,
                 cost(rounds, calls, [&](unsigned n) {
                   for (unsigned i = 0; i < n; ++i) subject->open(GANTRY_METHOD_HEALTH, Buffer()).wait();
                 }) / 1000});
  out.push_back({host + "_call_64", "us", "HEALTH, 64 in flight, " + in,
                 cost(rounds, calls * 8, [&](unsigned n) {
                   for (unsigned i = 0; i < n; i += 64) {
                     std::vector<conformance::Pending> all;
                     for (unsigned k = 0; k < 64; ++k) all.push_back(subject->open(GANTRY_METHOD_HEALTH, Buffer()));
                     for (const auto& p : all) p.wait();
                   }
                 }) / 1000});
  return subject->down();
}

}  // namespace

int bench(const BenchCommand& c, std::ostream& out, std::ostream& err) {
  const auto target = open_with_author(c.file, c.author);
  const auto refuse = [&](const Error& e) {
    err << "gantry-module: " << e.message << "\n";
    return exit_findings;
  };
  if (!target) {
    refuse(target.error());
    return exit_usage;
  }
  if (const auto missing = target->missing_settings(); !missing.empty())
    return refuse(fail(Code::failed_precondition, "the setting " + missing.front() + " has no default; give it in [settings] of conformance.toml beside the module"));
  auto figures = alone(*target, c.rounds);
  if (!figures) return refuse(figures.error());
  std::string scratch = "/tmp/gantry-bench.XXXXXX";
  if (!::mkdtemp(scratch.data())) return refuse(fail(Code::unavailable, "cannot make a directory below /tmp"));
  Status s = hosted(*target, "kernel", scratch, c.rounds, *figures);
  std::string left_out;
  if (s && !target->modhost.empty() && !(target->flags() & GANTRY_NEVER_PROCESS)) s = hosted(*target, "process", scratch, c.rounds, *figures);
  else left_out = "nothing was measured in gantry-modhost, which is not beside gantry-module nor installed";
  std::error_code ec;
  std::filesystem::remove_all(scratch, ec);
  if (!s) return refuse(s.error());
  if (c.json) {
    cli::JsonWriter w;
    w.open('{').field("module", std::string_view(target->id())).key("figures").open('[');
    for (const auto& f : *figures)
      w.open('{').field("name", std::string_view(f.name)).field("value", f.value).field("unit", std::string_view(f.unit)).field("what", std::string_view(f.what)).close();
    w.close().close();
    out << w.text();
    return exit_ok;
  }
  out << target->id() << ", medians of " << c.rounds << " rounds\n";
  for (const auto& f : *figures)
    out << std::left << std::setw(18) << f.name << std::right << std::setw(12) << std::fixed << std::setprecision(f.unit == "ns" ? 0 : 2) << f.value
        << " " << f.unit << "  " << f.what << "\n";
  if (!left_out.empty()) out << left_out << "\n";
  return exit_ok;
}

}  // namespace gantry::kit
