// Isolator `network`: which network a container is on, and what it finds there. See README.md.
#pragma once

#include "bridge.hpp"
#include "cni_run.hpp"
#include "listen.hpp"
#include "plan.hpp"
#include "record.hpp"

#include <gantry/isolator.hpp>

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace gantry::isolator_network {

// Calls for one container take turns: CLEANUP may come while PREPARE or ATTACH is under way. On the strand only.
class Turns {
 public:
  class Turn {
   public:
    Turn(Turns* all, std::string id) : all_(all), id_(std::move(id)) {}
    Turn(Turn&& o) noexcept : all_(std::exchange(o.all_, nullptr)), id_(std::move(o.id_)) {}
    Turn& operator=(Turn&&) = delete;
    ~Turn() {
      if (all_) all_->end(id_);
    }

   private:
    Turns* all_;
    std::string id_;
  };
  Task<Turn> take(std::string id);

 private:
  void end(const std::string& id);
  std::map<std::string, std::vector<Promise<bool>>> waiting_;  // an entry: somebody has the turn
};

class Network final : public Isolator {
 public:
  ~Network() override;

  Task<Status> configure(Settings) override;
  Task<Status> start() override;
  Task<Status> stop() override;
  Task<Result<fb::HealthT>> health() override;

  Task<Result<fb::isolator::RecoveredT>> recover(Request<fb::isolator::Recover>) override;
  Task<Result<fb::isolator::PreparedT>> prepare(Request<fb::isolator::Prepare>) override;
  Task<Result<fb::isolator::AttachedT>> attached(Request<fb::isolator::Attach>) override;
  void watch(Request<fb::isolator::Watch>, Responder) override;
  void cancelled(std::uint64_t token) override;
  Task<Status> update(Request<fb::isolator::Update>) override;
  Task<Result<fb::isolator::UsagesT>> usage(Request<fb::isolator::UsageRequest>) override;
  Task<Status> cleanup(Request<fb::isolator::Cleanup>) override;

  std::function<bool()> allowed;             // for tests: whether there is the right to make networks

 private:
  struct Container {
    bool host = true;                        // on the machine's network
    bool recorded = false;                   // it has a folder
    Plan plan;                               // of PREPARE; after a restart empty
    Record record;
    std::vector<fb::NetworkInfoT> networks;  // ATTACH's answer
    int pid = 0;                             // 0: not attached
    Fd proc;                                 // /proc/<pid> of this very process
    PortRanges owned;                        // ports it was given
    std::set<std::uint32_t> told;            // unallocated ports that were told about
    std::optional<fb::isolator::LimitedT> pending;  // it happened, nobody watches yet
    Responder watcher;
  };
  enum class Listening { off, report, enforce };

  void reloadable(const Settings&);
  [[nodiscard]] std::string folder(const std::string& id) const { return work_dir_ + "/containers/" + id; }
  [[nodiscard]] BridgeEnd devices_of(const std::string& id) const;  // names only, made from the id
  [[nodiscard]] std::vector<BridgeEnd> bridge_ends() const;
  [[nodiscard]] std::vector<Target> mapped() const;             // on CNI networks, by us
  [[nodiscard]] Status check_free(const std::vector<Mapping>& ports) const;
  [[nodiscard]] Resolver resolver_of(const Plan&) const;

  // PREPARE in steps (launch.cpp).
  Task<Status> settle(const std::string& id, Container&);       // networks by name, address, record, files
  Status settle_bridge(const std::string& id, Container&, const Wanted&, const std::string& interface);
  [[nodiscard]] Status settle_cni(const std::string& id, Container&, const Wanted&, const CniNetwork&, const std::string& interface);
  [[nodiscard]] fb::isolator::PreparedT prepared(const std::string& id, const Container&) const;
  [[nodiscard]] CniCall cni_call(const std::string& id) const;
  void say_forwarding();
  void keep_rules();

  // Work that nobody calls for. stop() waits for what has begun.
  void begin(Task<void> work);
  Task<void> look_at_rules();
  // Listening ports (ports.cpp).
  void watch_ports();
  Task<void> look_at_ports();
  void judge(const std::string& id, Container&, const std::set<std::uint32_t>& listening);

  // Settings.
  std::string work_dir_, owner_, cni_dir_;
  std::vector<std::string> plugin_dirs_, nameservers_;
  Policy policy_;
  std::chrono::nanoseconds cni_timeout_{}, ports_interval_{};
  Listening listening_ = Listening::off;
  PortRanges watched_;

  bool may_ = false;
  Turns turns_;
  std::shared_ptr<Bridge> bridge_;
  Pool pool_;
  std::map<std::string, Container> containers_;
  std::set<std::string> problems_told_;      // of CNI files: each once
  std::uint64_t ports_timer_ = 0, rules_timer_ = 0;
  int working_ = 0;                          // tasks of our own that are under way
  bool stopping_ = false, no_servers_told_ = false;
  std::optional<Promise<bool>> idle_;        // somebody waits for these to end
  Metric unallocated_;
};

// Whether this process may make networks: CAP_NET_ADMIN and CAP_SYS_ADMIN.
[[nodiscard]] bool has_rights();
// INVALID_ARGUMENT for what cannot be a file name and an argument of a plugin.
[[nodiscard]] Status check_id(std::string_view id);
// Counters of /proc/<pid>/net/dev, all devices but loopback. Pure.
void add_counters(std::string_view net_dev, fb::isolator::UsageT& into);

// What offload runs; no state of the instance (attach.cpp).
struct AttachWork {
  Record record;
  std::vector<Wanted> wanted;                // as in the plan
  std::vector<std::string> extra_hosts;
  Resolver resolver, own;                    // what resolv.conf says now; what the task asked for itself
  std::string folder;
  int pid = 0;
  Fd netns;
  CniCall call;
  std::shared_ptr<Bridge> bridge;
};
struct AttachDone {
  Record record;
  std::vector<fb::NetworkInfoT> networks;
};
[[nodiscard]] Result<AttachDone> attach_networks(AttachWork&);
// Undoes everything in the record; the folder goes when all of it is undone.
[[nodiscard]] Status undo(const Record&, const std::string& folder, CniCall, Bridge* bridge);
// A container's folder, in which there are files only. OK if it is not there.
[[nodiscard]] Status remove_folder(const std::string& folder);
// What `over` says in the place of what `base` says.
[[nodiscard]] Resolver merged(Resolver base, const Resolver& over);

}  // namespace gantry::isolator_network
