// One thread that waits on all containers' out-of-memory descriptors.
#pragma once

#include "hierarchy.hpp"

#include <functional>
#include <map>
#include <mutex>
#include <thread>

namespace gantry::isolator_cgroups {

class OomListener {
 public:
  // `event` runs on the listener's thread.
  explicit OomListener(std::function<void(std::string id)> event) : event_(std::move(event)) {}
  OomListener(const OomListener&) = delete;
  OomListener& operator=(const OomListener&) = delete;
  ~OomListener() { stop(); }

  // Takes the descriptor. Starts the thread when it is the first.
  Status add(const std::string& id, OomSource source);
  void remove(const std::string& id);  // closes the descriptor; an event already under way may still come
  void stop();

 private:
  void run();
  std::function<void(std::string)> event_;
  std::mutex mutex_;
  std::map<std::string, std::uint64_t> keys_;
  struct Watched {
    std::string id;
    int fd;
  };
  std::map<std::uint64_t, Watched> watched_;  // by key: what epoll gives back; never used twice
  std::uint64_t last_key_ = 0;                // key 0 is the wake-up
  int epoll_ = -1, wake_ = -1;
  std::thread thread_;
};

}  // namespace gantry::isolator_cgroups
