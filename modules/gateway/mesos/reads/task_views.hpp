// What the v1 operator API says of tasks: by far the most of what it says, so written straight from the rows. Pure; any thread.
#pragma once

#include "cluster.hpp"
#include "wire/compose.hpp"

namespace gantry::gateway_mesos::ops {

// The fields of a gantry.fb.ops.Task. `agent`: whose addresses its statuses tell where the task has none of its own; may be null.
void write_task(wire::Composer& out, const TaskRow& t, const AgentRow* agent);
// The fields of a gantry.fb.TaskStatus as it is told: without data.
void write_status(wire::Composer& out, const fb::TaskStatus& s, const AgentRow* agent);

}  // namespace gantry::gateway_mesos::ops
