// Who leads, and what this master calls itself.
//
// Asked of the daemon (host service QUERY): on every request while this master does not lead, so that a client never
// waits for a poll, and once a second while it does.
#pragma once

#include <gantry/control_generated.h>
#include <gantry/types_generated.h>
#include <gantry/host.hpp>

#include <string>
#include <vector>

namespace gantry::gateway_mesos {

// Clients switch features on by it, and some take it apart: three numbers (clients.md section 0, rule 12).
inline constexpr std::string_view kVersion = "1.11.0";

struct MasterView {
  bool leading = false;               // this master leads and has recovered
  bool recovering = false;            // it was elected and reads its records
  std::string id;                     // of this term, prefix of all ids; empty unless leading
  std::string leader;                 // "host:port" of the leader's API; empty: nobody leads
  Buffer domain;                      // fb::DomainInfo: where this master stands; empty: not said
  std::uint64_t elected_wall_ns = 0;  // when this gateway first saw it leading in this term
};

// How this master appears to clients. Fixed once it listens.
struct Self {
  std::string hostname;  // a name or a dotted address
  std::string ip;        // dotted
  std::uint16_t port = 0;
  std::string cluster;
  std::uint64_t start_wall_ns = 0;
  [[nodiscard]] std::string pid() const { return "master@" + ip + ":" + std::to_string(port); }
  [[nodiscard]] std::string host_port() const { return hostname + ":" + std::to_string(port); }
  // The address as MasterInfo.ip has it: network byte order, read as a number of this host.
  [[nodiscard]] std::uint32_t ip_number() const;
};

class Masters {
 public:
  explicit Masters(Host& host) : host_(host) {}
  Self& self() { return self_; }
  [[nodiscard]] const Self& self() const { return self_; }
  [[nodiscard]] const MasterView& view() const { return view_; }
  // As it stands in SUBSCRIBED and in answers about the master.
  [[nodiscard]] fb::MasterInfoT info() const;
  // Runs when `leading` or the term changes.
  void on_change(Function<void()> fn) { on_change_ = std::move(fn); }

  void start();  // begins to poll
  void stop();
  // Asks now; `then` runs with the view that came, also when the question failed.
  void refresh(Function<void()> then);
  // Something was refused because this master does not lead: what is known is out of date.
  void doubt();

 private:
  void poll();
  void answered(gantry_code code, Bytes body);

  Host& host_;
  Self self_;
  MasterView view_;
  Function<void()> on_change_;
  std::vector<Function<void()>> waiting_;
  bool asking_ = false, stopped_ = false;
  std::uint64_t timer_ = 0;
};

}  // namespace gantry::gateway_mesos
