// Isolator `gpu`: whole NVIDIA cards for containers. See README.md.
#pragma once

#include "driver_files.hpp"
#include "ledger.hpp"
#include "nvml.hpp"

#include <gantry/isolator.hpp>

#include <memory>
#include <optional>

namespace gantry::isolator_gpu {

// How many cards the resources ask for. INVALID_ARGUMENT for a part of one.
[[nodiscard]] Result<unsigned> cards_wanted(const std::vector<std::unique_ptr<fb::ResourceT>>& resources);

class Gpu final : public Isolator {
 public:
  Task<Status> configure(Settings) override;
  Task<Status> start() override;
  Task<Status> stop() override;
  Task<Result<fb::HealthT>> health() override;

  Task<Result<fb::isolator::RecoveredT>> recover(Request<fb::isolator::Recover>) override;
  Task<Result<fb::isolator::PreparedT>> prepare(Request<fb::isolator::Prepare>) override;
  Task<Status> update(Request<fb::isolator::Update>) override;
  Task<Result<fb::isolator::UsagesT>> usage(Request<fb::isolator::UsageRequest>) override;
  Task<Status> cleanup(Request<fb::isolator::Cleanup>) override;

 private:
  Task<void> look();  // at the cards, now
  void look_later();
  [[nodiscard]] bool may_be_given(const Card&) const;
  Status add_nodes(const std::vector<std::string>& uuids, bool image, fb::isolator::PreparedT&) const;
  void add_driver_files(const DriverFiles&, fb::isolator::PreparedT&) const;

  std::vector<std::string> chosen_;  // of the settings; empty: all
  std::string library_, dev_;
  bool driver_files_ = true;
  std::string library_cache_;
  std::vector<std::string> programs_;
  std::chrono::nanoseconds interval_{};

  std::shared_ptr<Nvml> nvml_;  // nullptr: no driver, or one that does not work
  std::string problem_;         // a driver that does not work; empty also if there is none
  std::vector<Card> cards_;     // those that may be given, as last seen
  std::string containers_;      // directory of the ledger
  Ledger ledger_;
  std::uint64_t timer_ = 0;
  bool stopping_ = false;
  std::optional<Promise<bool>> looking_;  // set while look() runs
};

}  // namespace gantry::isolator_gpu
