#include "kernel/store/store.hpp"

#include <gantry/store_generated.h>

#include <algorithm>
#include <utility>

namespace gantry::store {

namespace fs = fb::store;

namespace {

bool plain(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
         c == '~' || c == '-';
}

// What an operator should do about it, beside what the module said.
Error explain(Error e, std::string_view doing) {
  if (e.code == Code::resource_exhausted) e.message += "; free space for the store, nothing is lost meanwhile";
  if (e.code == Code::failed_precondition) e.message += "; the store must be writable for a master to lead";
  return std::move(e).because(doing);
}

constexpr std::size_t kGroupOps = 4096;
constexpr std::size_t kGroupBytes = 4u << 20;

}  // namespace

Status validate_key(std::string_view key) {
  const auto bad = [&](std::string_view what) {
    return fail(Code::invalid_argument, "key '" + std::string(key.substr(0, 80)) + "' " + std::string(what));
  };
  if (key.empty()) return fail(Code::invalid_argument, "a key must not be empty");
  if (key.size() > 512) return bad("is longer than 512 bytes");
  bool start = true;
  for (const char c : key) {
    if (c == '/') {
      if (start) return bad("has an empty segment");
      start = true;
      continue;
    }
    if (!plain(c) && c != '%') return bad("has a byte outside [A-Za-z0-9._~%/-]");
    start = false;
  }
  if (start) return bad("ends with '/'");
  return ok;
}

std::string key_segment(std::string_view text) {
  static constexpr char hex[] = "0123456789ABCDEF";
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    if (plain(c)) {
      out += c;
    } else {
      out += '%';
      out += hex[static_cast<unsigned char>(c) >> 4];
      out += hex[static_cast<unsigned char>(c) & 15];
    }
  }
  return out;
}
std::string unkey_segment(std::string_view segment) {
  const auto digit = [](char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1; };
  std::string out;
  for (std::size_t i = 0; i < segment.size(); ++i) {
    if (segment[i] == '%' && i + 2 < segment.size() && digit(segment[i + 1]) >= 0 && digit(segment[i + 2]) >= 0) {
      out += static_cast<char>(digit(segment[i + 1]) * 16 + digit(segment[i + 2]));
      i += 2;
    } else {
      out += segment[i];
    }
  }
  return out;
}

void ModuleStore::commit(std::vector<Op> ops, Function<void(Status)> done) {
  ++counters_.requests;
  waiting_.push_back({std::move(ops), std::move(done)});
  pump();
}

void ModuleStore::pump() {
  if (busy_ || waiting_.empty()) return;
  std::vector<Waiting> group;
  std::size_t ops = 0, bytes = 0;
  do {
    for (const auto& op : waiting_.front().ops) bytes += op.key.size() + (op.value ? op.value->size() : 0);
    ops += waiting_.front().ops.size();
    group.push_back(std::move(waiting_.front()));
    waiting_.pop_front();
  } while (alone_left_ == 0 && !waiting_.empty() && ops < kGroupOps && bytes < kGroupBytes);
  if (alone_left_ > 0) --alone_left_;
  send(std::move(group));
}

void ModuleStore::send(std::vector<Waiting> group) {
  flatbuffers::FlatBufferBuilder b(1024);
  std::vector<flatbuffers::Offset<fs::Op>> ops;
  for (const auto& w : group) {
    for (const auto& op : w.ops) {
      const auto key = b.CreateString(op.key);
      if (op.value) {
        const auto value = b.CreateVector(op.value->data(), op.value->size());
        ops.push_back(fs::CreateOp(b, fs::OpType::PUT, key, value));
      } else {
        ops.push_back(fs::CreateOp(b, fs::OpType::DELETE, key));
      }
    }
  }
  b.Finish(fs::CreateCommit(b, b.CreateVector(ops)));
  busy_ = true;
  ++counters_.commits;
  auto self = self_;
  auto shared = std::make_shared<std::vector<Waiting>>(std::move(group));
  instance_.call(static_cast<std::uint32_t>(fs::Method::COMMIT), Buffer(b.Release()),
                 [self, shared](gantry_code code, Bytes body) {
                   if (code == GANTRY_MORE || !*self) return;
                   ModuleStore& s = **self;
                   s.busy_ = false;
                   if (code < 0) {
                     const Error error = unpack_error(code, body);
                     // One member may be at fault: try each alone, so that it fails by itself.
                     if (shared->size() > 1 && (error.code == Code::invalid_argument || error.code == Code::aborted)) {
                       s.alone_left_ += shared->size();
                       for (auto it = shared->rbegin(); it != shared->rend(); ++it)
                         s.waiting_.push_front(std::move(*it));
                       return s.pump();
                     }
                     ++s.counters_.failures;
                     const Error told = explain(error, "commit to the store");
                     for (auto& w : *shared)
                       if (w.done) w.done(told);
                   } else {
                     for (auto& w : *shared)
                       if (w.done) w.done(ok);
                   }
                   if (*self) s.pump();
                 });
}

void ModuleStore::get(std::string key, Function<void(Result<Buffer>)> done) {
  fs::GetT g;
  g.key = key;
  auto shared = std::make_shared<Function<void(Result<Buffer>)>>(std::move(done));
  instance_.call(
      static_cast<std::uint32_t>(fs::Method::GET), pack(g), [self = self_, shared, key](gantry_code code, Bytes body) {
        if (code == GANTRY_MORE || !*self) return;
        if (code < 0) return (*shared)(explain(unpack_error(code, body), "read '" + key + "' from the store"));
        const auto* r = view<fs::Record>(body);
        if (!r) return (*shared)(fail(Code::data_loss, "the store answered '" + key + "' with a malformed record"));
        (*shared)(r->value() ? Buffer(Bytes(r->value()->data(), r->value()->size())) : Buffer());
      });
}

void ModuleStore::list(std::string prefix, Function<void(std::string_view, Bytes)> each, Function<void(Status)> done) {
  fs::ListT l;
  l.prefix = prefix;
  struct Listing {
    Function<void(std::string_view, Bytes)> each;
    Function<void(Status)> done;
    bool malformed = false;
  };
  auto state = std::make_shared<Listing>(Listing{std::move(each), std::move(done)});
  instance_.call(
      static_cast<std::uint32_t>(fs::Method::LIST), pack(l), [self = self_, state](gantry_code code, Bytes body) {
        if (!*self) return;
        if (code < 0) return state->done(explain(unpack_error(code, body), "list the store"));
        if (!body.empty()) {
          if (const auto* rs = view<fs::Records>(body)) {
            if (rs->records())
              for (const auto* r : *rs->records())
                state->each(text(r->key()), r->value() ? Bytes(r->value()->data(), r->value()->size()) : Bytes());
          } else {
            state->malformed = true;
          }
        }
        if (code == GANTRY_MORE) return;
        if (state->malformed) return state->done(fail(Code::data_loss, "the store listed malformed records"));
        state->done(ok);
      });
}

}  // namespace gantry::store
