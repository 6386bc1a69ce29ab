#include "kernel/module/requests.hpp"

#include "kernel/module/trace.hpp"

#include <algorithm>
#include <atomic>
#include <vector>

namespace gantry::module {
namespace {

constexpr std::size_t max_open = 1 << 16;
std::atomic<std::uint64_t> last_request_id{0};

}  // namespace

void Requests::ask(Instance* instance, std::uint32_t service, std::uint32_t method, std::uint64_t token, Bytes body) {
  if (ids_.count(token)) return setup_.fault("asked twice with one token; the second request is ignored");
  const std::string& id = setup_.id;
  if (tracer_) tracer_->request(token, service, method, body);
  const auto refuse = [&](const Error& e) {
    const Buffer b = pack_error(e);
    deliver({service, method, token}, static_cast<gantry_code>(e.code), b);
  };
  if (open_.size() >= max_open)
    return refuse(fail(Code::resource_exhausted, id + " has " + std::to_string(open_.size()) + " requests open"));
  if (!instance) return refuse(fail(Code::unavailable, id + " has been given up by the kernel"));
  const std::string name = service_name(service);
  const auto it = setup_.services->find(static_cast<fb::host::Service>(service));
  if (name.empty() || it == setup_.services->end() || !it->second)
    return refuse(fail(Code::unimplemented, "this kernel offers no host service " +
                                                (name.empty() ? std::to_string(service) : name)));
  if (!setup_.allowed.count(name))
    return refuse(fail(Code::permission_denied, id + " asks for the host service " + name +
                                                    ", which its manifest does not list; add \"" + name +
                                                    "\" to `services`"));
  const std::uint64_t request = ++last_request_id;
  ids_[token] = request;
  open_[request] = {service, method, token};
  it->second->request({instance, method, body, request}, [weak = self_, request](gantry_code code, Bytes bytes) {
    if (const auto self = weak.lock()) self->on_reply(request, code, bytes);
  });
}

void Requests::cancel(std::uint64_t token) {
  const auto it = ids_.find(token);
  if (it == ids_.end()) return;  // answered meanwhile
  const std::uint64_t request = it->second;
  const Open& open = open_.at(request);
  if (tracer_) tracer_->request_cancel(token, open.service, open.method);
  const auto service = setup_.services->find(static_cast<fb::host::Service>(open.service));
  if (service != setup_.services->end()) service->second->cancelled(request);
}

void Requests::close(bool answer) {
  std::vector<std::pair<std::uint64_t, Open>> requests(open_.begin(), open_.end());
  std::sort(requests.begin(), requests.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  if (!answer) {
    open_.clear();
    ids_.clear();
  }
  for (const auto& [request, open] : requests) {
    const auto it = setup_.services->find(static_cast<fb::host::Service>(open.service));
    if (it != setup_.services->end() && it->second) it->second->cancelled(request);
    const Buffer b = pack_error(fail(Code::cancelled, setup_.id + " is being stopped"));
    on_reply(request, GANTRY_CANCELLED, b);
  }
}

void Requests::on_reply(std::uint64_t request, gantry_code code, Bytes bytes) {
  const auto it = open_.find(request);
  if (it == open_.end()) return;
  const Open open = it->second;
  if (code == GANTRY_MORE && setup_.backlog() + bytes.size() > setup_.queue_bytes) {
    open_.erase(it);
    ids_.erase(open.token);
    setup_.fault("reads a stream of the host service " + service_name(open.service) +
                 " too slowly; the stream is cut");
    const auto service = setup_.services->find(static_cast<fb::host::Service>(open.service));
    if (service != setup_.services->end() && service->second) service->second->cancelled(request);
    const Buffer b = pack_error(fail(Code::resource_exhausted, setup_.id + " reads too slowly; the stream was cut"));
    return deliver(open, GANTRY_RESOURCE_EXHAUSTED, b);
  }
  if (code != GANTRY_MORE) {
    open_.erase(it);
    ids_.erase(open.token);
  }
  deliver(open, code, bytes);
}

void Requests::deliver(const Open& open, gantry_code code, Bytes bytes) {
  if (tracer_) tracer_->reply(open.token, open.service, open.method, code, bytes);
  setup_.deliver(open.service, open.token, code, bytes);
}

}  // namespace gantry::module
