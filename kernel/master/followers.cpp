// Followers of the state: a snapshot in pieces, at their pace, and what changes, once a turn of the loop.
#include "kernel/master/master.hpp"

#include <gantry/state_generated.h>
#include "kernel/master/state_service.hpp"

#include <algorithm>
#include <utility>

namespace gantry::master {

namespace {
constexpr std::size_t kPiece = 256 * 1024;
// A framework of 300,000 tasks that is torn down makes 150 MB of changes in one step. They leave at the pace of the slowest
// follower: not more than kTurn a turn, none while more than kUnread lies before somebody. Who reads nothing for kPatience, or
// is behind for kLimit, is waited for no longer: changes are held for a bounded time, and the module host cuts it off.
constexpr std::size_t kTurn = 4 << 20, kUnread = 8 << 20;
constexpr base::Nanos kPause = std::chrono::milliseconds(1), kPatience = std::chrono::seconds(1), kLimit = std::chrono::seconds(10);
}  // namespace

module::Service& Master::state_service() { return *state_service_; }

Master::FollowerId Master::follow(Subscriber follower) {
  if (!core_) {
    Error e = fail(Code::unavailable, "this master does not lead");
    e.retry_after_ns = 1'000'000'000;
    follower.on_end(e);
    return 0;
  }
  const FollowerId id = ++next_follower_;
  followers_[id].to = std::move(follower);
  // Not from within a step, nor from within the request: the first piece must not overtake the caller's bookkeeping.
  followers_[id].posted = true;
  loop_.post([this, id, term = std::weak_ptr(term_)] {
    if (!term.expired()) send_pieces(id);
  });
  return id;
}

void Master::unfollow(FollowerId id) {
  followers_.erase(id);
  if (!followers_.empty()) return;
  outgoing_.clear();
  if (core_ && !stepping_) core_->follow(false);
}

bool Master::continue_snapshot(FollowerId id) {
  const auto it = followers_.find(id);
  if (it == followers_.end()) return false;
  Follower& f = it->second;
  if (f.whole) return true;
  if (f.pieces < 64) ++f.pieces;
  if (!std::exchange(f.posted, true)) {
    loop_.post([this, id, term = std::weak_ptr(term_)] {
      if (!term.expired()) send_pieces(id);
    });
  }
  return true;
}

// One piece a turn, so that scheduling goes on between them.
void Master::send_pieces(FollowerId id) {
  auto it = followers_.find(id);
  if (it == followers_.end() || !core_) return;
  it->second.posted = false;
  if (it->second.whole || it->second.pieces == 0) return;
  if (!core_->followed()) core_->follow(true);
  publish();  // what has changed up to here is in the piece
  if (!outgoing_.empty()) {  // and must be with the other followers before, so that versions have no gap
    it->second.posted = true;
    held_pieces_.push_back(id);
    return;
  }
  it = followers_.find(id);
  if (it == followers_.end()) return;
  Follower& f = it->second;
  fb::state::BeginT begin;
  begin.id = id;
  begin.master_id = run_id_;
  begin.hostname = options_.hostname;
  begin.elected_ns = static_cast<std::uint64_t>(elected_wall_);
  begin.completed_frameworks = static_cast<std::uint32_t>(options_.completed_frameworks);
  begin.completed_tasks = static_cast<std::uint32_t>(options_.completed_tasks);
  const Buffer piece = core_->snapshot(f.cursor, kPiece, f.begun ? nullptr : &begin);
  f.begun = true;
  f.whole = f.cursor.stage == Core::kSnapshotStages;
  --f.pieces;
  if (!f.whole && f.pieces && !std::exchange(f.posted, true)) {
    loop_.post([this, id, term = std::weak_ptr(term_)] {
      if (!term.expired()) send_pieces(id);
    });
  }
  const auto send = f.to.on_event;  // it may leave meanwhile
  send(piece);
}

void Master::publish_later(base::Nanos after) {
  if (std::exchange(publish_posted_, true)) return;
  auto go = [this, term = std::weak_ptr(term_)] {
    publish_posted_ = false;
    if (!term.expired()) publish();
  };
  if (after.count())
    loop_.at(loop_.now() + after, std::move(go));
  else
    loop_.post(std::move(go));
}

void Master::publish() {
  if (!core_ || stepping_) return;
  for (Buffer& chunk : core_->take_changes()) outgoing_.push_back(std::move(chunk));
  for (std::size_t sent = 0; !outgoing_.empty();) {
    if (sent > kTurn) return publish_later();
    if (followers_lag()) return publish_later(kPause);
    const Buffer chunk = std::move(outgoing_.front());
    outgoing_.pop_front();
    sent += chunk.size();
    tell_followers(chunk);
  }
  lag_ = {};
  for (const FollowerId id : std::exchange(held_pieces_, {}))
    loop_.post([this, id, term = std::weak_ptr(term_)] {
      if (!term.expired()) send_pieces(id);
    });
  if (followers_.empty() && core_) core_->follow(false);
}

// Whether what is to be told has to wait for one of them.
bool Master::followers_lag() {
  std::size_t unread = 0;  // of the one that has most
  for (const auto& [id, f] : followers_)
    if (f.to.unread) unread = std::max(unread, f.to.unread());
  if (unread <= kUnread) return false;
  const base::Instant now = loop_.now();
  if (lag_.since.count() == 0) lag_.since = now;
  if (unread < lag_.unread || lag_.unread == 0) lag_.progress = now;
  lag_.unread = unread;
  return now - lag_.progress < kPatience && now - lag_.since < kLimit;
}

void Master::tell_followers(const Buffer& chunk) {
  std::vector<FollowerId> ids;
  for (const auto& [id, f] : followers_)
    if (f.begun) ids.push_back(id);
  for (const FollowerId id : ids) {
    const auto it = followers_.find(id);
    if (it == followers_.end()) continue;
    const auto send = it->second.to.on_event;
    send(chunk);
  }
}

}  // namespace gantry::master
