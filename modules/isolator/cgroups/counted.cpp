// pids and hugetlb: a number a container may not exceed, the same for all.
#include "controller.hpp"

namespace gantry::isolator_cgroups {
namespace {

class Pids final : public Controller {
 public:
  using Controller::Controller;
  Status apply(const std::string& id, const Limits& limits) override {
    const std::string path = file(id, "pids.max");
    const std::uint64_t most = limits.pids.value_or(policy().pids);
    if (most) return write_file(path, std::to_string(most));
    // The limit may have been taken out of the settings while this container runs.
    return read_number(path) ? write_file(path, "max") : Status(ok);
  }
  void measure(const std::string& id, fb::isolator::UsageT& u) const override {
    u.threads = static_cast<std::uint32_t>(read_number(file(id, "pids.current")));
  }
};

class Hugetlb final : public Controller {
 public:
  using Controller::Controller;
  Status open() override {
    for (const auto& [size, bytes] : policy().hugetlb)
      if (!file_exists(place().dir + "/" + name(size)))
        return fail(Code::unavailable,
                    "hugetlb has a limit for pages of " + size + ", but this machine has no such pages; see /sys/kernel/mm/hugepages");
    return ok;
  }
  Status apply(const std::string& id, const Limits&) override {
    for (const auto& [size, bytes] : policy().hugetlb) GANTRY_CHECK(write_file(file(id, name(size)), std::to_string(bytes)));
    return ok;
  }

 private:
  [[nodiscard]] std::string name(const std::string& size) const { return "hugetlb." + size + (v2() ? ".max" : ".limit_in_bytes"); }
};

}  // namespace

std::unique_ptr<Controller> make_pids(Place place, const Policy& policy) { return std::make_unique<Pids>(std::move(place), policy); }
std::unique_ptr<Controller> make_hugetlb(Place place, const Policy& policy) { return std::make_unique<Hugetlb>(std::move(place), policy); }

}  // namespace gantry::isolator_cgroups
