// gantry-module: reads the command line; the work is in the other files.
#include "tools/gantry-module/commands.hpp"
#include "tools/gantry-module/new.hpp"

#include "kernel/config/suggest.hpp"
#include "kernel/config/values.hpp"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <csignal>
#include <iostream>
#include <map>

#include <unistd.h>

namespace {

using namespace gantry::kit;

constexpr const char* footer = R"(
Exit codes:
  0  done, no findings     1  findings, or not done     2  wrong usage, or the file cannot be read

Examples:
  gantry-module new isolator acme-nofile --lang cpp
  gantry-module inspect build/gantry-isolator-acme-nofile.so
  gantry-module check build/gantry-isolator-acme-nofile.so
  gantry-module check build/gantry-isolator-acme-nofile.so --host kernel -k contract)";

const std::map<std::string, int> stage_names = {{"static", 1},   {"load", 2},  {"config", 3}, {"contract", 4}, {"behaviour", 5},
                                                {"twice", 6},    {"fuzz", 7},  {"replay", 8}};

int parse_stage(const std::string& word) {
  if (const auto it = stage_names.find(word); it != stage_names.end()) return it->second;
  if (word.size() == 1 && word[0] >= '1' && word[0] <= '8') return word[0] - '0';
  std::vector<std::string> names;
  for (const auto& [name, number] : stage_names) names.push_back(name);
  throw CLI::ValidationError("--stage", "there is no stage \"" + word + "\"; there are 1 to 8, or " + gantry::config::one_of(names) +
                                            gantry::config::did_you_mean(word, names));
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  CLI::App app{"gantry-module: write, look into, check and measure a module of Gantry", "gantry-module"};
  app.footer(footer);
  app.require_subcommand(1);
  app.set_version_flag("-V,--version", "gantry-module " GANTRY_VERSION);
  int rc = exit_usage;

  add_new(app);
  app.get_subcommand("new")->final_callback([&rc] { rc = exit_ok; });

  std::string file;
  bool json = false;
  CLI::App* looking = app.add_subcommand("inspect", "What a module's file says: manifest, ABI, exports, libraries, floors. Runs no code of it");
  looking->add_option("FILE", file, "The module's .so")->required();
  looking->add_flag("--json", json, "Print JSON, for programs");
  looking->callback([&] { rc = inspect(file, json, std::cout, std::cerr); });

  CheckCommand c;
  std::vector<std::string> stages;
  std::string host = "both", timeout = "20s";
  int patience = 0;
  std::uint64_t reproduce = 0;
  CLI::App* checking = app.add_subcommand("check", "Run the conformance kit on a module: stages 1 to 8, in process and in gantry-modhost");
  checking->add_option("FILE", c.file, "The module's .so")->required();
  checking->add_option("--stage", stages, "Only these: 1 static, 2 load, 3 config, 4 contract, 5 behaviour, 6 twice, 7 fuzz, 8 replay")
      ->type_name("STAGE")->delimiter(',')->allow_extra_args(false);
  checking->add_option("--host", host, "kernel (in process), process (in gantry-modhost) or both")
      ->check(CLI::IsMember({"kernel", "process", "both"}))->type_name("HOST");
  checking->add_option("-k,--filter", c.options.filter, "Only tests whose name contains this; * and ? for the whole name")->type_name("PATTERN");
  checking->add_option("--json", c.json, "Write the report as JSON; - is standard output")->type_name("FILE");
  checking->add_option("--waivers,--fixture", c.author, "conformance.toml with settings, fixture and waivers (sought beside the module)")->type_name("FILE");
  checking->add_option("--seed", c.options.seed, "Of stage 7; the same seed makes the same messages")->type_name("N");
  checking->add_option("--fuzz", c.options.fuzz, "Messages per method in stage 7 (150)")->type_name("N")->check(CLI::Range(1u, 100'000'000u));
  CLI::Option* again = checking->add_option("--reproduce", reproduce, "Stage 7 with this seed in this very process, for a debugger")->type_name("SEED");
  checking->add_flag("--here", c.options.here, "Run every test in this very process, for a debugger");
  checking->add_option("--replay", c.options.replay, "A recording (gantry module record) to feed in stage 8")->type_name("FILE")->check(CLI::ExistingFile);
  checking->add_option("--timeout", timeout, "Of one test (20s)")->type_name("DURATION");
  checking->add_option("--patience", patience, "How many times longer limits are than on an idle machine (by the load)")
      ->type_name("N")
      ->check(CLI::Range(1, 100));
  checking->add_option("-j,--jobs", c.options.jobs, "Tests at a time (the number of processors)")->type_name("N")->check(CLI::Range(1u, 256u));
  checking->add_option("--max-glibc", c.options.max_glibc, "Find fault with a higher glibc floor than this, e.g. 2.36")->type_name("VERSION");
  checking->add_flag("--list", c.list, "Name the tests, run none");
  checking->add_flag("-q,--quiet", c.quiet, "Print findings only");
  checking->footer("\nA module that needs settings, files or accounts to run on a desk has a conformance.toml beside it; see gantry-module(1).");
  c.options.jobs = static_cast<unsigned>(std::max(1L, ::sysconf(_SC_NPROCESSORS_ONLN)));
  checking->callback([&] {
    for (const auto& s : stages) c.options.stages.push_back(parse_stage(s));
    if (host != "both") c.options.hosts = {host};
    gantry::kit::set_patience(patience);
    const auto ns = gantry::config::parse_duration(timeout);
    if (!ns || *ns <= 0) throw CLI::ValidationError("--timeout", ns ? "has to be longer than nothing" : ns.error().message);
    c.options.timeout = gantry::conformance::Nanos(*ns);
    if (again->count()) {
      c.options.reproduce = c.options.here = true;
      c.options.seed = reproduce;
    }
    rc = check(c, std::cout, std::cerr);
  });

  BenchCommand b;
  CLI::App* measuring = app.add_subcommand("bench", "Measure what calling a module costs, in process and in gantry-modhost");
  measuring->add_option("FILE", b.file, "The module's .so")->required();
  measuring->add_option("--fixture", b.author, "conformance.toml with settings (sought beside the module)")->type_name("FILE");
  measuring->add_option("--rounds", b.rounds, "Medians are of so many (9)")->type_name("N")->check(CLI::Range(1u, 1000u));
  measuring->add_flag("--json", b.json, "Print JSON, for programs");
  measuring->callback([&] { rc = bench(b, std::cout, std::cerr); });

  try {
    app.parse(argc, argv);
  } catch (const CLI::RuntimeError& e) {
    return e.get_exit_code();
  } catch (const CLI::ParseError& e) {
    const std::vector<std::string> names = {"new", "inspect", "check", "bench"};
    if (e.get_exit_code() != 0 && argc > 1 && argv[1][0] != '-' && std::find(names.begin(), names.end(), argv[1]) == names.end()) {
      const std::string hint = gantry::config::did_you_mean(argv[1], names);
      std::cerr << "gantry-module: there is no command \"" << argv[1] << "\"" << (hint.empty() ? "; there are " + gantry::config::one_of(names) : hint) << "\n";
      return exit_usage;
    }
    return app.exit(e, std::cout, std::cerr) == 0 ? exit_ok : exit_usage;
  }
  std::cout.flush();
  return rc;
}
