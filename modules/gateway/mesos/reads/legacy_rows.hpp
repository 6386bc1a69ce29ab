// What legacy.cpp writes its answers with: a JSON builder, the sums of a view, and one writer for each kind of row.
#pragma once

#include "legacy.hpp"
#include "legacy_json.hpp"
#include "sums.hpp"

#include <array>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace gantry::gateway_mesos::legacy {

using S = fb::TaskState;
inline constexpr std::array kStates = {S::TASK_STAGING, S::TASK_STARTING, S::TASK_RUNNING, S::TASK_KILLING, S::TASK_FINISHED,
                                       S::TASK_KILLED,  S::TASK_FAILED,   S::TASK_LOST,    S::TASK_ERROR,   S::TASK_UNREACHABLE};

// What the rows of a view add up to, by agent and by framework.
struct Tally {
  struct Part {
    Sums used, offered;
    std::array<std::uint32_t, 14> states{};
    std::set<std::string_view> others;  // ids of frameworks, or of agents
    void write(Json& j, std::string_view ids) const;
  };
  std::unordered_map<std::string_view, Part> agents, frameworks;
  std::unordered_map<std::string_view, const AgentRow*> agent;
  std::unordered_map<std::string_view, std::vector<const OfferRow*>> offers;  // of frameworks
  std::unordered_map<std::string_view, std::vector<const ExecutorRow*>> executors;  // likewise

  const Verdicts* verdicts;

  explicit Tally(const View& v, bool count = false);  // count: of the tasks by state, too
  [[nodiscard]] const AgentRow* find(std::string_view id) const {
    const auto it = agent.find(id);
    return it == agent.end() ? nullptr : it->second;
  }
};

[[nodiscard]] inline double seconds(std::uint64_t ns) { return static_cast<double>(ns) / 1e9; }

// Which amounts of a Sums: see Which.
[[nodiscard]] bool is_allocated_to(const Amount& a, std::string_view role);

void task(Json& j, const TaskRow& t, const Tally& tally);
void scalars(Json& j, const flatbuffers::Vector<flatbuffers::Offset<fb::ScalarEntry>>* list);
void recovered(Json& j, const View& v);  // agents the registry knows that have not come back
// `counts`: the key under which an agent tells its frameworks, with the counts of its tasks; empty: neither.
void agent_list(Json& j, const View& v, const Tally& tally, bool full, std::string_view counts = {},
                const std::optional<std::string>& only = {});
void framework_list(Json& j, std::string_view name, const std::vector<View::Framework>& list, const Tally& tally, bool full,
                    const std::optional<std::string>& only = {});

}  // namespace gantry::gateway_mesos::legacy
