// The master's mind under agents and frameworks that send anything: the driver of its unit tests carries out its effects and
// checks its books after each step; the first breach ends the run.
#include "tests/fuzz/program.hpp"
#include "tests/kernel/master/driver.hpp"

using namespace gantry;
using namespace gantry::master;

namespace {

void one(fuzz::Program& p, Cluster& c, std::vector<StreamId>& streams) {
  const LinkId link = p.below(4) + 1u;
  const auto frame = [&](auto body) {
    fb::link::ToMasterT m;
    m.body.Set(std::move(body));
    const auto bytes = p.damage(pack(m));
    c.apply(AgentFrame{link, bytes});
  };
  const auto stream = [&]() -> StreamId { return streams.empty() ? 0 : streams[p.byte() % streams.size()]; };
  const auto say = [&](fb::CallT call) {
    const auto bytes = p.damage(pack(call));
    c.apply(FrameworkCall{++c.last_request, bytes});
  };
  switch (p.below(11)) {
    case 0:
      c.dropped.erase(link);
      c.agent(link, fb::link::HelloT{});
      return c.agent(link, Cluster::registration("cpus:4;mem:4096;ports:[1-9]"));
    case 1: {
      auto r = Cluster::registration("cpus:2;mem:64", p.below(2) ? c.registered_as(link) : p.name("a"));
      for (int n = p.below(3); n > 0; --n) {
        auto known = std::make_unique<fb::link::KnownTaskT>();
        known->framework_id = p.name("f");
        known->info = std::make_unique<fb::TaskInfoT>(Cluster::task(p.name("t"), "a", "cpus:1"));
        known->state = static_cast<S>(p.byte());
        known->status_uuid = p.bytes(20);
        r.tasks.push_back(std::move(known));
      }
      return frame(std::move(r));
    }
    case 2: {
      fb::link::StatusUpdateT u;
      u.framework_id = c.id_of(stream());
      u.status = std::make_unique<fb::TaskStatusT>();
      u.status->task_id = p.name("t");
      u.status->agent_id = c.registered_as(link);
      u.status->state = static_cast<S>(p.below(14));
      u.status->uuid = Cluster::uuid(p.byte());
      u.latest_state = static_cast<S>(p.below(14));
      u.terminal = p.below(2);
      return frame(std::move(u));
    }
    case 3: {
      fb::link::PongT pong;
      pong.seq = p.byte();
      return frame(pong);
    }
    case 4: return c.apply(LinkClosed{link});
    case 5: {
      streams.push_back(c.subscribe(Cluster::info(p.below(3) ? "" : c.id_of(stream()), p.byte(), p.below(2))));
      return;
    }
    case 6: {
      const StreamId s = stream();
      const std::string id = c.id_of(s);
      for (auto& o : c.offers(s)) {
        if (p.below(3)) say(Cluster::accept(id, {o.id}, {Cluster::task(p.name("t"), o.agent_id)}, p.byte()));
        else (void)c.decline(id, o.id);
      }
      return;
    }
    case 7: {
      auto call = Cluster::make_call(c.id_of(stream()), static_cast<fb::CallType>(p.below(14)));
      call.kill = std::make_unique<fb::KillT>();
      call.kill->task_id = p.name("t");
      call.reconcile = std::make_unique<fb::ReconcileT>();
      return say(std::move(call));
    }
    case 8: return c.apply(StreamClosed{stream()});
    case 9: return c.advance(std::chrono::milliseconds(1 << p.below(18)));
    default: {
      const auto raw = p.bytes(200);
      return p.below(2) ? c.apply(AgentFrame{link, raw}) : c.apply(FrameworkCall{++c.last_request, raw});
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  ::testing::FLAGS_gtest_break_on_failure = true;
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::Program p(data, size);
  Cluster c;
  std::vector<StreamId> streams;
  for (int steps = 0; !p.done() && steps < 200; ++steps) one(p, c, streams);
  return 0;
}
