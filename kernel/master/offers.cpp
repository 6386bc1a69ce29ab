// Offers: made from grants, declined, withdrawn, expired. What an offer held always goes back through give_back().
#include "kernel/master/core.hpp"
#include "kernel/master/messages.hpp"
#include "kernel/resource/wire.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>

namespace gantry::master {

std::string Core::offer_id(std::uint64_t number) const { return options_.run_id + "-O" + std::to_string(number); }

Handle Core::find_offer(std::string_view id) const {
  const std::size_t prefix = options_.run_id.size() + 2;
  if (id.size() <= prefix || id.substr(0, options_.run_id.size()) != options_.run_id ||
      id.substr(options_.run_id.size(), 2) != "-O")
    return 0;
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(id.data() + prefix, id.data() + id.size(), number);
  if (error != std::errc() || end != id.data() + id.size()) return 0;
  return offer_numbered(number);
}

Handle Core::add_offer(Handle agent, Handle framework, RoleId role, Resources resources) {
  const Handle h = offers_.emplace();
  Offer& o = offers_[h];
  o.number = next_offer_++;
  o.resources = std::move(resources);
  o.framework = framework;
  o.agent = agent;
  o.role = role;
  offer_by_number_.insert(mix(o.number), h);
  chain_push(offers_, &Offer::of_agent, agents_[agent].first_offer, h);
  chain_push(offers_, &Offer::of_framework, frameworks_[framework].first_offer, h);
  ++frameworks_[framework].offers;
  ++counters_.offers_made;
  note_offer(h);
  ask_back(agent);
  expire_later(o.number);
  return h;
}

void Core::expire_later(std::uint64_t number) {
  if (options_.offer_timeout <= Nanos(0)) return;
  offer_expiry_.push_back({now_ + options_.offer_timeout, number});
  // Most are answered long before; what has gone must not be kept until its time, which at a million offers is much memory.
  if (offer_expiry_.size() < expiry_bound_) return;
  std::erase_if(offer_expiry_, [this](const Due& d) { return !offer_numbered(d.what); });
  expiry_bound_ = std::max<std::size_t>(1024, 2 * offer_expiry_.size());
}

Handle Core::offer_numbered(std::uint64_t number) const {
  return offer_by_number_.find(mix(number), [&](Handle h) { return offers_[h].number == number; });
}

void Core::send_offers(std::vector<std::pair<Handle, Handle>>& made) {
  std::stable_sort(made.begin(), made.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  constexpr std::size_t kPerEvent = 128;  // small enough for the allocator of memory to reuse
  for (std::size_t i = 0; i < made.size();) {
    const Handle fh = made[i].first;
    const Framework& f = frameworks_[fh];
    std::size_t end = i;
    while (end < made.size() && made[end].first == fh && end - i < kPerEvent) ++end;
    flatbuffers::FlatBufferBuilder b(256 + 640 * (end - i));
    std::vector<flatbuffers::Offset<fb::Offer>> offers;
    offers.reserve(end - i);
    const auto framework_id = b.CreateString(f.id);
    for (; i < end; ++i) {
      if (i + 12 < made.size()) offers_.prefetch(made[i + 12].second);
      if (i + 8 < made.size()) {
        const Offer& next = offers_[made[i + 8].second];
        agents_.prefetch(next.agent);
        next.resources.prefetch_entries();
      }
      if (i + 4 < made.size()) {
        const Offer& next = offers_[made[i + 4].second];
        __builtin_prefetch(Bytes(agents_[next.agent].info).data());
        next.resources.prefetch_values();
      }
      const Offer& o = offers_[made[i].second];
      const Agent& a = agents_[o.agent];
      const auto& about = a.about();
      char id[96];
      const int n =
          std::snprintf(id, sizeof id, "%s-O%llu", options_.run_id.c_str(), static_cast<unsigned long long>(o.number));
      const auto id_at = n < static_cast<int>(sizeof id) ? b.CreateString(id, static_cast<std::size_t>(n))
                                                         : b.CreateString(offer_id(o.number));
      const auto agent_id = b.CreateString(a.id().data(), a.id().size());
      const auto hostname = b.CreateString(text(about.hostname()).data(), text(about.hostname()).size());
      const auto resources = resource::write_allocated(b, o.resources, o.role);
      flatbuffers::Offset<flatbuffers::Vector<flatbuffers::Offset<fb::Attribute>>> attributes;
      if (about.attributes() && about.attributes()->size() > 0) attributes = graft(b, a.info, about.attributes());
      flatbuffers::Offset<fb::DomainInfo> domain;
      if (about.domain()) domain = graft(b, a.info, about.domain());
      const auto role_text = resource::text_of(o.role);
      const auto role = b.CreateSharedString(role_text.data(), role_text.size());
      flatbuffers::Offset<fb::Unavailability> unavailability;
      if (a.upkeep && a.upkeep->planned) {
        fb::UnavailabilityBuilder u(b);
        u.add_start_ns(a.upkeep->start_ns);
        if (a.upkeep->duration_ns) u.add_duration_ns(*a.upkeep->duration_ns);
        unavailability = u.Finish();
      }
      flatbuffers::Offset<flatbuffers::Vector<flatbuffers::Offset<flatbuffers::String>>> executors;
      if (const auto list = executors_.find(o.agent); list != executors_.end()) {
        std::vector<flatbuffers::Offset<flatbuffers::String>> ids;
        for (const auto& e : list->second)
          if (e.framework == fh) ids.push_back(b.CreateString(e.id().data(), e.id().size()));
        if (!ids.empty()) executors = b.CreateVector(ids);
      }
      // Where the agent's own API is: frameworks take its address from here.
      const std::string_view at = text(about.address());
      const std::string_view host = at.substr(0, std::min(at.rfind(':'), at.size()));
      const auto ip = host.empty() || host == "0.0.0.0" ? hostname : b.CreateString(host.data(), host.size());
      const auto url = fb::CreateUrl(b, b.CreateSharedString("http"), fb::CreateAddress(b, hostname, ip, about.port()));
      fb::OfferBuilder ob(b);
      ob.add_id(id_at);
      ob.add_framework_id(framework_id);
      ob.add_agent_id(agent_id);
      ob.add_hostname(hostname);
      ob.add_url(url);
      ob.add_resources(resources);
      if (!attributes.IsNull()) ob.add_attributes(attributes);
      if (!domain.IsNull()) ob.add_domain(domain);
      ob.add_allocation_role(role);
      if (!executors.IsNull()) ob.add_executor_ids(executors);
      if (!unavailability.IsNull()) ob.add_unavailability(unavailability);
      offers.push_back(ob.Finish());
    }
    const auto list = fb::CreateOffers(b, b.CreateVector(offers));
    fb::EventBuilder e(b);
    e.add_type(fb::EventType::OFFERS);
    e.add_offers(list);
    b.Finish(e.Finish());
    out_->emplace_back(SendFramework{f.stream, Buffer(b.Release())});
  }
}

void Core::remove_offer(Handle h, bool rescind) {
  Offer& o = offers_[h];
  Framework& f = frameworks_[o.framework];
  if (rescind && f.stream) {
    out_->emplace_back(SendFramework{f.stream, rescind_event(offer_id(o.number))});
    ++counters_.offers_rescinded;
  }
  chain_remove(offers_, &Offer::of_agent, agents_[o.agent].first_offer, h);
  chain_remove(offers_, &Offer::of_framework, f.first_offer, h);
  --f.offers;
  note_offer_gone(o.number);
  offer_by_number_.erase(mix(o.number), h);
  offers_.erase(h);
}

void Core::withdraw(Handle h, bool rescind) {
  Offer& o = offers_[h];
  const Resources r = std::move(o.resources);
  const Handle agent = o.agent, framework = o.framework;
  const RoleId role = o.role;
  remove_offer(h, rescind);
  give_back(agent, framework, role, r);
}
void Core::withdraw_all_of_agent(Handle agent, bool rescind) {
  while (const Handle h = agents_[agent].first_offer) withdraw(h, rescind);
  drop_inverse(agent, 0, rescind);
}
void Core::withdraw_all_of_framework(Handle framework, bool rescind) {
  while (const Handle h = frameworks_[framework].first_offer) withdraw(h, rescind);
  drop_inverse(0, framework, rescind);
}

void Core::offers_due() {
  while (!offer_expiry_.empty() && offer_expiry_.front().at <= now_) {
    const std::uint64_t number = offer_expiry_.front().what;
    offer_expiry_.pop_front();
    const Handle h = offer_numbered(number);
    if (!h) continue;
    ++counters_.offers_expired;
    withdraw(h, true);
  }
}

// Default 5 s; 0 = no filter; negative or not a number = 5; at most 365 days (mesos-kernel.md A1).
Nanos Core::refusal(const fb::Filters* filters) const {
  double seconds = filters ? filters->refuse_seconds().value_or(5.0) : 5.0;
  if (std::isnan(seconds) || seconds < 0) seconds = 5.0;
  seconds = std::min(seconds, 365.0 * 86400);
  return Nanos(static_cast<std::int64_t>(seconds * 1e9));
}

void Core::add_filter(Handle framework, RoleId role, Handle agent, const Resources& refused, Nanos d) {
  if (d <= Nanos(0) || refused.empty()) return;
  filters_.push_back({framework, agent, role, now_ + d, refused.quantities()});
  Framework& f = frameworks_[framework];
  f.declined[std::uint64_t{static_cast<std::uint32_t>(role)} << 32 | agent] = now_ + d;
  if (f.declined.size() < f.declined_bound) return;
  erase_if(f.declined, [this](const auto& x) { return x.second <= now_; });
  f.declined_bound = std::max<std::size_t>(64, 2 * f.declined.size());
}

void Core::forget_declined(Framework& f, RoleId role) {
  if (role == RoleId::none) f.declined.clear();
  else erase_if(f.declined, [&](const auto& x) { return x.first >> 32 == static_cast<std::uint32_t>(role); });
}

void Core::on_decline(Handle fh, const fb::Decline& d) {
  if (!d.offer_ids()) return;
  const Nanos refuse = refusal(d.filters());
  for (const auto* id : *d.offer_ids()) {
    const Handle h = find_offer(text(id));
    if (!h || offers_[h].framework != fh) continue;  // withdrawn meanwhile
    ++counters_.offers_declined;
    add_filter(fh, offers_[h].role, offers_[h].agent, offers_[h].resources, refuse);
    withdraw(h, false);
  }
}

void Core::on_revive(Handle fh, const fb::Revive* r) {
  Framework& f = frameworks_[fh];
  if (!r || !r->roles() || r->roles()->size() == 0) {
    f.suppressed.clear();
    unfilters_.emplace_back(fh, 0);
    forget_declined(f, RoleId::none);
  } else {
    for (const auto* name : *r->roles()) {
      const RoleId role = role_among(f.roles, text(name));
      if (role == RoleId::none) continue;  // it is not subscribed in that
      std::erase(f.suppressed, role);
      note_role(role);
      unfilters_.emplace_back(fh, static_cast<std::uint32_t>(role));
      forget_declined(f, role);
    }
  }
  revive_inverse(fh);
  touch_framework(fh);
}

void Core::on_suppress(Handle fh, const fb::Suppress* s) {
  Framework& f = frameworks_[fh];
  if (!s || !s->roles() || s->roles()->size() == 0) {
    f.suppressed = f.roles;
  } else {
    for (const auto* name : *s->roles()) {
      const RoleId role = role_among(f.roles, text(name));
      if (role != RoleId::none && std::find(f.suppressed.begin(), f.suppressed.end(), role) == f.suppressed.end()) f.suppressed.push_back(role);
    }
  }
  touch_framework(fh);
}

}  // namespace gantry::master
