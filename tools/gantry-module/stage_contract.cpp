// Stage 4: what every module owes its host, whatever its kind (sdk/docs/module.md).
#include "tools/gantry-module/kit.hpp"

#include <algorithm>
#include <ctime>

#include <sys/resource.h>

namespace gantry::kit {
namespace {

using conformance::Pending;

// What a method is called with when nothing particular is meant: an empty table, or nothing where it takes nothing.
Buffer nothing(const Message& m) { return m.request.empty() ? Buffer() : empty_table(); }

bool stream(const Message& m) { return !m.chunk.empty(); }

const std::vector<Message>& methods(Env& env) { return messages(env.target.manifest.kind); }

// RECOVER comes once and first, so tests that call everything send it first.
std::vector<Message> callable(Env& env) {
  std::vector<Message> out = methods(env);
  std::stable_sort(out.begin(), out.end(), [](const Message& a, const Message& b) { return a.method < b.method; });
  return out;
}

std::string outcome(const Pending& p) { return p.done() ? std::string(to_string(p.code())) : "nothing"; }

// Ends a call, the gentle way first.
bool settle(Check& check, const Pending& p, const std::string& what) {
  if (p.wait(100ms)) return true;
  p.cancel();
  return p.wait(3s) || check.fail(what + " is still open 3 s after it was cancelled",
                                  "override cancelled(token) and complete the call soon, with CANCELLED or with what you have");
}

void unknown_method(Env& env, Check& check) {
  Subject& s = env.running(check);
  for (const std::uint32_t m : {15u, 99u, 1'000'000u, 0xffffffffu})
    for (const bool body : {false, true})
      check.code(s.call(m, body ? empty_table() : Buffer()), Code::unimplemented,
                 "method " + std::to_string(m) + (body ? " with a body" : " without a body"));
  check.ok(s.health(), "HEALTH afterwards");
}

void later_fields(Env& env, Check& check) {
  Subject& s = env.running(check);
  check.ok(s.call(GANTRY_METHOD_HEALTH, kit::unknown_fields()), "HEALTH with a body of a later revision");
  for (const auto& m : callable(env)) {
    if (m.request.empty()) continue;
    const Pending plain = s.open(m.method, empty_table());
    if (!settle(check, plain, std::string(m.name))) return;
    const Pending later = s.open(m.method, kit::unknown_fields());
    if (!settle(check, later, std::string(m.name))) return;
    check.that(plain.code() == later.code(), std::string(m.name) + " of an empty " + std::string(m.request) + " gives " + outcome(plain) +
                                                 "; with fields of a later revision beside, " + outcome(later));
  }
}

void absent_fields(Env& env, Check& check) {
  Subject& s = env.running(check);
  for (const auto& m : callable(env)) {
    const Pending p = s.open(m.method, nothing(m));
    if (!stream(m) && !p.wait(5s)) {
      check.fail(std::string(m.name) + " of an empty table is not answered within 5 s", "complete every call, also those that make no sense");
      p.cancel();
      return;
    }
    if (!settle(check, p, std::string(m.name))) return;
    if (p.code() == Code::internal || p.code() == Code::unknown)
      check.fail(std::string(m.name) + " of an empty table: " + Check::describe(p.result().error()), "an absent text, list or table means empty; refuse with INVALID_ARGUMENT what needs a value");
  }
  check.ok(s.health(), "HEALTH afterwards");
}

void garbage_body(Env& env, Check& check) {
  Subject& s = env.running(check);
  Random random = env.random("contract.garbage_body");
  for (const auto& m : callable(env)) {
    if (m.request.empty()) continue;
    const auto* sch = schema(env.target.manifest.kind);
    const Buffer good = random_message(*sch, m.request, random, env.scratch);
    std::vector<Buffer> bad;
    bad.emplace_back();
    bad.emplace_back(std::vector<std::uint8_t>(1, 0));
    bad.emplace_back(std::vector<std::uint8_t>(64, 0xff));
    bad.emplace_back(std::vector<std::uint8_t>(good.data(), good.data() + good.size() / 2));
    bad.emplace_back(std::vector<std::uint8_t>(4096, 0x7f));
    for (const Buffer& b : bad) {
      if (verifies(*sch, m.request, b)) continue;
      const std::string what = std::string(m.name) + " with " + std::to_string(b.size()) + " bytes that are no " + std::string(m.request);
      const Pending p = s.open(m.method, b);
      if (!p.wait(5s)) {
        check.fail(what + " is not answered within 5 s");
        p.cancel();
        return;
      }
      if (!check.code(p.result(), Code::invalid_argument, what)) break;
      if (!check.refused(p.result(), what)) break;
    }
  }
  check.ok(s.health(), "HEALTH afterwards");
}

void replies_verify(Env& env, Check& check) {
  Subject& s = env.running(check);
  const Pending h = s.open(GANTRY_METHOD_HEALTH, Buffer());
  check.require(check.that(h.wait(5s), "HEALTH is answered within 5 s"));
  if (h.code() != Code::unimplemented && check.ok(h.result(), "HEALTH"))
    check.that(verifies(*schema("common"), "gantry.fb.Health", h.reply()), "HEALTH is answered with " + std::to_string(h.reply().size()) + " bytes that are no Health");
  const auto* sch = schema(env.target.manifest.kind);
  Random random = env.random("contract.replies_verify");
  for (const auto& m : callable(env))
    for (int i = 0; i < 4; ++i) {
      const Pending p = s.open(m.method, i == 0 || m.request.empty() ? nothing(m) : random_message(*sch, m.request, random, env.scratch));
      if (!settle(check, p, std::string(m.name))) return;
      if (p.code() == Code::ok && !m.reply.empty() && !verifies(*sch, m.reply, p.reply()))
        return void(check.fail(std::string(m.name) + " is answered OK with " + std::to_string(p.reply().size()) + " bytes that are no " + std::string(m.reply)));
      for (const auto& c : p.chunks())
        if (!m.chunk.empty() && (m.chunk == "-" ? !c.empty() : !verifies(*sch, m.chunk, c)))
          return void(check.fail(std::string(m.name) + " sent a chunk of " + std::to_string(c.size()) + " bytes that is no " + std::string(m.chunk)));
      if (!p.chunks().empty() && m.chunk.empty())
        return void(check.fail(std::string(m.name) + " is no stream, but sent " + std::to_string(p.chunks().size()) + " chunks"));
    }
}

void one_completion(Env& env, Check& check) {
  Subject& s = env.running(check);
  std::vector<Pending> all;
  for (int i = 0; i < 100; ++i) all.push_back(s.open(GANTRY_METHOD_HEALTH, Buffer()));
  std::size_t open = 0;
  s.wait_until([&] {
    open = static_cast<std::size_t>(std::count_if(all.begin(), all.end(), [](const Pending& p) { return !p.done(); }));
    return open == 0;
  });
  check.equal(open, std::size_t{0}, "calls of HEALTH, out of 100 at once, that are not answered within 5 s");
  for (const auto& m : callable(env)) {
    const Pending p = s.open(m.method, nothing(m));
    if (!settle(check, p, std::string(m.name))) return;
  }
  s.pass(50ms);  // a second completion may come late; the host counts it
}

void cancel(Env& env, Check& check) {
  Subject& s = env.running(check);
  for (const auto& m : callable(env)) {
    const Pending at_once = s.open(m.method, nothing(m));
    at_once.cancel();
    if (!at_once.wait(3s))
      return void(check.fail(std::string(m.name) + " is still open 3 s after it was cancelled"));
    const Pending later = s.open(m.method, nothing(m));
    later.wait(20ms);
    later.cancel();
    if (!later.wait(3s))
      return void(check.fail(std::string(m.name) + " is still open 3 s after it was cancelled while it ran"));
    at_once.cancel();  // for a call that is over: means nothing
    later.cancel();
  }
  check.ok(s.health(), "HEALTH afterwards");
}

void stop_in_flight(Env& env, Check& check) {
  Subject& s = env.running(check);
  std::vector<std::pair<std::string, Pending>> open;
  for (const auto& m : callable(env))
    for (int i = 0; i < 5; ++i) open.emplace_back(m.name, s.open(m.method, nothing(m)));
  const Status down = s.down();
  check.ok(down, "STOP and destroy with " + std::to_string(open.size()) + " calls in flight");
  s.turn(1ms);
  for (const auto& [name, p] : open)
    if (!p.done()) return void(check.fail(name + " was never completed"));
}

void deadline(Env& env, Check& check) {
  Subject& s = env.running(check);
  for (const auto& m : callable(env)) {
    conformance::CallOptions o;
    o.timeout = 30ms;
    const Pending p = s.open(m.method, nothing(m), o);
    if (!p.wait(3s)) return void(check.fail(std::string(m.name) + ": the caller heard nothing 3 s after the deadline"));
  }
  // The host answers the caller at the deadline; the module still owes the completion, which the stop waits for.
  check.ok(s.health(), "HEALTH after deadlines have passed");
  check.ok(s.down(), "STOP and destroy after deadlines have passed");
}

void threads(Env& env, Check& check) {
  env.needs_settings(check);
  Subject& s = env.subject(check, 8);
  if (const Status up = s.up(); !up) check.skip("it does not start here, see config.defaults: " + Check::describe(up.error()));
  for (int round = 0; round < 6; ++round) {
    std::vector<Pending> all;
    for (int i = 0; i < 10; ++i) all.push_back(s.open(GANTRY_METHOD_HEALTH, Buffer()));
    for (const auto& m : callable(env)) {
      const Pending p = s.open(m.method, nothing(m));
      if (!settle(check, p, std::string(m.name))) return;
      if (p.code() == Code::internal || p.code() == Code::unknown)
        return void(check.fail(std::string(m.name) + " from another thread than the one it was created on: " + Check::describe(p.result().error()),
                               "keep nothing in thread_local variables; entries never overlap, but come from any thread"));
    }
    for (const auto& p : all) {
      if (!p.wait(5s)) return void(check.fail("HEALTH is not answered within 5 s when entries come from other threads"));
      if (p.code() != Code::ok && p.code() != Code::unimplemented)
        return void(check.fail("HEALTH from another thread than the one it was created on: " + Check::describe(p.result().error()),
                               "keep nothing in thread_local variables; entries never overlap, but come from any thread"));
    }
  }
}

void silent_after_stop(Env& env, Check& check) {
  Subject& s = env.running(check);
  for (const auto& m : callable(env)) {
    const Pending p = s.open(m.method, nothing(m));
    if (!settle(check, p, std::string(m.name))) return;
  }
  check.ok(s.stop(), "STOP");
  s.pass(20ms);  // what was under way
  const auto faults = s.faults();
  const std::size_t asked = s.asked().size(), lines = s.logs().size();
  s.pass(250ms);
  check.equal(s.faults() - faults, std::uint64_t{0}, "breaches of the ABI in the 250 ms after STOP was answered");
  check.equal(s.asked().size() - asked, std::size_t{0}, "requests to host services in the 250 ms after STOP was answered");
  check.equal(s.logs().size() - lines, std::size_t{0}, "log records in the 250 ms after STOP was answered");
}

void quiet(Env& env, Check& check) {
  Subject& s = env.running(check);
  s.pass(50ms);
  timespec before{}, after{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
  const std::size_t lines = s.logs().size();
  s.pass(300ms);
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
  for (int i = 0; i < 20; ++i) (void)s.health();
  const std::size_t logged = s.logs().size() - lines;
  if (logged > 40 || s.logged("logs too much"))
    check.fail(std::to_string(logged) + " log records in 300 ms without work and 20 calls of HEALTH, more were dropped by the host",
               "log what changes, once; use debug for the rest, and a metric for what is frequent");
  const auto used = Nanos((after.tv_sec - before.tv_sec) * 1'000'000'000 + (after.tv_nsec - before.tv_nsec));
  if (env.host == "kernel" && used > 150ms)
    check.fail("it used " + std::to_string(used / 1ms) + " ms of CPU in 300 ms without work", "wait with timers, not by looking again and again");
}

void strand(Env& env, Check& check) {
  Subject& s = env.running(check);
  for (const auto& m : callable(env)) {
    const Pending p = s.open(m.method, nothing(m));
    // While it works on this, others are answered: blocking work belongs elsewhere.
    const Pending h = s.open(GANTRY_METHOD_HEALTH, Buffer());
    if (!h.wait(3s)) {
      check.fail("while " + std::string(m.name) + " is open, HEALTH is not answered within 3 s", "never wait on the strand: co_await, offload, timers");
      return;
    }
    if (!settle(check, p, std::string(m.name))) return;
  }
}

void many_at_once(Env& env, Check& check) {
  Subject& s = env.running(check);
  for (const auto& m : callable(env)) {
    if (m.method < 16) continue;
    std::vector<Pending> all;
    for (int i = 0; i < 64; ++i) all.push_back(s.open(m.method, nothing(m)));
    s.wait_until([&] { return std::all_of(all.begin(), all.end(), [](const Pending& p) { return p.done(); }); }, stream(m) ? 100ms : 5s);
    for (const auto& p : all) p.cancel();
    if (!s.wait_until([&] { return std::all_of(all.begin(), all.end(), [](const Pending& p) { return p.done(); }); }, 3s))
      return void(check.fail("of 64 calls of " + std::string(m.name) + " at once, some are still open 3 s after they were cancelled"));
  }
}

}  // namespace

void add_contract_tests(const Target& target, std::vector<Test>& tests) {
  const bool own_methods = !messages(target.manifest.kind).empty();
  const auto add = [&](const char* name, const char* must, const char* remedy, void (*run)(Env&, Check&), bool process = true) {
    tests.push_back({std::string("contract.") + name, 4, must, remedy, run, true, process});
  };
  add("unknown_method", "methods it does not know get UNIMPLEMENTED", "answer UNIMPLEMENTED in the default branch of your dispatch: newer kernels will ask for more", unknown_method);
  add("unknown_fields", "fields it does not know are ignored", "read the fields you know; never compare sizes of messages or count fields", later_fields);
  add("replies_verify", "its answers are the tables the schema names", "finish the reply with the table of the method as root (pack() does)", replies_verify);
  add("one_completion", "every call is completed exactly once", "complete each token with one final code; let a Responder do it", one_completion);
  if (own_methods) {
    add("absent_fields", "a message without any field breaks nothing", "an absent text, list or table means empty; refuse with INVALID_ARGUMENT what needs a value", absent_fields);
    add("garbage_body", "a body that does not verify gets INVALID_ARGUMENT with a message", "verify before you read (view<T>, or the bindings' own)", garbage_body);
    add("cancel", "a cancelled call is completed soon, and a cancel for a finished call means nothing", "override cancelled(token) and complete the call soon, with CANCELLED or with what you have", cancel);
    add("many_at_once", "64 calls of one method at once are all answered", "keep state per call, not per instance", many_at_once);
    add("deadline", "a caller hears something when its deadline passes, and the module still completes the call", "complete the call after the cancel that follows a deadline", deadline);
    add("stop_in_flight", "STOP ends the calls in flight", "complete every open call in STOP, or soon after the cancel that follows", stop_in_flight);
    add("strand", "no call holds the strand", "blocking work belongs into offload", strand);
  }
  add("threads", "entries may come from any thread", "keep no thread_local state; hold no lock between entries", threads, false);
  add("silent_after_stop", "after STOP it is silent", "cancel timers and requests, join threads, before you answer STOP", silent_after_stop);
  add("quiet", "without work it neither logs nor computes", "wait with timers, log what changes", quiet);
}

// Stage 5: the suites of sdk/testing/conformance that are linked in.
void add_behaviour_tests(const Target& target, std::vector<Test>& tests) {
  for (const auto& c : conformance::cases()) {
    if (c.kind != target.manifest.kind && c.kind != "any") continue;
    tests.push_back({c.kind + "." + c.name, 5, c.must, c.remedy,
                     [run = c.run](Env& env, Check& check) {
                       env.needs_settings(check);
                       run(env.subject(check), check);
                     },
                     true, true});
  }
}

}  // namespace gantry::kit
