// Every message that comes from outside the kernel - of host services (HTTP among them), of each kind, of links: what verifies
// is unpacked and packed without harm, and verifies again.
#include "tests/fuzz/program.hpp"

#include <gantry/allocator_generated.h>
#include <gantry/authenticator_generated.h>
#include <gantry/control_generated.h>
#include <gantry/election_generated.h>
#include <gantry/fetcher_generated.h>
#include <gantry/framework_generated.h>
#include <gantry/host_generated.h>
#include <gantry/isolator_generated.h>
#include <gantry/link_generated.h>
#include <gantry/record_generated.h>
#include <gantry/store_generated.h>

using namespace gantry;

namespace {

template <class T>
void try_as(Bytes b) {
  const auto t = unpack<T>(b);
  if (!t.has_value()) return;
  const Buffer again = pack(*t);
  fuzz::must_verify<T>(again);
}

using Try = void (*)(Bytes);
constexpr Try all[] = {
    try_as<fb::host::Listen>, try_as<fb::host::Respond>, try_as<fb::host::Watch>, try_as<fb::host::Fetch>, try_as<fb::host::Probe>,
    try_as<fb::host::Request>, try_as<fb::host::Fetched>, try_as<fb::Call>, try_as<fb::Event>, try_as<fb::Error>,
    try_as<fb::Configure>, try_as<fb::Health>, try_as<fb::LogRecord>, try_as<fb::MetricDesc>, try_as<fb::isolator::Prepare>,
    try_as<fb::isolator::Prepared>, try_as<fb::isolator::Usages>, try_as<fb::isolator::Limited>, try_as<fb::isolator::Recovered>,
    try_as<fb::allocator::Deltas>, try_as<fb::allocator::Round>, try_as<fb::authenticator::Credentials>,
    try_as<fb::authenticator::Identity>, try_as<fb::store::Commit>, try_as<fb::store::Committed>, try_as<fb::store::Records>,
    try_as<fb::election::Leadership>, try_as<fb::election::Leader>, try_as<fb::fetcher::Fetch>, try_as<fb::link::ToMaster>,
    try_as<fb::link::ToAgent>, try_as<fb::record::Entry>, try_as<fb::control::Question>,
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  // A copy: messages lie at 8-byte boundaries.
  const std::vector<std::uint8_t> bytes(data + 1, data + size);
  all[data[0] % std::size(all)](bytes);
  return 0;
}
