// What of a View a client may see. Lists are filtered rather than refused (reference mesos-kernel.md A11): frameworks by their user,
// tasks and executors by the user they run as, roles by name.
#pragma once

#include "../access.hpp"
#include "cluster.hpp"

namespace gantry::gateway_mesos {

// Every word that stands in it, once for each action it may be asked with.
[[nodiscard]] std::vector<Ask> asks_of(const View& v);
// The part of it that is allowed; the same one where everything is. Sums over agents are of what can be seen.
[[nodiscard]] std::shared_ptr<const View> filtered(std::shared_ptr<const View> v, const Verdicts& verdicts);

// A resource may be told of if every role that it is reserved for may be.
[[nodiscard]] bool sees(const Verdicts& verdicts, const fb::Resource& r);
[[nodiscard]] bool sees(const Verdicts& verdicts, const fb::ResourceT& r);

// What must be allowed to hear of one of them.
[[nodiscard]] std::vector<Ask> asks_of(const FrameworkRow& f);
[[nodiscard]] std::vector<Ask> asks_of(const TaskRow& t, const FrameworkRow* f);

}  // namespace gantry::gateway_mesos
