// Keeps a Cluster up to date: follows the host service STATE, and follows anew whenever a stream ends.
#pragma once

#include "cluster.hpp"

#include <gantry/host.hpp>

#include <chrono>

namespace gantry::gateway_mesos {

class Follower {
 public:
  explicit Follower(Host& host) : host_(host) {}
  void start();
  void stop();
  // Runs after each chunk, and when the cluster is lost from sight (whole() is then false).
  void on_change(Function<void()> fn) { on_change_ = std::move(fn); }
  [[nodiscard]] Cluster& cluster() { return cluster_; }
  [[nodiscard]] const Cluster& cluster() const { return cluster_; }

 private:
  void open();
  void arrived(gantry_code code, Bytes bytes, std::uint64_t generation);
  void again(std::chrono::nanoseconds after);

  Host& host_;
  Cluster cluster_;
  Function<void()> on_change_;
  std::uint64_t token_ = 0, timer_ = 0, generation_ = 0, stream_ = 0;
  bool stopped_ = true;
};

}  // namespace gantry::gateway_mesos
