// Conformance of kind `authorizer`. Contract: sdk/docs/authorizer.md.
//
// The suite must know one verdict of each sort: [fixture] principal, action, allowed and refused in conformance.toml, beside the
// settings and files that make it so.
#include "support.hpp"

#include <gantry/authorizer_generated.h>

namespace gantry::conformance {
namespace {

namespace fa = fb::authorizer;
using fa::Method;

struct Judge {
  Subject& subject;
  Check& check;
  std::string principal, action, allowed, refused;

  Judge(Subject& s, Check& c, bool needs_fixture = true) : subject(s), check(c) {
    for (const auto& [name, at] : {std::pair{"principal", &principal}, {"action", &action}, {"allowed", &allowed}, {"refused", &refused}})
      if (const auto* p = s.fixture(name)) *at = *p;
    if (needs_fixture)
      check.needs(!principal.empty() && !action.empty() && !allowed.empty() && !refused.empty(),
                  "no verdict is known; set principal, action, allowed and refused under [fixture] in conformance.toml");
    check.require(check.ok(subject.up(), "configure and start"));
  }
  using Pairs = std::vector<std::pair<std::string, std::string>>;
  static fa::QuestionsT questions(const std::string& who, const Pairs& what) {
    fa::QuestionsT q;
    q.principal = who;
    for (const auto& [action, object] : what) {
      auto one = std::make_unique<fa::QuestionT>();
      one->action = action;
      one->object = object;
      q.questions.push_back(std::move(one));
    }
    return q;
  }
  Outcome<fa::Verdicts> ask(const fa::QuestionsT& q) { return subject.call<fa::Verdicts>(Method::AUTHORIZE, q, {}, 10s); }
  void expect(const std::string& who, const Pairs& what, const std::vector<bool>& verdicts, const std::string& about) {
    const auto r = ask(questions(who, what));
    if (!check.ok(r, about)) return;
    if (!check.that(r->allowed.size() == verdicts.size(), about + ": " + std::to_string(verdicts.size()) + " questions, " +
                                                              std::to_string(r->allowed.size()) + " verdicts"))
      return;
    for (std::size_t i = 0; i < verdicts.size(); ++i)
      check.that((r->allowed[i] != 0) == verdicts[i], about + ": verdict " + std::to_string(i + 1) + " should be " + (verdicts[i] ? "yes" : "no"));
  }
  void both(const std::string& about) { expect(principal, {{action, allowed}, {action, refused}}, {true, false}, about); }
};

}  // namespace

GANTRY_CONFORMANCE(authorizer, right_verdicts, "what is allowed is allowed, what is not is refused", "judge each question by action and object") {
  Judge(subject, check).both("the known verdicts");
}

GANTRY_CONFORMANCE(authorizer, one_verdict_each, "as many verdicts as questions", "answer every question, also those that you do not understand") {
  Judge j(subject, check, false);
  Judge::Pairs what;
  for (int i = 0; i < 7; ++i) what.emplace_back("view_task", "user-" + std::to_string(i));
  const auto r = j.ask(Judge::questions("somebody", what));
  if (check.ok(r, "seven questions")) check.equal(r->allowed.size(), what.size(), "verdicts for seven questions");
}

GANTRY_CONFORMANCE(authorizer, order_is_kept, "verdicts are in the order of the questions", "answer in the order in which you were asked") {
  Judge j(subject, check);
  j.expect(j.principal, {{j.action, j.refused}, {j.action, j.allowed}, {j.action, j.refused}, {j.action, j.allowed}}, {false, true, false, true},
           "alternating questions");
}

GANTRY_CONFORMANCE(authorizer, nobody_is_not_somebody, "who was not authenticated has not the rights of a principal",
                   "an absent principal is nobody; it matches no name") {
  Judge j(subject, check);
  j.expect("", {{j.action, j.refused}}, {false}, "nobody asks for what is refused to a principal");
}

GANTRY_CONFORMANCE(authorizer, no_session, "each question is decided by itself", "remember nothing of earlier questions") {
  Judge j(subject, check);
  j.both("first");
  (void)j.ask(Judge::questions("somebody-else", {{j.action, j.refused}, {j.action, j.allowed}}));
  j.both("after questions of somebody else");
}

GANTRY_CONFORMANCE(authorizer, odd_words, "odd bytes in principals, actions and objects are judged like others", "expect any byte; do not build paths or patterns from them") {
  Judge j(subject, check, false);
  for (const std::string& odd : {std::string("../../etc/passwd"), std::string("a\nb"), std::string("\0", 1), std::string("\xff\xfe"),
                                 std::string("*"), std::string("%"), std::string("a/%"), std::string(1 << 20, 'x')}) {
    const auto r = j.ask(Judge::questions(odd, {{odd, odd}, {"view_task", odd}}));
    if (check.ok(r, "odd words of " + std::to_string(odd.size()) + " bytes")) check.equal(r->allowed.size(), std::size_t{2}, "verdicts");
  }
}

GANTRY_CONFORMANCE(authorizer, unknown_action, "an action from the future gets a verdict", "answer what your configuration says of everything else") {
  Judge j(subject, check, false);
  const auto r = j.ask(Judge::questions("somebody", {{"x_conformance_unheard_of", "x"}, {"", ""}}));
  if (check.ok(r, "an unknown action")) check.equal(r->allowed.size(), std::size_t{2}, "verdicts");
}

GANTRY_CONFORMANCE(authorizer, no_questions, "no questions, no verdicts", "answer OK with an empty list") {
  Judge j(subject, check, false);
  const auto r = j.ask(fa::QuestionsT());
  if (check.ok(r, "no questions")) check.equal(r->allowed.size(), std::size_t{0}, "verdicts");
}

GANTRY_CONFORMANCE(authorizer, huge_list, "ten thousand questions in one call are answered, and soon", "do not compare every question with everything") {
  Judge j(subject, check, false);
  Judge::Pairs what;
  for (int i = 0; i < 10'000; ++i) what.emplace_back(i % 2 ? "view_task" : "view_framework", "user-" + std::to_string(i));
  const auto r = j.ask(Judge::questions("somebody", what));
  if (check.ok(r, "ten thousand questions")) check.equal(r->allowed.size(), what.size(), "verdicts");
}

GANTRY_CONFORMANCE(authorizer, many_at_once, "a hundred calls at once are answered, each by its own merit", "keep nothing of a call outside of it") {
  Judge j(subject, check);
  std::vector<Pending> open;
  for (int i = 0; i < 100; ++i)
    open.push_back(subject.open(Method::AUTHORIZE, Judge::questions(j.principal, {{j.action, i % 2 ? j.allowed : j.refused}})));
  for (std::size_t i = 0; i < open.size(); ++i) {
    check.require(check.that(open[i].wait(30s), "one of 100 calls has not been answered"));
    const auto r = open[i].result<fa::Verdicts>();
    if (check.ok(r, "one of 100 calls") && check.equal(r->allowed.size(), std::size_t{1}, "verdicts"))
      check.that((r->allowed[0] != 0) == (i % 2 == 1), "a verdict of one of 100 calls is wrong");
  }
}

GANTRY_CONFORMANCE(authorizer, changed_stays_open, "CHANGED is UNIMPLEMENTED or stays open", "keep the responder until the module stops") {
  Judge j(subject, check, false);
  Pending stream = subject.open(Method::CHANGED, Buffer());
  subject.pass(20ms);
  if (stream.wait(50ms)) check.code(stream.result(), Code::unimplemented, "CHANGED");
}

GANTRY_CONFORMANCE(authorizer, after_restart, "a restart changes no verdict", "read your rules at CONFIGURE") {
  Judge j(subject, check);
  check.require(check.ok(subject.restart(), "restart"));
  j.both("after a restart");
}

}  // namespace gantry::conformance
