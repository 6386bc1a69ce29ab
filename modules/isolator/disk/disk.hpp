// Isolator `disk`: the space of sandboxes and volumes. See README.md.
#pragma once

#include "project.hpp"
#include "shares.hpp"
#include "walk.hpp"

#include <gantry/isolator.hpp>

#include <atomic>
#include <deque>
#include <map>
#include <memory>
#include <optional>

namespace gantry::isolator_disk {

class Disk final : public Isolator {
 public:
  Task<Status> configure(Settings) override;
  Task<Status> start() override;
  Task<Status> stop() override;
  Task<Result<fb::HealthT>> health() override;

  Task<Result<fb::isolator::RecoveredT>> recover(Request<fb::isolator::Recover>) override;
  Task<Result<fb::isolator::PreparedT>> prepare(Request<fb::isolator::Prepare>) override;
  void watch(Request<fb::isolator::Watch>, Responder) override;
  void cancelled(std::uint64_t token) override;
  Task<Status> update(Request<fb::isolator::Update>) override;
  Task<Result<fb::isolator::UsagesT>> usage(Request<fb::isolator::UsageRequest>) override;
  Task<Status> cleanup(Request<fb::isolator::Cleanup>) override;

 private:
  struct Container {
    std::string id, sandbox;
    std::vector<Share> shares;                   // the sandbox first
    std::map<std::string, std::string> volumes;  // path of a share -> where its data lies; fixed before the task can change it
    std::uint32_t project = 0;                   // 0: its sandbox is counted
    std::uint64_t used = 0;                      // of the sandbox, when last looked at
    bool reported = false;
    std::optional<fb::isolator::LimitedT> pending;  // it happened, nobody watches yet
    Responder watcher;
    std::uint64_t timer = 0;
    std::shared_ptr<std::atomic<bool>> gone = std::make_shared<std::atomic<bool>>(false);
  };
  using ContainerPtr = std::shared_ptr<Container>;

  ContainerPtr adopt(const std::string& id, const std::string& sandbox, const fb::TaskInfoT* task);
  Task<Status> give_project(ContainerPtr);  // if the file system has quotas and the settings want them
  [[nodiscard]] std::uint64_t project_limit(const Container&) const;
  Task<Status> apply_limit(ContainerPtr);
  Task<Status> take_project_back(ContainerPtr);

  void look_later(const ContainerPtr&);
  void look(ContainerPtr);  // when there is room for one more
  Task<void> measure(ContainerPtr);
  void judge(Container&, const Share&, std::uint64_t bytes);

  bool enforce_ = false, kill_ = false;
  std::string method_;
  std::chrono::nanoseconds interval_{};
  std::size_t parallel_ = 2;
  std::uint32_t first_project_ = 0, last_project_ = 0, next_project_ = 0;

  std::map<std::string, ContainerPtr> containers_;
  std::set<std::uint32_t> projects_;  // of these, and those just being given
  std::string problem_;               // for health
  std::size_t looking_ = 0;
  std::deque<ContainerPtr> waiting_;
  bool stopping_ = false;
  std::optional<Promise<bool>> idle_;  // set by stop() while somebody looks
};

}  // namespace gantry::isolator_disk
