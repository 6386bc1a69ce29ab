#include "kernel/master/constraints.hpp"

#include <gantry/message.hpp>

#include <re2/re2.h>

#include <algorithm>
#include <cstring>
#include <set>

namespace gantry::master {

using resource::RoleId;

namespace {

// A regex of somebody else's runs within the master: its memory and its program are bounded.
constexpr std::int64_t kRegexMemory = 4096;
constexpr int kRegexProgram = 100;

enum class Test { exists, absent, equals, differs, matches, unlike };

Error invalid(std::string message) { return fail(Code::invalid_argument, std::move(message)); }

Result<std::unique_ptr<const RE2>> compile(std::string_view regex) {
  RE2::Options o;
  o.set_max_mem(kRegexMemory);
  o.set_log_errors(false);
  auto re = std::make_unique<const RE2>(re2::StringPiece(regex.data(), regex.size()), o);
  if (!re->ok()) return invalid("Failed to construct regex from pattern '" + std::string(regex) + "': " + re->error());
  for (const int size : {re->ProgramSize(), re->ReverseProgramSize()})
    if (size > kRegexProgram)
      return invalid("Regex '" + std::string(regex) + "' is too complex: its program has " + std::to_string(size) +
                     " instructions, at most " + std::to_string(kRegexProgram) + " are allowed");
  return re;
}

}  // namespace

struct Constraints::Predicate {
  fb::PseudoAttribute pseudo = fb::PseudoAttribute::UNKNOWN;
  std::string attribute;  // where it is no pseudo attribute
  Test test = Test::exists;
  std::string text;
  std::unique_ptr<const RE2> regex;

  // Null: the agent has no such attribute. `is_text`: it is one of type TEXT.
  [[nodiscard]] bool holds(bool present, bool is_text, std::string_view value) const {
    switch (test) {
      case Test::exists: return present;
      case Test::absent: return !present;
      case Test::equals: return present && (!is_text || value == text);
      case Test::differs: return !present || !is_text || value != text;
      case Test::matches: return present && (!is_text || full_match(value));
      case Test::unlike: return !present || !is_text || !full_match(value);
    }
    return false;
  }
  [[nodiscard]] bool full_match(std::string_view value) const {
    return RE2::FullMatch(re2::StringPiece(value.data(), value.size()), *regex);
  }
  [[nodiscard]] bool holds(const fb::AgentInfo& a) const {
    const auto* fault = a.domain() ? a.domain()->fault_domain() : nullptr;
    switch (pseudo) {
      case fb::PseudoAttribute::HOSTNAME: return holds(true, true, gantry::text(a.hostname()));
      case fb::PseudoAttribute::REGION: return holds(fault != nullptr, true, fault ? gantry::text(fault->region()) : "");
      case fb::PseudoAttribute::ZONE: return holds(fault != nullptr, true, fault ? gantry::text(fault->zone()) : "");
      default: break;
    }
    if (a.attributes()) {
      for (const auto* x : *a.attributes())  // the first of that name counts
        if (gantry::text(x->name()) == attribute)
          return holds(true, x->type() == fb::ValueType::TEXT, gantry::text(x->text()));
    }
    return holds(false, false, {});
  }

  static Result<Predicate> make(const fb::AttributeConstraint& c);
};

Result<Constraints::Predicate> Constraints::Predicate::make(const fb::AttributeConstraint& c) {
  Predicate out;
  const auto* s = c.selector();
  const bool pseudo = s && s->pseudoattribute_type() && *s->pseudoattribute_type() != fb::PseudoAttribute::UNKNOWN;
  const bool named = s && s->attribute_name();
  if (pseudo == named) return invalid("A selector must name exactly one attribute or known pseudo attribute");
  if (pseudo) {
    out.pseudo = *s->pseudoattribute_type();
    if (out.pseudo != fb::PseudoAttribute::HOSTNAME && out.pseudo != fb::PseudoAttribute::REGION &&
        out.pseudo != fb::PseudoAttribute::ZONE)
      return invalid("A selector names an unknown pseudo attribute");
  } else {
    out.attribute = gantry::text(s->attribute_name());
  }
  const auto* p = c.predicate();
  int given = 0;
  const auto take = [&](bool there, Test test) {
    if (!there) return;
    ++given;
    out.test = test;
  };
  if (p) {
    take(p->exists(), Test::exists);
    take(p->not_exists(), Test::absent);
    take(p->text_equals() != nullptr, Test::equals);
    take(p->text_not_equals() != nullptr, Test::differs);
    take(p->text_matches() != nullptr, Test::matches);
    take(p->text_not_matches() != nullptr, Test::unlike);
  }
  if (given != 1) return invalid("A constraint must have exactly one known predicate");
  switch (out.test) {
    case Test::equals: out.text = gantry::text(p->text_equals()); break;
    case Test::differs: out.text = gantry::text(p->text_not_equals()); break;
    case Test::matches:
    case Test::unlike: {
      out.text = gantry::text(out.test == Test::matches ? p->text_matches() : p->text_not_matches());
      GANTRY_TRY(out.regex, compile(out.text));
      break;
    }
    default: break;
  }
  return out;
}

Constraints::Constraints() = default;
Constraints::~Constraints() = default;

Result<std::shared_ptr<const Constraints>> Constraints::make(const fb::OfferConstraints* constraints,
                                                             const fb::FrameworkInfo& info,
                                                             const std::vector<RoleId>& roles) {
  std::shared_ptr<Constraints> out(new Constraints());
  // By its text: one that nobody has must not be kept for ever.
  const auto subscribed = [&](std::string_view name) -> std::optional<RoleId> {
    for (const RoleId r : roles)
      if (resource::text_of(r) == name) return r;
    return std::nullopt;
  };
  if (constraints && constraints->role_constraints()) {
    for (const auto* entry : *constraints->role_constraints()) {
      const std::string_view name = gantry::text(entry->key());
      const auto bad = [&](const std::string& why) { return invalid("Offer constraints for role '" + std::string(name) + "' are invalid: " + why); };
      const auto role = subscribed(name);
      if (!role) return bad("the framework is not subscribed to this role");
      const auto* groups = entry->value() ? entry->value()->groups() : nullptr;
      if (!groups || groups->size() == 0) return bad("at least one group of constraints must be given");
      auto& all = out->roles_[*role];
      all.clear();
      for (const auto* g : *groups) {
        if (!g->attribute_constraints() || g->attribute_constraints()->size() == 0) return bad("a group has no constraints");
        Group group;
        for (const auto* c : *g->attribute_constraints()) {
          auto predicate = Predicate::make(*c);
          if (!predicate) return bad(predicate.error().message);
          group.push_back(std::move(*predicate));
        }
        all.push_back(std::move(group));
      }
    }
  }
  if (info.offer_filters()) {
    for (const auto* entry : *info.offer_filters()) {
      const auto role = subscribed(gantry::text(entry->key()));
      const auto* minimum = entry->value() ? entry->value()->min_allocatable_resources() : nullptr;
      if (!role || !minimum || !minimum->quantities()) continue;
      for (const auto* q : *minimum->quantities()) {
        Minimum least;
        if (q->quantities())
          for (const auto* x : *q->quantities())
            if (x->value() > 0) least.emplace_back(resource::intern_name(gantry::text(x->key())), resource::Scalar::of(x->value()));
        out->minima_[*role].push_back(std::move(least));
      }
    }
  }
  if (out->roles_.empty() && out->minima_.empty()) return std::shared_ptr<const Constraints>();
  fb::OfferConstraintsT t;
  if (constraints) constraints->UnPackTo(&t);
  out->message_ = pack(t);
  return std::shared_ptr<const Constraints>(std::move(out));
}

bool Constraints::admits(RoleId role, const fb::AgentInfo& agent) const {
  const auto it = roles_.find(role);
  if (it == roles_.end()) return true;
  return std::any_of(it->second.begin(), it->second.end(), [&](const Group& g) {
    return std::all_of(g.begin(), g.end(), [&](const Predicate& p) { return p.holds(agent); });
  });
}

bool Constraints::worth(RoleId role, const resource::Resources& bundle) const {
  const auto it = minima_.find(role);
  if (it == minima_.end()) return true;
  return std::any_of(it->second.begin(), it->second.end(), [&](const Minimum& m) {
    return std::all_of(m.begin(), m.end(), [&](const auto& x) { return !(bundle.scalar(x.first) < x.second); });
  });
}

bool Constraints::same(const Constraints* a, const Constraints* b) {
  if (!a || !b) return a == b;
  const Bytes x = a->message();
  const Bytes y = b->message();
  return a->minima_ == b->minima_ && x.size() == y.size() && std::memcmp(x.data(), y.data(), x.size()) == 0;
}

}  // namespace gantry::master
