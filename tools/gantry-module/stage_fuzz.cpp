// Stage 7: random messages, valid and damaged, made from the schema. What is looked for: crashes, breaches of the ABI
// and calls that are never completed. A seed makes the same messages again, in both hosts.
#include "tools/gantry-module/kit.hpp"

#include <algorithm>

namespace gantry::kit {
namespace {

using conformance::Pending;

std::string name_message(const Env& env, const std::string& test, int n) {
  return "message " + std::to_string(n) + " of seed " + std::to_string(env.options.seed) + "; to debug: gantry-module check " +
         env.target.path + " --reproduce " + std::to_string(env.options.seed) + " -k " + test;
}

bool call(Subject& s, Check& check, const Message& m, const Buffer& body, Random& random, const std::string& what) {
  conformance::CallOptions o;
  if (random() % 8 == 0) o.timeout = Nanos(random() % 2'000'000);
  const Pending p = s.open(m.method, body, o);
  const bool at_once = random() % 6 == 0;
  if (at_once) p.cancel();
  if (p.wait(m.chunk.empty() && !at_once ? 5s : 2ms)) return true;
  if (m.chunk.empty() && !at_once)
    return check.fail(std::string(m.name) + " is not answered within 5 s: " + what);
  p.cancel();
  return p.wait(3s) || check.fail(std::string(m.name) + " is still open 3 s after it was cancelled: " + what);
}

std::size_t paths(Bytes message, const std::string& directory) {
  const std::string_view text(reinterpret_cast<const char*>(message.data()), message.size());
  std::size_t n = 0;
  for (auto at = text.find(directory); at != std::string_view::npos; at = text.find(directory, at + 1)) ++n;
  return n;
}

Buffer next_message(Env& env, const Message& m, Random& random) {
  if (m.request.empty()) return random() % 4 ? Buffer() : broken({}, random);
  const auto* sch = schema(m.method == GANTRY_METHOD_CONFIGURE ? "common" : env.target.manifest.kind);
  Buffer good = random_message(*sch, m.request, random, env.scratch);
  if (random() % 3) return good;
  Buffer bad = broken(good, random);
  // A flipped bit in a path would lead out of the case's directory.
  return paths(bad, env.scratch) == paths(good, env.scratch) || !verifies(*sch, m.request, bad) ? std::move(bad) : std::move(good);
}

void one_method(Env& env, Check& check, const Message& m, const std::string& test) {
  Subject& s = env.running(check);
  Random random = env.random(test);
  const auto end = std::chrono::steady_clock::now() + env.options.timeout / 3;
  int n = 0;
  for (; n < static_cast<int>(env.options.fuzz) && std::chrono::steady_clock::now() < end; ++n) {
    const Buffer body = next_message(env, m, random);
    if (!call(s, check, m, body, random, name_message(env, test, n))) return;
    if (s.crashes()) return void(check.fail("its process ended at " + name_message(env, test, n)));
  }
  check.notes.push_back(std::to_string(n) + " messages, seed " + std::to_string(env.options.seed));
  if (!check.ok(s.health(), "HEALTH after " + std::to_string(n) + " messages")) check.failures.back().what += "; seed " + std::to_string(env.options.seed);
}

void mixed(Env& env, Check& check) {
  Subject& s = env.running(check);
  Random random = env.random("fuzz.mixed");
  const auto& all = messages(env.target.manifest.kind);
  std::vector<std::pair<const Message*, Pending>> open;
  for (unsigned n = 0; n < env.options.fuzz; ++n) {
    const Message& m = all[random() % all.size()];
    open.emplace_back(&m, s.open(m.method, next_message(env, m, random)));
    if (random() % 4 == 0 && !open.empty()) open[random() % open.size()].second.cancel();
    if (open.size() < 32) continue;
    for (auto& [message, p] : open)
      if (message->chunk.empty() && !p.wait(5s))
        return void(check.fail(std::string(message->name) + " is not answered within 5 s: before " + name_message(env, "fuzz.mixed", static_cast<int>(n))));
    for (auto& [message, p] : open) p.cancel();
    for (auto& [message, p] : open)
      if (!p.wait(3s))
        return void(check.fail(std::string(message->name) + " is still open 3 s after it was cancelled: before " + name_message(env, "fuzz.mixed", static_cast<int>(n))));
    open.clear();
  }
  check.ok(s.health(), "HEALTH after all");
}

// A framework has no methods: what comes from outside are events of the cluster and HTTP requests.
void events(Env& env, Check& check) {
  Subject& s = env.running(check);
  Random random = env.random("fuzz.events");
  if (!s.wait_until([&] { return s.cluster.subscribed() || s.http.listening(); }, 2s)) check.skip("it neither subscribes nor listens");
  static const char* const targets[] = {"/", "/v2/apps", "/v2/apps//x", "/v2/%zz?a=b&&", "/../..", "/v2/tasks?status=", "/ping", "/v2/groups", "/metrics", "/v2/queue/x/delay"};
  static const char* const verbs[] = {"GET", "PUT", "POST", "DELETE", "PATCH", "HEAD", "x"};
  static const char* const bodies[] = {"", "{", "{}", "[]", "null", "[[[[[[", "{\"id\":\"/a\",\"cmd\":1e999}", "{\"id\":\"..\"}", "{\"id\":\"/a\",\"instances\":-1}", "\xff\xfe"};
  std::vector<std::uint64_t> sent;
  for (unsigned n = 0; n < env.options.fuzz; ++n) {
    if (s.cluster.subscribed() && random() % 2) {
      Buffer event = random_message(*schema("framework"), "gantry.fb.Event", random, env.scratch);
      if (random() % 4 == 0) event = broken(event, random);
      s.cluster.raw_event(event);
    } else if (s.http.listening()) {
      fb::host::RequestT r;
      r.method = verbs[random() % std::size(verbs)];
      r.target = targets[random() % std::size(targets)];
      const std::string body = bodies[random() % std::size(bodies)];
      r.body.assign(body.begin(), body.end());
      sent.push_back(s.http.send(std::move(r)));
    }
    s.turn(1ms);
    if (s.crashes()) return void(check.fail("its process ended at " + name_message(env, "fuzz.events", static_cast<int>(n))));
  }
  s.pass(20ms);
  check.ok(s.health(), "HEALTH after all");
  check.notes.push_back("seed " + std::to_string(env.options.seed));
}

}  // namespace

void add_fuzz_tests(const Target& target, std::vector<Test>& tests) {
  const auto add = [&](const std::string& name, std::function<void(Env&, Check&)> run) {
    tests.push_back({name, 7, "random messages, valid and damaged, are answered and break nothing",
                     "run the printed command under a debugger; verify bodies, check sizes and numbers before you use them", std::move(run), true, true});
  };
  static const Message configure{GANTRY_METHOD_CONFIGURE, "CONFIGURE", "gantry.fb.Configure", {}, {}};
  add("fuzz.CONFIGURE", [](Env& env, Check& check) { one_method(env, check, configure, "fuzz.CONFIGURE"); });
  const auto& all = messages(target.manifest.kind);
  for (const Message& m : all) {
    const std::string name = "fuzz." + std::string(m.name);
    add(name, [&m, name](Env& env, Check& check) { one_method(env, check, m, name); });
  }
  if (!all.empty()) add("fuzz.mixed", mixed);
  if (target.manifest.kind == "framework") add("fuzz.events", events);
}

}  // namespace gantry::kit
