#include "events.hpp"

namespace gantry::framework_services {
namespace {

constexpr std::size_t kMostBehind = 1024;  // marathon.md B, SSE

std::string frame(const std::string& type, const Object& body) { return "event: " + type + "\r\ndata: " + print_json(body) + "\r\n\r\n"; }

}  // namespace

void EventHub::attach(std::uint64_t id, std::set<std::string> types, const std::string& peer, std::string timestamp) {
  clients_[id] = {types, peer, 0};
  spawn(deliver(id, {}, true, true));
  spawn(watch(id));
  const std::string address = peer.substr(0, peer.rfind(':'));
  Object body{{"remoteAddress", boost::json::string(address)}, {"eventType", "event_stream_attached"}, {"timestamp", boost::json::string(timestamp)}};
  // The newcomer hears of itself first, at once; the others in the order of all events.
  if (types.empty() || types.count("event_stream_attached")) push(id, frame("event_stream_attached", body));
  emit_("event_stream_attached", {{"remoteAddress", boost::json::string(address)}, {"skip", id}});
}

void EventHub::send(const Announcement& event) {
  Object body = event.body;
  std::uint64_t skip = 0;
  if (const Json* s = find(body, "skip")) {
    skip = s->is_uint64() ? s->get_uint64() : static_cast<std::uint64_t>(integer_of(body, "skip"));
    body.erase("skip");
  }
  std::string data;
  std::vector<std::uint64_t> to;
  for (const auto& [id, c] : clients_) {
    if (id != skip && (c.types.empty() || c.types.count(event.type))) to.push_back(id);
  }
  if (to.empty()) return;
  data = frame(event.type, body);
  for (const auto id : to) push(id, data);
}

void EventHub::heartbeat() {
  std::vector<std::uint64_t> all;
  for (const auto& [id, c] : clients_) {
    if (c.outstanding == 0) all.push_back(id);
  }
  for (const auto id : all) push(id, "\r\n");
}

void EventHub::push(std::uint64_t id, std::string data) {
  const auto it = clients_.find(id);
  if (it == clients_.end()) return;
  if (it->second.outstanding >= kMostBehind) {
    host_.warning("an event stream was cut off because its client does not read", {{"peer", it->second.peer}});
    spawn(deliver(id, {}, false, false));
    drop(id, true);
    return;
  }
  spawn(deliver(id, std::move(data), false, true));
}

Task<void> EventHub::deliver(std::uint64_t id, std::string data, bool first, bool more) {
  fb::host::RespondT r;
  r.id = id;
  r.more = more;
  r.body.assign(data.begin(), data.end());
  if (first) {
    r.status = 200;
    for (const auto& [k, v] : {std::pair{"content-type", "text/event-stream;charset=UTF-8"}, std::pair{"cache-control", "no-cache"}}) {
      auto h = std::make_unique<fb::host::HeaderT>();
      h->name = k;
      h->value = v;
      r.headers.push_back(std::move(h));
    }
  }
  if (const auto it = clients_.find(id); it != clients_.end()) ++it->second.outstanding;
  auto reply = co_await host_.request(fb::host::Service::HTTP, static_cast<std::uint32_t>(fb::host::HttpMethod::RESPOND), r);
  const auto it = clients_.find(id);
  if (it == clients_.end()) co_return;
  if (it->second.outstanding) --it->second.outstanding;
  if (!reply) drop(id, true);
}

Task<void> EventHub::watch(std::uint64_t id) {
  fb::host::WatchT w;
  w.id = id;
  (void)co_await host_.request(fb::host::Service::HTTP, static_cast<std::uint32_t>(fb::host::HttpMethod::WATCH), w);
  drop(id, true);
}

void EventHub::drop(std::uint64_t id, bool announce) {
  const auto it = clients_.find(id);
  if (it == clients_.end()) return;
  const std::string peer = it->second.peer;
  clients_.erase(it);
  if (announce) emit_("event_stream_detached", {{"remoteAddress", boost::json::string(peer.substr(0, peer.rfind(':')))}});
}

void EventHub::stop() {
  std::vector<std::uint64_t> all;
  for (const auto& [id, c] : clients_) all.push_back(id);
  for (const auto id : all) {
    spawn(deliver(id, {}, false, false));
    drop(id, false);
  }
}

}  // namespace gantry::framework_services
