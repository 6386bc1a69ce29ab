// Revisions of kinds: the kernel serves the current and the previous one, both sides use the highest they share, and who
// shares none is refused with one sentence that names both.
#include "tests/compat/module_rig.hpp"

#include <gmock/gmock.h>

#include <algorithm>

namespace gantry::compat {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// A module in the C way: answers OK to all, remembers the revision CONFIGURE named.
struct Speaker {
  const gantry_host* host = nullptr;
  std::uint16_t revision = 0;
};
Speaker speaker;

gantry_provider provider_of(std::uint16_t min, std::uint16_t max) {
  gantry_provider p{};
  p.size = sizeof p;
  p.kind = "fetcher";
  p.name = "speaker";
  p.rev_min = min;
  p.rev_max = max;
  p.create = [](const gantry_host* h) -> void* {
    speaker = {h, 0};
    return &speaker;
  };
  p.call = [](void*, const gantry_call* c) {
    if (c->method == GANTRY_METHOD_CONFIGURE)
      if (const auto* configure = view<fb::Configure>(from_abi(c->body))) speaker.revision = configure->revision();
    speaker.host->complete(speaker.host->ctx, c->token, GANTRY_OK, {nullptr, 0});
  };
  p.reply = [](void*, std::uint64_t, gantry_code, gantry_bytes) {};
  p.cancel = [](void*, std::uint64_t) {};
  p.destroy = [](void*) {};
  return p;
}

struct Case {
  std::uint16_t previous, current;  // of the kernel
  std::uint16_t min, max;           // of the module
  std::uint16_t spoken;             // 0: refused
  std::string module_says, kernel_says, advice;
};

std::string outcome(const Case& c) {
  const gantry_provider p = provider_of(c.min, c.max);
  const gantry_module m = {GANTRY_MAGIC, GANTRY_ABI_MAJOR, GANTRY_ABI_MINOR, sizeof m, 1, sizeof p, &p, "test"};
  Rig rig;
  rig.provided = &m;
  rig.kinds = {{"fetcher", c.current, c.previous}};
  config::ModuleConfig config;
  config.kind = config.manifest.kind = "fetcher";
  config.name = config.manifest.name = "speaker";
  config.manifest.version = "1";
  config.manifest.roles = {"agent"};
  config.manifest.revision_min = c.min;
  config.manifest.revision_max = c.max;
  const std::string out = rig.start(std::move(config));
  if (out == "started") {
    EXPECT_EQ(rig.host->list().at(0).revision, speaker.revision) << "what the operator sees is what was agreed";
    EXPECT_TRUE(rig.stop());
  }
  return out;
}

TEST(Revisions, TheHighestBothSpeakIsUsed) {
  const Case cases[] = {
      {1, 1, 1, 1, 1, "", "", ""}, {1, 2, 1, 1, 1, "", "", ""}, {1, 2, 2, 2, 2, "", "", ""}, {1, 2, 1, 2, 2, "", "", ""},
      {1, 2, 1, 9, 2, "", "", ""}, {2, 3, 1, 2, 2, "", "", ""}, {2, 3, 1, 3, 3, "", "", ""}, {2, 3, 3, 7, 3, "", "", ""},
      {4, 4, 4, 4, 4, "", "", ""}, {4, 4, 1, 9, 4, "", "", ""},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(std::to_string(c.previous) + ".." + std::to_string(c.current) + " meets " + std::to_string(c.min) + ".." +
                 std::to_string(c.max));
    EXPECT_EQ(outcome(c), "started");
    EXPECT_EQ(speaker.revision, c.spoken);
  }
}

TEST(Revisions, WhoSharesNoneIsRefusedInOneSentence) {
  const Case cases[] = {
      {1, 1, 2, 2, 0, "speaks revision 2 of kind fetcher", "this kernel serves 1;", "upgrade gantryd"},
      {1, 2, 3, 3, 0, "speaks revision 3 of kind fetcher", "this kernel serves 1 to 2;", "upgrade gantryd"},
      {1, 2, 3, 5, 0, "speaks revision 3 to 5 of kind fetcher", "this kernel serves 1 to 2;", "upgrade gantryd"},
      {2, 3, 1, 1, 0, "speaks revision 1 of kind fetcher", "this kernel serves 2 to 3;", "newer build of the module"},
      {4, 4, 1, 3, 0, "speaks revision 1 to 3 of kind fetcher", "this kernel serves 4;", "newer build of the module"},
      {1, 2, 2, 1, 0, "speaks revision 2 to 1 of kind fetcher", "this kernel serves 1 to 2;", "build of the module"},
  };
  for (const Case& c : cases) {
    const std::string out = outcome(c);
    EXPECT_THAT(out, AllOf(HasSubstr("module fetcher.speaker"), HasSubstr(c.module_says), HasSubstr(c.kernel_says),
                           HasSubstr(c.advice)));
    EXPECT_EQ(std::count(out.begin(), out.end(), '\n'), 0) << out;
  }
}

TEST(Revisions, TheTableServesTheCurrentAndThePreviousOne) {
  std::vector<std::string> names;
  for (const module::Kind& k : module::kinds) {
    names.emplace_back(k.name);
    EXPECT_GE(k.previous, 1) << k.name;
    EXPECT_LE(k.previous, k.current) << k.name;
    // The one before the current stays served until the next break, and no longer than it has to.
    EXPECT_EQ(k.previous, std::max(1, k.current - 1)) << k.name << ": serve the current revision and the one before";
  }
  EXPECT_TRUE(std::is_sorted(names.begin(), names.end()));
}

}  // namespace
}  // namespace gantry::compat
