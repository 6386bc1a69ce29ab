// The seams of the agent that meet the network, over kernel/net: the link to the master and the probes of health
// checks.
#include "kernel/agent/checks.hpp"
#include "kernel/agent/master_link.hpp"

#include "kernel/net/net.hpp"

namespace gantry::agent {

namespace {

// Every attempt has a generation; what comes from an earlier one is ignored.
class NetMasterLink final : public MasterLink {
 public:
  explicit NetMasterLink(net::RealLoop& loop) : state_(std::make_shared<State>(State{loop, {}, nullptr, 0})) {}
  ~NetMasterLink() override { close(); }

  void events(Events events) override { state_->events = std::move(events); }

  void connect(const std::string& address) override {
    close();
    const auto state = state_;
    const std::uint64_t generation = state->generation;
    const auto parsed = net::parse_address(address);
    if (!parsed) {
      state->loop.post([state, generation, message = parsed.error().message] {
        if (state->generation == generation) state->events.down(message);
      });
      return;
    }
    net::connect(state->loop, *parsed, [state, generation](Result<net::LinkPtr> link) {
      if (state->generation != generation) {
        if (link) (*link)->close();
        return;
      }
      if (!link) return state->events.down(link.error().message);
      state->link = *link;
      state->link->on_frame([state, generation](Bytes frame) {
        if (state->generation == generation) state->events.frame(frame);
      });
      state->link->on_closed([state, generation](const Error& e) {
        if (state->generation != generation) return;
        state->link.reset();
        ++state->generation;
        state->events.down(e.message.empty() ? "the connection was closed" : e.message);
      });
      state->events.up();
    });
  }

  void send(Bytes frame) override {
    if (state_->link) state_->link->send(frame);
  }

  void close() override {
    ++state_->generation;
    if (auto link = std::move(state_->link)) link->close();
    state_->link.reset();
  }

 private:
  struct State {
    net::RealLoop& loop;
    Events events;
    net::LinkPtr link;
    std::uint64_t generation;
  };
  std::shared_ptr<State> state_;
};

}  // namespace

std::unique_ptr<MasterLink> make_net_master_link(net::RealLoop& loop) { return std::make_unique<NetMasterLink>(loop); }

Probes make_net_probes(net::RealLoop& loop) {
  Probes probes;
  probes.tcp = [&loop](std::uint16_t port, base::Nanos timeout, Function<void(Status)> done) {
    net::Address address;
    address.host = "127.0.0.1";
    address.port = port;
    net::probe_tcp(loop, address, timeout, std::move(done));
  };
  probes.http = [&loop](const std::string& url, base::Nanos timeout, Function<void(Result<unsigned>)> done) {
    net::HttpFetch fetch;
    fetch.url = url;
    fetch.timeout = timeout;
    fetch.verify = false;
    fetch.headers.push_back({"user-agent", "gantry-health-check"});
    net::fetch_http(loop, std::move(fetch), [done = std::move(done)](Result<net::HttpFetched> r) mutable {
      if (!r) return done(std::move(r).error());
      done(r->status);
    });
  };
  return probes;
}

}  // namespace gantry::agent
