#include "@NAME_ID@.hpp"

namespace @NAME_ID@ {

using namespace gantry;
namespace fs = gantry::fb::store;

namespace {

constexpr std::size_t kLongestKey = 480, kLargestValue = 1 << 20, kChunk = 256 << 10;

}  // namespace

bool valid_key(std::string_view key) {
  if (key.empty() || key.size() > kLongestKey || key.front() == '/' || key.back() == '/' || key.find("//") != std::string_view::npos) return false;
  for (const char c : key) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (!letter && std::string_view("._~%-/").find(c) == std::string_view::npos) return false;
  }
  return true;
}

Task<Status> @CLASS@::configure(Settings settings) {
  dir_ = settings.work_dir();  // a directory of this instance's own
  sync_ = settings.flag("sync");
  co_return ok;
}

Task<Status> @CLASS@::start() {
  log_ = std::make_shared<LogFile>();
  // Nothing else runs before start is answered, so the pool may fill our records.
  auto opening = host().offload([this, log = log_, path = dir_ + "/log"] { return log->open(path, [this](std::string_view f) { return replay(f); }); });
  GANTRY_CO_CHECK(co_await std::move(opening));
  stopped_ = false;
  co_return ok;
}

// Accepted commits are finished, later calls refused.
Task<Status> @CLASS@::stop() {
  stopped_ = true;
  if (writing_) co_await idle_.get();
  log_.reset();
  co_return ok;
}

Task<Result<fs::RecordT>> @CLASS@::get(Request<fs::Get> request) {
  if (stopped_) co_return fail(Code::unavailable, "the store has stopped");
  const std::string key{text(request->key())};
  if (!valid_key(key)) co_return fail(Code::invalid_argument, "\"" + key.substr(0, 80) + "\" is no key");
  const auto it = records_.find(key);
  if (it == records_.end()) co_return fail(Code::not_found, "there is no record " + key);
  fs::RecordT out;
  out.key = key;
  out.value = it->second.bytes;
  out.version = it->second.version;
  co_return out;
}

void @CLASS@::list(Request<fs::List> request, Responder responder) {
  if (stopped_) return responder.fail(fail(Code::unavailable, "the store has stopped"));
  const std::string prefix{text(request->prefix())}, after{text(request->after())};
  fs::RecordsT chunk;
  std::size_t size = 0;
  std::uint32_t left = request->limit();
  auto it = after >= prefix ? records_.upper_bound(after) : records_.lower_bound(prefix);
  for (; it != records_.end() && it->first.starts_with(prefix); ++it) {
    auto r = std::make_unique<fs::RecordT>();
    r->key = it->first;
    r->version = it->second.version;
    if (!request->keys_only()) r->value = it->second.bytes;
    size += r->key.size() + r->value.size() + 32;
    chunk.records.push_back(std::move(r));
    if (size >= kChunk) {
      responder.more(pack(chunk));
      chunk.records.clear();
      size = 0;
    }
    if (left != 0 && --left == 0) break;
  }
  if (!chunk.records.empty()) responder.more(pack(chunk));
  responder.complete();
}

// Commits that arrive while the disk is busy go to it together: one sync for all. Each is answered after that, never before.
Task<Result<fs::CommittedT>> @CLASS@::commit(Request<fs::Commit> request) {
  if (stopped_) co_return fail(Code::unavailable, "the store has stopped");
  Waiting w;
  request->UnPackTo(&w.commit);
  const Promise<Outcome> answer = w.answer;
  queue_.push_back(std::move(w));
  if (!writing_) spawn(write_batches());
  co_return co_await answer.get();
}

Task<void> @CLASS@::write_batches() {
  writing_ = true;
  while (!queue_.empty()) {
    const std::vector<Waiting> batch = std::exchange(queue_, {});
    std::vector<Outcome> outcomes;
    Changes changes;
    std::string frames;
    for (const auto& w : batch) {
      const std::uint64_t before = version_;
      outcomes.push_back(plan(w.commit, changes));
      if (!outcomes.back()) continue;
      const Buffer body = pack(w.commit);
      frames += LogFile::framed(std::string(reinterpret_cast<const char*>(&before), sizeof before)
                                    .append(reinterpret_cast<const char*>(body.data()), body.size()));
    }
    Status written;
    if (!frames.empty()) {
      auto writing = host().offload([log = log_, frames, sync = sync_] { return log->append(frames, sync); });
      written = co_await std::move(writing);
    }
    if (written) apply(std::move(changes));
    for (std::size_t i = 0; i < batch.size(); ++i) batch[i].answer.set(written || !outcomes[i] ? std::move(outcomes[i]) : Outcome(written.error()));
  }
  writing_ = false;
  idle_.set(true);
  idle_ = {};
}

@CLASS@::Outcome @CLASS@::plan(const fs::CommitT& commit, Changes& changes) {
  Changes mine;
  fs::CommittedT out;
  std::uint64_t version = version_;
  for (const auto& op : commit.ops) {
    if (!valid_key(op->key)) return fail(Code::invalid_argument, "\"" + op->key.substr(0, 80) + "\" is no key");
    if (op->value.size() > kLargestValue) return fail(Code::invalid_argument, "the value of " + op->key + " is larger than 1 MiB");
    // The newest state: of this commit, of those before it in the batch, on disk.
    std::uint64_t now = 0;
    if (const auto m = mine.find(op->key); m != mine.end()) now = m->second ? m->second->version : 0;
    else if (const auto c = changes.find(op->key); c != changes.end()) now = c->second ? c->second->version : 0;
    else if (const auto r = records_.find(op->key); r != records_.end()) now = r->second.version;
    if (op->expected && *op->expected != now)
      return fail(Code::aborted, op->key + " has version " + std::to_string(now) + ", expected was " + std::to_string(*op->expected));
    switch (op->type) {
      case fs::OpType::PUT: mine[op->key] = Value{op->value, now = ++version}; break;
      case fs::OpType::DELETE: mine[op->key] = std::nullopt, now = 0; break;
      case fs::OpType::CHECK: break;
      default: return fail(Code::invalid_argument, "operation on " + op->key + " is none of PUT, DELETE, CHECK");
    }
    out.versions.push_back(now);
  }
  version_ = version;
  for (auto& [key, change] : mine) changes[key] = std::move(change);
  return out;
}

void @CLASS@::apply(Changes changes) {
  for (auto& [key, change] : changes) {
    if (change) records_[key] = std::move(*change);
    else records_.erase(key);
  }
}

// A frame is the version before it and the commit as it came; what it did then it does again.
bool @CLASS@::replay(std::string_view frame) {
  if (frame.size() < sizeof version_) return false;
  frame.copy(reinterpret_cast<char*>(&version_), sizeof version_);
  const Buffer aligned(as_bytes(frame.substr(sizeof version_)));
  const auto commit = unpack<fs::Commit>(aligned);
  Changes changes;
  if (!commit || !plan(*commit, changes)) return false;
  apply(std::move(changes));
  return true;
}

}  // namespace @NAME_ID@
