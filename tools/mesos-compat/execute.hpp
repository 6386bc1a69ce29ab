// mesos-execute: a scheduler that runs one task (or one group) and tells how it fares. Pure: events in, calls and lines out.
// Contract: reference mesos-kernel.md B3; the lines are those of the ancestor.
#pragma once

#include "flags.hpp"

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>

#include <functional>
#include <set>
#include <string>
#include <vector>

namespace gantry::compat {

namespace json = boost::json;

struct Job {
  json::object framework;                    // FrameworkInfo
  json::object task;                         // TaskInfo without agent_id; empty: a group
  json::object group;                        // TaskGroupInfo
  std::vector<std::string> networks;         // of the group's executor
  std::string role;
  std::optional<std::int64_t> kill_after;    // nanoseconds
  std::string principal, secret;             // HTTP Basic, where both are given
};

// What the flags ask for. The error is the line for standard error; `usage` says that the usage goes with it.
struct Mistake {
  std::string message;
  bool usage = false;
};
[[nodiscard]] Result<Job> job_of(const Given& given, const std::string& user, Mistake& mistake);

// Resources in the form of text as messages: cpus:1;mem:128.
[[nodiscard]] Result<json::array> resources_of(std::string_view text);
// What is taken of an offer for them, from `role` first and then from what nobody reserved; nullopt: they do not fit.
[[nodiscard]] std::optional<json::array> take(json::array& offered, const json::array& wanted, const std::string& role);

class Scheduler {
 public:
  explicit Scheduler(Job job);
  // Events as they come. Returns calls to be made, in order, without framework_id where there is none yet.
  std::vector<json::object> on_event(const json::object& event);
  [[nodiscard]] json::object subscribe() const;
  // KILL for what runs, at its time.
  std::vector<json::object> kill();

  std::function<void(const std::string&)> print = [](const std::string&) {};  // a line for standard output
  [[nodiscard]] bool done() const { return done_; }
  [[nodiscard]] const std::string& error() const { return error_; }  // not empty: failed
  [[nodiscard]] const std::string& framework_id() const { return framework_id_; }
  // When KILL is due, counted from the first RUNNING; nullopt: not yet, or never.
  [[nodiscard]] bool kill_armed() const { return kill_armed_; }

 private:
  std::vector<json::object> on_offers(const json::object& offers);
  std::vector<json::object> on_update(const json::object& status);
  [[nodiscard]] json::object call(const char* type, const char* part, json::object body) const;
  [[nodiscard]] std::vector<json::object> launch(const json::object& offer, bool& launched);

  Job job_;
  std::string framework_id_, error_;
  std::vector<std::pair<std::string, std::string>> running_;  // task, agent
  std::set<std::string> ended_;
  std::size_t tasks_ = 1;
  bool launched_ = false, done_ = false, kill_armed_ = false;
};

// Records of an event stream, put together from chunks. An error: the stream is no RecordIO.
class Records {
 public:
  Status feed(std::string_view bytes, const std::function<void(std::string_view)>& record);

 private:
  std::string rest_;
};

// Runs it against a master; returns the exit status.
int run_execute(const std::string& master, Job job);

}  // namespace gantry::compat
