#include "kernel/master/master.hpp"

#include <gantry/operator_generated.h>

#include "kernel/master/cluster_service.hpp"
#include "kernel/master/operate_service.hpp"
#include "kernel/master/state_service.hpp"

#include <gantry/allocator_generated.h>

#include <utility>

namespace gantry::master {

using base::Level;

struct Master::Recovery {
  std::shared_ptr<std::uint64_t> term;
  std::unique_ptr<Core> core;
  std::string run_id;
  Function<void(Status)> done;
  Status problem = ok;  // the first damaged record
  bool over = false;
};

struct Master::Listing {
  std::weak_ptr<std::uint64_t> term;
  std::uint64_t id = 0;
  fb::control::Ask what = fb::control::Ask::NONE;
  fb::control::AskTasksT tasks;
  Core::Cursor cursor;
  std::function<void(fb::control::AnswerT)> reply;
};

Master::Master(base::Loop& loop, MasterOptions options, module::Instance& allocator, store::Store& store,
               LinkServer& links)
    : loop_(loop),
      options_(std::move(options)),
      allocator_(allocator),
      store_(store),
      links_(links),
      service_(std::make_unique<ClusterService>(*this)),
      state_service_(std::make_unique<StateService>(*this)),
      operate_service_(std::make_unique<OperateService>(*this)) {
  if (options_.page == 0) options_.page = 1;
}

Master::~Master() {
  if (core_ || recovery_) step_down();
}

module::Service& Master::cluster_service() { return *service_; }

// ---- the term: lead, recover, step down

void Master::lead(Function<void(Status)> done) {
  if (core_ || recovery_) return done(fail(Code::failed_precondition, "the master leads already"));
  term_ = std::make_shared<std::uint64_t>(0);
  auto r = std::make_shared<Recovery>();
  r->term = term_;
  r->done = std::move(done);
  recovery_ = r;
  store_.get("meta", [this, r](Result<Buffer> meta) {
    if (r->over) return;
    fb::record::MetaRecordT m;
    if (meta) {
      auto known = unpack<fb::record::MetaRecord>(*meta);
      if (!known)
        return end_recovery(
            r, fail(Code::data_loss, "the record 'meta' of the store is damaged; restore the store from a copy"));
      m = std::move(*known);
      if (m.format != 1) {
        return end_recovery(
            r, fail(Code::failed_precondition, "the store has format " + std::to_string(m.format) +
                                                   ", this gantryd reads format 1; run the release that wrote it"));
      }
      const auto name = m.cluster.substr(0, m.cluster.rfind(':'));
      if (name != options_.cluster) {
        return end_recovery(r, fail(Code::failed_precondition, "the store belongs to cluster '" + name + "', not '" +
                                                                   options_.cluster + "'; use another work_dir"));
      }
    } else if (meta.error().code == Code::not_found) {
      m.format = 1;
      m.cluster = options_.cluster + ":" + (options_.id_seed.empty() ? options_.cluster : options_.id_seed);
    } else {
      return end_recovery(r, meta.error());
    }
    open_term(r, std::move(m));
  });
}

// Each term has a number of its own, stored before any id is made of it.
void Master::open_term(std::shared_ptr<Recovery> r, fb::record::MetaRecordT meta) {
  std::string number = std::to_string(meta.next_run++);
  if (number.size() < 4) number.insert(0, 4 - number.size(), '0');
  r->run_id = meta.cluster.substr(meta.cluster.rfind(':') + 1) + "-" + number;
  std::vector<store::Op> ops;
  ops.push_back({"meta", pack(meta)});
  store_.commit(std::move(ops), [this, r](Status s) {
    if (r->over) return;
    if (!s) return end_recovery(r, std::move(s));
    CoreOptions o;
    o.run_id = r->run_id;
    if (options_.domain) o.region = options_.domain->region;
    o.ping_interval = options_.ping_interval;
    o.ping_misses = options_.ping_misses;
    o.agent_reregister_timeout = options_.agent_reregister_timeout;
    o.offer_timeout = options_.offer_timeout;
    o.launch_lull = std::chrono::milliseconds(1);
    o.completed_frameworks = options_.completed_frameworks;
    o.completed_tasks = options_.completed_tasks;
    o.forget_agents_after = options_.forget_agents_after;
    r->core = std::make_unique<Core>(std::move(o));
    read_records(r, 0);
  });
}

void Master::read_records(std::shared_ptr<Recovery> r, std::size_t kind) {
  static constexpr const char* kinds[] = {"weight/", "quota/", "reservation/", "operation/", "maintenance/", "framework/", "agent/"};
  if (kind == std::size(kinds)) return end_recovery(r, std::exchange(r->problem, ok));
  store_.list(
      kinds[kind],
      [r](std::string_view key, Bytes value) {
        if (r->over) return;
        if (auto s = r->core->recover(key, value); !s && r->problem) r->problem = std::move(s);
      },
      [this, r, kind](Status s) {
        if (r->over) return;
        if (!s) return end_recovery(r, std::move(s));
        read_records(r, kind + 1);
      });
}

void Master::end_recovery(std::shared_ptr<Recovery> r, Status status) {
  r->over = true;
  recovery_.reset();
  if (!status) {
    term_.reset();
    r->done(std::move(status).error().because("the master cannot lead"));
    return;
  }
  core_ = std::move(r->core);
  run_id_ = std::move(r->run_id);
  led_since_ = loop_.now();
  elected_wall_ = loop_.wall();
  stepping_ = true;
  core_->recovered(loop_.now(), loop_.wall(), effects_);
  for (auto& e : effects_) execute(e);
  effects_.clear();
  stepping_ = false;
  r->done(ok);
  drain();
}

void Master::step_down() {
  if (stepping_) return later_.push_back([this] { step_down(); });
  if (auto r = std::exchange(recovery_, nullptr)) {
    r->over = true;
    term_.reset();
    r->done(fail(Code::cancelled, "the master stepped down while it recovered"));
    return;
  }
  if (!core_) return;
  term_.reset();
  core_.reset();
  run_id_.clear();
  later_.clear();
  effects_.clear();
  outgoing_.clear();
  lag_ = {};
  held_pieces_.clear();
  if (timer_) loop_.cancel(std::exchange(timer_, 0));
  const Error error = fail(Code::unavailable, "the master has stepped down");
  auto links = std::exchange(link_states_, {});
  auto subscribers = std::exchange(subscribers_, {});
  auto answers = std::exchange(answers_, {});
  auto followers = std::exchange(followers_, {});
  for (auto& [link, state] : links) links_.drop(link, error.message);
  for (auto& [stream, s] : subscribers) s.on_end(error);
  for (auto& [id, f] : followers) f.to.on_end(error);
  for (auto& [id, done] : answers) done(error);
}

// ---- the machine

void Master::step(const Event& event) {
  stepping_ = true;
  core_->apply(loop_.now(), loop_.wall(), event, effects_);
  for (auto& e : effects_) execute(e);
  effects_.clear();
  stepping_ = false;
  if (core_->changes_waiting()) publish_later();
}

// What came in while effects were carried out.
void Master::drain() {
  while (!later_.empty() && !stepping_) {
    auto fn = std::move(later_.front());
    later_.pop_front();
    fn();
  }
}

void Master::enter(Function<void()> fn) {
  if (stepping_) return later_.push_back(std::move(fn));
  fn();
  drain();
}

void Master::execute(Effect& effect) {
  if (auto* e = std::get_if<SendFramework>(&effect)) {
    const auto it = subscribers_.find(e->stream);
    if (it == subscribers_.end()) return;
    const auto on_event = it->second.on_event;  // it may unsubscribe itself
    on_event(e->event);
  } else if (auto* e = std::get_if<SendAgent>(&effect)) {
    links_.send(e->link, e->frame);
  } else if (auto* e = std::get_if<Allocate>(&effect)) {
    allocate(std::move(e->deltas));
  } else if (auto* e = std::get_if<SetTimer>(&effect)) {
    arm(e->at);
  } else if (auto* e = std::get_if<Answer>(&effect)) {
    auto node = answers_.extract(e->request);
    if (node) node.mapped()(std::move(e->status));
  } else if (auto* e = std::get_if<Persist>(&effect)) {
    const Cookie cookie = e->cookie;
    store_.commit(std::move(e->ops), [this, term = std::weak_ptr(term_), cookie](Status s) mutable {
      if (term.expired()) return;
      enter([this, cookie, s = std::move(s)]() mutable {
        if (!core_) return;
        if (s)
          step(Stored{cookie});
        else
          step(StoreFailed{cookie, std::move(s).error()});
      });
    });
  } else if (auto* e = std::get_if<EndStream>(&effect)) {
    auto node = subscribers_.extract(e->stream);
    if (node) node.mapped().on_end(e->error);
  } else if (auto* e = std::get_if<DropLink>(&effect)) {
    link_states_.erase(e->link);
    links_.drop(e->link, e->why);
  } else if (auto* e = std::get_if<Log>(&effect)) {
    std::vector<base::LogField> fields;
    for (auto& [k, v] : e->fields) fields.push_back({k, v});
    base::log(e->level, "master", e->message, fields.data(), fields.size());
  }
}

void Master::allocate(Buffer deltas) {
  allocator_.call(static_cast<std::uint32_t>(fb::allocator::Method::ALLOCATE), std::move(deltas),
                  [this, term = std::weak_ptr(term_)](gantry_code code, Bytes body) {
                    if (code == GANTRY_MORE || term.expired()) return;
                    if (code < 0) {
                      ++allocator_failures_;
                      enter([this, error = unpack_error(code, body)]() mutable {
                        if (core_) step(RoundFailed{std::move(error)});
                      });
                    } else if (stepping_) {
                      later_.push_back([this, copy = Buffer(body)] {
                        if (core_) step(RoundDone{copy});
                      });
                    } else if (core_) {
                      deliver(RoundDone{body});
                    }
                  });
}

void Master::allocator_returned() {
  enter([this] {
    if (core_) step(RoundFailed{fail(Code::unavailable, "it was restarted")});
  });
}

void Master::arm(Instant at) {
  if (timer_) loop_.cancel(timer_);
  timer_ = loop_.at(at, [this, term = std::weak_ptr(term_)] {
    if (term.expired()) return;
    timer_ = 0;
    enter([this] {
      if (core_) step(Tick{});
    });
  });
}

// ---- agents

void Master::on_agent_frame(LinkId link, Bytes frame) {
  if (stepping_) return later_.push_back([this, link, copy = Buffer(frame)] { deliver_frame(link, copy); });
  deliver_frame(link, frame);
  drain();
}

void Master::deliver_frame(LinkId link, Bytes frame) {
  if (!core_) return links_.drop(link, "this master does not lead");
  LinkState& state = link_states_[link];
  if (state.greeted) return step(AgentFrame{link, frame});
  if (state.asking) {
    if (state.held.size() < 64) return state.held.emplace_back(Buffer(frame)), void();
    link_states_.erase(link);
    return links_.drop(link, "too many frames before the Hello was answered");
  }
  greet(link, frame);
}

void Master::greet(LinkId link, Bytes frame) {
  const auto* m = view<fb::link::ToMaster>(frame);
  const auto* hello = m ? m->body_as_Hello() : nullptr;
  if (!hello) {
    link_states_.erase(link);
    return links_.drop(link, "the first frame of a link must be Hello");
  }
  if (!options_.authenticate) {
    link_states_[link].greeted = true;
    return step(AgentFrame{link, frame});
  }
  link_states_[link].asking = true;
  fb::link::HelloT h;
  hello->UnPackTo(&h);
  options_.authenticate(h, [this, term = std::weak_ptr(term_), link, copy = std::make_shared<Buffer>(frame)](Status s) {
    if (term.expired()) return;
    enter([this, link, copy, s = std::move(s)]() mutable {
      const auto it = link_states_.find(link);
      if (!core_ || it == link_states_.end() || !it->second.asking) return;
      if (!s) {
        base::log_warning("master", "refused an agent", {{"reason", s.error().message}});
        link_states_.erase(it);
        fb::link::ToAgentT out;
        fb::link::RefusedT refused;
        refused.message = s.error().message;
        out.body.Set(std::move(refused));
        links_.send(link, pack(out));
        return links_.drop(link, s.error().message);
      }
      it->second.asking = false;
      it->second.greeted = true;
      auto held = std::exchange(it->second.held, {});
      step(AgentFrame{link, *copy});
      for (auto& f : held)
        if (core_ && link_states_.contains(link)) step(AgentFrame{link, f});
    });
  });
}

void Master::on_agent_closed(LinkId link) {
  enter([this, link] {
    if (link_states_.erase(link) && core_) step(LinkClosed{link});
  });
}

// ---- frameworks

StreamId Master::subscribe(Bytes call, Subscriber subscriber) {
  if (!core_) {
    Error e = fail(Code::unavailable, "this master does not lead");
    e.retry_after_ns = 1'000'000'000;
    subscriber.on_end(e);
    return 0;
  }
  const StreamId stream = ++next_stream_;
  subscribers_.emplace(stream, std::move(subscriber));
  if (stepping_) {
    later_.push_back([this, stream, copy = Buffer(call)] {
      if (core_) step(Subscribe{stream, copy});
    });
  } else {
    deliver(Subscribe{stream, call});
  }
  return subscribers_.contains(stream) ? stream : 0;
}

void Master::unsubscribe(StreamId stream) {
  enter([this, stream] {
    if (subscribers_.erase(stream) && core_) step(StreamClosed{stream});
  });
}

void Master::call(Bytes call, std::function<void(Status)> done) {
  if (!core_) {
    if (done) done(fail(Code::unavailable, "this master does not lead"));
    return;
  }
  RequestId id = 0;
  if (done) answers_.emplace(id = ++next_request_, std::move(done));
  if (stepping_) {
    later_.push_back([this, id, copy = Buffer(call)] {
      if (core_) step(FrameworkCall{id, copy});
    });
  } else {
    deliver(FrameworkCall{id, call});
  }
}

// ---- operators

module::Service& Master::operate_service() { return *operate_service_; }

void Master::operate(Bytes call, std::string_view principal, std::function<void(Status)> done) {
  if (!core_) {
    Error e = fail(Code::unavailable, "this master does not lead");
    e.retry_after_ns = 1'000'000'000;
    return done(e);
  }
  const RequestId id = ++next_request_;
  answers_.emplace(id, std::move(done));
  if (stepping_) {
    later_.push_back([this, id, who = std::string(principal), copy = Buffer(call)] {
      if (core_) step(OperatorCall{id, who, copy});
    });
  } else {
    deliver(OperatorCall{id, principal, call});
  }
}

bool Master::ask(const fb::control::QuestionT& q, std::function<void(fb::control::AnswerT)> reply) {
  namespace fc = fb::control;
  const auto type = q.ask.type;
  if (type != fc::Ask::AskAgents && type != fc::Ask::AskFrameworks && type != fc::Ask::AskTasks &&
      type != fc::Ask::KillTask && type != fc::Ask::AskWhy)
    return false;
  const auto problem = [](std::uint64_t id, const Error& e) {
    fc::AnswerT a;
    a.id = id;
    fc::ProblemT p;
    p.code = static_cast<std::int32_t>(e.code);
    p.message = e.message;
    a.say.Set(std::move(p));
    return a;
  };
  if (!core_) {
    reply(problem(q.id, fail(Code::unavailable, "this master does not lead")));
    return true;
  }
  if (const auto* ask_why = q.ask.AsAskWhy()) {
    auto why = core_->why(ask_why->framework_id, loop_.now());
    if (!why) {
      reply(problem(q.id, why.error()));
      return true;
    }
    fc::AnswerT a;
    a.id = q.id;
    a.say.Set(std::move(*why));
    reply(std::move(a));
    return true;
  }
  if (type == fc::Ask::KillTask) {
    const auto* k = q.ask.AsKillTask();
    const RequestId request = ++next_request_;
    answers_.emplace(request, [id = q.id, task = k->task_id, problem, reply](Status s) {
      if (!s) return reply(problem(id, s.error()));
      fc::AnswerT a;
      a.id = id;
      fc::DoneT done;
      done.message = "task " + task + " is being killed";
      a.say.Set(std::move(done));
      reply(std::move(a));
    });
    enter([this, request, framework = k->framework_id, task = k->task_id] {
      if (core_) step(OperatorKill{request, framework, task});
    });
    return true;
  }
  auto listing = std::make_shared<Listing>();
  listing->term = term_;
  listing->id = q.id;
  listing->what = type;
  if (const auto* t = q.ask.AsAskTasks()) listing->tasks = *t;
  listing->reply = std::move(reply);
  continue_listing(std::move(listing));
  return true;
}

void Master::continue_listing(std::shared_ptr<Listing> l) {
  namespace fc = fb::control;
  fc::AnswerT a;
  a.id = l->id;
  if (l->term.expired() || !core_) {
    fc::ProblemT p;
    p.code = static_cast<std::int32_t>(Code::unavailable);
    p.message = "the master has stepped down";
    a.say.Set(std::move(p));
    return l->reply(std::move(a));
  }
  bool more = false;
  if (l->what == fc::Ask::AskAgents) {
    fc::AgentsT rows;
    more = core_->list_agents(l->cursor, options_.page, rows);
    a.say.Set(std::move(rows));
  } else if (l->what == fc::Ask::AskFrameworks) {
    fc::FrameworksT rows;
    more = core_->list_frameworks(l->cursor, options_.page, rows);
    a.say.Set(std::move(rows));
  } else {
    fc::TasksT rows;
    more = core_->list_tasks(l->tasks, l->cursor, options_.page, rows);
    a.say.Set(std::move(rows));
  }
  a.more = more;
  l->reply(std::move(a));
  if (more) loop_.post([this, l, term = std::weak_ptr(term_)] { continue_listing(l); });
}

void Master::fill(fb::control::StatusT& status) const {
  if (!core_) return;
  core_->fill(status);
}

std::vector<MetricValue> Master::metrics() const {
  std::vector<MetricValue> out;
  const auto add = [&](std::string name, double value, std::string unit, std::string help) {
    out.push_back({"master/" + std::move(name), value, std::move(unit), std::move(help)});
  };
  add("elected", core_ ? 1 : 0, "1", "whether this master leads");
  if (!core_) return out;
  const auto& c = core_->counters();
  const auto states = core_->task_states();
  using S = fb::TaskState;
  const auto in = [&](S s) { return static_cast<double>(states[static_cast<std::size_t>(s)]); };
  add("uptime_secs", std::chrono::duration<double>(loop_.now() - led_since_).count(), "s",
      "time since this term began");
  add("slaves_active", static_cast<double>(core_->agent_count()), "1", "registered agents");
  add("recovery_slave_removals", static_cast<double>(core_->recovering_count()), "1",
      "known agents that have not returned yet");
  add("frameworks_active", static_cast<double>(core_->framework_count()), "1", "frameworks, connected or not");
  add("outstanding_offers", static_cast<double>(core_->offer_count()), "1", "offers not yet answered");
  add("tasks_staging", in(S::TASK_STAGING), "1", "tasks sent to their agents");
  add("tasks_starting", in(S::TASK_STARTING), "1", "tasks being started");
  add("tasks_running", in(S::TASK_RUNNING), "1", "running tasks");
  add("tasks_killing", in(S::TASK_KILLING), "1", "tasks being killed");
  add("tasks_unreachable", in(S::TASK_UNREACHABLE), "1", "tasks of unreachable agents");
  const auto count = [&](const char* name, std::uint64_t v, const char* help) {
    add(name, static_cast<double>(v), "1", help);
  };
  count("tasks_finished", c.tasks_finished, "tasks finished in this term");
  count("tasks_failed", c.tasks_failed, "tasks failed in this term");
  count("tasks_killed", c.tasks_killed, "tasks killed in this term");
  count("tasks_lost", c.tasks_lost, "tasks lost, dropped or gone in this term");
  count("tasks_error", c.tasks_error, "tasks refused in this term");
  count("tasks_launched", c.tasks_launched, "tasks launched in this term");
  count("slave_registrations", c.agents_registered, "new agents");
  count("slave_reregistrations", c.agents_reregistered, "agents that returned");
  count("slave_removals", c.agents_unreachable, "agents that became unreachable");
  count("frameworks_subscribed", c.frameworks_subscribed, "subscriptions");
  count("frameworks_removed", c.frameworks_removed, "frameworks torn down or not returned in time");
  count("offers_made", c.offers_made, "offers sent");
  count("offers_accepted", c.offers_accepted, "offers accepted");
  count("offers_declined", c.offers_declined, "offers declined");
  count("offers_rescinded", c.offers_rescinded, "offers rescinded");
  count("valid_status_updates", c.updates_received, "status updates from agents");
  count("messages_status_update_acknowledgement", c.acknowledgements, "acknowledgements of frameworks");
  count("invalid_messages", c.invalid_messages, "messages that made no sense");
  count("operations_refused", c.refused_operations, "operations of frameworks that were dropped");
  count("allocator_rounds", c.rounds, "rounds of the allocator");
  count("allocator_bad_grants", c.bad_grants, "grants dropped because they contradict the books");
  count("allocator_stale_grants", c.stale_grants, "grants dropped because the cluster had changed meanwhile");
  count("allocator_unwanted_grants", c.unwanted_grants, "grants dropped because the framework's constraints exclude them");
  count("inverse_offers_made", c.inverse_offers_made, "inverse offers sent");
  count("slaves_marked_gone", c.agents_gone, "agents the operator marked as gone");
  count("allocator_failures", allocator_failures_, "failed calls of the allocator");
  count("store_failures", c.store_failures, "records that could not be stored");
  return out;
}

}  // namespace gantry::master
