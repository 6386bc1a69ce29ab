// What can be wrong with a framework: framework/services, whose conversation with the master is changed on the way.
#include "shim.hpp"

#include "services.hpp"

namespace broken {
namespace {

namespace fb = gantry::fb;
constexpr std::uint32_t cluster = 1, store = 2, subscribe = 16, call_method = 17;

class FrameworkShim final : public Shim {
 public:
  using Shim::Shim;

  gantry_code request(std::uint32_t service, std::uint32_t method, Bytes body, std::uint64_t token) override {
    if (service == store && fault("remembers_nothing") && method == 17) {
      // Says it is stored.
      later(0, [this, token] { Shim::reply(token, GANTRY_OK, {}); });
      return GANTRY_OK;
    }
    if (service != cluster) return ask(service, method, body, token);
    auto c = gantry::unpack<fb::Call>(body);
    if (!c) return ask(service, method, body, token);
    if (method == subscribe) {
      ++subscriptions_;
      if (fault("subscribes_anew")) {
        c->framework_id.clear();
        if (c->subscribe && c->subscribe->framework_info) c->subscribe->framework_info->id.clear();
      }
      if (fault("subscribes_once") && subscriptions_ > 1) return GANTRY_OK;  // never asked, never answered
      if (fault("nameless") && c->subscribe && c->subscribe->framework_info) c->subscribe->framework_info->name.clear();
    }
    if (method == call_method) {
      const bool acknowledges = c->type == fb::CallType::ACKNOWLEDGE;
      const bool declines = c->type == fb::CallType::DECLINE;
      if ((acknowledges && fault("acknowledges_nothing")) || (declines && fault("sits_on_offers"))) {
        later(0, [this, token] { Shim::reply(token, GANTRY_OK, {}); });
        return GANTRY_OK;
      }
      if (acknowledges && fault("acknowledges_twice")) ask(service, method, gantry::pack(*c), token | (std::uint64_t{1} << 62));
    }
    return ask(service, method, gantry::pack(*c), token);
  }
  void call(const gantry_call& c) override {
    if (c.method == 2 && fault("tears_down_at_stop")) {
      fb::CallT down;
      down.type = fb::CallType::TEARDOWN;
      down.framework_id = "conformance-0001";
      ask(cluster, call_method, gantry::pack(down), std::uint64_t{1} << 61);
    }
    pass(c);
  }

 private:
  int subscriptions_ = 0;
};

}  // namespace

gantry_provider inner_provider() { return gantry::provider<gantry::framework_services::Services>("services"); }
std::unique_ptr<Shim> make_shim(const gantry_host* real) { return std::make_unique<FrameworkShim>(real); }

}  // namespace broken
