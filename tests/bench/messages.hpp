// What the benches' frameworks and agents say, built with as little work as possible: they share the machine with what is
// measured.
#pragma once

#include <gantry/framework_generated.h>
#include <gantry/link_generated.h>
#include <gantry/message.hpp>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace gantry::bench {

using Wire = std::vector<std::unique_ptr<fb::ResourceT>>;
[[nodiscard]] Wire wire(std::string_view text);

// ---- fb::Call
[[nodiscard]] Buffer subscribe_call(const std::string& name, const std::string& role, bool suppressed);
[[nodiscard]] Buffer revive_call(const std::string& framework);
[[nodiscard]] Buffer suppress_call(const std::string& framework);
[[nodiscard]] Buffer decline_call(const std::string& framework, const std::vector<std::string>& offers, double refuse_seconds);
[[nodiscard]] Buffer acknowledge_call(std::string_view framework, const fb::TaskStatus& status);

// Tasks "<prefix><number>" of the command /bin/true, `count` of them from `first` on, all in one accept.
struct LaunchCall {
  std::string framework, agent;
  std::vector<std::string> offers;
  std::string prefix;
  std::size_t first = 0, count = 1;
  std::string resources;               // of each task: "cpus:1;mem:32", scalars only
  double refuse_seconds = 5;
  std::vector<std::string> arguments;  // instead of "true"
};
[[nodiscard]] Buffer accept_call(const LaunchCall& launch);

// ---- fb::link::ToMaster
[[nodiscard]] Buffer hello_frame();
[[nodiscard]] Buffer register_frame(const fb::link::RegisterT& registration);
[[nodiscard]] Buffer register_frame(const std::string& hostname, const std::string& resources);
[[nodiscard]] Buffer update_frame(std::string_view framework, std::string_view agent, std::string_view task, fb::TaskState state,
                                  std::uint64_t serial);
[[nodiscard]] Buffer pong_frame(std::uint64_t seq);
// The state an update with this uuid was about.
[[nodiscard]] fb::TaskState state_of(const flatbuffers::Vector<std::uint8_t>& uuid);

}  // namespace gantry::bench
