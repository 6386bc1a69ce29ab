// One run of a module's process. Internal to this folder.
#pragma once

#include "kernel/module/process/frame.hpp"
#include "kernel/module/process/instance.hpp"
#include "kernel/net/io.hpp"

#include <memory>
#include <string>

namespace gantry::module::process {

struct ProcessInstance::Child {
  Spawned spawned;
  std::unique_ptr<net::FdWatch> socket, output;
  std::uint64_t exit_watch = 0;
  FrameReader reader{FrameReader::From::host};
  FrameWriter writer;
  bool connected = true;
  bool flush_posted = false, blocked = false;
  bool ended = false;
  std::uint32_t threshold = 0xffffffff;  // the log level it was told
  std::string why;                       // of its end, where we know better than waitid
  base::TimerId timer = 0;               // until SIGKILL; or until its end has to follow the end of its connection
  base::TimerId output_timer = 0;        // while its lines are not read
  std::string line;                      // begun, not ended
  std::vector<Promise<bool>> waiting;    // for the end
};

}  // namespace gantry::module::process
