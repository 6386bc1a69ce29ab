// The scheduler API, POST /api/v1/scheduler: frameworks subscribe to a stream of events and send calls beside it.
// Contract: reference mesos-kernel.md B1, B3; clients.md section 0 rules 1 to 8, 18 to 20.
#pragma once

#include "access.hpp"
#include "limits.hpp"
#include "masters.hpp"
#include "resources.hpp"
#include "router.hpp"

#include <gantry/framework_generated.h>

#include <chrono>
#include <deque>
#include <optional>
#include <random>
#include <unordered_map>

namespace gantry::gateway_mesos {

struct SchedulerOptions {
  std::chrono::nanoseconds heartbeat_interval = std::chrono::seconds(15);
  std::size_t max_frameworks = 4000;
  RateLimits limits;
};

class SchedulerApi {
 public:
  // Answers a request for which this master turned out not to lead.
  using Redirect = Function<void(const ExchangePtr&)>;
  // The user of a framework as the master has it, nullopt where that is not known.
  using UserOf = Function<std::optional<std::string>(const std::string& framework_id)>;

  SchedulerApi(Host& host, Masters& masters, Access& access, SchedulerOptions options, Redirect redirect, UserOf user_of);
  void routes(Router& router);
  void stop();

  [[nodiscard]] std::size_t streams() const { return streams_.size(); }

 private:
  // One framework's event stream: its HTTP answer and its subscription at the master.
  struct Stream {
    ExchangePtr exchange;
    std::string id;            // Mesos-Stream-Id
    std::string framework_id;  // once subscribed
    std::string principal;     // of FrameworkInfo
    std::string user;          // of FrameworkInfo when the framework subscribed first
    std::deque<Buffer> held;   // calls that wait until those before them may go on
    std::size_t held_bytes = 0;
    bool asking = false;       // whether the first of them is allowed
    bool protobuf = false;
    Format format;
    std::uint64_t subscription = 0, heartbeat = 0;  // tokens
  };
  using StreamPtr = std::shared_ptr<Stream>;

  void arrived(const ExchangePtr& exchange);
  void subscribe(const ExchangePtr& exchange, Buffer body);
  void permit(const StreamPtr& s, Buffer body);
  void open(const StreamPtr& s, const Buffer& body);
  void refuse(const StreamPtr& s, const std::string& why);
  void on_event(const StreamPtr& s, Bytes event);
  void on_end(const StreamPtr& s, const Error& why);
  void send(const StreamPtr& s, Bytes event);
  void heartbeat(const StreamPtr& s);
  void forget(const StreamPtr& s);

  // Its principal has made too many calls; 429 has been answered.
  bool limited(const ExchangePtr& exchange, const std::string& principal);
  void call(const ExchangePtr& exchange, Buffer body);
  void forward(const ExchangePtr& exchange, const StreamPtr& s, Buffer body);
  void pump(const StreamPtr& s);
  void permitted(const StreamPtr& s, const Buffer& body, const std::string& user, const Verdicts& verdicts);
  void pass(const Buffer& body);
  void update(const ExchangePtr& exchange, const StreamPtr& s, Buffer body);
  void probe(std::string_view framework_id, Function<void(Code)> then);
  void explain(const ExchangePtr& exchange, std::string_view framework_id);
  [[nodiscard]] std::string new_stream_id();
  // A framework keeps the user of its first subscription, whatever later ones say.
  [[nodiscard]] const std::string& first_user(const std::string& framework_id, const std::string& user);

  Host& host_;
  Masters& masters_;
  Access& access_;
  SchedulerOptions options_;
  Redirect redirect_;
  UserOf user_of_;
  std::mt19937_64 random_;
  std::unordered_map<Stream*, StreamPtr> streams_;
  std::unordered_map<std::string, StreamPtr> by_framework_;  // the stream that counts
  std::unordered_map<std::string, std::string> users_;       // of frameworks that subscribed here
  std::deque<std::string> users_order_;                      // their ids, oldest first
  Metric streams_metric_, calls_metric_, events_metric_, refused_metric_;
  bool stopped_ = false;
};

}  // namespace gantry::gateway_mesos
