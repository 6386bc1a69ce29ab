// The conversation with the master: subscription, reconciliation, offers, launches.
#include <algorithm>

#include "core.hpp"
#include "view.hpp"

namespace gantry::framework_services {

fb::CallT Core::call(fb::CallType type) const {
  fb::CallT c;
  c.framework_id = framework_id_;
  c.type = type;
  return c;
}

Spec* Core::spec_of_instance(const std::string& instance_id) {
  const auto it = specs_.find(app_of_instance(instance_id));
  return it == specs_.end() ? nullptr : &it->second;
}

void Core::subscribed(const std::string& framework_id) {
  if (framework_id_ != framework_id) write("framework", framework_id);
  framework_id_ = framework_id;
  connected_ = true;
  suppressed_ = idle();
  if (!idle()) want_offers();
  for (auto& [id, s] : specs_) {
    for (auto& [iid, i] : s.instances) {
      if (i.condition == Condition::killing) send_kill(i);
    }
  }
  reconcile();
}

// The framework's tasks ended with it: everything is started again under a new id.
void Core::forget_framework() {
  framework_id_.clear();
  connected_ = false;
  write("framework", {});
  for (auto& [id, s] : specs_) {
    std::vector<std::string> all;
    for (const auto& [iid, i] : s.instances) {
      if (i.has_task()) all.push_back(iid);
    }
    for (const auto& iid : all) {
      Instance& i = s.instances.at(iid);
      if (i.doomed)
        remove(s, iid);
      else
        schedule(s, i, false);
      dirty_.insert(id);
    }
  }
}

// Explicit for the tasks we know, in batches; implicit for those we do not.
void Core::reconcile() {
  next_reconcile_ = now_ + options_.reconcile_interval;
  fb::CallT batch = call(fb::CallType::RECONCILE);
  batch.reconcile = std::make_unique<fb::ReconcileT>();
  const auto flush = [&] {
    if (batch.reconcile->tasks.empty()) return;
    out_.calls.push_back(std::move(batch));
    batch = call(fb::CallType::RECONCILE);
    batch.reconcile = std::make_unique<fb::ReconcileT>();
  };
  for (const auto& [id, s] : specs_) {
    for (const auto& [iid, i] : s.instances) {
      if (!i.has_task()) continue;
      auto t = std::make_unique<fb::ReconcileTaskT>();
      t->task_id = i.task_id();
      t->agent_id = i.agent_id;
      batch.reconcile->tasks.push_back(std::move(t));
      if (batch.reconcile->tasks.size() >= 1000) flush();
    }
  }
  flush();
  out_.calls.push_back(std::move(batch));
}

void Core::reject(Spec& s, const fb::OfferT& offer, Reject why) {
  QueueStats& q = s.queue;
  // Every reason up to the one that failed has been looked at.
  for (int r = 0; r <= static_cast<int>(why); ++r) ++q.tried[static_cast<std::size_t>(r)];
  ++q.declined[static_cast<std::size_t>(why)];
  ++q.unused;
  q.last_unused = wall_;
  if (q.last_by_agent.size() < 1000) q.last_by_agent[offer.agent_id] = why;
  if (q.unused_by_agent.size() < 20 || q.unused_by_agent.count(offer.agent_id)) {
    q.unused_by_agent[offer.agent_id] = {
        {"offer", offer_json(offer)},
        {"reason", Array{boost::json::string(kRejectNames[static_cast<std::size_t>(why)])}},
        {"timestamp", format_time(wall_)}};
  }
}

void Core::launch(OfferPool& pool, Spec& s, Instance& i, Match match, fb::LaunchT& launch) {
  if (s.app && s.app->last_config == i.app->last_config) i.app = s.app;
  i.condition = Condition::provisioned;
  i.agent_id = pool.offer.agent_id;
  i.host = pool.offer.hostname;
  i.ports = match.ports;
  i.staged_at = wall_;
  for (const auto& c : i.app->constraints) {
    if (auto v = field_value(pool.offer, c.field)) i.attributes[c.field] = std::move(*v);
  }
  launch.task_infos.push_back(task_info(i, std::move(match), options_.launch, random_()));
  s.waiting.erase(i.id);
  if (s.waiting.empty()) waiting_.erase(i.app->id);
  s.queue.last_used = wall_;
  --tokens_;
  changed_event(i, "Provisioned");
  arm(seconds(300), i.id);
  save(i);
}

void Core::offers(std::vector<std::unique_ptr<fb::OfferT>> offers) {
  fb::CallT decline = call(fb::CallType::DECLINE), brief = call(fb::CallType::DECLINE);
  for (auto* c : {&decline, &brief}) {
    c->decline = std::make_unique<fb::DeclineT>();
    c->decline->filters = std::make_unique<fb::FiltersT>();
  }
  const double refuse = static_cast<double>(options_.decline_time.count()) / 1e9;
  decline.decline->filters->refuse_seconds = refuse;
  brief.decline->filters->refuse_seconds = 1;
  for (auto& offer : offers) {
    if (!offer) continue;
    OfferPool pool{std::move(*offer)};
    auto launches = std::make_unique<fb::LaunchT>();
    const auto limit = static_cast<std::size_t>(options_.max_instances_per_offer);
    // One instance of each waiting application in turn, beginning after the one served last.
    std::vector<std::string> turn(waiting_.upper_bound(cursor_), waiting_.end());
    turn.insert(turn.end(), waiting_.begin(), waiting_.upper_bound(cursor_));
    for (const auto& id : turn) ++specs_.at(id).queue.processed;
    bool more = true;
    while (more && tokens_ > 0 && launches->task_infos.size() < limit) {
      more = false;
      for (auto it = turn.begin(); it != turn.end() && tokens_ > 0 && launches->task_infos.size() < limit;) {
        Spec& s = specs_.at(*it);
        if (s.waiting.empty() || s.delayed_until > now_) {
          it = turn.erase(it);
          continue;
        }
        Instance& i = s.instances.at(*s.waiting.begin());
        std::vector<const Instance*> placed;
        if (!i.app->constraints.empty()) {
          for (const auto& [iid, other] : s.instances) {
            if (other.has_task() && other.app->last_config == i.app->last_config &&
                other.condition != Condition::inactive)
              placed.push_back(&other);
          }
        }
        auto taken = carve(pool, *i.app, placed, random_());
        if (auto* match = std::get_if<Match>(&taken)) {
          launch(pool, s, i, std::move(*match), *launches);
          cursor_ = *it;
          more = true;
          ++it;
        } else {
          reject(s, pool.offer, std::get<Reject>(taken));
          it = turn.erase(it);
        }
      }
    }
    if (launches->task_infos.empty()) {
      (tokens_ <= 0 && !waiting_.empty() ? brief : decline).decline->offer_ids.push_back(pool.offer.id);
      continue;
    }
    fb::CallT accept = call(fb::CallType::ACCEPT);
    accept.accept = std::make_unique<fb::AcceptT>();
    accept.accept->offer_ids.push_back(pool.offer.id);
    accept.accept->filters = std::make_unique<fb::FiltersT>();
    // What is left comes again at once only if it could serve somebody.
    accept.accept->filters->refuse_seconds = waiting_.empty() || launches->task_infos.size() < limit ? refuse : 0;
    auto operation = std::make_unique<fb::OperationT>();
    operation->type = fb::OperationType::LAUNCH;
    operation->launch = std::move(launches);
    accept.accept->operations.push_back(std::move(operation));
    out_.calls.push_back(std::move(accept));
  }
  if (!decline.decline->offer_ids.empty()) out_.calls.push_back(std::move(decline));
  if (!brief.decline->offer_ids.empty()) out_.calls.push_back(std::move(brief));
  if (connected_ && waiting_.empty()) dirty_.insert("/");  // suppress in the next settle
}

void Core::launch_failed(const std::vector<std::string>& task_ids, const std::string& why) {
  for (const auto& id : task_ids) {
    const auto t = parse_task_id(id);
    Spec* s = t ? spec_of_instance(t->instance_id) : nullptr;
    if (!s) continue;
    const auto it = s->instances.find(t->instance_id);
    if (it == s->instances.end() || it->second.incarnation != t->incarnation ||
        it->second.condition != Condition::provisioned)
      continue;
    fb::TaskStatusT status;
    status.task_id = id;
    status.state = fb::TaskState::TASK_DROPPED;
    status.message = why;
    terminal(*s, it->second, status);
  }
}

}  // namespace gantry::framework_services
