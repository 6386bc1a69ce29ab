// What operators and gateways may ask of a daemon (sdk/schema/control.fbs), and who in it answers.
#include "kernel/kernel.hpp"

#include "kernel/base/log.hpp"
#include "kernel/resource/fault_domain.hpp"

#include <unistd.h>

#include <algorithm>

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
  if (answer_about_module(question, reply) || answer_about_images(question, reply)) return;
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

// One module in detail, and traces of its calls. False: another question.
bool Kernel::answer_about_module(const fb::control::QuestionT& question, const Control::Reply& reply) {
  using Ask = fb::control::Ask;
  const auto say = [&](auto result) {
    if (!result) return reply(problem(question, result.error()));
    fb::control::AnswerT a;
    a.say.Set(std::move(*result));
    reply(std::move(a));
  };
  const auto type = question.ask.type;
  if (type != Ask::AskModule && type != Ask::TraceModule && type != Ask::ReadTrace && type != Ask::EndTrace) return false;
  if (!modules_) {
    reply(problem(question, fail(Code::unavailable, "the daemon is starting or stopping; ask again in a moment")));
    return true;
  }
  if (!traces_) traces_ = std::make_unique<module::Traces>(loop_);
  if (const auto* ask = question.ask.AsAskModule()) {
    auto found = modules_->detail(ask->module_, ask->log_lines);
    if (found) {
      const std::string prefix = ask->module_ + "/";
      for (auto& m : metrics().metrics)
        if (m->name.starts_with(prefix)) found->metrics.push_back(std::move(m));
      found->traced = traces_->running(modules_->find(found->module_->kind, found->module_->name));
    }
    say(std::move(found));
  } else if (const auto* trace = question.ask.AsTraceModule()) {
    auto subject = modules_->subject(trace->module_);
    if (!subject) {
      reply(problem(question, subject.error()));
      return true;
    }
    subject->header.kernel_version = version_;
    // Whoever reads others' calls leaves a trace of his own.
    base::log_info("kernel", "tracing " + trace->module_,
                   {{"bodies", trace->bodies ? "yes" : "no"}, {"secrets", trace->secrets ? "yes" : "no"},
                    {"principal", question.principal.empty() ? "-" : question.principal}});
    say(traces_->start(std::move(*subject), {trace->bodies, trace->secrets, trace->max_body}));
  } else if (const auto* read = question.ask.AsReadTrace()) {
    const auto wait = static_cast<std::int64_t>(std::min<std::uint64_t>(read->wait_ns, 20'000'000'000));
    traces_->read(read->id, base::Nanos(wait), [reply, id = question.id](Result<fb::control::TraceT> trace) {
      fb::control::QuestionT asked;
      asked.id = id;
      if (!trace) return reply(problem(asked, trace.error()));
      fb::control::AnswerT a;
      a.say.Set(std::move(*trace));
      reply(std::move(a));
    });
  } else if (const auto* end = question.ask.AsEndTrace()) {
    const Status ended = traces_->end(end->id);
    if (!ended) reply(problem(question, ended.error()));
    else say(Result<fb::control::DoneT>(fb::control::DoneT()));
  }
  return true;
}

// Images are the agent's; its module for them is asked. False: another question.
bool Kernel::answer_about_images(const fb::control::QuestionT& question, const Control::Reply& reply) {
  using Ask = fb::control::Ask;
  using Method = fb::image::Method;
  const auto type = question.ask.type;
  if (type != Ask::AskImages && type != Ask::PullImage && type != Ask::PruneImages) return false;
  module::Instance* images = modules_ && agent_ ? modules_->find("image") : nullptr;
  if (!images) {
    reply(problem(question, fail(Code::failed_precondition, agent_ ? "this agent has no module for images; configure one, e.g. [image.oci]" : "this daemon is no agent; ask the agent itself")));
    return true;
  }
  Method method = Method::LIST;
  Buffer body = pack(fb::image::ListT());
  std::string holder;
  if (const auto* ask = question.ask.AsPullImage()) {
    fb::image::PullT pull;
    pull.name = ask->name;
    // In use by nobody real, and released again when it is there.
    holder = pull.container_id = "operator-" + std::to_string(++pulls_);
    pull.policy = fb::image::Policy::ALWAYS;
    method = Method::PULL;
    body = pack(pull);
  } else if (const auto* prune = question.ask.AsPruneImages()) {
    fb::image::PruneT p;
    p.exclude = prune->exclude;
    method = Method::PRUNE;
    body = pack(p);
  }
  images->call(static_cast<std::uint32_t>(method), std::move(body), [alive = alive_, images, reply, question, method, holder](gantry_code code, Bytes bytes) {
    fb::control::AnswerT a;
    if (code == GANTRY_MORE) {
      auto progress = unpack<fb::image::Progress>(bytes);
      if (!progress) return;
      fb::control::PullProgressT p;
      p.layers = std::move(progress->layers);
      a.more = true;
      a.say.Set(std::move(p));
      return reply(std::move(a));
    }
    if (code != GANTRY_OK) return reply(problem(question, unpack_error(code, bytes)));
    const auto damaged = [&](const Error& e) { reply(problem(question, e)); };
    if (method == Method::PRUNE) {
      auto pruned = unpack<fb::image::Pruned>(bytes);
      if (!pruned) return damaged(pruned.error());
      fb::control::PrunedT p;
      p.images = std::move(pruned->images);
      p.size = pruned->size;
      a.say.Set(std::move(p));
    } else {
      fb::control::ImagesT out;
      if (method == Method::PULL) {
        auto image = unpack<fb::image::Image>(bytes);
        if (!image) return damaged(image.error());
        out.size = image->size;
        out.images.push_back(std::make_unique<fb::image::ImageT>(std::move(*image)));
        fb::image::ReleaseT release;
        release.container_id = holder;
        if (*alive) images->call(static_cast<std::uint32_t>(Method::RELEASE), pack(release), [](gantry_code, Bytes) {});
      } else {
        auto listed = unpack<fb::image::Images>(bytes);
        if (!listed) return damaged(listed.error());
        out.images = std::move(listed->images);
        out.size = listed->size;
      }
      a.say.Set(std::move(out));
    }
    reply(std::move(a));
  });
  return true;
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
  if (const auto domain = resource::parse_fault_domain(config_->kernel().text("domain")); domain && *domain)
    s.domain = resource::to_wire(**domain);
  s.work_dir = work_dir_;
  s.uptime_ns = static_cast<std::uint64_t>((loop_.now() - started_at_).count());
  s.leading = master_ && master_->leading();
  s.recovering = leading_ && !s.leading;
  s.leader_hostname = leader_hostname_;
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
