// Placement constraints (marathon.md A5).
#pragma once
#include "state.hpp"

namespace gantry::framework_services {

// Value of a constraint's field in an offer: "hostname"/"@hostname", "@region", "@zone" or an attribute; absent if it
// has none. Scalars print to 3 decimals, ranges as "[a-b]", sets as "{x,y}" sorted.
std::optional<std::string> field_value(const fb::OfferT& offer, const std::string& field);

// True if one more instance of `app` may be placed on `offer`, given its placed instances of the same configuration.
bool constraints_hold(const App& app, const fb::OfferT& offer, const std::vector<const Instance*>& placed);

}  // namespace gantry::framework_services
