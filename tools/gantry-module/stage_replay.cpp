// Stage 8: what a live system recorded (gantry module record), fed to the module on the desk.
//
// Calls are made in the recorded order with the recorded bodies. What the module asks of the host is answered with what
// was answered then: by body where one fits, else in order. Descriptors and what was blanked cannot be replayed.
#include "tools/gantry-module/kit.hpp"

#include "kernel/module/trace_file.hpp"

#include <deque>
#include <map>
#include <optional>

namespace gantry::kit {
namespace {

using conformance::Asked;
using conformance::Pending;
using fb::trace::BodyState;
using fb::trace::EntryT;
using fb::trace::What;

// The recorded answers of host services.
class Answers {
 public:
  explicit Answers(const std::vector<EntryT>& entries) {
    std::map<std::uint64_t, std::shared_ptr<Conversation>> open;
    for (const auto& e : entries) {
      if (e.what == What::REQUEST) {
        auto c = std::make_shared<Conversation>();
        c->body = e.body;
        open[e.token] = c;
        by_method_[{e.service, e.method}].push_back(c);
      } else if (const auto it = open.find(e.token); it != open.end()) {
        if (e.what == What::REQUEST_CHUNK) it->second->chunks.push_back(e.body);
        if (e.what == What::REQUEST_DONE) {
          it->second->done = {e.code, e.body};
          open.erase(it);
        }
      }
    }
  }
  void serve(const Asked& a) {
    auto& queue = by_method_[{static_cast<std::uint32_t>(a.service), a.method}];
    std::shared_ptr<Conversation> c;
    for (auto it = queue.begin(); it != queue.end(); ++it)
      if ((*it)->body == a.body) {
        c = *it;
        queue.erase(it);
        break;
      }
    if (!c && !queue.empty()) {
      c = queue.front();
      queue.pop_front();
    }
    if (!c) return a.fail(fail(Code::unavailable, "the recording has no further answer to this request"));
    for (const auto& chunk : c->chunks) a.reply(GANTRY_MORE, Bytes(chunk));
    if (c->done) a.reply(c->done->first, Bytes(c->done->second));
  }

 private:
  struct Conversation {
    std::vector<std::uint8_t> body;
    std::vector<std::vector<std::uint8_t>> chunks;
    std::optional<std::pair<std::int32_t, std::vector<std::uint8_t>>> done;
  };
  std::map<std::pair<std::uint32_t, std::uint32_t>, std::deque<std::shared_ptr<Conversation>>> by_method_;
};

std::string at(const EntryT& e, const std::string& kind) {
  return method_name(kind, e.method) + " at " + std::to_string(e.at_ns / 1'000'000) + " ms (token " + std::to_string(e.token) + ")";
}

void replay(Env& env, Check& check, const std::string& path) {
  const auto recording = module::read_recording(path);
  if (!recording) return void(check.fail(recording.error().message, "record again: gantry module record " + env.target.id() + " --out FILE"));
  const auto& header = recording->header;
  if (header.kind != env.target.manifest.kind)
    return void(check.fail("the recording is of " + header.kind + "." + header.name + ", the module is " + env.target.id(), "record a module of this kind"));
  if (!header.bodies) return void(check.fail("the recording has no bodies", "record it with gantry module record, not from a trace"));
  if (recording->cut) check.notes.push_back("the recording is cut off at its end");

  auto answers = std::make_shared<Answers>(recording->entries);
  Subject& s = env.subject(check);
  for (const auto id : fb::host::EnumValuesService())
    if (id != fb::host::Service::NONE) s.serve(id, [answers](const Asked& a) { answers->serve(a); });
  (void)env.running(check);

  std::map<std::uint64_t, Pending> open;
  std::size_t fed = 0, left_out = 0, same = 0;
  for (const auto& e : recording->entries) {
    if (e.what == What::CALL) {
      const bool life = e.method <= GANTRY_METHOD_STOP;  // the desk's own business
      if (life || e.nfds || (e.body_state != BodyState::WHOLE && e.size != 0)) {
        left_out += !life;
        continue;
      }
      open.emplace(e.token, s.open(e.method, Bytes(e.body)));
      ++fed;
    } else if (const auto it = open.find(e.token); it != open.end()) {
      if (e.what == What::CANCEL) it->second.cancel();
      if (e.what == What::CHUNK && !it->second.wait_chunks(e.chunks ? e.chunks : 1, 2s)) {
        check.fail(at(e, header.kind) + ": the recording has a chunk here, now there is none");
        it->second.cancel();
        open.erase(it);
      } else if (e.what == What::DONE) {
        if (!it->second.wait(5s)) check.fail(at(e, header.kind) + ": recorded " + std::string(to_string(static_cast<Code>(e.code))) + ", now not answered within 5 s");
        else if (it->second.code() != static_cast<Code>(e.code))
          check.fail(at(e, header.kind) + ": recorded " + std::string(to_string(static_cast<Code>(e.code))) + ", now " +
                     (it->second.code() == Code::ok ? "OK" : Check::describe(it->second.result().error())));
        else ++same;
        open.erase(it);
      }
    }
    if (check.failures.size() >= 20) return;
  }
  for (auto& [token, p] : open) p.cancel();
  for (auto& [token, p] : open)
    if (!p.wait(3s)) return void(check.fail("a replayed call is still open 3 s after it was cancelled"));
  check.notes.push_back(std::to_string(fed) + " calls fed, " + std::to_string(same) + " answered as recorded, " + std::to_string(left_out) +
                        " left out (descriptors or blanked bodies)");
}

}  // namespace

void add_replay_tests(const Target&, const std::string& recording, std::vector<Test>& tests) {
  tests.push_back({"replay.calls", 8, "recorded calls are answered with the codes they were answered with then",
                   "compare the bodies with gantry module trace; a difference may also be the desk's: files and services that are not here",
                   [recording](Env& env, Check& check) { replay(env, check, recording); }, true, true});
}

}  // namespace gantry::kit
