#include "wire/codec.hpp"

#include <gantry/framework_generated.h>

#include <gtest/gtest.h>

namespace gantry::gateway_mesos::wire {
namespace {

const Codec& codec() { return Codec::get(); }

TEST(Wire, CallRoundTrip) {
  const std::string text =
      R"({"framework_id":{"value":"f"},"type":"ACCEPT","accept":{"offer_ids":[{"value":"o1"},{"value":"o2"}],"operations":[{"type":"LAUNCH","launch":{"task_infos":[{"name":"a/b","task_id":{"value":"t"},"agent_id":{"value":"s"},"resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":0.1}},{"name":"ports","type":"RANGES","ranges":{"range":[{"begin":31000,"end":31001}]}}]}]}}],"filters":{"refuse_seconds":5.0}}})";
  const auto read = codec().from_json(text, "gantry.fb.Call");
  ASSERT_TRUE(read) << read.error().message;
  ASSERT_NE(view<fb::Call>(*read), nullptr);
  EXPECT_EQ(codec().to_json(*read, "gantry.fb.Call"), text);
  const std::string proto = codec().to_protobuf(*read, "gantry.fb.Call");
  const auto again = codec().from_protobuf(as_bytes(proto), "gantry.fb.Call");
  ASSERT_TRUE(again) << again.error().message;
  ASSERT_NE(view<fb::Call>(*again), nullptr);
  EXPECT_EQ(codec().to_json(*again, "gantry.fb.Call"), text);
}

}  // namespace
}  // namespace gantry::gateway_mesos::wire
