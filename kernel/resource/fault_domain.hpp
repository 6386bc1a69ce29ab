// Where a machine stands, as "region/zone": machines of a zone fail together, and the way to another region is long.
#pragma once

#include <gantry/result.hpp>

#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace gantry::fb {
struct DomainInfoT;
}

namespace gantry::resource {

struct FaultDomain {
  std::string region, zone;
  friend bool operator==(const FaultDomain&, const FaultDomain&) = default;
};

// Empty text: none. Neither part may be empty or hold a slash, a space or a control character.
[[nodiscard]] Result<std::optional<FaultDomain>> parse_fault_domain(std::string_view text);
// As agents and masters tell it (wire.cpp).
[[nodiscard]] std::unique_ptr<fb::DomainInfoT> to_wire(const FaultDomain& domain);

}  // namespace gantry::resource
