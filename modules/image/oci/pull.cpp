#include "pull.hpp"

#include "digest.hpp"
#include "local.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <thread>

namespace gantry::image_oci {
namespace {

constexpr auto kProgressInterval = std::chrono::milliseconds(250);

bool exists(const std::string& path) {
  struct stat st {};
  return ::stat(path.c_str(), &st) == 0;
}

// A layer that leans on those below is another one on others.
std::string leaning_key(const std::string& chain) { return digest_of("on " + chain); }

// A layer of this image on its way.
struct Layer {
  Descriptor descriptor;
  std::string diff_id;    // empty for schema 1, until it is unpacked
  std::string leaning;    // key, if it turns out to lean
  std::string key;        // set: it is in the store
  std::string temporary;  // set: it is unpacked, but has to be completed by those below
  Unpacked unpacked;
  std::atomic<LayerProgress::State> state{LayerProgress::State::waiting};
  std::atomic<std::uint64_t> done{0};
};

class Pulling {
 public:
  Pulling(const PullOptions& options, std::shared_ptr<Store> store, Traffic& traffic, Source& source, const Cancelled& cancelled)
      : options_(options), store_(std::move(store)), traffic_(traffic), source_(source), outer_(cancelled), pins_(store_) {
    cancelled_ = [this] { return failed_.load(std::memory_order_relaxed) || outer_(); };
  }
  ~Pulling() {
    for (const auto& l : layers_)
      if (!l->temporary.empty()) store_->abandon(l->temporary);
  }

  // The keys of the layers, which stay in the store as long as this object.
  Result<std::vector<std::string>> run(const Resolved& image, const OnProgress& on_progress) {
    std::string chain;
    for (std::size_t i = 0; i < image.layers.size(); ++i) {
      auto l = std::make_unique<Layer>();
      l->descriptor = image.layers[i];
      if (!image.config.diff_ids.empty()) {
        l->diff_id = image.config.diff_ids[i];
        chain = chain_id(chain, l->diff_id);
        l->leaning = leaning_key(chain);
        if (in_store(*l)) l->state = LayerProgress::State::shared;
      }
      layers_.push_back(std::move(l));
    }
    const auto missing =
        static_cast<std::size_t>(std::count_if(layers_.begin(), layers_.end(), [](const auto& l) { return l->key.empty(); }));
    bring_all(std::min<std::size_t>(missing, options_.parallel), on_progress);
    if (!problem_) return std::move(problem_).error();
    return finish();
  }

 private:
  bool in_store(Layer& l) {
    for (const std::string* key : {&l.diff_id, &l.leaning})
      if (!key->empty() && store_->find(*key, pins_)) {
        l.key = *key;
        l.done = l.descriptor.size;
        return true;
      }
    return false;
  }

  void bring_all(std::size_t threads, const OnProgress& on_progress) {
    std::atomic<std::size_t> next{0};
    std::size_t running = threads;
    std::vector<std::thread> workers;
    const auto work = [&] {
      for (std::size_t i = next++; i < layers_.size() && !cancelled_(); i = next++) {
        Layer& l = *layers_[i];
        if (!l.key.empty()) continue;
        Status s;
        try {
          s = bring(l);
        } catch (const std::exception& e) {
          s = fail(Code::resource_exhausted, e.what());
        }
        if (s) continue;
        const std::lock_guard lock(mutex_);
        if (!problem_) continue;
        problem_ = std::move(s).error().because("layer " + l.descriptor.digest);
        failed_ = true;
      }
      const std::lock_guard lock(mutex_);
      --running;
      changed_.notify_all();
    };
    for (std::size_t i = 0; i < threads; ++i) {
      try {
        workers.emplace_back(work);
      } catch (const std::exception& e) {  // fewer will do
        const std::lock_guard lock(mutex_);
        running -= threads - i;
        if (i == 0) problem_ = fail(Code::resource_exhausted, std::string("start a thread: ") + e.what());
        break;
      }
    }
    std::vector<LayerProgress> last;
    for (bool over = false; !over;) {
      {
        std::unique_lock lock(mutex_);
        changed_.wait_for(lock, kProgressInterval, [&] { return running == 0; });
        over = running == 0;
      }
      std::vector<LayerProgress> now;
      for (const auto& l : layers_) now.push_back({l->descriptor.digest, l->state, l->done, l->descriptor.size});
      if (now != last && on_progress) on_progress(now);
      last = std::move(now);
    }
    for (std::thread& t : workers) t.join();
    if (problem_ && outer_()) problem_ = cancelled_error();
  }

  // The store's pins are of all workers.
  template <class F>
  bool pins_locked(F f) {
    const std::lock_guard lock(pins_mutex_);
    return f();
  }

  Status bring(Layer& l) {
    // The same layer twice in one image, or in two: the second one waits and finds it.
    GANTRY_TRY(const Traffic::Turn turn, traffic_.take(l.descriptor.digest, cancelled_));
    if (pins_locked([&] { return in_store(l); })) {
      l.state = LayerProgress::State::shared;
      return ok;
    }
    l.state = LayerProgress::State::transferring;
    const std::string path = store_->blob_path(l.descriptor.digest);
    store_->blob_in_use(path, true);
    Status s;
    for (bool again = true; again;) {
      again = false;
      s = attempt(l, path, again);
    }
    store_->blob_in_use(path, false);
    if (s) l.state = LayerProgress::State::complete;
    return s;
  }

  Status attempt(Layer& l, const std::string& path, bool& again) {
    GANTRY_TRY(const auto transfer, source_.open(l.descriptor, path));
    GANTRY_TRY(const std::string temporary, store_->begin());
    std::atomic<bool> give_up{false};
    const Cancelled stop = [&] { return give_up.load(std::memory_order_relaxed) || cancelled_(); };
    std::thread bringing;
    if (source_.remote()) {
      bringing = std::thread([&] {
        try {
          source_.bring(l.descriptor, *transfer, stop);
        } catch (const std::exception& e) {
          transfer->end(fail(Code::resource_exhausted, e.what()));
        }
      });
    }
    const bool check_packed = !source_.remote() && l.descriptor.digest != l.diff_id;
    Hasher packed(algorithm_of(l.descriptor.digest));
    std::uint64_t read = 0;
    const Pull more = [&](char* data, std::size_t size) -> Result<std::size_t> {
      GANTRY_TRY(const std::size_t n, transfer->read(data, size, stop));
      if (check_packed) packed.add(data, n);
      l.done = source_.remote() ? transfer->received() : read += n;
      return n;
    };
    Result<Unpacked> unpacked = fail(Code::internal, "not begun");
    try {
      unpacked = unpack(more, temporary, options_.limits, stop, l.diff_id.empty() ? "sha256" : algorithm_of(l.diff_id));
    } catch (const std::exception& e) {
      unpacked = fail(Code::resource_exhausted, e.what());
    }
    // Bytes that are no archive are, more often than not, other bytes than they should be: the digest knows.
    if (!unpacked && unpacked.error().code != Code::invalid_argument) give_up = true;
    Status brought = transfer->finish(cancelled_);
    if (bringing.joinable()) bringing.join();
    if (brought && unpacked) l.done = std::max<std::uint64_t>(l.done, transfer->received());
    Status s = verdict(l, unpacked, brought);
    if (s && check_packed) {
      char rest[16384];
      for (Result<std::size_t> n = more(rest, sizeof rest); n && *n > 0;) n = more(rest, sizeof rest);  // behind the archive's end
      if (const std::string digest = packed.digest(); digest != l.descriptor.digest)
        s = fail(Code::data_loss, "its bytes are not what the digest says: they have " + digest);
    }
    if (!s) {
      store_->abandon(temporary);
      if (s.error().code == Code::data_loss && source_.remote()) {
        ::unlink(path.c_str());
        again = transfer->had() > 0;  // what was there from before may have been the bad part
      }
      return s;
    }
    if (source_.remote()) ::unlink(path.c_str());
    l.unpacked = std::move(*unpacked);
    if (l.unpacked.leans()) {
      l.temporary = temporary;
      return ok;
    }
    if (l.diff_id.empty()) l.diff_id = l.unpacked.diff_id;
    s = commit(temporary, l.diff_id, l.unpacked.size);
    if (s) l.key = l.diff_id;
    return s;
  }

  static Status verdict(const Layer& l, const Result<Unpacked>& unpacked, const Status& brought) {
    if (!brought && brought.error().code != Code::cancelled) return brought;
    if (!unpacked) return unpacked.error();
    if (!brought) return brought;
    if (!l.diff_id.empty() && unpacked->diff_id != l.diff_id) {
      return fail(Code::data_loss,
                  "unpacked it is not what the image's configuration says: expected " + l.diff_id + ", got " + unpacked->diff_id);
    }
    return ok;
  }

  Status commit(const std::string& temporary, const std::string& key, std::uint64_t size) {
    Store::Pins pins(store_);
    Status s = store_->commit(temporary, key, size, pins);
    if (!s)
      store_->abandon(temporary);
    else if (!pins_locked([&] { return store_->find(key, pins_); }))
      s = fail(Code::internal, "a layer is gone right after it came");
    return s;
  }

  // From below to above: what leans needs what it leans on.
  Result<std::vector<std::string>> finish() {
    std::vector<std::string> keys, below;
    std::string chain;
    for (const auto& l : layers_) {
      chain = chain_id(chain, l->diff_id.empty() ? l->unpacked.diff_id : l->diff_id);
      if (!l->temporary.empty()) {
        if (outer_()) return cancelled_error();
        l->key = leaning_key(chain);
        if (Status s = complete(l->unpacked, l->temporary, below); !s) return std::move(s).error().because("layer " + l->descriptor.digest);
        const std::string temporary = std::exchange(l->temporary, {});
        if (Status s = commit(temporary, l->key, l->unpacked.size); !s) return std::move(s).error();
      }
      keys.push_back(l->key);
      below.push_back(store_->path(l->key));
    }
    return keys;
  }

  const PullOptions& options_;
  const std::shared_ptr<Store> store_;
  Traffic& traffic_;
  Source& source_;
  const Cancelled& outer_;
  Cancelled cancelled_;
  std::atomic<bool> failed_{false};
  std::mutex mutex_;  // problem_, and the number of running workers
  std::condition_variable changed_;
  Status problem_;
  std::mutex pins_mutex_;
  Store::Pins pins_;
  std::vector<std::unique_ptr<Layer>> layers_;
};

// Whoever may run a task may name a file; which ones the daemon opens for him is the operator's decision.
Status check_local(const std::string& path, const PullOptions& o) {
  std::error_code ec;
  const auto real = std::filesystem::weakly_canonical(path, ec);
  std::vector<std::string> directories = o.local;
  if (!o.archives.empty()) directories.push_back(o.archives);
  for (const std::string& each : directories) {
    const auto relative = ec ? std::filesystem::path() : real.lexically_relative(std::filesystem::weakly_canonical(each, ec));
    if (!ec && !relative.empty() && *relative.begin() != "..") return ok;
  }
  return fail(Code::permission_denied, "files of the agent are images only below the directories of the setting `local`");
}

// The archives directory, then the registry.
Result<std::unique_ptr<Source>> source_of(const PullRequest& request, const PullOptions& o, const std::string& spool,
                                          const Cancelled& cancelled) {
  const auto archive = [&](const std::string& path, std::string tag, bool must) -> Result<std::unique_ptr<Source>> {
    GANTRY_TRY(auto files, Files::at(path, spool, o.limits.max_size, cancelled));
    return std::unique_ptr<Source>(std::make_unique<Archive>(std::move(files), std::move(tag), must));
  };
  if (is_local(request.name)) {
    GANTRY_TRY(const LocalName name, parse_local(request.name));
    GANTRY_CHECK(check_local(name.path, o));
    return archive(name.path, name.tag, true);
  }
  GANTRY_TRY(const Reference reference, parse_reference(request.name, o.default_registry));
  if (!o.archives.empty()) {
    const std::string base = o.archives + "/";
    for (const std::string& name : {reference.familiar(), reference.familiar() + ":" + reference.tag,
                                    reference.repository + ":" + reference.tag, reference.repository, reference.text()})
      for (const char* ending : {".tar", ".tar.gz", ".tar.zst", ""})
        if (const std::string path = base + name + ending; exists(path) && (*ending || exists(path + "/index.json")))
          return archive(path, reference.text(), false);
  }
  std::vector<Credentials> accounts;
  if (!request.config.empty()) {
    GANTRY_TRY(auto c, Credentials::parse(request.config, "the image's registry configuration", false));
    accounts.push_back(std::move(c));
  }
  if (!o.credentials.empty()) {
    GANTRY_TRY(const std::string text, read_file(o.credentials, 1 << 20));
    GANTRY_TRY(auto c, Credentials::parse(text, o.credentials, true));
    accounts.push_back(std::move(c));
  }
  return std::unique_ptr<Source>(std::make_unique<Registry>(reference, o.registry, request.account, std::move(accounts)));
}

Result<ImageRecord> pull_once(const PullRequest& request, const PullOptions& o, const std::shared_ptr<Store>& store, Traffic& traffic,
                              const std::string& name, const OnProgress& on_progress, const Cancelled& cancelled, std::uint64_t now_ns) {
  std::optional<ImageRecord> known = store->image(name);
  if (known && request.policy != Policy::always) {
    GANTRY_CHECK(store->use(request.container, *known, now_ns));
    return std::move(*known);
  }
  if (request.policy == Policy::never) return fail(Code::not_found, "it is not on this agent, and may not be pulled (policy NEVER)");
  GANTRY_TRY(const std::string spool, store->begin());
  ::rmdir(spool.c_str());  // a free name
  GANTRY_TRY(const auto source, source_of(request, o, spool, cancelled));
  GANTRY_TRY(Resolved resolved, source->resolve(o.platform, cancelled));
  ImageRecord record{name, resolved.config_digest, resolved.digest, resolved.config_text, {}, now_ns, resolved.config};
  if (known && known->id == record.id) {
    record.layers = known->layers;
    GANTRY_CHECK(store->put(record));
    GANTRY_CHECK(store->use(request.container, record, now_ns));
    return record;
  }
  Pulling pulling(o, store, traffic, *source, cancelled);
  GANTRY_TRY(record.layers, pulling.run(resolved, on_progress));
  GANTRY_CHECK(store->put(record));
  GANTRY_CHECK(store->use(request.container, record, now_ns));
  return record;
}

}  // namespace

Result<std::string> full_name(const std::string& name, const std::string& default_registry) {
  if (is_local(name)) {
    GANTRY_TRY(const LocalName local, parse_local(name));
    return "file://" + local.path + (local.tag.empty() ? "" : ":" + local.tag);
  }
  GANTRY_TRY(const Reference reference, parse_reference(name, default_registry));
  return reference.text();
}

void Traffic::set_parallel(unsigned parallel) {
  const std::lock_guard lock(mutex_);
  parallel_ = parallel;
  changed_.notify_all();
}

Result<Traffic::Turn> Traffic::take(const std::string& digest, const Cancelled& cancelled) {
  std::unique_lock lock(mutex_);
  // Who waits for a layer takes no place: the one who brings it needs it.
  while (under_way_.count(digest) != 0 || busy_ >= parallel_) {
    changed_.wait_for(lock, std::chrono::milliseconds(100));
    if (cancelled()) return cancelled_error();
  }
  under_way_.insert(digest);
  ++busy_;
  return Turn(this, digest);
}

Traffic::Turn::~Turn() {
  if (!traffic_) return;
  const std::lock_guard lock(traffic_->mutex_);
  traffic_->under_way_.erase(digest_);
  --traffic_->busy_;
  traffic_->changed_.notify_all();
}

Result<ImageRecord> pull(const PullRequest& request, const PullOptions& options, const std::shared_ptr<Store>& store, Traffic& traffic,
                         const OnProgress& on_progress, const Cancelled& cancelled, std::uint64_t now_ns) {
  GANTRY_TRY(const std::string name, full_name(request.name, options.default_registry));
  for (int attempt = 0;; ++attempt) {
    auto record = pull_once(request, options, store, traffic, name, on_progress, cancelled, now_ns);
    if (record) return record;
    // It was pruned between being found and being used.
    if (record.error().code == Code::aborted && attempt < 3) continue;
    return std::move(record).error().because("image " + name);
  }
}

}  // namespace gantry::image_oci
