// A framework that does what the scenario says and keeps what it hears until a step expects it.
#pragma once

#include "tests/scenario/scenario.hpp"
#include "tests/sim/world.hpp"

#include <gantry/framework_generated.h>

#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

namespace gantry::scenario {

struct Heard {
  std::string event;                   // subscribed, offer, rescind, update, failure, error, end
  sim::Instant at;
  std::unique_ptr<fb::OfferT> offer;
  std::unique_ptr<fb::TaskStatusT> status;
  std::string offer_id, agent_id, message;
  bool taken = false;                  // a step has expected it
  [[nodiscard]] std::string text() const;
};

class ScenarioFramework {
 public:
  ScenarioFramework(sim::World& world, FrameworkSpec spec);

  void subscribe();                    // anew, or, where it is connected, as a second scheduler
  void disconnect();
  void master_gone();
  void call(fb::CallT c);
  void acknowledge(const std::string& task_id);
  void give_up(const std::string& offer_id) { held_.erase(offer_id); }

  [[nodiscard]] const FrameworkSpec& spec() const { return spec_; }
  [[nodiscard]] const std::string& id() const { return id_; }
  [[nodiscard]] std::deque<Heard>& heard() { return heard_; }
  // Offers not used, declined or rescinded, in order of arrival.
  [[nodiscard]] const std::map<std::string, std::size_t>& held() const { return held_; }
  // The offer of that id, however old; nullptr if there never was one.
  [[nodiscard]] const fb::OfferT* offer(const std::string& id) const;
  std::map<std::string, std::string> names;  // of offers, given by `as`

 private:
  void on_event(std::uint64_t session, Bytes bytes);
  Heard& note(std::string event);

  sim::World& world_;
  FrameworkSpec spec_;
  std::string id_;
  bool wanted_ = false;                // shall be connected
  std::uint64_t session_ = 0;
  master::StreamId stream_ = 0;
  std::deque<Heard> heard_;
  std::map<std::string, std::size_t> held_;
  std::map<std::string, std::vector<std::uint8_t>> uuids_;  // latest of each task
  std::map<std::string, std::string> agents_;               // that told it
};

}  // namespace gantry::scenario
