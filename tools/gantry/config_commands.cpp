// gantry config check, show, fields: all without a daemon, except show without a file.
#include "kernel/config/config.hpp"
#include "tools/gantry/control.hpp"
#include "tools/gantry/format.hpp"
#include "tools/gantry/json_writer.hpp"
#include "tools/mesos-compat/daemon.hpp"

#include <fstream>
#include <iostream>
#include <iterator>

namespace gantry::cli {
namespace {

config::Options options_of(const ConfigOptions& o) {
  config::Options out;
  out.file = o.file.empty() ? "/etc/gantry/gantry.toml" : o.file;
  out.set = o.set;
  out.module_dirs = o.module_dirs;
  return out;
}

std::string read_text(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

void print_problems(Context& c, const std::vector<config::Problem>& problems) {
  for (const auto& p : problems) *c.err << p.text() << "\n";
}

}  // namespace

int config_check(Context& c, const ConfigOptions& o) {
  const config::Options options = options_of(o);
  const config::Loaded loaded = config::load(options);
  const std::size_t errors = loaded.errors(), warnings = loaded.problems.size() - errors;
  if (c.json) {
    JsonWriter w;
    w.open('{').field("valid", errors == 0).field("errors", std::uint64_t{errors}).key("problems").open('[');
    for (const auto& p : loaded.problems) {
      w.open('{')
          .field("severity", p.severity == config::Severity::error ? "error" : "warning")
          .field("file", p.where.file);
      w.field("line", p.where.line).field("column", p.where.column).field("message", p.message).close();
    }
    w.close().close();
    *c.out << w.text();
  } else {
    print_problems(c, loaded.problems);
    if (errors) {
      *c.err << "gantry: " << options.file << " has " << plural(errors, "error")
             << (warnings ? " and " + plural(warnings, "warning") : "") << "\n";
    } else {
      *c.out << options.file << " is valid" << (warnings ? ", with " + plural(warnings, "warning") : "") << ": "
             << plural(loaded.config->modules().size(), "module") << ", "
             << plural(loaded.config->files().size(), "file") << "\n";
    }
  }
  return errors ? exit_failed : exit_ok;
}

int config_show(Context& c, const ConfigOptions& o) {
  if (o.file.empty()) {
    auto daemon = Daemon::find(c);
    if (!daemon) return report(c, daemon.error());
    const Status s = daemon->ask_for<fb::control::ConfigTextT>(
        fb::control::AskConfigT{}, [&](const fb::control::ConfigTextT& t) { *c.out << t.toml; });
    return s ? int{exit_ok} : report(c, s.error());
  }
  const config::Loaded loaded = config::load(options_of(o));
  print_problems(c, loaded.problems);
  if (!loaded.config) return exit_failed;
  *c.out << loaded.config->effective();
  return exit_ok;
}

int config_fields(Context& c, const std::string& id, const ConfigOptions& o) {
  config::Manifest manifest;
  if (id == "kernel") {
    manifest = config::kernel_manifest();
  } else if (id == "sandbox") {
    manifest = config::sandbox_manifest();
  } else if (id.find('/') != std::string::npos) {
    // A file: a module built elsewhere, or the manifest it is going to be built from.
    auto m = id.ends_with(".toml") ? config::parse_manifest(read_text(id), id) : config::read_manifest(id);
    if (!m) return report(c, m.error());
    manifest = std::move(*m);
  } else {
    const auto dot = id.find('.');
    if (dot == std::string::npos)
      return report(
          c, fail(Code::invalid_argument, "\"" + id + "\" is not KIND.NAME, for example isolator.cgroups, nor kernel or sandbox"));
    const auto dirs = o.module_dirs.empty() ? config::default_module_dirs() : o.module_dirs;
    const std::string file = "/gantry-" + id.substr(0, dot) + "-" + id.substr(dot + 1) + ".so";
    std::string places;
    bool ok = false;
    for (const std::string& dir : dirs) {
      places += (places.empty() ? "" : ", ") + dir;
      auto m = config::read_manifest(dir + file);
      if (m) {
        manifest = std::move(*m);
        ok = true;
        break;
      }
      if (m.error().code != Code::not_found) return report(c, m.error());
    }
    if (!ok)
      return report(c, fail(Code::not_found,
                            "there is no module " + id + " in " + places + "; name its folder with --module-dir"));
  }
  if (!c.json) {
    *c.out << config::describe(manifest);
    return exit_ok;
  }
  JsonWriter w;
  w.open('{')
      .field("kind", manifest.kind)
      .field("name", manifest.name)
      .field("version", manifest.version)
      .field("summary", manifest.summary);
  w.key("fields").open('[');
  for (const auto& f : manifest.fields) {
    w.open('{')
        .field("key", f.key)
        .field("type", config::to_string(f.type))
        .field("doc", f.doc)
        .field("required", f.required);
    w.field("reloadable", f.reloadable).field("secret", f.secret).list("choices", f.choices).close();
  }
  w.close().close();
  *c.out << w.text();
  return exit_ok;
}

int config_from_mesos(Context& c, const std::string& role, const std::vector<std::string>& flags) {
  const auto text = compat::configuration(role == "agent" ? compat::Role::agent : compat::Role::master, flags);
  if (!text) return report(c, text.error());
  *c.out << *text;
  return exit_ok;
}

}  // namespace gantry::cli
