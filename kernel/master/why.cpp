// Why a framework is offered what it is, or nothing: read from the books, in numbers and in words. Nothing here decides.
#include "kernel/master/core.hpp"
#include "kernel/resource/wire.hpp"

#include <gantry/control_generated.h>

#include <algorithm>

namespace gantry::master {

namespace fc = fb::control;

namespace {

std::string count(std::size_t n, std::string_view noun) {
  return std::to_string(n) + " " + std::string(noun) + (n == 1 ? "" : "s");
}
std::string seconds(Nanos d) {
  const auto s = std::max<std::int64_t>(1, (d.count() + 999'999'999) / 1'000'000'000);
  if (s < 120) return std::to_string(s) + " s";
  if (s < 7200) return std::to_string(s / 60) + " min";
  return std::to_string(s / 3600) + " h";
}

}  // namespace

Result<fc::WhyT> Core::why(std::string_view framework_id, Instant now) const {
  fc::WhyT out;
  out.framework_id = framework_id;
  const Handle fh = find_framework(framework_id);
  if (!fh) {
    for (const auto& f : completed_) {
      if (f.id != framework_id) continue;
      out.name = text(f.info.as<fb::FrameworkInfo>()->name());
      out.completed = true;
      out.reasons.emplace_back("It is over: it was torn down, or did not return within its failover_timeout.");
      return out;
    }
    if (removed_ids_.contains(std::string(framework_id)))
      return fail(Code::not_found, "framework " + std::string(framework_id) + " was removed long ago");
    return fail(Code::not_found, "framework " + std::string(framework_id) + " is not known; `gantry frameworks` lists those that are");
  }
  const Framework& f = frameworks_[fh];
  out.name = text(f.about().name());
  out.connected = f.connected();
  if (f.removing) out.reasons.emplace_back("It is being removed.");
  if (!f.connected()) {
    std::string s = f.recovered ? "It has not returned since this master was elected" : "It is not connected";
    if (f.failover_at != Instant::max()) s += "; it is removed if it does not return within " + seconds(f.failover_at - now);
    out.reasons.push_back(s + ".");
  }
  if (f.roles.empty()) out.reasons.emplace_back("It has subscribed to no role; nothing is offered to it.");

  struct Count {
    std::size_t agents = 0, far = 0, excluded = 0, declined = 0, taken = 0, small = 0, beyond = 0;
    Nanos next = Nanos::max();
    Resources largest;
    Handle largest_agent = 0;
  };
  std::vector<Count> counts(f.roles.size());
  // One walk for all roles: agents may be many, roles of a framework are few.
  for (Handle h = 1; h < agents_.end(); ++h) {
    if (!agents_.contains(h)) continue;
    const Agent& a = agents_[h];
    if (a.state == AgentState::unreachable || a.state == AgentState::recovered) ++out.away;
    if (a.state != AgentState::registered) continue;
    ++out.agents;
    if (!a.link) ++out.disconnected;
    else if (a.upkeep && a.upkeep->drain != Upkeep::Drain::none) ++out.draining;
    else if (a.deactivated()) ++out.deactivated;
    if (a.upkeep && a.upkeep->planned) ++out.planned;
    if (!a.active) continue;
    for (std::size_t i = 0; i < f.roles.size(); ++i) {
      const RoleId role = f.roles[i];
      Count& c = counts[i];
      ++c.agents;
      if (!f.region_aware && remote(a)) {
        ++c.far;
        continue;
      }
      if (f.wishes && !f.wishes->admits(role, a.about())) {
        ++c.excluded;
        continue;
      }
      const auto refused = f.declined.find(std::uint64_t{static_cast<std::uint32_t>(role)} << 32 | h);
      if (refused != f.declined.end() && refused->second > now) {
        ++c.declined;
        c.next = std::min(c.next, refused->second - now);
        continue;
      }
      Resources free = a.available.allocatable_to(role);
      if (free.empty()) {
        ++c.taken;
        continue;
      }
      if (quotas_) {
        Resources allowed = within_limits(role, free);
        if (!allowed.cpus().milli() && !allowed.mem().milli() && (free.cpus().milli() || free.mem().milli())) {
          ++c.beyond;
          continue;
        }
        free = std::move(allowed);
      }
      if (f.wishes && !f.wishes->worth(role, free)) ++c.small;
      const auto less = [](const Resources& x, const Resources& y) {
        return std::pair(x.cpus(), x.mem()) < std::pair(y.cpus(), y.mem());
      };
      if (!c.largest_agent || less(c.largest, free)) {
        c.largest = std::move(free);
        c.largest_agent = h;
      }
    }
  }

  if (!out.agents) out.reasons.emplace_back(out.away ? "No agent is registered; " + count(out.away, "known one") + " may still return."
                                                     : std::string("No agent has joined the cluster."));
  const auto note = [&](std::size_t n, const char* what) {
    if (n) out.reasons.push_back(count(n, "agent") + " of " + std::to_string(out.agents) + (n == 1 ? " is " : " are ") + what + ".");
  };
  note(out.disconnected, "not connected at present");
  note(out.draining, "being drained, or drained, by the operator");
  note(out.deactivated, "deactivated by the operator");
  if (!in_flight_ && allocator_retry_ > now)
    out.reasons.push_back("The allocator has failed; it is asked again in " + seconds(allocator_retry_ - now) + ".");

  for (std::size_t i = 0; i < f.roles.size(); ++i) {
    const RoleId role = f.roles[i];
    const Count& c = counts[i];
    auto row = std::make_unique<fc::WhyRoleT>();
    row->role = resource::text_of(role);
    row->suppressed = std::find(f.suppressed.begin(), f.suppressed.end(), role) != f.suppressed.end();
    for (Handle o = f.first_offer; o; o = offers_[o].of_framework.next) row->offers += offers_[o].role == role;
    row->agents = static_cast<std::uint32_t>(c.agents);
    row->excluded = static_cast<std::uint32_t>(c.excluded + c.far);
    row->declined = static_cast<std::uint32_t>(c.declined);
    row->taken = static_cast<std::uint32_t>(c.taken);
    if (c.declined) row->next_ns = c.next.count();
    row->largest = resource::to_wire(c.largest);
    if (c.largest_agent) row->largest_agent = agents_[c.largest_agent].id();
    auto& why = row->reasons;
    if (row->offers) why.push_back("It holds " + count(row->offers, "offer") + " that it has not answered.");
    if (row->suppressed) why.emplace_back("It has suppressed offers of this role; a REVIVE call ends that.");
    const std::string of = " of " + count(c.agents, "agent") + " that may be offered";
    if (c.far) why.push_back(std::to_string(c.far) + of + " stand in another region, and it is not REGION_AWARE.");
    if (c.excluded) why.push_back(std::to_string(c.excluded) + of + " do not meet its offer constraints.");
    if (c.declined)
      why.push_back("It has declined what " + std::to_string(c.declined) + of + " have; the first of these filters ends in " +
                    seconds(c.next) + ".");
    if (c.taken) why.push_back(std::to_string(c.taken) + of + " have nothing free for this role: all is used, offered or reserved for others.");
    // The quota that binds: of the role itself, or of one above it.
    for (RoleId up = role; up != RoleId::none; up = resource::parent_of(up)) {
      const auto it = role_settings_.find(up);
      if (it == role_settings_.end() || it->second.limits.empty()) continue;
      std::string has;
      for (const auto& [name, limit] : it->second.limits) {
        std::int64_t used = 0;
        for (const auto* part : {&it->second.allocated, &it->second.reserved})
          if (const auto at = part->find(name); at != part->end()) used += at->second;
        has += (has.empty() ? "" : ", ") + resource::Scalar::milli(used).text() + " of " + resource::Scalar::milli(limit).text() + " " +
               std::string(resource::text_of(name));
        if (up != role) continue;
        auto r = std::make_unique<fb::ResourceT>();
        r->name = resource::text_of(name);
        r->type = fb::ValueType::SCALAR;
        r->scalar = resource::Scalar::milli(limit).value();
        row->quota.push_back(std::move(r));
      }
      why.push_back("Role " + std::string(resource::text_of(up)) + " has a quota and uses " + has + ".");
    }
    if (c.beyond) why.push_back("What " + std::to_string(c.beyond) + of + " have free is beyond the quota.");
    if (c.small) why.push_back(std::to_string(c.small) + of + " have less free than its min_allocatable_resources ask for.");
    const std::size_t open = c.agents - c.far - c.excluded - c.declined - c.taken - c.small - c.beyond;
    if (open && !row->offers && !row->suppressed && f.connected())
      why.push_back(count(open, "agent") + " could be offered to it; other frameworks with a smaller share are served first, or what is free is below the allocator's min_allocatable.");
    out.roles.push_back(std::move(row));
  }
  return out;
}

}  // namespace gantry::master
