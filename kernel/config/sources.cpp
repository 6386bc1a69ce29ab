#include "kernel/config/sources.hpp"

#include "kernel/config/convert.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace gantry::config {
namespace {

namespace fs = std::filesystem;
constexpr std::uintmax_t max_file = 16u << 20;

Result<std::string> read_file(const std::string& path) {
  std::error_code ec;
  const auto status = fs::status(path, ec);
  if (!fs::exists(status)) return fail(Code::not_found, "there is no such file");
  if (fs::is_directory(status)) return fail(Code::invalid_argument, "it is a directory");
  if (fs::is_regular_file(status) && fs::file_size(path, ec) > max_file)
    return fail(Code::invalid_argument, "it is larger than 16 MiB");
  std::ifstream in(path, std::ios::binary);
  if (!in) return fail(Code::permission_denied, std::string("cannot read it: ") + std::strerror(errno));
  std::ostringstream text;
  text << in.rdbuf();
  return std::move(text).str();
}

void add_text(Sources& out, std::string_view text, const std::string& file) {
  Parsed parsed = parse_toml(text, file);
  if (!parsed.problems.empty()) out.broken = true;
  std::move(parsed.problems.begin(), parsed.problems.end(), std::back_inserter(out.problems));
  merge(out.root, std::move(parsed.root));
}

void add_file(Sources& out, const std::string& file) {
  out.files.push_back(file);
  auto text = read_file(file);
  if (text) return add_text(out, *text, file);
  out.problems.push_back({Severity::error, {file, 0, 0}, "cannot read the configuration: " + text.error().message});
  out.broken = true;
}

void relabel(Node& n, const Where& where) {
  n.where = n.key_where = where;
  for (Node& i : n.items) relabel(i, where);
  for (auto& [key, m] : n.members) relabel(m, where);
}

void add_override(Sources& out, const std::string& setting) {
  const Where where{"--set " + setting.substr(0, setting.find('=')), 0, 0};
  const auto eq = setting.find('=');
  if (eq == std::string::npos || eq == 0) {
    out.problems.push_back(
        {Severity::error, {"--set " + setting, 0, 0}, "expected KEY=VALUE, for example kernel.log_level=debug"});
    return;
  }
  const std::string key = setting.substr(0, eq), value = setting.substr(eq + 1);
  // A value is TOML where it can be; else it is the text itself, so that quotes need no quoting in a shell.
  Parsed parsed = parse_toml(key + " = " + value, where.file);
  if (!parsed.problems.empty()) parsed = parse_toml(key + " = " + toml_string(value), where.file);
  if (!parsed.problems.empty()) {
    out.problems.push_back({Severity::error, where, "is not a key such as kernel.log_level"});
    return;
  }
  relabel(parsed.root, where);
  merge(out.root, std::move(parsed.root));
}

}  // namespace

Sources read_sources(const Options& options) {
  Sources out;
  out.root.where.file = options.file;
  if (options.text) {
    out.files.push_back(options.file);
    add_text(out, *options.text, options.file);
  } else {
    add_file(out, options.file);
    const fs::path dir = fs::path(options.file).parent_path() / "conf.d";
    std::vector<std::string> more;
    std::error_code ec;
    for (auto it = fs::directory_iterator(dir, ec); !ec && it != fs::directory_iterator(); it.increment(ec)) {
      const std::string name = it->path().filename().string();
      if (name.ends_with(".toml") && !name.starts_with('.')) more.push_back(it->path().string());
    }
    if (ec && ec != std::errc::no_such_file_or_directory && ec != std::errc::not_a_directory)
      out.problems.push_back({Severity::error, {dir.string(), 0, 0}, "cannot read this directory: " + ec.message()});
    std::sort(more.begin(), more.end());
    for (const std::string& file : more) add_file(out, file);
  }
  for (const std::string& setting : options.set) add_override(out, setting);
  return out;
}

}  // namespace gantry::config
