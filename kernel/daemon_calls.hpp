// What operators ask of the daemon itself, be it a master, an agent or both, leading or not: what it logs, and its log file.
//
// The log is a file where stderr is one (`gantryd 2>>FILE`, or StandardError=append: of systemd); a terminal, a pipe or a journal
// cannot be read back. For these calls it is the path "/log"; "/" lists where it lies on this machine, if anywhere.
#pragma once

#include "kernel/base/loop.hpp"
#include "kernel/module/module.hpp"

#include <gantry/operator_generated.h>

namespace gantry::kernel {

// The open file behind a descriptor, read from elsewhere than its end. Blocks; any thread.
class LogFile {
 public:
  explicit LogFile(int descriptor) : descriptor_(descriptor) {}
  // At most `length` bytes from `offset` on, at most 1 MiB, and the size of the whole. NOT_FOUND: it is no regular file.
  [[nodiscard]] Result<fb::ops::ReadFileT> read(std::uint64_t offset, std::optional<std::uint64_t> length) const;
  [[nodiscard]] Result<std::string> path() const;

 private:
  int descriptor_;
};

// Logs everything for a while; then as before. On the loop's thread.
class RaisedLogging {
 public:
  explicit RaisedLogging(base::Loop& loop) : loop_(loop) {}
  ~RaisedLogging() { lower(); }
  // Level 0, or no time: as before, at once. Another raise counts from now.
  void raise(std::uint32_t level, base::Nanos duration);
  // What the configuration asks for now; counts at once, or when it is over.
  void configured(std::uint32_t threshold);

 private:
  void lower();

  base::Loop& loop_;
  base::TimerId timer_ = 0;
  std::uint32_t before_ = 0;  // while it is raised
};

// The part of the service OPERATE that neither agent nor master answers.
class DaemonCalls {
 public:
  explicit DaemonCalls(base::Loop& loop) : loop_(loop), logging_(loop) {}
  // True if the call is one of these: `reply` has run, or will. `to_agent`: the body holds an agent.Call, else a master.Call.
  bool take(const module::ServiceRequest& request, bool to_agent, const module::ServiceReply& reply);
  [[nodiscard]] RaisedLogging& logging() { return logging_; }

 private:
  template <class Call, class Response, class ResponseType>
  bool take(Bytes call, bool files_of_others, const module::ServiceReply& reply);

  base::Loop& loop_;
  RaisedLogging logging_;
};

}  // namespace gantry::kernel
