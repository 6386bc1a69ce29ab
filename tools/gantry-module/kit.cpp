// From a file to a report: which tests there are, in which hosts they run, what their results mean together.
#include "tools/gantry-module/kit.hpp"

#include "kernel/base/file.hpp"
#include "tools/gantry-module/runner.hpp"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <set>

#include <fnmatch.h>
#include <unistd.h>

namespace gantry::kit {
namespace {

std::string find_modhost() {
  std::error_code ec;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", ec).parent_path();
  for (const auto& p : {self / "gantry-modhost", self / "../libexec/gantry/gantry-modhost", self / "../lib/gantry/gantry-modhost",
                        std::filesystem::path(GANTRY_LIBEXEC_DIR) / "gantry-modhost"})
    if (::access(p.c_str(), X_OK) == 0) return std::filesystem::weakly_canonical(p, ec).string();
  return {};
}

TestResult skipped(const Test& t, const std::string& host, std::string reason) {
  TestResult r;
  r.name = t.name;
  r.host = host;
  r.stage = t.stage;
  r.must = t.must;
  r.remedy = t.remedy;
  r.outcome = Outcome::skipped;
  r.reason = std::move(reason);
  return r;
}

// Stage 6: what holds in one host holds in the other.
void compare_hosts(std::vector<TestResult>& results, const std::function<void(const TestResult&)>& on_result) {
  std::map<std::string, std::map<std::string, const TestResult*>> by_name;
  for (const auto& r : results)
    if (!r.host.empty()) by_name[r.name][r.host] = &r;
  TestResult twice;
  twice.name = "twice.same_results";
  twice.stage = 6;
  twice.must = "every test has the same result in process and in gantry-modhost";
  twice.remedy = "look for what differs between the hosts: shared memory with the caller, fork, capabilities, the account, signals";
  std::size_t compared = 0;
  for (const auto& [name, hosts] : by_name) {
    const auto k = hosts.find("kernel"), p = hosts.find("process");
    if (k == hosts.end() || p == hosts.end()) continue;
    const auto good = [](const TestResult& r) { return r.outcome == Outcome::passed; };
    if (k->second->outcome == Outcome::skipped || p->second->outcome == Outcome::skipped) continue;
    ++compared;
    if (good(*k->second) != good(*p->second))
      twice.failures.push_back({name + ": " + std::string(to_string(k->second->outcome)) + " in process, " +
                                    std::string(to_string(p->second->outcome)) + " in gantry-modhost", {}});
  }
  twice.notes.push_back(std::to_string(compared) + " tests compared");
  twice.outcome = twice.failures.empty() ? Outcome::passed : Outcome::failed;
  if (compared == 0) {
    twice.outcome = Outcome::skipped;
    twice.reason = "no test ran in both hosts";
  }
  results.push_back(twice);
  if (on_result) on_result(results.back());
}

void apply_waivers(TestResult& r, const Author& author, std::set<const Waiver*>& used) {
  if (r.outcome != Outcome::failed) return;
  for (const Waiver& w : author.waivers)
    if (w.covers(r.name, r.host)) {
      used.insert(&w);
      r.outcome = Outcome::waived;
      r.reason = w.reason;
      return;
    }
}

}  // namespace

std::string_view to_string(Outcome o) {
  switch (o) {
    case Outcome::passed: return "ok";
    case Outcome::failed: return "FAILED";
    case Outcome::skipped: return "skipped";
    case Outcome::waived: return "waived";
  }
  return "";
}

std::uint32_t Target::flags() const {
  if (!elf.descriptor) return 0;
  for (const auto& p : elf.descriptor->providers)
    if (p.kind == manifest.kind && p.name == manifest.name) return p.flags;
  return 0;
}

std::vector<std::string> Target::missing_settings() const {
  std::vector<std::string> out;
  for (const auto& f : manifest.fields) {
    const bool given = std::any_of(author.settings.begin(), author.settings.end(), [&](const auto& s) { return s.key == f.key; });
    if (f.required && !given) out.push_back(f.key);
  }
  return out;
}

Result<Target> open_target(const std::string& path) {
  Target t;
  std::error_code ec;
  t.path = std::filesystem::absolute(path, ec).lexically_normal().string();
  auto image = base::read_file(path, std::size_t{1} << 30);
  if (!image) return std::move(image).error().because("cannot read " + path);
  t.image = std::move(*image);
  auto elf = read_elf(t.image);
  if (elf) t.elf = std::move(*elf);
  else t.readable = elf.error();
  const auto info = config::inspect_library(t.image);
  if (!info) {
    t.manifest_problem = info.error().message;
  } else if (info->manifest.empty()) {
    t.manifest_problem = "it has no section .note.gantry";
  } else if (auto m = config::parse_manifest(info->manifest, "module.toml")) {
    t.manifest = std::move(*m);
  } else {
    t.manifest_problem = m.error().message;
  }
  t.modhost = find_modhost();
  return t;
}

Subject& Env::running(Check& check) {
  needs_settings(check);
  Subject& s = subject(check);
  const Status up = s.up();
  if (!up) {
    check.skip("it does not start here, see config.defaults: " + Check::describe(up.error()));
  }
  return s;
}

void Env::needs_settings(Check& check) const {
  const auto missing = target.missing_settings();
  if (missing.empty()) return;
  check.skip("the setting " + missing.front() + " has no default; give it in [settings] of conformance.toml beside the module");
}

Random Env::random(std::string_view name) const {
  // The same in both hosts, so that stage 6 compares the same messages.
  std::uint64_t h = 1469598103934665603u ^ options.seed;
  for (const char c : name) h = (h ^ static_cast<unsigned char>(c)) * 1099511628211u;
  return Random(h);
}

std::vector<Test> all_tests(const Target& target, const CheckOptions& options) {
  std::vector<Test> tests;
  add_static_tests(target, tests);
  add_load_tests(target, tests);
  add_config_tests(target, tests);
  add_contract_tests(target, tests);
  add_behaviour_tests(target, tests);
  add_fuzz_tests(target, tests);
  if (!options.replay.empty()) add_replay_tests(target, options.replay, tests);
  return tests;
}

std::size_t Report::count(Outcome o) const {
  return static_cast<std::size_t>(std::count_if(results.begin(), results.end(), [o](const auto& r) { return r.outcome == o; }));
}

namespace {
int given_patience = 0;
}
void set_patience(int n) { given_patience = n; }

// Sanitizers make everything several times slower.
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define GANTRY_SANITIZED
#endif
#endif
#if defined(GANTRY_SANITIZED) || defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int build_patience = 5;
#else
constexpr int build_patience = 1;
#endif

int patience() {
  if (given_patience > 0) return given_patience;
  double load = 0;
  if (::getloadavg(&load, 1) != 1) return build_patience;
  const double each = load / static_cast<double>(std::max(1L, ::sysconf(_SC_NPROCESSORS_ONLN)));
  return build_patience * (each <= 1.5 ? 1 : std::min(20, static_cast<int>(each + 1)));
}

bool matches(std::string_view text, std::string_view pattern) {
  if (pattern.empty()) return true;
  if (pattern.find_first_of("*?") == std::string_view::npos) return text.find(pattern) != std::string_view::npos;
  return ::fnmatch(std::string(pattern).c_str(), std::string(text).c_str(), 0) == 0;
}

Report check(const Target& target, const CheckOptions& options, const std::function<void(const TestResult&)>& on_result) {
  const auto begun = std::chrono::steady_clock::now();
  Report report;
  const auto wants = [&](int stage) {
    return options.stages.empty() || std::find(options.stages.begin(), options.stages.end(), stage) != options.stages.end();
  };
  const auto wants_host = [&](std::string_view h) {
    return options.hosts.empty() || std::find(options.hosts.begin(), options.hosts.end(), h) != options.hosts.end();
  };
  // "isolator/cleanup_unknown", as the pages in sdk/docs write it, names isolator.cleanup_unknown.
  std::string filter = options.filter;
  std::replace(filter.begin(), filter.end(), '/', '.');

  const std::vector<Test> tests = all_tests(target, options);
  std::set<const Waiver*> used;
  const auto tell = [&](TestResult r) {
    apply_waivers(r, target.author, used);
    report.results.push_back(std::move(r));
    if (on_result) on_result(report.results.back());
  };
  // Stage 1 always runs, for what it says about the rest; it is reported where it was asked for.
  std::string unloadable;
  for (const Test& t : tests) {
    if (t.stage != 1) continue;
    TestResult r = run_here(target, options, {&t, ""});
    if (r.outcome == Outcome::failed && t.remedy.find("cannot be loaded") != std::string::npos && unloadable.empty())
      unloadable = t.name;
    if (wants(1) && matches(t.name, filter)) tell(std::move(r));
  }

  const std::uint32_t flags = target.flags();
  std::string no_process;
  if (flags & GANTRY_NEVER_PROCESS) no_process = "its provider says GANTRY_NEVER_PROCESS";
  else if (target.modhost.empty()) no_process = "gantry-modhost is not beside gantry-module nor installed";
  std::vector<Planned> plan;
  for (const char* host : {"kernel", "process"}) {
    const bool process = std::string_view(host) == "process";
    if (!wants_host(host)) continue;
    std::string no = process ? no_process : (flags & GANTRY_NEEDS_PROCESS) ? "its provider says GANTRY_NEEDS_PROCESS" : "";
    if (!no.empty() && unloadable.empty()) report.warnings.push_back(std::string("nothing was checked in host ") + host + ": " + no);
    for (const Test& t : tests) {
      if (t.stage == 1 || !wants(t.stage) || !matches(t.name, filter)) continue;
      if (process ? !t.in_process : !t.in_kernel) continue;
      if (!unloadable.empty()) tell(skipped(t, host, "it cannot be loaded, see " + unloadable));
      else if (no.empty()) plan.push_back({&t, host});
    }
  }
  if (options.here)
    for (const Planned& p : plan) tell(run_here(target, options, p));
  else
    (void)run_tests(target, options, plan, tell);
  if (wants(6) && wants_host("kernel") && wants_host("process") && matches("twice.same_results", filter) && !plan.empty())
    compare_hosts(report.results, on_result);
  for (const Waiver& w : target.author.waivers)
    if (!used.count(&w) && options.stages.empty() && options.hosts.empty() && options.filter.empty())
      report.warnings.push_back(w.where.text() + ": the waiver of " + w.test + " is not used; remove it");
  report.ms = (std::chrono::steady_clock::now() - begun) / 1ms;
  return report;
}

}  // namespace gantry::kit
