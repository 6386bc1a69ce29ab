// GET /v2/events: server-sent events to many clients, each with its own filter. A client that stops reading is cut off
// after 1024 events; nothing is buffered without end and nobody waits for it.
#pragma once
#include <gantry/host.hpp>

#include "state.hpp"

namespace gantry::framework_services {

class EventHub {
 public:
  using Emit = std::function<void(std::string type, Object body)>;
  // `emit` announces attaching and detaching clients to the others.
  EventHub(Host& host, Emit emit) : host_(host), emit_(std::move(emit)) {}

  void attach(std::uint64_t request, std::set<std::string> types, const std::string& peer, std::string first_timestamp);
  void send(const Announcement& event);
  void heartbeat();
  void stop();
  [[nodiscard]] std::size_t clients() const { return clients_.size(); }

 private:
  struct Client {
    std::set<std::string> types;  // empty: all
    std::string peer;
    std::size_t outstanding = 0;  // pieces handed over and not yet taken
  };
  void push(std::uint64_t id, const std::string& data);
  void deliver(std::uint64_t id, const std::string& data, bool first, bool more);
  void watch(std::uint64_t id);
  void drop(std::uint64_t id, bool announce);

  Host& host_;
  Emit emit_;
  std::map<std::uint64_t, Client> clients_;
};

}  // namespace gantry::framework_services
