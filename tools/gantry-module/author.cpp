#include "tools/gantry-module/author.hpp"

#include "kernel/base/file.hpp"
#include "kernel/config/convert.hpp"
#include "kernel/config/suggest.hpp"
#include "kernel/config/tree.hpp"
#include "tools/gantry-module/elf.hpp"

#include <filesystem>

namespace gantry::kit {
namespace {

using config::Node;

struct Reader {
  Author author;
  std::string problems;

  void problem(const config::Where& where, const std::string& what) {
    problems += (problems.empty() ? "" : "\n") + where.text() + ": " + what;
  }

  // Dotted keys and nested tables name the same setting.
  void settings(const Node& table, const std::string& prefix, const config::Manifest& manifest) {
    for (const auto& m : table.members) {
      const std::string key = prefix + m.key;
      const config::Field* field = manifest.field(key);
      if (!field && m.value.table()) {
        settings(m.value, key + ".", manifest);
        continue;
      }
      if (!field) {
        std::vector<std::string> keys;
        for (const auto& f : manifest.fields) keys.push_back(f.key);
        problem(m.value.key_where, "the manifest has no setting \"" + key + "\"" + config::did_you_mean(key, keys));
        continue;
      }
      auto setting = config::to_setting(*field, m.value);
      if (!setting) {
        problem(m.value.where, "setting " + key + ": " + setting.error().message);
        continue;
      }
      setting->given = true;
      author.settings.push_back(std::move(*setting));
    }
  }

  // A path below the case's directory is not known yet, but it will be absolute.
  static void mark(Node& node) {
    static constexpr std::string_view word = "@scratch@";
    for (auto at = node.text.find(word); at != std::string::npos; at = node.text.find(word, at + scratch_mark.size()))
      node.text.replace(at, word.size(), scratch_mark);
    for (Node& item : node.items) mark(item);
    for (auto& m : node.members) mark(m.value);
  }

  void texts(const Node& table, const std::string& what, std::map<std::string, std::string, std::less<>>& out) {
    for (const auto& m : table.members) {
      if (m.value.kind != Node::Kind::string)
        problem(m.value.where, what + "." + m.key + " has to be a text in quotes, not " + m.value.describe());
      else
        out[m.key] = m.value.text;
    }
  }

  void waiver(const Node& table) {
    Waiver w;
    w.where = table.where;
    for (const auto& m : table.members) {
      std::string* to = m.key == "test" ? &w.test : m.key == "host" ? &w.host : m.key == "reason" ? &w.reason : nullptr;
      if (!to)
        problem(m.value.key_where, "a waiver has no \"" + m.key + "\"" + config::did_you_mean(m.key, {"test", "host", "reason"}));
      else if (m.value.kind != Node::Kind::string)
        problem(m.value.where, m.key + " has to be a text in quotes, not " + m.value.describe());
      else
        *to = m.value.text;
    }
    if (w.test.empty()) problem(w.where, "a waiver needs test = \"...\", the name as the report prints it");
    if (w.reason.find_first_not_of(" \t\n") == std::string::npos)
      problem(w.where, "the waiver of " + (w.test.empty() ? "a test" : w.test) +
                           " has no reason; say in one sentence why the finding is accepted");
    if (!w.host.empty() && w.host != "kernel" && w.host != "process")
      problem(w.where, "host = \"" + w.host + "\" is neither \"kernel\" nor \"process\"");
    author.waivers.push_back(std::move(w));
  }
};

}  // namespace

bool Waiver::covers(std::string_view test_name, std::string_view host_name) const {
  if (!host.empty() && host != host_name) return false;
  if (test.ends_with('*')) return test_name.starts_with(std::string_view(test).substr(0, test.size() - 1));
  return test == test_name;
}

std::string find_author_file(const std::string& module_path) {
  const std::filesystem::path so(module_path);
  const auto dir = so.parent_path();
  std::error_code ec;
  for (const auto& p : {dir / (so.stem().string() + ".conformance.toml"), dir / "conformance.toml",
                        std::filesystem::absolute(so, ec).parent_path().parent_path() / "conformance.toml"})
    if (std::filesystem::is_regular_file(p, ec)) return p.string();
  return {};
}

Result<Author> parse_author(std::string_view toml, const std::string& path, const config::Manifest& manifest) {
  config::Parsed parsed = config::parse_toml(toml, path);
  Reader r;
  r.author.file = path;
  for (const auto& p : parsed.problems) r.problem(p.where, p.message);
  for (auto& m : parsed.root.members) {
    if (m.key == "settings") Reader::mark(m.value);
    if (m.key == "waiver") {
      if (m.value.kind != Node::Kind::array)
        r.problem(m.value.where, "waivers are written as [[waiver]], with two brackets");
      for (const Node& w : m.value.items) r.waiver(w);
    } else if (m.key != "settings" && m.key != "files" && m.key != "fixture") {
      r.problem(m.value.key_where, "there is no table \"" + m.key + "\"" +
                                       config::did_you_mean(m.key, {"settings", "files", "fixture", "waiver"}));
    } else if (!m.value.table()) {
      r.problem(m.value.where, m.key + " has to be a table");
    } else if (m.key == "settings") {
      r.settings(m.value, "", manifest);
    } else if (m.key == "fixture") {
      r.texts(m.value, m.key, r.author.fixture);
    } else {
      std::map<std::string, std::string, std::less<>> files;
      r.texts(m.value, m.key, files);
      for (auto& [name, text] : files) {
        if (name.find('/') != std::string::npos || name.empty() || name[0] == '.')
          r.problem(m.value.where, "files are named without folders: \"" + name + "\" is not");
        r.author.files[name] = text;
      }
    }
  }
  if (!r.problems.empty()) return fail(Code::invalid_argument, r.problems);
  return std::move(r.author);
}

Result<Author> read_author(const std::string& path, const config::Manifest& manifest) {
  const auto text = base::read_file(path, std::size_t{16} << 20);
  if (!text) return text.error().because("cannot read " + path);
  return parse_author(*text, path, manifest);
}

}  // namespace gantry::kit
