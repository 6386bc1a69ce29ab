// Conformance cases: what must hold, what to do when it does not, and the code that finds out.
//
//   GANTRY_CONFORMANCE(isolator, cleanup_unknown, "cleanup of a container nobody prepared succeeds",
//                      "answer CLEANUP with OK when there is nothing to clean: it comes after crashes, too") {
//     check.require(check.ok(subject.up(), "configure and start"));
//     check.ok(subject.call(Method::CLEANUP, cleanup), "CLEANUP of an unknown container");
//   }
//
// The body sees `subject` (conformance::Subject&, created but not configured) and `check`. Each case runs in a process
// of its own, once per host, so it may do what it likes to the subject; it must not depend on other cases.
#pragma once

#include <gantry/result.hpp>

#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace gantry::conformance {

class Subject;

// One thing that did not hold. `what` names the value; `remedy` is empty for the case's own.
struct Failure {
  std::string what;
  std::string remedy;
};

namespace detail {
template <class T>
std::string show(const T& v) {
  if constexpr (std::is_same_v<T, bool>)
    return v ? "true" : "false";
  else if constexpr (std::is_same_v<T, Code>)
    return std::string(to_string(v));
  else if constexpr (std::is_enum_v<T>)
    return std::to_string(static_cast<long long>(v));
  else if constexpr (std::is_arithmetic_v<T>)
    return std::to_string(v);
  else if constexpr (std::is_convertible_v<const T&, std::string_view>)
    return "\"" + std::string(std::string_view(v)) + "\"";
  else {
    std::string s = "[";
    for (const auto& x : v) (s += s.size() > 1 ? ", " : "") += show(x);
    return s + "]";
  }
}
}  // namespace detail

// What a case says about its subject. All checks return whether they held, so that require(check.ok(...)) ends a case
// whose rest would be pointless.
class Check {
 public:
  struct Stop {};  // thrown by require and skip; the runner catches it

  bool that(bool holds, std::string what) {
    if (!holds) failures.push_back({std::move(what), {}});
    return holds;
  }
  bool fail(std::string what, std::string remedy = {}) {
    failures.push_back({std::move(what), std::move(remedy)});
    return false;
  }
  // A Status or Result that must be OK.
  template <class R>
  bool ok(const R& result, std::string_view what) {
    if (result) return true;
    return fail(std::string(what) + ": expected OK, got " + describe(result.error()));
  }
  // A Status or Result that must be this error.
  template <class R>
  bool code(const R& result, Code expected, std::string_view what) {
    const Code got = result ? Code::ok : result.error().code;
    if (got == expected) return true;
    return fail(std::string(what) + ": expected " + std::string(to_string(expected)) + ", got " +
                (result ? "OK" : describe(result.error())));
  }
  // A Status or Result that must be an error, with a sentence for a person.
  template <class R>
  bool refused(const R& result, std::string_view what) {
    if (result) return fail(std::string(what) + ": expected an error, got OK");
    if (!result.error().message.empty() && result.error().message != to_string(result.error().code)) return true;
    return fail(std::string(what) + ": " + std::string(to_string(result.error().code)) + " without a message",
                "put one sentence into Error.message: what, which value, what to do");
  }
  template <class A, class B>
  bool equal(const A& actual, const B& expected, std::string_view what) {
    if (actual == expected) return true;
    return fail(std::string(what) + ": expected " + detail::show(expected) + ", got " + detail::show(actual));
  }
  // Ends the case unless `holds`.
  void require(bool holds) {
    if (!holds) throw Stop{};
  }
  // Ends the case as skipped: this machine lacks what it takes.
  [[noreturn]] void skip(std::string reason) {
    skipped = std::move(reason);
    throw Stop{};
  }
  void needs(bool there, std::string reason) {
    if (!there) skip(std::move(reason));
  }

  static std::string describe(const Error& e) {
    return std::string(to_string(e.code)) + (e.message.empty() ? "" : " (" + e.message + ")");
  }

  std::vector<Failure> failures;
  std::string skipped;             // why; empty = it ran
  std::vector<std::string> notes;  // figures and remarks for the report
};

struct Case {
  std::string kind;  // "isolator"; "any" for cases every module must pass
  std::string name;  // unique within the kind
  std::string must;
  std::string remedy;
  void (*run)(Subject& subject, Check& check);
  int stage = 5;     // of the conformance kit (sdk-abi section 6)
};

// All cases linked into this program, in order of registration.
inline std::vector<Case>& cases() {
  static std::vector<Case> all;
  return all;
}
inline bool add_case(Case c) {
  cases().push_back(std::move(c));
  return true;
}

}  // namespace gantry::conformance

#define GANTRY_CONFORMANCE(kind, name, must, remedy) GANTRY_CONFORMANCE_STAGE(5, kind, name, must, remedy)
#define GANTRY_CONFORMANCE_STAGE(stage, kind, name, must, remedy)                                              \
  static void conformance_##kind##_##name(::gantry::conformance::Subject&, ::gantry::conformance::Check&);     \
  [[maybe_unused]] static const bool conformance_##kind##_##name##_added = ::gantry::conformance::add_case(    \
      {#kind, #name, must, remedy, &conformance_##kind##_##name, stage});                                      \
  static void conformance_##kind##_##name([[maybe_unused]] ::gantry::conformance::Subject& subject,            \
                                          [[maybe_unused]] ::gantry::conformance::Check& check)
