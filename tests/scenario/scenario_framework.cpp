#include "tests/scenario/scenario_framework.hpp"

#include "kernel/resource/wire.hpp"

namespace gantry::scenario {

using namespace std::chrono_literals;

std::string Heard::text() const {
  char time[32];
  std::snprintf(time, sizeof time, "%.3f s ", static_cast<double>(at.count()) / 1e9);
  std::string out = time + event;
  if (offer) {
    out += " " + offer->id + " of " + offer->hostname;
    if (const auto r = resource::from_wire(offer->resources)) out += ": " + r->unallocated().text();
  }
  if (!offer && !offer_id.empty()) out += " " + offer_id;
  if (status) {
    out += " of " + status->task_id + ": " + fb::EnumNameTaskState(status->state);
    if (status->reason) out += std::string(" ") + fb::EnumNameReason(*status->reason);
    if (status->source) out += std::string(" ") + fb::EnumNameSource(*status->source);
    out += status->uuid.empty() ? " without uuid" : " with uuid";
    if (!status->message.empty()) out += " (" + status->message + ")";
  }
  if (!message.empty()) out += " (" + message + ")";
  return out;
}

ScenarioFramework::ScenarioFramework(sim::World& world, FrameworkSpec spec) : world_(world), spec_(std::move(spec)) {}

const fb::OfferT* ScenarioFramework::offer(const std::string& id) const {
  for (const auto& h : heard_)
    if (h.offer && h.offer->id == id) return h.offer.get();
  return nullptr;
}

Heard& ScenarioFramework::note(std::string event) {
  Heard& h = heard_.emplace_back();
  h.event = std::move(event);
  h.at = world_.loop.now();
  return h;
}

void ScenarioFramework::subscribe() {
  wanted_ = true;
  auto* m = world_.master();
  if (!m) {
    world_.loop.after(1s, [this, session = session_] {
      if (wanted_ && session == session_ && !stream_) subscribe();
    });
    return;
  }
  fb::CallT c;
  c.type = fb::CallType::SUBSCRIBE;
  c.framework_id = id_;
  c.subscribe = std::make_unique<fb::SubscribeT>();
  auto info = std::make_unique<fb::FrameworkInfoT>();
  info->name = spec_.name;
  info->user = "nobody";
  info->id = id_;
  info->principal = spec_.name;
  info->failover_timeout = static_cast<double>(spec_.failover_timeout.count()) / 1e9;
  info->checkpoint = spec_.checkpoint;
  info->roles = spec_.roles;
  info->capabilities.push_back(fb::FrameworkCapability::MULTI_ROLE);
  info->capabilities.push_back(fb::FrameworkCapability::RESERVATION_REFINEMENT);
  if (spec_.partition_aware) info->capabilities.push_back(fb::FrameworkCapability::PARTITION_AWARE);
  if (spec_.killing_state) info->capabilities.push_back(fb::FrameworkCapability::TASK_KILLING_STATE);
  c.subscribe->framework_info = std::move(info);
  c.subscribe->suppressed_roles = spec_.suppressed;
  const std::uint64_t session = ++session_;
  held_.clear();
  master::Master::Subscriber s;
  s.on_event = [this, session](const Buffer& b) {
    auto copy = std::make_shared<std::vector<std::uint8_t>>(b.data(), b.data() + b.size());
    world_.loop.post([this, session, copy] { on_event(session, Bytes(*copy)); });
  };
  s.on_end = [this, session](const Error& e) {
    world_.loop.post([this, session, e] {
      note("end").message = e.message;
      if (session != session_) return;
      stream_ = 0;
      held_.clear();
    });
  };
  const Buffer body = pack(c);
  stream_ = m->subscribe(body, std::move(s));
}

void ScenarioFramework::disconnect() {
  wanted_ = false;
  ++session_;
  held_.clear();
  if (auto* m = world_.master(); m && stream_) m->unsubscribe(stream_);
  stream_ = 0;
}

void ScenarioFramework::master_gone() {
  ++session_;
  stream_ = 0;
  held_.clear();
  if (wanted_)
    world_.loop.after(1s, [this, session = session_] {
      if (wanted_ && session == session_) subscribe();
    });
}

void ScenarioFramework::call(fb::CallT c) {
  c.framework_id = id_;
  const Buffer body = pack(c);
  auto copy = std::make_shared<std::vector<std::uint8_t>>(body.data(), body.data() + body.size());
  world_.loop.post([this, copy] {
    if (auto* m = world_.master())
      m->call(Bytes(*copy), [this](Status s) {
        if (!s) note("error").message = s.error().message;
      });
  });
}

void ScenarioFramework::acknowledge(const std::string& task_id) {
  fb::CallT c;
  c.type = fb::CallType::ACKNOWLEDGE;
  c.acknowledge = std::make_unique<fb::AcknowledgeT>();
  c.acknowledge->task_id = task_id;
  c.acknowledge->agent_id = agents_[task_id];
  c.acknowledge->uuid = uuids_[task_id];
  call(std::move(c));
}

void ScenarioFramework::on_event(std::uint64_t session, Bytes bytes) {
  if (session != session_) {
    // The old stream of a framework that failed over: what it hears last is of interest.
    if (const auto* e = view<fb::Event>(bytes); e && e->type() == fb::EventType::ERROR) note("error").message = text(e->error()->message());
    return;
  }
  const auto event = unpack<fb::Event>(bytes);
  if (!event) return world_.violated("framework " + spec_.name + " got a malformed event");
  const auto& e = *event;
  switch (e.type) {
    case fb::EventType::SUBSCRIBED:
      id_ = e.subscribed->framework_id;
      note("subscribed");
      break;
    case fb::EventType::OFFERS:
      for (const auto& o : e.offers->offers) {
        held_[o->id] = heard_.size();
        note("offer").offer = std::make_unique<fb::OfferT>(*o);
      }
      break;
    case fb::EventType::RESCIND:
      note("rescind").offer_id = e.rescind->offer_id;
      held_.erase(e.rescind->offer_id);
      break;
    case fb::EventType::UPDATE: {
      const auto& s = *e.update->status;
      note("update").status = std::make_unique<fb::TaskStatusT>(s);
      if (!s.uuid.empty()) {
        uuids_[s.task_id] = s.uuid;
        agents_[s.task_id] = s.agent_id;
        if (spec_.acknowledge) acknowledge(s.task_id);
      }
      break;
    }
    case fb::EventType::FAILURE: note("failure").agent_id = e.failure->agent_id; break;
    case fb::EventType::ERROR: note("error").message = e.error->message; break;
    default: break;
  }
}

}  // namespace gantry::scenario
