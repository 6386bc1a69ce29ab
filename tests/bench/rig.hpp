// The real parts a bench stands on: modules loaded from their files on a real pool, a loop, clocks, memory; and two ways to
// run a master: the bare core (Driver) or the shell with frameworks and agents around it.
#pragma once

#include "kernel/base/metric.hpp"
#include "kernel/master/core.hpp"
#include "kernel/module/host.hpp"
#include "kernel/net/net.hpp"
#include "kernel/store/store.hpp"

#include <chrono>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace gantry::bench {

using Clock = std::chrono::steady_clock;
[[nodiscard]] inline double microseconds(Clock::duration d) { return std::chrono::duration<double, std::micro>(d).count(); }
[[nodiscard]] inline double seconds(Clock::duration d) { return std::chrono::duration<double>(d).count(); }

// CPU time in seconds: of this thread, of the whole process.
[[nodiscard]] double thread_cpu();
[[nodiscard]] double process_cpu();
// Resident bytes now (free heap is given back first), and the most there ever were.
[[nodiscard]] double resident_bytes();
[[nodiscard]] double peak_resident_bytes();

// A new directory below the system's temporary one, removed with all it holds.
class TemporaryDirectory {
 public:
  TemporaryDirectory();
  ~TemporaryDirectory();
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// Runs the loop until `start`'s argument is called.
void run_loop(net::RealLoop& loop, const std::function<void(std::function<void()> finish)>& start);

// Modules from their .so files, as the daemon loads them. `toml` is a whole configuration; `started` are the kinds wanted.
class Modules {
 public:
  Modules(net::RealLoop& loop, const std::string& toml, std::vector<std::string> kinds);
  ~Modules();
  [[nodiscard]] module::Instance& find(std::string_view kind) const;
  [[nodiscard]] std::vector<module::Instance*> all(std::string_view kind) const { return host_->all(kind); }

 private:
  net::RealLoop& loop_;
  base::Metrics metrics_;
  std::unique_ptr<module::Strands> strands_;
  std::unique_ptr<module::ModuleHost> host_;
};
// The configuration of a master with the drf allocator.
[[nodiscard]] std::string master_toml(const std::string& work_dir);

// Accepts everything and keeps nothing: what a master writes lies in the store's process memory or on disk, not in its own.
class NoStore final : public store::Store {
 public:
  explicit NoStore(base::Loop& loop) : loop_(loop) {}
  void commit(std::vector<store::Op> ops, Function<void(Status)> done) override;
  void get(std::string key, Function<void(Result<Buffer>)> done) override;
  void list(std::string prefix, Function<void(std::string_view, Bytes)> each, Function<void(Status)> done) override;

 private:
  base::Loop& loop_;
};

// The master's core with the real allocator instance; records are stored at once, messages only kept. On the loop.
class Driver {
 public:
  Driver(net::RealLoop& loop, module::Instance& allocator);
  // Carries out the effects; Allocate goes to the module unless `hold`.
  void apply(const master::Event& event);
  void call(const Buffer& call) { apply(master::FrameworkCall{0, call}); }
  bool hold = false;
  void release();  // sends the held one on
  [[nodiscard]] bool held() const { return held_.has_value(); }
  std::function<void()> before_round;        // a reply of the module came in, before the core sees it
  std::function<void()> on_round;            // and after its effects were carried out
  [[nodiscard]] bool in_round() const { return in_round_; }

  // What was said since it was last taken.
  std::vector<std::pair<master::StreamId, Buffer>> events;
  std::vector<std::pair<master::LinkId, Buffer>> frames;
  master::Core core;

 private:
  void execute(master::Effect& effect);
  void allocate(Buffer deltas);
  net::RealLoop& loop_;
  module::Instance& allocator_;
  master::Effects effects_;
  std::vector<master::Cookie> stored_;
  std::optional<Buffer> held_;
  bool in_round_ = false;
};

}  // namespace gantry::bench
