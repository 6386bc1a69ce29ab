// gantry-module new: a complete project from the templates of the installation.
#pragma once

#include <gantry/result.hpp>

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace CLI {
class App;
}

namespace gantry::kit {

struct NewProject {
  std::string kind, name, lang = "cpp";
  std::string dir;        // to be made; empty: ./<name>
  std::string templates;  // folder with common/ and <lang>/<kind>/; see its README.md
  std::string prefix;     // of the installation the program belongs to; empty: not installed
};

struct Created {
  std::string dir;                 // as given
  std::vector<std::string> files;  // below it, sorted
  std::vector<std::string> build;  // commands, to be run in dir; the last ones test
  std::string so;                  // the built module, below dir
};

// "" if `name` can be the name of a third party's module, else one sentence.
[[nodiscard]] std::string name_problem(std::string_view name);

// kind -> languages for which a template exists.
[[nodiscard]] std::map<std::string, std::vector<std::string>> offered(const std::string& templates);

// Writes the project, whole or not at all; never into a folder that holds anything.
[[nodiscard]] Result<Created> create_project(const NewProject& project);

// Where templates lie for a program of this path: <prefix>/share/gantry/templates beside <prefix>/bin.
[[nodiscard]] std::string default_templates(const std::string& program);

// Adds the subcommand `new`. Its failures leave App::parse as CLI::RuntimeError with the exit code, already reported.
void add_new(CLI::App& app);

}  // namespace gantry::kit
