#include "kernel/master/cluster_service.hpp"

#include <gantry/host_generated.h>

namespace gantry::master {

namespace {
void fail_reply(const module::ServiceReply& reply, const Error& e) {
  reply(static_cast<gantry_code>(e.code), pack_error(e));
}
}  // namespace

void ClusterService::request(const module::ServiceRequest& r, module::ServiceReply reply) {
  switch (static_cast<fb::host::ClusterMethod>(r.method)) {
    case fb::host::ClusterMethod::SUBSCRIBE: {
      const std::uint64_t id = r.id;
      Master::Subscriber s;
      s.on_event = [reply](const Buffer& event) { reply(GANTRY_MORE, event); };
      s.on_end = [this, reply, id](const Error& e) {
        streams_.erase(id);
        fail_reply(reply, e);
      };
      streams_[id] = {0, reply};  // on_end may run before subscribe returns
      const StreamId stream = master_.subscribe(r.body, std::move(s));
      if (const auto it = streams_.find(id); it != streams_.end()) it->second.stream = stream;
      return;
    }
    case fb::host::ClusterMethod::CALL:
      master_.call(r.body, [reply](Status s) {
        if (s)
          reply(GANTRY_OK, {});
        else
          fail_reply(reply, s.error());
      });
      return;
  }
  fail_reply(reply, fail(Code::unimplemented, "the service CLUSTER has no method " + std::to_string(r.method)));
}

void ClusterService::cancelled(std::uint64_t id) {
  const auto it = streams_.find(id);
  if (it == streams_.end()) return;
  const Open open = std::move(it->second);
  streams_.erase(it);
  master_.unsubscribe(open.stream);
  fail_reply(open.reply, fail(Code::cancelled, "the subscription was cancelled"));
}

}  // namespace gantry::master
