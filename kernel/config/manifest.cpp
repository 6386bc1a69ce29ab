#include "kernel/config/manifest.hpp"

#include "kernel/config/convert.hpp"
#include "kernel/config/suggest.hpp"
#include "kernel/config/tree.hpp"

#include <algorithm>

namespace gantry::config {
namespace {

bool word(std::string_view s, std::string_view extra) {
  if (s.empty() || s.size() > 128) return false;
  return std::all_of(s.begin(), s.end(), [&](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || extra.find(c) != std::string_view::npos;
  });
}

// Reads the tree of a module.toml, collecting every mistake.
class Reader {
 public:
  explicit Reader(std::vector<Problem>& problems) : problems_(problems) {}

  Manifest read(const Node& root) {
    static const std::vector<std::string> keys{"kind",         "name",     "version", "revision", "revision_min",
                                               "license",      "summary",  "roles",   "needs",    "services",
                                               "capabilities", "unstable", "config"};
    Manifest m;
    for (const auto& [key, node] : root.members) {
      if (key == "kind")
        m.kind = text(key, node);
      else if (key == "name")
        m.name = text(key, node);
      else if (key == "version")
        m.version = text(key, node);
      else if (key == "license")
        m.license = text(key, node);
      else if (key == "summary")
        m.summary = text(key, node);
      else if (key == "revision")
        m.revision_max = revision(key, node);
      else if (key == "revision_min")
        m.revision_min = revision(key, node);
      else if (key == "roles")
        m.roles = list(key, node);
      else if (key == "needs")
        m.needs = list(key, node);
      else if (key == "services")
        m.services = list(key, node);
      else if (key == "capabilities")
        m.capabilities = list(key, node);
      else if (key == "unstable")
        m.unstable = flag(key, node);
      else if (key == "config")
        fields(m, node, "");
      else
        add(node.key_where, "there is no key \"" + key + "\" in a manifest" + did_you_mean(key, keys));
    }
    if (!root.find("revision_min")) m.revision_min = m.revision_max;
    if (m.revision_min > m.revision_max) add(root.find("revision_min")->where, "revision_min is above revision");
    for (const char* key : {"kind", "name", "version", "roles"}) {
      if (!root.find(key)) add(root.where, std::string("the manifest lacks ") + key);
    }
    if (root.find("kind") && !word(m.kind, "-"))
      add(root.find("kind")->where, "kind has only lower-case letters, digits and \"-\"");
    if (root.find("name") && !word(m.name, "-"))
      add(root.find("name")->where, "name has only lower-case letters, digits and \"-\"");
    static const std::vector<std::string> roles{"master", "agent"};
    for (const std::string& r : m.roles) {
      if (r != "master" && r != "agent")
        add(root.find("roles")->where, "roles: expected master or agent, got \"" + r + "\"" + did_you_mean(r, roles));
    }
    static const std::vector<std::string> services{"cluster", "store",   "http",      "query",    "auth",
                                                   "state",   "operate", "executors", "authorize"};
    for (const std::string& s : m.services) {
      if (std::find(services.begin(), services.end(), s) == services.end())
        add(root.find("services")->where,
            "services: expected " + one_of(services) + ", got \"" + s + "\"" + did_you_mean(s, services));
    }
    std::sort(m.fields.begin(), m.fields.end(), [](const Field& a, const Field& b) { return a.key < b.key; });
    for (std::size_t i = 1; i < m.fields.size(); ++i) {
      if (m.fields[i].key == m.fields[i - 1].key) add(root.where, "setting " + m.fields[i].key + " is declared twice");
    }
    return m;
  }

 private:
  void add(const Where& where, std::string message) {
    problems_.push_back({Severity::error, where, std::move(message)});
  }

  std::string text(const std::string& key, const Node& n) {
    if (n.kind != Node::Kind::string) add(n.where, key + ": expected a string, got " + n.describe());
    return n.text;
  }
  bool flag(const std::string& key, const Node& n) {
    if (n.kind != Node::Kind::boolean) add(n.where, key + ": expected true or false, got " + n.describe());
    return n.flag;
  }
  std::uint16_t revision(const std::string& key, const Node& n) {
    if (n.kind == Node::Kind::integer && n.number >= 1 && n.number <= 65535)
      return static_cast<std::uint16_t>(n.number);
    add(n.where, key + ": expected an integer from 1 to 65535, got " + n.describe());
    return 1;
  }
  std::vector<std::string> list(const std::string& key, const Node& n) {
    std::vector<std::string> out;
    if (n.kind != Node::Kind::array) {
      add(n.where, key + ": expected a list of strings, got " + n.describe());
      return out;
    }
    for (const Node& item : n.items) out.push_back(text(key, item));
    return out;
  }

  // A table with a `type` that is a string declares a setting; any other groups settings under a prefix.
  void fields(Manifest& m, const Node& n, const std::string& prefix) {
    if (!n.table()) return add(n.where, "config: expected a table, got " + n.describe());
    for (const auto& [name, child] : n.members) {
      const std::string key = prefix.empty() ? name : prefix + "." + name;
      if (!child.table()) {
        add(child.key_where, "config." + key + ": expected a table that declares a setting, got " + child.describe());
        continue;
      }
      const Node* type = child.find("type");
      if (type && !type->table()) {
        if (word(key, "_-.")) {
          field(m, key, child);
        } else {
          add(child.key_where,
              "config." + key + ": a setting's name has only lower-case letters, digits, \"_\", \"-\" and \".\"");
        }
      } else if (child.members.empty()) {
        add(child.key_where, "config." + key + " lacks a type");
      } else {
        fields(m, child, key);
      }
    }
  }

  std::optional<double> bound(const Field& f, const std::string& key, const Node& n) {
    if (n.kind == Node::Kind::integer) return static_cast<double>(n.number);
    if (n.kind == Node::Kind::real && n.real > -9e18 && n.real < 9e18) return n.real;
    if (n.kind == Node::Kind::string && (f.type == Type::duration || f.type == Type::size)) {
      const auto v = f.type == Type::duration ? parse_duration(n.text) : parse_size(n.text);
      if (v) return static_cast<double>(*v);
    }
    add(n.where, "config." + f.key + "." + key +
                     ": expected a number or, for durations and sizes, a text with a unit, got " + n.describe());
    return std::nullopt;
  }

  void field(Manifest& m, const std::string& key, const Node& n) {
    static const std::vector<std::string> types{"string", "int",  "float",   "bool", "duration",
                                                "size",   "path", "address", "list", "map"};
    static const std::vector<std::string> keys{"type",    "default",    "doc",    "min",      "max",
                                               "choices", "reloadable", "secret", "required", "exists"};
    const std::string at = "config." + key;
    Field f;
    f.key = key;
    const Node& type = *n.find("type");
    const auto known = std::find(types.begin(), types.end(), type.text);
    if (type.kind != Node::Kind::string || known == types.end())
      return add(type.where,
                 at + ".type: expected " + one_of(types) + ", got " + type.describe() + did_you_mean(type.text, types));
    f.type = static_cast<Type>(known - types.begin());
    const Node* fallback = nullptr;
    for (const auto& [name, child] : n.members) {
      const std::string full = at + "." + name;
      if (name == "type") continue;
      if (name == "default")
        fallback = &child;
      else if (name == "doc")
        f.doc = text(full, child);
      else if (name == "min")
        f.min = bound(f, name, child);
      else if (name == "max")
        f.max = bound(f, name, child);
      else if (name == "choices")
        f.choices = list(full, child);
      else if (name == "reloadable")
        f.reloadable = flag(full, child);
      else if (name == "secret")
        f.secret = flag(full, child);
      else if (name == "required")
        f.required = flag(full, child);
      else if (name == "exists")
        f.exists = flag(full, child);
      else
        add(child.key_where,
            at + ": there is no key \"" + name + "\" in a setting's declaration" + did_you_mean(name, keys));
    }
    f.fallback.key = key;
    f.fallback.type = wire_type(f.type);
    if (fallback && f.required) add(fallback->where, at + ": a required setting has no default");
    if (fallback) {
      // Defaults of paths may be relative: their meaning is the module's.
      Field loose = f;
      if (f.type == Type::path) loose.type = Type::string;
      if (auto s = to_setting(loose, *fallback)) {
        f.fallback = std::move(*s);
        f.fallback.type = wire_type(f.type);
        f.fallback.given = false;
      } else {
        add(fallback->where, at + ".default: " + s.error().message);
      }
    }
    m.fields.push_back(std::move(f));
  }

  std::vector<Problem>& problems_;
};

}  // namespace

bool Manifest::for_role(std::string_view role) const {
  return std::find(roles.begin(), roles.end(), role) != roles.end();
}

const Field* Manifest::field(std::string_view key) const {
  const auto it =
      std::lower_bound(fields.begin(), fields.end(), key, [](const Field& f, std::string_view k) { return f.key < k; });
  return it != fields.end() && it->key == key ? &*it : nullptr;
}

Result<Manifest> parse_manifest(std::string_view toml, std::string_view source) {
  Parsed parsed = parse_toml(toml, std::string(source));
  Manifest m;
  if (parsed.problems.empty()) m = Reader(parsed.problems).read(parsed.root);
  if (!parsed.problems.empty()) {
    std::string all;
    for (const Problem& p : parsed.problems) all += (all.empty() ? "" : "\n") + p.where.text() + ": " + p.message;
    return fail(Code::invalid_argument, all);
  }
  m.text = toml;
  return m;
}

std::string describe(const Manifest& m) {
  std::string out = "[" + (m.kind == "kernel" ? m.name : m.id()) + "]  " + m.summary + "\n";
  if (m.fields.empty()) return out + "\nIt has no settings.\n";
  for (const Field& f : m.fields) {
    out += "\n" + f.key + "  (" + std::string(to_string(f.type));
    if (f.required) {
      out += ", required";
    } else if (!f.secret) {
      out += ", default " + to_toml(f, f.fallback);
    }
    if (!f.choices.empty()) out += ", one of " + one_of(f.choices);
    Field shown = f;
    const auto bound = [&](double v) {
      if (f.type == Type::duration) return format_duration(static_cast<std::int64_t>(v));
      if (f.type == Type::size) return format_size(static_cast<std::int64_t>(v));
      fb::SettingT s;
      s.real = v;
      shown.type = Type::real;
      std::string t = to_toml(shown, s);
      if (f.type != Type::real && t.ends_with(".0")) t.resize(t.size() - 2);
      return t;
    };
    if (f.min) out += ", at least " + bound(*f.min);
    if (f.max) out += ", at most " + bound(*f.max);
    out += f.reloadable ? ", reloadable" : ", needs a restart";
    if (f.secret) out += ", secret";
    out += ")\n    " + f.doc + "\n";
  }
  return out;
}

}  // namespace gantry::config
