#include "tools/gantry-module/new.hpp"

#include "kernel/base/file.hpp"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <system_error>

namespace gantry::kit {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kLongestName = 48;
using Words = std::map<std::string, std::string, std::less<>>;

bool lower_or_digit(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }

std::string replaced(std::string text, const Words& words) {
  for (const auto& [from, to] : words) {
    for (std::size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size()) text.replace(at, from.size(), to);
  }
  return text;
}

std::string join(const std::vector<std::string>& all) {
  std::string out;
  for (const auto& x : all) out += (out.empty() ? "" : ", ") + x;
  return out;
}

Result<std::string> read(const fs::path& file) {
  auto text = base::read_file(file, std::size_t{16} << 20);
  if (!text) return std::move(text).error().because("cannot read the template " + file.string());
  return text;
}

// "dot-github/@NAME_ID@.cpp.in" -> ".github/acme_nofile.cpp"
std::string file_name(const fs::path& relative, const Words& words) {
  fs::path out;
  for (const auto& part : relative) {
    std::string name = replaced(part.string(), words);
    if (name.starts_with("dot-")) name.replace(0, 4, ".");
    if (name.ends_with(".in")) name.resize(name.size() - 3);
    out /= name;
  }
  return out.string();
}

// The files of one template folder, over those collected before.
Status collect(const fs::path& folder, const Words& words, std::map<std::string, std::pair<std::string, fs::perms>>& files) {
  std::error_code e;
  if (!fs::is_directory(folder, e)) return ok;
  for (auto it = fs::recursive_directory_iterator(folder, e); !e && it != fs::recursive_directory_iterator(); it.increment(e)) {
    if (!it->is_regular_file()) continue;
    GANTRY_TRY(std::string text, read(it->path()));
    files[file_name(it->path().lexically_relative(folder), words)] = {replaced(std::move(text), words), it->status().permissions()};
  }
  if (e) return fail(Code::unavailable, "templates in " + folder.string() + " cannot be read: " + e.message());
  return ok;
}

Status write(const fs::path& file, const std::string& text, fs::perms permissions) {
  std::error_code e;
  fs::create_directories(file.parent_path(), e);
  std::ofstream out(file, std::ios::binary | std::ios::trunc);
  out << text;
  out.close();
  if (e || !out) return fail(Code::permission_denied, file.string() + " cannot be written: " + (e ? e.message() : std::strerror(errno)));
  if ((permissions & fs::perms::owner_exec) != fs::perms::none) fs::permissions(file, fs::perms(0755), e);
  return ok;
}

}  // namespace

std::string name_problem(std::string_view name) {
  const std::string quoted = "\"" + std::string(name) + "\"";
  if (name.empty()) return "a module needs a name, e.g. acme-nofile";
  for (const char c : name)
    if (!lower_or_digit(c) && c != '-') return "name " + quoted + " has more than lower-case letters, digits and \"-\"; e.g. acme-nofile";
  if (name.front() < 'a' || name.back() == '-' || name.find("--") != std::string_view::npos)
    return "name " + quoted + " must begin with a letter and have single \"-\" between its words; e.g. acme-nofile";
  if (name.find('-') == std::string_view::npos)
    return "name " + quoted + " has no vendor in front, which keeps modules of different makers apart; e.g. acme-" + std::string(name);
  if (name.starts_with("gantry-")) return "name " + quoted + " begins with gantry-, which is kept for Gantry's own; put your own vendor in front";
  if (name.size() > kLongestName) return "name " + quoted + " is longer than " + std::to_string(kLongestName) + " characters";
  return {};
}

std::map<std::string, std::vector<std::string>> offered(const std::string& templates) {
  std::map<std::string, std::vector<std::string>> out;
  std::error_code e;
  for (const auto& lang : fs::directory_iterator(templates, e)) {
    if (!lang.is_directory() || !fs::is_regular_file(lang.path() / "commands")) continue;
    for (const auto& kind : fs::directory_iterator(lang.path(), e))
      if (kind.is_directory() && kind.path().filename() != "common") out[kind.path().filename()].push_back(lang.path().filename());
  }
  for (auto& [kind, langs] : out) std::sort(langs.begin(), langs.end());
  return out;
}

std::string default_templates(const std::string& program) {
  return (fs::path(program).parent_path().parent_path() / "share/gantry/templates").lexically_normal().string();
}

Result<Created> create_project(const NewProject& p) {
  if (const std::string problem = name_problem(p.name); !problem.empty()) return fail(Code::invalid_argument, problem);
  const auto kinds = offered(p.templates);
  if (kinds.empty())
    return fail(Code::not_found, "there are no templates in " + p.templates + "; install the development package, or name them with --templates");
  const auto kind = kinds.find(p.kind);
  if (kind == kinds.end()) {
    std::vector<std::string> names;
    for (const auto& [name, langs] : kinds) names.push_back(name);
    return fail(Code::invalid_argument, "there is no kind \"" + p.kind + "\"; kinds are " + join(names));
  }
  if (std::find(kind->second.begin(), kind->second.end(), p.lang) == kind->second.end())
    return fail(Code::invalid_argument, "there is no template for kind " + p.kind + " in \"" + p.lang + "\"; there is one in " + join(kind->second));

  std::string id = p.name, type;
  std::replace(id.begin(), id.end(), '-', '_');
  bool upper = true;
  for (const char c : p.name) {
    if (c != '-') type += upper && c >= 'a' ? static_cast<char>(c - 'a' + 'A') : c;
    upper = c == '-';
  }
  // What CMake and the shell find by themselves need not be said.
  const bool usual = p.prefix.empty() || p.prefix == "/usr" || p.prefix == "/usr/local";
  Words words{{"@KIND@", p.kind}, {"@NAME@", p.name}, {"@NAME_ID@", id}, {"@CLASS@", type}, {"@LANG@", p.lang},
              {"@TARGET@", "gantry-" + p.kind + "-" + p.name}, {"@ABI@", std::to_string(GANTRY_ABI_MAJOR) + "." + std::to_string(GANTRY_ABI_MINOR)},
              {"@DATADIR@", fs::path(p.templates).parent_path().string()},
              {"@CMAKE_PREFIX@", usual ? "" : " -DCMAKE_PREFIX_PATH=" + p.prefix}};
  Created created;
  created.dir = p.dir.empty() ? p.name : p.dir;
  const fs::path templates(p.templates), dir(created.dir);

  GANTRY_TRY(const std::string commands, read(templates / p.lang / "commands"));
  std::string all;
  for (std::size_t at = 0; at < commands.size();) {
    const std::size_t end = std::min(commands.find('\n', at), commands.size());
    const std::string line = replaced(commands.substr(at, end - at), words);
    at = end + 1;
    if (line.starts_with("so ")) created.so = line.substr(3);
    if (!line.starts_with("run ")) continue;
    created.build.push_back(line.substr(4));
    all += (all.empty() ? "" : " && ") + line.substr(4);
  }
  words["@SO@"] = created.so;
  words["@BUILD@"] = all;

  std::map<std::string, std::pair<std::string, fs::perms>> files;
  for (const auto& folder : {templates / "common", templates / p.lang / "common", templates / p.lang / p.kind}) GANTRY_CHECK(collect(folder, words, files));

  std::error_code e;
  if (fs::exists(dir, e) && !(fs::is_directory(dir, e) && fs::is_empty(dir, e)))
    return fail(Code::already_exists, created.dir + " exists already and is not overwritten; choose another name or --dir");
  // Beside it first, so that a project is there whole or not at all.
  const fs::path beside = dir.string() + ".new-" + std::to_string(::getpid());
  const auto give_up = [&](Error error) {
    std::error_code ignored;
    fs::remove_all(beside, ignored);
    return error;
  };
  for (const auto& [name, file] : files) {
    if (const Status s = write(beside / name, file.first, file.second); !s) return give_up(s.error());
    created.files.push_back(name);
  }
  if (fs::exists(dir, e)) fs::remove(dir, e);  // it is empty
  fs::rename(beside, dir, e);
  if (e) return give_up(fail(Code::permission_denied, created.dir + " cannot be made: " + e.message()));
  return created;
}

}  // namespace gantry::kit
