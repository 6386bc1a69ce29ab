#include "masters.hpp"

#include <gantry/gateway.hpp>

#include <arpa/inet.h>

namespace gantry::gateway_mesos {

using namespace std::chrono_literals;

std::uint32_t Self::ip_number() const {
  in_addr a{};
  return ::inet_pton(AF_INET, ip.c_str(), &a) == 1 ? a.s_addr : 0;
}

fb::MasterInfoT Masters::info() const {
  fb::MasterInfoT m;
  m.id = view_.id;
  m.ip = self_.ip_number();
  m.port = self_.port;
  m.pid = self_.pid();
  m.hostname = self_.hostname;
  m.version = kVersion;
  m.address = std::make_unique<fb::AddressT>();
  m.address->hostname = self_.hostname;
  m.address->ip = self_.ip;
  m.address->port = self_.port;
  if (view_.domain.size()) {
    m.domain = std::make_unique<fb::DomainInfoT>();
    flatbuffers::GetRoot<fb::DomainInfo>(view_.domain.data())->UnPackTo(m.domain.get());
  }
  m.capabilities = {fb::MasterCapability::AGENT_UPDATE, fb::MasterCapability::AGENT_DRAINING,
                    fb::MasterCapability::QUOTA_V2};
  return m;
}

void Masters::start() {
  stopped_ = false;
  poll();
}

void Masters::stop() {
  stopped_ = true;
  if (timer_) host_.cancel_timer(std::exchange(timer_, 0));
  waiting_.clear();
}

void Masters::poll() {
  timer_ = host_.timer(view_.leading ? 1s : 200ms, [this] {
    timer_ = 0;
    refresh([this] {
      if (!stopped_ && !timer_) poll();
    });
  });
}

void Masters::refresh(Function<void()> then) {
  if (stopped_) return;
  waiting_.push_back(std::move(then));
  if (std::exchange(asking_, true)) return;
  fb::control::QuestionT question;
  question.ask.Set(fb::control::AskStatusT());
  const Buffer body = pack(question);
  host_.stream(fb::host::Service::QUERY, 0, body, [this](gantry_code code, Bytes reply) {
    if (code != GANTRY_MORE) answered(code, reply);
  });
}

void Masters::answered(gantry_code code, Bytes body) {
  asking_ = false;
  MasterView now;
  const auto* answer = code == GANTRY_OK ? v1::view<fb::control::Answer>(body) : nullptr;
  if (const auto* s = answer ? answer->say_as_Status() : nullptr) {
    now.leading = s->leading();
    now.recovering = s->recovering() && !now.leading;
    if (now.leading) now.id = std::string(text(s->master_id()));
    if (s->domain()) {
      fb::DomainInfoT domain;
      s->domain()->UnPackTo(&domain);
      now.domain = pack(domain);
    }
    if (now.leading || now.recovering) {
      now.leader = self_.host_port();
    } else if (!text(s->leader()).empty()) {
      // The masters of a cluster serve this API on one port; the host is the leader's.
      std::string host(text(s->leader_hostname()));
      if (host.empty()) host = std::string(text(s->leader()).substr(0, text(s->leader()).rfind(':')));
      now.leader = host + ":" + std::to_string(self_.port);
    }
  }
  const bool changed = now.leading != view_.leading || now.id != view_.id;
  now.elected_wall_ns = !now.leading ? 0 : changed ? host_.wall_ns() : view_.elected_wall_ns;
  view_ = std::move(now);
  if (changed && on_change_) on_change_();
  for (auto& then : std::exchange(waiting_, {}))
    if (!stopped_) then();
}

void Masters::doubt() {
  if (!view_.leading) return;
  view_ = {};
  if (on_change_) on_change_();
}

}  // namespace gantry::gateway_mesos
