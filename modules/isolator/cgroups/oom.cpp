#include "oom.hpp"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>

namespace gantry::isolator_cgroups {

Status OomListener::add(const std::string& id, OomSource source) {
  const std::lock_guard lock(mutex_);
  if (epoll_ < 0) {
    epoll_ = ::epoll_create1(EPOLL_CLOEXEC);
    wake_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    epoll_event wake{};
    wake.events = EPOLLIN;
    wake.data.u64 = 0;
    if (epoll_ < 0 || wake_ < 0 || ::epoll_ctl(epoll_, EPOLL_CTL_ADD, wake_, &wake) != 0) {
      ::close(source.fd);
      return fail(Code::resource_exhausted, std::string("cannot watch for out-of-memory: ") + std::strerror(errno));
    }
    // The daemon's signals are not for this thread.
    sigset_t all, before;
    sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    thread_ = std::thread([this] { run(); });
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }
  const std::uint64_t key = ++last_key_;
  epoll_event e{};
  e.events = source.events;
  e.data.u64 = key;
  if (::epoll_ctl(epoll_, EPOLL_CTL_ADD, source.fd, &e) != 0) {
    ::close(source.fd);
    return fail(Code::resource_exhausted, std::string("cannot watch for out-of-memory: ") + std::strerror(errno));
  }
  keys_[id] = key;
  watched_[key] = {id, source.fd};
  return ok;
}

void OomListener::remove(const std::string& id) {
  const std::lock_guard lock(mutex_);
  const auto it = keys_.find(id);
  if (it == keys_.end()) return;
  const auto w = watched_.find(it->second);
  ::close(w->second.fd);  // leaves the epoll set with it
  watched_.erase(w);
  keys_.erase(it);
}

void OomListener::run() {
  for (;;) {
    epoll_event events[16];
    const int n = ::epoll_wait(epoll_, events, 16, -1);
    for (int i = 0; i < n; ++i) {
      const std::uint64_t key = events[i].data.u64;  // a copy: epoll_event is packed
      if (key == 0) return;
      std::string id;
      {
        const std::lock_guard lock(mutex_);
        const auto it = watched_.find(key);
        if (it == watched_.end()) continue;
        // Read it, or the same event comes again: an eventfd's count, or memory.events from its start.
        char text[512];
        if (::pread(it->second.fd, text, sizeof text, 0) < 0 && errno == ESPIPE) (void)!::read(it->second.fd, text, 8);
        id = it->second.id;
      }
      event_(std::move(id));
    }
  }
}

void OomListener::stop() {
  if (thread_.joinable()) {
    const std::uint64_t one = 1;
    (void)!::write(wake_, &one, sizeof one);
    thread_.join();
  }
  for (auto& [key, w] : watched_) ::close(w.fd);
  watched_.clear();
  keys_.clear();
  if (epoll_ >= 0) ::close(epoll_);
  if (wake_ >= 0) ::close(wake_);
  epoll_ = wake_ = -1;
}

}  // namespace gantry::isolator_cgroups
