// What a framework asks of the agents it is offered: offer constraints and least sizes (mesos-kernel.md A1). Immutable, so that
// one is shared by whoever still needs it; deciding costs no allocation, except where attributes are matched by regex.
#pragma once

#include "kernel/resource/resources.hpp"

#include <gantry/framework_generated.h>
#include <gantry/message.hpp>
#include <gantry/result.hpp>

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace gantry::master {

class Constraints {
 public:
  // Of a framework's `constraints` (may be null) and its info; null when it asks for nothing. INVALID_ARGUMENT tells in words
  // for the framework what is wrong: a role it has not got, an empty group, a regex that is none or too large.
  static Result<std::shared_ptr<const Constraints>> make(const fb::OfferConstraints* constraints,
                                                         const fb::FrameworkInfo& info,
                                                         const std::vector<resource::RoleId>& roles);
  ~Constraints();
  Constraints(const Constraints&) = delete;
  Constraints& operator=(const Constraints&) = delete;

  // Whether anything of this agent may be offered in the role.
  [[nodiscard]] bool admits(resource::RoleId role, const fb::AgentInfo& agent) const;
  // Whether a bundle is large enough for the role.
  [[nodiscard]] bool worth(resource::RoleId role, const resource::Resources& bundle) const;

  // For reads; the message as it was given, packed.
  [[nodiscard]] Bytes message() const { return message_; }
  [[nodiscard]] bool constrains(resource::RoleId role) const { return roles_.contains(role); }
  // Both null, or both ask the same.
  [[nodiscard]] static bool same(const Constraints* a, const Constraints* b);

 private:
  struct Predicate;
  using Group = std::vector<Predicate>;  // all of them
  using Minimum = std::vector<std::pair<resource::NameId, resource::Scalar>>;
  Constraints();
  std::unordered_map<resource::RoleId, std::vector<Group>> roles_;     // any of them
  std::unordered_map<resource::RoleId, std::vector<Minimum>> minima_;  // any of them; none: anything will do
  Buffer message_;
};

}  // namespace gantry::master
