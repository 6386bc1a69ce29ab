#include "kernel/agent/executor_service.hpp"

#include <gantry/host_generated.h>

namespace gantry::agent {

namespace {

using Method = fb::host::ExecutorMethod;

void refuse(const module::ServiceReply& reply, const Error& e) { reply(static_cast<gantry_code>(e.code), pack_error(e)); }

}  // namespace

void ExecutorService::attach(Agent* agent) {
  agent_ = agent;
  if (agent_) {
    agent_->door(this);
    return tell_serving();
  }
  for (auto& [id, reply] : std::exchange(streams_, {})) refuse(reply, fail(Code::unavailable, "the agent is stopping"));
  for (auto& [id, reply] : std::exchange(calls_, {})) refuse(reply, fail(Code::unavailable, "the agent is stopping"));
}

void ExecutorService::tell_serving() {
  if (!agent_) return;
  event::Serve serve;
  serve.on = !servers_.empty();
  if (serve.on) serve.variables = servers_.rbegin()->second.variables;
  agent_->of_executors(std::move(serve));
}

void ExecutorService::request(const module::ServiceRequest& r, module::ServiceReply reply) {
  if (static_cast<Method>(r.method) == Method::SERVE) {
    const auto* body = view<fb::host::ServeExecutors>(r.body);
    if (!body) return refuse(reply, fail(Code::invalid_argument, "the body of SERVE is no ServeExecutors"));
    Server s;
    s.reply = std::move(reply);
    if (body->variables())
      for (const auto* v : *body->variables()) s.variables.emplace_back(text(v->name()), text(v->value()));
    servers_[r.id] = std::move(s);
    return tell_serving();
  }
  const auto* body = view<fb::host::ExecutorCall>(r.body);
  if (!body || !body->call()) return refuse(reply, fail(Code::invalid_argument, "the body is no ExecutorCall"));
  if (!agent_) return refuse(reply, fail(Code::unavailable, "Agent has not finished recovery"));
  Buffer call(Bytes(body->call()->data(), body->call()->size()));
  std::string token(text(body->token()));
  switch (static_cast<Method>(r.method)) {
    case Method::SUBSCRIBE:
      streams_[r.id] = std::move(reply);
      return agent_->of_executors(event::ExecutorSubscribe{r.id, std::move(token), std::move(call)});
    case Method::CALL:
      calls_[r.id] = std::move(reply);
      return agent_->of_executors(event::ExecutorCall{r.id, std::move(token), std::move(call)});
    default: return refuse(reply, fail(Code::unimplemented, "the service EXECUTORS has no method " + std::to_string(r.method)));
  }
}

void ExecutorService::cancelled(std::uint64_t id) {
  const Error gone = fail(Code::cancelled, "the request was cancelled");
  if (const auto it = servers_.find(id); it != servers_.end()) {
    const auto reply = std::move(it->second.reply);
    servers_.erase(it);
    refuse(reply, gone);
    return tell_serving();
  }
  if (const auto it = streams_.find(id); it != streams_.end()) {
    const auto reply = std::move(it->second);
    streams_.erase(it);
    refuse(reply, gone);
    if (agent_) agent_->of_executors(event::ExecutorGone{id});
  }
  if (const auto it = calls_.find(id); it != calls_.end()) {
    const auto reply = std::move(it->second);
    calls_.erase(it);
    refuse(reply, gone);
  }
}

void ExecutorService::send(std::uint64_t stream, Bytes event) {
  if (const auto it = streams_.find(stream); it != streams_.end()) it->second(GANTRY_MORE, event);
}

void ExecutorService::end(std::uint64_t stream, const Status& why) {
  const auto it = streams_.find(stream);
  if (it == streams_.end()) return;
  const auto reply = std::move(it->second);
  streams_.erase(it);
  if (why) reply(GANTRY_OK, {});
  else refuse(reply, why.error());
}

void ExecutorService::answer(std::uint64_t request, const Status& status) {
  const auto it = calls_.find(request);
  if (it == calls_.end()) return;
  const auto reply = std::move(it->second);
  calls_.erase(it);
  if (status) reply(GANTRY_OK, {});
  else refuse(reply, status.error());
}

void OperateAgent::request(const module::ServiceRequest& r, module::ServiceReply reply) {
  const auto* body = view<fb::host::Operate>(r.body);
  if (!body || !body->call()) return refuse(reply, fail(Code::invalid_argument, "the body is no Operate"));
  if (!agent_) return refuse(reply, fail(Code::unavailable, "Agent has not finished recovery"));
  agent_->operate(std::string(text(body->principal())), Bytes(body->call()->data(), body->call()->size()),
                  [reply](Result<Buffer> response) {
                    if (!response) return refuse(reply, response.error());
                    reply(GANTRY_OK, *response);
                  });
}

}  // namespace gantry::agent
