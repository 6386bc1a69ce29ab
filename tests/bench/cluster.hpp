// What stands around a master's shell in these benches: the links of agents over TCP, and a framework in this process.
#pragma once

#include "kernel/master/master.hpp"
#include "tests/bench/messages.hpp"
#include "tests/bench/rig.hpp"

#include <deque>
#include <string>
#include <unordered_map>

namespace gantry::bench {

[[nodiscard]] inline master::MasterOptions master_options() {
  master::MasterOptions o;
  o.id_seed = "bench";
  o.hostname = "bench";
  o.ping_interval = std::chrono::hours(1);  // these agents do not answer
  return o;
}

inline void lead(net::RealLoop& loop, master::Master& master) {
  Status led = ok;
  run_loop(loop, [&](std::function<void()> finish) {
    master.lead([&led, finish](Status s) {
      led = std::move(s);
      finish();
    });
  });
  if (!led) throw std::runtime_error(led.error().message);
}

// The master's listener, as the daemon has it.
class TcpLinks final : public master::LinkServer {
 public:
  explicit TcpLinks(net::RealLoop& loop) : loop_(loop) {}
  void serve(master::Master& master) {
    master_ = &master;
    auto listener = net::listen(loop_, net::Address{"127.0.0.1", 0, false}, [this](net::LinkPtr link) {
      const master::LinkId id = ++next_;
      links_[id] = link;
      link->on_frame([this, id](Bytes frame) { master_->on_agent_frame(id, frame); });
      link->on_closed([this, id](const Error&) {
        if (links_.erase(id)) master_->on_agent_closed(id);
      });
    });
    if (!listener) throw std::runtime_error(listener.error().message);
    listener_ = std::move(*listener);
  }
  [[nodiscard]] const net::Address& address() const { return listener_->address(); }
  void send(master::LinkId link, const Buffer& frame) override {
    const auto it = links_.find(link);
    if (it != links_.end()) it->second->send(frame);
  }
  void drop(master::LinkId link, std::string_view) override {
    const auto it = links_.find(link);
    if (it != links_.end()) it->second->close();
  }

 private:
  net::RealLoop& loop_;
  master::Master* master_ = nullptr;
  std::unique_ptr<net::Listener> listener_;
  std::unordered_map<master::LinkId, net::LinkPtr> links_;
  master::LinkId next_ = 0;
};

// Keeps its offers, acknowledges every update.
class Framework {
 public:
  Framework(master::Master& master, std::string name) : master_(master), name_(std::move(name)) {}
  ~Framework() { master_.unsubscribe(stream_); }
  struct Offered {
    std::string id, agent;
  };
  void subscribe() {
    stream_ = master_.subscribe(subscribe_call(name_, "bench", false), {[this](const Buffer& event) { on_event(event); }, [](const Error&) {}});
  }
  [[nodiscard]] LaunchCall launch_on_next_offer() {
    if (offers.empty()) throw std::runtime_error("there is no offer to accept");
    LaunchCall l;
    l.framework = id;
    l.agent = offers.front().agent;
    l.offers = {offers.front().id};
    offers.pop_front();
    return l;
  }
  std::string id;
  std::deque<Offered> offers;
  std::size_t running = 0, finished = 0, failed = 0;
  std::function<void()> on_offers;
  std::function<void(const fb::Offers&)> take_offers;  // instead of keeping them
  std::function<void(std::string_view task, fb::TaskState)> on_state;  // after the acknowledgement

 private:
  void on_event(const Buffer& buffer) {
    const auto* e = flatbuffers::GetRoot<fb::Event>(buffer.data());
    switch (e->type()) {
      case fb::EventType::SUBSCRIBED: id = text(e->subscribed()->framework_id()); break;
      case fb::EventType::OFFERS:
        if (take_offers) {
          take_offers(*e->offers());
        } else {
          for (const auto* o : *e->offers()->offers()) offers.push_back({std::string(text(o->id())), std::string(text(o->agent_id()))});
        }
        if (on_offers) on_offers();
        break;
      case fb::EventType::UPDATE: {
        const auto& status = *e->update()->status();
        if (status.uuid()) master_.call(acknowledge_call(id, status), {});
        if (status.state() == fb::TaskState::TASK_RUNNING) ++running;
        else if (status.state() == fb::TaskState::TASK_FINISHED) ++finished;
        else ++failed;
        if (on_state) on_state(text(status.task_id()), status.state());
        break;
      }
      default: break;
    }
  }
  master::Master& master_;
  std::string name_;
  master::StreamId stream_ = 0;
};

}  // namespace gantry::bench
