#include "kernel/store/store_service.hpp"

#include "kernel/store/store.hpp"

#include <gantry/store_generated.h>

namespace gantry::store {

namespace fs = fb::store;

namespace {

constexpr base::Nanos patience = std::chrono::seconds(30), retry_interval = std::chrono::milliseconds(100);

void refuse(const module::ServiceReply& reply, const Error& error) {
  reply(static_cast<gantry_code>(error.code), pack_error(error));
}
void malformed(const module::ServiceReply& reply) {
  refuse(reply, fail(Code::invalid_argument, "malformed store request"));
}
std::string relative(const flatbuffers::String* key, const std::string& corner) {
  const std::string_view k = text(key);
  return std::string(k.substr(std::min(corner.size(), k.size())));
}

}  // namespace

base::Instant StoreService::now() const { return loop_ ? loop_->now() : base::Instant(0); }

void StoreService::ask(std::uint32_t method, std::shared_ptr<Buffer> body, bool again, base::Instant since, Said said) {
  store_.call(method, Buffer(Bytes(*body)),
              [this, alive = alive_, method, body, again, since, said = std::move(said)](gantry_code code, Bytes bytes) mutable {
                if (!*alive) return said(code, bytes);
                if (code == GANTRY_MORE) again = false;  // the caller has seen a part
                if (code != GANTRY_UNAVAILABLE || !again || !loop_ || now() - since >= patience) return said(code, bytes);
                loop_->after(retry_interval, [this, alive, method, body, since, said = std::move(said)]() mutable {
                  if (!*alive) return said(GANTRY_UNAVAILABLE, Bytes());
                  ask(method, body, true, since, std::move(said));
                });
              });
}

void StoreService::request(const module::ServiceRequest& r, module::ServiceReply reply) {
  const std::string corner = "module/" + key_segment(r.caller->id()) + "/";
  switch (static_cast<fs::Method>(r.method)) {
    case fs::Method::GET:
      return get(corner, r.body, std::move(reply));
    case fs::Method::COMMIT:
      return commit(corner, r.body, std::move(reply));
    case fs::Method::LIST:
      return list(corner, r.body, std::move(reply));
  }
  refuse(reply, fail(Code::unimplemented, "the service STORE has no method " + std::to_string(r.method)));
}

void StoreService::get(const std::string& corner, Bytes body, module::ServiceReply reply) {
  const auto* g = view<fs::Get>(body);
  if (!g) return malformed(reply);
  if (auto s = validate_key(text(g->key())); !s) return refuse(reply, s.error());
  fs::GetT ask;
  ask.key = corner + std::string(text(g->key()));
  this->ask(static_cast<std::uint32_t>(fs::Method::GET), std::make_shared<Buffer>(pack(ask)), true, now(),
            [reply = std::move(reply), corner](gantry_code code, Bytes bytes) {
                if (code == GANTRY_MORE) return;
                if (code < 0) return reply(code, bytes);
                const auto* r = view<fs::Record>(bytes);
                if (!r) return refuse(reply, fail(Code::data_loss, "the store answered with a malformed record"));
                fs::RecordT out;
                r->UnPackTo(&out);
                out.key = relative(r->key(), corner);
                reply(GANTRY_OK, pack(out));
              });
}

void StoreService::commit(const std::string& corner, Bytes body, module::ServiceReply reply) {
  const auto* c = view<fs::Commit>(body);
  if (!c) return malformed(reply);
  fs::CommitT out;
  c->UnPackTo(&out);
  bool again = true;
  for (auto& op : out.ops) {
    if (op->expected || op->type == fs::OpType::CHECK) again = false;
    if (auto s = validate_key(op->key); !s) return refuse(reply, s.error());
    if (op->value.size() > max_value) {
      return refuse(
          reply, fail(Code::invalid_argument, "the value of '" + op->key + "' has " + std::to_string(op->value.size()) +
                                                  " bytes; a record holds at most 1 MiB"));
    }
    op->key.insert(0, corner);
  }
  ask(static_cast<std::uint32_t>(fs::Method::COMMIT), std::make_shared<Buffer>(pack(out)), again, now(),
      [reply = std::move(reply)](gantry_code code, Bytes bytes) {
                if (code != GANTRY_MORE) reply(code, bytes);
              });
}

void StoreService::list(const std::string& corner, Bytes body, module::ServiceReply reply) {
  const auto* l = view<fs::List>(body);
  if (!l) return malformed(reply);
  fs::ListT ask;
  l->UnPackTo(&ask);
  ask.prefix.insert(0, corner);
  if (!ask.after.empty()) ask.after.insert(0, corner);
  this->ask(static_cast<std::uint32_t>(fs::Method::LIST), std::make_shared<Buffer>(pack(ask)), true, now(),
            [reply = std::move(reply), corner](gantry_code code, Bytes bytes) {
                if (code < 0 || bytes.empty()) return reply(code, bytes);
                const auto* rs = view<fs::Records>(bytes);
                if (!rs) return refuse(reply, fail(Code::data_loss, "the store listed malformed records"));
                fs::RecordsT out;
                rs->UnPackTo(&out);
                for (auto& r : out.records) r->key.erase(0, std::min(corner.size(), r->key.size()));
                reply(code, pack(out));
              });
}

}  // namespace gantry::store
