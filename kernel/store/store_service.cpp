#include "kernel/store/store_service.hpp"

#include "kernel/store/store.hpp"

#include <gantry/store_generated.h>

namespace gantry::store {

namespace fs = fb::store;

namespace {

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
  store_.call(static_cast<std::uint32_t>(fs::Method::GET), pack(ask),
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
  for (auto& op : out.ops) {
    if (auto s = validate_key(op->key); !s) return refuse(reply, s.error());
    if (op->value.size() > max_value) {
      return refuse(
          reply, fail(Code::invalid_argument, "the value of '" + op->key + "' has " + std::to_string(op->value.size()) +
                                                  " bytes; a record holds at most 1 MiB"));
    }
    op->key.insert(0, corner);
  }
  store_.call(static_cast<std::uint32_t>(fs::Method::COMMIT), pack(out),
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
  store_.call(static_cast<std::uint32_t>(fs::Method::LIST), pack(ask),
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
