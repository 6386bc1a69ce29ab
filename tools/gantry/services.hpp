// HTTP with the services API.
#pragma once

#include "tools/gantry/cli.hpp"

#include <string>

namespace gantry::cli {

struct HttpAnswer {
  long status = 0;
  std::string body;
};

// One request to services + path. Transport trouble is an error; HTTP statuses are answers.
[[nodiscard]] Result<HttpAnswer> http(const Context&, const std::string& method, const std::string& path,
                                      const std::string& body = {});

// What an answer that is no success means, with the API's own words: 404 -> NOT_FOUND, 401/403 -> PERMISSION_DENIED,
// ...
[[nodiscard]] Error http_error(const HttpAnswer& answer, const std::string& doing);

// "/team/web" for "web" or "/team/web/"; percent-encoded per segment. Empty when there is no id.
[[nodiscard]] std::string app_path(const std::string& id);

}  // namespace gantry::cli
