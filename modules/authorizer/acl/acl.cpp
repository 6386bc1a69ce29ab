#include "acl.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace gantry::authorizer_acl {
namespace {

constexpr std::size_t kMaxFile = 16u << 20;

}  // namespace

Result<Acl::Loaded> Acl::load(const std::string& path, const Loaded& before) {
  const auto refuse = [&](const std::string& why) { return fail(Code::failed_precondition, "file " + path + ": " + why, "file"); };
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return refuse(std::strerror(errno));
  struct Close {
    int fd;
    ~Close() { ::close(fd); }
  } close{fd};
  struct stat st {};
  if (::fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) return refuse("not a regular file");
  const std::int64_t stamp = st.st_mtim.tv_sec * 1'000'000'000 + st.st_mtim.tv_nsec;
  if (before.acls && before.stamp == stamp && before.size == st.st_size) return before;
  if (static_cast<std::uint64_t>(st.st_size) > kMaxFile) return refuse("larger than 16 MiB");
  std::string content;
  char block[16384];
  ssize_t n = 0;
  while ((n = ::read(fd, block, sizeof block)) > 0 && content.size() <= kMaxFile) content.append(block, static_cast<std::size_t>(n));
  if (n < 0) return refuse(std::strerror(errno));
  auto acls = Acls::parse(content);
  if (!acls) return fail(acls.error().code, path + ": " + acls.error().message, "file");
  return Loaded{std::make_shared<const Acls>(std::move(*acls)), stamp, st.st_size};
}

Task<Status> Acl::configure(Settings settings) {
  const std::string path = settings.text("file");
  // A reload reads the file even if it looks the same.
  auto loading = host().offload([path] { return load(path, {}); });
  Result<Loaded> loaded = co_await std::move(loading);
  if (!loaded) co_return loaded.error();
  path_ = path;
  interval_ = settings.duration("check_interval");
  adopt(std::move(*loaded));
  if (started_) look_later();
  co_return ok;
}

Task<Status> Acl::start() {
  started_ = true;
  look_later();
  co_return ok;
}

Task<Status> Acl::stop() {
  started_ = false;
  if (timer_) host().cancel_timer(std::exchange(timer_, 0));
  followers_.clear();
  co_return ok;
}

Task<Result<fb::HealthT>> Acl::health() {
  fb::HealthT h;
  if (!trouble_.empty()) {
    h.state = fb::HealthState::DEGRADED;
    h.message = trouble_;
  }
  co_return h;
}

void Acl::adopt(Loaded loaded) {
  const bool first = !loaded_.acls;
  loaded_ = std::move(loaded);
  trouble_.clear();
  for (const std::string& w : loaded_.acls->warnings()) host().warning(w);
  host().info("access control lists read", {{"file", path_},
                                            {"rules", std::to_string(loaded_.acls->rules())},
                                            {"permissive", loaded_.acls->permissive() ? "true" : "false"}});
  if (first) return;
  for (const auto& [token, responder] : followers_) responder.more({});
}

void Acl::look_later() {
  if (timer_) host().cancel_timer(std::exchange(timer_, 0));
  if (interval_.count() <= 0) return;
  timer_ = host().timer(interval_, [this] {
    timer_ = 0;
    look();
  });
}

void Acl::look() {
  auto loading = host().offload([path = path_, before = loaded_] { return load(path, before); });
  spawn(std::move(loading), [this, path = path_](Result<Loaded> loaded) {
    if (!started_) return;
    if (path == path_) {
      if (!loaded) {
        // What was read last stays in force; it is said once.
        if (trouble_.empty()) host().warning(loaded.error().message + "; the lists read last stay in force");
        trouble_ = loaded.error().message;
      } else if (loaded->acls != loaded_.acls) {
        adopt(std::move(*loaded));
      } else {
        trouble_.clear();
      }
    }
    look_later();
  });
}

Task<Result<fb::authorizer::VerdictsT>> Acl::authorize(Request<fb::authorizer::Questions> request) {
  fb::authorizer::VerdictsT out;
  const auto word = [](const flatbuffers::String* s) { return s ? std::optional<std::string_view>(text(s)) : std::nullopt; };
  const auto principal = word(request->principal());
  if (const auto* questions = request->questions()) {
    out.allowed.reserve(questions->size());
    for (const auto* q : *questions) out.allowed.push_back(loaded_.acls->allowed(principal, text(q->action()), word(q->object())));
  }
  co_return out;
}

void Acl::changed(Responder responder) {
  const std::uint64_t token = responder.token();
  followers_.insert_or_assign(token, std::move(responder));
}

void Acl::cancelled(std::uint64_t token) {
  const auto it = followers_.find(token);
  if (it == followers_.end()) return;
  it->second.fail(fail(Code::cancelled, "cancelled"));
  followers_.erase(it);
}

}  // namespace gantry::authorizer_acl
