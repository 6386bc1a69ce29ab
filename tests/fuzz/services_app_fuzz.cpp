// Application definitions as HTTP bodies: no crash, and what is accepted prints and reads back as the same.
#include "modules/framework/services/app.hpp"

#include <cstdlib>

using namespace gantry;
using namespace gantry::framework_services;

namespace {

bool read_app(std::string_view body, Object& app) {
  auto parsed = parse_json(body);
  if (!parsed) return false;
  Details errors;
  app = shape_app(*parsed, "", errors);
  if (!errors.empty()) return false;
  modernise(app, "", errors);
  if (!errors.empty()) return false;
  complete(app, "/");
  const std::string role = text_of(app, "role", "*");
  validate_app(app, "", role, errors);
  if (!errors.empty()) return false;
  ServicePorts ports;
  ports.used = [](int) { return false; };
  return assign_service_ports(app, nullptr, ports).has_value();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Object app, again;
  if (!read_app({reinterpret_cast<const char*>(data), size}, app)) return 0;
  const std::string printed = print_json(app);
  (void)decode_app(app);
  if (!read_app(printed, again) || print_json(again) != printed) std::abort();
  return 0;
}
