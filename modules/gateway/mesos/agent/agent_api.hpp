// The HTTP API of an agent: a listener of its own, the executor API, the operator API and the endpoints older tools read.
//
// What there is to tell comes from the daemon, through the host service OPERATE; nothing is followed or kept here.
#pragma once

#include "../access.hpp"
#include "../files.hpp"
#include "../logging.hpp"
#include "../router.hpp"
#include "executor_api.hpp"
#include "permits.hpp"
#include "views.hpp"

#include <gantry/operator_agent_generated.h>

#include <memory>
#include <string>

namespace gantry::gateway_mesos {

struct AgentApiOptions {
  std::string address;
  std::string advertise;              // host:port; empty: the listener's
  bool insecure = false;
  bool authenticate_executors = false;
  std::uint64_t max_body = 16u << 20;
  std::uint64_t start_wall_ns = 0;
};

class AgentApi {
 public:
  AgentApi(Host& host, Doors& doors, Access& access, AgentApiOptions options);
  ~AgentApi();
  Task<Status> start();
  void stop();

  [[nodiscard]] const std::string& trouble() const { return trouble_; }

 private:
  using Say = Function<void(Result<Buffer>)>;
  using Picture = agent_views::Picture;

  void arrived(Bytes request);
  void serve(const ExchangePtr& exchange, Route& route);
  void routes();
  // Whose things these are; asked of the daemon.
  void users(const ExchangePtr& exchange, Function<void(agent_permits::Users)> then);
  // An answer of the daemon, without what this client may not see.
  void restrict(const ExchangePtr& exchange, Buffer reply, Function<void(Buffer)> then);
  // Runs `then` if the client may read that file.
  void sandbox(const ExchangePtr& exchange, const std::string& path, Function<void()> then);
  void ask(const Exchange& exchange, const fb::agent::CallT& call, Say then);
  // GET_STATE, GET_AGENT and GET_CONTAINERS, one after the other, then make() on the host's pool.
  void picture(const ExchangePtr& exchange, bool containers, std::function<std::string(const Picture&, const agent_views::About&)> make);
  static void refuse(const ExchangePtr& exchange, const Error& why);
  void metrics(const ExchangePtr& exchange, Function<void(std::vector<std::pair<std::string, double>>)> then);

  void operator_call(const ExchangePtr& exchange);
  // Asks for a file or a list of them, by a client's path; `then` gets the answer.
  void ask_files(const ExchangePtr& exchange, fb::agent::CallT call, Function<void(Result<const fb::agent::Response*>)> then);
  void debug(const ExchangePtr& exchange);
  void debug(const ExchangePtr& exchange, const std::string& log);
  void with_flags(const ExchangePtr& exchange, Function<void(agent_views::About)> then);

  Host& host_;
  Doors& doors_;
  Access& access_;
  AgentApiOptions options_;
  Router router_;
  ExecutorApi executors_;
  Files files_;
  Logging logging_;
  std::string ip_, hostname_, trouble_;
  std::uint16_t port_ = 0;
  std::uint64_t listener_ = 0;
  bool stopping_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace gantry::gateway_mesos
