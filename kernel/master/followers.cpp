// Followers of the state: a snapshot in pieces, at their pace, and what changes, once a turn of the loop.
#include "kernel/master/master.hpp"

#include <gantry/state_generated.h>
#include "kernel/master/state_service.hpp"

#include <utility>

namespace gantry::master {

namespace {
constexpr std::size_t kPiece = 256 * 1024;
}

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
  if (followers_.empty() && core_ && !stepping_) core_->follow(false);
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

void Master::publish_later() {
  if (std::exchange(publish_posted_, true)) return;
  loop_.post([this, term = std::weak_ptr(term_)] {
    publish_posted_ = false;
    if (!term.expired()) publish();
  });
}

void Master::publish() {
  if (!core_ || stepping_) return;
  const std::vector<Buffer> changes = core_->take_changes();
  if (changes.empty()) return;
  std::vector<FollowerId> ids;
  for (const auto& [id, f] : followers_)
    if (f.begun) ids.push_back(id);
  for (const FollowerId id : ids) {
    for (const Buffer& chunk : changes) {
      const auto it = followers_.find(id);
      if (it == followers_.end()) break;
      const auto send = it->second.to.on_event;
      send(chunk);
    }
  }
  if (followers_.empty() && core_) core_->follow(false);
}

}  // namespace gantry::master
