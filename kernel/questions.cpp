// What operators and gateways may ask of a daemon (sdk/schema/control.fbs), and who in it answers.
#include "kernel/kernel.hpp"

#include <unistd.h>

namespace gantry::kernel {

void Kernel::answer(const fb::control::QuestionT& question, Control::Reply reply) {
  using Ask = fb::control::Ask;
  const auto say = [&](auto what) {
    fb::control::AnswerT a;
    a.say.Set(std::move(what));
    reply(std::move(a));
  };
  switch (question.ask.type) {
    case Ask::AskStatus: return say(status());
    case Ask::AskModules: {
      fb::control::ModulesT m;
      if (modules_)
        for (auto& one : modules_->list()) m.modules.push_back(std::make_unique<fb::control::ModuleT>(std::move(one)));
      return say(std::move(m));
    }
    case Ask::AskMetrics: return say(metrics());
    case Ask::AskConfig: {
      fb::control::ConfigTextT t;
      t.toml = config_->effective();
      return say(std::move(t));
    }
    case Ask::Reload: return reload([reply](fb::control::DoneT done) {
      fb::control::AnswerT a;
      a.say.Set(std::move(done));
      reply(std::move(a));
    });
    default: break;
  }
  // A daemon that is both answers for the whole cluster, but for files, which are the agent's.
  if (question.ask.type != Ask::ReadFile && master_ && master_->leading() && master_->ask(question, reply)) return;
  if (agent_) {
    const Buffer packed = pack(question);
    if (agent_->answer(*flatbuffers::GetRoot<fb::control::Question>(packed.data()), [reply](fb::control::AnswerT a) { reply(std::move(a)); })) return;
  }
  if (question.ask.type == Ask::NONE) return reply(problem(question, fail(Code::invalid_argument, "the question is empty")));
  if (config_->master() && !leading_)
    return reply(problem(question, fail(Code::unavailable, "this master does not lead" + (leader_.empty() ? std::string("; nobody does at present") : "; ask " + leader_))));
  if (config_->master() && !config_->agent())
    return reply(problem(question, fail(Code::failed_precondition, master_ && master_->leading() ? "this daemon is no agent; ask the agent itself" : "the master is still recovering; ask again in a moment")));
  reply(problem(question, fail(Code::failed_precondition, "this daemon is an agent; ask the master" + (leader_.empty() ? std::string() : " at " + leader_))));
}

fb::control::StatusT Kernel::status() const {
  fb::control::StatusT s;
  if (master_ && master_->leading()) master_->fill(s);
  if (agent_) agent_->describe(s);
  s.version = version_;
  s.roles = config_->roles();
  char host[256] = {};
  ::gethostname(host, sizeof host - 1);
  s.hostname = config_->kernel().text("hostname").empty() ? host : config_->kernel().text("hostname");
  s.pid = ::getpid();
  s.work_dir = work_dir_;
  s.uptime_ns = static_cast<std::uint64_t>((loop_.now() - started_at_).count());
  s.leading = master_ && master_->leading();
  if (s.leading) {
    s.master_id = master_->id();
    s.leader = master_address_;
  } else if (s.leader.empty()) {
    s.leader = leader_;
  }
  for (const auto& [name, address] : addresses_) {
    auto l = std::make_unique<fb::control::ListenerT>();
    l->name = name;
    l->address = address;
    s.listeners.push_back(std::move(l));
  }
  if (modules_)
    for (const auto& m : modules_->list())
      if (!m.message.empty()) s.warnings.push_back(m.kind + "." + m.name + ": " + m.message);
  return s;
}

fb::control::MetricsT Kernel::metrics() const {
  fb::control::MetricsT out;
  const auto add = [&](std::string name, double value, std::string unit, std::string help) {
    auto m = std::make_unique<fb::control::MetricT>();
    m->name = std::move(name);
    m->value = value;
    m->unit = std::move(unit);
    m->help = std::move(help);
    out.metrics.push_back(std::move(m));
  };
  if (master_ && master_->leading())
    for (auto& m : master_->metrics()) add(m.name, m.value, m.unit, m.help);
  if (agent_) agent_->metrics(out);
  for (auto& m : metrics_.snapshot()) add(m.name, m.value, m.unit, m.help);
  return out;
}

}  // namespace gantry::kernel
