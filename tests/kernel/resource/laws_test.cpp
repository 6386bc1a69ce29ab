// The laws of the algebra, on seeded random bags: a failure prints the seed's round and both operands.
#include "kernel/resource/resources.hpp"
#include "kernel/resource/wire.hpp"

#include <gtest/gtest.h>

#include <random>

namespace gantry::resource {
namespace {

class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}
  std::uint64_t below(std::uint64_t n) { return engine_() % n; }
  bool one_in(std::uint64_t n) { return below(n) == 0; }

  Ranges ranges(std::uint64_t begin, std::uint64_t end) {
    std::vector<Range> out;
    for (auto n = below(4); n > 0; --n) {
      const std::uint64_t b = begin + below(end - begin);
      out.push_back({b, std::min(end, b + below(6))});
    }
    return Ranges(std::move(out));
  }
  Set set(int first, int count) {
    std::vector<std::string> out;
    for (int i = 0; i < count; ++i)
      if (one_in(2)) out.push_back(std::string(1, static_cast<char>('a' + first + i)));
    return Set(std::move(out));
  }
  Traits traits() {
    static const std::vector<std::string> roles = {"eng", "ops", "eng/web"};
    Traits t;
    if (one_in(2)) t.reservations.push_back({one_in(2), roles[below(3)], one_in(3) ? "alice" : "", {}});
    if (one_in(6)) t.reservations.push_back({true, (t.reservations.empty() ? "eng" : t.reservations[0].role) + "/x", "", {{"l", "1"}}});
    if (t.reservations.empty() && one_in(5)) t.revocable = true;
    return t;
  }
  // Bags of different halves never share a port or an item, so that sums of sets lose nothing.
  Resources bag(int half = 0) {
    Resources out;
    for (auto n = below(8); n > 0; --n) {
      switch (below(6)) {
        case 0: out.add(Resource("cpus", Scalar::milli(static_cast<std::int64_t>(below(9000))), traits())); break;
        case 1: out.add(Resource("mem", Scalar::milli(static_cast<std::int64_t>(below(9'000'000))), traits())); break;
        case 2: out.add(Resource("ports", ranges(half * 100, half * 100 + 90), traits())); break;
        case 3: out.add(Resource("words", set(half * 8, 7), traits())); break;
        case 4: out.add(Resource("gpus", Scalar::of(static_cast<double>(below(4))))); break;
        default: {
          Traits t;
          t.reservations = {{true, "eng", "", {}}};
          Disk& d = t.disk.emplace();
          d.persistent = d.has_volume = true;
          d.persistence_id = std::string(1, static_cast<char>('a' + below(2)));
          d.container_path = "d";
          t.shared = one_in(3);
          out.add(Resource("disk", Scalar::of(static_cast<double>(1 + below(3))), t));
        }
      }
    }
    return out;
  }

 private:
  std::mt19937_64 engine_;
};

// Text says neither principals nor disks.
Resources plain_bag(Random& random) {
  Resources out;
  for (const auto& r : random.bag()) {
    if (!r.traits().disk && !r.revocable() && (r.reservations().empty() || (r.reservations().size() == 1 && !r.reservations()[0].dynamic && r.reservations()[0].principal.empty()))) out.add(r);
  }
  return out;
}

constexpr int kRounds = 2000;

#define WHERE "round " << i << "\n a = " << a.text() << "\n b = " << b.text()

TEST(Laws, AdditionAndSubtraction) {
  Random random(1);
  for (int i = 0; i < kRounds; ++i) {
    const Resources a = random.bag(0), b = random.bag(1), c = random.bag(2);
    EXPECT_EQ(a + b, b + a) << WHERE;
    EXPECT_EQ((a + b) + c, a + (b + c)) << WHERE;
    EXPECT_EQ(a + Resources(), a) << WHERE;
    EXPECT_EQ(a + b - b, a) << WHERE;
    EXPECT_EQ(a + b - a - b, Resources()) << WHERE;
    EXPECT_TRUE((a + b).contains(a)) << WHERE;
    EXPECT_TRUE((a - a).empty()) << WHERE;
  }
}

TEST(Laws, ContainsExactlyWhenSubtractWorks) {
  Random random(2);
  int contained = 0;
  for (int i = 0; i < kRounds; ++i) {
    const Resources a = random.bag(), b = random.one_in(2) ? random.bag() : a.intersect(random.bag());
    Resources rest = a;
    const bool ok = rest.subtract(b);
    EXPECT_EQ(ok, a.contains(b)) << WHERE;
    EXPECT_EQ(ok, a.intersect(b) == b) << WHERE;
    if (ok) {
      ++contained;
      EXPECT_EQ(rest + b, a) << WHERE;
      EXPECT_EQ(a.without(b), rest) << WHERE;
    } else {
      EXPECT_EQ(rest, a) << WHERE;
    }
    EXPECT_EQ(a.intersect(b), b.intersect(a)) << WHERE;
    EXPECT_TRUE(a.contains(a.intersect(b))) << WHERE;
  }
  EXPECT_GT(contained, kRounds / 4);
}

TEST(Laws, ViewsPartition) {
  Random random(3);
  for (int i = 0; i < kRounds; ++i) {
    const Resources a = random.bag(), b = a.to_unreserved();
    EXPECT_EQ(a.reserved() + a.unreserved(), a) << WHERE;
    EXPECT_EQ(a.revocable() + a.non_revocable(), a) << WHERE;
    EXPECT_TRUE(b.reserved().empty()) << WHERE;
    EXPECT_EQ(a.cpus(), b.cpus()) << WHERE;
    EXPECT_EQ(a.ports(), b.ports()) << WHERE;
    EXPECT_EQ(a.push_reservation({true, "r", "", {}}).pop_reservation(), a) << WHERE;
    EXPECT_EQ(a.allocated_to(RoleId::star).unallocated(), a) << WHERE;
    const auto taken = a.take(a.quantities());
    ASSERT_TRUE(taken.has_value()) << WHERE;
    EXPECT_EQ(*taken, a) << WHERE;
  }
}

TEST(Laws, ReserveIsUndoneByUnreserve) {
  Random random(4);
  for (int i = 0; i < kRounds; ++i) {
    const Resources a = random.bag(), b = a.reservable_to(intern_role("eng/web/y"));
    if (b.empty()) continue;
    const Resources wanted = b.push_reservation({true, "eng/web/y", "p", {}});
    const auto reserved = a.reserve(wanted);
    ASSERT_TRUE(reserved.has_value()) << WHERE << reserved.error().message;
    EXPECT_EQ(reserved->to_unreserved(), a.to_unreserved()) << WHERE;
    const auto undone = reserved->unreserve(wanted);
    ASSERT_TRUE(undone.has_value()) << WHERE << undone.error().message;
    EXPECT_EQ(*undone, a) << WHERE;
  }
}

TEST(Laws, TextRoundTrip) {
  Random random(5);
  for (int i = 0; i < kRounds; ++i) {
    const Resources a = plain_bag(random), b;
    const auto back = Resources::parse(a.text());
    ASSERT_TRUE(back.has_value()) << WHERE << back.error().message;
    EXPECT_EQ(*back, a) << WHERE;
  }
}

TEST(Laws, WireRoundTripThroughTablesAndObjects) {
  Random random(6);
  for (int i = 0; i < kRounds; ++i) {
    const Resources a = random.one_in(2) ? random.bag() : random.bag().allocated_to(intern_role("eng")), b;
    flatbuffers::FlatBufferBuilder fbb;
    const auto resources = write(fbb, a);
    fb::LimitationBuilder root(fbb);
    root.add_resources(resources);
    fbb.Finish(root.Finish());
    flatbuffers::Verifier verifier(fbb.GetBufferPointer(), fbb.GetSize());
    ASSERT_TRUE(verifier.VerifyBuffer<fb::Limitation>()) << WHERE;
    const auto tables = from_wire(flatbuffers::GetRoot<fb::Limitation>(fbb.GetBufferPointer())->resources());
    ASSERT_TRUE(tables.has_value()) << WHERE << tables.error().message;
    EXPECT_EQ(*tables, a) << WHERE;
    const auto objects = from_wire(to_wire(a));
    ASSERT_TRUE(objects.has_value()) << WHERE << objects.error().message;
    EXPECT_EQ(*objects, a) << WHERE;
  }
}

TEST(Laws, RangesAgainstBits) {
  Random random(7);
  for (int i = 0; i < kRounds; ++i) {
    const Ranges a = random.ranges(0, 40), b = random.ranges(0, 40);
    bool contained = true;
    for (std::uint64_t n = 0; n < 48; ++n) {
      EXPECT_EQ((a + b).contains(n), a.contains(n) || b.contains(n)) << WHERE << n;
      EXPECT_EQ((a - b).contains(n), a.contains(n) && !b.contains(n)) << WHERE << n;
      EXPECT_EQ((a & b).contains(n), a.contains(n) && b.contains(n)) << WHERE << n;
      if (b.contains(n) && !a.contains(n)) contained = false;
    }
    EXPECT_EQ(a.contains(b), contained) << WHERE;
    EXPECT_EQ((a + b) == a, contained) << WHERE;  // canonical form
  }
}

TEST(Wire, RefusesWhatCannotBe) {
  const auto message = [](auto change) {
    fb::ResourceT r;
    r.name = "disk";
    r.scalar = 1.0;
    change(r);
    const auto back = from_wire(r);
    return back ? std::string() : back.error().message;
  };
  const auto reserve = [](fb::ResourceT& r, std::initializer_list<const char*> roles) {
    for (const char* role : roles) {
      auto info = std::make_unique<fb::ReservationInfoT>();
      info->role = role;
      info->type = fb::ReservationType::DYNAMIC;
      r.reservations.push_back(std::move(info));
    }
  };
  EXPECT_EQ(message([](auto&) {}), "");
  EXPECT_NE(message([](auto& r) { r.scalar = -1; }).find("negative"), std::string::npos);
  EXPECT_NE(message([](auto& r) { r.scalar = 1.0 / 0.0; }).find("finite"), std::string::npos);
  EXPECT_NE(message([](auto& r) { r.scalar.reset(); }).find("without its value"), std::string::npos);
  EXPECT_NE(message([](auto& r) { r.name = ""; }).find("no name"), std::string::npos);
  EXPECT_NE(message([](auto& r) { r.name = "ports"; }).find("must be ranges"), std::string::npos);
  EXPECT_NE(message([](auto& r) { r.type = static_cast<fb::ValueType>(9); }).find("unknown type"), std::string::npos);
  EXPECT_NE(message([](auto& r) { r.shared = true; }).find("shared"), std::string::npos);
  EXPECT_NE(message([&](auto& r) { reserve(r, {"*"}); }).find("'*'"), std::string::npos);
  EXPECT_NE(message([&](auto& r) { reserve(r, {"a", "b"}); }).find("does not refine"), std::string::npos);
  EXPECT_NE(message([&](auto& r) { reserve(r, {"a"}); r.revocable = true; }).find("revocable"), std::string::npos);
  EXPECT_NE(message([&](auto& r) { reserve(r, {"a"}); r.reservations[0]->type = fb::ReservationType::UNKNOWN; }).find("without type"), std::string::npos);
  EXPECT_EQ(message([&](auto& r) { reserve(r, {"a", "a/b"}); }), "");
  EXPECT_NE(message([&](auto& r) {
              r.name = "ports";
              r.type = fb::ValueType::RANGES;
              r.scalar.reset();
              r.ranges.emplace_back(5, 3);
            }).find("before it begins"), std::string::npos);
}

}  // namespace
}  // namespace gantry::resource
