// The sound isolator most faults are tried on: a folder for each container, found again after a crash. And what can be
// wrong with an isolator in particular.
#include "shim.hpp"

#include <gantry/isolator.hpp>

#include <filesystem>
#include <fstream>
#include <map>
#include <set>

namespace broken {
namespace {

namespace fi = gantry::fb::isolator;
namespace fs = std::filesystem;
using gantry::Code;
using gantry::Request;
using gantry::Responder;
using gantry::Result;
using gantry::Status;
using gantry::Task;
using gantry::text;

class Folders final : public gantry::Isolator {
 public:
  Task<Status> configure(gantry::Settings s) override {
    if (!s.reload()) root_ = s.work_dir() + "/containers";
    co_return gantry::ok;
  }
  Task<Status> start() override {
    std::error_code ec;
    fs::create_directories(root_, ec);
    if (ec) co_return gantry::fail(Code::failed_precondition, "cannot make " + root_ + ": " + ec.message());
    co_return gantry::ok;
  }
  Task<Status> stop() override {
    for (auto& [id, r] : watchers_) r.complete();
    watchers_.clear();
    co_return gantry::ok;
  }
  Task<Result<fi::PreparedT>> prepare(Request<fi::Prepare> r) override {
    const std::string id(text(r->container_id()));
    GANTRY_CO_CHECK(check_id(id));
    if (fault("prepare_once") && fs::exists(dir(id))) co_return gantry::fail(Code::already_exists, "container " + id + " is prepared already");
    std::error_code ec;
    fs::create_directories(dir(id), ec);
    if (ec) co_return gantry::fail(Code::unavailable, "cannot make " + dir(id) + ": " + ec.message());
    std::ofstream(dir(id) + "/procs").flush();
    fi::PreparedT out;
    out.no_attach = true;
    out.enter_files = {dir(id) + "/procs"};
    if (fault("promises_missing_files")) out.enter_files.push_back(dir(id) + "/tasks");
    co_return out;
  }
  void watch(Request<fi::Watch> r, Responder responder) override {
    const std::string id(text(r->container_id()));
    if (!check_id(id) || (!fs::exists(dir(id)) && !fault("watch_without_end"))) return responder.complete();
    const auto token = responder.token();
    watchers_.emplace(token, std::move(responder));
    of_.emplace(token, id);
  }
  void cancelled(std::uint64_t token) override {
    watchers_.erase(token);
    of_.erase(token);
  }
  Task<Status> update(Request<fi::Update> r) override {
    const std::string id(text(r->container_id()));
    GANTRY_CO_CHECK(check_id(id));
    if (fault("update_creates")) fs::create_directories(dir(id));
    if (!fs::exists(dir(id))) co_return gantry::fail(Code::not_found, "container " + id + " is not known here");
    co_return gantry::ok;
  }
  Task<Result<fi::UsagesT>> usage(Request<fi::UsageRequest> r) override {
    fi::UsagesT out;
    if (!r->container_ids()) co_return out;
    for (const auto* each : *r->container_ids()) {
      const std::string id(text(each));
      if (!check_id(id) || !fs::exists(dir(id))) {
        if (fault("usage_of_unknown_fails")) co_return gantry::fail(Code::not_found, "container " + id + " is not known here");
        continue;
      }
      auto u = std::make_unique<fi::UsageT>();
      u->container_id = id;
      u->processes = 1;
      out.usages.push_back(std::move(u));
    }
    co_return out;
  }
  Task<Status> cleanup(Request<fi::Cleanup> r) override {
    const std::string id(text(r->container_id()));
    GANTRY_CO_CHECK(check_id(id));
    if (fault("cleanup_of_unknown_fails") && !fs::exists(dir(id))) co_return gantry::fail(Code::not_found, "container " + id + " is not known here");
    std::error_code ec;
    if (fault("cleanup_takes_all")) {
      fs::remove_all(root_, ec);
      fs::create_directories(root_, ec);
    } else if (!fault("cleanup_leaves_files")) {
      fs::remove_all(dir(id), ec);
    }
    for (auto it = watchers_.begin(); it != watchers_.end();) {
      if (of_[it->first] == id && !fault("watch_without_end")) {
        it->second.complete();
        of_.erase(it->first);
        it = watchers_.erase(it);
      } else {
        ++it;
      }
    }
    if (ec) co_return gantry::fail(Code::unavailable, "cannot remove " + dir(id) + ": " + ec.message());
    co_return gantry::ok;
  }
  Task<Result<fi::RecoveredT>> recover(Request<fi::Recover> r) override {
    fi::RecoveredT out;
    if (fault("forgets_at_recover")) co_return out;
    std::set<std::string> known;
    if (r->containers() && !fault("recover_calls_all_orphans"))
      for (const auto* k : *r->containers()) known.insert(std::string(text(k->container_id())));
    std::error_code ec;
    for (const auto& e : fs::directory_iterator(root_, ec)) {
      const std::string id = e.path().filename();
      if (!known.count(id)) out.orphans.push_back(id);
    }
    if (fault("recover_cleans_itself"))
      for (const auto& e : fs::directory_iterator(root_, ec)) fs::remove_all(e.path(), ec);
    co_return out;
  }

 private:
  [[nodiscard]] std::string dir(const std::string& id) const { return root_ + "/" + id; }
  static Status check_id(const std::string& id) {
    if (fault("ids_are_paths")) return gantry::ok;
    if (id.empty() || id[0] == '.' || id.find('/') != id.npos || id.size() > 200)
      return gantry::fail(Code::invalid_argument, "container_id \"" + id.substr(0, 100) + "\" cannot be a file's name");
    return gantry::ok;
  }
  std::string root_;
  std::map<std::uint64_t, Responder> watchers_;
  std::map<std::uint64_t, std::string> of_;
};

}  // namespace

gantry_provider inner_provider() { return gantry::provider<Folders>("folders"); }
std::unique_ptr<Shim> make_shim(const gantry_host* real) { return std::make_unique<Shim>(real); }

}  // namespace broken
