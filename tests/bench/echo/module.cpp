#include <gantry/fetcher.hpp>

namespace gantry::fetcher_echo {

class Echo final : public Fetcher {
 public:
  Task<Status> fetch(Request<fb::fetcher::Fetch> r, std::uint64_t) override {
    // Five fields, as a module that uses its message would.
    std::size_t n = text(r->container_id()).size() + text(r->directory()).size() + text(r->user()).size();
    if (r->uris())
      for (const auto* u : *r->uris()) n += text(u->value()).size() + (u->extract() ? 1 : 0);
    if (n == 0) co_return fail(Code::invalid_argument, "an empty message");
    co_return ok;
  }
};

}  // namespace gantry::fetcher_echo

GANTRY_MODULE(gantry::fetcher_echo::Echo, "echo")
