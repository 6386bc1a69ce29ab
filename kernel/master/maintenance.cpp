// Machines that go away for a while (mesos-kernel.md A12): UP -> in the schedule (DRAINING) -> DOWN -> UP.
//
// Of an agent in the schedule everybody is told in its offers, and each framework that holds something of it gets an inverse
// offer, one at a time. What is down may not register. The schedule and what is down are one record: few machines, rarely changed.
#include "kernel/master/maintenance.hpp"

#include <gantry/state_generated.h>

#include <gantry/operator_generated.h>
#include "kernel/master/messages.hpp"

#include <algorithm>
#include <cctype>

namespace gantry::master {

namespace om = fb::master;

namespace {

// An answer without a filter would be asked for again at once.
constexpr Nanos kAskAgain = std::chrono::seconds(1);

Error invalid(std::string message) { return fail(Code::invalid_argument, std::move(message)); }

// As tools know it from the original.
std::string named(const om::MachineIdT& id) {
  std::string out = "Machine '";
  if (!id.hostname.empty()) out += "hostname: \"" + id.hostname + "\"\n";
  if (!id.ip.empty()) out += "ip: \"" + id.ip + "\"\n";
  return out + "'";
}

bool is_ip(std::string_view s) {
  return !s.empty() && std::all_of(s.begin(), s.end(), [](unsigned char c) { return std::isxdigit(c) || c == '.' || c == ':'; }) &&
         s.find_first_of(".:") != std::string_view::npos;
}

Status check_machine(const om::MachineIdT& id) {
  if (id.hostname.empty() && id.ip.empty()) return invalid("Both 'hostname' and 'ip' for a machine are empty");
  if (!id.ip.empty() && !is_ip(id.ip)) return invalid("Invalid machine ip '" + id.ip + "'");
  return ok;
}

}  // namespace

std::string Core::Plan::key(std::string_view hostname, std::string_view ip) {
  std::string out(hostname);
  for (char& c : out) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  out += '\0';
  return out += ip;
}

const Core::Plan::Machine* Core::Plan::of(const fb::AgentInfo& agent) const {
  if (machines.empty()) return nullptr;
  const std::string_view hostname = text(agent.hostname()), address = text(agent.address());
  std::string_view ip = address.substr(0, std::min(address.size(), address.rfind(':')));
  if (ip.size() > 1 && ip.front() == '[' && ip.back() == ']') ip = ip.substr(1, ip.size() - 2);
  if (ip.empty() || ip == "0.0.0.0" || ip == "::") ip = hostname;  // as the agent is shown
  for (const auto& k : {key(hostname, ip), key(hostname, ""), key("", ip)})
    if (const auto it = machines.find(k); it != machines.end()) return &it->second;
  return nullptr;
}

bool Core::machine_down(const fb::AgentInfo& info) const {
  const auto* m = plan_->of(info);
  return m && m->down;
}

// ---- what the operator says

void Core::on_maintenance(const om::Call& call, Bytes bytes, RequestId request) {
  if (plan_->storing) {
    plan_->waiting.emplace_back(request, Buffer(bytes));
    return;
  }
  om::MaintenanceScheduleT schedule = plan_->schedule;
  om::MachinesT down;
  std::set<std::string> down_keys;
  for (const auto& [key, m] : plan_->machines)
    if (m.down) down_keys.insert(key);
  const auto change = [&]() -> Status {
    if (call.type() == om::CallType::UPDATE_MAINTENANCE_SCHEDULE) {
      const auto* given = call.update_maintenance_schedule();
      if (!given || !given->schedule()) return invalid("Expecting 'update_maintenance_schedule.schedule' to be present");
      schedule = {};
      given->schedule()->UnPackTo(&schedule);
      std::set<std::string> seen;
      for (const auto& w : schedule.windows) {
        if (w->machine_ids.empty()) return invalid("List of machines in the maintenance window is empty");
        if (!w->unavailability) return invalid("Expecting 'unavailability' of a maintenance window to be present");
        if (w->unavailability->duration_ns.value_or(0) < 0) return invalid("Unavailability 'duration' is negative");
        for (const auto& id : w->machine_ids) {
          GANTRY_CHECK(check_machine(*id));
          if (!seen.insert(Plan::key(id->hostname, id->ip)).second)
            return invalid(named(*id) + " appears more than once in the schedule");
        }
      }
      for (const auto& [key, m] : plan_->machines) {
        om::MachineIdT id;
        id.hostname = m.hostname;
        id.ip = m.ip;
        if (m.down && !seen.contains(key))
          return invalid(named(id) + " is deactivated and cannot be removed from the schedule");
      }
      return ok;
    }
    const bool start = call.type() == om::CallType::START_MAINTENANCE;
    const auto* given = start ? call.start_maintenance() : call.stop_maintenance();
    if (!given) return invalid(std::string("Expecting '") + (start ? "start" : "stop") + "_maintenance' to be present");
    om::MachinesT list;
    given->UnPackTo(&list);
    if (list.machines.empty()) return invalid("List of machines is empty");
    std::set<std::string> seen;
    for (const auto& id : list.machines) {
      GANTRY_CHECK(check_machine(*id));
      const std::string key = Plan::key(id->hostname, id->ip);
      if (!seen.insert(key).second) return invalid(named(*id) + " appears more than once in the schedule");
      const auto it = plan_->machines.find(key);
      if (it == plan_->machines.end()) return invalid(named(*id) + " is not part of a maintenance schedule");
      if (start && it->second.down) return invalid(named(*id) + " is not in DRAINING mode and cannot be brought down");
      if (!start && !it->second.down) return invalid(named(*id) + " is not in DOWN mode and cannot be brought up");
    }
    if (start) {
      down_keys.insert(seen.begin(), seen.end());
      return ok;
    }
    // Up again: its window is over.
    for (const auto& key : seen) down_keys.erase(key);
    for (auto& w : schedule.windows)
      std::erase_if(w->machine_ids, [&](const auto& id) { return seen.contains(Plan::key(id->hostname, id->ip)); });
    std::erase_if(schedule.windows, [](const auto& w) { return w->machine_ids.empty(); });
    return ok;
  }();
  if (!change) return answer(request, change);
  for (const auto& w : schedule.windows)
    for (const auto& id : w->machine_ids)
      if (down_keys.contains(Plan::key(id->hostname, id->ip))) down.machines.push_back(std::make_unique<om::MachineIdT>(*id));
  fb::record::MaintenanceRecordT record;
  const auto vector = [](const Buffer& b) { return std::vector<std::uint8_t>(b.data(), b.data() + b.size()); };
  record.schedule = vector(pack(schedule));
  record.down = vector(pack(down));
  const Buffer packed = pack(record);
  std::vector<store::Op> ops;
  ops.push_back({"maintenance/schedule", Buffer(Bytes(packed))});
  plan_->storing = true;
  persist(std::move(ops), [this, copy = std::make_shared<const Buffer>(Bytes(packed)), request](const Status& stored) {
    maintenance_stored(*copy, request, stored);
  });
}

void Core::maintenance_stored(const Buffer& record, RequestId request, const Status& stored) {
  plan_->storing = false;
  if (stored) {
    (void)load_plan(record);
    apply_plan();
    answer(request, ok);
  } else {
    answer(request, Error(stored.error()).because("the maintenance schedule could not be stored"));
  }
  while (!plan_->storing && !plan_->waiting.empty()) {
    const auto [next, bytes] = std::move(plan_->waiting.front());
    plan_->waiting.pop_front();
    on_maintenance(*flatbuffers::GetRoot<om::Call>(bytes.data()), bytes, next);
  }
}

Status Core::load_plan(Bytes bytes) {
  const auto damaged = [] { return fail(Code::data_loss, "the record of maintenance is damaged"); };
  const auto record = unpack<fb::record::MaintenanceRecord>(bytes);
  if (!record) return damaged();
  auto schedule = unpack<om::MaintenanceSchedule>(record->schedule);
  const auto down = unpack<om::Machines>(record->down);
  if (!schedule || !down) return damaged();
  std::map<std::string, Plan::Machine> machines;
  for (const auto& w : schedule->windows) {
    for (const auto& id : w->machine_ids) {
      Plan::Machine& m = machines[Plan::key(id->hostname, id->ip)];
      m.hostname = id->hostname;
      m.ip = id->ip;
      if (!w->unavailability) continue;
      m.start_ns = w->unavailability->start_ns;
      if (w->unavailability->duration_ns) m.duration_ns = *w->unavailability->duration_ns;
    }
  }
  for (const auto& id : down->machines)
    if (const auto it = machines.find(Plan::key(id->hostname, id->ip)); it != machines.end()) it->second.down = true;
  plan_->schedule = std::move(*schedule);
  plan_->machines = std::move(machines);
  return ok;
}

// To all agents; for the operator does this now and then, and names machines, not agents.
void Core::apply_plan() {
  note_plan();
  for (Handle h = 1; h < agents_.end(); ++h) {
    // One that is returning looks by itself once its registration is stored.
    if (!agents_.contains(h) || agents_[h].state != AgentState::registered || agents_[h].returning) continue;
    if (machine_down(agents_[h].about())) {
      take_down(h);
      continue;
    }
    if (!plan_agent(h)) continue;
    withdraw_all_of_agent(h, true);  // offered again, with what is new
    ask_back(h);
  }
}

bool Core::plan_agent(Handle h) {
  Agent& a = agents_[h];
  const auto* m = plan_->of(a.about());
  const bool had = a.upkeep && a.upkeep->planned;
  if (!m && !had) return false;
  if (m && had && a.upkeep->start_ns == m->start_ns && a.upkeep->duration_ns == m->duration_ns) return false;
  if (had) forget_inverse(h, 0);  // what was answered was about another time
  if (!a.upkeep) a.upkeep = std::make_unique<Upkeep>();
  a.upkeep->planned = m != nullptr;
  a.upkeep->start_ns = m ? m->start_ns : 0;
  a.upkeep->duration_ns = m ? m->duration_ns : std::nullopt;
  if (a.upkeep->idle()) a.upkeep.reset();
  note_agent(h);
  return true;
}

void Core::take_down(Handle h) {
  const Agent& a = agents_[h];
  if (a.going) return;
  log(base::Level::info, "shutting an agent down, for its machine is", {{"agent", std::string(a.id())}});
  if (a.link) to_agent(a.link, shutdown("Operator initiated 'Machine DOWN'"));
  on_unregister(h);
}

void Core::write_plan(fb::state::MaintenanceT& out) const {
  out.schedule = std::make_unique<om::MaintenanceScheduleT>(plan_->schedule);
  out.status = std::make_unique<om::MaintenanceStatusT>();
  const auto id_of = [](const Plan::Machine& m) {
    auto id = std::make_unique<om::MachineIdT>();
    id->hostname = m.hostname;
    id->ip = m.ip;
    return id;
  };
  std::map<const Plan::Machine*, om::DrainingMachineT*> draining;
  for (const auto& [key, m] : plan_->machines) {
    if (m.down) {
      out.status->down_machines.push_back(id_of(m));
      continue;
    }
    auto d = std::make_unique<om::DrainingMachineT>();
    d->id = id_of(m);
    draining[&m] = d.get();
    out.status->draining_machines.push_back(std::move(d));
  }
  for (const auto& [pair, x] : plan_->asked) {
    if (x.answer == Inverse::Answer::unknown) continue;
    const auto it = draining.find(plan_->of(agents_[pair.first].about()));
    if (it == draining.end()) continue;
    auto s = std::make_unique<om::InverseOfferStatusT>();
    s->status = static_cast<om::InverseOfferAnswer>(x.answer);
    s->framework_id = frameworks_[pair.second].id;
    s->timestamp_ns = x.answered_wall;
    it->second->statuses.push_back(std::move(s));
  }
}

// ---- inverse offers

void Core::ask_back(Handle h) {
  if (agents_[h].upkeep && agents_[h].upkeep->planned) plan_->asking.insert(h);
}

void Core::inverse_due() {
  while (!plan_->due.empty() && plan_->due.begin()->first <= now_) {
    const Handle h = plan_->due.begin()->second;
    plan_->due.erase(plan_->due.begin());
    if (agents_.contains(h)) ask_back(h);
  }
}

// Whoever holds something of such an agent, offers included, and has not been asked yet, or not lately.
void Core::send_inverse_offers() {
  if (plan_->asking.empty()) return;
  std::map<Handle, std::vector<fb::InverseOfferT>> out;  // by framework
  for (const Handle h : std::exchange(plan_->asking, {})) {
    if (!agents_.contains(h)) continue;
    const Agent& a = agents_[h];
    if (a.state != AgentState::registered || !a.link || a.going || a.returning || !a.upkeep || !a.upkeep->planned) continue;
    std::set<Handle> holders;
    for (Handle t = a.first_task; t; t = tasks_[t].of_agent.next)
      if (!tasks_[t].released) holders.insert(tasks_[t].framework);
    for (Handle o = a.first_offer; o; o = offers_[o].of_agent.next) holders.insert(offers_[o].framework);
    for (const Handle fh : holders) {
      const Framework& f = frameworks_[fh];
      if (!f.connected() || f.removing) continue;
      Inverse& x = plan_->asked[{h, fh}];
      if (x.number) continue;
      if (x.not_before > now_) {
        plan_->due.insert({x.not_before, h});
        continue;
      }
      x.number = std::max<std::uint64_t>(next_offer_, 1);  // 0 is none
      next_offer_ = x.number + 1;
      plan_->by_number.emplace(x.number, std::pair{h, fh});
      ++counters_.inverse_offers_made;
      note_inverse(x.number, h, fh);
      out[fh].push_back(inverse_offer(x.number, h, fh));
    }
  }
  for (auto& [fh, offers] : out)
    out_->emplace_back(SendFramework{frameworks_[fh].stream, inverse_offers_event(std::move(offers))});
}

fb::InverseOfferT Core::inverse_offer(std::uint64_t number, Handle agent, Handle framework) const {
  fb::InverseOfferT o;
  o.id = offer_id(number);
  o.framework_id = frameworks_[framework].id;
  o.agent_id = agents_[agent].id();
  o.unavailability = std::make_unique<fb::UnavailabilityT>();
  if (const auto* u = agents_[agent].upkeep.get()) {
    o.unavailability->start_ns = u->start_ns;
    if (u->duration_ns) o.unavailability->duration_ns = *u->duration_ns;
  }
  return o;
}

void Core::drop_inverse(Handle agent, Handle framework, bool rescind) {
  if (plan_->asked.empty()) return;
  const auto from = agent ? plan_->asked.lower_bound({agent, 0}) : plan_->asked.begin();
  for (auto it = from; it != plan_->asked.end() && (!agent || it->first.first == agent); ++it) {
    auto& [pair, x] = *it;
    if (!x.number || (framework && pair.second != framework)) continue;
    const Framework& f = frameworks_[pair.second];
    if (rescind && f.stream) out_->emplace_back(SendFramework{f.stream, rescind_inverse_event(offer_id(x.number))});
    note_inverse_gone(x.number);
    plan_->by_number.erase(x.number);
    x.number = 0;
    ask_back(pair.first);
  }
}

void Core::forget_inverse(Handle agent, Handle framework) {
  if (plan_->asked.empty()) return;
  drop_inverse(agent, framework, agent != 0);
  const auto gone = std::erase_if(plan_->asked, [&](const auto& x) {
    return (!agent || x.first.first == agent) && (!framework || x.first.second == framework);
  });
  if (gone) note_plan();
}

void Core::on_answer_inverse(Handle fh, const fb::AnswerInverseOffers& a, bool accept) {
  if (!a.inverse_offer_ids()) return;
  const Nanos pause = std::max(refusal(a.filters()), kAskAgain);
  const std::string prefix = options_.run_id + "-O";
  for (const auto* id : *a.inverse_offer_ids()) {
    const std::string_view name = text(id);
    if (!name.starts_with(prefix)) continue;
    const std::uint64_t number = std::strtoull(std::string(name.substr(prefix.size())).c_str(), nullptr, 10);
    const auto it = plan_->by_number.find(number);
    if (it == plan_->by_number.end() || it->second.second != fh || offer_id(number) != name) continue;  // withdrawn meanwhile
    const auto pair = it->second;
    Inverse& x = plan_->asked[pair];
    x.answer = accept ? Inverse::Answer::accept : Inverse::Answer::decline;
    x.answered_wall = wall_;
    x.number = 0;
    x.not_before = now_ + pause;
    plan_->by_number.erase(number);
    plan_->due.insert({x.not_before, pair.first});
    note_inverse_gone(number);
    note_plan();
  }
}

// What it has answered does not keep it from being asked again.
void Core::revive_inverse(Handle fh) {
  for (auto& [pair, x] : plan_->asked) {
    if (pair.second != fh) continue;
    x.not_before = Instant{0};
    ask_back(pair.first);
  }
  // A framework that has come back has to be asked for the first time.
  for (Handle t = plan_->machines.empty() ? 0 : frameworks_[fh].first_task; t; t = tasks_[t].of_framework.next)
    if (tasks_[t].agent) ask_back(tasks_[t].agent);
}

}  // namespace gantry::master
