#include "standalone.hpp"

namespace gantry::election_standalone {

Task<Status> Standalone::configure(Settings settings) {
  if (!settings.reload()) configured_ = settings.text("master");
  co_return ok;
}

Task<Status> Standalone::stop() {
  for (auto& [token, contender] : contenders_) contender.responder.complete();
  for (auto& [token, responder] : watchers_) responder.complete();
  contenders_.clear();
  watchers_.clear();
  leading_ = 0;
  co_return ok;
}

// Whom agents dial: the leader of this process, or, where nobody contends here, the configured address.
Buffer Standalone::leader() const {
  fb::election::LeaderT l;
  l.address = configured_;
  l.epoch = epoch_;
  if (const auto it = contenders_.find(leading_); it != contenders_.end()) {
    l = it->second.candidate;
    if (l.address.empty()) l.address = configured_;
  }
  return pack(l);
}

void Standalone::tell_watchers() const {
  const Buffer l = leader();
  for (const auto& [token, w] : watchers_) w.more(l);
}

void Standalone::elect(std::uint64_t token) {
  leading_ = token;
  ++epoch_;
  if (const auto it = contenders_.find(token); it != contenders_.end()) {
    it->second.candidate.epoch = epoch_;
    fb::election::LeadershipT l;
    l.elected = true;
    l.epoch = epoch_;
    it->second.responder.more(pack(l));
  }
  tell_watchers();
}

void Standalone::contend(Request<fb::election::Candidate> request, Responder responder) {
  const std::uint64_t token = responder.token();
  Contender c;
  c.candidate.address = text(request->address());
  c.candidate.id = text(request->id());
  c.candidate.hostname = text(request->hostname());
  c.responder = std::move(responder);
  const auto& added = contenders_.emplace(token, std::move(c)).first->second;
  if (!leading_) return elect(token);
  fb::election::LeadershipT waiting;
  waiting.epoch = epoch_;
  added.responder.more(pack(waiting));
}

void Standalone::watch(Responder responder) {
  responder.more(leader());
  const std::uint64_t token = responder.token();
  watchers_.emplace(token, std::move(responder));
}

void Standalone::cancelled(std::uint64_t token) {
  watchers_.erase(token);  // dropping a responder answers CANCELLED
  if (!contenders_.erase(token) || token != leading_) return;
  elect(contenders_.empty() ? 0 : contenders_.begin()->first);
}

}  // namespace gantry::election_standalone
