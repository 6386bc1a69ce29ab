// Stage 1: what the file says. No code of the module runs, and no process is made.
#include "tools/gantry-module/kit.hpp"

#include "kernel/module/kinds.hpp"
#include "kernel/module/loader.hpp"

#include <algorithm>
#include <cstddef>

#include <sys/utsname.h>

namespace gantry::kit {
namespace {

// The runner skips the later stages after a failure of a test whose remedy says so.
constexpr const char* fatal = "; as it is it cannot be loaded";

std::string join(const std::vector<std::string>& words, std::size_t most = 8) {
  std::string s;
  for (std::size_t i = 0; i < words.size() && i < most; ++i) (s += i ? ", " : "") += words[i];
  if (words.size() > most) s += " and " + std::to_string(words.size() - most) + " more";
  return s;
}

void shared_library(Env& env, Check& check) {
  if (!env.target.readable) {
    check.fail(env.target.readable.error().message);
    return;
  }
  utsname u{};
  ::uname(&u);
  const std::string here = std::string_view(u.machine) == "x86_64" ? "x86-64" : u.machine;
  check.equal(env.target.elf.machine, here, "machine it is built for");
  check.notes.push_back(env.target.elf.machine + ", " + std::to_string(env.target.image.size() / 1024) + " KiB");
}

void manifest(Env& env, Check& check) {
  if (!env.target.manifest_problem.empty()) check.fail(env.target.manifest_problem);
  else check.notes.push_back(env.target.manifest.id() + " " + env.target.manifest.version);
}

void known_kind(Env& env, Check& check) {
  const auto& m = env.target.manifest;
  if (m.kind.empty()) check.skip("it has no manifest");
  const module::Kind* k = module::find_kind(m.kind);
  std::string all;
  for (const auto& known : module::kinds) (all += all.empty() ? "" : ", ") += known.name;
  if (!k) {
    check.fail("kind \"" + m.kind + "\" is not among those this SDK knows: " + all);
    return;
  }
  if (m.revision_min > k->current || m.revision_max < k->previous)
    check.fail("it speaks revision " + std::to_string(m.revision_min) + " to " + std::to_string(m.revision_max) + " of " + m.kind +
               ", this SDK " + std::to_string(k->previous) + " to " + std::to_string(k->current));
}

void one_export(Env& env, Check& check) {
  if (!env.target.readable) check.skip("it is no shared library");
  std::vector<std::string> others;
  bool found = false;
  for (const auto& s : env.target.elf.exports) {
    if (s == GANTRY_MODULE_SYMBOL) found = true;
    else if (s != "_init" && s != "_fini" && s != "_edata" && s != "_end" && s != "__bss_start") others.push_back(s);
  }
  if (found && !others.empty()) check.fail("it also exports " + join(others));
}

void symbol(Env& env, Check& check) {
  if (!env.target.readable) check.skip("it is no shared library");
  const auto& e = env.target.elf.exports;
  if (std::find(e.begin(), e.end(), GANTRY_MODULE_SYMBOL) == e.end())
    check.fail(e.empty() ? "it exports nothing" : "it exports " + join(e) + ", but no " GANTRY_MODULE_SYMBOL);
}

void unique_symbols(Env& env, Check& check) {
  if (!env.target.elf.unique.empty()) check.fail("unique symbols: " + join(env.target.elf.unique));
}

void descriptor(Env& env, Check& check) {
  if (!env.target.elf.descriptor) check.skip("the descriptor cannot be read without running the module");
  const DescriptorFacts& d = *env.target.elf.descriptor;
  if (d.magic != GANTRY_MAGIC) {
    check.fail("gantry_module.magic is \"" + d.magic + "\", not \"" GANTRY_MAGIC "\"", "export it with GANTRY_MODULE, or fill in GANTRY_MAGIC");
    return;
  }
  if (d.abi_major != GANTRY_ABI_MAJOR) {
    check.fail("it is built for ABI " + std::to_string(d.abi_major) + "." + std::to_string(d.abi_minor) + ", this SDK is " +
                   std::to_string(GANTRY_ABI_MAJOR) + "." + std::to_string(GANTRY_ABI_MINOR), "rebuild it with the headers of this SDK");
    return;
  }
  if (d.size < offsetof(gantry_module, build))
    check.fail("gantry_module.size is " + std::to_string(d.size) + ", the struct has " + std::to_string(sizeof(gantry_module)) + " bytes",
               "set size = sizeof(gantry_module)");
  constexpr std::size_t least = offsetof(gantry_provider, extension);
  if (d.provider_count == 0 || d.provider_count > 1024)
    check.fail("it has " + std::to_string(d.provider_count) + " providers", "fill in provider_count; a module has at least one");
  if (d.provider_stride < least || d.provider_stride % alignof(gantry_provider) != 0) {
    check.fail("gantry_module.provider_stride is " + std::to_string(d.provider_stride) + ", a provider has " +
                   std::to_string(sizeof(gantry_provider)) + " bytes", "set provider_stride = sizeof(gantry_provider)");
    return;
  }
  const auto& m = env.target.manifest;
  std::vector<std::string> offered;
  const ProviderFacts* mine = nullptr;
  for (const auto& p : d.providers) {
    if (p.kind.empty() || p.name.empty()) continue;  // texts made at run time: stage 2 will see
    offered.push_back(p.kind + "." + p.name);
    if (p.kind == m.kind && p.name == m.name) mine = &p;
    if (p.size < least || p.size > d.provider_stride)
      check.fail("the provider " + offered.back() + " says it has " + std::to_string(p.size) + " bytes; its stride is " +
                     std::to_string(d.provider_stride), "set size = sizeof(gantry_provider)");
    if (p.rev_min > p.rev_max) check.fail("the provider " + offered.back() + " has rev_min above rev_max", "swap them");
  }
  if (m.kind.empty() || offered.empty()) return;
  if (!mine) {
    check.fail("the manifest says " + m.id() + ", the descriptor offers " + join(offered), "build both from one module.toml");
    return;
  }
  if (mine->rev_min != m.revision_min || mine->rev_max != m.revision_max)
    check.fail("the manifest says revision " + std::to_string(m.revision_min) + " to " + std::to_string(m.revision_max) +
                   ", the descriptor " + std::to_string(mine->rev_min) + " to " + std::to_string(mine->rev_max),
               "build both from one module.toml");
  if (!d.build.empty()) check.notes.push_back("built by " + d.build);
}

void file_rules(Env& env, Check& check) {
  const Status s = module::check_file(env.target.path, {});
  if (!s) check.fail(s.error().message);
}

void needed(Env& env, Check& check) {
  if (!env.target.readable) check.skip("it is no shared library");
  for (const auto& n : env.target.elf.needed) {
    if (n.find('/') != std::string::npos)
      check.fail("it needs " + n + ", a path of the machine it was built on", "link with -l, or give the library an soname");
    if (n.starts_with("libgantry"))
      check.fail("it needs " + n + ", a library of the kernel", "use the SDK headers only: they need no library of Gantry");
  }
  check.notes.push_back(env.target.elf.needed.empty() ? "needs no library" : "needs " + join(env.target.elf.needed));
}

void run_path(Env& env, Check& check) {
  for (const auto* p : {&env.target.elf.rpath, &env.target.elf.runpath}) {
    if (p->empty()) continue;
    std::size_t at = 0;
    while (at <= p->size()) {
      const auto end = std::min(p->find(':', at), p->size());
      const std::string dir = p->substr(at, end - at);
      at = end + 1;
      if (dir.starts_with("/usr/") || dir == "/usr" || dir.starts_with("/lib") || dir.starts_with("/opt/") || dir.starts_with("$ORIGIN"))
        continue;
      check.fail("it looks for libraries in \"" + dir + "\": whoever can write there runs code in the daemon");
    }
  }
}

void hardening(Env& env, Check& check) {
  if (!env.target.readable) check.skip("it is no shared library");
  const ElfFacts& e = env.target.elf;
  if (!e.relro) check.fail("its relocations stay writable", "link with -Wl,-z,relro");
  if (e.text_relocations) check.fail("its code has to be changed when it is mapped", "compile everything with -fPIC");
  if (e.executable_stack) check.fail("it asks for an executable stack", "mark assembler files with .section .note.GNU-stack, or link with -Wl,-z,noexecstack");
  if (!e.bind_now) check.notes.push_back("symbols are bound lazily; -Wl,-z,now protects them, too");
}

void floors(Env& env, Check& check) {
  if (!env.target.readable) check.skip("it is no shared library");
  const std::string glibc = env.target.elf.floor("GLIBC_"), libstdcxx = env.target.elf.floor("GLIBCXX_");
  check.notes.push_back((glibc.empty() ? std::string("needs no version of glibc") : "needs glibc " + glibc) +
                        (libstdcxx.empty() ? "" : ", libstdc++ GLIBCXX_" + libstdcxx));
  if (!env.options.max_glibc.empty() && !glibc.empty() && version_less(env.options.max_glibc, glibc))
    check.fail("it needs glibc " + glibc + ", you serve " + env.options.max_glibc);
}

}  // namespace

void add_static_tests(const Target&, std::vector<Test>& tests) {
  const auto add = [&](const char* name, const char* must, std::string remedy, void (*run)(Env&, Check&)) {
    tests.push_back({std::string("static.") + name, 1, must, std::move(remedy), run, false, false});
  };
  add("elf", "it is a shared library for this machine", std::string("build it with gantry_add_module(), on this machine") + fatal, shared_library);
  add("manifest", "the file carries a valid manifest as ELF note",
      std::string("build it with gantry_add_module(), which embeds module.toml, and correct what is named") + fatal, manifest);
  add("kind", "its kind and revision are ones this SDK knows", std::string("correct kind or revision in module.toml, or use a newer SDK") + fatal, known_kind);
  add("symbol", "it exports " GANTRY_MODULE_SYMBOL, std::string("write GANTRY_MODULE(Class, \"name\") in one file") + fatal, symbol);
  add("descriptor", "descriptor and manifest agree with each other and with the ABI", std::string("correct what is named") + fatal, descriptor);
  add("one_export", "it exports nothing but " GANTRY_MODULE_SYMBOL,
      "build it with gantry_add_module(), or with -fvisibility=hidden and a version script: other symbols clash between modules", one_export);
  add("unique_symbols", "it has no symbols of binding UNIQUE",
      "hide them (-fvisibility=hidden -fvisibility-inlines-hidden, gcc: -fno-gnu-unique): all modules of a process would share them", unique_symbols);
  add("file_rules", "only its owner can write the file and its directory", std::string("change owner or mode as said") + fatal, file_rules);
  add("needed", "it needs only libraries an installation can have", "link what you need statically or depend on a package", needed);
  add("run_path", "it brings no search path of its own",
      "remove -rpath (CMake: set_target_properties(... SKIP_BUILD_RPATH ON)), or use $ORIGIN", run_path);
  add("hardening", "relocations are read-only, code is not writable, the stack is not executable", "link as gantry_add_module() does", hardening);
  add("glibc", "it runs on the systems you serve (--max-glibc)", "build it on the oldest distribution you serve", floors);
}

}  // namespace gantry::kit
