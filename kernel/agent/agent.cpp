#include "kernel/agent/agent.hpp"

#include "kernel/agent/volumes.hpp"
#include "kernel/base/log.hpp"

#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>

namespace gantry::agent {

namespace {

constexpr std::string_view source = "agent";
constexpr base::Nanos journal_retry = std::chrono::seconds(1);

}  // namespace

Agent::Agent(base::Loop& loop, AgentOptions options, Disk& disk, Launcher& launcher, MasterLink& link, Probes probes)
    : loop_(loop),
      options_(std::move(options)),
      disk_(disk),
      launcher_(launcher),
      link_(link),
      probes_(std::move(probes)) {}

Agent::~Agent() { stop(); }

Status Agent::start() {
  assert(!core_);
  CoreOptions o;
  o.info.hostname = options_.hostname;
  if (o.info.hostname.empty()) {
    char name[256] = {};
    if (::gethostname(name, sizeof name - 1) == 0) o.info.hostname = name;
  }
  o.info.port = options_.port;
  o.info.address = options_.address;
  o.ip = machine_ip(options_.address, o.info.hostname);
  o.info.version = options_.version;
  if (auto s = disk_.make_directory(options_.work_dir); !s) {
    return std::move(s).error().because("kernel.work_dir " + options_.work_dir + " cannot be used");
  }
  o.info.resources = complete(std::move(options_.resources), detect(look_at_machine(options_.work_dir)));
  o.info.attributes = std::move(options_.attributes);
  if (options_.domain) o.info.domain = resource::to_wire(*options_.domain);
  o.principal = options_.principal;
  o.secret = options_.secret;
  o.version = options_.version;
  o.boot_id = options_.boot_id.empty() ? read_boot_id() : options_.boot_id;
  o.work_dir = options_.work_dir;
  o.switch_user = options_.switch_user;
  o.backoff_first = options_.backoff_first;
  o.backoff_max = options_.backoff_max;
  o.default_grace = options_.default_grace;
  o.executor_registration = options_.executor_registration;
  o.executor_reregistration = options_.executor_reregistration;
  o.executor_grace = options_.executor_grace;
  o.secrets = [] {
    std::uint64_t word = 0;
    // Without random numbers from the system the agent does not start; they do not end later.
    while (::getrandom(&word, sizeof word, 0) != sizeof word) {
    }
    return word;
  };
  started_wall_ = loop_.wall();
  o.seed = options_.seed;
  if (o.seed == 0 && ::getrandom(&o.seed, sizeof o.seed, 0) != sizeof o.seed) {
    return fail(Code::unavailable, "the system gives no random numbers (getrandom failed)");
  }
  auto core = std::make_unique<Core>(std::move(o));
  Journal::Opened opened;
  GANTRY_TRY(journal_, Journal::open(disk_, options_.work_dir + "/agent",
                                     [&](const fb::record::Entry& entry) { core->replay(entry); }, &opened));
  if (!opened.warning.empty()) base::log_warning(source, opened.warning);
  core_ = std::move(core);
  alive_ = std::make_shared<bool>(true);

  launcher_.on_exit([this, alive = alive_](const std::string& id, ExitInfo exit) {
    if (*alive) feed(event::Exited{id, std::move(exit)});
  });
  link_.events(MasterLink::Events{
      guarded([this] { feed(event::LinkUp{}); }),
      guarded([this](Bytes frame) { feed(event::Frame{frame}); }),
      guarded([this](const std::string& why) { feed(event::LinkDown{why}); }),
  });
  feed(event::Start{});
  return ok;
}

void Agent::stop() {
  if (!core_ || !*alive_) return;
  *alive_ = false;
  link_.close();
  for (auto* timer : {&timer_, &retry_timer_, &sync_timer_}) loop_.cancel(std::exchange(*timer, 0));
  if (dirty_ && options_.sync_interval.count() > 0) {
    if (auto s = journal_->file()->sync(); !s) base::log_warning(source, s.error().message);
  }
}

void Agent::leader(const std::string& address) {
  if (core_ && *alive_) feed(event::Leader{address});
}

void Agent::of_executors(Event event) {
  if (core_ && *alive_) feed(std::move(event));
}

void Agent::shut_down(const std::string& message) {
  if (core_ && *alive_) feed(event::ShutDown{message});
}

// ---- the core's turn

void Agent::feed(Event event) {
  events_.push_back(std::move(event));
  if (feeding_) return;
  feeding_ = true;
  while (!events_.empty()) {
    const Event next = std::move(events_.front());
    events_.pop_front();
    Effects effects;
    core_->step(next, Time{loop_.now(), loop_.wall()}, effects);
    execute(std::move(effects));
  }
  feeding_ = false;
  compact_if_wanted();
  rearm();
}

void Agent::rearm() {
  if (!*alive_) return;
  const base::Instant due = core_->next_due();
  if (due == timer_due_ && timer_ != 0) return;
  loop_.cancel(std::exchange(timer_, 0));
  timer_due_ = due;
  if (due == base::Instant::max()) return;
  timer_ = loop_.at(due, guarded([this] {
                      timer_ = 0;
                      feed(event::Tick{});
                    }));
}

void Agent::execute(Effects effects) {
  bool held = false;           // an entry of this step is not written: what depends on it must not be seen
  std::string why_held;
  std::string refused;         // task whose launch could not be recorded
  bool launch_refused = false;
  // A task of an executor that runs is not launched but sent to it once this is written, however late.
  const bool launches = std::any_of(effects.begin(), effects.end(), [](const Effect& e) { return std::holds_alternative<effect::Launch>(e); });
  for (Effect& e : effects) {
    if (auto* append = std::get_if<effect::Append>(&e)) {
      const bool of_refused = !refused.empty() && append->entry.task_id == refused;
      if (of_refused) continue;
      std::string problem;
      if (!waiting_.empty() || held) {
        problem = core_->journal_problem();
      } else if (auto s = journal_->append(append->entry); s) {
        dirty_ = true;
        sync_later();
        continue;
      } else {
        problem = s.error().message;
        events_.push_back(event::Journal{false, problem});
        journal_failed_ = true;
        if (retry_timer_ == 0) retry_timer_ = loop_.after(journal_retry, guarded([this] { retry_journal(); }));
      }
      held = true;
      why_held = problem;
      if (append->entry.type == fb::record::EntryType::INTENT && launches) {
        refused = append->entry.task_id;
        launch_refused = true;
      } else {
        waiting_.push_back(std::move(append->entry));
      }
    } else if (auto* send = std::get_if<effect::Send>(&e)) {
      // Status updates held back are sent by the core when the journal works again.
      if (!held) link_.send(send->frame);
    } else if (auto* launch_it = std::get_if<effect::Launch>(&e)) {
      if (!held) {
        launch(std::move(launch_it->spec));
      } else {
        events_.push_back(event::LaunchFailed{launch_it->spec.container_id, fb::Reason::REASON_CONTAINER_LAUNCH_FAILED,
                                              "the agent cannot record the task: " + why_held, launch_refused});
      }
    } else if (auto* kill = std::get_if<effect::Kill>(&e)) {
      launcher_.kill(kill->container_id, kill->grace);  // also with a full disk: it may be what frees it
    } else if (auto* connect = std::get_if<effect::Connect>(&e)) {
      link_.connect(connect->address);
    } else if (std::holds_alternative<effect::Disconnect>(e)) {
      link_.close();
    } else if (auto* recover_it = std::get_if<effect::Recover>(&e)) {
      recover(std::move(recover_it->known));
    } else if (auto* check = std::get_if<effect::RunCheck>(&e)) {
      run_check(std::move(*check));
    } else if (auto* release = std::get_if<effect::Release>(&e)) {
      launcher_.release_sandbox(release->sandbox);
    } else if (auto* said = std::get_if<effect::Volumes>(&e)) {
      change_volumes(*said);
    } else if (auto* line = std::get_if<effect::Log>(&e)) {
      if (line->task_id.empty()) {
        base::log(line->level, source, line->message);
      } else {
        base::log(line->level, source, line->message, {{"task", line->task_id}});
      }
    } else if (auto* to = std::get_if<effect::ToExecutor>(&e)) {
      // What is withheld goes out when the journal works again, and nothing overtakes it.
      const bool behind = std::any_of(withheld_.begin(), withheld_.end(), [&](const auto& w) { return w.stream == to->stream; });
      if (held || behind) withheld_.push_back(std::move(*to));
      else if (door_) door_->send(to->stream, to->event);
    } else if (auto* ending = std::get_if<effect::EndExecutor>(&e)) {
      std::erase_if(withheld_, [&](const auto& w) { return w.stream == ending->stream; });
      if (door_) door_->end(ending->stream, ending->why);
    } else if (auto* answered = std::get_if<effect::AnswerExecutor>(&e)) {
      if (door_) door_->answer(answered->request, held ? Status(fail(Code::unavailable, "The agent cannot record this: " + why_held)) : answered->status);
    } else if (auto* size = std::get_if<effect::Resize>(&e)) {
      resize(std::move(*size));
    } else if (auto* stop_it = std::get_if<effect::Stop>(&e)) {
      loop_.post(guarded([this, message = stop_it->message, failed = stop_it->failed] {
        if (on_stopped_) on_stopped_(message, failed);
      }));
    }
  }
}

// Making and renaming is done before anything that follows may use it; deleting is not waited for.
void Agent::change_volumes(const effect::Volumes& e) {
  const auto* said = view<fb::link::ToAgent>(e.frame);
  if (!said || !said->body_as_SetResources()) return;
  VolumeChanges changes = agent::change_volumes(options_.work_dir, *said->body_as_SetResources(), e.registry);
  for (const auto& p : changes.problems) base::log_warning(source, p);
  for (const auto& path : changes.made) base::log_info(source, "made the volume " + path);
  for (const auto& path : changes.removed) base::log_info(source, "removed the volume " + path);
  if (!changes.trash.empty()) loop_.offload([trash = std::move(changes.trash)] { remove_trash(trash); }, [] {});
}

// ---- the journal

void Agent::retry_journal() {
  retry_timer_ = 0;
  const auto again = [this](const Error& e) {
    feed(event::Journal{false, e.message});
    retry_timer_ = loop_.after(journal_retry, guarded([this] { retry_journal(); }));
  };
  while (!waiting_.empty()) {
    if (auto s = journal_->append(waiting_.front()); !s) return again(s.error());
    waiting_.pop_front();
  }
  // Nothing may have been waiting; a harmless entry shows whether the disk takes any.
  fb::record::EntryT probe;
  probe.type = fb::record::EntryType::IDENTITY;
  probe.agent_id = core_->agent_id();
  probe.master_id = core_->master_id();
  probe.boot_id = core_->boot_id();
  if (auto s = journal_->append(probe); !s) return again(s.error());
  journal_failed_ = false;
  dirty_ = true;
  sync_later();
  for (const auto& to : std::exchange(withheld_, {}))
    if (door_) door_->send(to.stream, to.event);  // of a stream that is over: nobody hears it
  feed(event::Journal{true, {}});
}

void Agent::sync_later() {
  if (options_.sync_interval.count() <= 0 || sync_timer_ != 0 || syncing_) return;
  sync_timer_ = loop_.after(options_.sync_interval, guarded([this] {
                              sync_timer_ = 0;
                              syncing_ = true;
                              dirty_ = false;
                              const auto file = journal_->file();
                              const auto failure = std::make_shared<std::string>();
                              loop_.offload(
                                  [file, failure] {
                                    if (auto s = file->sync(); !s) *failure = s.error().message;
                                  },
                                  guarded([this, failure] {
                                    syncing_ = false;
                                    if (!failure->empty()) base::log_warning(source, *failure);
                                    if (dirty_) sync_later();
                                  }));
                            }));
}

void Agent::compact_if_wanted() {
  if (!*alive_ || journal_failed_ || !journal_->wants_compaction()) return;
  const auto before = journal_->size();
  if (auto s = journal_->compact(core_->snapshot()); !s) {
    base::log_warning(source,
                      std::move(s).error().because("the journal could not be compacted, it goes on as it is").message);
    return;
  }
  base::log_debug(source, "compacted the journal",
                  {{"before", std::to_string(before)}, {"after", std::to_string(journal_->size())}});
}

// ---- the launcher

void Agent::launch(LaunchSpec spec) {
  const std::string id = spec.container_id;
  launcher_.launch(std::move(spec), guarded([this, id](Launcher::Started started) {
                     if (auto* identity = std::get_if<Identity>(&started)) {
                       feed(event::Launched{id, *identity});
                     } else {
                       auto& e = std::get<Launcher::LaunchError>(started);
                       feed(event::LaunchFailed{id, e.reason, e.error.message});
                     }
                   }));
}

void Agent::recover(std::vector<KnownContainer> known) {
  launcher_.recover(std::move(known), guarded([this](Result<std::vector<RecoveredContainer>> r) {
                      if (r) return feed(event::Recovered{std::move(*r)});
                      // Going on would declare tasks dead that may live.
                      const std::string message =
                          "cannot recover the containers of " + options_.work_dir + ": " + r.error().message;
                      base::log_error(source, message);
                      if (on_stopped_) on_stopped_(message, true);
                    }));
}

void Agent::resize(effect::Resize r) {
  const std::string id = r.container_id;
  launcher_.update(id, std::move(r.resources), guarded([this, id](Status done) {
                     feed(event::Resized{id, done.has_value(), done ? std::string() : done.error().message});
                   }));
}

void Agent::run_check(effect::RunCheck check) {
  const std::string id = check.container_id;
  if (check.what == effect::RunCheck::What::check) {
    return agent::run_check(launcher_, probes_, id, check.task, check.timeout, guarded([this, id, run = check.run](fb::CheckStatusInfoT status) {
                              feed(event::Checked{id, run, std::move(status)});
                            }));
  }
  run_health_check(launcher_, probes_, id, check.task, check.timeout,
                   guarded([this, id, run = check.run](bool healthy, std::string message) {
                     feed(event::CheckDone{id, run, healthy, std::move(message)});
                   }));
}

}  // namespace gantry::agent
