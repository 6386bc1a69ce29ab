#include "kernel/module/host.hpp"

#include "kernel/base/log.hpp"
#include "kernel/module/graph.hpp"
#include "kernel/module/loader.hpp"
#include "kernel/module/process/prepare.hpp"

#include <algorithm>
#include <cassert>
#include <filesystem>
#include <set>

namespace gantry::module {

ModuleHost::ModuleHost(HostSetup setup) : setup_(std::move(setup)) {}

ModuleHost::~ModuleHost() {
  *alive_ = false;
  if (health_timer_) setup_.loop.cancel(health_timer_);
  assert(started_.empty() && "ModuleHost::stop() has to finish before the host is destroyed");
}

void ModuleHost::provide(const std::string& id, const gantry_module* descriptor) { provided_[id] = descriptor; }

void ModuleHost::offer(fb::host::Service service, Service* provider) { setup_.services[service] = provider; }

Result<std::unique_ptr<HostedInstance>> ModuleHost::make_instance(Item& item) {
  const config::ModuleConfig& c = item.config;
  if (c.host == "process") return make_process(item);
  Loaded loaded;
  if (const auto it = provided_.find(c.id()); it != provided_.end()) {
    GANTRY_TRY(loaded, bind_provider(it->second, c.manifest, c.kind, c.name, c.id(), setup_.kinds));
  } else {
    GANTRY_TRY(loaded, load_library(c, setup_.kinds));
  }
  InstanceSetup s;
  s.revision = loaded.revision;
  s.build = loaded.build;
  s.loop = &setup_.loop;
  s.strands = &setup_.strands;
  s.metrics = &setup_.metrics;
  s.allowed = std::set<std::string>(c.manifest.services.begin(), c.manifest.services.end());
  s.kind = c.kind;
  s.name = c.name;
  s.provider = loaded.provider;
  s.queue_bytes = setup_.queue_bytes;
  s.services = &setup_.services;
  return std::unique_ptr<HostedInstance>(std::make_unique<LocalInstance>(std::move(s)));
}

std::vector<config::Problem> ModuleHost::load(const std::vector<config::ModuleConfig>& modules) {
  assert(items_.empty());
  std::vector<config::Problem> problems;
  std::vector<std::unique_ptr<Item>> items;
  std::set<std::string> ids;
  std::set<const Item*> refused;
  for (const config::ModuleConfig& c : modules) {
    auto item = std::make_unique<Item>();
    item->config = c;
    if (item->config.roles.empty()) item->config.roles = setup_.roles;
    if (!ids.insert(c.id()).second) {
      problems.push_back(
          {config::Severity::error, c.where,
           "module " + c.id() + " is configured twice, this kernel runs one instance of a name; remove one table"});
      continue;
    }
    // A manifest that could not be read yet (a path given by a test) has no roles; the loader will see.
    const auto& roles = c.manifest.roles;
    const bool mine = roles.empty() || std::any_of(setup_.roles.begin(), setup_.roles.end(),
                                                   [&](const std::string& r) { return c.manifest.for_role(r); });
    if (mine) {
      if (item->config.manifest.kind.empty() && !provided_.count(c.id())) {
        auto manifest = config::read_manifest(c.path);
        if (!manifest) {
          problems.push_back({config::Severity::error, c.where, manifest.error().message});
          continue;
        }
        item->config.manifest = std::move(*manifest);
      }
      auto instance = make_instance(*item);
      if (!instance) {
        problems.push_back({config::Severity::error, c.where, instance.error().message});
        refused.insert(item.get());
      } else
        item->instance = std::move(*instance);
    }
    items.push_back(std::move(item));
  }
  std::vector<Node> nodes;
  std::vector<Item*> node_items;
  for (const auto& item : items) {
    // One that was refused still stands for itself here: "needs a store" beside "this store is refused" would mislead.
    if (!item->instance && !refused.count(item.get())) continue;
    const auto& m = item->config.manifest;
    nodes.push_back({item->config.kind, item->config.name, m.needs});
    node_items.push_back(item.get());
  }
  Order order = module::order(nodes);
  for (std::string& p : order.problems) problems.push_back({config::Severity::error, {}, std::move(p)});
  if (!problems.empty()) return problems;
  items_ = std::move(items);
  for (const std::size_t i : order.nodes) order_.push_back(node_items[i]);
  return {};
}

Task<Status> ModuleHost::step(Item& item, std::uint32_t method, Buffer body, std::string_view what) {
  CallOptions options;
  options.deadline = setup_.loop.now() + setup_.start_timeout;
  options.from_host = true;
  Result<Buffer> reply = co_await item.instance->ask(method, std::move(body), std::move(options));
  if (reply.has_value()) co_return ok;
  Error error = std::move(reply).error();
  // RECOVER and the like are optional; CONFIGURE and START are answered by every wrapper.
  std::string message = "module " + item.config.id() + " failed to " + std::string(what) + ": " + error.message;
  if (!error.key_path.empty()) {
    const auto at = item.config.where_of.find(error.key_path);
    message = (at == item.config.where_of.end() || at->second.file.empty() ? "" : at->second.text() + ": ") + message +
              " (setting " + error.key_path + ")";
  }
  error.message = std::move(message);
  item.instance->set_state(State::failed, error.message);
  co_return error;
}

Task<Status> ModuleHost::start_one(Item& item, const BeforeStart& before) {
  HostedInstance& instance = *item.instance;
  if (!item.config.work_dir.empty()) {
    std::error_code ec;
    std::filesystem::create_directories(item.config.work_dir, ec);
    if (ec)
      co_return fail(Code::unavailable, "cannot create " + item.config.work_dir + ", the work directory of module " +
                                            item.config.id() + ": " + ec.message());
    if (!item.user.empty()) GANTRY_CO_CHECK(process::hand_over(item.config.work_dir, item.user));
  }
  if (!std::exchange(item.listed, true)) started_.push_back(&item);
  Status s = co_await instance.create();
  if (!s.has_value()) co_return s;
  fb::ConfigureT configure = item.config.configure(false);
  configure.revision = instance.facts().revision;
  configure.roles = setup_.roles;
  Buffer body = pack(configure);
  s = co_await step(item, GANTRY_METHOD_CONFIGURE, std::move(body), "accept its settings");
  if (!s.has_value()) co_return s;
  item.configured = true;
  if (before) {
    s = co_await before(instance);
    if (!s.has_value()) {
      instance.set_state(State::failed, s.error().message);
      co_return s;
    }
  }
  // One that comes back is closed to others until it has started.
  if (!item.restarting) instance.set_state(State::starting);
  s = co_await step(item, GANTRY_METHOD_START, Buffer(), "start");
  if (!s.has_value()) co_return s;
  instance.set_state(State::running);
  item.started = true;
  item.running_since = setup_.loop.now();
  item.misses = 0;
  co_return ok;
}

Task<Status> ModuleHost::start(Which which, BeforeStart before) {
  stopping_ = false;
  // What is wanted, and what that needs; order_ has needs first, so one pass from the end finds all.
  std::set<Item*> wanted;
  for (auto it = order_.rbegin(); it != order_.rend(); ++it) {
    Item* item = *it;
    if (!which || which(*item->instance)) wanted.insert(item);
    if (!wanted.count(item)) continue;
    for (const std::string& need : item->config.manifest.needs)
      for (Item* other : order_)
        if (other->config.kind == need || other->config.id() == need) wanted.insert(other);
  }
  for (Item* item : order_) {
    if (!wanted.count(item) || item->started || item->retry || item->restarting) continue;
    item->starting = true;
    Status s = co_await start_one(*item, before);
    item->starting = false;
    if (!s.has_value() && item->instance->can_end() && !stopping_ &&
        (s.error().code == Code::unavailable || s.error().code == Code::deadline_exceeded)) {
      // A process that ends is not a module that refuses: the daemon does without it until it is back.
      auto ending = item->instance->stop(false, base::Nanos(0), base::Nanos(0));
      (void)co_await std::move(ending);
      restart_later(*item, s.error().message);
      continue;
    }
    if (!s.has_value()) {
      base::log_error("module", s.error().message);
      co_return s;
    }
    base::log_debug(item->config.id(), "running", {{"version", item->config.manifest.version}});
  }
  if (setup_.health_interval.count() && !health_timer_ && !started_.empty())
    // The first answer at once: an operator shall read in the first lines what a module cannot do here.
    health_timer_ = setup_.loop.after(base::Nanos(0), [this] { ask_health(); });
  co_return ok;
}

void ModuleHost::ask_health() {
  for (Item* item : started_) {
    HostedInstance* instance = item->instance.get();
    if (!item->started || item->asking || (instance->state() != State::running && instance->state() != State::degraded))
      continue;
    item->asking = true;
    CallOptions options;
    options.deadline = setup_.loop.now() + setup_.health_interval / 2;
    instance->call(
        GANTRY_METHOD_HEALTH, Buffer(),
        [this, alive = alive_, item](gantry_code code, Bytes bytes) {
          if (!*alive || code == GANTRY_MORE) return;
          item->asking = false;
          HostedInstance& i = *item->instance;
          if (i.state() != State::running && i.state() != State::degraded) return;
          State state = State::running;
          std::string message;
          if (code == GANTRY_DEADLINE_EXCEEDED) {
            state = State::degraded;
            message = "does not answer";
            ++item->misses;
          } else if (code == GANTRY_OK) {
            const auto* h = view<fb::Health>(bytes);
            if (h && h->state() != fb::HealthState::OK) {
              state = State::degraded;
              message = text(h->message());
              if (message.empty()) message = fb::EnumNameHealthState(h->state());
            }
          }
          if (state != i.state() || message != i.message()) {
            if (state == State::degraded)
              base::log_warning(i.id(), "is degraded", {{"reason", message}});
            else
              base::log_info(i.id(), "is well again");
          }
          i.set_state(state, std::move(message));
          if (code != GANTRY_DEADLINE_EXCEEDED) item->misses = 0;
          else if (i.can_end()) missed_health(*item);
        },
        std::move(options));
  }
  health_timer_ = setup_.loop.after(setup_.health_interval, [this] { ask_health(); });
}

Task<void> ModuleHost::stop() {
  if (health_timer_) setup_.loop.cancel(std::exchange(health_timer_, 0));
  stopping_ = true;
  auto ending = end_restarts();
  co_await std::move(ending);
  while (!started_.empty()) {
    Item* item = started_.back();
    Status s = co_await item->instance->stop(item->configured, setup_.stop_timeout, setup_.stop_grace);
    if (!s.has_value()) base::log_error("module", s.error().message);
    item->started = item->configured = item->listed = false;
    item->crashes = 0;
    started_.pop_back();
  }
}

Task<std::vector<config::Problem>> ModuleHost::reload(const std::vector<config::ModuleConfig>& modules,
                                                      std::vector<std::string> ids) {
  // Copied: the caller's configuration may go while modules answer.
  std::vector<config::ModuleConfig> next;
  for (const auto& m : modules)
    if (std::find(ids.begin(), ids.end(), m.id()) != ids.end()) next.push_back(m);
  std::vector<config::Problem> problems;
  for (config::ModuleConfig& c : next) {
    const auto it = std::find_if(items_.begin(), items_.end(),
                                 [&](const auto& i) { return i->config.id() == c.id() && i->instance; });
    if (it == items_.end()) continue;
    Item& item = **it;
    if (!item.started && item.instance->can_end()) {  // it gets them when it comes back
      item.config.settings = c.settings;
      item.config.where_of = c.where_of;
      continue;
    }
    fb::ConfigureT configure = c.configure(true);
    configure.revision = item.instance->facts().revision;
    configure.roles = setup_.roles;
    Buffer body = pack(configure);
    CallOptions options;
    options.deadline = setup_.loop.now() + setup_.start_timeout;
    Result<Buffer> reply = co_await item.instance->ask(GANTRY_METHOD_CONFIGURE, std::move(body), std::move(options));
    if (reply.has_value()) {
      item.config.settings = c.settings;
      item.config.where_of = c.where_of;
      continue;
    }
    const Error& e = reply.error();
    const auto at = c.where_of.find(e.key_path);
    problems.push_back({config::Severity::warning, at == c.where_of.end() ? c.where : at->second,
                        "module " + c.id() + " refused its new settings and keeps the old ones: " + e.message});
  }
  co_return problems;
}

Instance* ModuleHost::find(std::string_view kind, std::string_view name) const {
  for (const auto& item : items_)
    if (item->instance && item->config.kind == kind && (name.empty() || item->config.name == name))
      return item->instance.get();
  return nullptr;
}

std::vector<Instance*> ModuleHost::all(std::string_view kind) const {
  std::vector<Instance*> out;
  for (const auto& item : items_)
    if (item->instance && item->config.kind == kind) out.push_back(item->instance.get());
  return out;
}

}  // namespace gantry::module
