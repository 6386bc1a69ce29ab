#include "@NAME_ID@.hpp"

#include <algorithm>

namespace @NAME_ID@ {

using namespace gantry;

Task<Status> @CLASS@::configure(Settings settings) {
  if (!settings.reload()) configured_ = settings.text("master");
  co_return ok;
}

// A leader that stops has stepped down. Every stream ends here: a call left open would keep the instance from ending.
Task<Status> @CLASS@::stop() {
  for (auto& c : line_) c.stream.complete();
  for (auto& [token, w] : watchers_) w.complete();
  line_.clear();
  watchers_.clear();
  co_return ok;
}

Buffer @CLASS@::leader() const {
  if (!line_.empty()) return pack(line_.front().who);
  fb::election::LeaderT nobody_here;
  nobody_here.address = configured_;
  nobody_here.epoch = epoch_;
  return pack(nobody_here);
}

void @CLASS@::elect() {
  ++epoch_;  // grows with every change of leader
  if (!line_.empty()) {
    line_.front().who.epoch = epoch_;
    fb::election::LeadershipT won;
    won.elected = true;
    won.epoch = epoch_;
    line_.front().stream.more(pack(won));
  }
  const Buffer l = leader();
  for (const auto& [token, w] : watchers_) w.more(l);
}

// A stream that runs until it is cancelled. With an outside service, say elected = false or end the stream as soon as you are
// not sure any more, before anybody else can have been elected.
void @CLASS@::contend(Request<fb::election::Candidate> request, Responder responder) {
  Contender c{{}, std::move(responder)};
  c.who.address = text(request->address());
  c.who.id = text(request->id());
  c.who.hostname = text(request->hostname());
  line_.push_back(std::move(c));
  if (line_.size() == 1) return elect();
  fb::election::LeadershipT not_yet;
  not_yet.epoch = epoch_;
  line_.back().stream.more(pack(not_yet));
}

void @CLASS@::watch(Responder responder) {
  responder.more(leader());  // the present one at once, then every change
  const std::uint64_t token = responder.token();
  watchers_.emplace(token, std::move(responder));
}

void @CLASS@::cancelled(std::uint64_t token) {
  watchers_.erase(token);  // a dropped responder answers CANCELLED
  const auto it = std::find_if(line_.begin(), line_.end(), [&](const Contender& c) { return c.stream.token() == token; });
  if (it == line_.end()) return;
  const bool led = it == line_.begin();
  line_.erase(it);
  if (led) elect();
}

}  // namespace @NAME_ID@
