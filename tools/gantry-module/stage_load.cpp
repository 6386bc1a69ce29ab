// Stage 2: it can be mapped, and instances come and go without leaving anything behind.
#include "tools/gantry-module/kit.hpp"

#include "kernel/module/loader.hpp"

#include <dirent.h>
#include <malloc.h>

#include <algorithm>
#include <deque>

namespace gantry::kit {
namespace {

using Clock = std::chrono::steady_clock;

std::size_t entries(const char* directory) {
  std::size_t n = 0;
  if (DIR* d = ::opendir(directory)) {
    while (::readdir(d)) ++n;
    ::closedir(d);
  }
  return n;
}
std::size_t open_files() { return entries("/proc/self/fd"); }
std::size_t threads() { return entries("/proc/self/task"); }

// Threads that have been told to end need a moment.
template <class F>
std::size_t settled(F count, std::size_t at_most) {
  std::size_t n = count();
  for (int i = 0; i < 50 && n > at_most; ++i) {
    std::this_thread::sleep_for(10ms);
    n = count();
  }
  return n;
}

gantry_provider load(const Target& target, Check& check) {
  config::ModuleConfig c;
  c.kind = target.manifest.kind;
  c.name = target.manifest.name;
  c.path = target.path;
  c.manifest = target.manifest;
  c.allow_unstable = true;
  const auto loaded = module::load_library(c);
  if (!loaded) {
    check.fail(loaded.error().message);
    throw Check::Stop{};
  }
  return loaded->provider;
}

void map_it(Env& env, Check& check) {
  if (env.host == "kernel") (void)load(env.target, check);
  else (void)env.subject(check);
}

void create(Env& env, Check& check) {
  const gantry_provider p = load(env.target, check);
  testing::Host host;
  Nanos best = 1h;
  for (int i = 0; i < 5; ++i) {
    const std::size_t files = open_files(), running = threads();
    const auto begun = Clock::now();
    testing::Instance instance(host, p);
    best = std::min<Nanos>(best, Clock::now() - begun);
    if (!instance.created()) {
      check.fail("create() returned NULL", "return the instance; NULL means that memory is exhausted, report anything else from CONFIGURE");
      return;
    }
    if (i == 0) continue;  // the first may fill caches of libraries
    if (const auto n = open_files(); n > files)
      return void(check.fail("create() opened " + std::to_string(n - files) + " descriptors", "open files in CONFIGURE or START"));
    if (const auto n = threads(); n > running)
      return void(check.fail("create() started " + std::to_string(n - running) + " threads", "start threads in START, end them in STOP"));
  }
  if (best > 10ms) check.fail("create() took " + std::to_string(best / 1ms) + " ms", "create() only allocates; I/O belongs into CONFIGURE or START");
  if (!host.faults().empty()) check.fail(host.faults().front());
}

// 100 lives; what grows with them is a leak.
void rounds(Env& env, Check& check, int n) {
  static gantry_provider p;
  static bool loaded = false;
  if (!std::exchange(loaded, true)) p = load(env.target, check);
  for (int i = 0; i < n; ++i) {
    testing::Host host;
    testing::Instance instance(host, p);
    check.require(check.that(instance.created(), "create() returned NULL"));
  }
}

void leaks_files(Env& env, Check& check) {
  rounds(env, check, 5);
  const std::size_t before = open_files();
  rounds(env, check, 100);
  if (const auto n = settled(open_files, before); n > before)
    check.fail(std::to_string(n - before) + " descriptors are open after 100 times create and destroy");
}
void leaks_threads(Env& env, Check& check) {
  rounds(env, check, 5);
  const std::size_t before = threads();
  rounds(env, check, 100);
  if (const auto n = settled(threads, before); n > before)
    check.fail(std::to_string(n - before) + " threads run after 100 times create and destroy");
}
void leaks_memory(Env& env, Check& check) {
  rounds(env, check, 20);
  const auto used = [] {
    const auto m = ::mallinfo2();
    return m.uordblks + m.hblkhd;
  };
  const std::size_t before = used();
  rounds(env, check, 100);
  const std::size_t after = used();
  // A cache may grow a little; 32 bytes a life is no cache.
  if (after > before + 100 * 32)
    check.fail("memory in use grew by " + std::to_string((after - before) / 100) + " bytes each time");
}

void several(Env& env, Check& check) {
  const gantry_provider p = load(env.target, check);
  testing::Host host;
  std::deque<testing::Instance> all;
  for (int i = 0; i < 5; ++i) {
    all.emplace_back(host, p);
    check.require(check.that(all.back().created(), "instance " + std::to_string(i + 1) + " of 5 could not be created beside the others"));
  }
  while (!all.empty()) all.pop_front();  // not in reverse
  if (!host.faults().empty()) check.fail(host.faults().front());
}

void destroy_is_silent(Env& env, Check& check) {
  const gantry_provider p = load(env.target, check);
  testing::Host host;
  {
    testing::Instance instance(host, p);
    check.require(check.that(instance.created(), "create() returned NULL"));
  }
  host.run();
  if (!host.faults().empty()) check.fail("after destroy: " + host.faults().front());
  if (host.timers()) check.fail(std::to_string(host.timers()) + " timers are left after destroy", "cancel them in STOP or destroy");
}

void whole_lives(Env& env, Check& check) {
  env.needs_settings(check);
  Subject& s = env.subject(check);
  const int lives = env.host == "kernel" ? 10 : 4;
  std::size_t files = 0, running = 0;
  for (int i = 0; i < lives; ++i) {
    if (const Status up = s.up(); !up) check.skip("it does not start here, see config.defaults: " + Check::describe(up.error()));
    check.require(check.ok(s.down(), "life " + std::to_string(i + 1) + ": STOP and destroy"));
    s.turn(1ms);
    if (i == 2) {  // by now pools have their threads and libraries their files
      files = open_files();
      running = threads();
    }
  }
  if (const auto n = settled(open_files, files + 1); n > files + 1)
    check.fail(std::to_string(n - files) + " more descriptors are open after " + std::to_string(lives - 3) + " lives", "close in STOP what START opened");
  // The host's own pool may still grow by a thread.
  if (const auto n = settled(threads, running + 2); n > running + 2)
    check.fail(std::to_string(n - running) + " more threads run after " + std::to_string(lives - 3) + " lives", "join in STOP what START started");
}

}  // namespace

void add_load_tests(const Target&, std::vector<Test>& tests) {
  const auto add = [&](const char* name, const char* must, const char* remedy, void (*run)(Env&, Check&), bool in_process) {
    tests.push_back({std::string("load.") + name, 2, must, remedy, run, true, in_process});
  };
  add("map", "the host maps it and accepts its descriptor", "install what is missing, or correct what is named", map_it, true);
  add("create", "create is cheap: no I/O, no thread, no descriptor", "move the work into CONFIGURE or START", create, false);
  add("descriptors", "100 times create and destroy leave no descriptor open", "close in destroy what create opened", leaks_files, false);
  add("threads", "100 times create and destroy leave no thread running", "join in destroy what create started", leaks_threads, false);
  add("memory", "100 times create and destroy leave no memory in use", "free in destroy what create allocated", leaks_memory, false);
  add("several", "several instances exist side by side and go in any order", "keep no global state", several, false);
  add("silent_destroy", "destroy calls nothing and leaves no timer", "do in STOP what needs the host", destroy_is_silent, false);
  add("lives", "CONFIGURE, START, STOP and destroy can be repeated and leave nothing behind", "undo in STOP what START did", whole_lives, true);
}

}  // namespace gantry::kit
