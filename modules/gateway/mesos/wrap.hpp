// How a body that is whole leaves: inside a function call where ?jsonp= asks for one, compressed where the client takes gzip.
#pragma once

#include "exchange.hpp"

namespace gantry::gateway_mesos {

// What the client asked for.
struct Wrapping {
  std::string callback;  // empty: none
  bool zip = false;
};
[[nodiscard]] Wrapping wrapping(const Exchange& exchange);

struct Wrapped {
  std::string body;
  std::string_view type;
  bool zipped = false;
};
// Pure; any thread. Large bodies are wrapped off the strand.
[[nodiscard]] Wrapped wrap(std::string body, std::string_view type, const Wrapping& how);

void send(const ExchangePtr& exchange, const Wrapped& body);
// 200 with that body, which is wrapped here; for small ones. No Content-Type if it is empty, as clients compare it.
void finish(const ExchangePtr& exchange, std::string body, std::string_view type);

}  // namespace gantry::gateway_mesos
