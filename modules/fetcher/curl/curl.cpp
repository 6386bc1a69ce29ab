#include "curl.hpp"

#include "extract.hpp"

#include <sys/stat.h>

#include <cerrno>

namespace gantry::fetcher_curl {
namespace {

// One FETCH on the blocking pool.
struct Job {
  fb::fetcher::FetchT fetch;
  Limits limits;
  std::shared_ptr<Cache> cache;
  std::shared_ptr<std::atomic<bool>> stop;
  Cancelled cancelled;

  Status run() {
    GANTRY_TRY(const Owner owner, find_owner(fetch.user));
    GANTRY_TRY(const Tree tree, Tree::open(fetch.directory, owner));
    for (const auto& uri : fetch.uris) {
      if (!uri) continue;
      if (cancelled()) return cancelled_error();
      GANTRY_CHECK(one(*uri, tree, owner));
    }
    return ok;
  }

  Status one(const fb::UriT& uri, const Tree& tree, const Owner& owner) {
    GANTRY_TRY(const Source source, parse_source(uri.value));
    const std::string shown = without_credentials(uri.value);
    const std::string name = uri.output_file.empty() ? source.name : uri.output_file;
    if (name.empty()) return fail(Code::invalid_argument, "URI '" + shown + "' has no file name; set output_file");
    const auto parts = split_relative(name);
    if (!parts) return parts.error().because("output_file of URI '" + shown + "'");
    if (parts->empty()) return fail(Code::invalid_argument, "output_file of URI '" + shown + "' names no file");

    const bool executable = uri.executable.value_or(false);
    const bool unpack = !executable && uri.extract.value_or(true) && is_archive(name);
    if (uri.cache.value_or(false)) {
      GANTRY_TRY(std::optional<Fd> cached, cache->get(fetch.user, uri.value, [&](int fd) { return bring(source, fd, owner); }, cancelled));
      if (cached) {
        // Archives are unpacked straight from the cache: the copy would only take room.
        if (unpack) return extract(cached->get(), name, tree, limits.max_size, cancelled);
        return place(name, executable ? 0755 : 0644, tree, [&](int fd) -> Status {
          if (Status s = copy(cached->get(), fd, limits.max_size, cancelled); !s) return std::move(s).error().because("copy " + shown);
          return ok;
        });
      }
    }
    GANTRY_CHECK(place(name, executable ? 0755 : 0644, tree, [&](int fd) { return bring(source, fd, owner); }, unpack ? &tree : nullptr));
    return ok;
  }

  // Under another name until it is whole. `unpack_into` set: it is an archive to unpack, too.
  template <class Fill>
  Status place(const std::string& name, mode_t mode, const Tree& tree, Fill fill, const Tree* unpack_into = nullptr) {
    const std::string temporary = name + ".fetching";
    GANTRY_TRY(const Fd file, tree.create(temporary, mode));
    Status s = fill(file.get());
    if (s) s = tree.rename(temporary, name);
    if (!s) {
      tree.remove(temporary);
      return s;
    }
    if (unpack_into) return extract(file.get(), name, *unpack_into, limits.max_size, cancelled);
    return ok;
  }

  Status bring(const Source& source, int fd, const Owner& owner) {
    if (!source.local) return download(source.location, fd, limits, cancelled);
    GANTRY_TRY(const Fd from, open_as(owner, source.location));
    struct stat st {};
    // A program stays one.
    if (::fstat(from.get(), &st) == 0 && (st.st_mode & 0111)) (void)::fchmod(fd, 0755);
    if (Status s = copy(from.get(), fd, limits.max_size, cancelled); !s) return std::move(s).error().because("copy " + source.location);
    return ok;
  }
};

}  // namespace

Result<Source> parse_source(const std::string& uri) {
  const auto bad = [&](const std::string& why) { return fail(Code::invalid_argument, "URI '" + without_credentials(uri) + "' " + why); };
  if (uri.empty()) return fail(Code::invalid_argument, "a URI is empty");
  if (uri.find('\0') != std::string::npos || uri.find('\n') != std::string::npos) return bad("has a control character");
  Source s;
  const std::size_t colon = uri.find("://");
  if (colon == std::string::npos) {
    if (uri.front() != '/') return bad("is a relative path; use an absolute path or http, https, ftp, ftps or file");
    s.local = true;
    s.location = uri;
  } else {
    std::string scheme = uri.substr(0, colon);
    for (char& c : scheme) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
    if (scheme == "file") {
      s.local = true;
      s.location = uri.substr(colon + 3);
      if (s.location.starts_with("localhost/")) s.location.erase(0, 9);
      if (!s.location.starts_with('/')) return bad("names another host; file URIs are file:///absolute/path");
    } else if (scheme == "http" || scheme == "https" || scheme == "ftp" || scheme == "ftps") {
      s.location = uri;
    } else {
      return bad("has the scheme '" + scheme + "', which is not supported; use http, https, ftp, ftps or file");
    }
  }
  std::string path = s.local ? s.location : s.location.substr(colon + 3, s.location.find_first_of("?#", colon + 3) - (colon + 3));
  const std::size_t slash = path.rfind('/');
  if (slash != std::string::npos) s.name = path.substr(slash + 1);
  if (s.name == "." || s.name == "..") s.name.clear();
  return s;
}

Task<Status> CurlFetcher::configure(Settings settings) {
  limits_.stall = settings.duration("stall_timeout");
  limits_.connect = settings.duration("connect_timeout");
  limits_.max_size = static_cast<std::uint64_t>(settings.number("max_size"));
  cache_->set_capacity(static_cast<std::uint64_t>(settings.number("cache_size")));
  if (settings.reload()) co_return ok;
  fetched_ = host().metric("fetcher/fetched", fb::MetricKind::COUNTER, "", "fetches that brought all their artifacts");
  failed_ = host().metric("fetcher/failed", fb::MetricKind::COUNTER, "", "fetches that failed or were cancelled");
  const Status s = cache_->open(settings.work_dir() + "/cache");
  if (!s) host().warning("fetching without a cache", {{"error", s.error().message}});
  co_return ok;
}

Task<Status> CurlFetcher::fetch(Request<fb::fetcher::Fetch> request, std::uint64_t token) {
  if (drained_) co_return fail(Code::unavailable, "the fetcher is stopping");
  Job job;
  request->UnPackTo(&job.fetch);
  job.limits = limits_;
  job.cache = cache_;
  job.stop = running_[token] = std::make_shared<std::atomic<bool>>(false);
  auto shared = std::make_shared<Job>(std::move(job));
  shared->cancelled = [stop = shared->stop] { return stop->load(std::memory_order_relaxed); };
  auto running = host().offload([shared] { return shared->run(); });
  Status result = co_await std::move(running);
  running_.erase(token);
  (result ? fetched_ : failed_).add();
  if (drained_ && running_.empty()) drained_->set(true);
  co_return result;
}

void CurlFetcher::cancelled(std::uint64_t token) {
  if (const auto it = running_.find(token); it != running_.end()) it->second->store(true);
}

Task<Status> CurlFetcher::stop() {
  drained_.emplace();
  if (running_.empty()) co_return ok;
  for (const auto& [token, stop] : running_) stop->store(true);
  co_await drained_->get();
  co_return ok;
}

}  // namespace gantry::fetcher_curl
