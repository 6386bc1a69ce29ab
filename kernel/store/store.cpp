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

constexpr base::Nanos retry_interval = std::chrono::milliseconds(100);
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
  send_commit(std::make_shared<std::vector<Waiting>>(std::move(group)), std::make_shared<Buffer>(b.Release()),
              loop_ ? loop_->now() : base::Instant(0));
}

bool ModuleStore::later(const Error& error, base::Instant since, Function<void()> again) {
  if (!loop_ || error.code != Code::unavailable || loop_->now() - since >= patience_) return false;
  loop_->after(retry_interval, [self = self_, again = std::move(again)]() mutable {
    if (*self) again();
  });
  return true;
}

void ModuleStore::send_commit(std::shared_ptr<std::vector<Waiting>> shared, std::shared_ptr<Buffer> body,
                              base::Instant since) {
  instance_.call(static_cast<std::uint32_t>(fs::Method::COMMIT), loop_ ? Buffer(Bytes(*body)) : std::move(*body),
                 [self = self_, shared, body, since](gantry_code code, Bytes reply) {
                   if (code == GANTRY_MORE || !*self) return;
                   ModuleStore& s = **self;
                   const Error error = code < 0 ? unpack_error(code, reply) : Error{};
                   if (code < 0 && s.later(error, since, [&s, shared, body, since] { s.send_commit(shared, body, since); }))
                     return;
                   s.busy_ = false;
                   if (code < 0) {
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
  ask(std::move(key), std::make_shared<Function<void(Result<Buffer>)>>(std::move(done)),
      loop_ ? loop_->now() : base::Instant(0));
}

void ModuleStore::ask(std::string key, std::shared_ptr<Function<void(Result<Buffer>)>> done, base::Instant since) {
  fs::GetT g;
  g.key = key;
  instance_.call(static_cast<std::uint32_t>(fs::Method::GET), pack(g),
                 [self = self_, done, key, since](gantry_code code, Bytes body) {
                   if (code == GANTRY_MORE || !*self) return;
                   if (code < 0) {
                     const Error error = unpack_error(code, body);
                     ModuleStore& s = **self;
                     if (s.later(error, since, [&s, key, done, since] { s.ask(key, done, since); })) return;
                     return (*done)(explain(error, "read '" + key + "' from the store"));
                   }
                   const auto* r = view<fs::Record>(body);
                   if (!r)
                     return (*done)(fail(Code::data_loss, "the store answered '" + key + "' with a malformed record"));
                   (*done)(r->value() ? Buffer(Bytes(r->value()->data(), r->value()->size())) : Buffer());
                 });
}

struct ModuleStore::Listing {
  std::string prefix;
  Function<void(std::string_view, Bytes)> each;
  Function<void(Status)> done;
  std::string last;  // key told; a second asking goes on after it
  bool malformed = false;
};

void ModuleStore::list(std::string prefix, Function<void(std::string_view, Bytes)> each, Function<void(Status)> done) {
  ask(std::make_shared<Listing>(Listing{std::move(prefix), std::move(each), std::move(done), {}, false}),
      loop_ ? loop_->now() : base::Instant(0));
}

void ModuleStore::ask(std::shared_ptr<Listing> state, base::Instant since) {
  fs::ListT l;
  l.prefix = state->prefix;
  l.after = state->last;
  instance_.call(
      static_cast<std::uint32_t>(fs::Method::LIST), pack(l), [self = self_, state, since](gantry_code code, Bytes body) {
        if (!*self) return;
        if (code < 0) {
          const Error error = unpack_error(code, body);
          ModuleStore& s = **self;
          if (s.later(error, since, [&s, state, since] { s.ask(state, since); })) return;
          return state->done(explain(error, "list the store"));
        }
        if (!body.empty()) {
          if (const auto* rs = view<fs::Records>(body)) {
            if (rs->records())
              for (const auto* r : *rs->records()) {
                state->last = text(r->key());
                state->each(text(r->key()), r->value() ? Bytes(r->value()->data(), r->value()->size()) : Bytes());
              }
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
