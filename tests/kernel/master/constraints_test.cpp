// Offer constraints and least sizes: what a framework wants to be offered.
#include "operator.hpp"

#include "kernel/master/constraints.hpp"

namespace gantry::master {
namespace {

using P = fb::ConstraintPredicateT;

fb::ConstraintPredicateT predicate(std::string_view kind, std::string value = {}) {
  P p;
  if (kind == "exists") p.exists = true;
  if (kind == "not_exists") p.not_exists = true;
  if (kind == "text_equals") p.text_equals = std::move(value);
  else if (kind == "text_not_equals") p.text_not_equals = std::move(value);
  else if (kind == "text_matches") p.text_matches = std::move(value);
  else if (kind == "text_not_matches") p.text_not_matches = std::move(value);
  return p;
}
// Selector "@hostname", "@region", "@zone" or an attribute's name.
std::unique_ptr<fb::AttributeConstraintT> constraint(const std::string& what, P p) {
  auto c = std::make_unique<fb::AttributeConstraintT>();
  c->selector = std::make_unique<fb::ConstraintSelectorT>();
  using A = fb::PseudoAttribute;
  if (what == "@hostname") c->selector->pseudoattribute_type = A::HOSTNAME;
  else if (what == "@region") c->selector->pseudoattribute_type = A::REGION;
  else if (what == "@zone") c->selector->pseudoattribute_type = A::ZONE;
  else c->selector->attribute_name = what;
  c->predicate = std::make_unique<P>(std::move(p));
  return c;
}
using Group = std::vector<std::pair<std::string, P>>;
std::unique_ptr<fb::OfferConstraintsT> constraints(const std::string& role, std::vector<Group> groups) {
  auto out = std::make_unique<fb::OfferConstraintsT>();
  auto entry = std::make_unique<fb::RoleConstraintsEntryT>();
  entry->key = role;
  entry->value = std::make_unique<fb::RoleConstraintsT>();
  for (auto& g : groups) {
    auto group = std::make_unique<fb::ConstraintGroupT>();
    for (auto& [what, p] : g) group->attribute_constraints.push_back(constraint(what, std::move(p)));
    entry->value->groups.push_back(std::move(group));
  }
  out->role_constraints.push_back(std::move(entry));
  return out;
}
std::vector<Group> one(const std::string& what, P p) {
  std::vector<Group> out(1);
  out[0].emplace_back(what, std::move(p));
  return out;
}

struct Made {
  std::shared_ptr<const Constraints> constraints;
  std::string error;
};
Made make(const fb::OfferConstraintsT& c, const std::vector<std::string>& roles = {"*"}) {
  fb::FrameworkInfoT info;
  const Buffer packed = pack(c), about = pack(info);
  std::vector<RoleId> ids;
  for (const auto& r : roles) ids.push_back(resource::intern_role(r));
  auto made = Constraints::make(flatbuffers::GetRoot<fb::OfferConstraints>(packed.data()),
                                *flatbuffers::GetRoot<fb::FrameworkInfo>(about.data()), ids);
  if (!made) return {nullptr, made.error().message};
  return {*made, ""};
}

fb::AgentInfoT agent(const std::string& hostname, const std::vector<std::pair<std::string, std::string>>& texts) {
  fb::AgentInfoT a;
  a.hostname = hostname;
  for (const auto& [name, value] : texts) {
    auto x = std::make_unique<fb::AttributeT>();
    x->name = name;
    x->type = fb::ValueType::TEXT;
    x->text = value;
    a.attributes.push_back(std::move(x));
  }
  return a;
}
bool admits(const Made& m, const fb::AgentInfoT& a) {
  const Buffer b = pack(a);
  return m.constraints->admits(RoleId::star, *flatbuffers::GetRoot<fb::AgentInfo>(b.data()));
}

TEST(Constraints, EachPredicateOfNamedAttributes) {
  const auto r1 = agent("h", {{"rack", "r1"}}), r2 = agent("h", {{"rack", "r2"}}), none = agent("h", {});
  auto number = agent("h", {});
  auto x = std::make_unique<fb::AttributeT>();
  x->name = "rack";
  x->type = fb::ValueType::SCALAR;
  x->scalar = 1;
  number.attributes.push_back(std::move(x));
  struct Case {
    P p;
    bool r1, r2, none, number;
  };
  for (const auto& [p, a, b, n, s] : std::vector<Case>{{predicate("exists"), true, true, false, true},
                                                       {predicate("not_exists"), false, false, true, false},
                                                       {predicate("text_equals", "r1"), true, false, false, true},
                                                       {predicate("text_not_equals", "r1"), false, true, true, true},
                                                       {predicate("text_matches", "r[13]"), true, false, false, true},
                                                       {predicate("text_matches", "r"), false, false, false, true},
                                                       {predicate("text_not_matches", "r[13]"), false, true, true, true}}) {
    const auto m = make(*constraints("*", one("rack", p)));
    ASSERT_TRUE(m.constraints) << m.error;
    EXPECT_EQ(admits(m, r1), a);
    EXPECT_EQ(admits(m, r2), b);
    EXPECT_EQ(admits(m, none), n);
    EXPECT_EQ(admits(m, number), s) << "what is no text is not compared as one";
  }
}

TEST(Constraints, PseudoAttributesGroupsAndOtherRoles) {
  auto a = agent("host-17", {{"rack", "r1"}});
  EXPECT_TRUE(admits(make(*constraints("*", one("@hostname", predicate("text_matches", "host-[0-9]+")))), a));
  EXPECT_FALSE(admits(make(*constraints("*", one("@hostname", predicate("text_equals", "host")))), a));
  EXPECT_TRUE(admits(make(*constraints("*", one("@region", predicate("not_exists")))), a));
  a.domain = std::make_unique<fb::DomainInfoT>();
  a.domain->fault_domain = std::make_unique<fb::FaultDomainT>();
  a.domain->fault_domain->region = "eu";
  a.domain->fault_domain->zone = "a";
  EXPECT_TRUE(admits(make(*constraints("*", one("@region", predicate("text_equals", "eu")))), a));
  EXPECT_TRUE(admits(make(*constraints("*", one("@zone", predicate("text_not_equals", "b")))), a));
  // All of a group, any group.
  std::vector<Group> groups(2);
  groups[0].emplace_back("rack", predicate("text_equals", "r1"));
  groups[0].emplace_back("@zone", predicate("text_equals", "b"));
  groups[1].emplace_back("rack", predicate("text_equals", "r2"));
  EXPECT_FALSE(admits(make(*constraints("*", groups)), a));
  groups[1].emplace_back("nothing", predicate("exists"));
  groups[0].pop_back();
  EXPECT_TRUE(admits(make(*constraints("*", groups)), a));
  const auto m = make(*constraints("eng", one("rack", predicate("text_equals", "r9"))), {"*", "eng"});
  EXPECT_TRUE(admits(m, a)) << "role * asks for nothing";
}

TEST(Constraints, MistakesAreNamed) {
  const auto error = [](std::unique_ptr<fb::OfferConstraintsT> c) { return make(*c).error; };
  EXPECT_NE(error(constraints("eng", one("rack", predicate("exists")))).find("'eng'"), std::string::npos);
  EXPECT_NE(error(constraints("*", {})).find("at least one group"), std::string::npos);
  EXPECT_NE(error(constraints("*", std::vector<Group>(1))), "");
  EXPECT_NE(error(constraints("*", one("rack", predicate("none")))).find("exactly one known predicate"), std::string::npos);
  EXPECT_NE(error(constraints("*", one("", predicate("exists")))).find("selector"), std::string::npos);
  EXPECT_NE(error(constraints("*", one("rack", predicate("text_matches", "(")))).find("Failed to construct regex"), std::string::npos);
  EXPECT_NE(error(constraints("*", one("rack", predicate("text_matches", "(a{1,20}){1,20}")))), "");
  EXPECT_NE(error(constraints("*", one("rack", predicate("text_not_matches", std::string(5000, 'a'))))), "");
}

fb::link::RegisterT in_rack(const std::string& rack) {
  auto r = Cluster::registration("cpus:4;mem:4096");
  r.info->attributes = std::move(agent("host", {{"rack", rack}}).attributes);
  return r;
}
StreamId subscribe(Cluster& c, std::unique_ptr<fb::OfferConstraintsT> wish, fb::FrameworkInfoT info = Cluster::info("f")) {
  fb::CallT call;
  call.type = fb::CallType::SUBSCRIBE;
  call.framework_id = info.id;
  call.subscribe = std::make_unique<fb::SubscribeT>();
  call.subscribe->framework_info = std::make_unique<fb::FrameworkInfoT>(std::move(info));
  call.subscribe->offer_constraints = std::move(wish);
  const Buffer b = pack(call);
  const StreamId s = ++c.last_stream;
  c.apply(Subscribe{s, b});
  return s;
}

TEST(Constraints, OnlyAgentsThatFitAreOfferedAndNobodySpins) {
  Cluster c;
  const auto s = subscribe(c, constraints("*", one("rack", predicate("text_matches", "r[12]"))));
  c.join(1, in_rack("r1"));
  c.join(2, in_rack("r2"));
  c.join(3, in_rack("r3"));
  EXPECT_EQ(c.offers(s).size(), 2u);
  const int rounds = c.rounds;
  c.alive = {1, 2, 3};
  c.advance(10min);
  EXPECT_LE(c.rounds - rounds, 2) << "what is not wanted is not granted again and again";
  // Somebody else gets it.
  const auto other = c.subscribe(Cluster::info("g"));
  EXPECT_EQ(c.offers(other).size(), 1u);
  EXPECT_TRUE(c.call(Cluster::make_call("f", fb::CallType::REVIVE)));
  EXPECT_TRUE(c.offers(s).empty());
}

TEST(Constraints, MayChangeAndSoMayAgents) {
  Cluster c;
  const auto s = subscribe(c, constraints("*", one("rack", predicate("text_equals", "r1"))));
  const auto id = c.join(1, in_rack("r2"));
  EXPECT_TRUE(c.offers(s).empty());
  auto update = Cluster::make_call("f", fb::CallType::UPDATE_FRAMEWORK);
  update.update_framework = std::make_unique<fb::UpdateFrameworkT>();
  update.update_framework->framework_info = std::make_unique<fb::FrameworkInfoT>(Cluster::info("f"));
  update.update_framework->offer_constraints = constraints("*", one("rack", predicate("text_matches", "(")));
  const Status bad = c.call(update);
  ASSERT_FALSE(bad);
  EXPECT_EQ(bad.error().code, Code::invalid_argument);
  EXPECT_TRUE(c.offers(s).empty()) << "nothing was applied";
  update.update_framework->offer_constraints = constraints("*", one("rack", predicate("text_equals", "r2")));
  ASSERT_TRUE(c.call(update));
  const auto o = c.offers(s);
  ASSERT_EQ(o.size(), 1u);
  bool shown = false;
  for (const auto& row : rows(c))
    if (row.framework && row.framework->offer_constraints)
      shown = row.framework->offer_constraints->role_constraints.at(0)->value->groups.at(0)->attribute_constraints.at(0)->predicate->text_equals == "r2";
  EXPECT_TRUE(shown);
  // The agent moves away and back.
  auto moved = in_rack("r3");
  moved.info->id = id;
  c.join(2, std::move(moved));
  EXPECT_TRUE(c.offers(s).empty());
  moved = in_rack("r2");
  moved.info->id = id;
  c.join(3, std::move(moved));
  EXPECT_EQ(c.offers(s).size(), 1u);
}

TEST(Constraints, AWrongOneRefusesTheSubscription) {
  Cluster c;
  const auto s = subscribe(c, constraints("*", one("rack", predicate("text_matches", "["))));
  EXPECT_NE(c.error(s).find("Failed to construct regex"), std::string::npos);
  EXPECT_TRUE(c.ended.contains(s));
}

TEST(Constraints, LeastSizesOfOffers) {
  Cluster c;
  auto info = Cluster::info("f");
  auto entry = std::make_unique<fb::OfferFiltersEntryT>();
  entry->key = "*";
  entry->value = std::make_unique<fb::OfferFiltersT>();
  entry->value->min_allocatable_resources = std::make_unique<fb::MinAllocatableResourcesT>();
  auto least = std::make_unique<fb::ResourceQuantitiesT>();
  auto cpus = std::make_unique<fb::ScalarEntryT>();
  cpus->key = "cpus";
  cpus->value = 8;
  least->quantities.push_back(std::move(cpus));
  entry->value->min_allocatable_resources->quantities.push_back(std::move(least));
  info.offer_filters.push_back(std::move(entry));
  const auto s = c.subscribe(info);
  c.join(1, "cpus:4;mem:4096");
  EXPECT_TRUE(c.offers(s).empty());
  c.join(2, "cpus:8;mem:4096");
  EXPECT_EQ(c.offers(s).size(), 1u);
}

}  // namespace
}  // namespace gantry::master
