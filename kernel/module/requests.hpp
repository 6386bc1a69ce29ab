// The host services one instance has asked for: checked against its manifest, followed until they are answered. The same
// for a module in this process and one in its own.
#pragma once

#include "kernel/module/instance.hpp"

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>

namespace gantry::module {

// On the loop.
class Requests {
 public:
  // An answer for the module: MORE any number of times, then one final code.
  using Deliver = std::function<void(std::uint32_t service, std::uint64_t token, gantry_code, Bytes)>;
  struct Setup {
    std::string id;               // of the instance, for errors
    const Services* services;     // may grow
    std::set<std::string> allowed;
    std::size_t queue_bytes;      // a stream whose chunks would wait behind more than that is cut
    Deliver deliver;
    std::function<std::size_t()> backlog;  // bytes on their way to the module
    std::function<void(std::string_view)> fault;
  };
  explicit Requests(Setup setup) : setup_(std::move(setup)) {}
  // Services answer through this; once it is gone, their answers are dropped.
  void bind(std::weak_ptr<Requests> self) { self_ = std::move(self); }

  // Told of each request and answer from now on; null: nobody.
  void trace(Tracer* tracer) { tracer_ = tracer; }

  // `instance` null: the owner has gone, everything is refused.
  void ask(Instance* instance, std::uint32_t service, std::uint32_t method, std::uint64_t token, Bytes body);
  // The module does not want it any more; its answer still comes.
  void cancel(std::uint64_t token);
  // Cancels all; `answer`: and tells the module so. Else it is no longer there to be told.
  void close(bool answer);

 private:
  struct Open {
    std::uint32_t service, method;
    std::uint64_t token;
  };
  void deliver(const Open& open, gantry_code code, Bytes bytes);
  void on_reply(std::uint64_t request, gantry_code code, Bytes bytes);

  Setup setup_;
  Tracer* tracer_ = nullptr;
  std::weak_ptr<Requests> self_;
  std::unordered_map<std::uint64_t, Open> open_;          // by our id
  std::unordered_map<std::uint64_t, std::uint64_t> ids_;  // the module's token -> our id
};

}  // namespace gantry::module
