// Framed links: u32 little-endian length, then the payload, over TCP or unix sockets.
#include "kernel/net/socket.hpp"

#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <cerrno>
#include <deque>

namespace gantry::net {
namespace {

constexpr std::size_t chunk_size = 64u << 10;   // small frames are gathered in pieces of this size
constexpr std::size_t read_size = 256u << 10;
constexpr base::Nanos linger = std::chrono::seconds(3);

// One buffer for all links of a thread: most links are idle, and an idle one shall cost no memory.
std::vector<std::uint8_t>& read_buffer() {
  thread_local std::vector<std::uint8_t> buffer(read_size);
  return buffer;
}

// Written chunks that wait to be filled again, of all links of a thread, for the same reason.
class Spares {
 public:
  static Spares& get() {
    thread_local Spares spares;
    return spares;
  }
  [[nodiscard]] std::vector<std::uint8_t> take() {
    if (chunks_.empty()) return {};
    auto chunk = std::move(chunks_.back());
    chunks_.pop_back();
    chunk.clear();
    return chunk;
  }
  void give(std::vector<std::uint8_t> chunk) {
    if (chunks_.size() < most && chunk.capacity() <= 2 * chunk_size) chunks_.push_back(std::move(chunk));
  }

 private:
  static constexpr std::size_t most = 16;
  std::vector<std::vector<std::uint8_t>> chunks_;
};

class Conn : public std::enable_shared_from_this<Conn> {
 public:
  Conn(RealLoop& loop, base::Fd fd, std::string peer, const LinkOptions& options)
      : loop_(loop),
        options_(options),
        peer_(std::move(peer)),
        watch_(std::make_unique<FdWatch>(loop, std::move(fd), [this] { readable(); }, [this] { flush(); })) {
    watch_->want_read();
  }
  ~Conn() {
    if (timer_) loop_.cancel(timer_);
  }

  bool send(Bytes frame) {
    if (!open_) return false;
    if (frame.size() > max_frame) {
      end(fail(Code::out_of_range, "frame of " + std::to_string(frame.size()) + " bytes to " + peer_ + " exceeds the limit of " +
                                       std::to_string(max_frame)));
      return false;
    }
    if (out_bytes_ + frame.size() + 4 > options_.max_queue) {
      end(fail(Code::resource_exhausted, peer_ + " reads too slowly: more than " + std::to_string(options_.max_queue) +
                                             " bytes wait for it"));
      return false;
    }
    const auto n = static_cast<std::uint32_t>(frame.size());
    const std::array<std::uint8_t, 4> head{static_cast<std::uint8_t>(n), static_cast<std::uint8_t>(n >> 8),
                                           static_cast<std::uint8_t>(n >> 16), static_cast<std::uint8_t>(n >> 24)};
    if (out_.empty() || (out_.back().size() + frame.size() + 4 > chunk_size && !out_.back().empty())) out_.push_back(Spares::get().take());
    auto& chunk = out_.back();
    chunk.insert(chunk.end(), head.begin(), head.end());
    chunk.insert(chunk.end(), frame.begin(), frame.end());
    out_bytes_ += frame.size() + 4;
    // The first frame leaves at once: whoever waits for it is awake sooner. What else is sent until the loop comes round leaves together.
    if (!std::exchange(flush_pending_, true)) {
      loop_.post([weak = weak_from_this()] {
        if (const auto self = weak.lock()) {
          self->flush_pending_ = false;
          self->flush();
        }
      });
      flush();
    }
    return open_;
  }

  void close() {
    if (!open_) return;
    open_ = false;
    report(fail(Code::cancelled, "closed by this side"));
    start_linger();
  }
  // The owner has gone: like close, but nobody is told.
  void abandon() {
    if (on_frame_ || on_closed_) {
      // One of them may be running right now.
      loop_.post([a = std::move(on_frame_), b = std::move(on_closed_)] {});
    }
    if (open_) {
      open_ = false;
      start_linger();
    }
  }

  void on_frame(Function<void(Bytes)> fn) { on_frame_ = std::make_shared<Function<void(Bytes)>>(std::move(fn)); }
  void on_closed(Function<void(const Error&)> fn) { on_closed_ = std::make_shared<Function<void(const Error&)>>(std::move(fn)); }
  [[nodiscard]] const std::string& peer() const { return peer_; }

 private:
  void report(Error error) {
    loop_.post([self = shared_from_this(), error = std::move(error)] {
      const auto frame = std::move(self->on_frame_);  // they may hold the link: what it refers to ends with them
      const auto closed = std::move(self->on_closed_);
      if (closed && *closed) (*closed)(error);
    });
  }
  // The connection is over, for a reason from outside.
  void end(Error error) {
    if (open_) {
      open_ = false;
      report(std::move(error));
    }
    drop();
  }
  void drop() {
    watch_.reset();
    out_.clear();
    out_bytes_ = 0;
    if (timer_) loop_.cancel(std::exchange(timer_, 0));
    if (held_) release(loop_, std::exchange(held_, 0));
  }
  // Lets queued frames reach the peer: write them, end our side, wait until the peer ends its own.
  void start_linger() {
    const auto self = shared_from_this();
    if (!watch_) return;
    held_ = hold(loop_, self);
    timer_ = loop_.after(linger, [this] {
      timer_ = 0;
      const auto keep = shared_from_this();
      drop();
    });
    flush();
  }

  void readable() {
    const auto self = shared_from_this();
    auto& buffer = read_buffer();
    for (int burst = 0; burst < 8; ++burst) {
      const auto n = receive(watch_->fd(), buffer.data(), buffer.size());
      if (n == 0) return end(fail(Code::unavailable, peer_ + " closed the connection"));
      if (n < 0) {
        if (errno == EAGAIN || errno == EWOULDBLOCK) break;
        return end(fail(Code::unavailable, "connection to " + peer_ + " failed: " + errno_text(errno)));
      }
      if (open_) {
        // Held here: closing the link in the callback releases it.
        const auto call = on_frame_;
        const Status status = parser_.feed(Bytes(buffer.data(), static_cast<std::size_t>(n)), [&](Bytes frame) {
          if (open_ && call && *call) (*call)(frame);
        });
        if (!status && open_) return end(Error(status.error()).because(peer_));
      }
      if (!watch_) return;
      if (static_cast<std::size_t>(n) < buffer.size()) break;
    }
    watch_->want_read();
  }

  void flush() {
    if (!watch_) return;
    const auto self = shared_from_this();
    while (out_bytes_ > 0) {
      std::array<iovec, 64> pieces;
      std::size_t count = 0;
      for (auto it = out_.begin(); it != out_.end() && count < pieces.size(); ++it, ++count) {
        const std::size_t skip = count == 0 ? out_offset_ : 0;
        pieces[count] = {it->data() + skip, it->size() - skip};
      }
      msghdr message{};
      message.msg_iov = pieces.data();
      message.msg_iovlen = count;
      const auto n = ::sendmsg(watch_->fd(), &message, MSG_NOSIGNAL);
      if (n < 0) {
        if (errno == EINTR) continue;
        if (errno == EAGAIN || errno == EWOULDBLOCK) return watch_->want_write();
        // What the peer sent before it went is still to be read; readable() reports the end.
        if (open_ && (errno == EPIPE || errno == ECONNRESET)) {
          out_.clear();
          out_bytes_ = 0;
          return watch_->want_read();
        }
        return end(fail(Code::unavailable, "connection to " + peer_ + " failed: " + errno_text(errno)));
      }
      out_bytes_ -= static_cast<std::size_t>(n);
      out_offset_ += static_cast<std::size_t>(n);
      while (!out_.empty() && out_offset_ >= out_.front().size()) {
        out_offset_ -= out_.front().size();
        Spares::get().give(std::move(out_.front()));
        out_.pop_front();
      }
    }
    if (!open_) {
      ::shutdown(watch_->fd(), SHUT_WR);
      watch_->want_read();
    }
  }

  RealLoop& loop_;
  const LinkOptions options_;
  const std::string peer_;
  std::unique_ptr<FdWatch> watch_;  // null: over
  FrameParser parser_;
  std::deque<std::vector<std::uint8_t>> out_;
  std::size_t out_offset_ = 0;  // written bytes of the first chunk
  std::size_t out_bytes_ = 0;
  bool flush_pending_ = false;
  bool open_ = true;
  std::shared_ptr<Function<void(Bytes)>> on_frame_;
  std::shared_ptr<Function<void(const Error&)>> on_closed_;
  base::TimerId timer_ = 0;
  std::uint64_t held_ = 0;
};

// What callers hold; its end is the end of the connection.
class LinkHandle final : public Link {
 public:
  explicit LinkHandle(std::shared_ptr<Conn> conn) : conn_(std::move(conn)) {}
  ~LinkHandle() override { conn_->abandon(); }
  bool send(Bytes frame) override { return conn_->send(frame); }
  void close() override { conn_->close(); }
  [[nodiscard]] const std::string& peer() const override { return conn_->peer(); }
  void on_frame(Function<void(Bytes)> fn) override { conn_->on_frame(std::move(fn)); }
  void on_closed(Function<void(const Error&)> fn) override { conn_->on_closed(std::move(fn)); }

 private:
  std::shared_ptr<Conn> conn_;
};

LinkPtr make_link(RealLoop& loop, base::Fd fd, std::string peer, const LinkOptions& options) {
  return std::make_shared<LinkHandle>(std::make_shared<Conn>(loop, std::move(fd), std::move(peer), options));
}

class LinkListener final : public Listener {
 public:
  explicit LinkListener(std::unique_ptr<Acceptor> acceptor) : acceptor_(std::move(acceptor)) {}
  [[nodiscard]] const Address& address() const override { return acceptor_->address(); }

 private:
  std::unique_ptr<Acceptor> acceptor_;
};

}  // namespace

Result<std::unique_ptr<Listener>> listen(RealLoop& loop, const Address& address, Function<void(LinkPtr)> on_link, LinkOptions options) {
  GANTRY_TRY(auto acceptor, Acceptor::make(loop, address,
                                           [&loop, options, on_link = std::move(on_link)](base::Fd fd, std::string peer) mutable {
                                             on_link(make_link(loop, std::move(fd), std::move(peer), options));
                                           }));
  return std::unique_ptr<Listener>(std::make_unique<LinkListener>(std::move(acceptor)));
}

void connect(RealLoop& loop, const Address& address, Function<void(Result<LinkPtr>)> done, LinkOptions options) {
  dial(loop, address, options.connect_timeout, [&loop, options, peer = address.text(), done = std::move(done)](Result<base::Fd> fd) mutable {
    if (!fd) return done(std::move(fd).error());
    done(make_link(loop, std::move(*fd), std::move(peer), options));
  });
}

}  // namespace gantry::net
