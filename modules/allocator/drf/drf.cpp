#include "drf.hpp"

namespace gantry::allocator_drf {

Task<Status> Drf::configure(Settings settings) {
  GANTRY_CO_TRY(MinAllocatable minimum, parse_min_allocatable(settings.text("min_allocatable")));
  engine_.set_min_allocatable(std::move(minimum));
  engine_.set_fairness_exclude(settings.list("fairness_exclude"));
  if (!settings.reload()) {
    rounds_ = host().metric("allocator/rounds", fb::MetricKind::COUNTER, "", "allocation rounds run");
    grants_ = host().metric("allocator/grants", fb::MetricKind::COUNTER, "", "bundles granted to frameworks");
  }
  co_return ok;
}

Task<Result<Buffer>> Drf::allocate(Request<fb::allocator::Deltas> deltas) {
  GANTRY_CO_CHECK(engine_.apply(*deltas));
  const Engine::Round& round = engine_.round();
  rounds_.add();
  if (!round.grants.empty()) grants_.add(static_cast<double>(round.grants.size()));
  flatbuffers::FlatBufferBuilder fbb(64 + round.grants.size() * sizeof(fb::allocator::Grant) + round.parts.size() * sizeof(fb::allocator::Quantity));
  const auto grants = fbb.CreateVectorOfStructs(round.grants);
  const auto parts = round.parts.empty() ? 0 : fbb.CreateVectorOfStructs(round.parts);
  fbb.Finish(fb::allocator::CreateRound(fbb, grants, parts, round.wake_ns));
  co_return Buffer(fbb.Release());
}

}  // namespace gantry::allocator_drf
