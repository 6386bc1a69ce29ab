// Conformance of kind `allocator`. Contract: sdk/docs/allocator.md. The conversation is allocator_books.hpp.
#include "allocator_books.hpp"

#include <cmath>
#include <limits>

namespace gantry::conformance {
namespace {

constexpr std::uint32_t flag(fa::QuantityFlags f) { return static_cast<std::uint32_t>(f); }
constexpr std::uint32_t flag(fa::FrameworkFlags f) { return static_cast<std::uint32_t>(f); }

Books::Framework in_roles(std::vector<std::uint32_t> roles) {
  Books::Framework f;
  f.roles = std::move(roles);
  return f;
}

// A cluster that lives for a while: frameworks and agents come and go, offers are declined or used, tasks end.
// Everything follows from `seed`. Returns every reply in order.
std::vector<std::vector<std::uint8_t>> live(Books& books, std::uint32_t seed, int rounds) {
  std::mt19937 random(seed);
  const auto below = [&](std::uint32_t n) { return static_cast<std::uint32_t>(random() % n); };
  std::vector<std::vector<std::uint8_t>> replies;
  books.role(2, "eng");
  books.role(3, "eng/web", 2);
  books.role(4, "ops", 0, 2.5);
  std::vector<Granted> running;
  const auto some_framework = [&](std::uint32_t id) {
    Books::Framework f;
    f.roles = {1 + below(4)};
    if (below(3) == 0 && f.roles[0] != 4) f.roles.push_back(4);
    if (below(4) == 0) f.flags = flag(fa::FrameworkFlags::REVOCABLE) | flag(fa::FrameworkFlags::REFINEMENT);
    if (below(5) == 0) f.suppressed = {f.roles[0]};
    f.active = below(8) != 0;
    books.framework(id, f);
  };
  const auto some_agent = [&](std::uint32_t id) {
    Amounts a = machine(1 + below(8), 256.0 * (1 + below(16)));
    if (below(3) == 0) a = a + machine(1 + below(2), 128, 2 + below(3));
    if (below(4) == 0) a.push_back(quantity(kCpus, 2, 0, flag(fa::QuantityFlags::REVOCABLE)));
    books.agent(id, a, below(10) != 0);
  };
  for (std::uint32_t f = 1; f <= 4; ++f) some_framework(f);
  for (std::uint32_t a = 1; a <= 12; ++a) some_agent(a);
  for (int i = 0; i < rounds; ++i) {
    for (auto& g : books.round(below(6) == 0)) {
      if (below(2) == 0) books.give_back(g, below(3));
      else running.push_back(std::move(g));
    }
    replies.push_back(books.reply());
    books.pass(0.25 * below(8));
    if (!running.empty() && below(2) == 0) {
      const std::size_t at = below(static_cast<std::uint32_t>(running.size()));
      if (books.frameworks().count(running[at].framework) && books.has_agent(running[at].agent)) books.give_back(running[at]);
      running.erase(running.begin() + static_cast<std::ptrdiff_t>(at));
    }
    switch (below(12)) {
      case 0: some_framework(1 + below(6)); break;
      case 1: {
        const std::uint32_t f = 1 + below(6);
        if (!books.frameworks().count(f)) break;
        // What it held comes back to the agents; the allocator is told of the agents only.
        for (const auto& g : running)
          if (g.framework == f && books.has_agent(g.agent)) books.give_back(g);
        std::erase_if(running, [&](const Granted& g) { return g.framework == f; });
        std::erase_if(books.next().held, [&](const fa::Held& h) { return h.framework() == f; });
        books.framework_gone(f);
        break;
      }
      case 2: {
        const std::uint32_t a = 1 + below(14);
        if (!books.has_agent(a)) some_agent(a);
        break;
      }
      case 3: {
        const std::uint32_t a = 1 + below(14);
        if (!books.has_agent(a)) break;
        for (const auto& g : running)
          if (g.agent == a)
            for (const auto& q : g.amounts) books.next().held.emplace_back(g.framework, g.role, q.name(), 0u, -q.amount());
        std::erase_if(running, [&](const Granted& g) { return g.agent == a; });
        books.agent_gone(a);
        break;
      }
      case 4:
        if (const std::uint32_t f = 1 + below(6); books.frameworks().count(f)) books.unfilter(f, below(2) ? 0 : 1 + below(4));
        break;
      case 5:
        if (const std::uint32_t a = 1 + below(14); books.has_agent(a)) books.active(a, below(2) == 0);
        break;
      default: break;
    }
  }
  return replies;
}

}  // namespace

GANTRY_CONFORMANCE(allocator, empty_deltas, "deltas that say nothing are answered with an empty round", "answer OK without grants") {
  Books books(subject, check);
  check.equal(books.round().size(), std::size_t{0}, "grants in a cluster without agents");
  check.ok(subject.call<fa::Round>(fa::Method::ALLOCATE, fa::DeltasT()), "ALLOCATE without anything");
}

GANTRY_CONFORMANCE(allocator, offers_what_is_free, "an agent with resources is offered to the only framework",
                   "grant something in a round with all = true while somebody may have it") {
  Books books(subject, check);
  books.framework(1);
  books.agent(7, machine(4, 4096));
  const auto grants = books.round(true);
  check.require(check.equal(grants.size(), std::size_t{1}, "grants"));
  check.equal(grants[0].agent, 7u, "agent");
  check.equal(grants[0].framework, 1u, "framework");
}

GANTRY_CONFORMANCE(allocator, offers_nothing_twice, "what is granted is not granted again until it comes back",
                   "take a grant out of your `available` at once, and put it back only when AgentDelta.available says so") {
  Books books(subject, check);
  books.framework(1);
  books.framework(2);
  books.agent(1, machine(4, 4096));
  const auto first = books.round(true);
  check.require(check.that(!first.empty(), "nothing was granted"));
  for (int i = 0; i < 3; ++i) books.round(true);  // the books refuse what is not there
  for (const auto& g : first) books.give_back(g);
  check.that(!books.round(true).empty(), "what came back was not granted again");
}

GANTRY_CONFORMANCE(allocator, never_over_commits, "in 400 random rounds every grant is sound",
                   "keep your mirror as the schema says: grants leave it at once, `available` replaces it, `held` only counts for fairness") {
  Books books(subject, check);
  live(books, 20240501, 400);
}

GANTRY_CONFORMANCE(allocator, reserved_stays_with_its_role, "what is reserved goes to its role and the roles below it",
                   "compare Quantity.role with the role of the grant and its parents") {
  Books books(subject, check);
  books.role(2, "eng");
  books.role(3, "eng/web", 2);
  books.role(4, "ops");
  books.framework(1, in_roles({4}));
  books.agent(1, machine(4, 4096, 2));
  check.equal(books.round(true).size(), std::size_t{0}, "grants to ops of what is reserved for eng");
  books.framework(2, in_roles({3}));
  const auto grants = books.round(true);
  check.require(check.equal(grants.size(), std::size_t{1}, "grants once there is a framework in eng/web"));
  check.equal(grants[0].framework, 2u, "framework");
  books.agent(2, machine(2, 2048, 3) + machine(2, 2048));
  books.framework_gone(2);
  books.framework(3, in_roles({2}));
  for (const auto& g : books.round(true))
    for (const auto& q : g.amounts) check.that(q.role() != 3, "eng was granted what is reserved for its child eng/web");
}

GANTRY_CONFORMANCE(allocator, flags_are_respected, "revocable, shared, gpu and refined resources go only to frameworks with the flag",
                   "leave these amounts out, or list the others as parts, unless the framework carries the flag") {
  Books books(subject, check);
  books.framework(1);
  for (const auto f : {fa::QuantityFlags::REVOCABLE, fa::QuantityFlags::SHARED, fa::QuantityFlags::REFINED})
    books.agent(static_cast<std::uint32_t>(flag(f)), machine(2, 2048) + Amounts{quantity(kDisk, 100, 0, flag(f))});
  books.agent(100, {quantity(kGpus, 1, 0, flag(fa::QuantityFlags::GPU)), quantity(kCpus, 1), quantity(kMem, 1024)});
  books.round(true);
  Books::Framework all;
  all.flags = flag(fa::FrameworkFlags::REVOCABLE) | flag(fa::FrameworkFlags::SHARED) | flag(fa::FrameworkFlags::GPU) |
              flag(fa::FrameworkFlags::REFINEMENT);
  books.framework(2, all);
  books.round(true);
}

GANTRY_CONFORMANCE(allocator, suppressed_gets_nothing, "a framework gets no offers in a role it has suppressed",
                   "skip suppressed roles; a FrameworkDelta replaces the list") {
  Books books(subject, check);
  Books::Framework quiet;
  quiet.suppressed = {1};
  books.framework(1, quiet);
  books.agent(1, machine(4, 4096));
  check.equal(books.round(true).size(), std::size_t{0}, "grants to a suppressed role");
  books.framework(1);
  check.equal(books.round(true).size(), std::size_t{1}, "grants after the role was revived");
}

GANTRY_CONFORMANCE(allocator, inactive_gets_nothing, "a framework that is not active gets no offers", "skip frameworks with active = false") {
  Books books(subject, check);
  Books::Framework away;
  away.active = false;
  books.framework(1, away);
  books.agent(1, machine(4, 4096));
  check.equal(books.round(true).size(), std::size_t{0}, "grants to an inactive framework");
  books.framework(1);
  check.equal(books.round(true).size(), std::size_t{1}, "grants once it is active");
}

GANTRY_CONFORMANCE(allocator, gone_framework, "a framework that has gone is forgotten with what it held",
                   "drop filters, roles and shares at `gone`; ignore `held` of it that comes later") {
  Books books(subject, check);
  books.framework(1);
  books.framework(2);
  for (std::uint32_t a = 1; a <= 4; ++a) books.agent(a, machine(4, 4096));
  const auto grants = books.round(true);
  books.framework_gone(1);
  for (const auto& g : grants)
    if (g.framework == 1) {
      books.give_back(g);  // with `held` for a framework that has gone
    }
  for (const auto& g : books.round(true)) check.equal(g.framework, 2u, "framework");
}

GANTRY_CONFORMANCE(allocator, gone_agent, "an agent that has gone is not offered", "forget it at `gone`, its filters too") {
  Books books(subject, check);
  books.framework(1);
  books.agent(1, machine(4, 4096));
  books.agent(2, machine(4, 4096));
  books.agent_gone(1);
  for (const auto& g : books.round(true)) check.equal(g.agent, 2u, "agent");
  books.agent(1, machine(1, 1024));  // the handle is used again
  check.equal(books.round(true).size(), std::size_t{1}, "grants after the handle was given to a new agent");
}

GANTRY_CONFORMANCE(allocator, inactive_agent, "an agent that is not active is not offered", "skip agents with active = false") {
  Books books(subject, check);
  books.framework(1);
  books.agent(1, machine(4, 4096), false);
  check.equal(books.round(true).size(), std::size_t{0}, "grants on an inactive agent");
  books.active(1, true);
  check.equal(books.round(true).size(), std::size_t{1}, "grants once it is active");
}

GANTRY_CONFORMANCE(allocator, filter_hides, "a declined bundle is not offered again to the same framework and role",
                   "hide every bundle that fits into `refused`, on that agent, until the filter ends; others may have it") {
  Books books(subject, check);
  books.role(2, "eng");
  books.framework(1, in_roles({1}));
  books.agent(1, machine(4, 4096));
  books.agent(2, machine(2, 2048));
  for (const auto& g : books.round(true)) books.give_back(g, 3600);
  check.equal(books.round(true).size(), std::size_t{0}, "grants while everything is filtered");
  books.framework(2, in_roles({2}));
  std::set<std::uint32_t> to;
  for (const auto& g : books.round(true)) to.insert(g.framework);
  check.equal(to, std::set<std::uint32_t>{2}, "frameworks offered to while 1 has declined");
  books.agent(3, machine(8, 8192));
  check.that(!books.round(true).empty(), "an agent nobody has declined was offered to nobody");
}

GANTRY_CONFORMANCE(allocator, filter_expires, "when a filter expires the resources are offered again, and wake_ns says when to ask",
                   "answer wake_ns = the first filter expiry that could make an offer possible; the kernel asks again then") {
  Books books(subject, check);
  books.framework(1);
  books.agent(1, machine(4, 4096));
  for (const auto& g : books.round(true)) books.give_back(g, 5);
  const std::uint64_t until = books.now() + 5 * kSecond;
  check.equal(books.round().size(), std::size_t{0}, "grants while the filter holds");
  check.require(check.that(books.wake() != 0, "wake_ns is 0: nobody would ever ask again"));
  check.that(books.wake() >= until && books.wake() <= until + kSecond,
             "wake_ns is " + std::to_string((static_cast<double>(books.wake()) - static_cast<double>(books.now())) / 1e9) +
                 " s ahead, the filter ends in 5 s");
  books.pass(6);
  check.equal(books.round().size(), std::size_t{1}, "grants after the filter has expired");
}

GANTRY_CONFORMANCE(allocator, unfilter_lifts, "an unfilter lifts the filters of a framework, in one role or in all",
                   "forget filters at Unfilter; role 0 means every role") {
  Books books(subject, check);
  books.role(2, "eng");
  books.framework(1, in_roles({1}));
  books.framework(2, in_roles({2}));
  books.agent(1, machine(4, 4096));
  for (int i = 0; i < 2; ++i)
    for (const auto& g : books.round(true)) books.give_back(g, 3600);
  check.equal(books.round(true).size(), std::size_t{0}, "grants while both have declined");
  books.unfilter(2, 1);
  check.equal(books.round(true).size(), std::size_t{0}, "grants after an unfilter of another role");
  books.unfilter(2, 2);
  auto grants = books.round(true);
  check.require(check.equal(grants.size(), std::size_t{1}, "grants after the unfilter of framework 2"));
  check.equal(grants[0].framework, 2u, "framework");
  books.give_back(grants[0], 3600);
  books.unfilter(1);
  grants = books.round(true);
  check.require(check.equal(grants.size(), std::size_t{1}, "grants after the unfilter of framework 1 in all roles"));
  check.equal(grants[0].framework, 1u, "framework");
}

GANTRY_CONFORMANCE(allocator, reset_forgets, "after a reset only what that message says exists",
                   "clear everything before you apply a Deltas with reset = true: agents, frameworks, holdings and filters") {
  Books books(subject, check);
  books.framework(1);
  for (std::uint32_t a = 1; a <= 6; ++a) books.agent(a, machine(4, 4096));
  for (const auto& g : books.round(true)) books.give_back(g, 3600);
  check.equal(books.round(true).size(), std::size_t{0}, "grants while everything is filtered");
  books.begin();
  books.framework(1);
  books.agent(3, machine(1, 1024));
  const auto grants = books.round();
  check.require(check.equal(grants.size(), std::size_t{1}, "grants after a reset with one framework, one agent and no filter"));
  check.equal(grants[0].agent, 3u, "agent");
}

GANTRY_CONFORMANCE(allocator, unknown_handles, "handles nobody knows are ignored", "skip held, filters, unfilters and `gone` of unknown handles") {
  Books books(subject, check);
  books.framework(1);
  books.agent(1, machine(4, 4096));
  auto& d = books.next();
  d.held.emplace_back(77u, 1u, kCpus, 0u, std::int64_t{1000});
  d.held.emplace_back(1u, 66u, kCpus, 0u, std::int64_t{1000});
  d.unfilters.emplace_back(78u, 0u);
  auto f = std::make_unique<fa::FilterT>();
  f->framework = 79;
  f->role = 1;
  f->agent = 80;
  f->until_ns = books.now() + 1000 * kSecond;
  f->refused = machine(4, 4096);
  d.filters.push_back(std::move(f));
  auto gone = std::make_unique<fa::AgentDeltaT>();
  gone->id = 81;
  gone->gone = true;
  d.agents.push_back(std::move(gone));
  auto left = std::make_unique<fa::FrameworkDeltaT>();
  left->id = 82;
  left->gone = true;
  d.frameworks.push_back(std::move(left));
  check.equal(books.round(true).size(), std::size_t{1}, "grants");
}

GANTRY_CONFORMANCE(allocator, senseless_deltas, "numbers that make no sense are refused or ignored, and a reset puts all right",
                   "check handles and amounts before you use them as an index or a size; answer INVALID_ARGUMENT") {
  Books books(subject, check);
  books.framework(1);
  books.agent(1, machine(4, 4096));
  books.round(true);
  constexpr auto biggest = std::numeric_limits<std::uint32_t>::max();
  const auto deltas = [&](auto fill) {
    fa::DeltasT d;
    d.now_ns = books.now();
    d.all = true;
    fill(d);
    return d;
  };
  const auto agent = [](std::uint32_t id, Amounts total) {
    auto a = std::make_unique<fa::AgentDeltaT>();
    a->id = id;
    a->total = a->available = std::move(total);
    return a;
  };
  books.survive(deltas([&](auto& d) { d.agents.push_back(agent(biggest, machine(1, 1))); }), "agent handle 4294967295");
  books.survive(deltas([&](auto& d) {
                  auto f = std::make_unique<fa::FrameworkDeltaT>();
                  f->id = biggest;
                  f->roles = {biggest};
                  f->active = true;
                  d.frameworks.push_back(std::move(f));
                }),
                "framework and role handle 4294967295");
  books.survive(deltas([&](auto& d) {
                  auto r = std::make_unique<fa::RoleT>();
                  r->id = biggest;
                  r->parent = biggest;
                  r->weight = std::numeric_limits<double>::quiet_NaN();
                  d.roles.push_back(std::move(r));
                }),
                "a role without end that is its own parent");
  books.survive(deltas([&](auto& d) {
                  for (std::uint32_t i = 0; i < 2; ++i) {
                    auto r = std::make_unique<fa::RoleT>();
                    r->id = 20 + i;
                    r->parent = 21 - i;
                    r->weight = -1;
                    d.roles.push_back(std::move(r));
                  }
                  auto f = std::make_unique<fa::FrameworkDeltaT>();
                  f->id = 20;
                  f->roles = {20, 20, 0};
                  f->active = true;
                  d.frameworks.push_back(std::move(f));
                }),
                "two roles that are each other's parent");
  books.survive(deltas([&](auto& d) { d.agents.push_back(agent(2, {quantity(biggest, 1), quantity(kCpus, -5), quantity(kMem, 1, biggest)})); }),
                "unknown names and negative amounts");
  books.survive(deltas([&](auto& d) {
                  auto n = std::make_unique<fa::NameT>();
                  n->id = biggest;
                  d.names.push_back(std::move(n));
                }),
                "name handle 4294967295");
  books.survive(deltas([&](auto& d) {
                  auto f = std::make_unique<fa::FilterT>();
                  f->framework = f->role = f->agent = biggest;
                  f->until_ns = std::numeric_limits<std::uint64_t>::max();
                  d.filters.push_back(std::move(f));
                  d.held.emplace_back(biggest, biggest, biggest, 0u, std::int64_t{-1'000'000'000'000'000});
                }),
                "filters and holdings of senseless handles");
  books.begin();
  books.framework(1);
  books.agent(1, machine(4, 4096));
  check.equal(books.round(true).size(), std::size_t{1}, "grants after a reset");
}

GANTRY_CONFORMANCE(allocator, deterministic, "the same conversation gives the same rounds",
                   "do not depend on addresses, hashes of pointers, clocks or random numbers; seed what randomness you want from a setting") {
  Books first(subject, check);
  const auto once = live(first, 7, 120);
  check.require(check.ok(subject.down(), "STOP"));
  Books second(subject, check);
  const auto twice = live(second, 7, 120);
  for (std::size_t i = 0; i < once.size() && i < twice.size(); ++i)
    if (!check.that(once[i] == twice[i], "round " + std::to_string(i) + " differs when the same conversation is held again")) return;
}

GANTRY_CONFORMANCE(allocator, large_cluster, "ten thousand agents are offered in one round",
                   "look at each agent a bounded number of times; a round over the whole cluster must take milliseconds") {
  Books books(subject, check);
  for (std::uint32_t f = 1; f <= 20; ++f) books.framework(f);
  for (std::uint32_t a = 1; a <= 10'000; ++a) books.agent(a, machine(4, 4096));
  const auto begin = std::chrono::steady_clock::now();
  const auto grants = books.round(true, 20s);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  check.notes.push_back("10,000 agents in " + std::to_string(static_cast<int>(seconds * 1000)) + " ms");
  std::set<std::uint32_t> agents;
  for (const auto& g : grants) agents.insert(g.agent);
  check.equal(agents.size(), std::size_t{10'000}, "agents offered");
  check.equal(books.round(true, 20s).size(), std::size_t{0}, "grants in the round after that");
}

}  // namespace gantry::conformance
