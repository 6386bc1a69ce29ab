// Test world: the module on the fake host, with a small master, agents, store and HTTP around it. Tests only.
#pragma once
#include <gtest/gtest.h>
#include <gantry/testing/host.hpp>

#include "services.hpp"

namespace gantry::framework_services {

using namespace std::chrono_literals;

struct FakeAgent {
  std::string id, host;
  double cpus = 4, mem = 4096;
  std::uint64_t port_first = 31000, port_last = 31999;
  std::map<std::string, std::string> attributes;
  bool up = true;
};

struct FakeTask {
  fb::TaskInfoT info;
  std::string agent;
  bool alive = true, running = false;
  [[nodiscard]] double amount(const std::string& name) const {
    double sum = 0;
    for (const auto& r : info.resources) sum += r->name == name ? r->scalar.value_or(0) : 0;
    return sum;
  }
  [[nodiscard]] std::string env(const std::string& name) const {
    for (const auto& v : info.command->environment) {
      if (v->name == name) return v->value;
    }
    return "<unset>";
  }
};

struct Response {
  int status = 0;
  Json body;
  std::string text;
  std::map<std::string, std::string> headers;
  bool open = false;
  [[nodiscard]] const Object& object() const { return body.get_object(); }
  [[nodiscard]] const Json& operator[](const char* key) const { return body.get_object().at(key); }
};

inline std::string str(const Json& v) { return std::string(v.get_string()); }

class World {
 public:
  World() { boot(); }
  ~World() { EXPECT_EQ(host_->faults(), std::vector<std::string>{}); }

  // A new process over the same store and the same cluster.
  void reboot() {
    module_->destroy();
    module_.reset();
    const auto now = host_->now();
    host_.reset();
    boot(now);
  }

  testing::Host& host() { return *host_; }
  const Core& core() { return (**module_).core(); }
  void advance(Nanos d) { host_->advance(d); }
  Status stop() { return module_->stop(); }

  // ---- the API
  Response ask(const std::string& method, const std::string& target, const std::string& body = {},
               std::map<std::string, std::string> headers = {}) {
    const auto id = send(method, target, body, std::move(headers));
    host_->run();
    return responses[id];
  }
  std::uint64_t send(const std::string& method, const std::string& target, const std::string& body = {},
                     std::map<std::string, std::string> headers = {}) {
    fb::host::RequestT r;
    r.id = ++last_request_;
    r.method = method;
    r.target = target;
    r.peer = "10.0.0.9:5555";
    r.body.assign(body.begin(), body.end());
    if (!body.empty() && !headers.count("content-type")) headers["content-type"] = "application/json";
    for (const auto& [k, v] : headers) {
      auto h = std::make_unique<fb::host::HeaderT>();
      h->name = k;
      h->value = v;
      r.headers.push_back(std::move(h));
    }
    listen_.value().more(r);
    return r.id;
  }
  Response get(const std::string& target) { return ask("GET", target); }
  Response post(const std::string& target, const std::string& body = {}) { return ask("POST", target, body); }
  Response put(const std::string& target, const std::string& body) { return ask("PUT", target, body); }
  Response del(const std::string& target) { return ask("DELETE", target); }
  Object app(const std::string& id) { return get("/v2/apps" + id)["app"].get_object(); }
  std::size_t deployments() { return get("/v2/deployments").body.get_array().size(); }

  // ---- the cluster
  std::vector<FakeAgent> agents{{"A1", "h1"}, {"A2", "h2"}};
  std::map<std::string, FakeTask> tasks;  // by task id, all that were ever launched
  bool auto_run = true, auto_kill = true, auto_offer = true, accept_fails = false, cluster_down = false;
  std::vector<fb::CallT> calls;

  std::vector<std::string> alive(const std::string& app = {}) const {
    std::vector<std::string> out;
    for (const auto& [id, t] : tasks) {
      if (t.alive && (app.empty() || id.starts_with(safe_path(app) + "."))) out.push_back(id);
    }
    return out;
  }
  int running(const std::string& app = {}) const {
    int n = 0;
    for (const auto& id : alive(app)) n += tasks.at(id).running;
    return n;
  }
  int count(fb::CallType type) const {
    int n = 0;
    for (const auto& c : calls) n += c.type == type;
    return n;
  }
  void update(const std::string& task, fb::TaskState state, const std::string& message = {},
              std::optional<bool> healthy = {}, bool ack = true) {
    fb::EventT e;
    e.type = fb::EventType::UPDATE;
    e.update = std::make_unique<fb::UpdateT>();
    e.update->status = std::make_unique<fb::TaskStatusT>();
    auto& s = *e.update->status;
    s.task_id = task;
    s.state = state;
    s.message = message;
    if (healthy) s.healthy = *healthy;
    if (const auto it = tasks.find(task); it != tasks.end()) {
      s.agent_id = it->second.agent;
      it->second.running = state == fb::TaskState::TASK_RUNNING;
      if (state == fb::TaskState::TASK_FAILED || state == fb::TaskState::TASK_FINISHED ||
          state == fb::TaskState::TASK_KILLED)
        it->second.alive = false;
    }
    if (ack) s.uuid = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, ++uuid_};
    if (subscription_) subscription_->more(e);
  }
  void finish(const std::string& task, fb::TaskState state, const std::string& message = "over") {
    update(task, state, message);
    host_->run();
  }
  void offer() {
    fb::EventT e;
    e.type = fb::EventType::OFFERS;
    e.offers = std::make_unique<fb::OffersT>();
    for (const auto& a : agents) {
      if (!a.up) continue;
      double cpus = a.cpus, mem = a.mem;
      std::set<std::uint64_t> used;
      for (const auto& [id, t] : tasks) {
        if (!t.alive || t.agent != a.id) continue;
        cpus -= t.amount("cpus");
        mem -= t.amount("mem");
        for (const auto& r : t.info.resources) {
          for (const auto& x : r->ranges) used.insert(x.begin());
        }
      }
      auto o = std::make_unique<fb::OfferT>();
      o->id = "O" + std::to_string(++last_offer_);
      o->agent_id = a.id;
      o->hostname = a.host;
      o->allocation_role = "*";
      for (const auto& [k, v] : a.attributes) {
        auto at = std::make_unique<fb::AttributeT>();
        at->name = k;
        at->type = fb::ValueType::TEXT;
        at->text = v;
        o->attributes.push_back(std::move(at));
      }
      for (const auto& [name, v] : {std::pair{"cpus", cpus}, std::pair{"mem", mem}, std::pair{"disk", 10000.0}}) {
        auto r = std::make_unique<fb::ResourceT>();
        r->name = name;
        r->scalar = v;
        o->resources.push_back(std::move(r));
      }
      auto r = std::make_unique<fb::ResourceT>();
      r->name = "ports";
      r->type = fb::ValueType::RANGES;
      std::uint64_t from = a.port_first;
      for (const auto p : used) {
        if (p < from || p > a.port_last) continue;
        if (p > from) r->ranges.emplace_back(from, p - 1);
        from = p + 1;
      }
      if (from <= a.port_last) r->ranges.emplace_back(from, a.port_last);
      o->resources.push_back(std::move(r));
      offered_[o->id] = a.id;
      e.offers->offers.push_back(std::move(o));
    }
    if (subscription_) subscription_->more(e);
    host_->run();
  }
  void disconnect(gantry_code code = GANTRY_UNAVAILABLE) {
    if (subscription_)
      std::exchange(subscription_, std::nullopt)->reply(code, Bytes(pack_error(fail(static_cast<Code>(code), "gone"))));
    host_->run();
  }

  // ---- store and web
  std::map<std::string, std::string> records;
  bool store_fails = false;
  bool hold_commits = false;
  std::vector<testing::Asked> held;
  // status of a fetched URL; negative: connection refused; 0: no answer, ever
  std::function<int(const std::string& url)> web = [](const std::string&) { return 200; };
  std::map<std::uint64_t, Response> responses;
  std::vector<std::string> journal;  // "commit", "ack", "accept", "respond", in the order seen

  void release_commits() {
    hold_commits = false;
    for (auto& a : std::exchange(held, {})) commit(a);
    host_->run();
  }
  // Events of a stream: type and parsed data.
  std::vector<std::pair<std::string, Object>> events(std::uint64_t id) {
    std::vector<std::pair<std::string, Object>> out;
    const std::string& all = responses[id].text;
    for (std::size_t at = all.find("event: "); at != std::string::npos; at = all.find("event: ", at + 1)) {
      const auto eol = all.find("\r\n", at), data = eol + 8, end = all.find("\r\n", data);
      out.emplace_back(all.substr(at + 7, eol - at - 7), parse_json(all.substr(data, end - data)).value().get_object());
    }
    return out;
  }
  std::vector<std::string> types(std::uint64_t id) {
    std::vector<std::string> out;
    for (auto& [t, o] : events(id)) out.push_back(t);
    return out;
  }
  std::function<bool(std::uint64_t)> reads = [](std::uint64_t) { return true; };  // does this client take its data?

 private:
  void boot(Nanos at = 1s) {
    host_ = std::make_unique<testing::Host>(at);
    host_->set_wall(1'700'000'000'000'000'000ull + static_cast<std::uint64_t>(at.count()));
    host_->serve(fb::host::Service::STORE, [this](testing::Asked a) { store(std::move(a)); });
    host_->serve(fb::host::Service::CLUSTER, [this](testing::Asked a) { cluster(std::move(a)); });
    host_->serve(fb::host::Service::HTTP, [this](testing::Asked a) { http(std::move(a)); });
    module_ = std::make_unique<testing::Subject<Services>>(*host_, "services");
    ASSERT_TRUE(module_->configure({{"listen", "127.0.0.1:8080"},
                                    {"insecure", false},
                                    {"realm", ""},
                                    {"hostname", ""},
                                    {"name", "marathon"},
                                    {"role", "*"},
                                    {"user", ""},
                                    {"principal", ""},
                                    {"failover_timeout", 168h},
                                    {"decline_time", 120s},
                                    {"revive_interval", 1s},
                                    {"max_instances_per_offer", 5},
                                    {"launch_tokens", 100},
                                    {"health_concurrency", 256},
                                    {"reconcile_interval", 10min},
                                    {"local_port_min", 10000},
                                    {"local_port_max", 20000},
                                    {"max_running_deployments", 100},
                                    {"max_apps", 0},
                                    {"env_vars_prefix", ""}}));
    const auto started = module_->start();
    ASSERT_TRUE(started) << started.error().message;
    host_->run();
  }

  void store(testing::Asked a) {
    if (a.method == static_cast<std::uint32_t>(fb::store::Method::LIST)) {
      fb::store::RecordsT out;
      for (const auto& [k, v] : records) {
        auto r = std::make_unique<fb::store::RecordT>();
        r->key = k;
        r->value.assign(v.begin(), v.end());
        out.records.push_back(std::move(r));
      }
      a.more(out);
      a.ok();
      return;
    }
    if (hold_commits)
      held.push_back(a);
    else
      commit(a);
  }
  void commit(const testing::Asked& a) {
    if (store_fails) return a.fail(fail(Code::resource_exhausted, "the disk is full"));
    const auto c = a.as<fb::store::Commit>().value();
    fb::store::CommittedT out;
    for (const auto& op : c.ops) {
      EXPECT_EQ(op->key.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._~%-/"),
                std::string::npos)
          << op->key;
      if (op->type == fb::store::OpType::PUT)
        records[op->key].assign(op->value.begin(), op->value.end());
      else
        records.erase(op->key);
      out.versions.push_back(1);
    }
    journal.push_back("commit");
    a.ok(out);
  }

  void cluster(testing::Asked a) {
    auto c = a.as<fb::Call>().value();
    if (a.method == static_cast<std::uint32_t>(fb::host::ClusterMethod::SUBSCRIBE)) {
      if (cluster_down) return a.fail(fail(Code::unavailable, "no master"));
      calls.push_back(c);
      subscription_ = a;
      fb::EventT e;
      e.type = fb::EventType::SUBSCRIBED;
      e.subscribed = std::make_unique<fb::SubscribedT>();
      e.subscribed->framework_id = c.framework_id.empty() ? "F1" : c.framework_id;
      a.more(e);
      return;
    }
    calls.push_back(c);
    if (cluster_down) return a.fail(fail(Code::unavailable, "no master"));
    if (c.accept && accept_fails) return a.fail(fail(Code::invalid_argument, "offer is no longer valid"));
    a.ok();
    switch (c.type) {
      case fb::CallType::ACCEPT: {
        journal.push_back("accept");
        const std::string agent = offered_[c.accept->offer_ids.at(0)];
        for (const auto& op : c.accept->operations) {
          for (const auto& t : op->launch->task_infos) {
            EXPECT_FALSE(tasks.count(t->task_id)) << "launched twice: " << t->task_id;
            EXPECT_EQ(t->agent_id, agent);
            FakeTask& f = tasks[t->task_id];
            f.info = *t;
            f.agent = agent;
            if (auto_run) update(t->task_id, fb::TaskState::TASK_RUNNING);
          }
        }
        if (auto_offer && c.accept->filters->refuse_seconds == 0.0) host_post([this] { offer(); });
        break;
      }
      case fb::CallType::REVIVE:
        if (auto_offer) host_post([this] { offer(); });
        break;
      case fb::CallType::KILL:
        if (auto_kill) {
          const auto it = tasks.find(c.kill->task_id);
          if (it != tasks.end() && it->second.alive) update(c.kill->task_id, fb::TaskState::TASK_KILLED);
        }
        break;
      case fb::CallType::ACKNOWLEDGE:
        journal.push_back("ack");
        break;
      case fb::CallType::RECONCILE:
        for (const auto& t : c.reconcile->tasks) {
          const auto it = tasks.find(t->task_id);
          if (it == tasks.end() || !it->second.alive)
            update(t->task_id, fb::TaskState::TASK_GONE, "reconciliation", {}, false);
          else
            update(t->task_id, it->second.running ? fb::TaskState::TASK_RUNNING : fb::TaskState::TASK_STAGING,
                   "reconciliation", {}, false);
        }
        break;
      default:
        break;
    }
  }
  // Offers come after the reply, as from a real master.
  void host_post(std::function<void()> fn) { (**module_).host().post(std::move(fn)); }

  void http(testing::Asked a) {
    using M = fb::host::HttpMethod;
    switch (static_cast<M>(a.method)) {
      case M::LISTEN: {
        listen_ = a;
        fb::host::ListeningT l;
        l.address = a.as<fb::host::Listen>().value().address;
        a.more(l);
        return;
      }
      case M::RESPOND: {
        const auto r = a.as<fb::host::Respond>().value();
        if (!reads(r.id)) return;  // neither taken nor refused
        Response& out = responses[r.id];
        if (r.status) {
          out.status = r.status;
          journal.push_back("respond");
        }
        for (const auto& h : r.headers) out.headers[h->name] = h->value;
        out.text.append(r.body.begin(), r.body.end());
        out.open = r.more;
        if (!r.more) {
          if (auto parsed = parse_json(out.text)) out.body = *parsed;
        }
        a.ok();
        return;
      }
      case M::FETCH: {
        const int status = web(a.as<fb::host::Fetch>().value().url);
        if (status == 0) return;
        if (status < 0) return a.fail(fail(Code::unavailable, "Connection refused"));
        fb::host::FetchedT f;
        f.status = static_cast<std::uint16_t>(status);
        a.ok(f);
        return;
      }
      case M::PROBE:
        if (web(a.as<fb::host::Probe>().value().address) < 0)
          a.fail(fail(Code::unavailable, "Connection refused"));
        else
          a.ok();
        return;
      default:
        return;  // WATCH stays open
    }
  }

  std::unique_ptr<testing::Host> host_;
  std::unique_ptr<testing::Subject<Services>> module_;
  std::optional<testing::Asked> subscription_, listen_;
  std::map<std::string, std::string> offered_;
  std::uint64_t last_request_ = 0;
  int last_offer_ = 0;
  std::uint8_t uuid_ = 0;
};

using S = fb::TaskState;

class LifecycleTest : public ::testing::Test {
 protected:
  World w;
  void deploy(const std::string& body) {
    const auto r = w.post("/v2/apps", body);
    ASSERT_EQ(r.status, 201) << r.text;
    w.advance(3s);
  }
  std::string config_of(const std::string& task) { return w.tasks.at(task).info.command->value; }
  int good(const std::string& cmd) {
    int n = 0;
    for (const auto& t : w.alive()) n += w.tasks[t].running && config_of(t) == cmd;
    return n;
  }
};

}  // namespace gantry::framework_services
