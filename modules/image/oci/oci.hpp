// Module image/oci: images of Docker and OCI registries, layouts and archives as stacks of directories.
#pragma once

#include "pull.hpp"

#include <gantry/image.hpp>

#include <atomic>
#include <list>
#include <map>
#include <memory>
#include <set>
#include <thread>

namespace gantry::image_oci {

class OciImages final : public Images {
 public:
  ~OciImages() override;
  Task<Status> configure(Settings settings) override;
  Task<Status> start() override;
  Task<Status> stop() override;
  Task<Result<fb::HealthT>> health() override;
  void cancelled(std::uint64_t token) override;
  void pull(Request<fb::image::Pull> request, Responder responder) override;
  Task<Status> release(Request<fb::image::Release> request) override;
  Task<Result<fb::image::ImageT>> inspect(Request<fb::image::Inspect> request) override;
  Task<Result<fb::image::ImagesT>> list(Request<fb::image::List>) override;
  Task<Result<fb::image::PrunedT>> prune(Request<fb::image::Prune> request) override;
  Task<Result<fb::image::RecoveredT>> recover(Request<fb::image::Recover> request) override;

 private:
  struct Collecting {
    double headroom = 0;
    std::chrono::nanoseconds interval{};
    std::set<std::string> keep;  // names in full
  };
  Result<PullOptions> options_from(const Settings& settings) const;
  Task<void> pulling(PullRequest request, std::shared_ptr<Responder> responder);
  Task<void> collect();
  void collect_later();
  Result<std::set<std::string>> names_in_full(const std::vector<std::string>& names) const;

  // Pulls take minutes and may be many: they have threads of their own, so that the host's pool stays free for what is short.
  template <class F>
  Task<std::invoke_result_t<F&>> on_thread(F work);
  std::list<std::thread> threads_;

  PullOptions options_;
  Collecting collecting_;
  std::shared_ptr<Store> store_;
  std::shared_ptr<Traffic> traffic_;
  std::string directory_;
  std::map<std::uint64_t, std::shared_ptr<std::atomic<bool>>> running_;
  struct Running {
    std::shared_ptr<std::atomic<bool>> cancel;
    std::vector<Promise<bool>> over;  // who waits for its end
  };
  std::map<std::string, Running> pulls_;  // by container
  std::optional<Promise<bool>> drained_;
  std::shared_ptr<std::atomic<bool>> stopping_ = std::make_shared<std::atomic<bool>>(false);
  std::uint64_t timer_ = 0;
  bool collecting_now_ = false;
  std::string degraded_;
  Metric pulled_, failed_, received_, removed_;
};

}  // namespace gantry::image_oci
