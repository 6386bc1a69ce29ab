#include "task_views.hpp"

#include "legacy.hpp"

namespace gantry::gateway_mesos::ops {

using wire::Composer;
using wire::Field;
using wire::Projection;
using wire::field;

namespace {

template <class T>
const flatbuffers::Table& raw(const T& table) {
  return reinterpret_cast<const flatbuffers::Table&>(table);
}

// Where everything stands, looked up once. What a task has from its TaskInfo comes in runs, so that all fields are in order.
struct TaskFields {
  static constexpr std::string_view kTask = "gantry.fb.ops.Task", kInfo = "gantry.fb.TaskInfo";
  Projection names{kTask, kInfo, {"name", "task_id"}};
  Projection agent{kTask, kInfo, {"agent_id"}};
  Projection resources{kTask, kInfo, {"resources"}};
  Projection more{kTask, kInfo, {"labels", "discovery", "container"}};
  Projection rest{kTask, kInfo, {"health_check", "kill_policy", "limits"}};
  const Field &framework_id = field(kTask, "framework_id"), &executor_id = field(kTask, "executor_id"), &state = field(kTask, "state"),
              &statuses = field(kTask, "statuses"), &update_state = field(kTask, "status_update_state"),
              &update_uuid = field(kTask, "status_update_uuid"), &user = field(kTask, "user");
};

struct StatusFields {
  static constexpr std::string_view kStatus = "gantry.fb.TaskStatus";
  Projection first{kStatus, kStatus, {"task_id", "state", "message", "agent_id", "timestamp", "executor_id", "healthy", "source", "reason", "uuid",
                                      "labels"}};
  Projection message{kStatus, kStatus, {"message"}}, labels{kStatus, kStatus, {"labels"}};
  Projection last{kStatus, kStatus, {"unreachable_time", "check_status", "limitation"}};
  const Field &task_id = field(kStatus, "task_id"), &state = field(kStatus, "state"), &agent_id = field(kStatus, "agent_id"),
              &timestamp = field(kStatus, "timestamp"), &executor_id = field(kStatus, "executor_id"), &healthy = field(kStatus, "healthy"),
              &source = field(kStatus, "source"), &reason = field(kStatus, "reason"), &uuid = field(kStatus, "uuid"),
              &container_status = field(kStatus, "container_status");
};

struct ContainerFields {
  static constexpr std::string_view kContainer = "gantry.fb.ContainerStatus", kNetwork = "gantry.fb.NetworkInfo", kIp = "gantry.fb.IpAddress";
  Projection others{kContainer, kContainer, {"cgroup_info", "executor_pid", "container_id"}};
  const Field &networks = field(kContainer, "network_infos"), &addresses = field(kNetwork, "ip_addresses"),
              &protocol = field(kIp, "protocol"), &address = field(kIp, "ip_address");
};

const StatusFields& status_fields() {
  static const StatusFields f;
  return f;
}

// Where nothing else is said a container shares its agent's addresses; name servers read them here.
void write_container(Composer& out, const fb::ContainerStatus& c, const AgentRow* agent) {
  static const ContainerFields f;
  const bool own = c.network_infos() && c.network_infos()->size();
  if (!own && !agent) return out.fields(raw(c), f.others);
  out.list(f.networks);
  if (own) {
    for (const auto* n : *c.network_infos()) out.item(f.networks, raw(*n));
  } else {
    out.item(f.networks);
    out.list(f.addresses);
    out.item(f.addresses);
    out.name(f.protocol, static_cast<std::int64_t>(fb::NetworkProtocol::IPv4));
    out.text(f.address, agent_ip(*agent));
    out.end();
    out.end_list();
    out.end();
  }
  out.end_list();
  out.fields(raw(c), f.others);
}

// What follows the labels.
void write_rest(Composer& out, const fb::TaskStatus& s, const AgentRow* agent) {
  const StatusFields& f = status_fields();
  if (const auto* c = s.container_status()) {
    out.begin(f.container_status);
    write_container(out, *c, agent);
    out.end();
  }
  out.fields(raw(s), f.last);
}

void write_status(Composer& out, const StatusRow& s, const TaskRow& t, const AgentRow* agent) {
  const StatusFields& f = status_fields();
  const auto* more = s.more();
  out.text(f.task_id, t.id());
  out.name(f.state, static_cast<std::int64_t>(s.state()));
  if (more) out.fields(raw(*more), f.message);
  if (s.names_agent()) out.text(f.agent_id, t.agent_id());
  if (const auto at = s.timestamp()) out.number(f.timestamp, *at);
  if (s.names_executor()) out.text(f.executor_id, t.executor_id());
  if (const auto healthy = s.healthy()) out.flag(f.healthy, *healthy);
  if (const auto source = s.source()) out.name(f.source, static_cast<std::int64_t>(*source));
  if (const auto reason = s.reason()) out.name(f.reason, static_cast<std::int64_t>(*reason));
  if (!s.uuid().empty()) out.bytes(f.uuid, s.uuid());
  if (!more) return;
  out.fields(raw(*more), f.labels);
  write_rest(out, *more, agent);
}

}  // namespace

void write_status(Composer& out, const fb::TaskStatus& s, const AgentRow* agent) {
  out.fields(raw(s), status_fields().first);
  write_rest(out, s, agent);
}

void write_task(Composer& out, const TaskRow& t, const AgentRow* agent) {
  static const TaskFields f;
  const auto& info = raw(*t.info);
  out.fields(info, f.names);
  out.text(f.framework_id, *t.framework_id);
  if (!t.executor_id().empty()) out.text(f.executor_id, t.executor_id());
  out.fields(info, f.agent);
  out.name(f.state, static_cast<std::int64_t>(t.state));
  out.fields(info, f.resources);
  if (!t.statuses.empty()) {
    out.list(f.statuses);
    for (const auto& s : t.statuses) {
      out.item(f.statuses);
      write_status(out, s, t, agent);
      out.end();
    }
    out.end_list();
    if (const StatusRow& last = t.statuses.back(); !last.uuid().empty()) {
      out.name(f.update_state, static_cast<std::int64_t>(last.state()));
      out.bytes(f.update_uuid, last.uuid());
    }
  }
  out.fields(info, f.more);
  if (const auto* command = t.info->command(); command && !text(command->user()).empty()) out.text(f.user, text(command->user()));
  out.fields(info, f.rest);
}

}  // namespace gantry::gateway_mesos::ops
