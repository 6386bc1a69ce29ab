// The two forms resources have on the wire. The cluster's own is the present one: a stack of `reservations` and the
// role a resource is allocated to. Frameworks without RESERVATION_REFINEMENT know `role` and `reservation` instead,
// those without MULTI_ROLE no allocation (clients.md section 0, rule 20).
#pragma once

#include <gantry/framework_generated.h>

#include <memory>
#include <vector>

namespace gantry::gateway_mesos {

// What a framework's capabilities say it understands.
struct Format {
  bool multi_role = false, refinement = false;
  [[nodiscard]] bool current() const { return multi_role && refinement; }
};

// Rewrites the resources of an OFFERS event, and of a status's limitation.
void downgrade(fb::EventT& event, Format format);

// Whether an ACCEPT holds anything in the old form, or a health check that leaves its type to be inferred.
[[nodiscard]] bool needs_upgrade(const fb::Accept& accept);
void upgrade(fb::AcceptT& accept);
void upgrade_resources(std::vector<std::unique_ptr<fb::ResourceT>>& list);
void upgrade_resource(fb::ResourceT& resource);

}  // namespace gantry::gateway_mesos
