// Conformance of kind `authenticator`. Contract: sdk/docs/authenticator.md.
//
// The suite must know one account: [fixture] principal and secret in conformance.toml, beside the settings and files that
// make the module know it, too.
#include "support.hpp"

#include <gantry/authenticator_generated.h>

namespace gantry::conformance {
namespace {

namespace fa = fb::authenticator;
using fa::Method;

struct Door {
  Subject& subject;
  Check& check;
  std::string principal, secret;

  Door(Subject& s, Check& c, bool needs_account = true) : subject(s), check(c) {
    if (const auto* p = s.fixture("principal")) principal = *p;
    if (const auto* p = s.fixture("secret")) secret = *p;
    if (needs_account)
      check.needs(!principal.empty() && !secret.empty(),
                  "no account is known; set principal and secret under [fixture] in conformance.toml");
    check.require(check.ok(subject.up(), "configure and start"));
  }
  static fa::CredentialsT link(const std::string& principal, const std::string& secret) {
    fa::CredentialsT c;
    c.principal = principal;
    c.secret = secret;
    return c;
  }
  static fa::CredentialsT header(const std::string& scheme, const std::string& parameters) {
    fa::CredentialsT c;
    c.scheme = scheme;
    c.parameters = parameters;
    c.realm = "conformance";
    return c;
  }
  Outcome<fa::Identity> ask(const fa::CredentialsT& c) { return subject.call<fa::Identity>(Method::AUTHENTICATE, c, {}, 10s); }
  void out(const fa::CredentialsT& c, const std::string& what) { check.code(ask(c), Code::unauthenticated, what); }
  void in(const std::string& what) {
    const auto r = ask(link(principal, secret));
    if (check.ok(r, what)) check.equal(r->principal, principal, "principal in the answer");
  }
};

}  // namespace

GANTRY_CONFORMANCE(authenticator, right_secret, "who has the right secret is let in under the own name",
                   "answer OK with Identity.principal; links bring principal and secret with an empty scheme") {
  Door door(subject, check);
  door.in("the known principal with its secret");
}

GANTRY_CONFORMANCE(authenticator, wrong_secret, "a wrong secret is UNAUTHENTICATED", "compare the whole secret, byte by byte") {
  Door door(subject, check);
  for (const std::string& wrong : {door.secret + "x", door.secret.substr(0, door.secret.size() - 1), std::string("x") + door.secret,
                                   door.secret + std::string(1, '\0'), door.principal, std::string("wrong")})
    door.out(Door::link(door.principal, wrong), "a wrong secret of " + std::to_string(wrong.size()) + " bytes");
  door.in("the right secret after wrong ones");
}

GANTRY_CONFORMANCE(authenticator, unknown_principal, "an unknown principal is UNAUTHENTICATED", "let nobody in whom you do not know") {
  Door door(subject, check);
  for (const std::string& who : {std::string("nobody-knows-me"), door.principal + "x", door.principal.substr(0, door.principal.size() - 1),
                                 std::string(), door.principal + std::string("\0", 1), std::string("*"), std::string("root")})
    door.out(Door::link(who, door.secret), "an unknown principal of " + std::to_string(who.size()) + " bytes");
}

GANTRY_CONFORMANCE(authenticator, empty_secret, "an empty secret lets nobody in", "refuse empty secrets, for known and unknown principals") {
  Door door(subject, check);
  door.out(Door::link(door.principal, ""), "the known principal without a secret");
  door.out(Door::link("nobody-knows-me", ""), "an unknown principal without a secret");
  door.out(Door::link("", ""), "nobody without a secret");
}

GANTRY_CONFORMANCE(authenticator, same_words_for_both, "the answer does not tell an unknown principal from a wrong secret",
                   "use the same code and message for both; the difference is a list of your users for an attacker") {
  Door door(subject, check);
  const auto wrong = door.ask(Door::link(door.principal, "wrong")), unknown = door.ask(Door::link("nobody-knows-me", "wrong"));
  check.require(check.refused(wrong, "a wrong secret") && check.refused(unknown, "an unknown principal"));
  check.equal(unknown.error().message, wrong.error().message, "message for an unknown principal, against the one for a wrong secret");
}

GANTRY_CONFORMANCE(authenticator, huge_secret, "a secret of a megabyte is UNAUTHENTICATED, and soon",
                   "bound what you hash; refuse what no account could have") {
  Door door(subject, check, false);
  door.out(Door::link("somebody", std::string(1 << 20, 's')), "a secret of 1 MiB");
  door.out(Door::link(std::string(1 << 20, 'p'), "secret"), "a principal of 1 MiB");
}

GANTRY_CONFORMANCE(authenticator, odd_bytes, "odd bytes in names and secrets are UNAUTHENTICATED", "expect any byte; do not build paths or queries from them") {
  Door door(subject, check, false);
  for (const std::string& odd : {std::string("../../etc/passwd"), std::string("a:b"), std::string("a\nb"), std::string("\0", 1),
                                 std::string("\xff\xfe"), std::string("' OR '1'='1"), std::string("$(id)")}) {
    door.out(Door::link(odd, "secret"), "an odd principal");
    door.out(Door::link("somebody", odd), "an odd secret");
  }
}

GANTRY_CONFORMANCE(authenticator, foreign_scheme, "a scheme of somebody else is UNIMPLEMENTED",
                   "answer UNIMPLEMENTED and nothing else for schemes you do not serve: only then is the next authenticator asked") {
  Door door(subject, check, false);
  check.code(door.ask(Door::header("x-conformance-unheard-of", "abc")), Code::unimplemented, "a scheme nobody has");
}

GANTRY_CONFORMANCE(authenticator, garbage_parameters, "parameters that do not parse let nobody in",
                   "answer UNAUTHENTICATED (or UNIMPLEMENTED if the scheme is not yours)") {
  Door door(subject, check, false);
  for (const char* scheme : {"basic", "bearer", "digest", "negotiate"})
    for (const std::string& odd : {std::string(), std::string("!!!"), std::string("===="), std::string("Og=="), std::string("a.b.c"),
                                   std::string("eyJhbGciOiJub25lIn0.e30."), std::string(200'000, 'A')}) {
      const auto r = door.ask(Door::header(scheme, odd));
      const std::string what = std::string(scheme) + " with " + std::to_string(odd.size()) + " bytes of garbage";
      if (!check.refused(r, what)) continue;
      check.that(r.error().code == Code::unauthenticated || r.error().code == Code::unimplemented,
                 what + ": expected UNAUTHENTICATED or UNIMPLEMENTED, got " + Check::describe(r.error()));
    }
}

GANTRY_CONFORMANCE(authenticator, absent_fields, "absent fields let nobody in", "treat every absent string as empty") {
  Door door(subject, check, false);
  const auto r = door.ask(fa::CredentialsT());
  check.refused(r, "AUTHENTICATE without anything");
  check.that(subject.open(Method::CHALLENGE, fa::ChallengeT()).wait(), "CHALLENGE without anything has not completed");
}

GANTRY_CONFORMANCE(authenticator, many_at_once, "a hundred questions at once are answered, each by its own merit",
                   "keep nothing of a question outside its own call; hash on the offload pool") {
  Door door(subject, check);
  std::vector<Pending> open;
  for (int i = 0; i < 100; ++i)
    open.push_back(subject.open(Method::AUTHENTICATE, i % 2 ? Door::link(door.principal, door.secret)
                                                            : Door::link(i % 4 ? door.principal : "nobody", "wrong-" + std::to_string(i))));
  for (std::size_t i = 0; i < open.size(); ++i) {
    check.require(check.that(open[i].wait(30s), "one of 100 questions has not been answered"));
    const auto r = open[i].result<fa::Identity>();
    if (i % 2) check.ok(r, "a right secret among wrong ones");
    else check.code(r, Code::unauthenticated, "a wrong secret among right ones");
  }
}

GANTRY_CONFORMANCE(authenticator, no_session, "each question is decided by itself", "remember nobody: the next caller is somebody else") {
  Door door(subject, check);
  door.in("the right secret");
  door.out(Door::link(door.principal, "wrong"), "a wrong secret right after the right one");
  door.out(Door::link(door.principal, ""), "an empty secret right after the right one");
  door.in("the right secret again");
}

GANTRY_CONFORMANCE(authenticator, secret_stays_secret, "secrets appear in no log and in no error",
                   "name the principal at most; never print a secret or the parameters of a header") {
  Door door(subject, check);
  const std::string wrong = "hush-hush-conformance-secret";
  const auto r = door.ask(Door::link(door.principal, wrong));
  (void)door.ask(Door::header("basic", "aHVzaDpodXNoLWh1c2gtY29uZm9ybWFuY2Utc2VjcmV0"));
  door.in("the right secret");
  subject.pass(20ms);
  check.that(!subject.logged(wrong) && !subject.logged("aHVzaDpodXNo"), "a secret that was tried is in the log");
  check.that(door.secret.size() < 4 || !subject.logged(door.secret), "the secret of the account is in the log");
  if (!r) check.that(r.error().message.find(wrong) == std::string::npos && r.error().detail.find(wrong) == std::string::npos, "the error repeats the secret");
}

GANTRY_CONFORMANCE(authenticator, challenge_names_the_realm, "a challenge names its realm",
                   "answer CHALLENGE with the value of a WWW-Authenticate header that has the realm in it, or UNIMPLEMENTED") {
  Door door(subject, check, false);
  fa::ChallengeT c;
  c.realm = "conformance-realm";
  const auto r = subject.call<fa::Challenge>(Method::CHALLENGE, c);
  if (!r) {
    check.code(r, Code::unimplemented, "CHALLENGE");
    return;
  }
  check.that(!r->value.empty(), "the challenge has no value");
  check.that(r->value.find('\n') == std::string::npos && r->value.find('\r') == std::string::npos, "the challenge has a line break in it");
  check.that(r->value.find("conformance-realm") != std::string::npos, "the challenge \"" + r->value + "\" does not name the realm");
}

GANTRY_CONFORMANCE(authenticator, after_restart, "a restart changes nothing about who is let in", "read your accounts at START again") {
  Door door(subject, check);
  check.require(check.ok(subject.restart(), "restart"));
  door.in("the right secret after a restart");
  door.out(Door::link(door.principal, "wrong"), "a wrong secret after a restart");
}

}  // namespace gantry::conformance
