// What of a master's files may be looked at: its log. The host service OPERATE reads it, whether this master leads or not.
#pragma once

#include "../access.hpp"
#include "../files.hpp"

#include <gantry/host.hpp>
#include <gantry/operator_generated.h>

#include <functional>
#include <memory>

namespace gantry::gateway_mesos {

class MasterFiles {
 public:
  MasterFiles(Host& host, Access& access);
  ~MasterFiles() { *alive_ = false; }
  // /files/browse, /files/read, /files/download, /files/debug
  void routes(Router& router);
  // READ_FILE and LIST_FILES. `answer` runs when there is one; all else has been answered.
  void call(const ExchangePtr& exchange, const fb::master::Call& call, std::function<void(const fb::master::ResponseT&)> answer);

 private:
  using Told = Function<void(Result<const fb::master::Response*>)>;
  // By a client's path.
  void ask(const ExchangePtr& exchange, fb::master::CallT call, Told then);
  void tell(const ExchangePtr& exchange, const fb::master::CallT& call, Told then);
  void debug(const ExchangePtr& exchange);

  Host& host_;
  Access& access_;
  Files files_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace gantry::gateway_mesos
