#include "tools/gantry-module/commands.hpp"

#include "tools/gantry/json_writer.hpp"

#include <algorithm>

namespace gantry::kit {
namespace {

std::string join(const std::vector<std::string>& words, const char* none = "none") {
  std::string s;
  for (const auto& w : words) (s += s.empty() ? "" : ", ") += w;
  return s.empty() ? none : s;
}

std::vector<std::string> flag_names(std::uint32_t flags) {
  std::vector<std::string> out;
  if (flags & GANTRY_CONCURRENT) out.emplace_back("CONCURRENT");
  if (flags & GANTRY_BLOCKING) out.emplace_back("BLOCKING");
  if (flags & GANTRY_NEEDS_PROCESS) out.emplace_back("NEEDS_PROCESS");
  if (flags & GANTRY_NEVER_PROCESS) out.emplace_back("NEVER_PROCESS");
  return out;
}

std::string revisions(unsigned low, unsigned high) {
  return low == high ? std::to_string(low) : std::to_string(low) + " to " + std::to_string(high);
}

// Everything the file says goes to a terminal: nothing of it may steer that.
std::string printable(std::string s) {
  for (char& c : s)
    if ((static_cast<unsigned char>(c) < 32 && c != '\n' && c != '\t') || c == 127) c = '?';
  return s;
}

void line(std::ostream& out, std::string name, const std::string& value) {
  name.resize(16, ' ');
  out << name << printable(value) << "\n";
}

void as_text(const Target& t, std::ostream& out) {
  const auto& m = t.manifest;
  const ElfFacts& e = t.elf;
  line(out, "file", t.path);
  line(out, "size", std::to_string(t.image.size()) + " bytes" + (e.stripped ? ", stripped" : ""));
  if (!t.manifest_problem.empty()) {
    line(out, "manifest", "NOT USABLE: " + t.manifest_problem);
  } else {
    line(out, "module", m.id() + " " + m.version);
    line(out, "summary", m.summary);
    line(out, "license", m.license.empty() ? "not stated" : m.license);
    line(out, "revision", revisions(m.revision_min, m.revision_max) + " of kind " + m.kind + (m.unstable ? ", unstable" : ""));
    line(out, "roles", join(m.roles));
    line(out, "needs", join(m.needs));
    line(out, "services", join(m.services));
    line(out, "capabilities", join(m.capabilities));
  }
  if (!t.readable) {
    line(out, "binary", "NOT USABLE: " + t.readable.error().message);
  } else {
    line(out, "machine", e.machine);
    if (e.descriptor) {
      const auto& d = *e.descriptor;
      line(out, "ABI", std::to_string(d.abi_major) + "." + std::to_string(d.abi_minor) +
                           (d.magic == GANTRY_MAGIC ? "" : ", WRONG MAGIC \"" + d.magic + "\""));
      for (const auto& p : d.providers)
        line(out, "provider", (p.kind.empty() ? "?" : p.kind) + "." + (p.name.empty() ? "?" : p.name) + ", revision " +
                                  revisions(p.rev_min, p.rev_max) + (p.flags ? ", " + join(flag_names(p.flags)) : ""));
      if (!d.build.empty()) line(out, "build", d.build);
    } else {
      line(out, "descriptor", "not readable without running the module");
    }
    if (!e.compiler.empty()) line(out, "compiler", e.compiler);
    if (!e.build_id.empty()) line(out, "build id", e.build_id);
    line(out, "exports", join(e.exports));
    line(out, "unique symbols", join(e.unique));
    line(out, "libraries", join(e.needed));
    line(out, "search path", e.rpath.empty() && e.runpath.empty() ? "none" : e.rpath + e.runpath);
    line(out, "glibc floor", e.floor("GLIBC_").empty() ? "none" : e.floor("GLIBC_"));
    line(out, "libstdc++ floor", e.floor("GLIBCXX_").empty() ? "none" : "GLIBCXX_" + e.floor("GLIBCXX_"));
    line(out, "hardening", std::string(e.relro ? (e.bind_now ? "full relro" : "partial relro") : "no relro") +
                               (e.text_relocations ? ", TEXT RELOCATIONS" : "") + (e.executable_stack ? ", EXECUTABLE STACK" : ""));
  }
  if (t.manifest_problem.empty() && !m.fields.empty()) out << "\n" << printable(config::describe(m));
}

std::string as_json(const Target& t) {
  const auto& m = t.manifest;
  const ElfFacts& e = t.elf;
  cli::JsonWriter w;
  w.open('{').field("file", std::string_view(t.path)).field("size", std::uint64_t{t.image.size()});
  if (!t.manifest_problem.empty()) {
    w.field("manifest_problem", std::string_view(t.manifest_problem));
  } else {
    w.key("manifest").open('{').field("kind", std::string_view(m.kind)).field("name", std::string_view(m.name));
    w.field("version", std::string_view(m.version)).field("license", std::string_view(m.license)).field("summary", std::string_view(m.summary));
    w.field("revision_min", std::uint32_t{m.revision_min}).field("revision_max", std::uint32_t{m.revision_max}).field("unstable", m.unstable);
    w.list("roles", m.roles).list("needs", m.needs).list("services", m.services).list("capabilities", m.capabilities);
    w.key("settings").open('[');
    for (const auto& f : m.fields)
      w.open('{').field("key", std::string_view(f.key)).field("type", to_string(f.type)).field("required", f.required)
          .field("reloadable", f.reloadable).field("secret", f.secret).field("doc", std::string_view(f.doc)).close();
    w.close().close();
  }
  if (!t.readable) {
    w.field("binary_problem", std::string_view(t.readable.error().message));
  } else {
    w.field("machine", std::string_view(e.machine)).field("stripped", e.stripped);
    if (e.descriptor) {
      const auto& d = *e.descriptor;
      w.key("descriptor").open('{').field("magic", std::string_view(d.magic)).field("abi_major", std::uint32_t{d.abi_major});
      w.field("abi_minor", std::uint32_t{d.abi_minor}).field("build", std::string_view(d.build));
      w.key("providers").open('[');
      for (const auto& p : d.providers) {
        w.open('{').field("kind", std::string_view(p.kind)).field("name", std::string_view(p.name));
        w.field("revision_min", std::uint32_t{p.rev_min}).field("revision_max", std::uint32_t{p.rev_max}).list("flags", flag_names(p.flags)).close();
      }
      w.close().close();
    }
    w.field("compiler", std::string_view(e.compiler)).field("build_id", std::string_view(e.build_id));
    w.list("exports", e.exports).list("unique_symbols", e.unique).list("libraries", e.needed);
    w.field("rpath", std::string_view(e.rpath)).field("runpath", std::string_view(e.runpath));
    w.field("glibc_floor", std::string_view(e.floor("GLIBC_"))).field("libstdcxx_floor", std::string_view(e.floor("GLIBCXX_")));
    w.field("relro", e.relro).field("bind_now", e.bind_now).field("text_relocations", e.text_relocations).field("executable_stack", e.executable_stack);
  }
  w.close();
  return w.text();
}

}  // namespace

int inspect(const std::string& file, bool json, std::ostream& out, std::ostream& err) {
  const auto target = open_target(file);
  if (!target) {
    err << "gantry-module: " << target.error().message << "\n";
    return exit_usage;
  }
  if (json) out << as_json(*target);
  else as_text(*target, out);
  // A file that is no module at all is a finding; what could be said has been said.
  return target->readable && target->manifest_problem.empty() ? exit_ok : exit_findings;
}

}  // namespace gantry::kit
