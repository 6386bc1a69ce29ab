// How entries of a trace are shown and counted.
#include "tools/gantry/trace_view.hpp"

#include <gantry/message.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <ctime>

namespace gantry::cli {
namespace {

using fb::trace::EntryT;
using fb::trace::What;
using ::testing::HasSubstr;
using ::testing::Not;

EntryT entry(What what, std::uint32_t method, std::uint64_t token = 1, gantry_code code = GANTRY_OK) {
  EntryT e;
  e.what = what;
  e.method = method;
  e.token = token;
  e.code = code;
  return e;
}

EntryT done(std::uint32_t method, std::uint64_t latency_ns, gantry_code code = GANTRY_OK) {
  EntryT e = entry(What::DONE, method, 1, code);
  e.latency_ns = latency_ns;
  return e;
}

fb::trace::HeaderT header() {
  fb::trace::HeaderT h;
  h.kind = "isolator";
  h.started_wall_ns = 1'700'000'000'000'000'000;  // 2023-11-14T22:13:20Z
  return h;
}

TEST(TraceText, Amounts) {
  EXPECT_EQ(latency_text(0), "0ns");
  EXPECT_EQ(latency_text(999), "999ns");
  EXPECT_EQ(latency_text(1'000), "1us");
  EXPECT_EQ(latency_text(12'345), "12.3us");
  EXPECT_EQ(latency_text(999'600), "1ms");
  EXPECT_EQ(latency_text(250'000'000), "250ms");
  EXPECT_EQ(latency_text(2'500'000'000), "2.5s");
  EXPECT_EQ(bytes_text(999), "999");
  EXPECT_EQ(bytes_text(1'300), "1.3k");
  EXPECT_EQ(bytes_text(12'000'000), "12M");
}

TEST(TraceRow, AnAnswerToACall) {
  const TraceView view(header());
  EntryT e = done(16, 1'200'000);
  e.at_ns = 1'387'000'000;
  e.asked_size = 612;
  e.size = 148;
  e.nfds = 2;
  const std::string row = view.row(e);
  EXPECT_THAT(row, HasSubstr(":21.387"));
  EXPECT_THAT(row, HasSubstr("PREPARE"));
  EXPECT_THAT(row, HasSubstr("1.2ms     612     148    2       -"));
  EXPECT_EQ(view.json(e),
            "{\"at\": \"2023-11-14T22:13:21.387Z\", \"what\": \"done\", \"method\": \"PREPARE\", \"token\": 1, "
            "\"code\": \"OK\", "
            "\"latency_ns\": 1200000, \"asked_bytes\": 612, \"reply_bytes\": 148, \"chunks\": 0, \"fds\": 2}\n");
}
TEST(TraceRow, WhatWentWrongIsASentenceWithoutControlCharacters) {
  const TraceView view(header());
  EntryT e = done(16, 5, GANTRY_NOT_FOUND);
  const Buffer b = pack_error(fail(Code::not_found, "no \033[31mcontainer"));
  e.body.assign(b.data(), b.data() + b.size());
  EXPECT_THAT(view.row(e), HasSubstr("NOT_FOUND"));
  EXPECT_THAT(view.row(e), HasSubstr("  no ?[31mcontainer"));
  e.what = What::GAVE_UP;
  EXPECT_THAT(view.row(e), HasSubstr("given up: no"));
  e.body.assign(20, 0xff);
  EXPECT_THAT(view.row(e), HasSubstr("NOT_FOUND")) << "a malformed error is no trouble";
}
TEST(TraceRow, RequestsAndFaults) {
  const TraceView view(header());
  EntryT e = entry(What::REQUEST_DONE, 17);
  e.service = 2;
  EXPECT_THAT(view.row(e), HasSubstr("store.COMMIT"));
  EXPECT_THAT(view.row(e), HasSubstr("      -"));
  EntryT fault = entry(What::FAULT, 0);
  const std::string text = "completed twice";
  fault.body.assign(text.begin(), text.end());
  EXPECT_THAT(view.row(fault), HasSubstr("FAULT"));
  EXPECT_THAT(view.row(fault), HasSubstr("completed twice"));
  EXPECT_THAT(view.json(fault), HasSubstr("\"message\": \"completed twice\""));
}

TEST(TraceFilter, ChoosesRows) {
  TraceFilter f;
  EXPECT_TRUE(f.shows(done(16, 1), "PREPARE"));
  EXPECT_TRUE(f.shows(entry(What::CHUNK, 16, 1, GANTRY_MORE), "WATCH"));
  EXPECT_FALSE(f.shows(entry(What::CALL, 16), "PREPARE"));
  f.all = true;
  EXPECT_TRUE(f.shows(entry(What::CALL, 16), "PREPARE"));
  f.methods = {"CLEANUP"};
  EXPECT_FALSE(f.shows(done(16, 1), "PREPARE"));
  EXPECT_TRUE(f.shows(done(21, 1), "CLEANUP"));
}
TEST(TraceFilter, ErrorsAndSlowOnes) {
  TraceFilter f;
  f.errors = true;
  EXPECT_FALSE(f.shows(done(16, 1), "PREPARE"));
  EXPECT_TRUE(f.shows(done(16, 1, GANTRY_INTERNAL), "PREPARE"));
  EXPECT_TRUE(f.shows(entry(What::FAULT, 0), "FAULT"));
  f = {};
  f.slower_ns = 5'000'000;
  EXPECT_FALSE(f.shows(done(16, 4'999'999), "PREPARE"));
  EXPECT_TRUE(f.shows(done(16, 5'000'000), "PREPARE"));
  EntryT chunk = entry(What::CHUNK, 16, 1, GANTRY_MORE);
  chunk.latency_ns = 1'000'000'000'000;
  EXPECT_FALSE(f.shows(chunk, "WATCH")) << "a stream's age is no slowness";
  EXPECT_FALSE(f.shows(entry(What::DONE, 16), "PREPARE")) << "unknown is not slow";
}

TEST(Latencies, QuantilesAreWithinThreePercent) {
  Latencies l;
  EXPECT_EQ(l.quantile(0.5), 0u);
  for (std::uint64_t i = 1; i <= 100'000; ++i) l.add(i * 1'000);
  EXPECT_NEAR(static_cast<double>(l.quantile(0.5)), 50e6, 50e6 * 0.03);
  EXPECT_NEAR(static_cast<double>(l.quantile(0.99)), 99e6, 99e6 * 0.03);
  EXPECT_EQ(l.max(), 100'000'000u);
  Latencies small;
  for (const std::uint64_t v : {1, 2, 3}) small.add(v);
  EXPECT_EQ(small.quantile(0.5), 2u);
  EXPECT_EQ(small.quantile(1), 3u);
  Latencies huge;
  huge.add(~std::uint64_t{0});
  EXPECT_GT(huge.quantile(0.5), std::uint64_t{1} << 63);
}

TEST(TraceSummary, CountsByMethod) {
  TraceSummary s("isolator");
  for (int i = 0; i < 9; ++i) s.add(done(16, 1'000));
  s.add(done(16, 9'000'000, GANTRY_INTERNAL));
  s.add(entry(What::CHUNK, 18, 7, GANTRY_MORE));
  s.add(entry(What::FAULT, 0));
  s.add_lost(132);
  const std::string text = s.text(2'000'000'000, false);
  EXPECT_THAT(text, HasSubstr("PREPARE  10     1       0       1us"));
  EXPECT_THAT(text, HasSubstr("9ms"));
  EXPECT_THAT(text, HasSubstr("10 calls in 2s, 1 error, 1 fault, lost 132\n"));
  EXPECT_THAT(text, HasSubstr("WATCH    0      0       1       -"));
  EXPECT_THAT(s.json(1), HasSubstr("\"method\": \"PREPARE\", \"count\": 10, \"errors\": 1"));
}
TEST(TraceSummary, NamesWhatIsStillOpen) {
  TraceSummary s("isolator");
  EntryT call = entry(What::CALL, 17, 3);
  call.at_ns = 1'000'000'000;
  s.add(call);
  s.add(entry(What::CALL, 16, 4));
  s.add(entry(What::DONE, 16, 4));
  EXPECT_THAT(s.text(3'000'000'000, false), HasSubstr("still open: ATTACH, for 2s\n"));
  s.add(entry(What::DONE, 17, 3));
  EXPECT_THAT(s.text(3'000'000'000, false), Not(HasSubstr("still open")));
}
TEST(TraceSummary, ALateAnswerIsCountedOnce) {
  TraceSummary s("isolator");
  s.add(entry(What::CALL, 16, 5));
  s.add(entry(What::GAVE_UP, 16, 5, GANTRY_DEADLINE_EXCEEDED));
  EXPECT_EQ(s.calls(), 1u);
  EXPECT_THAT(s.text(1, false), HasSubstr("still open: PREPARE")) << "the module owes its answer";
  s.add(entry(What::DONE, 16, 5));
  EXPECT_EQ(s.calls(), 1u);
  EXPECT_THAT(s.text(1, false), HasSubstr("1 error\n"));
}

}  // namespace
}  // namespace gantry::cli
