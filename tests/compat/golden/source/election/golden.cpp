// Elects whoever contends first. Streams that run until they are cancelled, and one that is dropped.
#include <gantry/election.hpp>

#include <map>

namespace {

using namespace gantry;

class Golden final : public Election {
 public:
  void contend(Request<fb::election::Candidate> r, Responder out) override {
    fb::election::LeadershipT l;
    l.elected = leader_.address.empty();
    if (l.elected) {
      leader_.address = text(r->address());
      leader_.id = text(r->id());
      leader_.hostname = text(r->hostname());
      leader_.epoch = ++epoch_;
    }
    l.epoch = epoch_;
    const Buffer b = pack(l);
    out.more(Bytes(b));
    open_.emplace(out.token(), std::move(out));
    tell();
  }
  void watch(Responder out) override {
    const Buffer b = pack(leader_);
    out.more(Bytes(b));
    watchers_.emplace(out.token(), std::move(out));
  }
  void cancelled(std::uint64_t token) override {
    if (const auto it = open_.find(token); it != open_.end()) {
      it->second.fail(fail(Code::cancelled, "no longer a candidate"));
      open_.erase(it);
      leader_ = {};
      tell();
    }
    watchers_.erase(token);  // dropping the responder answers CANCELLED
  }
  Task<Status> stop() override {
    for (auto& [token, out] : watchers_) out.complete();
    watchers_.clear();
    open_.clear();
    co_return ok;
  }

 private:
  void tell() {
    const Buffer b = pack(leader_);
    for (auto& [token, out] : watchers_) out.more(Bytes(b));
  }
  std::map<std::uint64_t, Responder> open_, watchers_;
  fb::election::LeaderT leader_;
  std::uint64_t epoch_ = 0;
};

}  // namespace

GANTRY_MODULE(Golden, "golden")
