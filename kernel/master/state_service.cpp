#include "kernel/master/state_service.hpp"

#include <gantry/state_generated.h>

#include <gantry/host_generated.h>

namespace gantry::master {

namespace {
void fail_reply(const module::ServiceReply& reply, const Error& e) {
  reply(static_cast<gantry_code>(e.code), pack_error(e));
}
}  // namespace

void StateService::request(const module::ServiceRequest& r, module::ServiceReply reply) {
  switch (static_cast<fb::host::StateMethod>(r.method)) {
    case fb::host::StateMethod::FOLLOW: {
      const std::uint64_t id = r.id;
      Master::Subscriber s;
      s.on_event = [reply](const Buffer& chunk) { reply(GANTRY_MORE, chunk); };
      if (r.caller) s.unread = [caller = r.caller] { return caller->backlog(); };  // it outlives its request
      s.on_end = [this, reply, id](const Error& e) {
        streams_.erase(id);
        fail_reply(reply, e);
      };
      streams_[id] = {0, reply};  // on_end may run before follow returns
      const Master::FollowerId follower = master_.follow(std::move(s));
      if (const auto it = streams_.find(id); it != streams_.end()) it->second.follower = follower;
      return;
    }
    case fb::host::StateMethod::CONTINUE: {
      const auto* c = view<fb::state::Continue>(r.body);
      if (!c) return fail_reply(reply, fail(Code::invalid_argument, "the body of CONTINUE is no state.Continue"));
      if (!master_.continue_snapshot(c->id()))
        return fail_reply(reply, fail(Code::not_found, "there is no such stream; it may have ended meanwhile"));
      return reply(GANTRY_OK, {});
    }
  }
  fail_reply(reply, fail(Code::unimplemented, "the service STATE has no method " + std::to_string(r.method)));
}

void StateService::cancelled(std::uint64_t id) {
  const auto it = streams_.find(id);
  if (it == streams_.end()) return;
  const Open open = std::move(it->second);
  streams_.erase(it);
  if (open.follower) master_.unfollow(open.follower);
  fail_reply(open.reply, fail(Code::cancelled, "the stream was cancelled"));
}

}  // namespace gantry::master
