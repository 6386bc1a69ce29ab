// A master process that serves the Mesos API, and a framework that speaks it over plain sockets, for benches. The framework
// reads and writes only what it must (its own protobuf and JSON, by pattern), so that figures are the master's.
#pragma once

#include "tests/bench/rig.hpp"

#include <sys/types.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace gantry::bench {

// gantryd as a master with gateway/mesos, on free ports; ended by the destructor.
class MesosMaster {
 public:
  MesosMaster(const std::string& bin_dir, const std::string& kernel_settings = {}, const std::string& gateway_settings = {});
  ~MesosMaster();
  MesosMaster(const MesosMaster&) = delete;
  MesosMaster& operator=(const MesosMaster&) = delete;
  std::uint16_t api = 0, links = 0;  // ports
  // CPU seconds of all its threads so far; resident bytes.
  [[nodiscard]] double cpu() const;
  [[nodiscard]] double resident() const;
  [[nodiscard]] pid_t pid() const { return pid_; }

 private:
  TemporaryDirectory dir_;
  pid_t pid_ = 0;
};

// One request and its answer on a connection of its own. `keep`: how many bytes of the body are wanted; `size` counts all.
struct Answered {
  int status = 0;
  std::string head, body;
  std::size_t size = 0;
};
[[nodiscard]] Answered ask(std::uint16_t port, std::string_view method, std::string_view path, std::string_view headers = {},
                           std::string_view body = {}, std::size_t keep = std::size_t(-1));

class HttpFramework {
 public:
  struct Options {
    bool protobuf = true;
    unsigned connections = 1;  // for calls, used in turn
    unsigned depth = 64;       // calls on the way on each of them
    std::string name = "bench";
    double failover_timeout = 3600;
    bool suppressed = false;
  };
  struct Offered {
    std::string id, agent;
  };
  HttpFramework(std::uint16_t port, Options options);
  ~HttpFramework();
  HttpFramework(const HttpFramework&) = delete;
  HttpFramework& operator=(const HttpFramework&) = delete;

  void accept(const Offered& offer, const std::string& prefix, std::size_t first, std::size_t count, const std::string& resources_json,
              double refuse_seconds);
  void decline(const Offered& offer, double refuse_seconds);
  void call(std::string_view type, std::string_view members = {});  // members: `"suppress":{}`
  // Reads and writes what there is to read and write, waiting up to `timeout_ms` for it. Throws when the master refuses a
  // call or ends the stream.
  void step(int timeout_ms);
  // step() until `done` or throws after `seconds`.
  void run_until(const std::function<bool()>& done, double seconds, const char* what);
  // Reads what comes for that long.
  void pause(std::chrono::milliseconds length);

  std::string id;
  std::deque<Offered> offers;
  std::size_t running = 0, finished = 0, failed = 0, answered = 0, sent = 0;
  std::function<void(std::string_view task, bool finished)> on_state;  // after its acknowledgement was queued
  std::function<void(const Offered&)> on_offer;                        // instead of keeping it
  bool acknowledge = true;

 private:
  struct Connection {
    int fd = -1;
    std::string out, in;
    std::size_t open = 0;
    std::deque<std::string> waiting;
  };
  void post(std::string body);          // a call's body in the form of this framework
  void put(Connection& c, std::string_view body);
  void flush(Connection& c);
  void read_answers(Connection& c);
  void read_stream();
  void ended();  // the stream; well when it was asked for
  void on_record(std::string_view record);
  void on_update(std::string_view task, std::string_view agent, std::string_view state, std::string_view uuid);
  void on_update_protobuf(std::string_view status);
  [[nodiscard]] std::string encoded(const std::string& json) const;

  const Options options_;
  const std::uint16_t port_;
  std::string head_;  // of calls, up to the length
  int stream_ = -1;
  bool leaving_ = false;
  std::string in_;
  std::size_t at_ = 0;
  std::vector<Connection> connections_;
  std::size_t next_ = 0;
};

}  // namespace gantry::bench
