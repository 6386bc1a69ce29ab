#include "wrap.hpp"

#include <gtest/gtest.h>
#include <zlib.h>

namespace gantry::gateway_mesos {
namespace {

std::string unpacked(const std::string& in) {
  z_stream z{};
  EXPECT_EQ(inflateInit2(&z, 15 + 16), Z_OK);
  std::string out(1 << 20, '\0');
  z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(in.data()));
  z.avail_in = static_cast<uInt>(in.size());
  z.next_out = reinterpret_cast<Bytef*>(out.data());
  z.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(inflate(&z, Z_FINISH), Z_STREAM_END);
  out.resize(z.total_out);
  inflateEnd(&z);
  return out;
}

TEST(Wrap, AsItIsWhereNothingIsAsked) {
  const Wrapped w = wrap("{}", kJson, {});
  EXPECT_EQ(w.body, "{}");
  EXPECT_EQ(w.type, kJson);
  EXPECT_FALSE(w.zipped);
}

TEST(Wrap, CallbacksAreOfJsonAlone) {
  EXPECT_EQ(wrap("{}", kJson, {"cb", false}).body, "cb({});");
  EXPECT_EQ(wrap("{}", kJson, {"cb", false}).type, "text/javascript");
  EXPECT_EQ(wrap("x", kProtobuf, {"cb", false}).body, "x");
  EXPECT_EQ(wrap("x", kProtobuf, {"cb", false}).type, kProtobuf);
}

TEST(Wrap, PacksWhatIsWorthIt) {
  EXPECT_FALSE(wrap(std::string(1023, 'x'), kJson, {"", true}).zipped);
  const Wrapped w = wrap(std::string(100000, 'x'), kJson, {"cb", true});
  EXPECT_TRUE(w.zipped);
  EXPECT_LT(w.body.size(), 10000u);
  EXPECT_EQ(unpacked(w.body), "cb(" + std::string(100000, 'x') + ");");
}

}  // namespace
}  // namespace gantry::gateway_mesos
