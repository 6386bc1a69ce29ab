#include "standalone.hpp"

namespace gantry::election_standalone {

Task<Status> Standalone::configure(Settings settings) {
  if (!settings.reload()) configured_ = settings.text("master");
  co_return ok;
}

Task<Status> Standalone::stop() {
  for (auto& [token, responder] : contenders_) responder.complete();
  for (auto& [token, responder] : watchers_) responder.complete();
  contenders_.clear();
  watchers_.clear();
  co_return ok;
}

Buffer Standalone::leader() const {
  if (!candidate_.address.empty()) return pack(candidate_);
  fb::election::LeaderT l;
  l.address = configured_;
  return pack(l);
}

void Standalone::contend(Request<fb::election::Candidate> request, Responder responder) {
  const bool first = contenders_.empty();
  const std::uint64_t token = responder.token();
  fb::election::LeadershipT leadership;
  leadership.elected = first;
  if (first) {
    candidate_.address = text(request->address());
    candidate_.id = text(request->id());
    candidate_.hostname = text(request->hostname());
    candidate_.epoch = ++epoch_;
  }
  leadership.epoch = epoch_;
  responder.more(pack(leadership));
  contenders_.emplace(token, std::move(responder));
  if (first) {
    const Buffer l = leader();
    for (const auto& [t, w] : watchers_) w.more(l);
  }
}

void Standalone::watch(Responder responder) {
  responder.more(leader());
  const std::uint64_t token = responder.token();
  watchers_.emplace(token, std::move(responder));
}

void Standalone::cancelled(std::uint64_t token) {
  watchers_.erase(token);  // dropping a responder answers CANCELLED
  if (contenders_.erase(token) && contenders_.empty()) {
    candidate_ = {};
    const Buffer l = leader();
    for (const auto& [t, w] : watchers_) w.more(l);
  }
}

}  // namespace gantry::election_standalone
