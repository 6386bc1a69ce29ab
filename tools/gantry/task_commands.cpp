// gantry task list, log, kill.
#include "tools/gantry/control.hpp"
#include "tools/gantry/format.hpp"
#include "tools/gantry/json_writer.hpp"
#include "tools/gantry/resources.hpp"
#include "tools/gantry/tasks.hpp"

#include <algorithm>
#include <chrono>
#include <iostream>
#include <optional>
#include <thread>

namespace gantry::cli {

namespace control = fb::control;

namespace {

constexpr std::uint32_t piece = 64u << 10;

// Reads a file of a sandbox in pieces.
class Reader {
 public:
  Reader(Daemon agent, const control::TaskT& task, std::string path)
      : agent_(std::move(agent)), framework_id_(task.framework_id), task_id_(id_of(task)), path_(std::move(path)) {}

  Result<std::int64_t> size() {
    GANTRY_TRY(auto data, read(-1, 0));
    return data.size;
  }
  Result<control::FileDataT> read(std::int64_t offset, std::uint32_t length) {
    control::ReadFileT ask;
    ask.framework_id = framework_id_;
    ask.task_id = task_id_;
    ask.path = path_;
    ask.offset = offset;
    ask.length = length;
    control::FileDataT out;
    GANTRY_CHECK(agent_.ask_for<control::FileDataT>(std::move(ask), [&](const control::FileDataT& d) {
      if (out.data.empty()) {
        out = d;
      } else {
        out.data.insert(out.data.end(), d.data.begin(), d.data.end());
      }
    }));
    return out;
  }

 private:
  Daemon agent_;
  std::string framework_id_, task_id_, path_;
};

// Where the last `lines` lines begin.
Result<std::int64_t> last_lines(Reader& reader, unsigned lines) {
  GANTRY_TRY(const std::int64_t size, reader.size());
  std::int64_t at = size;
  unsigned seen = 0;
  while (at > 0) {
    const std::int64_t begin = std::max<std::int64_t>(0, at - piece);
    GANTRY_TRY(const auto part, reader.read(begin, static_cast<std::uint32_t>(at - begin)));
    for (std::size_t i = part.data.size(); i-- > 0;) {
      const std::int64_t position = begin + static_cast<std::int64_t>(i);
      if (part.data[i] == '\n' && position != size - 1 && ++seen == lines) return position + 1;
    }
    at = begin;
  }
  return std::int64_t{0};
}

Status copy_log(Context& c, const LogOptions& o) {
  GANTRY_TRY(auto master, Daemon::find(c));
  GANTRY_TRY(const auto task, find_task(master, o.task, true));
  GANTRY_TRY(auto agent, agent_of(c, master, task));
  Reader reader(std::move(agent), task, o.standard_error ? "stderr" : "stdout");
  std::int64_t offset = 0;
  if (o.lines > 0) {
    GANTRY_TRY(offset, last_lines(reader, o.lines));
  }
  bool over = terminal_state(task.state);
  auto looked = std::chrono::steady_clock::now();
  for (;;) {
    GANTRY_TRY(const auto part, reader.read(offset, piece));
    c.out->write(reinterpret_cast<const char*>(part.data.data()), static_cast<std::streamsize>(part.data.size()));
    c.out->flush();
    offset += static_cast<std::int64_t>(part.data.size());
    if (part.size < offset) offset = part.size;  // truncated by the task: go on at its new end
    if (!c.out->good()) return ok;               // the reader of our output has gone
    if (!part.data.empty()) continue;
    if (!o.follow || over) return ok;
    if (c.interrupted && c.interrupted->load()) return ok;
    std::this_thread::sleep_for(std::chrono::milliseconds(250));
    if (std::chrono::steady_clock::now() - looked > std::chrono::seconds(2)) {
      looked = std::chrono::steady_clock::now();
      GANTRY_TRY(const auto now, ask_tasks(master, false, id_of(task)));
      over = std::none_of(now.begin(), now.end(),
                          [&](const auto& t) { return id_of(t) == id_of(task) && !terminal_state(t.state); });
    }
  }
}

}  // namespace

int task_list(Context& c, bool all) {
  auto daemon = Daemon::find(c);
  if (!daemon) return report(c, daemon.error());
  auto tasks = ask_tasks(*daemon, all, "");
  if (!tasks) return report(c, tasks.error());
  Table t({"TASK", "STATE", "HEALTH", "HOST", "FRAMEWORK", "CPUS", "MEM", "AGE", "MESSAGE"});
  JsonWriter w;
  w.open('{').key("tasks").open('[');
  for (const control::TaskT& task : *tasks) {
    const char* state = fb::EnumNameTaskState(task.state);
    const Resources none;
    const Resources& resources = task.info ? task.info->resources : none;
    const auto started = static_cast<std::int64_t>(task.launched_wall_ns);
    const bool known = task.status && task.status->healthy;
    const std::string health = known ? (*task.status->healthy ? "healthy" : "unhealthy") : "";
    t.add({id_of(task), state, health, task.hostname,
           task.framework_name.empty() ? task.framework_id : task.framework_name, amount(scalar(resources, "cpus")),
           mebibytes(scalar(resources, "mem")), started ? age(wall_now() - started) : "",
           terminal_state(task.state) && task.status ? task.status->message : ""});
    w.open('{')
        .field("id", id_of(task))
        .field("name", task.info ? task.info->name : "")
        .field("framework_id", task.framework_id);
    w.field("framework_name", task.framework_name)
        .field("state", state)
        .field("completed", task.completed)
        .field("agent_id", task.agent_id);
    w.field("hostname", task.hostname)
        .field("container_id", task.container_id)
        .field("sandbox", task.sandbox)
        .field("launched_ns", task.launched_wall_ns);
    if (known) w.field("healthy", *task.status->healthy);
    w.field("message", task.status ? task.status->message : "");
    if (task.status && task.status->reason) w.field("reason", fb::EnumNameReason(*task.status->reason));
    if (task.status && task.status->container_status && task.status->container_status->executor_pid)
      w.field("pid", *task.status->container_status->executor_pid);
    write_resources(w, "resources", resources);
    w.close();
  }
  w.close().close();
  if (c.json) {
    *c.out << w.text();
  } else if (t.empty()) {
    *c.out << (all ? "No task is known.\n" : "No task is running; `gantry task list --all` shows finished ones too.\n");
  } else {
    *c.out << t.text(c.terminal);
  }
  return exit_ok;
}

int task_log(Context& c, const LogOptions& o) {
  const Status s = copy_log(c, o);
  return s ? int{exit_ok} : report(c, s.error());
}

int task_kill(Context& c, const std::string& wanted) {
  auto daemon = Daemon::find(c);
  if (!daemon) return report(c, daemon.error());
  auto task = find_task(*daemon, wanted, false);
  if (!task) return report(c, task.error());
  control::KillTaskT ask;
  ask.framework_id = task->framework_id;
  ask.task_id = id_of(*task);
  std::string message;
  const Status s =
      daemon->ask_for<control::DoneT>(std::move(ask), [&](const control::DoneT& d) { message = d.message; });
  if (!s) return report(c, s.error());
  if (c.json) {
    JsonWriter w;
    w.open('{').field("id", id_of(*task)).field("framework_id", task->framework_id).field("message", message).close();
    *c.out << w.text();
  } else {
    *c.out << "Killing " << printable(id_of(*task)) << " of "
           << printable(task->framework_name.empty() ? task->framework_id : task->framework_name)
           << (message.empty() ? "" : ": " + printable(message)) << "\n";
  }
  return exit_ok;
}

}  // namespace gantry::cli
