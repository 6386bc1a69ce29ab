// The Marathon-compatible service framework as a module: the core between the host's services. See README.md.
#pragma once
#include <gantry/store_generated.h>
#include <gantry/framework.hpp>

#include "api.hpp"
#include "events.hpp"
#include "prober.hpp"

namespace gantry::framework_services {

class Services final : public Framework {
 public:
  Services();
  ~Services() override;

  Task<Status> configure(Settings settings) override;
  Task<Status> start() override;
  Task<Status> stop() override;
  Task<Result<fb::HealthT>> health() override;

  [[nodiscard]] const Core& core() const { return *core_; }

 private:
  struct Reply {
    std::uint64_t request;
    ApiReply reply;
  };
  // What waits for one commit: the records, and everything that may leave only after it.
  struct Batch {
    Out out;
    std::vector<Reply> replies;
    [[nodiscard]] bool empty() const { return out.empty() && replies.empty(); }
  };

  template <class F>
  void step(F&& event) {
    core_->at(host().now(), static_cast<Millis>(host().wall_ns() / 1000000));
    event();
    after();
  }
  void after();
  void rearm();
  void pump();
  struct Commit;
  void commit(Batch batch);
  void commit_next(std::shared_ptr<Commit> work);
  void release(Batch batch);
  void send(fb::CallT c);

  Task<Status> load();
  void resubscribe(Nanos after);
  void open_subscription();
  void on_event(gantry_code code, Bytes bytes, std::uint64_t generation);

  Task<Status> listen();
  void on_request(Bytes bytes);
  void respond(std::uint64_t request, ApiReply reply);
  void heartbeat();

  Options options_;
  ApiInfo info_;
  fb::FrameworkInfoT framework_;
  std::string listen_address_, realm_, role_;
  bool insecure_ = false;
  std::size_t health_limit_ = 256;

  std::unique_ptr<Core> core_;
  std::unique_ptr<Api> api_;
  std::unique_ptr<Prober> prober_;
  std::unique_ptr<EventHub> hub_;
  Batch waiting_;
  bool committing_ = false, settle_posted_ = false, stopping_ = false, subscribed_ = false;
  std::string store_trouble_, cluster_trouble_;
  std::uint64_t timer_ = 0, subscription_ = 0, listener_ = 0, generation_ = 0;
  Nanos armed_{}, retry_delay_{};
};

}  // namespace gantry::framework_services
