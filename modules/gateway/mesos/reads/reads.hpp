// What dashboards, tools and operators read: the old endpoints and the v1 operator API, answered from a Cluster.
//
// Answers are written on the host's pool from a View, so a large one holds up neither scheduling nor other frameworks.
#pragma once

#include "../access.hpp"
#include "../masters.hpp"
#include "../router.hpp"
#include "../wrap.hpp"
#include "follower.hpp"
#include "legacy.hpp"

#include <gantry/operator_generated.h>

#include <chrono>
#include <deque>
#include <memory>
#include <set>

namespace gantry::gateway_mesos {

struct ReadsOptions {
  std::chrono::nanoseconds heartbeat_interval = std::chrono::seconds(15);
  std::size_t max_subscribers = 1000;       // of the event stream; beyond, the oldest is closed
  std::size_t max_waiting = 64u << 20;      // bytes of events kept for a subscriber whose snapshot is being written, or who is being judged
  std::vector<std::pair<std::string, std::string>> flags;  // shown by /flags, in order of names
  Function<void(const ExchangePtr&, const fb::master::Call&)> write;  // calls that change something; absent: 501
  // READ_FILE and LIST_FILES; `answer` is called where there is one. Absent: 501.
  Function<void(const ExchangePtr&, const fb::master::Call&, std::function<void(const fb::master::ResponseT&)> answer)> files;
  Function<std::uint32_t()> logging_level;
};

class Reads final : private Cluster::Listener {
 public:
  Reads(Host& host, Masters& masters, Access& access, ReadsOptions options, Function<void(const ExchangePtr&)> redirect);
  ~Reads() override;
  void routes(Router& router);
  void start();
  void stop();
  // Answers in JSON, from a view.
  using Build = std::function<std::string(const View&, const legacy::About&)>;
  void serve(const ExchangePtr& exchange, Build build);

  [[nodiscard]] const Cluster& cluster() const { return follower_.cluster(); }
  [[nodiscard]] std::size_t subscribers() const { return subscribers_.size(); }

 private:
  struct Subscriber {
    ExchangePtr exchange;
    bool protobuf = false, begun = false;
    std::deque<std::string> waiting;  // events since its snapshot was taken
    std::size_t bytes = 0;
    struct Event {
      std::string piece;
      std::vector<Ask> asks;
      [[nodiscard]] std::size_t bytes() const;
    };
    std::deque<Event> unjudged;  // behind one of which it is being asked whether this client may hear it
    std::size_t unjudged_bytes = 0;
    bool asking = false;
    std::uint64_t heartbeat = 0;
  };
  using SubscriberPtr = std::shared_ptr<Subscriber>;
  // One answer that is to be written, and everybody who waits for the same.
  struct Render {
    std::string key;
    std::string_view type;
    Wrapping how;
    Build build;
    std::vector<ExchangePtr> waiting;
  };

  [[nodiscard]] legacy::About about() const;
  // Runs `then` with this moment as the client may see it.
  using Seen = Function<void(Result<std::shared_ptr<const View>>)>;
  void seen(const ExchangePtr& exchange, Seen then);
  void render(const ExchangePtr& exchange, std::string key, std::string_view type, Build build);
  void next_render();
  void metrics(const ExchangePtr& exchange, Function<void(std::vector<std::pair<std::string, double>>)> then);
  void redirect_to_leader(const ExchangePtr& exchange);

  void operator_call(const ExchangePtr& exchange);
  void subscribe(const ExchangePtr& exchange, bool protobuf);
  void begin(const SubscriberPtr& s, std::string snapshot);
  void beat(const SubscriberPtr& s);
  void forget(const SubscriberPtr& s);
  void drop(const SubscriberPtr& s, std::string_view why);
  // `encode` writes the event in either form, if anybody reads it.
  void publish(const std::function<std::string(bool protobuf)>& encode, std::vector<Ask> asks = {});
  void publish(const fb::master::EventT& event, std::vector<Ask> asks = {});
  void pump(const SubscriberPtr& s);
  void deliver(const SubscriberPtr& s, const std::string& piece);
  void changed();

  // Cluster::Listener
  void task_added(const TaskPtr& t) override;
  void task_updated(const TaskPtr& t, const Own<fb::TaskStatus>& status) override;
  void agent_added(const AgentPtr& a) override;
  void agent_removed(const std::string& id) override;
  void framework_added(const FrameworkPtr& f) override;
  void framework_updated(const FrameworkPtr& f) override;
  void framework_removed(const FrameworkPtr& f) override;

  Host& host_;
  Masters& masters_;
  Access& access_;
  ReadsOptions options_;
  Function<void(const ExchangePtr&)> redirect_;
  Follower follower_;
  std::deque<SubscriberPtr> subscribers_;  // oldest first
  std::deque<Render> renders_;             // that have not begun
  bool rendering_ = false;
  std::set<std::string, std::less<>> large_;  // keys whose answer was large the last time
  std::chrono::nanoseconds rest_until_{};     // no large one is begun before (pace.hpp)
  std::uint64_t rest_ = 0;                    // timer
  bool stopped_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace gantry::gateway_mesos
