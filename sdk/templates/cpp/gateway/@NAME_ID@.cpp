#include "@NAME_ID@.hpp"

namespace @NAME_ID@ {

using namespace gantry;

namespace {

constexpr auto method(fb::host::HttpMethod m) { return static_cast<std::uint32_t>(m); }

}  // namespace

Task<Status> @CLASS@::configure(Settings settings) {
  address_ = settings.text("address");
  realm_ = settings.text("realm");
  insecure_ = settings.flag("insecure");
  co_return ok;
}

// Not a word about who leads: a gateway serves on every daemon of its roles, from the beginning.
Task<Status> @CLASS@::start() {
  fb::host::ListenT listen;
  listen.address = address_;
  listen.realm = realm_;
  listen.insecure = insecure_;
  const Buffer body = pack(listen);
  Promise<Status> bound;
  listener_ = host().stream(fb::host::Service::HTTP, method(fb::host::HttpMethod::LISTEN), body, [this, bound](gantry_code code, Bytes b) {
    if (code == GANTRY_MORE) {
      if (!bound.is_set()) return bound.set(ok);  // fb::host::Listening: the bound address
      if (const auto* request = view<fb::host::Request>(b)) on_request(*request);
      return;
    }
    listener_ = 0;
    if (!bound.is_set()) return bound.set(Status(unpack_error(code, b)));
    if (!stopping_) trouble_ = "the listener has closed: " + unpack_error(code, b).message;
  });
  co_return co_await bound.get();
}

Task<Status> @CLASS@::stop() {
  stopping_ = true;
  if (listener_) host().cancel_request(listener_);
  co_return ok;
}

Task<Result<fb::HealthT>> @CLASS@::health() {
  fb::HealthT h;
  h.state = trouble_.empty() ? fb::HealthState::OK : fb::HealthState::FAILED;
  h.message = trouble_;
  co_return h;
}

// The place for your protocol. Answer each request, at once or later.
void @CLASS@::on_request(const fb::host::Request& request) {
  const std::uint64_t id = request.id();
  if (text(request.target()) != "/leader") return respond(id, 404, "look at /leader\n");
  fb::control::QuestionT question;
  question.ask.Set(fb::control::AskStatusT());
  const Buffer body = pack(question);
  host().stream(fb::host::Service::QUERY, 0, body, [this, id](gantry_code code, Bytes b) {
    const auto* answer = code == GANTRY_OK ? view<fb::control::Answer>(b) : nullptr;
    const auto* status = answer ? answer->say_as_Status() : nullptr;
    if (!status || text(status->leader()).empty()) return respond(id, 503, "nobody leads\n");
    respond(id, 200, std::string(text(status->leader())) + "\n");
  });
}

void @CLASS@::respond(std::uint64_t request, std::uint16_t status, const std::string& body) {
  fb::host::RespondT r;
  r.id = request;
  r.status = status;
  r.headers.push_back(std::make_unique<fb::host::HeaderT>());
  r.headers.back()->name = "Content-Type";
  r.headers.back()->value = "text/plain";
  r.body.assign(body.begin(), body.end());
  const Buffer packed = pack(r);
  host().stream(fb::host::Service::HTTP, method(fb::host::HttpMethod::RESPOND), packed, [](gantry_code, Bytes) {});
}

}  // namespace @NAME_ID@
