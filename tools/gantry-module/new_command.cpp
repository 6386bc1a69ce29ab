// The command line of `gantry-module new`, and what it prints.
#include "tools/gantry-module/new.hpp"

#include <CLI/CLI.hpp>

#include <filesystem>
#include <iostream>

namespace gantry::kit {
namespace {

namespace fs = std::filesystem;

std::string program() {
  std::error_code e;
  const fs::path p = fs::read_symlink("/proc/self/exe", e);
  return e ? std::string() : p.string();
}

void explain(const NewProject& p, const Created& c) {
  const bool usual = p.prefix.empty() || p.prefix == "/usr" || p.prefix == "/usr/local";
  const std::string tool = usual ? "gantry-module" : p.prefix + "/bin/gantry-module";
  std::cout << "Made " << p.kind << " " << p.name << " in " << c.dir << ":";
  for (const auto& f : c.files) std::cout << " " << f;
  std::cout << "\n\nBuild and test it:\n  cd " << c.dir << "\n";
  for (const auto& b : c.build) std::cout << "  " << b << "\n";
  std::cout << "\nCheck it against the contract of its kind:\n  " << tool << " check " << c.so << "\n";
  std::error_code e;
  const fs::path so = fs::absolute(c.dir, e) / c.so;
  std::cout << "\nUse it, in gantry.toml or a file of conf.d:\n  [" << p.kind << "." << p.name << "]\n  path = \"" << so.lexically_normal().string()
            << "\"\n  host = \"process\"      # or \"kernel\": inside gantryd\n\nREADME.md in it says what to write where.\n";
}

}  // namespace

void add_new(CLI::App& app) {
  static NewProject project;  // callbacks refer to it
  auto* p = &project;
  CLI::App* c = app.add_subcommand("new", "Write a complete project for a module: manifest, source, test, build file, README");
  c->footer("Example:\n  gantry-module new isolator acme-nofile --lang cpp\n\n"
            "The project builds, and passes its test and `gantry-module check`, as it is written. Nothing that exists is overwritten.\n"
            "Exit status: 0 written, 1 not written, 2 wrong usage.");
  c->add_option("KIND", p->kind, "allocator, authenticator, authorizer, election, fetcher, framework, gateway, image, isolator or store")->required();
  c->add_option("VENDOR-NAME", p->name, "name of the module with its vendor in front, e.g. acme-nofile")->required();
  c->add_option("--lang", p->lang, "cpp, c or rust")->capture_default_str();
  c->add_option("--dir", p->dir, "folder to make (./VENDOR-NAME)");
  c->add_option("--templates", p->templates, "folder of the templates (those of this installation)");
  // At the end of this subcommand's own arguments, so that main() may have a final callback of its own.
  c->parse_complete_callback([p, c] {
    if (c->remaining_size() > 0) throw CLI::ExtrasError(c->get_name(), c->remaining());
    const std::string self = program();
    const std::string prefix = fs::path(self).parent_path().parent_path().string();
    // Only an installation has the CMake package; a build folder has not, and is no prefix to give to anybody.
    std::error_code e;
    if (fs::exists(prefix + "/share/gantry/schema", e)) p->prefix = prefix;
    if (p->templates.empty()) p->templates = default_templates(self);
    const auto created = create_project(*p);
    if (!created) {
      std::cerr << "gantry-module: " << created.error().message << "\n";
      throw CLI::RuntimeError(created.error().code == Code::invalid_argument ? 2 : 1);
    }
    explain(*p, *created);
  });
}

}  // namespace gantry::kit
