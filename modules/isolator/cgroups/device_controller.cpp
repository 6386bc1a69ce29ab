// devices: the controller of version 1, and on version 2 the eBPF filter in its place.
#include "controller.hpp"

namespace gantry::isolator_cgroups {
namespace {

class DevicesV1 final : public DeviceController {
 public:
  using DeviceController::DeviceController;
  Status create(const std::string& id, const Limits& l) override {
    if (l.all_devices) return ok;
    // A second PREPARE finds the list made and leaves it alone: what ATTACH added stays.
    if (read_file(file(id, "devices.list")).value_or("a").substr(0, 1) != "a") return ok;
    GANTRY_CHECK(write_file(file(id, "devices.deny"), "a"));
    GANTRY_CHECK(allow(id, default_devices()));
    return allow(id, policy().allowed);
  }
  Status allow(const std::string& id, const std::vector<DeviceRule>& more) override {
    for (const auto& rule : more) GANTRY_CHECK(write_file(file(id, "devices.allow"), rule.text()));
    return ok;
  }
};

class DevicesV2 final : public DeviceController {
 public:
  using DeviceController::DeviceController;
  Status open() override {
    auto can = can_load_device_programs();
    if (!can) return std::move(can).error().because("containers may use every device node");
    return ok;
  }
  Status create(const std::string& id, const Limits& l) override {
    if (l.all_devices) return ok;
    GANTRY_TRY(const bool there, devices_enforced(place().dir + "/" + id));
    return there ? Status(ok) : enforce_devices(place().dir + "/" + id, everybody());
  }
  Status allow(const std::string& id, const std::vector<DeviceRule>& more) override {
    // None there: the container is privileged and has all devices already.
    GANTRY_TRY(const bool there, devices_enforced(place().dir + "/" + id));
    if (!there) return ok;
    auto rules = everybody();
    rules.insert(rules.end(), more.begin(), more.end());
    return enforce_devices(place().dir + "/" + id, rules);
  }

 private:
  [[nodiscard]] std::vector<DeviceRule> everybody() const {
    auto rules = default_devices();
    rules.insert(rules.end(), policy().allowed.begin(), policy().allowed.end());
    return rules;
  }
};

}  // namespace

std::unique_ptr<DeviceController> make_devices(Place place, const Policy& policy) {
  if (place.version == 2) return std::make_unique<DevicesV2>(std::move(place), policy);
  return std::make_unique<DevicesV1>(std::move(place), policy);
}

}  // namespace gantry::isolator_cgroups
