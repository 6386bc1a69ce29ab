#include "guest.hpp"

#include "kernel/base/log.hpp"
#include "kernel/base/metric.hpp"
#include "kernel/module/instance.hpp"
#include "kernel/module/loader.hpp"
#include "kernel/module/process/frame.hpp"
#include "kernel/module/records.hpp"
#include "kernel/module/strand.hpp"
#include "kernel/net/io.hpp"
#include "kernel/net/net.hpp"

#include <gantry/common_generated.h>

#include <sys/socket.h>

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <unordered_map>

namespace gantry::modhost {
namespace {

using module::process::FrameReader;
using module::process::FrameWriter;
using module::process::Header;
using module::process::MetricAdd;
using module::process::Type;

constexpr std::size_t queue_bytes = std::size_t{64} << 20;  // waiting for the kernel to read
constexpr std::size_t pause_reading = std::size_t{16} << 20;  // waiting for the module to take
constexpr std::size_t read_at_once = 64 << 10, read_a_turn = 256 << 10;

[[noreturn]] void leave(int status) {
  // Not exit(): the module's threads may still run, and its destructors are its own affair.
  std::fflush(nullptr);
  ::_exit(status);
}

class Guest final : public module::Outlet {
 public:
  Guest(net::RealLoop& loop, const Options& options) : loop_(loop), options_(options) {
    socket_ = std::make_unique<net::FdWatch>(
        loop, base::Fd(socket_fd), [this] { readable(); },
        [this] {
          blocked_ = false;
          flush();
        });
    for (auto s = static_cast<std::uint32_t>(fb::host::Service::MIN) + 1;
         s <= static_cast<std::uint32_t>(fb::host::Service::MAX); ++s) {
      forwards_.push_back(std::make_unique<Forward>(*this, s));
      services_[static_cast<fb::host::Service>(s)] = forwards_.back().get();
      allowed_.insert(module::service_name(s));  // the kernel looks at the manifest itself
    }
  }

  void refuse(const Error& error) {
    Header h;
    h.type = Type::refused;
    h.code = static_cast<std::int32_t>(error.code);
    send(h, pack_error(error));
    finish(3);
  }

  void start(module::Loaded loaded) {
    Header h;
    h.type = Type::hello;
    h.code = loaded.revision;
    h.method = loaded.provider.flags;
    send(h, as_bytes(loaded.build));
    module::Strands::Limits limits;
    limits.threads = 1;
    const auto on_stall = [this](const module::Strands::Stall& s) {
      fb::LogRecordT record;
      record.message = "holds its strand; blocking work belongs in offload";
      const auto field = [&](const char* key, std::string value) {
        auto f = std::make_unique<fb::LogFieldT>();
        f->key = key;
        f->value = std::move(value);
        record.fields.push_back(std::move(f));
      };
      field("entry", std::string(to_string(s.what)));
      field("method", std::to_string(s.method));
      field("ms", std::to_string(std::chrono::duration_cast<std::chrono::milliseconds>(s.lasted).count()));
      log(GANTRY_LOG_WARNING, pack(record));
    };
    // One instance alone: its entries run on the loop itself, with no thread to hand them to, unless it may block.
    strands_ = (loaded.provider.flags & GANTRY_BLOCKING)
                   ? std::make_unique<module::Strands>(limits, on_stall)
                   : std::make_unique<module::Strands>(loop_, limits, on_stall);
    module::InstanceSetup s;
    s.loop = &loop_;
    s.strands = strands_.get();
    s.metrics = &metrics_;
    s.services = &services_;
    s.allowed = allowed_;
    s.kind = options_.kind;
    s.name = options_.name;
    s.provider = loaded.provider;
    s.revision = loaded.revision;
    s.build = loaded.build;
    s.queue_bytes = queue_bytes;
    s.outlet = this;
    instance_ = std::make_unique<module::LocalInstance>(std::move(s));
    spawn(instance_->create(), [this](Status created) {
      if (!created) return refuse(created.error());
      Header made;
      made.type = Type::created;
      send(made);
      socket_->want_read();
    });
  }

  // ---- Outlet [any]
  void log(std::uint32_t level, Bytes record) override {
    Header h;
    h.type = Type::log;
    h.code = static_cast<std::int32_t>(level);
    say(h, record);
  }
  std::uint32_t metric(Bytes desc) override {
    const auto* d = view<fb::MetricDesc>(desc);
    if (!d || text(d->name()).empty()) return 0;
    Header h;
    {
      const std::lock_guard lock(mutex_);
      const auto [it, fresh] =
          metric_ids_.try_emplace(std::string(text(d->name())), static_cast<std::uint32_t>(metric_ids_.size() + 1));
      if (!fresh) return it->second;
      h.type = Type::metric;
      h.token = it->second;
      if (d->kind() == fb::MetricKind::HISTOGRAM) histograms_.insert(it->second);
    }
    say(h, desc);
    return static_cast<std::uint32_t>(h.token);
  }
  // Numbers leave every tenth of a second: sums for counters and gauges, each observation of a histogram.
  void metric_add(std::uint32_t id, double value) override {
    if (id == 0) return;
    bool first = false;
    {
      const std::lock_guard lock(mutex_);
      first = adds_.empty();
      if (histograms_.count(id)) {
        if (adds_.size() < max_adds) adds_.push_back({id, 0, value});
      } else {
        const auto [it, fresh] = sums_.try_emplace(id, adds_.size());
        if (fresh) adds_.push_back({id, 0, value});
        else adds_[it->second].value += value;
      }
    }
    if (!first) return;
    loop_.post([this] {
      loop_.after(std::chrono::milliseconds(100), [this] { send_adds(); });
    });
  }

 private:
  // What the module asks of the kernel.
  class Forward final : public module::Service {
   public:
    Forward(Guest& guest, std::uint32_t service) : guest_(guest), service_(service) {}
    void request(const module::ServiceRequest& r, module::ServiceReply reply) override {
      guest_.replies_[r.id] = std::move(reply);
      Header h;
      h.type = Type::request;
      h.method = r.method;
      h.extra = service_;
      h.token = r.id;
      guest_.send(h, r.body);
    }
    void cancelled(std::uint64_t id) override {
      if (!guest_.replies_.count(id)) return;
      Header h;
      h.type = Type::request_cancel;
      h.token = id;
      guest_.send(h);
    }

   private:
    Guest& guest_;
    const std::uint32_t service_;
  };

  // ---- to the kernel
  void send(const Header& h, Bytes body = {}) {
    writer_.add(h, body);
    flush_later();
  }
  void say(const Header& h, Bytes body) {
    {
      const std::lock_guard lock(mutex_);
      said_.emplace_back(h, Buffer(body));
      if (std::exchange(said_posted_, true)) return;
    }
    loop_.post([this] { flush_later(); });
  }
  void flush_later() {
    if (blocked_ || std::exchange(flush_posted_, true)) return;
    loop_.post([this] {
      flush_posted_ = false;
      flush();
    });
  }
  void flush() {
    if (blocked_) return;
    take_said();
    if (instance_) {
      const module::Counters c = instance_->counters();
      if (c.faults != faults_ || c.slow != slow_) {
        Header h;
        h.type = Type::counters;
        h.token = faults_ = c.faults;
        h.extra = slow_ = c.slow;
        writer_.add(h);
      }
    }
    switch (writer_.flush(socket_->fd())) {
      case FrameWriter::Flushed::all:
        return;
      case FrameWriter::Flushed::blocked:
        blocked_ = true;
        return socket_->want_write();
      case FrameWriter::Flushed::failed:
        leave(0);
    }
  }
  void take_said() {
    std::vector<std::pair<Header, Buffer>> said;
    {
      const std::lock_guard lock(mutex_);
      said_posted_ = false;
      said.swap(said_);
    }
    for (const auto& [h, body] : said) writer_.add(h, body);
  }
  void send_adds() {
    std::vector<MetricAdd> adds;
    {
      const std::lock_guard lock(mutex_);
      adds.swap(adds_);
      sums_.clear();
    }
    take_said();  // their descriptions
    Header h;
    h.type = Type::metric_add;
    send(h, {reinterpret_cast<const std::uint8_t*>(adds.data()), adds.size() * sizeof(MetricAdd)});
  }
  // Writes all there is, with the little patience there is at the end, and goes.
  [[noreturn]] void finish(int status) {
    take_said();
    for (int i = 0; i < 100 && writer_.flush(socket_->fd()) == FrameWriter::Flushed::blocked; ++i) {
      pollfd p{socket_->fd(), POLLOUT, 0};
      ::poll(&p, 1, 20);
    }
    leave(status);
  }

  // ---- from the kernel
  void readable() {
    if (instance_->backlog() > pause_reading) {  // a module with a thread of its own that is behind
      loop_.after(std::chrono::milliseconds(2), [this] { readable(); });
      return;
    }
    for (std::size_t total = 0; total < read_a_turn;) {
      iovec iov{reader_.room(read_at_once), read_at_once};
      msghdr message{};
      alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * 253)];
      message.msg_iov = &iov;
      message.msg_iovlen = 1;
      message.msg_control = control;
      message.msg_controllen = sizeof control;
      const ssize_t n = ::recvmsg(socket_->fd(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) break;
      if (n <= 0) leave(0);  // the kernel has gone
      for (cmsghdr* c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
        const std::size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (std::size_t i = 0; i < count; ++i) {
          int fd = -1;
          std::memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof fd);
          fds_.emplace_back(fd);
        }
      }
      reader_.arrived(static_cast<std::size_t>(n));
      total += static_cast<std::size_t>(n);
      for (;;) {
        Header h;
        Bytes body;
        const auto got = reader_.next(h, body);
        if (!got) {
          std::fprintf(stderr, "the kernel sent a %s\n", got.error().message.c_str());
          leave(4);
        }
        if (!*got) break;
        on_frame(h, body);
      }
      if (static_cast<std::size_t>(n) < read_at_once) break;
    }
    socket_->want_read();
  }

  void on_frame(const Header& h, Bytes body) {
    switch (h.type) {
      case Type::call: {
        module::CallOptions options;
        options.deadline = base::Instant(static_cast<std::int64_t>(h.extra));
        options.keep_deadline = false;  // the kernel does
        std::vector<base::Fd> fds;
        for (unsigned i = 0; i < h.fds && !fds_.empty(); ++i) {
          fds.push_back(std::move(fds_.front()));
          fds_.pop_front();
          options.fds.push_back(fds.back().get());
        }
        ids_[h.token] = instance_->call(
            h.method, Buffer(body), [this, token = h.token](gantry_code code, Bytes b) { complete(token, code, b); },
            std::move(options));
        return;
      }
      case Type::cancel:
        if (const auto it = ids_.find(h.token); it != ids_.end()) instance_->cancel(it->second);
        return;
      case Type::reply: {
        const auto it = replies_.find(h.token);
        if (it == replies_.end()) return;
        if (h.code == GANTRY_MORE) return it->second(h.code, body);
        const module::ServiceReply reply = std::move(it->second);
        replies_.erase(it);
        return reply(h.code, body);
      }
      case Type::threshold:
        base::log_threshold() = static_cast<std::uint32_t>(h.code);
        return;
      case Type::destroy:
        spawn(instance_->stop(false, base::Nanos(0), base::Nanos(static_cast<std::int64_t>(h.extra))),
              [this](Status stopped) {
                Header done;
                done.type = Type::destroyed;
                done.code = stopped ? GANTRY_OK : static_cast<std::int32_t>(stopped.error().code);
                // Said to the loop's end of the line first: what the module completed while it was stopped.
                flush_posted_ = true;
                loop_.post([this, done, stopped] {
                  send(done, stopped ? Buffer() : pack_error(stopped.error()));
                  finish(0);
                });
              });
        return;
      default:
        return;
    }
  }

  void complete(std::uint64_t token, gantry_code code, Bytes body) {
    const auto it = ids_.find(token);
    if (it == ids_.end()) return;  // its stream was cut
    Header h;
    h.type = Type::complete;
    h.token = token;
    h.code = code;
    if (code == GANTRY_MORE && writer_.waiting() + body.size() > queue_bytes) {
      instance_->cancel(it->second);
      ids_.erase(it);
      h.code = GANTRY_RESOURCE_EXHAUSTED;
      const Buffer b = pack_error(fail(Code::resource_exhausted, options_.id() + " sent more than can wait"));
      return send(h, b);
    }
    if (body.size() > module::process::max_body) {
      h.code = GANTRY_RESOURCE_EXHAUSTED;
      instance_->cancel(it->second);
      ids_.erase(it);
      const Buffer b = pack_error(fail(Code::resource_exhausted, options_.id() + " answered with " +
                                                                     std::to_string(body.size()) +
                                                                     " bytes, more than one message may have"));
      return send(h, b);
    }
    if (code != GANTRY_MORE) ids_.erase(it);
    send(h, body);
  }

  static constexpr std::size_t max_adds = 4096;  // between two sendings

  net::RealLoop& loop_;
  const Options& options_;
  std::unique_ptr<net::FdWatch> socket_;
  FrameReader reader_{FrameReader::From::kernel};
  FrameWriter writer_;
  std::deque<base::Fd> fds_;  // arrived, not claimed by a frame yet
  bool flush_posted_ = false, blocked_ = false;
  std::uint64_t faults_ = 0, slow_ = 0;

  base::Metrics metrics_;  // of the instance itself; the kernel has its own
  std::unique_ptr<module::Strands> strands_;
  std::vector<std::unique_ptr<Forward>> forwards_;
  module::Services services_;
  std::set<std::string> allowed_;
  std::unique_ptr<module::LocalInstance> instance_;
  std::unordered_map<std::uint64_t, std::uint64_t> ids_;  // the kernel's token -> the instance's
  std::unordered_map<std::uint64_t, module::ServiceReply> replies_;

  std::mutex mutex_;  // guards the rest
  std::vector<std::pair<Header, Buffer>> said_;
  bool said_posted_ = false;
  std::map<std::string, std::uint32_t> metric_ids_;
  std::set<std::uint32_t> histograms_;
  std::vector<MetricAdd> adds_;
  std::unordered_map<std::uint32_t, std::size_t> sums_;  // place in adds_
};

Result<module::Loaded> load(const Options& o, int file, const Status& shut) {
  GANTRY_CHECK(shut);
  // By its name if that can be read, so that people and debuggers see it; else through the descriptor opened before.
  std::string path = o.module;
  if (::access(path.c_str(), R_OK) != 0 && file >= 0) path = "/proc/self/fd/" + std::to_string(file);
  GANTRY_TRY(const config::Manifest manifest, config::read_manifest(path));
  if (manifest.unstable && !o.unstable)
    return fail(Code::failed_precondition, "module " + o.module + " marks itself unstable");
  return module::map_provider(path, manifest, o.kind, o.name, o.module, module::kinds, module::Place::process);
}

}  // namespace

int run_guest(const Options& options, int file, const Status& shut) {
  const auto loop = net::make_real_loop();
  // Never destroyed: the process ends from inside.
  auto* guest = new Guest(*loop, options);
  auto loaded = load(options, file, shut);
  loop->post([&] {
    if (!loaded) guest->refuse(loaded.error());
    else guest->start(std::move(*loaded));
  });
  loop->run();
  return 0;
}

}  // namespace gantry::modhost
