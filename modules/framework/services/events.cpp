#include "events.hpp"

#include "ask.hpp"

namespace gantry::framework_services {
namespace {

constexpr std::size_t kMostBehind = 1024;  // marathon.md B, SSE

std::string frame(const std::string& type, const Object& body) {
  return "event: " + type + "\r\ndata: " + print_json(body) + "\r\n\r\n";
}

}  // namespace

void EventHub::attach(std::uint64_t id, std::set<std::string> types, const std::string& peer, std::string timestamp) {
  clients_[id] = {types, peer, 0};
  deliver(id, {}, true, true);
  watch(id);
  const std::string address = peer.substr(0, peer.rfind(':'));
  Object body{{"remoteAddress", boost::json::string(address)},
              {"eventType", "event_stream_attached"},
              {"timestamp", boost::json::string(timestamp)}};
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

void EventHub::push(std::uint64_t id, const std::string& data) {
  const auto it = clients_.find(id);
  if (it == clients_.end()) return;
  if (it->second.outstanding >= kMostBehind) {
    host_.warning("an event stream was cut off because its client does not read", {{"peer", it->second.peer}});
    deliver(id, {}, false, false);
    drop(id, true);
    return;
  }
  deliver(id, data, false, true);
}

void EventHub::deliver(std::uint64_t id, const std::string& data, bool first, bool more) {
  fb::host::RespondT r;
  r.id = id;
  r.more = more;
  r.body.assign(data.begin(), data.end());
  if (first) {
    r.status = 200;
    for (const auto& [k, v] :
         {std::pair{"content-type", "text/event-stream;charset=UTF-8"}, std::pair{"cache-control", "no-cache"}}) {
      auto h = std::make_unique<fb::host::HeaderT>();
      h->name = k;
      h->value = v;
      r.headers.push_back(std::move(h));
    }
  }
  if (const auto it = clients_.find(id); it != clients_.end()) ++it->second.outstanding;
  ask(host_, fb::host::Service::HTTP, fb::host::HttpMethod::RESPOND, r, [this, id](Result<Buffer> reply) {
    const auto it = clients_.find(id);
    if (it == clients_.end()) return;
    if (it->second.outstanding) --it->second.outstanding;
    if (!reply) drop(id, true);
  });
}

void EventHub::watch(std::uint64_t id) {
  fb::host::WatchT w;
  w.id = id;
  ask(host_, fb::host::Service::HTTP, fb::host::HttpMethod::WATCH, w,
      [this, id](const Result<Buffer>&) { drop(id, true); });
}

void EventHub::drop(std::uint64_t id, bool announce) {
  const auto it = clients_.find(id);
  if (it == clients_.end()) return;
  const std::string peer = it->second.peer;
  clients_.erase(it);
  if (announce)
    emit_("event_stream_detached", {{"remoteAddress", boost::json::string(peer.substr(0, peer.rfind(':')))}});
}

void EventHub::stop() {
  std::vector<std::uint64_t> all;
  for (const auto& [id, c] : clients_) all.push_back(id);
  for (const auto id : all) {
    deliver(id, {}, false, false);
    drop(id, false);
  }
}

}  // namespace gantry::framework_services
