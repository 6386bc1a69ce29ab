// What can be wrong with a fetcher: fetcher/curl, which is lied to about where to write or is not told to stop.
#include "shim.hpp"

#include "curl.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <fstream>
#include <set>

namespace broken {
namespace {

namespace ff = gantry::fb::fetcher;

class FetcherShim final : public Shim {
 public:
  using Shim::Shim;

  void call(const gantry_call& c) override {
    if (c.method != 16) return pass(c);
    auto fetch = gantry::unpack<ff::Fetch>(gantry::from_abi(c.body));
    if (!fetch) return pass(c);
    const std::uint64_t token = c.token;
    if (fault("follows_dot_dot")) {
      // Writes where the path says, like open(directory + "/" + output_file).
      for (const auto& u : fetch->uris)
        if (u && u->output_file.find("..") != std::string::npos) {
          std::ofstream(fetch->directory + "/" + u->output_file) << "escaped";
          return answer(token, GANTRY_OK);
        }
    }
    if (fault("makes_the_sandbox") && !fetch->directory.empty()) {
      std::string path;
      for (const char ch : fetch->directory + "/") {
        if (ch == '/' && !path.empty()) ::mkdir(path.c_str(), 0755);
        path += ch;
      }
    }
    if (fault("no_x_bit"))
      for (auto& u : fetch->uris)
        if (u) u->executable = flatbuffers::nullopt;
    if (fault("always_extracts"))
      for (auto& u : fetch->uris)
        if (u) u->extract = flatbuffers::nullopt;
    if (fault("ignores_the_user")) fetch->user.clear();
    if (fault("backwards")) std::reverse(fetch->uris.begin(), fetch->uris.end());
    {
      const std::lock_guard lock(mutex_);
      open_.insert(token);
    }
    own_call(c.method, gantry::pack(*fetch), [this, token](gantry_code code, Bytes body) {
      if (!still_open(token)) return;
      if (fault("swallows_errors")) return answer(token, GANTRY_OK);
      if (fault("one_code_for_all") && code != GANTRY_OK) {
        const Buffer e = gantry::pack_error(gantry::fail(gantry::Code::unknown, "it did not work"));
        return answer(token, GANTRY_UNKNOWN, e);
      }
      answer(token, code, body);
    });
  }
  // The module knows the call under another token, so cancelling is not passed on. The others need it.
  void cancel(std::uint64_t token) override {
    if (!fault("transfers_on") && still_open(token)) answer(token, GANTRY_CANCELLED);
  }

 private:
  bool still_open(std::uint64_t token) {
    const std::lock_guard lock(mutex_);
    return open_.erase(token) != 0;
  }
  std::mutex mutex_;
  std::set<std::uint64_t> open_;
};

}  // namespace

gantry_provider inner_provider() { return gantry::provider<gantry::fetcher_curl::CurlFetcher>("curl"); }
std::unique_ptr<Shim> make_shim(const gantry_host* real) { return std::make_unique<FetcherShim>(real); }

}  // namespace broken
