#include "kernel/config/config.hpp"

#include "kernel/config/convert.hpp"

#include <algorithm>

namespace gantry::config {
namespace {

// "old -> new (place)", secrets hidden.
std::string change_text(const std::string& title, const Field& f, const fb::SettingT& before, const fb::SettingT& after,
                        const Where& where) {
  std::string out = title + "." + f.key;
  if (!f.secret) out += ": " + to_toml(f, before) + " -> " + to_toml(f, after);
  const std::string at = where.text();
  return at.empty() ? out : out + " (" + at + ")";
}

// Copies reloadable differences into `now`; others become notes. True when something was copied.
bool apply(const Manifest& manifest, const std::string& title, Values& now, std::map<std::string, Where>& now_where,
           const Values& next, const std::map<std::string, Where>& next_where, const Where& table, Change& out) {
  bool any = false;
  for (const Field& f : manifest.fields) {
    fb::SettingT* before = now.find(f.key);
    const fb::SettingT* after = next.find(f.key);
    if (!before || !after || same_value(*before, *after)) continue;
    const auto it = next_where.find(f.key);
    const Where where = it == next_where.end() ? table : it->second;
    const std::string text = change_text(title, f, *before, *after, where);
    if (!f.reloadable) {
      out.restart.push_back(
          {Severity::warning, where, "restart needed: " + change_text(title, f, *before, *after, {})});
      continue;
    }
    out.changed.push_back(text);
    *before = *after;
    now_where.erase(f.key);
    if (it != next_where.end()) now_where[f.key] = it->second;
    any = true;
  }
  return any;
}

void print(std::string& out, const Manifest& manifest, const Values& values, bool nested) {
  for (const Field& f : manifest.fields) {
    const fb::SettingT* v = values.find(f.key);
    if (!v) continue;
    const std::string value = f.secret && (!v->text.empty() || !v->items.empty()) ? "\"(secret)\"" : to_toml(f, *v);
    // What was not written is a comment: the output can be used as a file, and tells what would hold without it.
    out += std::string(v->given ? "" : "# ") + (nested ? "config." : "") + f.key + " = " + value + "\n";
  }
}

}  // namespace

fb::ConfigureT ModuleConfig::configure(bool reload) const {
  fb::ConfigureT c;
  for (const fb::SettingT& s : settings.all()) c.settings.push_back(std::make_unique<fb::SettingT>(s));
  c.reload = reload;
  c.work_dir = work_dir;
  c.roles = roles;
  return c;
}

const ModuleConfig* Config::module(std::string_view id) const {
  for (const ModuleConfig& m : modules_) {
    if (m.kind.size() + 1 + m.name.size() == id.size() && id.starts_with(m.kind) && id[m.kind.size()] == '.' &&
        id.ends_with(m.name))
      return &m;
  }
  return nullptr;
}

bool Config::master() const {
  const auto& r = roles();
  return std::find(r.begin(), r.end(), "master") != r.end();
}
bool Config::agent() const {
  const auto& r = roles();
  return std::find(r.begin(), r.end(), "agent") != r.end();
}

Where Config::where(std::string_view key) const {
  const auto it = kernel_where_.find(std::string(key));
  return it == kernel_where_.end() ? Where{} : it->second;
}

namespace {

std::string print(const Sandbox& s) {
  const Sandbox usual;
  std::string out;
  const auto add = [&](const char* key, const std::string& value) {
    out += std::string(out.empty() ? "{ " : ", ") + key + " = " + value;
  };
  if (!s.user.empty()) add("user", toml_string(s.user));
  add("memory", toml_string(format_size(static_cast<std::int64_t>(s.memory))));
  if (s.cpu > 0) {
    std::string cpu = std::to_string(s.cpu);
    while (cpu.ends_with('0') && !cpu.ends_with(".0")) cpu.pop_back();
    add("cpu", cpu);
  }
  if (s.processes != usual.processes) add("processes", std::to_string(s.processes));
  if (s.files != usual.files) add("files", std::to_string(s.files));
  std::string devices;
  for (const auto& d : s.devices) devices += (devices.empty() ? "" : ", ") + toml_string(d);
  if (!devices.empty()) add("devices", "[" + devices + "]");
  add("restart", s.restart ? "\"on-failure\"" : "\"never\"");
  if (!s.seccomp) add("seccomp", "\"off\"");
  return out + " }";
}

}  // namespace

std::string Config::effective() const {
  std::string out = "# Read from:";
  for (const std::string& f : files_) out += " " + f;
  out += "\n# Commented values are defaults.\n\n[kernel]\n";
  print(out, kernel_manifest(), kernel_, false);
  for (const ModuleConfig& m : modules_) {
    out += "\n[" + m.id() + "]  # " + m.manifest.version + (m.where.line ? ", " + m.where.text() : "") + "\n";
    out += "path = " + toml_string(m.path) + "\n";
    if (!m.sha256.empty()) out += "sha256 = " + toml_string(m.sha256) + "\n";
    if (m.allow_unstable) out += "allow_unstable = true\n";
    out += "host = " + toml_string(m.host) + "\n";
    if (m.host == "process") out += "sandbox = " + print(m.sandbox) + "\n";
    print(out, m.manifest, m.settings, true);
  }
  return out;
}

Change diff(const Config& now, const Config& next) {
  Change out;
  auto applied = std::make_shared<Config>(now);
  applied->files_ = next.files_;
  out.kernel = apply(kernel_manifest(), "kernel", applied->kernel_, applied->kernel_where_, next.kernel_,
                     next.kernel_where_, {}, out);
  for (const ModuleConfig& m : next.modules_) {
    const auto it = std::find_if(applied->modules_.begin(), applied->modules_.end(),
                                 [&](const ModuleConfig& o) { return o.id() == m.id(); });
    if (it == applied->modules_.end()) {
      out.restart.push_back({Severity::warning, m.where, "restart needed: module " + m.id() + " is new"});
      continue;
    }
    if (it->host != m.host || it->sandbox != m.sandbox) {
      out.restart.push_back({Severity::warning, m.where,
                             "restart needed: module " + m.id() + " is to be hosted differently (host, sandbox)"});
      continue;
    }
    if (it->path != m.path || it->sha256 != m.sha256 || it->manifest.text != m.manifest.text ||
        it->allow_unstable != m.allow_unstable) {
      out.restart.push_back(
          {Severity::warning, m.where, "restart needed: the library of module " + m.id() + " is another one"});
      continue;  // its declarations may differ: nothing of it is applied
    }
    if (apply(m.manifest, m.id(), it->settings, it->where_of, m.settings, m.where_of, m.where, out))
      out.modules.push_back(m.id());
    it->where = m.where;
  }
  for (const ModuleConfig& m : now.modules_) {
    if (!next.module(m.id()))
      out.restart.push_back({Severity::warning, m.where, "restart needed: module " + m.id() + " is gone"});
  }
  out.applied = std::move(applied);
  return out;
}

}  // namespace gantry::config
