// What the API and the events show of the state, as JSON (marathon.md B).
#pragma once
#include "core.hpp"

namespace gantry::framework_services {

Object plan_json(const Deployment& d);
Object step_json(const std::vector<Action>& actions);
Object deployment_json(const Core& core, const Deployment& d);
Object task_json(const Instance& i, const std::string& role, bool service_ports);
Object failure_json(const std::string& app, const TaskFailure& f);
Object queue_item_json(const Core& core, const Spec& s, bool last_unused_offers);
Object offer_json(const fb::OfferT& offer);
Object health_check_json(const App& app, std::size_t index);

struct Embed {
  bool tasks = false, failure = false, counts = true, deployments = true, readiness = false, stats = false;
};
Object app_json(const Core& core, const Spec& s, const Embed& embed);

}  // namespace gantry::framework_services
