#include "wire/codec.hpp"

#include "wire/recordio.hpp"

#include <gantry/executor_generated.h>
#include <gantry/framework_generated.h>
#include <gantry/operator_agent_generated.h>
#include <gantry/operator_generated.h>

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <limits>
#include <set>
#include <string_view>

namespace gantry::gateway_mesos::wire {
namespace {

const Codec& codec() { return Codec::get(); }
constexpr const char* call = "gantry.fb.Call";

bool valid(Bytes b, std::string_view table) {
  if (table == "gantry.fb.master.QuotaConfig") return view<fb::master::QuotaConfig>(b);
  if (table == "gantry.fb.Call") return view<fb::Call>(b);
  if (table == "gantry.fb.Event") return view<fb::Event>(b);
  if (table == "gantry.fb.executor.Call") return view<fb::executor::Call>(b);
  if (table == "gantry.fb.executor.Event") return view<fb::executor::Event>(b);
  if (table == "gantry.fb.master.Call") return view<fb::master::Call>(b);
  if (table == "gantry.fb.master.Response") return view<fb::master::Response>(b);
  if (table == "gantry.fb.master.Event") return view<fb::master::Event>(b);
  if (table == "gantry.fb.agent.Call") return view<fb::agent::Call>(b);
  return table == "gantry.fb.agent.Response" && view<fb::agent::Response>(b);
}

// What comes out again, or the error's sentence.
std::string through(std::string_view json, std::string_view table = call) {
  const auto read = codec().from_json(json, table);
  if (!read) return read.error().message;
  EXPECT_TRUE(valid(*read, table));
  return codec().to_json(*read, table);
}

std::vector<std::string> columns(const std::string& line) {
  std::vector<std::string> out;
  std::size_t at = 0;
  while (at <= line.size()) {
    const std::size_t tab = std::min(line.find('\t', at), line.size());
    out.push_back(line.substr(at, tab - at));
    at = tab + 1;
  }
  return out;
}

std::vector<std::vector<std::string>> recorded() {
  std::ifstream in(WIRE_BODIES);
  std::vector<std::vector<std::string>> out;
  for (std::string line; std::getline(in, line);)
    if (!line.empty() && line[0] != '#') out.push_back(columns(line));
  return out;
}

// ---- what was recorded

TEST(Wire, RecordedBodiesSurvive) {
  const auto bodies = recorded();
  ASSERT_GT(bodies.size(), 150U);
  int in_protobuf = 0;
  for (const auto& c : bodies) {
    ASSERT_EQ(c.size(), 4U);
    const std::string& table = c[0];
    const std::string& in = c[1] == "=" ? c[2] : c[1];
    EXPECT_EQ(through(in, table), c[2]);
    EXPECT_EQ(through(c[2], table), c[2]);
    const auto read = codec().from_json(in, table);
    ASSERT_TRUE(read);
    const std::string proto = codec().to_protobuf(*read, table);
    const auto again = codec().from_protobuf(as_bytes(proto), table);
    ASSERT_TRUE(again) << again.error().message << "\n" << in;
    EXPECT_TRUE(valid(*again, table));
    EXPECT_EQ(codec().to_json(*again, table), c[2]);
    EXPECT_EQ(codec().to_protobuf(*again, table), proto);
    if (!c[3].empty()) {
      // A message with one field of bytes turns base64 into them.
      const auto carrier = codec().from_json("{\"data\":\"" + c[3] + "\"}", "gantry.fb.agent.IoData");
      ASSERT_TRUE(carrier);
      const auto* data = view<fb::agent::IoData>(*carrier)->data();
      const auto theirs = codec().from_protobuf({data->data(), data->size()}, table);
      ASSERT_TRUE(theirs) << theirs.error().message;
      EXPECT_EQ(codec().to_json(*theirs, table), c[2]);
      EXPECT_EQ(codec().to_protobuf(*theirs, table), std::string(data->begin(), data->end()));
      ++in_protobuf;
    }
  }
  EXPECT_GE(in_protobuf, 4);
}

TEST(Wire, WhatIsCutShortIsNotProtobuf) {
  for (const auto& c : recorded()) {
    const auto read = codec().from_json(c[2], c[0]);
    ASSERT_TRUE(read);
    const std::string proto = codec().to_protobuf(*read, c[0]);
    for (std::size_t n = 0; n < std::min<std::size_t>(proto.size(), 400); ++n) {
      const auto part = codec().from_protobuf(as_bytes(std::string_view(proto).substr(0, n)), c[0]);
      if (part) {
        EXPECT_TRUE(valid(*part, c[0]));
      }
    }
  }
}

// ---- lax in

TEST(WireLax, NumbersAndBooleansAsText) {
  EXPECT_EQ(through(R"({"type":"DECLINE","decline":{"filters":{"refuse_seconds":"0.5"}}})"),
            R"({"type":"DECLINE","decline":{"filters":{"refuse_seconds":0.5}}})");
  EXPECT_EQ(
      through(
          R"({"subscribe":{"framework_info":{"user":"u","name":"n","checkpoint":"true","failover_timeout":" 7 "}}})"),
      R"({"subscribe":{"framework_info":{"user":"u","name":"n","failover_timeout":7.0,"checkpoint":true}}})");
  EXPECT_EQ(
      through(
          R"({"type":"KILL","kill":{"task_id":{"value":"t"},"kill_policy":{"grace_period":{"nanoseconds":"5000000000"}}}})"),
      R"({"type":"KILL","kill":{"task_id":{"value":"t"},"kill_policy":{"grace_period":{"nanoseconds":5000000000}}}})");
  EXPECT_EQ(through(R"({"read_file":{"path":"p","offset":"18446744073709551615"}})", "gantry.fb.master.Call"),
            R"({"read_file":{"path":"p","offset":18446744073709551615}})");
  EXPECT_EQ(through(R"({"read_file":{"path":"p","offset":1e3}})", "gantry.fb.master.Call"),
            R"({"read_file":{"path":"p","offset":1000}})");
}

TEST(WireLax, NullIsUnset) {
  EXPECT_EQ(through(R"({"framework_id":null,"type":"REVIVE","revive":{"roles":["a",null,"b"]},"accept":null})"),
            R"({"type":"REVIVE","revive":{"roles":["a","b"]}})");
  EXPECT_EQ(through(R"({"type":"KILL","kill":{"task_id":null}})"),
            "Failed to convert JSON into Call protobuf: Missing required fields: kill.task_id");
}

TEST(WireLax, UnknownFieldsAreSkipped) {
  EXPECT_EQ(
      through(
          R"({"x":{"type":"KILL","y":[{},[1,"2"]]},"type":"REVIVE","z":[[{"a":{}}]],"framework_id":{"value":"f","w":{"value":"g"}}})"),
      R"({"framework_id":{"value":"f"},"type":"REVIVE"})");
}

TEST(WireLax, UnknownEnumsAreDropped) {
  const auto read = codec().from_json(R"({"type":"NOPE"})", call);
  ASSERT_TRUE(read);
  EXPECT_FALSE(flatbuffers::IsFieldPresent(view<fb::Call>(*read), fb::Call::VT_TYPE));
  const auto unknown = codec().from_json(R"({"type":"UNKNOWN"})", call);
  ASSERT_TRUE(unknown);
  EXPECT_TRUE(flatbuffers::IsFieldPresent(view<fb::Call>(*unknown), fb::Call::VT_TYPE));
  // Required: refused.
  EXPECT_EQ(
      through(R"({"type":"ACCEPT","accept":{"operations":[{"reserve":{"resources":[{"name":"c","type":"WHAT"}]}}]}})"),
      "Failed to convert JSON into Call protobuf: Failed to find enum for 'WHAT'");
}

TEST(WireLax, InfinityBothWays) {
  const char* const task =
      R"({"type":"ACCEPT","accept":{"operations":[{"type":"LAUNCH","launch":{"task_infos":[{"name":"n","task_id":{"value":"t"},)"
      R"("agent_id":{"value":"s"},"limits":{"cpus":{"value":"Infinity"},"mem":{"value":32.0}}}]}}]}})";
  EXPECT_EQ(through(task), task);
  const auto read = codec().from_json(task, call);
  const auto* limits = view<fb::Call>(*read)->accept()->operations()->Get(0)->launch()->task_infos()->Get(0)->limits();
  EXPECT_EQ(limits->Get(0)->value(), std::numeric_limits<double>::infinity());
}

TEST(WireLax, OneValueForAList) {
  EXPECT_EQ(through(R"({"type":"REVIVE","revive":{"roles":"a"}})"), R"({"type":"REVIVE","revive":{"roles":["a"]}})");
  EXPECT_EQ(through(R"({"type":"DECLINE","decline":{"offer_ids":{"value":"o"}}})"),
            R"({"type":"DECLINE","decline":{"offer_ids":[{"value":"o"}]}})");
}

TEST(WireLax, TheLastOfTwoHolds) {
  EXPECT_EQ(through(R"({"type":"REVIVE","framework_id":{"value":"a"},"type":"SUPPRESS","framework_id":{"value":"b"}})"),
            R"({"framework_id":{"value":"b"},"type":"SUPPRESS"})");
}

TEST(WireLax, AMapHasAKeyOnce) {
  const auto limits = [](const char* map) {
    return through(std::string(R"({"role":"r","limits":)") + map + "}", "gantry.fb.master.QuotaConfig");
  };
  EXPECT_EQ(limits(R"({"cpus":{"value":1},"mem":{"value":2},"cpus":{"value":3}})"),
            R"({"role":"r","limits":{"mem":{"value":2.0},"cpus":{"value":3.0}}})");
}

TEST(WireLax, EscapesAndPiecesOfText) {
  EXPECT_EQ(through("{\"framework_id\":{\"val\\u0075e\":\"\\u00e9\\/\\\"\\\\\\n\\u0001\\ud83d\\ude00 plain\"}}"),
            "{\"framework_id\":{\"value\":\"\xC3\xA9/\\\"\\\\\\n\\u0001\xF0\x9F\x98\x80 plain\"}}");
}

// ---- strict about what is wrong

TEST(WireErrors, SyntaxAsMesosSaysIt) {
  EXPECT_EQ(through("nope"), "Failed to parse body into JSON: syntax error at line 1 near: ope");
  EXPECT_EQ(through(R"({"type":)"), "Failed to parse body into JSON: syntax error at line 1 near: ");
  EXPECT_EQ(through(""), "Failed to parse body into JSON: syntax error at line 1 near: ");
  EXPECT_EQ(through("{} x"),
            "Failed to parse body into JSON: Parsed JSON included non-whitespace trailing characters: x");
  EXPECT_EQ(through(" { } \n"), "{}");
  // A mistake in meaning before one in syntax: the latter is what is said.
  EXPECT_EQ(through("{\"type\":7,\n!"), "Failed to parse body into JSON: syntax error at line 2 near: !");
  EXPECT_EQ(through("[]"), "Failed to convert JSON into Call protobuf: Expecting a JSON object");
  EXPECT_EQ(through("7"), "Failed to convert JSON into Call protobuf: Expecting a JSON object");
}

TEST(WireErrors, MissingRequiredFieldsByPath) {
  const auto missing = [](std::string_view json) {
    const std::string all = through(json),
                      front = "Failed to convert JSON into Call protobuf: Missing required fields: ";
    return all.starts_with(front) ? all.substr(front.size()) : all;
  };
  EXPECT_EQ(missing(R"({"type":"SUBSCRIBE","subscribe":{"framework_info":{"name":"x"}}})"),
            "subscribe.framework_info.user");
  EXPECT_EQ(missing(R"({"subscribe":{}})"), "subscribe.framework_info");
  EXPECT_EQ(missing(R"({"kill":{"agent_id":{}}})"), "kill.task_id, kill.agent_id.value");
  EXPECT_EQ(
      missing(
          R"({"accept":{"offer_ids":[{"value":"a"},{}],"operations":[{},{"launch":{"task_infos":[{"name":"n"}]}}]}})"),
      "accept.offer_ids[1].value, accept.operations[1].launch.task_infos[0].task_id, "
      "accept.operations[1].launch.task_infos[0].agent_id");
}

TEST(WireErrors, WrongTypes) {
  const auto why = [](std::string_view json) {
    const std::string all = through(json), front = "Failed to convert JSON into Call protobuf: ";
    return all.starts_with(front) ? all.substr(front.size()) : "accepted: " + all;
  };
  EXPECT_EQ(why(R"({"framework_id":"f"})"), "Not expecting a JSON string for field 'framework_id'");
  EXPECT_EQ(why(R"({"framework_id":{"value":7}})"), "Not expecting a JSON number for field 'value'");
  EXPECT_EQ(why(R"({"framework_id":[{"value":"f"}]})"), "Not expecting a JSON array for field 'framework_id'");
  EXPECT_EQ(why(R"({"type":{}})"), "Not expecting a JSON object for field 'type'");
  EXPECT_EQ(why(R"({"type":true})"), "Not expecting a JSON boolean for field 'type'");
  EXPECT_EQ(why(R"({"decline":{"filters":{"refuse_seconds":"soon"}}})"),
            "Failed to parse 'soon' as a JSON number for field 'refuse_seconds': syntax error at line 1 near: soon");
  EXPECT_EQ(why(R"({"decline":{"filters":{"refuse_seconds":"true"}}})"),
            "Failed to parse 'true' as a JSON number for field 'refuse_seconds': Unexpected JSON type parsed");
  EXPECT_EQ(why(R"({"acknowledge":{"uuid":"!"}})"),
            "Failed to base64 decode bytes field 'uuid': Invalid base64 encoding");
}

TEST(WireErrors, DepthIsBounded) {
  const std::string deep(5000, '[');
  EXPECT_EQ(through(R"({"x":)" + deep), "Failed to parse body into JSON: nested deeper than 60");
  std::string proto;  // container ids within each other
  for (int i = 0; i < 5000; ++i) {
    std::string outer = "\x0A\x01x\x12";
    for (std::size_t n = proto.size();; n >>= 7) {
      outer += static_cast<char>(n >= 0x80 ? (n & 0x7F) | 0x80 : n);
      if (n < 0x80) break;
    }
    proto = outer + proto;
  }
  EXPECT_FALSE(codec().from_protobuf(as_bytes(proto), "gantry.fb.ContainerId"));
}

TEST(WireErrors, HugeRefusalsAreShort) {
  std::string many = R"({"accept":{"offer_ids":[)";
  for (int i = 0; i < 100000; ++i) many += "{},";
  many += "{}]}}";
  EXPECT_LT(through(many).size(), 5000U);
  EXPECT_EQ(through(R"({"decline":{"filters":{"refuse_seconds":1e400}}})"),
            "Failed to parse body into JSON: Value out of range");
}

TEST(WireErrors, ProtobufThatIsNone) {
  const auto refused = [](std::string_view body) {
    const auto r = codec().from_protobuf(as_bytes(body), call);
    return r ? std::string("accepted") : r.error().message;
  };
  EXPECT_EQ(refused("{}"), "Failed to parse body into Call protobuf");
  EXPECT_EQ(refused(std::string_view("\x0A\x00", 2)),
            "Failed to parse body into Call protobuf");  // framework_id without value
  EXPECT_EQ(refused("\x0A\x7F"), "Failed to parse body into Call protobuf");
  EXPECT_EQ(refused(""), "accepted");
}

// ---- protobuf's own liberties

TEST(WireProto, PiecesOfAMessageAreOne) {
  // accept{offer_ids a} and accept{offer_ids b, filters 1.5}
  const std::string_view a(
      "\x22\x05\x0A\x03\x0A\x01"
      "a",
      7);
  const std::string b = std::string(
                            "\x22\x10\x0A\x03\x0A\x01"
                            "b\x1A\x09\x09",
                            10) +
                        std::string("\0\0\0\0\0\0\xF8\x3F", 8);
  const auto read = codec().from_protobuf(as_bytes(std::string(a) + b), call);
  ASSERT_TRUE(read);
  ASSERT_TRUE(valid(*read, call));
  EXPECT_EQ(codec().to_json(*read, call),
            R"({"accept":{"offer_ids":[{"value":"a"},{"value":"b"}],"filters":{"refuse_seconds":1.5}}})");
}

TEST(WireProto, ManyPiecesCostWhatTheyWeigh) {
  std::string pieces;
  for (int i = 0; i < 300000; ++i) pieces += std::string("\x22\x02\x1A\x00", 4);  // accept{filters{}}
  const auto read = codec().from_protobuf(as_bytes(pieces), call);
  ASSERT_TRUE(read);
  EXPECT_EQ(codec().to_json(*read, call), R"({"accept":{"filters":{"refuse_seconds":5.0}}})");
}

TEST(WireProto, UnknownFieldsPackedNumbersAndUnknownEnums) {
  // health_check.http.statuses packed, field 99 as group, type 77
  const std::string http = std::string("\x08\x50\x22\x03\xC8\x01\x07", 7);
  const std::string body =
      std::string("\x0A") + static_cast<char>(http.size()) + http + "\x9B\x06\x08\x01\x9C\x06" + "\x40\x4D";
  const auto read = codec().from_protobuf(as_bytes(body), "gantry.fb.HealthCheck");
  ASSERT_TRUE(read);
  EXPECT_EQ(codec().to_json(*read, "gantry.fb.HealthCheck"),
            R"({"http":{"port":80,"statuses":[200,7],"protocol":"IPv4"},"delay_seconds":15.0,"interval_seconds":10.0,)"
            R"("timeout_seconds":20.0,"consecutive_failures":3,"grace_period_seconds":10.0})");
}

TEST(WireProto, NegativeNumbers) {
  const auto read = codec().from_json(R"({"type":"FAILURE","failure":{"status":-9}})", "gantry.fb.Event");
  ASSERT_TRUE(read);
  const std::string proto = codec().to_protobuf(*read, "gantry.fb.Event");
  const auto again = codec().from_protobuf(as_bytes(proto), "gantry.fb.Event");
  ASSERT_TRUE(again);
  EXPECT_EQ(view<fb::Event>(*again)->failure()->status(), -9);
}

// ---- strict out

TEST(WireOut, WhatTheKernelBuildsIsComplete) {
  // The object API leaves out what equals its default; required fields are on the wire nevertheless, defaults in JSON.
  fb::EventT event;
  event.type = fb::EventType::OFFERS;
  event.offers = std::make_unique<fb::OffersT>();
  auto offer = std::make_unique<fb::OfferT>();
  offer->id = "o";
  offer->framework_id = "f";
  offer->agent_id = "s";
  offer->hostname = "h";
  auto cpus = std::make_unique<fb::ResourceT>();
  cpus->name = "cpus";
  cpus->scalar = 0.1 + 0.2;
  cpus->revocable = true;
  cpus->allocation_role = "*";
  offer->resources.push_back(std::move(cpus));
  event.offers->offers.push_back(std::move(offer));
  const Buffer bytes = pack(event);
  const std::string json = codec().to_json(bytes, "gantry.fb.Event");
  EXPECT_EQ(
      json,
      R"({"type":"OFFERS","offers":{"offers":[{"id":{"value":"o"},"framework_id":{"value":"f"},"agent_id":{"value":"s"},)"
      R"("hostname":"h","resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":0.30000000000000004},"revocable":{},)"
      R"("allocation_info":{"role":"*"}}]}]}})");
  const std::string proto = codec().to_protobuf(bytes, "gantry.fb.Event");
  const auto again = codec().from_protobuf(as_bytes(proto), "gantry.fb.Event");
  ASSERT_TRUE(again);
  EXPECT_EQ(codec().to_json(*again, "gantry.fb.Event"), json);

  fb::master::TaskUpdatedT updated;
  updated.framework_id = "f";
  updated.status = std::make_unique<fb::TaskStatusT>();
  updated.status->task_id = "t";
  EXPECT_EQ(
      codec().to_json(pack(updated), "gantry.fb.master.TaskUpdated"),
      R"({"framework_id":{"value":"f"},"status":{"task_id":{"value":"t"},"state":"TASK_STARTING"},"state":"TASK_STARTING"})");
}

TEST(WireOut, PrivateFieldsStay) {
  fb::AgentInfoT agent;
  agent.hostname = "h";
  agent.address = "10.0.0.1:5051";
  agent.version = "1";
  EXPECT_EQ(codec().to_json(pack(agent), "gantry.fb.AgentInfo"), R"({"hostname":"h","port":5051})");
}

TEST(WireOut, EmptyThings) {
  EXPECT_EQ(through(R"({"type":"REVIVE","revive":{"roles":[]}})"), R"({"type":"REVIVE","revive":{}})");
  EXPECT_EQ(through(R"({"get_tasks":{}})", "gantry.fb.master.Response"),
            R"({"get_tasks":{"tasks":[],"completed_tasks":[],"unreachable_tasks":[]}})");
  const char* const labels =
      R"({"subscribe":{"framework_info":{"user":"u","name":"n","failover_timeout":0.0,"checkpoint":false,"labels":{}}}})";
  EXPECT_EQ(through(labels), labels);
}

TEST(WireOut, Numbers) {
  const auto text = [](double d) {
    std::string out;
    append_double(out, d);
    return out;
  };
  EXPECT_EQ(text(0), "0.0");
  EXPECT_EQ(text(-0.0), "-0.0");
  EXPECT_EQ(text(4), "4.0");
  EXPECT_EQ(text(0.1), "0.1");
  EXPECT_EQ(text(-1.25), "-1.25");
  EXPECT_EQ(text(0.001), "0.001");
  EXPECT_EQ(text(31000.5), "31000.5");
  EXPECT_EQ(text(1795361295.9338303), "1795361295.9338303");
  EXPECT_EQ(text(1e20), "100000000000000000000.0");
  EXPECT_EQ(text(1e21), "1e21");
  EXPECT_EQ(text(1.5e-7), "1.5e-7");
  EXPECT_EQ(text(1e-300), "1e-300");
  EXPECT_EQ(text(std::numeric_limits<double>::infinity()), "\"Infinity\"");
}

TEST(WireOut, OneLineAndValidText) {
  std::string out;
  append_string(out, "a/b\r\n\x7f\xFF\xC3(\xED\xA0\x80");
  EXPECT_EQ(out, "\"a/b\\r\\n\x7f\xEF\xBF\xBD\xEF\xBF\xBD(\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\"");
}

// ---- how tables lie

// An ACCEPT with these tasks.
std::string launch(const std::vector<std::string>& tasks) {
  std::string all;
  for (const auto& t : tasks) all += (all.empty() ? "{" : ",{") + t + "}";
  return R"({"type":"ACCEPT","accept":{"operations":[{"type":"LAUNCH","launch":{"task_infos":[)" + all + "]}}]}}";
}
// How many vtables the tasks have between them.
std::size_t layouts(const Buffer& message) {
  std::set<const void*> out;
  for (const auto* t : *view<fb::Call>(message)->accept()->operations()->Get(0)->launch()->task_infos())
    out.insert(reinterpret_cast<const flatbuffers::Table*>(t)->GetVTable());
  return out.size();
}

TEST(WireTables, ClientsMayOrderFieldsAsTheyLike) {
  std::vector<std::string> fields = {R"("name":"n")",
                                     R"("task_id":{"value":"t"})",
                                     R"("agent_id":{"value":"a"})",
                                     R"("resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":1}}])",
                                     R"("command":{"value":"x"})",
                                     R"("data":"AAAA")",
                                     R"("labels":{"labels":[{"key":"k","value":"v"}]})"};
  const auto joined = [&] {
    std::string out;
    for (const auto& f : fields) out += (out.empty() ? "" : ",") + f;
    return out;
  };
  const std::string plain = joined();
  std::sort(fields.begin(), fields.end());
  std::vector<std::string> every;
  do every.push_back(joined());
  while (std::next_permutation(fields.begin(), fields.end()));
  ASSERT_EQ(every.size(), 5040U);
  const std::string expected = through(launch(std::vector<std::string>(every.size(), plain)));
  for (int round = 0; round < 2; ++round) {  // the reader is used again
    const auto read = codec().from_json(launch(every), call);
    ASSERT_TRUE(read) << read.error().message;
    EXPECT_TRUE(valid(*read, call));
    EXPECT_EQ(layouts(*read), every.size());
    EXPECT_TRUE(codec().to_json(*read, call) == expected);
    const auto again = codec().from_protobuf(as_bytes(codec().to_protobuf(*read, call)), call);
    ASSERT_TRUE(again);
    EXPECT_TRUE(valid(*again, call));
    EXPECT_TRUE(codec().to_json(*again, call) == expected);
    EXPECT_EQ(layouts(*again), 1U) << "one order, one layout";
  }
}

// ---- RecordIO

TEST(RecordIo, HoweverItIsCut) {
  const std::string stream = record("one") + record("") + record(std::string(300, 'x')) + record("\n3\nabc");
  for (std::size_t step = 1; step <= stream.size(); ++step) {
    RecordReader reader;
    std::vector<std::string> got;
    for (std::size_t at = 0; at < stream.size(); at += step)
      ASSERT_TRUE(reader.feed(as_bytes(std::string_view(stream).substr(at, step)),
                              [&](Bytes b) { got.emplace_back(b.begin(), b.end()); }));
    ASSERT_EQ(got.size(), 4U);
    EXPECT_EQ(got[0], "one");
    EXPECT_EQ(got[1], "");
    EXPECT_EQ(got[2], std::string(300, 'x'));
    EXPECT_EQ(got[3], "\n3\nabc");
    EXPECT_TRUE(reader.complete());
  }
}

TEST(RecordIo, RefusesWhatIsNoLengthAndWhatIsTooLong) {
  const auto none = [](Bytes) {};
  for (const char* bad : {"x", "\n", "1x", "-1\n", " 1\n"}) {
    RecordReader reader;
    const auto s = reader.feed(as_bytes(bad), none);
    ASSERT_FALSE(s) << bad;
    EXPECT_EQ(s.error().code, Code::invalid_argument);
    EXPECT_FALSE(reader.feed(as_bytes("1\na"), none));
    EXPECT_FALSE(reader.complete());
  }
  RecordReader small(10);
  EXPECT_TRUE(small.feed(as_bytes("10\n0123456789"), none));
  const auto s = small.feed(as_bytes("11\n"), none);
  ASSERT_FALSE(s);
  EXPECT_EQ(s.error().code, Code::resource_exhausted);
  RecordReader huge;
  EXPECT_FALSE(huge.feed(as_bytes("99999999999999999999999"), none));
}

}  // namespace
}  // namespace gantry::gateway_mesos::wire
