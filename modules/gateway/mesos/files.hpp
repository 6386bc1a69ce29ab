// Looking into a daemon's files over HTTP (reference mesos-kernel.md B7): /files/browse, /files/read, /files/download.
//
// Agents have sandboxes, masters and agents a log. What there is, and who may look at it, the source says; nothing is opened here.
#pragma once

#include "router.hpp"

#include <gantry/operator_generated.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>

namespace gantry::gateway_mesos {

// The daemon's log as clients know it, and as the daemon does (kernel/daemon_calls.hpp).
inline constexpr std::string_view kMasterLog = "/master/log", kAgentLog = "/slave/log", kDaemonLog = "/log";

// A client's path as the daemon knows it; `log` is the one of its log. NOT_FOUND: the daemon's own names are not the clients'.
[[nodiscard]] Result<std::string> daemon_path(const std::string& path, std::string_view log);

class Files {
 public:
  struct Source {
    // Replies once; what it points to is valid during the call.
    using Listed = Function<void(Result<const fb::ops::ListFiles*>)>;
    using Read = Function<void(Result<const fb::ops::ReadFile*>)>;
    std::function<void(const ExchangePtr&, fb::ops::FilesQueryT, Listed)> list;
    std::function<void(const ExchangePtr&, fb::ops::FileQueryT, Read)> read;
    // Runs `then` if the client may look at that path; else answers.
    std::function<void(const ExchangePtr&, const std::string& path, Function<void()> then)> guard;
  };

  explicit Files(Source source) : source_(std::move(source)) {}
  ~Files() { *alive_ = false; }
  void routes(Router& router, const char* realm);

  // {"/virtual/path": "/real/path", ...}, the answer of /files/debug.
  [[nodiscard]] static std::string debug(const std::map<std::string, std::string>& paths);
  // Answers what could not be listed or read.
  static void refuse(const ExchangePtr& exchange, const Error& why);

 private:
  void browse(const ExchangePtr& exchange);
  void read(const ExchangePtr& exchange);
  void download(const ExchangePtr& exchange, const std::string& path, std::uint64_t offset, std::uint64_t size);

  Source source_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace gantry::gateway_mesos
