// Conformance of kind `election`. Contract: sdk/docs/election.md.
#include "support.hpp"

#include <gantry/election_generated.h>

namespace gantry::conformance {
namespace {

namespace fe = fb::election;
using fe::Method;

struct Race {
  Subject& subject;
  Check& check;

  Race(Subject& s, Check& c) : subject(s), check(c) { check.require(check.ok(subject.up(), "configure and start")); }

  Pending contend(const std::string& id) {
    fe::CandidateT c;
    c.id = id;
    c.address = address(id);
    c.hostname = "host-" + id;
    c.version = "conformance";
    return subject.open(Method::CONTEND, c);
  }
  static std::string address(const std::string& id) { return "127.0.0.1:" + std::to_string(5100 + id.back()); }
  Pending watch() { return subject.open(Method::WATCH, Buffer()); }

  // What a stream said last; nothing yet: not elected.
  fe::LeadershipT now(const Pending& p) {
    if (p.chunks().empty() || p.done()) return {};
    const auto l = p.chunk<fe::Leadership>(p.chunks().size() - 1);
    check.require(check.ok(l, "a chunk of CONTEND, read as Leadership"));
    return *l;
  }
  fe::LeaderT leader(const Pending& p) {
    check.require(check.that(!p.chunks().empty(), "WATCH has said nothing"));
    const auto l = p.chunk<fe::Leader>(p.chunks().size() - 1);
    check.require(check.ok(l, "a chunk of WATCH, read as Leader"));
    return *l;
  }
  bool wait_elected(const Pending& p, Nanos limit = 10s) {
    return subject.wait_until([&] { return now(p).elected; }, limit);
  }
  bool wait_leader(const Pending& p, const std::string& at, Nanos limit = 10s) {
    return subject.wait_until([&] { return !p.chunks().empty() && leader(p).address == at; }, limit);
  }
};

}  // namespace

GANTRY_CONFORMANCE(election, lone_candidate_leads, "a candidate without rivals is elected",
                   "send Leadership{elected = true} as soon as it is known; silence means the cluster has no master") {
  Race race(subject, check);
  const Pending a = race.contend("a");
  check.require(check.that(race.wait_elected(a), "the only candidate is not elected after 10 s"));
  check.that(!a.done(), "CONTEND ended while its candidate leads");
}

GANTRY_CONFORMANCE(election, one_leader_of_many, "of several candidates exactly one is elected", "elect the next only when the one before is out") {
  Race race(subject, check);
  std::vector<Pending> all;
  for (const char* id : {"a", "b", "c"}) all.push_back(race.contend(id));
  const auto leading = [&] {
    return std::count_if(all.begin(), all.end(), [&](const Pending& p) { return race.now(p).elected; });
  };
  check.require(check.that(subject.wait_until([&] { return leading() > 0; }, 10s), "nobody is elected after 10 s"));
  check.require(check.that(subject.wait_until([&] { return std::all_of(all.begin(), all.end(), [](const Pending& p) { return !p.chunks().empty(); }); }, 5s),
                           "a candidate was not told whether it leads"));
  for (int i = 0; i < 5; ++i) {
    check.require(check.equal(leading(), std::ptrdiff_t{1}, "candidates that were told they lead"));
    subject.pass(5ms);
  }
}

GANTRY_CONFORMANCE(election, next_in_line, "when the leader steps down a waiting candidate is elected",
                   "keep the candidates that wait and elect one of them when the leader's CONTEND is cancelled") {
  Race race(subject, check);
  const Pending a = race.contend("a");
  check.require(check.that(race.wait_elected(a), "the first candidate is not elected"));
  const Pending b = race.contend("b");
  b.wait_chunks(1);
  check.that(!race.now(b).elected, "a second candidate was elected beside the first");
  const auto before = race.now(a).epoch;
  a.cancel();
  check.that(a.wait(1s), "CONTEND is still open 1 s after it was cancelled");
  check.require(check.that(race.wait_elected(b), "nobody succeeds a leader who stepped down, although a candidate waits"));
  check.that(race.now(b).epoch > before, "epoch " + std::to_string(race.now(b).epoch) + " of the new leader after " + std::to_string(before));
}

GANTRY_CONFORMANCE(election, step_down_is_told, "watchers hear when nobody leads any more, and who leads next",
                   "send every WATCH the new Leader after each change; an empty address, or the one that is configured, means nobody contends here") {
  Race race(subject, check);
  const Pending w = race.watch();
  const Pending a = race.contend("a");
  check.require(check.that(race.wait_leader(w, race.address("a")), "WATCH does not tell the address of the leader"));
  a.cancel();
  check.require(check.that(subject.wait_until([&] { return race.leader(w).id != "a"; }, 5s), "WATCH still names a leader who stepped down"));
  const Pending b = race.contend("b");
  check.that(race.wait_leader(w, race.address("b")), "WATCH does not tell the next leader");
}

GANTRY_CONFORMANCE(election, watch_begins_with_now, "WATCH begins with the present leader, at once",
                   "send one Leader as the first chunk, also when nobody leads (empty address)") {
  Race race(subject, check);
  const Pending early = race.watch();
  check.require(check.that(early.wait_chunks(1, 5s), "WATCH says nothing while nobody leads"));
  const Pending a = race.contend("a");
  check.require(check.that(race.wait_elected(a), "the only candidate is not elected"));
  const Pending late = race.watch();
  check.require(check.that(late.wait_chunks(1, 5s), "a WATCH that came later says nothing"));
  const auto first = late.chunk<fe::Leader>(0);
  if (!check.ok(first, "the first chunk of WATCH")) return;
  check.equal(first->address, race.address("a"), "address in the first chunk");
  check.equal(first->id, std::string("a"), "id in the first chunk");
  check.equal(first->hostname, std::string("host-a"), "hostname in the first chunk");
}

GANTRY_CONFORMANCE(election, watchers_agree, "all watchers end with the same leader", "tell each change to every open WATCH") {
  Race race(subject, check);
  std::vector<Pending> watchers;
  for (int i = 0; i < 5; ++i) watchers.push_back(race.watch());
  const Pending a = race.contend("a");
  check.require(check.that(race.wait_elected(a), "the only candidate is not elected"));
  for (const auto& w : watchers) check.that(race.wait_leader(w, race.address("a")), "a WATCH was not told the leader");
  for (const auto& w : watchers)
    if (!w.chunks().empty()) check.equal(race.leader(w).epoch, race.leader(watchers[0]).epoch, "epoch, against the first WATCH");
}

GANTRY_CONFORMANCE(election, epochs_grow, "the epoch grows with every change of leader", "count changes; never reuse or go back to an epoch") {
  Race race(subject, check);
  const Pending w = race.watch();
  std::uint64_t last = 0;
  for (const char* id : {"a", "b", "a", "c"}) {
    const Pending p = race.contend(id);
    check.require(check.that(race.wait_elected(p), std::string("candidate ") + id + " is not elected"));
    const auto epoch = race.now(p).epoch;
    check.that(epoch > last, "epoch " + std::to_string(epoch) + " of candidate " + id + " after epoch " + std::to_string(last));
    last = epoch;
    check.require(check.that(race.wait_leader(w, race.address(id)), "WATCH was not told"));
    check.equal(race.leader(w).epoch, epoch, "epoch in WATCH, against CONTEND");
    p.cancel();
    check.require(check.that(p.wait(2s), "CONTEND did not end"));
  }
}

GANTRY_CONFORMANCE(election, cancelled_streams_end, "CONTEND and WATCH end when they are cancelled", "complete the stream in cancel()") {
  Race race(subject, check);
  const Pending a = race.contend("a"), w = race.watch(), v = race.watch();
  w.wait_chunks(1);
  w.cancel();
  check.that(w.wait(1s), "WATCH is still open 1 s after it was cancelled");
  a.cancel();
  check.that(a.wait(1s), "CONTEND is still open 1 s after it was cancelled");
  check.that(!v.done(), "the WATCH that was not cancelled ended, too");
}

GANTRY_CONFORMANCE(election, many_watchers, "a hundred watchers are served, and may leave in any order", "do not tie watchers to each other or to a thread each") {
  Race race(subject, check);
  std::vector<Pending> all;
  for (int i = 0; i < 100; ++i) all.push_back(race.watch());
  for (std::size_t i = 0; i < all.size(); i += 2) all[i].cancel();
  for (std::size_t i = 0; i < all.size(); i += 2) check.require(check.that(all[i].wait(), "a cancelled WATCH is still open"));
  const Pending a = race.contend("a");
  for (std::size_t i = 1; i < all.size(); i += 2)
    if (!check.that(race.wait_leader(all[i], race.address("a")), "one of 50 watchers was not told the leader")) return;
}

GANTRY_CONFORMANCE(election, contend_again, "a candidate that stepped down may contend again", "forget a candidate whose CONTEND has ended") {
  Race race(subject, check);
  for (int i = 0; i < 3; ++i) {
    const Pending a = race.contend("a");
    check.require(check.that(race.wait_elected(a), "the candidate is not elected in turn " + std::to_string(i)));
    a.cancel();
    check.require(check.that(a.wait(2s), "CONTEND did not end"));
  }
}

GANTRY_CONFORMANCE(election, stop_ends_streams, "STOP ends every stream", "complete all open CONTEND and WATCH calls before you answer STOP") {
  Race race(subject, check);
  const Pending a = race.contend("a"), b = race.contend("b"), w = race.watch();
  race.wait_elected(a);
  check.ok(subject.stop(), "STOP with streams open");
  for (const auto& p : {a, b, w}) check.that(p.wait(1s), "a stream is still open after STOP was answered");
}

GANTRY_CONFORMANCE(election, after_restart, "after a crash the same candidate can win again",
                   "do not let the session of a dead instance keep its successor out for longer than its timeout") {
  Race race(subject, check);
  check.require(check.that(race.wait_elected(race.contend("a")), "the candidate is not elected"));
  subject.kill();
  check.require(check.ok(subject.up(), "start after the crash"));
  check.that(race.wait_elected(race.contend("a"), 30s), "the candidate is not elected within 30 s of the crash");
}

GANTRY_CONFORMANCE(election, absent_fields, "absent fields mean empty and are no crash", "treat every absent string as empty") {
  Race race(subject, check);
  const Pending c = subject.open(Method::CONTEND, fe::CandidateT());
  c.wait(20ms);
  c.cancel();
  check.that(c.wait(1s), "CONTEND of a candidate without anything is still open 1 s after it was cancelled");
  check.that(race.wait_elected(race.contend("a")), "a candidate is not elected after that");
}

}  // namespace gantry::conformance
