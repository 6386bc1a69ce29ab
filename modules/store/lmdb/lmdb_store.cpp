#include "lmdb_store.hpp"

namespace gantry::store_lmdb {

namespace {
constexpr std::size_t chunk_bytes = 256u << 10;
}

Task<Status> LmdbStore::configure(Settings settings) {
  if (settings.reload()) co_return ok;
  const std::string directory = settings.text("directory").empty() ? settings.work_dir() : settings.text("directory");
  const auto max_size = static_cast<std::uint64_t>(settings.number("max_size"));
  const bool sync = settings.flag("sync");
  auto opening = host().offload([=] { return Environment::open(directory, max_size, sync); });
  GANTRY_CO_TRY(auto env, co_await std::move(opening));
  env_ = std::move(env);
  co_return ok;
}

Task<Status> LmdbStore::stop() {
  // Commits already accepted are finished: their callers may be about to acknowledge them.
  if (draining_) {
    Promise<bool> idle;
    idle_.push_back(idle);
    co_await idle.get();
  }
  env_.reset();
  co_return ok;
}

Task<Result<fb::store::RecordT>> LmdbStore::get(Request<fb::store::Get> request) {
  if (!env_) co_return fail(Code::unavailable, "the store is stopped");
  co_return env_->get(text(request->key()));
}

Task<Result<fb::store::CommittedT>> LmdbStore::commit(Request<fb::store::Commit> request) {
  if (!env_) co_return fail(Code::unavailable, "the store is stopped");
  Waiting waiting;
  request->UnPackTo(&waiting.commit);
  Promise<Result<fb::store::CommittedT>> done = waiting.done;
  queue_.push_back(std::move(waiting));
  if (!draining_) {
    draining_ = true;
    spawn(drain());
  }
  co_return co_await done.get();
}

// Everything that waits goes into one transaction and one sync; what arrives meanwhile forms the next.
Task<void> LmdbStore::drain() {
  while (!queue_.empty()) {
    auto batch = std::make_shared<std::deque<Waiting>>(std::move(queue_));
    queue_.clear();
    auto committing = host().offload([env = env_, batch] {
      std::vector<const fb::store::CommitT*> commits;
      for (const auto& w : *batch) commits.push_back(&w.commit);
      return env->commit(commits);
    });
    auto results = co_await std::move(committing);
    for (std::size_t i = 0; i < batch->size(); ++i) (*batch)[i].done.set(std::move(results[i]));
  }
  draining_ = false;
  for (const auto& idle : std::exchange(idle_, {})) idle.set(true);
}

void LmdbStore::list(Request<fb::store::List> request, Responder responder) {
  if (!env_) return responder.fail(fail(Code::unavailable, "the store is stopped"));
  fb::store::RecordsT chunk;
  std::size_t bytes = 0;
  std::uint32_t left = request->limit() ? request->limit() : ~0u;
  const bool keys_only = request->keys_only();
  const Status done = env_->list(text(request->prefix()), text(request->after()), [&](std::string_view key, Bytes value, std::uint64_t version) {
    auto record = std::make_unique<fb::store::RecordT>();
    record->key = key;
    record->version = version;
    if (!keys_only) record->value.assign(value.begin(), value.end());
    bytes += key.size() + value.size() + 32;
    chunk.records.push_back(std::move(record));
    if (bytes >= chunk_bytes) {
      responder.more(pack(chunk));
      chunk.records.clear();
      bytes = 0;
    }
    return --left > 0;
  });
  if (!done) return responder.fail(done.error());
  if (!chunk.records.empty()) responder.more(pack(chunk));
  responder.complete();
}

}  // namespace gantry::store_lmdb
