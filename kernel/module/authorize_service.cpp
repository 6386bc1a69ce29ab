#include "kernel/module/authorize_service.hpp"

#include "kernel/base/log.hpp"

#include <gantry/authorizer_generated.h>

namespace gantry::module {
namespace {

namespace fa = fb::authorizer;
constexpr auto kAuthorize = static_cast<std::uint32_t>(fa::Method::AUTHORIZE);
constexpr auto kChanged = static_cast<std::uint32_t>(fa::Method::CHANGED);
constexpr base::Nanos kPatience = std::chrono::seconds(10);
constexpr base::Nanos kAgain = std::chrono::seconds(1);

void finish(const ServiceReply& reply, const Error& error) {
  reply(static_cast<gantry_code>(error.code), pack_error(error));
}

}  // namespace

// One AUTHORIZE under way.
struct AuthorizeService::Asking {
  ServiceReply reply;
  std::vector<std::uint8_t> allowed;
  std::size_t open = 0;
  bool answered = false;

  void refuse(const Error& why) {
    if (std::exchange(answered, true)) return;
    finish(reply, why);
  }
  void done() {
    if (open > 0 || std::exchange(answered, true)) return;
    flatbuffers::FlatBufferBuilder b(64 + allowed.size());
    const auto list = b.CreateVector(allowed);
    b.Finish(fa::CreateVerdicts(b, list));
    reply(GANTRY_OK, Bytes(b.GetBufferPointer(), b.GetSize()));
  }
};

AuthorizeService::AuthorizeService(base::Loop& loop, Instances authorizers) : loop_(loop), authorizers_(std::move(authorizers)) {}
AuthorizeService::~AuthorizeService() { *alive_ = false; }

void AuthorizeService::request(const ServiceRequest& request, ServiceReply reply) {
  if (request.method == kAuthorize) return ask(request, std::move(reply));
  if (request.method == kChanged) return follow(request.id, reply);
  finish(reply, fail(Code::unimplemented, "service AUTHORIZE has no method " + std::to_string(request.method)));
}

void AuthorizeService::ask(const ServiceRequest& request, ServiceReply reply) {
  const auto* m = view<fa::Questions>(request.body);
  if (!m) return finish(reply, fail(Code::invalid_argument, "malformed Questions"));
  auto asking = std::make_shared<Asking>();
  asking->reply = std::move(reply);
  asking->allowed.assign(m->questions() ? m->questions()->size() : 0, 1);
  const auto all = authorizers_();
  asking->open = all.size();
  if (all.empty()) return asking->done();
  for (Instance* one : all) {
    one->call(kAuthorize, Buffer(request.body),
              [asking, name = one->kind() + "." + one->name()](gantry_code code, Bytes body) {
                if (code == GANTRY_MORE) return;
                --asking->open;
                if (code != GANTRY_OK) return asking->refuse(code < 0 ? unpack_error(code, body) : fail(Code::internal, name + " gave no verdict"));
                const auto* v = view<fa::Verdicts>(body);
                const std::size_t n = v && v->allowed() ? v->allowed()->size() : 0;
                if (!v || n != asking->allowed.size()) {
                  base::log_error("kernel", name + " gave another number of verdicts than it was asked; all count as no",
                                  {{"asked", std::to_string(asking->allowed.size())}, {"given", std::to_string(n)}});
                  return asking->refuse(fail(Code::internal, name + " gave another number of verdicts than it was asked"));
                }
                for (std::size_t i = 0; i < n; ++i)
                  if (!v->allowed()->Get(static_cast<flatbuffers::uoffset_t>(i))) asking->allowed[i] = 0;
                asking->done();
              },
              CallOptions{loop_.now() + kPatience, {}});
  }
}

void AuthorizeService::follow(std::uint64_t id, const ServiceReply& reply) {
  const auto all = authorizers_();
  if (all.empty()) return finish(reply, fail(Code::unimplemented, "no authorizer module is configured; everything is allowed"));
  followers_.emplace(id, reply);
  if (!std::exchange(watching_, true))
    for (std::size_t i = 0; i < all.size(); ++i) watch(i);
  reply(GANTRY_MORE, {});
}

// One stream of each module, for as long as the daemon lives. One that ends was lost with its module's process: whatever it
// decides when it is back may differ.
void AuthorizeService::watch(std::size_t which) {
  const auto all = authorizers_();
  if (which >= all.size()) return;
  all[which]->call(kChanged, Buffer(), [this, which, alive = alive_](gantry_code code, Bytes) {
    if (!*alive) return;
    if (code == GANTRY_MORE) return tell();
    if (code == GANTRY_UNIMPLEMENTED || code == GANTRY_CANCELLED) return;
    tell();
    loop_.after(kAgain, [this, which, alive] {
      if (*alive) watch(which);
    });
  });
}

void AuthorizeService::tell() {
  const auto all = followers_;  // a reply may cancel
  for (const auto& [id, reply] : all)
    if (followers_.count(id)) reply(GANTRY_MORE, {});
}

void AuthorizeService::cancelled(std::uint64_t id) {
  if (auto node = followers_.extract(id)) finish(node.mapped(), fail(Code::cancelled, "cancelled"));
}

}  // namespace gantry::module
