#include "tests/sim/sim_store.hpp"

#include <algorithm>

namespace gantry::sim {

using namespace std::chrono_literals;

void SimStore::commit(std::vector<store::Op> ops, Function<void(Status)> done) {
  const bool fails = random_.chance(failures_);
  // The broken guard leaves a wide window, as a write-back cache without a flush would.
  const base::Nanos latency = early_ ? random_.between(1s, 60s) : random_.between(base::Nanos(200us), base::Nanos(20ms));
  last_ = std::max(last_, loop_.now() + latency);
  auto shared = std::make_shared<Function<void(Status)>>(std::move(done));
  if (early_) loop_.post([shared, alive = alive_] {
      if (*alive) (*shared)(ok);
    });
  loop_.at(last_, [this, ops = std::make_shared<std::vector<store::Op>>(std::move(ops)), shared, fails, alive = alive_] {
    if (!*alive) return;  // the machine died: nothing of it landed
    if (!fails || early_) {
      for (const auto& op : *ops) {
        if (op.value) disk_.records[op.key].assign(op.value->data(), op.value->data() + op.value->size());
        else disk_.records.erase(op.key);
      }
    }
    if (!early_) (*shared)(fails ? Status(fail(Code::resource_exhausted, "simulated disk: full")) : Status(ok));
  });
}

void SimStore::get(std::string key, Function<void(Result<Buffer>)> done) {
  auto shared = std::make_shared<Function<void(Result<Buffer>)>>(std::move(done));
  loop_.post([this, key = std::move(key), shared, alive = alive_] {
    if (!*alive) return;
    const auto it = disk_.records.find(key);
    if (it == disk_.records.end()) (*shared)(fail(Code::not_found, "no record " + key));
    else (*shared)(Buffer(Bytes(it->second)));
  });
}

void SimStore::list(std::string prefix, Function<void(std::string_view, Bytes)> each, Function<void(Status)> done) {
  struct Job {
    std::string prefix;
    Function<void(std::string_view, Bytes)> each;
    Function<void(Status)> done;
  };
  auto job = std::make_shared<Job>(Job{std::move(prefix), std::move(each), std::move(done)});
  loop_.post([this, job, alive = alive_] {
    if (!*alive) return;
    for (auto it = disk_.records.lower_bound(job->prefix); it != disk_.records.end() && it->first.starts_with(job->prefix); ++it)
      job->each(it->first, Bytes(it->second));
    job->done(ok);
  });
}

}  // namespace gantry::sim
