// Whatever a framework may send over HTTP, against the master's mind: lines of JSON or protobuf go through the codec, the validator
// and the rewriting of old resources as in gateway/mesos, and what passes is applied to a core with an agent, frameworks and
// offers, whose books are checked after each step. "{F}", "{A}", "{O}" in JSON stand for a framework, an agent and an offer
// that exist.
#include "resources.hpp"
#include "tests/fuzz/program.hpp"
#include "tests/kernel/master/driver.hpp"
#include "validate.hpp"
#include "wire/codec.hpp"

using namespace gantry;
using namespace gantry::master;

namespace {

void replace(std::string& text, std::string_view what, const std::string& with) {
  for (auto at = text.find(what); at != std::string::npos; at = text.find(what, at + with.size())) text.replace(at, what.size(), with);
}

void one(Cluster& c, std::vector<StreamId>& streams, std::string_view line) {
  if (line.empty()) return;
  const auto& codec = gateway_mesos::wire::Codec::get();
  const StreamId stream = streams[static_cast<unsigned char>(line.front()) / 2 % streams.size()];
  const bool json = line.front() % 2;
  std::string text(line.substr(1));
  if (json) {
    const auto offers = c.offers(stream);
    replace(text, "{F}", c.id_of(stream));
    replace(text, "{A}", c.registered_as(1));
    replace(text, "{O}", offers.empty() ? "gone" : offers.front().id);
  }
  auto body = json ? codec.from_json(text, "gantry.fb.Call")
                   : codec.from_protobuf({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()}, "gantry.fb.Call");
  if (!body) return;
  const auto* call = flatbuffers::GetRoot<fb::Call>(body->data());
  if (gateway_mesos::invalid(*call, {})) return;
  if (call->type() == fb::CallType::SUBSCRIBE) {
    c.apply(Subscribe{streams.back() + 1, Bytes(*body)});
    streams.push_back(streams.back() + 1);
    return;
  }
  if (call->type() == fb::CallType::ACCEPT && gateway_mesos::needs_upgrade(*call->accept())) {
    auto changed = unpack<fb::Call>(Bytes(*body));
    if (!changed) std::abort();
    gateway_mesos::upgrade(*changed->accept);
    *body = pack(*changed);
  }
  c.apply(FrameworkCall{++c.last_request, Bytes(*body)});
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  ::testing::FLAGS_gtest_break_on_failure = true;
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Cluster c;
  c.agent(1, fb::link::HelloT{});
  c.agent(1, Cluster::registration("cpus:4;mem:4096;disk:4096;ports:[1-9]"));
  std::vector<StreamId> streams;
  streams.push_back(c.subscribe(Cluster::info("", 0, true)));
  c.advance(std::chrono::seconds(1));
  std::string_view input(reinterpret_cast<const char*>(data), size);
  for (int lines = 0; !input.empty() && lines < 20; ++lines) {
    const auto end = std::min(input.find('\n'), input.size());
    one(c, streams, input.substr(0, end));
    input.remove_prefix(std::min(end + 1, input.size()));
  }
  c.advance(std::chrono::seconds(10));
  return 0;
}
