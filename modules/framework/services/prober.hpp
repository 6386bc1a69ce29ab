// Runs the health and readiness checks that are the leader's business: HTTP, HTTPS, TCP (marathon.md A6). A bounded
// number at a time, one timer for all; which checks exist is read from the core, verdicts are given back to it.
#pragma once
#include <gantry/host.hpp>

#include "core.hpp"

namespace gantry::framework_services {

class Prober {
 public:
  // `check` is the index of the health check, or -1 for readiness (then `status` and `text` are the answer).
  using Verdict = std::function<void(const std::string& instance, int incarnation, int check, bool passed, int status,
                                     const std::string& text)>;

  Prober(Host& host, const Core& core, std::size_t limit, Verdict verdict)
      : host_(host), core_(core), limit_(limit), verdict_(std::move(verdict)) {}
  // Starts or stops the checks of an instance after it changed.
  void sync(const std::string& instance);
  void stop();
  [[nodiscard]] std::size_t in_flight() const { return in_flight_; }

 private:
  struct Probe {
    int incarnation = 0;
    Nanos due{};
    bool running = false;
  };
  using Key = std::pair<std::string, int>;

  void run();
  void arm();
  void start(const Key& key, Probe& p);
  void finish(const Key& key, int incarnation, Nanos started, std::optional<bool> passed, int status,
              const std::string& text);
  void fetch(const Key& key, int incarnation, std::string url, double timeout, bool ignore_1xx);
  void connect(const Key& key, int incarnation, std::string address, double timeout);

  Host& host_;
  const Core& core_;
  std::size_t limit_, in_flight_ = 0;
  Verdict verdict_;
  std::map<Key, Probe> probes_;
  std::multimap<Nanos, Key> due_;
  std::uint64_t timer_ = 0;
  Nanos armed_{};
  bool stopped_ = false;
};

}  // namespace gantry::framework_services
