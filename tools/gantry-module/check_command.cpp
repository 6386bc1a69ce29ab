#include "tools/gantry-module/commands.hpp"

#include "tools/gantry-module/runner.hpp"

#include <fstream>

namespace gantry::kit {

Result<Target> open_with_author(const std::string& file, const std::string& author) {
  GANTRY_TRY(Target target, open_target(file));
  const std::string path = author.empty() ? find_author_file(target.path) : author;
  if (!path.empty()) {
    auto read = read_author(path, target.manifest);
    if (!read) return fail(Code::invalid_argument, read.error().message);
    target.author = std::move(*read);
  }
  return target;
}

int check(CheckCommand c, std::ostream& out, std::ostream& err) {
  auto target = open_with_author(c.file, c.author);
  if (!target) {
    err << "gantry-module: " << target.error().message << "\n";
    return exit_usage;
  }
  if (c.options.reproduce) {
    c.options.hosts = {"kernel"};
    if (c.options.stages.empty()) c.options.stages = {7};
  }
  if (c.list) {
    for (const Test& t : all_tests(*target, c.options))
      if (matches(t.name, c.options.filter)) out << t.stage << "  " << t.name << ": " << t.must << "\n";
    return exit_ok;
  }
  const bool human = c.json != "-";
  if (human && !target->author.file.empty()) out << "settings and waivers from " << target->author.file << "\n";
  if (human) out << "seed " << c.options.seed << "\n";
  const Report report = check(*target, c.options, [&](const TestResult& r) {
    if (!human || (c.quiet && r.outcome != Outcome::failed)) return;
    out << report_line(r) << std::flush;
  });
  if (report.results.empty()) {
    err << "gantry-module: no test has a name with \"" << c.options.filter << "\" in these stages and hosts; --list shows all\n";
    return exit_usage;
  }
  if (human) out << report_text(*target, report);
  if (c.json == "-") {
    out << report_json(*target, c.options, report);
  } else if (!c.json.empty()) {
    std::ofstream file(c.json, std::ios::trunc);
    file << report_json(*target, c.options, report);
    if (!file.flush()) {
      err << "gantry-module: cannot write " << c.json << "\n";
      return exit_usage;
    }
  }
  return report.count(Outcome::failed) ? exit_findings : exit_ok;
}

}  // namespace gantry::kit
