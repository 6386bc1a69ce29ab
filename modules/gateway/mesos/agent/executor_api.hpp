// The executor API, POST /api/v1/executor on agents: executors subscribe to a stream of events and send calls beside it.
// Contract: reference mesos-kernel.md B4; transcripts executor-exchange.json, errors.json.
#pragma once

#include "../router.hpp"

#include <gantry/executor_generated.h>

#include <chrono>
#include <memory>
#include <optional>
#include <unordered_map>

namespace gantry::gateway_mesos {

class ExecutorApi {
 public:
  explicit ExecutorApi(Host& host) : host_(host) {}
  void routes(Router& router);
  // From here on the agent starts executors and tells them to come to `endpoint`; `authenticate`: with a token of their own.
  void serve(const std::string& ip, std::uint16_t port, bool authenticate);
  void stop();

  [[nodiscard]] std::size_t streams() const { return streams_.size(); }

 private:
  struct Stream {
    ExchangePtr exchange;
    bool protobuf = false;
    std::uint64_t subscription = 0, heartbeat = 0;  // tokens
  };
  using StreamPtr = std::shared_ptr<Stream>;

  void offer_service();
  void arrived(const ExchangePtr& exchange);
  void subscribe(const ExchangePtr& exchange, const Buffer& call);
  void call(const ExchangePtr& exchange, const Buffer& call);
  void send(const StreamPtr& s, Bytes event);
  void heartbeat(const StreamPtr& s);
  void forget(const StreamPtr& s);
  void refuse(const ExchangePtr& exchange, const Error& why);
  [[nodiscard]] static Buffer envelope(const Exchange& exchange, const Buffer& call);

  Host& host_;
  Buffer serving_;  // ServeExecutors
  std::unordered_map<Stream*, StreamPtr> streams_;
  std::uint64_t serve_ = 0, retry_ = 0;
  bool stopped_ = false;
};

// The sentence behind "Failed to validate Executor::Call: "; the words are part of the contract.
[[nodiscard]] std::optional<std::string> invalid(const fb::executor::Call& call);

}  // namespace gantry::gateway_mesos
