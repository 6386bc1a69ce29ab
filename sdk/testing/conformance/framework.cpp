// Conformance of kind `framework`. Contract: sdk/docs/framework.md. The master is FakeCluster (services.hpp).
#include "support.hpp"

#include <gantry/framework_generated.h>

namespace gantry::conformance {
namespace {

constexpr auto kCluster = fb::host::Service::CLUSTER;

struct Master {
  Subject& subject;
  Check& check;

  Master(Subject& s, Check& c) : subject(s), check(c) {
    check.require(check.that(s.declared().uses("cluster"), "the manifest does not list \"cluster\" in `services`"));
  }
  void subscribed() {
    check.require(check.ok(subject.up(), "configure and start"));
    check.require(check.that(subject.wait_until([&] { return subject.cluster.subscribed(); }, 10s), "no SUBSCRIBE within 10 s of START"));
  }
  [[nodiscard]] static std::string id_of(const fb::CallT& c) {
    if (!c.framework_id.empty()) return c.framework_id;
    return c.subscribe && c.subscribe->framework_info ? c.subscribe->framework_info->id : std::string();
  }
  static fb::EventT update(const std::string& task, std::uint8_t uuid, fb::TaskState state = fb::TaskState::TASK_RUNNING) {
    fb::EventT e;
    e.type = fb::EventType::UPDATE;
    e.update = std::make_unique<fb::UpdateT>();
    e.update->status = std::make_unique<fb::TaskStatusT>();
    auto& s = *e.update->status;
    s.task_id = task;
    s.agent_id = "conformance-agent-1";
    s.state = state;
    s.source = fb::Source::SOURCE_EXECUTOR;
    s.timestamp = 1.7e9;
    if (uuid) s.uuid.assign(16, uuid);
    return e;
  }
  static fb::EventT offer(const std::string& id) {
    fb::EventT e;
    e.type = fb::EventType::OFFERS;
    e.offers = std::make_unique<fb::OffersT>();
    auto o = std::make_unique<fb::OfferT>();
    o->id = id;
    o->framework_id = "conformance-0001";
    o->agent_id = "conformance-agent-1";
    o->hostname = "localhost";
    o->allocation_role = "*";
    for (const auto& [name, value] : {std::pair{"cpus", 4.0}, {"mem", 4096.0}}) {
      auto r = std::make_unique<fb::ResourceT>();
      r->name = name;
      r->type = fb::ValueType::SCALAR;
      r->scalar = value;
      r->allocation_role = "*";
      o->resources.push_back(std::move(r));
    }
    e.offers->offers.push_back(std::move(o));
    return e;
  }
  [[nodiscard]] std::size_t acknowledgements(std::uint8_t uuid) const {
    std::size_t n = 0;
    for (const auto* c : subject.cluster.of(fb::CallType::ACKNOWLEDGE))
      if (c->acknowledge && c->acknowledge->uuid == std::vector<std::uint8_t>(16, uuid)) ++n;
    return n;
  }
  bool acknowledged(std::uint8_t uuid, std::size_t times = 1) {
    return subject.wait_until([&] { return acknowledgements(uuid) >= times; }, 5s);
  }
  [[nodiscard]] std::size_t answers(const std::string& offer) const {
    std::size_t n = 0;
    for (const auto& c : subject.cluster.calls) {
      const auto* ids = c.accept ? &c.accept->offer_ids : c.decline ? &c.decline->offer_ids : nullptr;
      if (ids) n += static_cast<std::size_t>(std::count(ids->begin(), ids->end(), offer));
    }
    return n;
  }
  // SUBSCRIBE requests so far, also those that were refused.
  [[nodiscard]] std::vector<Asked> attempts() const {
    std::vector<Asked> out;
    for (const auto& a : subject.asked())
      if (a.service == kCluster && a.method == static_cast<std::uint32_t>(fb::host::ClusterMethod::SUBSCRIBE)) out.push_back(a);
    return out;
  }
  void works_still(std::uint8_t uuid) {
    subject.cluster.event(update("conformance-task-after", uuid));
    check.that(acknowledged(uuid), "an ordinary update after that is not acknowledged");
  }
};

}  // namespace

GANTRY_CONFORMANCE(framework, subscribes, "the framework subscribes after START, with a name and without an id",
                   "send SUBSCRIBE through the host service CLUSTER in start(); the master gives the id") {
  Master master(subject, check);
  master.subscribed();
  const auto& call = subject.cluster.subscribes.at(0);
  check.require(check.that(call.subscribe && call.subscribe->framework_info, "SUBSCRIBE has no framework_info"));
  check.that(!call.subscribe->framework_info->name.empty(), "framework_info has no name");
  check.equal(Master::id_of(call), std::string(), "id in the first SUBSCRIBE");
}

GANTRY_CONFORMANCE(framework, waits_for_subscribed, "nothing is called before SUBSCRIBED has come", "keep calls until you have your framework id") {
  Master master(subject, check);
  std::vector<Asked> held;
  std::size_t calls = 0;
  subject.serve(kCluster, [&](Asked a) {
    if (a.method == static_cast<std::uint32_t>(fb::host::ClusterMethod::SUBSCRIBE)) return held.push_back(a);
    ++calls;
    a.fail(fail(Code::failed_precondition, "not subscribed"));
  });
  check.require(check.ok(subject.up(), "configure and start while the master does not answer"));
  subject.wait_until([&] { return !held.empty(); }, 10s);
  subject.pass(100ms);
  check.require(check.that(!held.empty(), "no SUBSCRIBE"));
  check.equal(calls, std::size_t{0}, "calls before SUBSCRIBED");
}

GANTRY_CONFORMANCE(framework, acknowledges_once, "an update with a uuid is acknowledged, once, with its own words",
                   "send ACKNOWLEDGE with agent, task and uuid of the update, once, also for tasks you do not know") {
  Master master(subject, check);
  master.subscribed();
  for (std::uint8_t i = 1; i <= 20; ++i)
    subject.cluster.event(Master::update("conformance-task-" + std::to_string(i), i, i % 2 ? fb::TaskState::TASK_RUNNING : fb::TaskState::TASK_FINISHED));
  for (std::uint8_t i = 1; i <= 20; ++i)
    check.require(check.that(master.acknowledged(i), "update " + std::to_string(i) + " of 20 is not acknowledged after 5 s"));
  subject.pass(50ms);
  for (std::uint8_t i = 1; i <= 20; ++i) check.equal(master.acknowledgements(i), std::size_t{1}, "acknowledgements of one update");
  for (const auto* c : subject.cluster.of(fb::CallType::ACKNOWLEDGE)) {
    check.equal(c->framework_id, subject.cluster.framework_id, "framework_id of an ACKNOWLEDGE");
    if (!c->acknowledge || c->acknowledge->uuid.empty()) continue;
    check.equal(c->acknowledge->agent_id, std::string("conformance-agent-1"), "agent of an ACKNOWLEDGE");
    check.equal(c->acknowledge->task_id, "conformance-task-" + std::to_string(c->acknowledge->uuid[0]), "task of an ACKNOWLEDGE");
  }
}

GANTRY_CONFORMANCE(framework, acknowledges_repeats, "an update that comes again is acknowledged again",
                   "acknowledge each time: the agent repeats it because your first acknowledgement was lost") {
  Master master(subject, check);
  master.subscribed();
  for (std::size_t n = 1; n <= 3; ++n) {
    subject.cluster.event(Master::update("conformance-task", 7));
    check.require(check.that(master.acknowledged(7, n), "the update is not acknowledged when it comes for the " + std::to_string(n) + ". time"));
  }
  subject.pass(50ms);
  check.equal(master.acknowledgements(7), std::size_t{3}, "acknowledgements of an update that came three times");
}

GANTRY_CONFORMANCE(framework, no_uuid_no_acknowledgement, "an update without a uuid is not acknowledged",
                   "skip the acknowledgement when uuid is empty: such an update is the master's own and nobody waits") {
  Master master(subject, check);
  master.subscribed();
  subject.cluster.event(Master::update("conformance-task", 0));
  master.works_still(9);
  for (const auto* c : subject.cluster.of(fb::CallType::ACKNOWLEDGE))
    check.that(c->acknowledge && !c->acknowledge->uuid.empty(), "an update without uuid was acknowledged");
}

GANTRY_CONFORMANCE(framework, answers_offers, "every offer is accepted or declined, once", "decline what you do not need; an offer you keep is lost to all others") {
  Master master(subject, check);
  master.subscribed();
  for (int i = 0; i < 10; ++i) subject.cluster.event(Master::offer("conformance-offer-" + std::to_string(i)));
  for (int i = 0; i < 10; ++i) {
    const std::string id = "conformance-offer-" + std::to_string(i);
    check.require(check.that(subject.wait_until([&] { return master.answers(id) > 0; }, 5s), "offer " + std::to_string(i) + " is unanswered after 5 s"));
  }
  subject.pass(50ms);
  for (int i = 0; i < 10; ++i)
    check.equal(master.answers("conformance-offer-" + std::to_string(i)), std::size_t{1}, "answers to one offer");
}

GANTRY_CONFORMANCE(framework, resubscribes_with_its_id, "when the stream ends the framework subscribes again under its id",
                   "put the id of SUBSCRIBED into framework_id and framework_info.id of every later SUBSCRIBE; without it your tasks are lost") {
  Master master(subject, check);
  master.subscribed();
  const std::string id = subject.cluster.framework_id;
  for (std::size_t turn = 1; turn <= 2; ++turn) {
    subject.cluster.end(Code::unavailable);
    check.require(check.that(subject.wait_until([&] { return subject.cluster.subscribes.size() > turn; }, 10s),
                             "no SUBSCRIBE within 10 s after the master stepped down"));
    const auto& call = subject.cluster.subscribes.back();
    check.equal(call.framework_id, id, "framework_id when subscribing again");
    check.equal(call.subscribe && call.subscribe->framework_info ? call.subscribe->framework_info->id : std::string(), id,
                "framework_info.id when subscribing again");
  }
  master.works_still(11);
}

GANTRY_CONFORMANCE(framework, backs_off, "while no master leads the framework tries again, but not in a loop",
                   "wait between attempts, longer each time, up to some seconds") {
  Master master(subject, check);
  master.subscribed();
  subject.cluster.accept = false;
  subject.cluster.end(Code::unavailable);
  const std::size_t before = master.attempts().size();
  subject.pass(1500ms);
  const std::size_t tries = master.attempts().size() - before;
  check.that(tries <= 30, std::to_string(tries) + " attempts in 1.5 s");
  subject.cluster.accept = true;
  check.that(subject.wait_until([&] { return subject.cluster.subscribed(); }, 15s), "no SUBSCRIBE within 15 s after a master leads again");
}

GANTRY_CONFORMANCE(framework, removed_begins_anew, "a framework that was removed does not come back under its old id",
                   "forget the id when the stream ends with OK: the master refuses it, and its tasks are gone") {
  Master master(subject, check);
  master.subscribed();
  subject.cluster.framework_id = "conformance-0002";
  subject.cluster.end(Code::ok);
  check.require(check.that(subject.wait_until([&] { return subject.cluster.subscribes.size() > 1; }, 10s), "no SUBSCRIBE within 10 s after the removal"));
  check.equal(Master::id_of(subject.cluster.subscribes.back()), std::string(), "id in SUBSCRIBE after the removal");
}

GANTRY_CONFORMANCE(framework, odd_events, "malformed, empty and unknown events do no harm", "verify each event, ignore what you do not know or cannot read") {
  Master master(subject, check);
  master.subscribed();
  const Asked stream = master.attempts().back();
  const std::vector<std::uint8_t> noise(40, 0xa5);
  stream.reply(GANTRY_MORE, noise);
  stream.reply(GANTRY_MORE, {});
  for (int type = 0; type < 100; type += type < 9 ? 1 : 30) {
    fb::EventT e;
    e.type = static_cast<fb::EventType>(type);
    if (e.type == fb::EventType::SUBSCRIBED) continue;
    subject.cluster.event(e);  // without the table it should have
  }
  fb::EventT update;
  update.type = fb::EventType::UPDATE;
  update.update = std::make_unique<fb::UpdateT>();
  subject.cluster.event(update);
  update.update->status = std::make_unique<fb::TaskStatusT>();
  subject.cluster.event(update);
  fb::EventT rescind;
  rescind.type = fb::EventType::RESCIND;
  rescind.rescind = std::make_unique<fb::RescindT>();
  rescind.rescind->offer_id = "never-offered";
  subject.cluster.event(rescind);
  fb::EventT error;
  error.type = fb::EventType::ERROR;
  error.error = std::make_unique<fb::FrameworkErrorT>();
  error.error->message = "conformance";
  subject.cluster.event(error);
  fb::EventT offers;
  offers.type = fb::EventType::OFFERS;
  offers.offers = std::make_unique<fb::OffersT>();
  offers.offers->offers.push_back(std::make_unique<fb::OfferT>());
  subject.cluster.event(offers);
  master.works_still(13);
}

GANTRY_CONFORMANCE(framework, refused_calls, "a refused CALL is survived", "count what you asked for as not done, and go on") {
  Master master(subject, check);
  const auto refuse = std::make_shared<bool>(true);  // STOP still asks when this function has returned
  subject.serve(kCluster, [&subject, refuse](Asked a) {
    if (*refuse && a.method == static_cast<std::uint32_t>(fb::host::ClusterMethod::CALL))
      return a.fail(fail(Code::invalid_argument, "refused by the conformance suite"));
    subject.cluster.serve(a);
  });
  master.subscribed();
  subject.cluster.event(Master::offer("conformance-offer"));
  subject.cluster.event(Master::update("conformance-task", 3));
  subject.pass(50ms);
  *refuse = false;
  master.works_still(15);
}

GANTRY_CONFORMANCE(framework, stop_leaves_tasks, "STOP ends the subscription and tears nothing down",
                   "cancel the SUBSCRIBE request and send no TEARDOWN: the tasks run on until the next instance takes over") {
  Master master(subject, check);
  master.subscribed();
  const Asked stream = master.attempts().back();
  check.require(check.ok(subject.down(), "STOP"));
  check.that(stream.cancelled() || stream.done(), "the subscription is still open after STOP");
  check.equal(subject.cluster.of(fb::CallType::TEARDOWN).size(), std::size_t{0}, "TEARDOWN calls");
  check.equal(subject.cluster.of(fb::CallType::KILL).size(), std::size_t{0}, "KILL calls");
}

GANTRY_CONFORMANCE(framework, remembers_its_id, "a new instance subscribes under the id of the old one",
                   "store the framework id through the host service STORE when SUBSCRIBED comes, and read it in start()") {
  Master master(subject, check);
  check.needs(subject.declared().uses("store"), "the manifest does not list \"store\": this framework remembers nothing");
  master.subscribed();
  const std::string id = subject.cluster.framework_id;
  subject.wait_until([&] { return subject.store.commits > 0; }, 2s);
  subject.pass(20ms);
  check.require(check.ok(subject.restart(), "restart"));
  check.require(check.that(subject.wait_until([&] { return subject.cluster.subscribes.size() > 1; }, 10s), "no SUBSCRIBE after a restart"));
  check.equal(Master::id_of(subject.cluster.subscribes.back()), id, "id in SUBSCRIBE after a restart");
  subject.kill();
  check.require(check.ok(subject.up(), "start after a crash"));
  check.require(check.that(subject.wait_until([&] { return subject.cluster.subscribes.size() > 2; }, 10s), "no SUBSCRIBE after a crash"));
  check.equal(Master::id_of(subject.cluster.subscribes.back()), id, "id in SUBSCRIBE after a crash");
}

}  // namespace gantry::conformance
