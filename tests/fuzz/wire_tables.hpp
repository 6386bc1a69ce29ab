// What the fuzzers of the Mesos wire codec share: the first byte of an input picks the message, and what was read is
// valid.
#pragma once

#include "modules/gateway/mesos/wire/codec.hpp"

#include <gantry/executor_generated.h>
#include <gantry/framework_generated.h>
#include <gantry/operator_agent_generated.h>
#include <gantry/operator_generated.h>

#include <cstdlib>

namespace gantry::fuzz {

struct Table {
  const char* name;
  bool (*valid)(Bytes);
};

template <class T>
bool valid(Bytes bytes) {
  return view<T>(bytes) != nullptr;
}

inline const Table& table_of(std::uint8_t first) {
  static const Table tables[] = {{"gantry.fb.Call", valid<fb::Call>},
                                 {"gantry.fb.Event", valid<fb::Event>},
                                 {"gantry.fb.executor.Call", valid<fb::executor::Call>},
                                 {"gantry.fb.executor.Event", valid<fb::executor::Event>},
                                 {"gantry.fb.master.Call", valid<fb::master::Call>},
                                 {"gantry.fb.master.Response", valid<fb::master::Response>},
                                 {"gantry.fb.master.Event", valid<fb::master::Event>},
                                 {"gantry.fb.agent.Call", valid<fb::agent::Call>},
                                 {"gantry.fb.agent.Response", valid<fb::agent::Response>},
                                 {"gantry.fb.agent.ProcessIo", valid<fb::agent::ProcessIo>}};
  return tables[static_cast<std::uint8_t>(first - '0') % std::size(tables)];
}

inline void must(bool holds) {
  if (!holds) std::abort();
}

}  // namespace gantry::fuzz
