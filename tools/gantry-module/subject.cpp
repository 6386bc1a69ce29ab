#include "tools/gantry-module/subject.hpp"

#include "kernel/base/log.hpp"
#include "kernel/base/metric.hpp"
#include "kernel/module/instance.hpp"
#include "kernel/module/loader.hpp"
#include "kernel/module/process/instance.hpp"
#include "kernel/module/strand.hpp"
#include "kernel/net/net.hpp"

#include <fcntl.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <filesystem>
#include <mutex>

namespace gantry::kit {
namespace {

using conformance::Asked;
using module::HostedInstance;

// One host service: hands the module's requests to the case.
class Bridge final : public module::Service {
 public:
  Bridge(fb::host::Service service, std::function<void(Asked)> to) : service_(service), to_(std::move(to)) {}
  void request(const module::ServiceRequest& r, module::ServiceReply reply) override {
    Asked a;
    a.service = service_;
    a.method = r.method;
    a.body.assign(r.body.begin(), r.body.end());
    a.state->send = [this, id = r.id, reply = std::move(reply)](gantry_code code, Bytes b) {
      if (code != GANTRY_MORE) open_.erase(id);
      reply(code, b);
    };
    open_.emplace(r.id, a);
    to_(std::move(a));
  }
  void cancelled(std::uint64_t id) override {
    const auto it = open_.find(id);
    if (it == open_.end()) return;
    const Asked a = it->second;
    a.cancel();
  }

 private:
  fb::host::Service service_;
  std::function<void(Asked)> to_;
  std::map<std::uint64_t, Asked> open_;
};

void replace(std::string& text, std::string_view mark, const std::string& directory) {
  for (auto at = text.find(mark); at != std::string::npos; at = text.find(mark, at + directory.size()))
    text.replace(at, mark.size(), directory);
}

class TheSubject final : public HostedSubject {
 public:
  explicit TheSubject(SubjectSetup s) : setup_(std::move(s)), loop_(net::make_real_loop(4)) {
    kind_ = setup_.target.manifest.kind;
    name_ = setup_.target.manifest.name;
    scratch_ = setup_.scratch;
    const auto& m = setup_.target.manifest;
    for (const auto& f : m.fields) {
      fb::SettingT s = f.fallback;
      s.key = f.key;
      s.type = config::wire_type(f.type);
      declared_.defaults.push_back(std::move(s));
      if (f.required) declared_.required.push_back(f.key);
      if (f.reloadable) declared_.reloadable.push_back(f.key);
    }
    declared_.services = m.services;
    declared_.capabilities = m.capabilities;
    declared_.roles = m.roles;
    given_ = setup_.target.author.settings;
    for (auto& s : given_) {
      replace(s.text, scratch_mark, scratch_);
      for (auto& item : s.items) replace(item, scratch_mark, scratch_);
    }
    for (auto [key, text] : setup_.target.author.fixture) {
      replace(text, "@scratch@", scratch_);
      fixture_[key] = text;
    }
    std::error_code ec;
    std::filesystem::create_directories(work_dir(), ec);
    for (const auto& [name, text] : setup_.target.author.files) write(name, text);

    module::Strands::Limits limits;
    limits.threads = setup_.threads;
    patience_ = patience();
    limits.stall = 300ms * patience_;  // longer than the daemon's 100 ms: machines that build and test are busy
    strands_ = std::make_unique<module::Strands>(limits, [this](const module::Strands::Stall& stall) {
      const std::lock_guard lock(mutex_);
      stalls_.push_back((stall.what == module::Entry::What::call ? method_name(kind_, stall.method)
                                                                 : std::string(module::to_string(stall.what))) +
                        " held the strand for more than " + std::to_string(stall.lasted / 1ms) + " ms");
    });
    for (const auto id : fb::host::EnumValuesService()) {
      if (id == fb::host::Service::NONE) continue;
      bridges_.push_back(std::make_unique<Bridge>(id, [this](Asked a) {
        on_request(std::move(a));
        poke();
      }));
      services_[id] = bridges_.back().get();
    }
    base::log_threshold() = static_cast<std::uint32_t>(base::Level::debug);
    base::set_log_sink([this](base::Level level, std::string_view line) {
      while (line.ends_with('\n')) line.remove_suffix(1);
      const std::lock_guard lock(mutex_);
      inbox_.push_back({static_cast<Level>(level), std::string(line)});
    });
  }

  ~TheSubject() override {
    instance_.reset();
    strands_.reset();
    base::set_log_sink(nullptr);
  }

  [[nodiscard]] std::string_view hosting() const override { return setup_.host; }
  [[nodiscard]] bool exists() const override { return exists_; }

  Status create() override {
    if (exists_) return ok;
    doing("create");
    if (setup_.host == "kernel") {
      if (Status s = make_local(); !s) return s;
    } else {
      make_process();
    }
    Status s = await(instance_->create(), 35s, "create");
    exists_ = s.has_value();
    revision_ = instance_->facts().revision ? instance_->facts().revision : setup_.target.manifest.revision_max;
    if (!exists_) account();
    return s;
  }

  Status down() override {
    if (!exists_) return ok;
    doing("STOP and destroy");
    if (ended_) {
      const std::string why = instance_->message();
      gone();
      return fail(Code::unavailable, "its process has ended" + (why.empty() ? why : ": " + why));
    }
    Status s = await(instance_->stop(true, 5s, 2s), 12s, "stop");
    gone();
    return s;
  }

  void kill() override {
    if (!exists_) return;
    if (setup_.host == "kernel") {
      doing("destroy without STOP");
      (void)await(instance_->stop(false, 1s, 2s), 5s, "destroy");
      gone();
      return;
    }
    ++kills_;
    const pid_t child = pid();
    if (child > 0) ::kill(child, SIGKILL);
    wait_until([this] { return ended_; }, 10s);
    gone();
  }

  [[nodiscard]] pid_t pid() const override {
    const auto* p = dynamic_cast<const module::process::ProcessInstance*>(instance_.get());
    return p ? p->pid() : 0;
  }
  [[nodiscard]] std::uint64_t faults() const override {
    return faults_ + (instance_ ? instance_->counters().faults : 0);
  }
  [[nodiscard]] std::uint64_t slow() const override { return slow_ + (instance_ ? instance_->counters().slow : 0); }
  [[nodiscard]] std::uint32_t crashes() const override { return crashes_; }
  [[nodiscard]] std::uint32_t kills() const override { return kills_; }
  [[nodiscard]] std::string state() const override {
    if (!instance_) return "not created";
    const std::string& why = instance_->message();
    return std::string(to_string(instance_->state())) + (why.empty() ? "" : ": " + why);
  }
  [[nodiscard]] std::vector<std::string> stalls() const override {
    const std::lock_guard lock(mutex_);
    return stalls_;
  }
  [[nodiscard]] std::vector<std::string> last_lines(std::size_t n) const override {
    std::vector<std::string> out;
    for (std::size_t i = logs_.size() > n ? logs_.size() - n : 0; i < logs_.size(); ++i) out.push_back(logs_[i].text);
    return out;
  }

  void turn(Nanos at_most) override {
    turning_ = true;
    const base::TimerId timer = loop_->after(at_most, [this] { loop_->stop(); });
    loop_->run();
    loop_->cancel(timer);
    turning_ = false;
    const std::lock_guard lock(mutex_);
    for (auto& line : inbox_) logs_.push_back(std::move(line));
    inbox_.clear();
  }

 protected:
  std::uint64_t do_call(std::uint32_t method, Buffer body, OnReply on_reply, conformance::CallOptions options) override {
    if (!instance_) {
      const Buffer b = pack_error(fail(Code::failed_precondition, "there is no instance"));
      on_reply(GANTRY_FAILED_PRECONDITION, b);
      return 0;
    }
    doing(method_name(kind_, method));
    module::CallOptions o;
    if (options.timeout.count()) o.deadline = loop_->now() + options.timeout;
    o.fds = std::move(options.fds);
    return instance_->call(
        method, std::move(body),
        [this, on_reply = std::move(on_reply)](gantry_code code, Bytes b) {
          on_reply(code, b);
          poke();
        },
        std::move(o));
  }
  void do_cancel(std::uint64_t id) override {
    if (instance_ && exists_) instance_->cancel(id);
  }

 private:
  void doing(std::string_view what) const {
    if (setup_.doing) std::snprintf(setup_.doing->text, sizeof setup_.doing->text, "%.*s", static_cast<int>(what.size()), what.data());
  }
  void poke() {
    if (turning_) loop_->stop();
  }
  void write(const std::string& name, const std::string& text) const {
    const std::string path = scratch_ + "/" + name;
    const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) return;
    std::string_view rest = text;
    while (!rest.empty()) {
      const ssize_t n = ::write(fd, rest.data(), rest.size());
      if (n <= 0) break;
      rest.remove_prefix(static_cast<std::size_t>(n));
    }
    ::close(fd);
  }

  Status await(Task<Status> task, Nanos limit, const char* what) {
    auto done = std::make_shared<std::optional<Status>>();
    spawn(std::move(task), [this, done](Status s) {
      done->emplace(std::move(s));
      poke();
    });
    if (!wait_until([&] { return done->has_value(); }, limit))
      return fail(Code::deadline_exceeded, std::string(what) + " did not end within " + std::to_string(limit / 1s) + " s");
    return **done;
  }

  Status make_local() {
    config::ModuleConfig c;
    c.kind = kind_;
    c.name = name_;
    c.path = setup_.target.path;
    c.manifest = setup_.target.manifest;
    c.allow_unstable = true;
    GANTRY_TRY(const module::Loaded loaded, module::load_library(c));
    module::InstanceSetup s;
    s.revision = loaded.revision;
    s.build = loaded.build;
    s.loop = loop_.get();
    s.strands = strands_.get();
    s.metrics = &metrics_;
    s.services = &services_;
    s.allowed = {declared_.services.begin(), declared_.services.end()};
    s.kind = kind_;
    s.name = name_;
    s.provider = loaded.provider;
    instance_ = std::make_unique<module::LocalInstance>(std::move(s));
    return ok;
  }
  void make_process() {
    module::process::ProcessSetup s;
    s.loop = loop_.get();
    s.metrics = &metrics_;
    s.services = &services_;
    s.allowed = {declared_.services.begin(), declared_.services.end()};
    s.command.program = setup_.target.modhost;
    s.command.kind = kind_;
    s.command.name = name_;
    s.command.path = setup_.target.path;
    s.command.unstable = true;
    s.command.quiet = true;
    // The account that runs the check, or files made for the case could not be read.
    if (const passwd* pw = ::getpwuid(::geteuid())) s.command.sandbox.user = pw->pw_name;
    s.command.sandbox.capabilities = setup_.target.manifest.capabilities;
    s.command.sandbox.restart = false;
    s.command.sandbox.group = "gantry-check-" + std::to_string(::getpid());
    auto p = std::make_unique<module::process::ProcessInstance>(std::move(s));
    ended_ = false;
    p->on_ended([this](const Error& why) {
      ended_ = true;
      ++crashes_;
      const std::lock_guard lock(mutex_);
      inbox_.push_back({Level::error, "its process ended: " + why.message});
      if (turning_) loop_->stop();
    });
    instance_ = std::move(p);
  }
  void account() {
    const module::Counters c = instance_->counters();
    faults_ += c.faults;
    slow_ += c.slow;
    instance_.reset();
  }
  void gone() {
    exists_ = ended_ = false;
    account();
  }

  SubjectSetup setup_;
  base::Metrics metrics_;
  std::unique_ptr<net::RealLoop> loop_;
  std::unique_ptr<module::Strands> strands_;
  std::vector<std::unique_ptr<Bridge>> bridges_;
  module::Services services_;
  std::unique_ptr<HostedInstance> instance_;
  bool exists_ = false, turning_ = false, ended_ = false;
  std::uint64_t faults_ = 0, slow_ = 0;
  std::uint32_t crashes_ = 0, kills_ = 0;
  mutable std::mutex mutex_;  // inbox_, stalls_
  std::vector<conformance::LogLine> inbox_;
  std::vector<std::string> stalls_;
};

}  // namespace

Result<std::unique_ptr<HostedSubject>> make_subject(SubjectSetup setup) {
  auto s = std::make_unique<TheSubject>(std::move(setup));
  GANTRY_CHECK(s->create());
  return std::unique_ptr<HostedSubject>(std::move(s));
}

}  // namespace gantry::kit
