// Agents without tasks: they register over real framed TCP links and answer as fast as they can, on a thread of their own.
#pragma once

#include "tests/bench/messages.hpp"
#include "tests/bench/rig.hpp"

#include <pthread.h>

#include <atomic>
#include <ctime>
#include <future>
#include <string>
#include <thread>
#include <vector>

namespace gantry::bench {

// RUNNING on a launch, FINISHED on the acknowledgement of RUNNING. Tasks whose ids begin with `keep` run on.
class FakeAgents {
 public:
  FakeAgents(const net::Address& master, std::size_t count, std::string resources, std::string keep = {})
      : keep_(std::move(keep)), links_(count), ids_(count) {
    std::promise<void> ready;
    thread_ = std::thread([this, master, resources = std::move(resources), &ready] {
      loop_ = net::make_real_loop();
      ::pthread_getcpuclockid(::pthread_self(), &clock_);
      ready.set_value();
      for (std::size_t i = 0; i < links_.size(); ++i) {
        net::connect(*loop_, master, [this, i, resources](Result<net::LinkPtr> link) {
          if (!link) throw std::runtime_error(link.error().message);
          links_[i] = *link;
          links_[i]->on_frame([this, i](Bytes frame) { on_frame(*links_[i], ids_[i], frame); });
          links_[i]->on_closed([](const Error&) {});
          links_[i]->send(hello_frame());
          links_[i]->send(register_frame("host-" + std::to_string(i), resources));
        });
      }
      loop_->run();
      links_.clear();
    });
    ready.get_future().wait();
  }
  ~FakeAgents() {
    loop_->stop();
    thread_.join();
  }
  FakeAgents(const FakeAgents&) = delete;
  FakeAgents& operator=(const FakeAgents&) = delete;

  // CPU seconds of the agents' thread.
  [[nodiscard]] double cpu() const {
    timespec t{};
    ::clock_gettime(clock_, &t);
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) / 1e9;
  }
  [[nodiscard]] std::size_t registered() const { return registered_; }

 private:
  void on_frame(net::Link& link, std::string& id, Bytes frame) {
    const auto* m = flatbuffers::GetRoot<fb::link::ToAgent>(frame.data());
    if (const auto* run = m->body_as_RunTask()) {
      link.send(update_frame(text(run->framework()->id()), text(run->task()->agent_id()), text(run->task()->task_id()),
                             fb::TaskState::TASK_RUNNING, ++serial_));
    } else if (const auto* ack = m->body_as_AckUpdate()) {
      if (state_of(*ack->uuid()) != fb::TaskState::TASK_RUNNING) return;
      if (!keep_.empty() && text(ack->task_id()).starts_with(keep_)) return;
      link.send(update_frame(text(ack->framework_id()), id, text(ack->task_id()), fb::TaskState::TASK_FINISHED, ++serial_));
    } else if (const auto* registered = m->body_as_Registered()) {
      id = text(registered->agent_id());
      ++registered_;
    } else if (const auto* ping = m->body_as_Ping()) {
      link.send(pong_frame(ping->seq()));
    }
  }

  const std::string keep_;
  std::unique_ptr<net::RealLoop> loop_;
  std::vector<net::LinkPtr> links_;
  std::vector<std::string> ids_;
  std::atomic<std::size_t> registered_{0};
  std::uint64_t serial_ = 0;
  clockid_t clock_ = 0;
  std::thread thread_;
};

}  // namespace gantry::bench
