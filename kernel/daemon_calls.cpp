#include "kernel/daemon_calls.hpp"

#include "kernel/base/fd.hpp"
#include "kernel/base/log.hpp"

#include <gantry/host_generated.h>
#include <gantry/operator_agent_generated.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>

namespace gantry::kernel {
namespace {

constexpr std::uint64_t max_read = 1u << 20;

Error no_file() { return fail(Code::not_found, "this daemon does not log to a file"); }

}  // namespace

// ---- LogFile

Result<std::string> LogFile::path() const {
  struct stat st {};
  if (::fstat(descriptor_, &st) != 0 || !S_ISREG(st.st_mode)) return no_file();
  char name[PATH_MAX];
  const ssize_t n = ::readlink(("/proc/self/fd/" + std::to_string(descriptor_)).c_str(), name, sizeof name);
  if (n <= 0) return no_file();
  return std::string(name, static_cast<std::size_t>(n));
}

Result<fb::ops::ReadFileT> LogFile::read(std::uint64_t offset, std::optional<std::uint64_t> length) const {
  struct stat st {};
  if (::fstat(descriptor_, &st) != 0 || !S_ISREG(st.st_mode)) return no_file();
  fb::ops::ReadFileT out;
  out.size = static_cast<std::uint64_t>(st.st_size);
  if (offset >= out.size) return out;
  // It is open for writing only. This is the same file even when its name has been given to another one meanwhile.
  const base::Fd file(::open(("/proc/self/fd/" + std::to_string(descriptor_)).c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return fail(errno == EACCES ? Code::permission_denied : Code::internal, std::string("cannot read the log: ") + std::strerror(errno));
  out.data.resize(std::min<std::uint64_t>({length.value_or(max_read), max_read, out.size - offset}));
  const ssize_t n = ::pread(file.get(), out.data.data(), out.data.size(), static_cast<off_t>(offset));
  if (n < 0) return fail(Code::internal, std::string("cannot read the log: ") + std::strerror(errno));
  out.data.resize(static_cast<std::size_t>(n));
  return out;
}

// ---- RaisedLogging

void RaisedLogging::raise(std::uint32_t level, base::Nanos duration) {
  lower();
  if (level == 0 || duration <= base::Nanos::zero()) return;
  before_ = base::log_threshold();
  base::log_threshold() = std::min(before_, static_cast<std::uint32_t>(base::Level::debug));
  base::log_debug("kernel", "logging everything for a while", {{"seconds", std::to_string(duration.count() / 1'000'000'000)}});
  timer_ = loop_.after(duration, [this] {
    timer_ = 0;
    base::log_threshold() = before_;
  });
}

void RaisedLogging::configured(std::uint32_t threshold) {
  if (timer_) before_ = threshold;
  else base::log_threshold() = threshold;
}

void RaisedLogging::lower() {
  if (!timer_) return;
  loop_.cancel(std::exchange(timer_, 0));
  base::log_threshold() = before_;
}

// ---- DaemonCalls

bool DaemonCalls::take(const module::ServiceRequest& request, bool to_agent, const module::ServiceReply& reply) {
  const auto* operate = view<fb::host::Operate>(request.body);
  if (!operate || !operate->call()) return false;  // whoever it is for says what is wrong
  // Not in place: a flatbuffer inside another need not be aligned.
  const Buffer call(Bytes(operate->call()->data(), operate->call()->size()));
  if (to_agent) return take<fb::agent::Call, fb::agent::ResponseT, fb::agent::ResponseType>(call, true, reply);
  return take<fb::master::Call, fb::master::ResponseT, fb::master::ResponseType>(call, false, reply);
}

// `files_of_others`: an agent has files beside the log; of a master it is the only one.
template <class Call, class Response, class ResponseType>
bool DaemonCalls::take(Bytes bytes, bool files_of_others, const module::ServiceReply& reply) {
  const auto* call = view<Call>(bytes);
  if (!call) return false;
  const auto refuse = [&](const Error& e) {
    reply(static_cast<gantry_code>(e.code), pack_error(e));
    return true;
  };
  if (const auto* change = call->set_logging_level()) {
    logging_.raise(change->level(), base::Nanos(change->duration_ns()));
    reply(GANTRY_OK, {});
    return true;
  }
  const auto* list = call->list_files();
  const auto* read = call->read_file();
  if (!list && !read) return false;
  const std::string path(text(list ? list->path() : read->path()));
  if (path != "/log" && !(list && path == "/")) {
    if (files_of_others) return false;
    return refuse(fail(Code::not_found, "path '" + path + "' is not known"));
  }
  struct Work {
    Result<Buffer> result = no_file();
  };
  auto work = std::make_shared<Work>();
  // Off the loop: a slow disk must not hold up scheduling.
  loop_.offload(
      [work, listing = list != nullptr, path, offset = read ? read->offset() : 0,
       length = read && read->length() ? std::optional<std::uint64_t>(*read->length()) : std::nullopt] {
        const LogFile log(STDERR_FILENO);
        Response out;
        if (listing) {
          auto name = log.path();
          if (!name) return work->result = name.error(), void();
          out.type = ResponseType::LIST_FILES;
          out.list_files = std::make_unique<fb::ops::ListFilesT>();
          if (path == "/") {
            out.list_files->file_infos.push_back(std::make_unique<fb::ops::FileInfoT>());
            out.list_files->file_infos.back()->path = std::move(*name);
          }
        } else {
          auto data = log.read(offset, length);
          if (!data) return work->result = data.error(), void();
          out.type = ResponseType::READ_FILE;
          out.read_file = std::make_unique<fb::ops::ReadFileT>(std::move(*data));
        }
        work->result = pack(out);
      },
      [work, reply] {
        if (!work->result) return reply(static_cast<gantry_code>(work->result.error().code), pack_error(work->result.error()));
        reply(GANTRY_OK, *work->result);
      });
  return true;
}

}  // namespace gantry::kernel
