// A provider running in a process of its own: the kernel's end of the socket.
#pragma once

#include "kernel/base/metric.hpp"
#include "kernel/module/instance.hpp"
#include "kernel/module/process/spawn.hpp"
#include "kernel/module/records.hpp"
#include "kernel/module/requests.hpp"
#include "kernel/net/net.hpp"

#include <deque>
#include <memory>
#include <set>
#include <string>
#include <vector>

namespace gantry::module::process {

struct Header;

struct ProcessSetup {
  net::RealLoop* loop = nullptr;
  base::Metrics* metrics = nullptr;
  const Services* services = nullptr;
  std::set<std::string> allowed;  // services the manifest lists
  HostCommand command;            // kind and name of the instance too
  // Bytes that may wait to be written. A module that reads streams too slowly loses them with RESOURCE_EXHAUSTED.
  std::size_t queue_bytes = std::size_t{64} << 20;
  double log_rate = 50, log_burst = 200;  // records, and lines it writes, a second
  base::Nanos create_timeout = std::chrono::seconds(30);
  base::Nanos term_grace = std::chrono::seconds(1);  // from SIGTERM to SIGKILL
};

// Everything on the loop. The module's process never holds the loop up: writes do not wait, reads are limited per turn.
class ProcessInstance final : public HostedInstance {
 public:
  explicit ProcessInstance(ProcessSetup setup);
  ~ProcessInstance() override;  // kills what still runs
  ProcessInstance(const ProcessInstance&) = delete;
  ProcessInstance& operator=(const ProcessInstance&) = delete;

  [[nodiscard]] const std::string& kind() const override { return setup_.command.kind; }
  [[nodiscard]] const std::string& name() const override { return setup_.command.name; }
  [[nodiscard]] State state() const override { return state_; }
  [[nodiscard]] Counters counters() const override;
  [[nodiscard]] std::size_t backlog() const override;
  std::uint64_t call(std::uint32_t method, Buffer body, OnReply on_reply, CallOptions options = {}) override;
  void cancel(std::uint64_t id) override;
  [[nodiscard]] const std::string& message() const override { return message_; }
  void set_state(State state, std::string message = {}) override;
  [[nodiscard]] Facts facts() const override { return facts_; }
  // Starts the process. What it refuses comes back as it said it; UNAVAILABLE if it ended instead of answering.
  Task<Status> create() override;
  Task<Status> stop(bool drain, base::Nanos timeout, base::Nanos grace) override;
  void on_ended(Function<void(const Error&)> fn) override { on_ended_ = std::move(fn); }
  void kill(const std::string& why) override;
  void trace(Tracer* tracer) override;
  [[nodiscard]] bool can_end() const override { return true; }

  [[nodiscard]] int pid() const;  // 0: none runs

 private:
  struct Child;
  using ChildPtr = std::shared_ptr<Child>;
  struct Slot {
    std::uint32_t generation = 1;
    std::uint32_t method = 0;
    bool open = false, abandoned = false, cancelled = false;
    std::uint64_t token = 0;
    OnReply on_reply;
    base::TimerId timer = 0;
  };

  void refuse(OnReply on_reply, Error error);
  Slot* find(std::uint64_t token);
  void release(Slot& slot);
  void give_up(Slot& slot, const Error& error);
  void fault(std::string_view what);
  void note(std::string_view what);
  void send(const Header& header, Bytes body = {}, std::vector<base::Fd> fds = {});
  void flush(const ChildPtr& child);
  void flush_later(const ChildPtr& child);
  void readable(const ChildPtr& child);
  bool read_some(const ChildPtr& child, std::size_t limit);
  void output(const ChildPtr& child);
  void on_frame(const Header& header, Bytes body);
  void on_complete(const Header& header, Bytes body);
  void on_metric(const Header& header, Bytes body);
  void on_metric_add(Bytes body);
  void lost(const ChildPtr& child);      // its connection has ended: nobody waits for it any longer
  void exited(const ChildPtr& child);    // so has it
  void fail_calls();
  void end(const ChildPtr& child, const std::string& why);  // SIGTERM, then SIGKILL
  Task<void> wait_for_end(ChildPtr child);

  ProcessSetup setup_;
  const std::string id_;
  State state_ = State::configured;
  std::string message_;
  Facts facts_;
  ChildPtr child_;  // null: none runs
  bool created_ = false, stopping_ = false;
  unsigned starts_ = 0;
  std::shared_ptr<Promise<Status>> creating_, destroying_;
  Function<void(const Error&)> on_ended_;

  std::deque<Slot> slots_;
  std::vector<std::uint32_t> free_;
  std::size_t open_calls_ = 0;
  std::shared_ptr<Requests> requests_;
  LogBudget log_budget_;
  Counters counters_, before_;  // before_: of the processes that have ended
  base::Metrics::Id calls_metric_ = 0, faults_metric_ = 0;
  std::vector<base::Metrics::Id> metric_ids_;  // by the id of the module host
};

}  // namespace gantry::module::process
