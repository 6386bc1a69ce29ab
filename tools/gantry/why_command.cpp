// gantry why framework: what stands between a framework and its offers.
#include "tools/gantry/control.hpp"
#include "tools/gantry/format.hpp"
#include "tools/gantry/json_writer.hpp"
#include "tools/gantry/resources.hpp"

#include <iostream>

namespace gantry::cli {

namespace control = fb::control;

namespace {

int print_json(Context& c, const control::WhyT& w) {
  JsonWriter j;
  j.open('{').field("framework_id", w.framework_id).field("name", w.name).field("connected", w.connected).field("completed", w.completed);
  j.key("agents").open('{').field("registered", w.agents).field("disconnected", w.disconnected).field("deactivated", w.deactivated);
  j.field("draining", w.draining).field("maintenance_planned", w.planned).field("away", w.away).close();
  j.list("reasons", w.reasons).key("roles").open('[');
  for (const auto& r : w.roles) {
    j.open('{').field("role", r->role).field("suppressed", r->suppressed).field("offers", r->offers).field("agents", r->agents);
    j.field("excluded_by_constraints", r->excluded).field("declined", r->declined);
    j.field("next_filter_ends_seconds", static_cast<double>(r->next_ns / 1'000'000) / 1000).field("nothing_free", r->taken);
    j.field("largest_free_agent", r->largest_agent);
    write_resources(j, "largest_free", r->largest);
    write_resources(j, "quota", r->quota);
    j.list("reasons", r->reasons).close();
  }
  j.close().close();
  *c.out << j.text();
  return exit_ok;
}

}  // namespace

int why_framework(Context& c, const std::string& id) {
  auto daemon = Daemon::find(c);
  if (!daemon) return report(c, daemon.error());
  control::AskWhyT ask;
  ask.framework_id = id;
  control::WhyT w;
  if (const Status s = daemon->ask_for<control::WhyT>(std::move(ask), [&](const control::WhyT& found) { w = found; }); !s)
    return report(c, s.error());
  if (c.json) return print_json(c, w);
  *c.out << "Framework " << printable(w.framework_id) << " (" << printable(w.name) << "), "
         << (w.completed ? "completed" : w.connected ? "connected" : "not connected") << "\n";
  for (const std::string& reason : w.reasons) *c.out << "  " << printable(reason) << "\n";
  for (const auto& r : w.roles) {
    *c.out << "Role " << printable(r->role) << ": " << plural(r->offers, "open offer") << (r->suppressed ? ", suppressed" : "") << "\n";
    for (const std::string& reason : r->reasons) *c.out << "  " << printable(reason) << "\n";
    if (!r->largest_agent.empty())
      *c.out << "  Most that is free for it at one place: " << amount(scalar(r->largest, "cpus")) << " cpus, "
             << mebibytes(scalar(r->largest, "mem")) << " of memory on " << printable(r->largest_agent) << ".\n";
  }
  return exit_ok;
}

}  // namespace gantry::cli
