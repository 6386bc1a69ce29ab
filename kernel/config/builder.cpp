#include "kernel/config/builder.hpp"

#include "kernel/config/convert.hpp"
#include "kernel/config/kernel_toml.hpp"
#include "kernel/config/suggest.hpp"

#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <filesystem>
#include <set>

#ifndef GANTRY_MODULE_DIR
#define GANTRY_MODULE_DIR "/usr/lib/gantry/modules"
#endif

namespace gantry::config {
namespace {

namespace fs = std::filesystem;

// Kinds this release serves. The module host knows their revisions.
const std::vector<std::string> known_kinds{"allocator", "authenticator", "authorizer", "election", "fetcher",
                                           "framework", "gateway",       "image",      "isolator", "store"};
// Keys of a module's table that are ours; a setting of the same name goes into the `config` table.
const std::vector<std::string> reserved{"host", "path", "sha256", "sandbox", "allow_unstable", "disabled", "config"};

std::string joined(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& w : words) out += (out.empty() ? "" : ", ") + w;
  return out;
}

}  // namespace

std::vector<std::string> available_modules(const std::vector<std::string>& dirs, const std::string& kind) {
  std::set<std::string> names;
  const std::string prefix = "gantry-" + kind + "-";
  for (const std::string& dir : dirs) {
    std::error_code ec;
    for (auto it = fs::directory_iterator(dir, ec); !ec && it != fs::directory_iterator(); it.increment(ec)) {
      const std::string file = it->path().filename().string();
      if (file.starts_with(prefix) && file.ends_with(".so") && file.size() > prefix.size() + 3)
        names.insert(file.substr(prefix.size(), file.size() - prefix.size() - 3));
    }
  }
  return {names.begin(), names.end()};
}

const Manifest& kernel_manifest() {
  static const Manifest manifest = [] {
    auto m = parse_manifest(kernel_toml, "kernel.toml");
    assert(m.has_value() && "kernel.toml is embedded and tested");
    return m ? std::move(*m) : Manifest{};
  }();
  return manifest;
}

std::vector<std::string> default_module_dirs() {
  std::vector<std::string> dirs;
  std::error_code ec;
  const fs::path self = fs::read_symlink("/proc/self/exe", ec);
  if (!ec) {
    const std::string beside = (self.parent_path().parent_path() / "lib/gantry/modules").lexically_normal().string();
    if (fs::is_directory(beside, ec)) dirs.push_back(beside);
  }
  if (dirs.empty() || dirs[0] != GANTRY_MODULE_DIR) dirs.emplace_back(GANTRY_MODULE_DIR);
  return dirs;
}

Loaded Builder::build() {
  Sources sources = read_sources(options_);
  problems_ = std::move(sources.problems);
  broken_ = sources.broken;
  config_->files_ = std::move(sources.files);

  const Node* kernel_table = sources.root.find("kernel");
  kernel(kernel_table);
  std::vector<std::string> tables = known_kinds;
  tables.emplace_back("kernel");
  for (const auto& [name, node] : sources.root.members) {
    if (name == "kernel") continue;
    if (std::find(known_kinds.begin(), known_kinds.end(), name) == known_kinds.end()) {
      error(node.key_where,
            node.table()
                ? "there is no module kind \"" + name + "\"" +
                      (nearest(name, tables).empty() ? "; the kinds are " + joined(known_kinds)
                                                     : did_you_mean(name, tables))
                : "the key \"" + name + "\" stands outside of a table; settings of the daemon go below [kernel]");
      continue;
    }
    kind(name, node);
  }
  rules(kernel_table);

  std::map<std::string, std::size_t> order;
  for (std::size_t i = 0; i < config_->files_.size(); ++i) order.emplace(config_->files_[i], i);
  const auto rank = [&](const Where& w) {
    const auto it = order.find(w.file);
    return it == order.end() ? order.size() : it->second;
  };
  std::stable_sort(problems_.begin(), problems_.end(), [&](const Problem& a, const Problem& b) {
    return std::tuple(rank(a.where), a.where.line, a.where.column) <
           std::tuple(rank(b.where), b.where.line, b.where.column);
  });
  Loaded loaded;
  loaded.problems = std::move(problems_);
  if (loaded.errors() == 0) loaded.config = std::move(config_);
  return loaded;
}

void Builder::kernel(const Node* table) {
  std::vector<const Node*> tables;
  Where where{options_.file, 0, 0};
  if (table && !table->table()) {
    error(table->where, "kernel: expected a table, got " + table->describe());
  } else if (table) {
    tables.push_back(table);
    where = table->key_where;
  }
  config_->kernel_ = settings(kernel_manifest(), tables, "kernel", where, config_->kernel_where_);
  fb::SettingT* control = config_->kernel_.find("control");
  if (control && control->text.empty()) control->text = config_->kernel_.text("work_dir") + "/gantry.sock";
  fb::SettingT* dirs = config_->kernel_.find("module_dirs");
  if (dirs && dirs->items.empty())
    dirs->items = options_.module_dirs.empty() ? default_module_dirs() : options_.module_dirs;
}

void Builder::kind(const std::string& kind, const Node& table) {
  if (!table.table())
    return error(table.key_where, kind + ": expected tables such as [" + kind + ".NAME], got " + table.describe());
  for (const auto& [name, node] : table.members) {
    if (node.table()) {
      module(kind, name, node);
    } else {
      error(node.key_where,
            kind + "." + name + ": expected a table [" + kind + "." + name + "], got " + node.describe());
    }
  }
}

std::string Builder::find_library(const std::string& kind, const std::string& name, const Node& table,
                                  const Node* path) {
  const std::string title = kind + "." + name;
  std::error_code ec;
  if (path) {
    if (path->kind != Node::Kind::string || !path->text.starts_with('/')) {
      error(path->where, title + ".path: expected the absolute path of a .so, got " + path->describe());
    } else if (!fs::exists(path->text, ec)) {
      error(path->where, title + ".path: there is no file " + path->text);
    } else {
      return path->text;
    }
    return {};
  }
  const auto& dirs = config_->kernel_.list("module_dirs");
  const std::string file = "gantry-" + kind + "-" + name + ".so";
  for (const std::string& dir : dirs) {
    const fs::path candidate = fs::path(dir) / file;
    if (fs::exists(candidate, ec)) return candidate.string();
  }
  const auto names = available_modules(dirs, kind);
  std::string hint = did_you_mean(name, names);
  if (hint.empty()) hint = names.empty() ? "; set path, or kernel.module_dirs" : "; there are " + joined(names);
  error(table.key_where, "there is no module " + title + ": no " + file + " in " + joined(dirs) + hint);
  return {};
}

// Whether a library came with this installation. Others run in a process of their own unless their table says otherwise:
// a fault in them is theirs.
bool Builder::own_folder(const std::string& path) const {
  std::error_code ec;
  const fs::path folder = fs::weakly_canonical(path, ec).parent_path();
  auto dirs = default_module_dirs();
  dirs.insert(dirs.end(), options_.module_dirs.begin(), options_.module_dirs.end());
  return std::any_of(dirs.begin(), dirs.end(),
                     [&](const std::string& d) { return fs::weakly_canonical(d, ec) == folder; });
}

void Builder::module(const std::string& kind, const std::string& name, const Node& table) {
  const std::string title = kind + "." + name;
  const auto flag = [&](const char* key) {
    const Node* n = table.find(key);
    if (n && n->kind != Node::Kind::boolean)
      error(n->where, title + "." + key + ": expected true or false, got " + n->describe());
    return n && n->flag;
  };
  if (flag("disabled")) return;
  mentioned_.emplace_back(title, table.key_where);

  ModuleConfig m;
  m.kind = kind;
  m.name = name;
  m.where = table.key_where;
  m.allow_unstable = flag("allow_unstable");
  if (const Node* sha = table.find("sha256")) {
    m.sha256 = sha->text;
    std::transform(m.sha256.begin(), m.sha256.end(), m.sha256.begin(),
                   [](char c) { return c >= 'A' && c <= 'F' ? static_cast<char>(c + 32) : c; });
    if (sha->kind != Node::Kind::string || m.sha256.size() != 64 ||
        m.sha256.find_first_not_of("0123456789abcdef") != std::string::npos)
      error(sha->where, title + ".sha256: expected 64 hexadecimal digits, got " + sha->describe());
  }
  m.path = find_library(kind, name, table, table.find("path"));
  if (const Node* host = table.find("host")) {
    static const std::vector<std::string> hosts{"kernel", "process"};
    if (host->kind != Node::Kind::string || std::find(hosts.begin(), hosts.end(), host->text) == hosts.end())
      error(host->where, title + ".host: expected \"kernel\" or \"process\", got " + host->describe() +
                             did_you_mean(host->text, hosts));
    else
      m.host = host->text;
  } else if (!m.path.empty() && !own_folder(m.path)) {
    m.host = "process";
  }
  sandbox(title, table, m);
  if (m.path.empty()) return;
  auto manifest = read_manifest(m.path);
  if (!manifest) return error(table.key_where, title + ": " + manifest.error().message);
  m.manifest = std::move(*manifest);
  if (m.manifest.kind != kind || m.manifest.name != name)
    return error(table.key_where, title + ": " + m.path + " says it is " + m.manifest.id() + "; name the table [" +
                                      m.manifest.id() + "]");
  if (m.manifest.unstable && !m.allow_unstable)
    error(table.key_where,
          title + ": the module calls itself unstable; write allow_unstable = true to use it nevertheless");

  // Settings stand in the table itself or in its `config`; our own keys are taken out first.
  Node own = table;
  std::erase_if(own.members,
                [](const auto& e) { return std::find(reserved.begin(), reserved.end(), e.key) != reserved.end(); });
  std::vector<const Node*> tables{&own};
  if (const Node* config = table.find("config")) {
    if (config->table()) {
      tables.push_back(config);
    } else {
      error(config->where, title + ".config: expected a table, got " + config->describe());
    }
  }
  m.settings = settings(m.manifest, tables, title, table.key_where, m.where_of);
  m.work_dir = config_->kernel_.text("work_dir") + "/modules/" + title;
  m.roles = config_->kernel_.list("role");
  config_->modules_.push_back(std::move(m));
}

namespace {

struct Given {
  const Field* field;
  const Node* node;
};

// Walks a table down to declared settings; what is not declared is an error.
class Flatten {
 public:
  Flatten(const Manifest& m, const std::string& title, std::vector<Problem>& problems)
      : manifest_(m), title_(title), problems_(problems) {
    for (const Field& f : m.fields) keys_.push_back(f.key);
    if (m.kind != "kernel") keys_.insert(keys_.end(), reserved.begin(), reserved.end());
  }
  void walk(const Node& table, const std::string& prefix, std::vector<Given>& out) {
    for (const auto& [name, child] : table.members) {
      const std::string key = prefix.empty() ? name : prefix + "." + name;
      if (const Field* f = manifest_.field(key)) {
        const auto twice = std::find_if(out.begin(), out.end(), [&](const Given& g) { return g.field == f; });
        if (twice != out.end()) {
          problems_.push_back({Severity::error, child.key_where,
                               title_ + "." + key + " is given twice, here and at " + twice->node->key_where.text()});
        } else {
          out.push_back({f, &child});
        }
      } else if (child.table() && group(key + ".")) {
        walk(child, key, out);
      } else {
        std::string hint = did_you_mean(key, keys_);
        if (hint.empty() && manifest_.kind != "kernel")
          hint = "; `gantry config fields " + title_ + "` lists its settings";
        problems_.push_back({Severity::error, child.key_where, "there is no setting " + title_ + "." + key + hint});
      }
    }
  }

 private:
  [[nodiscard]] bool group(const std::string& prefix) const {
    return std::any_of(manifest_.fields.begin(), manifest_.fields.end(),
                       [&](const Field& f) { return f.key.starts_with(prefix); });
  }
  const Manifest& manifest_;
  const std::string& title_;
  std::vector<Problem>& problems_;
  std::vector<std::string> keys_;
};

}  // namespace

Values Builder::settings(const Manifest& manifest, const std::vector<const Node*>& tables, const std::string& title,
                         const Where& where, std::map<std::string, Where>& where_of) {
  std::vector<Given> given;
  Flatten flatten(manifest, title, problems_);
  for (const Node* t : tables) flatten.walk(*t, "", given);
  std::vector<fb::SettingT> values;
  for (const Field& f : manifest.fields) {
    const auto it = std::find_if(given.begin(), given.end(), [&](const Given& g) { return g.field == &f; });
    if (it == given.end()) {
      if (f.required)
        error(where, title + "." + f.key + " must be given (" + std::string(to_string(f.type)) + "): " + f.doc);
      values.push_back(f.fallback);
      continue;
    }
    where_of[f.key] = it->node->where;
    auto value = to_setting(f, *it->node);
    if (!value) {
      error(it->node->where, title + "." + f.key + ": " + value.error().message);
      values.push_back(f.fallback);
      continue;
    }
    if (f.exists && options_.check_files && !value->text.empty() && ::access(value->text.c_str(), R_OK) != 0)
      error(it->node->where,
            title + "." + f.key + ": cannot read " + value->text + ": it must exist and be readable for this user");
    values.push_back(std::move(*value));
  }
  return Values(std::move(values));
}

Loaded load(const Options& options) { return Builder(options).build(); }

std::size_t Loaded::errors() const {
  return static_cast<std::size_t>(
      std::count_if(problems.begin(), problems.end(), [](const Problem& p) { return p.severity == Severity::error; }));
}

}  // namespace gantry::config
