#include "kernel/kernel.hpp"

#include "kernel/base/log.hpp"
#include "kernel/module/process/prepare.hpp"
#include "kernel/resource/fault_domain.hpp"
#include "kernel/resource/resources.hpp"
#include "kernel/resource/wire.hpp"

#include <gantry/election_generated.h>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>

namespace gantry::kernel {

namespace {

constexpr std::string_view source = "kernel";

// Modules that speak for the cluster wait until this master leads; the rest is needed before.
bool needs_leadership(const module::Instance& i) { return i.kind() == "framework"; }

base::Level level_of(const std::string& text) {
  if (text == "debug") return base::Level::debug;
  if (text == "warning") return base::Level::warning;
  if (text == "error") return base::Level::error;
  return base::Level::info;
}

std::string random_hex(int digits) {
  std::random_device device;
  std::string out;
  while (out.size() < static_cast<std::size_t>(digits)) out += "0123456789abcdef"[device() & 15];
  return out;
}

std::string hostname_of(const config::Values& kernel) {
  if (!kernel.text("hostname").empty()) return kernel.text("hostname");
  char name[256] = {};
  return ::gethostname(name, sizeof name - 1) == 0 ? name : "localhost";
}

Result<std::string> read_secret(const std::string& path) {
  if (path.empty()) return std::string();
  std::ifstream in(path);
  std::string secret;
  if (!in || !std::getline(in, secret))
    return fail(Code::failed_precondition, "kernel.secret_file: " + path + " cannot be read or is empty; it holds the secret on its first line");
  while (!secret.empty() && (secret.back() == '\r' || secret.back() == ' ')) secret.pop_back();
  return secret;
}

// Beside the daemon in a build folder, in libexec when installed.
std::string supervisor_path() {
  std::error_code ec;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", ec);
  for (const auto& candidate : {self.parent_path() / "gantry-supervisor", std::filesystem::path(GANTRY_LIBEXEC_DIR) / "gantry-supervisor"})
    if (std::filesystem::exists(candidate, ec)) return candidate;
  return std::filesystem::path(GANTRY_LIBEXEC_DIR) / "gantry-supervisor";
}

}  // namespace

// ---- LateService

void LateService::request(const module::ServiceRequest& request, module::ServiceReply reply) {
  if (service_) return service_->request(request, std::move(reply));
  reply(GANTRY_UNAVAILABLE, pack_error(fail(Code::unavailable, "this kernel does not offer the service at present")));
}
void LateService::cancelled(std::uint64_t id) {
  if (service_) service_->cancelled(id);
}

void OperateDoor::request(const module::ServiceRequest& request, module::ServiceReply reply) {
  const bool of_agent = has_agent_ && (request.method == static_cast<std::uint32_t>(fb::host::OperateMethod::CALL_AGENT) || !has_master_);
  if (own_.take(request, of_agent, reply)) return;
  (of_agent ? agent_ : master_).request(request, std::move(reply));
}

// ---- Kernel

Kernel::Kernel(net::RealLoop& loop, config::Options options, config::ConfigPtr config, std::string version)
    : loop_(loop),
      options_(std::move(options)),
      config_(std::move(config)),
      version_(std::move(version)),
      started_at_(loop.now()),
      control_([this](const fb::control::QuestionT& q, Control::Reply reply) { answer(q, std::move(reply)); },
               [this](const std::string& principal, const std::string& secret, std::function<void(Status)> done) {
                 if (!config_->kernel().flag("authenticate")) return done(ok);
                 fb::authenticator::CredentialsT c;
                 c.principal = principal;
                 c.secret = secret;
                 authenticate(std::move(c), [done = std::move(done)](Result<std::string> who) { done(who ? Status(ok) : Status(who.error())); });
               },
               [this] { return config_->kernel().flag("authenticate"); }),
      http_(loop, [this](module::AuthQuestion question, Function<void(Result<std::string>)> done) {
        fb::authenticator::CredentialsT c;
        c.scheme = question.scheme;
        c.parameters = question.parameters;
        c.realm = question.realm;
        auto shared = std::make_shared<Function<void(Result<std::string>)>>(std::move(done));
        authenticate(std::move(c), [shared](Result<std::string> who) { (*shared)(std::move(who)); });
      }),
      auth_(loop, [this] { return all("authenticator"); }),
      authorize_(loop, [this] { return all("authorizer"); }) {}

Kernel::~Kernel() { *alive_ = false; }

Status Kernel::prepare_work_dir() {
  work_dir_ = config_->kernel().text("work_dir");
  std::error_code ec;
  std::filesystem::create_directories(work_dir_, ec);
  const auto refuse = [&](const std::string& why) {
    return fail(Code::failed_precondition, "kernel.work_dir: " + work_dir_ + ": " + why + "; it must be a folder the daemon's user can write to");
  };
  if (ec) return refuse(ec.message());
  lock_ = base::Fd(::open((work_dir_ + "/LOCK").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!lock_) return refuse(std::strerror(errno));
  if (::flock(lock_.get(), LOCK_EX | LOCK_NB) != 0)
    return fail(Code::failed_precondition, "kernel.work_dir: " + work_dir_ + " is in use by another gantryd; stop it, or give this one a work_dir of its own");
  return ok;
}

Task<Status> Kernel::start() {
  const auto& kernel = config_->kernel();
  base::log_threshold() = static_cast<std::uint32_t>(level_of(kernel.text("log_level")));
  GANTRY_CO_CHECK(prepare_work_dir());
  GANTRY_CO_CHECK(start_listeners());
  GANTRY_CO_CHECK(co_await start_modules());
  if (config_->master()) contend();
  if (config_->agent()) GANTRY_CO_CHECK(start_agent());
  follow();
  heap_.start();
  base::log_info(source, "started", {{"version", version_}, {"work_dir", work_dir_}, {"pid", std::to_string(::getpid())}});
  co_return ok;
}

Task<Status> Kernel::start_modules() {
  const auto& kernel = config_->kernel();
  module::Strands::Limits limits;
  limits.threads = static_cast<unsigned>(kernel.number("module_threads"));
  strands_ = std::make_unique<module::Strands>(limits);
  module::HostSetup setup{loop_, *strands_, metrics_, config_->roles(), {}};
  setup.services = {{fb::host::Service::HTTP, &http_}, {fb::host::Service::QUERY, &control_},
                    {fb::host::Service::STORE, &store_late_}, {fb::host::Service::CLUSTER, &cluster_late_},
                    {fb::host::Service::STATE, &state_late_}, {fb::host::Service::OPERATE, &operate_},
                    {fb::host::Service::AUTH, &auth_}, {fb::host::Service::AUTHORIZE, &authorize_}};
  operate_.roles(config_->agent(), config_->master());
  if (config_->agent()) setup.services[fb::host::Service::EXECUTORS] = &executor_service_;
  setup.processes.loop = &loop_;
  setup.processes.program = module::process::find_program(GANTRY_LIBEXEC_DIR);
  setup.processes.group = module::process::group_name(work_dir_);
  setup.processes.recover = [this](module::Instance& i) { return module_recovers(i); };
  setup.processes.back = [this](module::Instance& i) { module_returned(i); };
  modules_ = std::make_unique<module::ModuleHost>(std::move(setup));
  const auto problems = modules_->load(config_->modules());
  for (const auto& p : problems) base::log_error(source, p.text());
  if (!problems.empty())
    co_return fail(Code::failed_precondition, std::to_string(problems.size()) + " module" + (problems.size() == 1 ? "" : "s") + " refused; nothing was started");
  auto starting = modules_->start([](const module::Instance& i) { return !needs_leadership(i); });
  GANTRY_CO_CHECK(co_await std::move(starting));

  if (module::Instance* instance = modules_->find("store")) {
    store_ = std::make_unique<store::ModuleStore>(*instance, &loop_);
    store_service_ = std::make_unique<store::StoreService>(*instance, &loop_);
    store_late_.provide(store_service_.get());
  }
  if (config_->master()) {
    master::MasterOptions o;
    o.id_seed = random_hex(8);
    o.hostname = hostname_of(kernel);
    GANTRY_CO_TRY(o.domain, resource::parse_fault_domain(kernel.text("domain")));
    o.ping_interval = kernel.duration("agent_ping_interval");
    o.ping_misses = static_cast<unsigned>(kernel.number("agent_ping_misses"));
    o.agent_reregister_timeout = kernel.duration("agent_reregister_timeout");
    o.forget_agents_after = kernel.duration("forget_agents_after");
    o.offer_timeout = kernel.duration("offer_timeout");
    o.completed_frameworks = static_cast<std::size_t>(kernel.number("completed_frameworks"));
    o.completed_tasks = static_cast<std::size_t>(kernel.number("completed_tasks"));
    if (kernel.flag("authenticate"))
      o.authenticate = [this](const fb::link::HelloT& hello, std::function<void(Status)> done) {
        fb::authenticator::CredentialsT c;
        c.principal = hello.principal;
        c.secret = hello.secret;
        authenticate(std::move(c), [done = std::move(done)](Result<std::string> who) { done(who ? Status(ok) : Status(who.error())); });
      };
    master_ = std::make_unique<master::Master>(loop_, std::move(o), *modules_->find("allocator"), *store_, *this);
    cluster_late_.provide(&master_->cluster_service());
    state_late_.provide(&master_->state_service());
    operate_late_.provide(&master_->operate_service());
  }
  co_return ok;
}

// A module's process was restarted: whoever relied on what it knew tells it again.
Task<Status> Kernel::module_recovers(module::Instance& instance) {
  if (!launcher_) co_return ok;
  if (instance.kind() == "image") co_return co_await launcher_->recover_image(instance);
  if (instance.kind() != "isolator") co_return ok;
  auto recovering = launcher_->recover_isolator(instance);
  co_return co_await std::move(recovering);
}

void Kernel::module_returned(module::Instance& instance) {
  if (instance.kind() == "isolator" && launcher_) launcher_->isolator_returned(instance);
  if (instance.kind() == "allocator" && master_) master_->allocator_returned();
}

// ---- listeners

Status Kernel::listen(const std::string& address, std::string name, Function<void(net::LinkPtr)> on_link, std::string& bound) {
  GANTRY_TRY(const net::Address where, net::parse_address(address));
  auto listener = net::listen(loop_, where, std::move(on_link));
  if (!listener) return std::move(listener).error().because("kernel." + name);
  bound = (*listener)->address().text();
  addresses_.emplace_back(std::move(name), bound);
  listeners_.push_back(std::move(*listener));
  return ok;
}

Status Kernel::start_listeners() {
  const auto& kernel = config_->kernel();
  const std::string socket = kernel.text("control").empty() ? work_dir_ + "/gantry.sock" : kernel.text("control");
  // Nobody else has this work_dir, so a socket that is still there belongs to a daemon that died.
  ::unlink(socket.c_str());
  std::string bound;
  const mode_t before = ::umask(0177);
  const Status control = listen("unix:" + socket, "control", [this](net::LinkPtr l) { control_.serve(std::move(l), true); }, bound);
  ::umask(before);
  GANTRY_CHECK(control);
  if (config_->master()) GANTRY_CHECK(listen(kernel.text("listen"), "listen", [this](net::LinkPtr l) { accept(std::move(l)); }, master_address_));
  if (config_->agent())
    GANTRY_CHECK(listen(kernel.text("agent_listen"), "agent_listen", [this](net::LinkPtr l) { control_.serve(std::move(l), false); }, agent_address_));
  return ok;
}

// A connection of the master's listener: an agent or an operator, as its first frame tells.
void Kernel::accept(net::LinkPtr link) {
  const master::LinkId id = ++next_link_;
  connections_[id] = {link, Connection::Speaks::unknown};
  link->on_frame([this, id, alive = alive_](Bytes frame) {
    const auto it = *alive ? connections_.find(id) : connections_.end();
    if (it == connections_.end()) return;
    Connection& c = it->second;
    if (c.speaks == Connection::Speaks::unknown)
      c.speaks = Control::is_preamble(frame) ? Connection::Speaks::control : Connection::Speaks::link;
    if (c.speaks == Connection::Speaks::control) control_.on_frame(net::LinkPtr(c.link), false, frame);
    else if (master_) master_->on_agent_frame(id, frame);
    else drop(id, "this master does not lead yet");  // silence would keep the agent waiting
  });
  link->on_closed([this, id, alive = alive_](const Error&) {
    if (!*alive) return;
    const auto it = connections_.find(id);
    if (it == connections_.end()) return;
    const bool agent = it->second.speaks == Connection::Speaks::link;
    connections_.erase(it);
    if (agent && master_) master_->on_agent_closed(id);
  });
}

void Kernel::send(master::LinkId link, const Buffer& frame) {
  const auto it = connections_.find(link);
  if (it != connections_.end()) it->second.link->send(frame);
}

void Kernel::drop(master::LinkId link, std::string_view why) {
  const auto it = connections_.find(link);
  if (it == connections_.end()) return;
  base::log_info(source, "dropping a connection", {{"peer", it->second.link->peer()}, {"why", std::string(why)}});
  it->second.link->close();
}

// ---- who speaks

std::vector<module::Instance*> Kernel::all(std::string_view kind) const {
  return modules_ ? modules_->all(kind) : std::vector<module::Instance*>{};
}

void Kernel::authenticate(fb::authenticator::CredentialsT credentials, std::function<void(Result<std::string>)> done, std::size_t from) {
  const auto all = this->all("authenticator");
  if (from >= all.size())
    return done(fail(Code::unauthenticated, all.empty() ? "no authenticator module is configured; nobody can be let in" : "no authenticator knows this scheme"));
  Buffer body = pack(credentials);
  all[from]->call(static_cast<std::uint32_t>(fb::authenticator::Method::AUTHENTICATE), std::move(body),
                  [this, credentials = std::move(credentials), done = std::move(done), from, alive = alive_](gantry_code code, Bytes reply) mutable {
                    if (!*alive || code == GANTRY_MORE) return;
                    if (code == GANTRY_UNIMPLEMENTED) return authenticate(std::move(credentials), std::move(done), from + 1);
                    if (code != GANTRY_OK) return done(unpack_error(code, reply));
                    const auto* identity = view<fb::authenticator::Identity>(reply);
                    if (!identity) return done(fail(Code::internal, "the authenticator's answer is malformed"));
                    done(std::string(text(identity->principal())));
                  },
                  module::CallOptions{loop_.now() + std::chrono::seconds(10), {}});
}

// ---- leadership

void Kernel::contend() {
  module::Instance* election = modules_->find("election");
  fb::election::CandidateT candidate;
  candidate.address = config_->kernel().text("advertise").empty() ? master_address_ : config_->kernel().text("advertise");
  candidate.hostname = hostname_of(config_->kernel());
  candidate.version = version_;
  candidate.id = std::to_string(::getpid());
  contend_call_ = election->call(static_cast<std::uint32_t>(fb::election::Method::CONTEND), pack(candidate),
                                 [this, alive = alive_](gantry_code code, Bytes body) {
                                   if (!*alive || stopping_) return;
                                   if (code != GANTRY_MORE) {
                                     contend_call_ = 0;
                                     deposed(code < 0 ? unpack_error(code, body).message : "the election has ended");
                                     loop_.after(std::chrono::seconds(1), [this, alive] {
                                       if (*alive && !stopping_ && !contend_call_) contend();
                                     });
                                     return;
                                   }
                                   const auto* l = view<fb::election::Leadership>(body);
                                   if (l && l->elected() && !leading_) elected();
                                   else if (l && !l->elected()) deposed("another master was elected");
                                 });
}

void Kernel::elected() {
  leading_ = true;
  master_->lead([this, alive = alive_](Status led) {
    if (!*alive || stopping_) return;
    if (!led && led.error().code == Code::unavailable) {
      // The store is away for longer than the master waits for it. Standing down lets another lead, if there is one.
      base::log_warning(source, "cannot lead yet: " + led.error().message);
      leading_ = false;
      modules_->find("election")->cancel(contend_call_);
      return;
    }
    if (!led) {
      base::log_error(source, "cannot lead: " + led.error().message);
      if (on_finished_) on_finished_(true);
      return;
    }
    base::log_info(source, "leading", {{"id", master_->id()}, {"address", master_address_}});
    spawn(modules_->start(), [this, alive](Status started) {
      if (!*alive || stopping_ || started) return;
      base::log_error(source, started.error().message);
      if (on_finished_) on_finished_(true);
    });
  });
}

void Kernel::deposed(const std::string& why) {
  if (!std::exchange(leading_, false)) return;
  base::log_warning(source, "no longer leading: " + why);
  master_->step_down();
}

void Kernel::follow() {
  module::Instance* election = modules_->find("election");
  watch_call_ = election->call(static_cast<std::uint32_t>(fb::election::Method::WATCH), Buffer(), [this, alive = alive_](gantry_code code, Bytes body) {
    if (!*alive || stopping_) return;
    if (code != GANTRY_MORE) {
      watch_call_ = 0;
      if (code < 0) base::log_warning(source, "the election cannot be watched: " + unpack_error(code, body).message);
      loop_.after(std::chrono::seconds(1), [this, alive] {
        if (*alive && !stopping_ && !watch_call_) follow();
      });
      return;
    }
    const auto* l = view<fb::election::Leader>(body);
    leader_ = l ? std::string(text(l->address())) : std::string();
    leader_hostname_ = l ? std::string(text(l->hostname())) : std::string();
    if (agent_) agent_->leader(leader_);
  });
}

// ---- the agent

Status Kernel::start_agent() {
  const auto& kernel = config_->kernel();
  agent::LauncherOptions lo;
  lo.work_dir = work_dir_;
  lo.supervisor = supervisor_path();
  lo.switch_user = ::geteuid() == 0;
  lo.gc.delay = kernel.duration("sandbox_gc_delay");
  lo.gc.headroom = kernel.real("sandbox_gc_headroom");
  lo.isolators = modules_->all("isolator");
  lo.fetcher = modules_->find("fetcher");
  lo.image = modules_->find("image");
  lo.watch_readable = [this](int fd, Function<void()> fn) { return loop_.watch_readable(fd, std::move(fn)); };
  lo.unwatch = [this](std::uint64_t id) { loop_.unwatch(id); };
  launcher_ = std::make_unique<agent::ContainerLauncher>(loop_, std::move(lo));

  agent::AgentOptions o;
  o.work_dir = work_dir_;
  o.hostname = hostname_of(kernel);
  o.address = agent_address_;
  o.port = static_cast<int>(kernel.number("agent_port"));
  o.executor_registration = kernel.duration("executor_registration_timeout");
  o.executor_reregistration = kernel.duration("executor_reregistration_timeout");
  o.executor_grace = kernel.duration("executor_shutdown_grace_period");
  o.version = version_;
  o.principal = kernel.text("principal");
  GANTRY_TRY(o.secret, read_secret(kernel.text("secret_file")));
  o.switch_user = ::geteuid() == 0;
  o.backoff_first = kernel.duration("registration_backoff");
  o.backoff_max = kernel.duration("registration_backoff_max");
  if (!kernel.flag("fsync")) o.sync_interval = base::Nanos(0);
  GANTRY_TRY(const auto resources, resource::Resources::parse(kernel.text("resources")));
  o.resources = resource::to_wire(resources);
  GANTRY_TRY(const auto attributes, resource::parse_attributes(kernel.text("attributes")));
  o.attributes = resource::attributes_to_wire(attributes);
  GANTRY_TRY(o.domain, resource::parse_fault_domain(kernel.text("domain")));
  if (::geteuid() != 0)
    base::log_warning(source, "not running as root: tasks run as this user, without limits and namespaces where the system forbids them");
  disk_ = agent::make_real_disk();
  master_link_ = agent::make_net_master_link(loop_);
  agent_ = std::make_unique<agent::Agent>(loop_, std::move(o), *disk_, *launcher_, *master_link_, agent::make_net_probes(loop_));
  agent_->on_stopped([this, alive = alive_](const std::string& message, bool failed) {
    if (!*alive || stopping_) return;
    if (failed) base::log_error(source, "the agent gave up: " + message);
    else base::log_info(source, "the agent's work is over: " + message);
    if (on_finished_) on_finished_(failed);
  });
  GANTRY_CHECK(agent_->start());
  executor_service_.attach(agent_.get());
  operate_agent_.attach(agent_.get());
  return ok;
}

void Kernel::shut_down_agent() {
  if (agent_) agent_->shut_down("asked to by SIGUSR1");
  else if (on_finished_) on_finished_(false);
}

// ---- reload

void Kernel::reload(std::function<void(fb::control::DoneT)> done) {
  auto result = std::make_shared<fb::control::DoneT>();
  const config::Loaded loaded = config::load(options_);
  for (const auto& p : loaded.problems) result->warnings.push_back(p.text());
  if (!loaded.config) {
    result->message = "the configuration has mistakes; nothing was changed";
    for (const auto& p : loaded.problems) base::log_error(source, p.text());
    base::log_error(source, result->message);
    return done(std::move(*result));
  }
  const config::Change change = config::diff(*config_, *loaded.config);
  for (const auto& p : change.restart) {
    result->warnings.push_back(p.text());
    base::log_warning(source, p.text());
  }
  for (const auto& c : change.changed) base::log_info(source, "reload: " + c);
  config_ = change.applied;
  if (change.kernel) daemon_calls_.logging().configured(static_cast<std::uint32_t>(level_of(config_->kernel().text("log_level"))));
  const std::size_t count = change.changed.size();
  auto reloading = modules_->reload(config_->modules(), change.modules);
  spawn(std::move(reloading), [result, count, done = std::move(done)](std::vector<config::Problem> problems) {
    for (const auto& p : problems) {
      result->warnings.push_back(p.text());
      base::log_warning(source, p.text());
    }
    result->message = count == 0 ? "nothing to apply" : "applied " + std::to_string(count) + " change" + (count == 1 ? "" : "s");
    done(std::move(*result));
  });
}

// ---- stop: the reverse of start

Task<void> Kernel::stop() {
  stopping_ = true;
  heap_.stop();
  listeners_.clear();
  executor_service_.attach(nullptr);
  operate_agent_.attach(nullptr);
  if (agent_) agent_->stop();
  if (launcher_) {
    Promise<bool> stopped;
    launcher_->stop([stopped] { stopped.set(true); });
    co_await stopped.get();
  }
  agent_.reset();
  launcher_.reset();
  master_link_.reset();
  if (modules_) {
    module::Instance* election = modules_->find("election");
    if (election && contend_call_) election->cancel(contend_call_);
    if (election && watch_call_) election->cancel(watch_call_);
    auto stopping = modules_->stop();
    co_await std::move(stopping);
  }
  if (master_) master_->step_down();
  cluster_late_.provide(nullptr);
  state_late_.provide(nullptr);
  store_late_.provide(nullptr);
  for (auto& [id, c] : std::exchange(connections_, {})) c.link->close();
  master_.reset();
  store_service_.reset();
  store_.reset();
  traces_.reset();
  modules_.reset();
  strands_.reset();
}

// ---- run

int run(config::Options options, config::ConfigPtr config, std::string version) {
  const auto loop = net::make_real_loop();
  auto kernel = std::make_unique<Kernel>(*loop, std::move(options), std::move(config), std::move(version));
  int status = 0;
  bool ending = false;
  const auto end = [&](int with) {
    if (ending) return;
    ending = true;
    status = with;
    spawn(kernel->stop(), [&] { loop->post([&] { loop->stop(); }); });
  };
  kernel->on_finished([&](bool failed) { loop->post([&, failed] { end(failed ? 1 : 0); }); });
  loop->on_signal({SIGTERM, SIGINT, SIGHUP, SIGUSR1}, [&](int signal) {
    if (signal == SIGHUP) return kernel->reload([](const fb::control::DoneT&) {});
    if (signal == SIGUSR1) return kernel->shut_down_agent();
    base::log_info(source, std::string("stopping on ") + (signal == SIGTERM ? "SIGTERM" : "SIGINT"));
    end(0);
  });
  loop->post([&] {
    spawn(kernel->start(), [&](Status started) {
      if (started) return;
      base::log_error(source, "cannot start: " + started.error().message);
      loop->post([&] { end(3); });
    });
  });
  loop->run();
  kernel.reset();
  return status;
}

}  // namespace gantry::kernel
