// A framework: subscribes, launches one task on its first offer, declines all others, acknowledges updates.
#include <gantry/framework.hpp>

namespace {

using namespace gantry;

class Golden final : public Framework {
 public:
  Task<Status> start() override {
    fb::FrameworkInfoT info;
    info.name = "golden";
    info.user = "nobody";
    info.roles = {"golden"};
    subscription_ = subscribe(std::move(info), [this](gantry_code code, Bytes b) { heard(code, b); });
    co_return ok;
  }
  Task<Status> stop() override {
    host().cancel_request(subscription_);
    co_return ok;
  }
  Task<Result<fb::HealthT>> health() override {
    fb::HealthT h;
    h.state = id_.empty() ? fb::HealthState::DEGRADED : fb::HealthState::OK;
    h.message = last_;
    co_return h;
  }

 private:
  void heard(gantry_code code, Bytes b) {
    if (code != GANTRY_MORE) {
      last_ = "subscription ended: " + unpack_error(code, b).message;
      return;
    }
    const auto* e = view<fb::Event>(b);
    if (!e) return;
    if (e->type() == fb::EventType::SUBSCRIBED && e->subscribed()) id_ = text(e->subscribed()->framework_id());
    if (e->type() == fb::EventType::OFFERS && e->offers() && e->offers()->offers())
      for (const auto* offer : *e->offers()->offers()) answer(*offer);
    if (e->type() == fb::EventType::UPDATE && e->update() && e->update()->status()) {
      const auto* status = e->update()->status();
      last_ = std::string(text(status->task_id())) + " " + fb::EnumNameTaskState(status->state());
      if (!status->uuid()) return;
      fb::CallT c = call_of(fb::CallType::ACKNOWLEDGE);
      c.acknowledge = std::make_unique<fb::AcknowledgeT>();
      c.acknowledge->task_id = text(status->task_id());
      c.acknowledge->agent_id = text(status->agent_id());
      c.acknowledge->uuid.assign(status->uuid()->begin(), status->uuid()->end());
      say(std::move(c));
    }
  }
  void answer(const fb::Offer& offer) {
    fb::CallT c = call_of(launched_ ? fb::CallType::DECLINE : fb::CallType::ACCEPT);
    if (launched_) {
      c.decline = std::make_unique<fb::DeclineT>();
      c.decline->offer_ids.emplace_back(text(offer.id()));
    } else {
      launched_ = true;
      c.accept = std::make_unique<fb::AcceptT>();
      c.accept->offer_ids.emplace_back(text(offer.id()));
      auto task = std::make_unique<fb::TaskInfoT>();
      task->name = "golden";
      task->task_id = "golden-1";
      task->agent_id = text(offer.agent_id());
      if (offer.resources())
        for (const auto* r : *offer.resources()) task->resources.emplace_back(r->UnPack());
      task->command = std::make_unique<fb::CommandInfoT>();
      task->command->value = "true";
      auto launch = std::make_unique<fb::OperationT>();
      launch->type = fb::OperationType::LAUNCH;
      launch->launch = std::make_unique<fb::LaunchT>();
      launch->launch->task_infos.push_back(std::move(task));
      c.accept->operations.push_back(std::move(launch));
    }
    say(std::move(c));
  }
  fb::CallT call_of(fb::CallType type) const {
    fb::CallT c;
    c.type = type;
    c.framework_id = id_;
    return c;
  }
  void say(fb::CallT c) {
    [](Golden* self, fb::CallT what) -> detail::Detached {
      const Result<Buffer> r = co_await self->call(std::move(what));
      if (!r.has_value()) self->last_ = r.error().message;
    }(this, std::move(c));
  }
  std::string id_, last_;
  std::uint64_t subscription_ = 0;
  bool launched_ = false;
};

}  // namespace

GANTRY_MODULE(Golden, "golden")
