// Host services as a conformance case sees them: requests of the module, answered by scripts. Used by subject.hpp.
#pragma once

#include <gantry/framework_generated.h>
#include <gantry/host_generated.h>
#include <gantry/message.hpp>
#include <gantry/store_generated.h>

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace gantry::conformance {

// One request of the module. Copies share it; answer now or later, MORE any number of times and then once finally.
class Asked {
 public:
  struct State {
    std::function<void(gantry_code, Bytes)> send;
    std::function<void()> on_cancel;
    bool cancelled = false, done = false;
  };
  fb::host::Service service{};
  std::uint32_t method = 0;
  std::vector<std::uint8_t> body;
  std::shared_ptr<State> state = std::make_shared<State>();

  // The body as table T; an error if it does not verify.
  template <class T>
  [[nodiscard]] auto as() const {
    return unpack<T>(Bytes(body));
  }
  [[nodiscard]] bool cancelled() const { return state->cancelled; }
  [[nodiscard]] bool done() const { return state->done; }
  void reply(gantry_code code, Bytes bytes = {}) const {
    if (state->done) return;
    state->done = code != GANTRY_MORE;
    if (state->send) state->send(code, bytes);
  }
  void ok() const { reply(GANTRY_OK); }
  template <class T>
  void ok(const T& message) const {
    reply(GANTRY_OK, Bytes(pack(message)));
  }
  template <class T>
  void more(const T& message) const {
    reply(GANTRY_MORE, Bytes(pack(message)));
  }
  void fail(const Error& e) const { reply(static_cast<gantry_code>(e.code), Bytes(pack_error(e))); }
  // What happens when the module cancels it; without one the answer is CANCELLED.
  void on_cancel(std::function<void()> fn) const { state->on_cancel = std::move(fn); }
  // For the subject: the module has cancelled it, or ended.
  void cancel() const {
    if (state->done || std::exchange(state->cancelled, true)) return;
    if (state->on_cancel)
      state->on_cancel();
    else
      fail(v1::fail(Code::cancelled, "cancelled by the module"));
  }
};
using Handler = std::function<void(Asked)>;

// STORE in memory. Lives as long as the subject, so it survives restarts of the instance.
class MemoryStore {
 public:
  struct Value {
    std::vector<std::uint8_t> bytes;
    std::uint64_t version = 0;
  };
  std::map<std::string, Value> records;
  std::uint64_t commits = 0;
  Code refuse = Code::ok;  // otherwise every COMMIT fails with it

  void serve(const Asked& a) {
    using fb::store::Method;
    switch (static_cast<Method>(a.method)) {
      case Method::GET: return get(a);
      case Method::COMMIT: return commit(a);
      case Method::LIST: return list(a);
    }
    a.fail(fail(Code::unimplemented, "STORE has no method " + std::to_string(a.method)));
  }

 private:
  void get(const Asked& a) const {
    const auto q = a.as<fb::store::Get>();
    if (!q) return a.fail(q.error());
    const auto it = records.find(q->key);
    if (it == records.end()) return a.fail(fail(Code::not_found, "no record " + q->key));
    a.ok(record(it->first, it->second, false));
  }
  void commit(const Asked& a) {
    const auto q = a.as<fb::store::Commit>();
    if (!q) return a.fail(q.error());
    if (refuse != Code::ok) return a.fail(fail(refuse, "the store refuses to write"));
    for (const auto& op : q->ops) {
      const auto it = records.find(op->key);
      const std::uint64_t version = it == records.end() ? 0 : it->second.version;
      if (op->expected && *op->expected != version)
        return a.fail(fail(Code::aborted, op->key + " has version " + std::to_string(version)));
    }
    ++commits;
    fb::store::CommittedT done;
    for (const auto& op : q->ops) {
      if (op->type == fb::store::OpType::PUT) {
        Value& v = records[op->key];
        v.bytes = op->value;
        v.version = ++last_;
        done.versions.push_back(v.version);
      } else if (op->type == fb::store::OpType::DELETE) {
        records.erase(op->key);
        done.versions.push_back(0);
      } else {
        const auto it = records.find(op->key);
        done.versions.push_back(it == records.end() ? 0 : it->second.version);
      }
    }
    a.ok(done);
  }
  void list(const Asked& a) const {
    const auto q = a.as<fb::store::List>();
    if (!q) return a.fail(q.error());
    fb::store::RecordsT chunk;
    std::uint32_t n = 0;
    for (auto it = records.upper_bound(q->after); it != records.end(); ++it) {
      if (it->first.compare(0, q->prefix.size(), q->prefix) != 0) continue;
      if (q->limit && n == q->limit) break;
      ++n;
      chunk.records.push_back(std::make_unique<fb::store::RecordT>(record(it->first, it->second, q->keys_only)));
    }
    if (!chunk.records.empty()) a.more(chunk);
    a.ok();
  }
  static fb::store::RecordT record(const std::string& key, const Value& v, bool key_only) {
    fb::store::RecordT r;
    r.key = key;
    r.version = v.version;
    if (!key_only) r.value = v.bytes;
    return r;
  }
  std::uint64_t last_ = 0;
};

// HTTP without sockets: the case is the client.
class FakeHttp {
 public:
  struct Response {
    std::uint16_t status = 0;
    std::map<std::string, std::string> headers;  // of the first piece, names as the module wrote them
    std::string body;                            // pieces so far
    bool ended = false;
  };
  std::function<void(Asked)> on_fetch, on_probe;  // without one: UNAVAILABLE

  [[nodiscard]] bool listening() const { return listen_ && !listen_->done(); }
  [[nodiscard]] const fb::host::ListenT& listen() const { return wanted_; }
  // Sends a request to the module; 0 if it does not listen. The answer appears in response(id).
  std::uint64_t send(fb::host::RequestT request) {
    if (!listening()) return 0;
    request.id = ++last_;
    if (request.peer.empty()) request.peer = "127.0.0.1:50000";
    responses_[request.id];
    listen_->more(request);
    return request.id;
  }
  std::uint64_t send(std::string method, std::string target, std::string body = {}) {
    fb::host::RequestT r;
    r.method = std::move(method);
    r.target = std::move(target);
    r.body.assign(body.begin(), body.end());
    if (!body.empty()) {
      r.headers.push_back(std::make_unique<fb::host::HeaderT>());
      r.headers.back()->name = "content-type";
      r.headers.back()->value = "application/json";
    }
    return send(std::move(r));
  }
  [[nodiscard]] const Response& response(std::uint64_t id) { return responses_[id]; }
  // The client of request `id` has gone.
  void disconnect(std::uint64_t id) {
    gone_.insert(id);
    if (const auto it = watches_.find(id); it != watches_.end()) it->second.ok();
  }

  void serve(const Asked& a) {
    using fb::host::HttpMethod;
    switch (static_cast<HttpMethod>(a.method)) {
      case HttpMethod::LISTEN: return on_listen(a);
      case HttpMethod::RESPOND: return on_respond(a);
      case HttpMethod::WATCH: {
        const auto w = a.as<fb::host::Watch>();
        if (!w) return a.fail(w.error());
        if (gone_.count(w->id)) return a.ok();
        watches_[w->id] = a;
        return;
      }
      case HttpMethod::FETCH:
        if (on_fetch) return on_fetch(a);
        return a.fail(fail(Code::unavailable, "nothing answers FETCH in this case"));
      case HttpMethod::PROBE:
        if (on_probe) return on_probe(a);
        return a.fail(fail(Code::unavailable, "nothing answers PROBE in this case"));
    }
    a.fail(fail(Code::unimplemented, "HTTP has no method " + std::to_string(a.method)));
  }

 private:
  void on_listen(const Asked& a) {
    auto l = a.as<fb::host::Listen>();
    if (!l) return a.fail(l.error());
    wanted_ = std::move(*l);
    listen_ = std::make_shared<Asked>(a);
    fb::host::ListeningT up;
    const auto colon = wanted_.address.rfind(":0");
    up.address = colon != std::string::npos && colon + 2 == wanted_.address.size()
                     ? wanted_.address.substr(0, colon) + ":40000"
                     : wanted_.address;
    a.more(up);
  }
  void on_respond(const Asked& a) {
    const auto r = a.as<fb::host::Respond>();
    if (!r) return a.fail(r.error());
    const auto it = responses_.find(r->id);
    if (it == responses_.end()) return a.fail(fail(Code::not_found, "no request " + std::to_string(r->id)));
    if (gone_.count(r->id)) return a.fail(fail(Code::cancelled, "the client has gone"));
    Response& out = it->second;
    if (out.ended) return a.fail(fail(Code::failed_precondition, "the response has ended already"));
    if (r->status) out.status = r->status;
    for (const auto& h : r->headers) out.headers[h->name] = h->value;
    out.body.append(r->body.begin(), r->body.end());
    out.ended = !r->more;
    a.ok();
  }
  fb::host::ListenT wanted_;
  std::shared_ptr<Asked> listen_;
  std::uint64_t last_ = 0;
  std::map<std::uint64_t, Response> responses_;
  std::map<std::uint64_t, Asked> watches_;
  std::set<std::uint64_t> gone_;
};

// CLUSTER without a master: remembers what the module calls, hands it the events the case invents.
class FakeCluster {
 public:
  bool accept = true;                  // false: SUBSCRIBE is refused with UNAVAILABLE (no leader)
  std::string framework_id = "conformance-0001";
  std::vector<fb::CallT> subscribes;   // every SUBSCRIBE so far
  std::vector<fb::CallT> calls;        // every CALL so far
  std::function<void(const fb::CallT&)> on_call;

  [[nodiscard]] bool subscribed() const { return stream_ && !stream_->done(); }
  // Calls of one type, in order.
  [[nodiscard]] std::vector<const fb::CallT*> of(fb::CallType type) const {
    std::vector<const fb::CallT*> out;
    for (const auto& c : calls)
      if (c.type == type) out.push_back(&c);
    return out;
  }
  void event(const fb::EventT& e) const {
    if (stream_) stream_->more(e);
  }
  // Bytes that need not be an Event.
  void raw_event(Bytes bytes) const {
    if (stream_) stream_->reply(GANTRY_MORE, bytes);
  }
  // Ends the stream as the kernel does: ABORTED (replaced), UNAVAILABLE (the master stepped down), OK (removed).
  void end(Code code) const {
    if (!stream_) return;
    if (code == Code::ok) return stream_->ok();
    stream_->fail(fail(code, "the subscription has ended"));
  }

  void serve(const Asked& a) {
    auto call = a.as<fb::Call>();
    if (!call) return a.fail(call.error());
    if (a.method == static_cast<std::uint32_t>(fb::host::ClusterMethod::SUBSCRIBE)) {
      if (!accept) return a.fail(fail(Code::unavailable, "no master leads"));
      stream_ = std::make_shared<Asked>(a);
      fb::EventT e;
      e.type = fb::EventType::SUBSCRIBED;
      e.subscribed = std::make_unique<fb::SubscribedT>();
      std::string id = call->framework_id;
      if (id.empty() && call->subscribe && call->subscribe->framework_info) id = call->subscribe->framework_info->id;
      if (id.empty()) id = framework_id;
      e.subscribed->framework_id = framework_id = id;
      subscribes.push_back(std::move(*call));
      return a.more(e);
    }
    if (a.method == static_cast<std::uint32_t>(fb::host::ClusterMethod::CALL)) {
      calls.push_back(std::move(*call));
      a.ok();
      if (on_call) on_call(calls.back());
      return;
    }
    a.fail(fail(Code::unimplemented, "CLUSTER has no method " + std::to_string(a.method)));
  }

 private:
  std::shared_ptr<Asked> stream_;
};

}  // namespace gantry::conformance
