#include "follower.hpp"

namespace gantry::gateway_mesos {

using namespace std::chrono_literals;

void Follower::start() {
  stopped_ = false;
  open();
}

void Follower::stop() {
  stopped_ = true;
  ++generation_;
  if (timer_) host_.cancel_timer(std::exchange(timer_, 0));
  if (token_) host_.cancel_request(std::exchange(token_, 0));
}

void Follower::open() {
  timer_ = 0;
  const std::uint64_t generation = ++generation_;
  token_ = host_.stream(fb::host::Service::STATE, static_cast<std::uint32_t>(fb::host::StateMethod::FOLLOW), {},
                        [this, generation](gantry_code code, Bytes bytes) { arrived(code, bytes, generation); });
}

void Follower::again(std::chrono::nanoseconds after) {
  token_ = 0;
  ++generation_;
  cluster_.clear();
  if (on_change_) on_change_();
  if (!stopped_ && !timer_) timer_ = host_.timer(after, [this] { open(); });
}

void Follower::arrived(gantry_code code, Bytes bytes, std::uint64_t generation) {
  if (generation != generation_ || stopped_) return;
  if (code != GANTRY_MORE) {
    // Quietly while another master leads: that is how most of them spend their lives.
    if (code != GANTRY_UNAVAILABLE)
      host_.warning("the cluster's state is followed anew", {{"reason", unpack_error(code, bytes).message}});
    return again(code == GANTRY_UNAVAILABLE ? 200ms : 1s);
  }
  if (const auto* c = gantry::view<fb::state::Chunk>(bytes); c && c->begin()) stream_ = c->begin()->id();
  if (auto s = cluster_.apply(bytes); !s) {
    host_.error(s.error().message);
    const std::uint64_t token = token_;
    again(1s);
    return host_.cancel_request(token);
  }
  const auto* c = flatbuffers::GetRoot<fb::state::Chunk>(bytes.data());
  if (c->snapshot() && c->more()) {
    fb::state::ContinueT more;
    more.id = stream_;
    const Buffer body = pack(more);
    host_.stream(fb::host::Service::STATE, static_cast<std::uint32_t>(fb::host::StateMethod::CONTINUE), body,
                 [](gantry_code, Bytes) {});
  }
  if (on_change_) on_change_();
}

}  // namespace gantry::gateway_mesos
