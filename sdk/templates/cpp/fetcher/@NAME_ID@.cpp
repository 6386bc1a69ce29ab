#include "@NAME_ID@.hpp"

namespace @NAME_ID@ {

using namespace gantry;

namespace {

// One artifact after the other; the first error ends it. On the offload pool.
Status fetch_all(const fb::fetcher::FetchT& wanted, const Limits& limits, const std::atomic<bool>& cancelled) {
  GANTRY_TRY(const auto owner, find_owner(wanted.user));
  Sandbox sandbox;
  if (!wanted.uris.empty()) GANTRY_CHECK(sandbox.open(wanted.directory, owner));
  for (const auto& uri : wanted.uris) {
    GANTRY_TRY(const std::string name, artifact_name(uri->value));
    const auto failed = [&](const Status& s) { return Error(s.error()).because("fetch " + uri->value.substr(0, 200)); };
    const bool executable = uri->executable.value_or(false), extract = uri->extract.value_or(true) && !executable;
    const bool tar = extract && name.ends_with(".tar");
    auto file = sandbox.create(uri->output_file.empty() ? name : uri->output_file);
    if (!file) return file.error();
    if (const Status s = bring(uri->value, owner, limits, cancelled, *file); !s) return failed(s);
    for (const char* archive : {".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".zip"})
      if (extract && name.ends_with(archive)) return failed(fail(Code::invalid_argument, "only plain .tar is unpacked here; set extract = false"));
    // An archive is not kept beside what comes out of it.
    if (const Status s = tar ? unpack_tar(file->fd(), sandbox) : file->keep(executable ? 0755 : 0644); !s) return failed(s);
  }
  return ok;
}

}  // namespace

Task<Status> @CLASS@::configure(Settings settings) {
  limits_.stall = std::chrono::duration_cast<std::chrono::milliseconds>(settings.duration("stall_timeout"));
  limits_.max_size = static_cast<std::uint64_t>(settings.number("max_size"));
  co_return ok;
}

// Transfers are ended and their calls answered before this one is.
Task<Status> @CLASS@::stop() {
  stopped_ = true;
  for (auto& [token, flag] : running_) *flag = true;
  if (!running_.empty()) co_await idle_.get();
  co_return ok;
}

Task<Status> @CLASS@::fetch(Request<fb::fetcher::Fetch> request, std::uint64_t token) {
  if (stopped_) co_return fail(Code::cancelled, "the fetcher stops");
  const auto flag = running_[token] = std::make_shared<std::atomic<bool>>(false);
  auto wanted = std::make_shared<fb::fetcher::FetchT>();
  request->UnPackTo(wanted.get());
  auto fetching = host().offload([wanted, flag, limits = limits_] { return fetch_all(*wanted, limits, *flag); });
  Status done = co_await std::move(fetching);
  running_.erase(token);
  // Posted, so that this call is answered before STOP is.
  if (stopped_ && running_.empty()) host().post([idle = idle_] { idle.set(true); });
  co_return done;
}

void @CLASS@::cancelled(std::uint64_t token) {
  if (const auto it = running_.find(token); it != running_.end()) *it->second = true;
}

}  // namespace @NAME_ID@
