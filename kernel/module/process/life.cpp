// The process of an instance: its start, its socket, its end.
#include "kernel/module/process/child.hpp"

#include "kernel/base/log.hpp"

#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>

namespace gantry::module::process {
namespace {

// What one turn of the loop takes from a module at most: others have theirs.
constexpr std::size_t read_at_once = 64 << 10;
constexpr std::size_t read_a_turn = 256 << 10;
constexpr std::size_t longest_line = 4096;
// A process whose connection has ended has ended too, or else is ended after this.
constexpr base::Nanos end_after_loss = std::chrono::milliseconds(200);
constexpr base::Nanos output_pause = std::chrono::milliseconds(100);

void send_signal(const base::Fd& pidfd, int signal) {
  (void)::syscall(SYS_pidfd_send_signal, pidfd.get(), signal, nullptr, 0);
}

}  // namespace

ProcessInstance::~ProcessInstance() {
  if (!child_) return;
  const ChildPtr child = std::exchange(child_, nullptr);
  base::log_error(id_, "was dropped without being stopped; its process is killed");
  if (child->timer) setup_.loop->cancel(child->timer);
  if (child->output_timer) setup_.loop->cancel(child->output_timer);
  setup_.loop->unwatch(child->exit_watch);
  send_signal(child->spawned.pidfd, SIGKILL);
  siginfo_t info{};
  ::waitid(P_PIDFD, static_cast<id_t>(child->spawned.pidfd.get()), &info, WEXITED);
}

int ProcessInstance::pid() const { return child_ ? child_->spawned.pid : 0; }

Task<Status> ProcessInstance::create() {
  if (child_) co_return fail(Code::internal, id_ + " is created already");
  setup_.command.quiet = starts_ > 0;
  auto spawned = spawn_host(setup_.command);
  if (!spawned) co_return std::move(spawned).error();
  ++starts_;
  before_.faults += counters_.faults;
  before_.slow += counters_.slow;
  counters_.faults = counters_.slow = 0;
  metric_ids_.clear();
  stopping_ = false;

  const auto child = std::make_shared<Child>();
  child->spawned = std::move(*spawned);
  child_ = child;
  const std::weak_ptr<Child> weak = child;
  const auto with = [this, weak](void (ProcessInstance::*what)(const ChildPtr&)) {
    return [this, weak, what] {
      if (const ChildPtr c = weak.lock()) (this->*what)(c);
    };
  };
  net::RealLoop& loop = *setup_.loop;
  child->socket = std::make_unique<net::FdWatch>(loop, std::move(child->spawned.socket),
                                                 with(&ProcessInstance::readable), [this, weak] {
                                                   const ChildPtr c = weak.lock();
                                                   if (!c) return;
                                                   c->blocked = false;
                                                   flush(c);
                                                 });
  child->output = std::make_unique<net::FdWatch>(loop, std::move(child->spawned.output),
                                                 with(&ProcessInstance::output), nullptr);
  child->exit_watch = loop.watch_readable(child->spawned.pidfd.get(), with(&ProcessInstance::exited));
  child->socket->want_read();
  child->output->want_read();

  creating_ = std::make_shared<Promise<Status>>();
  const auto creating = creating_;
  const base::TimerId timer = loop.after(setup_.create_timeout, [creating, this] {
    creating->set(fail(Code::deadline_exceeded, id_ + " could not be loaded: create() did not return in time"));
  });
  Status made = co_await creating->get();
  loop.cancel(timer);
  creating_.reset();
  if (!made) {
    if (!child->ended) end(child, "not created");
    auto ending = wait_for_end(child);
    co_await std::move(ending);
    co_return made;
  }
  created_ = true;
  base::log_debug(id_, "runs in a process of its own", {{"pid", std::to_string(child->spawned.pid)}});
  co_return ok;
}

Task<Status> ProcessInstance::stop(bool drain, base::Nanos timeout, base::Nanos grace) {
  const ChildPtr child = child_;
  net::RealLoop& loop = *setup_.loop;
  stopping_ = true;
  if (!child) {
    if (state_ != State::failed) set_state(State::stopped);
    co_return ok;
  }
  const bool was_created = created_;
  if (state_ != State::failed) set_state(State::stopping);
  Status outcome = ok;
  if (was_created && child->connected) {
    if (drain) {
      CallOptions options;
      options.deadline = loop.now() + timeout;
      options.from_host = true;
      Result<Buffer> stopped = co_await ask(GANTRY_METHOD_STOP, Buffer(), std::move(options));
      if (!stopped && stopped.error().code != Code::unimplemented) {
        message_ = stopped.error().message;
        base::log_warning(id_, "did not stop cleanly", {{"reason", message_}});
      }
    }
    for (Slot& s : slots_)
      if (s.open) cancel(s.token);
    requests_->close(true);
    if (child->connected) {
      destroying_ = std::make_shared<Promise<Status>>();
      const auto destroying = destroying_;
      Header h;
      h.type = Type::destroy;
      h.extra = static_cast<std::uint64_t>(grace.count());
      send(h);
      const base::TimerId timer = loop.after(grace + grace / 2 + std::chrono::milliseconds(100), [destroying, this] {
        destroying->set(fail(Code::deadline_exceeded, id_ + " does not stop; its process is killed"));
      });
      Status destroyed = co_await destroying->get();
      loop.cancel(timer);
      destroying_.reset();
      if (!destroyed) outcome = destroyed;
    }
  }
  created_ = false;
  if (!child->ended) {
    // An orderly end closes the socket by itself; what does not is ended.
    if (outcome && was_created && !child->timer) {
      child->timer = loop.after(std::chrono::seconds(1), [this, weak = std::weak_ptr<Child>(child)] {
        const ChildPtr c = weak.lock();
        if (!c) return;
        c->timer = 0;
        end(c, "did not end");
      });
    } else if (!outcome || !was_created) {
      end(child, "killed");
    }
  }
  auto ending = wait_for_end(child);
  co_await std::move(ending);
  if (state_ == State::stopping) state_ = State::stopped;
  co_return outcome;
}

Task<void> ProcessInstance::wait_for_end(ChildPtr child) {
  if (child->ended) co_return;
  Promise<bool> ended;
  child->waiting.push_back(ended);
  co_await ended.get();
}

void ProcessInstance::kill(const std::string& why) {
  if (child_) end(child_, why);
}

void ProcessInstance::end(const ChildPtr& child, const std::string& why) {
  if (child->ended) return;
  if (child->why.empty()) child->why = why;
  if (child->timer) setup_.loop->cancel(child->timer);
  send_signal(child->spawned.pidfd, SIGTERM);
  child->timer = setup_.loop->after(setup_.term_grace, [this, weak = std::weak_ptr<Child>(child)] {
    const ChildPtr c = weak.lock();
    if (!c) return;
    c->timer = 0;
    base::log_warning(id_, "its process does not end on SIGTERM; it is killed");
    send_signal(c->spawned.pidfd, SIGKILL);
  });
  lost(child);
}

// ---- the socket

void ProcessInstance::send(const Header& header, Bytes body, std::vector<base::Fd> fds) {
  if (!child_ || !child_->connected) return;
  child_->writer.add(header, body, std::move(fds));
  flush_later(child_);
}

// What is sent in one turn of the loop leaves in one write.
void ProcessInstance::flush_later(const ChildPtr& child) {
  if (child->blocked || std::exchange(child->flush_posted, true)) return;
  setup_.loop->post([this, weak = std::weak_ptr<Child>(child)] {
    const ChildPtr c = weak.lock();
    if (!c) return;
    c->flush_posted = false;
    flush(c);
  });
}

void ProcessInstance::flush(const ChildPtr& child) {
  if (!child->connected || child->blocked) return;
  if (const auto level = base::log_threshold().load(std::memory_order_relaxed); level != child->threshold) {
    child->threshold = level;
    Header h;
    h.type = Type::threshold;
    h.code = static_cast<std::int32_t>(level);
    child->writer.add(h);
  }
  switch (child->writer.flush(child->socket->fd())) {
    case FrameWriter::Flushed::all:
      return;
    case FrameWriter::Flushed::blocked:
      child->blocked = true;
      child->socket->want_write();
      return;
    case FrameWriter::Flushed::failed:
      return lost(child);
  }
}

void ProcessInstance::readable(const ChildPtr& child) {
  if (read_some(child, read_a_turn) && child->connected) child->socket->want_read();
}

// False: the connection has ended.
bool ProcessInstance::read_some(const ChildPtr& child, std::size_t limit) {
  for (std::size_t total = 0; total < limit && child->connected;) {
    std::uint8_t* room = child->reader.room(read_at_once);
    // recv takes no descriptors: those a module sends are dropped by the system.
    const ssize_t n = ::recv(child->socket->fd(), room, read_at_once, MSG_DONTWAIT);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return true;
    if (n <= 0) {
      lost(child);
      return false;
    }
    child->reader.arrived(static_cast<std::size_t>(n));
    total += static_cast<std::size_t>(n);
    for (;;) {
      Header header;
      Bytes body;
      auto got = child->reader.next(header, body);
      if (!got) {
        // Never the module host's doing: something in its process writes to the descriptor.
        const std::string why = "sent garbage on its socket: " + got.error().message;
        end(child, why);
        return false;
      }
      if (!*got) break;
      on_frame(header, body);
      if (!child->connected) return false;
    }
    if (static_cast<std::size_t>(n) < read_at_once) return true;
  }
  return child->connected;
}

void ProcessInstance::lost(const ChildPtr& child) {
  if (!std::exchange(child->connected, false)) return;
  child->socket.reset();
  if (!child->ended && !child->timer)
    child->timer = setup_.loop->after(end_after_loss, [this, weak = std::weak_ptr<Child>(child)] {
      const ChildPtr c = weak.lock();
      if (!c) return;
      c->timer = 0;
      end(c, "closed its socket");
    });
  if (child != child_) return;
  if (created_ && !stopping_ && state_ <= State::degraded) state_ = State::restarting;
  requests_->close(false);
  fail_calls();
  // After an orderly end nobody waits for these any more.
  if (destroying_) destroying_->set(fail(Code::unavailable, id_ + " ended before it was stopped"));
}

// ---- the end

void ProcessInstance::exited(const ChildPtr& child) {
  if (child->ended) return;
  siginfo_t info{};
  if (::waitid(P_PIDFD, static_cast<id_t>(child->spawned.pidfd.get()), &info, WEXITED | WNOHANG) != 0 ||
      info.si_pid == 0)
    return;
  // Its last words first.
  if (child->connected) read_some(child, std::size_t{16} << 20);
  if (child->output) output(child);
  child->ended = true;
  setup_.loop->unwatch(child->exit_watch);
  if (child->timer) setup_.loop->cancel(std::exchange(child->timer, 0));
  if (child->output_timer) setup_.loop->cancel(std::exchange(child->output_timer, 0));
  child->output.reset();
  std::string why = child->why;
  if (why.empty()) {
    char line[512];
    const ssize_t n = ::read(child->spawned.status.get(), line, sizeof line);
    if (n > 0) why.assign(line, static_cast<std::size_t>(n));
    while (!why.empty() && why.back() == '\n') why.pop_back();
  }
  if (why.empty()) why = describe_end(info.si_code, info.si_status);
  lost(child);
  child_.reset();
  const bool unasked = std::exchange(created_, false) && !stopping_;
  if (creating_) creating_->set(fail(Code::unavailable, id_ + " could not be loaded; its process ended: " + why));
  for (const auto& promise : std::exchange(child->waiting, {})) promise.set(true);
  if (unasked && on_ended_) on_ended_(fail(Code::unavailable, why));
}

// What it writes to stdout and stderr, as lines of the log; not more than its share.
void ProcessInstance::output(const ChildPtr& child) {
  if (!child->output) return;
  char buffer[16 << 10];
  const ssize_t n = ::read(child->output->fd(), buffer, sizeof buffer);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return child->output->want_read();
  if (n <= 0) {
    child->output.reset();
    return;
  }
  bool full = false;
  const auto write = [&] {
    std::uint64_t dropped = 0;
    if (child->line.empty()) return;
    if (log_budget_.take(setup_.loop->now(), dropped)) {
      if (dropped) base::log_warning(id_, "logs too much; " + std::to_string(dropped) + " records were dropped");
      base::log_info(id_, child->line);
    } else {
      full = true;
    }
    child->line.clear();
  };
  for (ssize_t i = 0; i < n; ++i) {
    const char c = buffer[i];
    if (c == '\n' || child->line.size() >= longest_line) write();
    if (c != '\n') child->line += c >= 0 && c < ' ' && c != '\t' ? ' ' : c;
  }
  if (child->ended) return;
  if (!full) return child->output->want_read();
  // It fills the pipe meanwhile, and then waits: that is its own affair.
  child->output_timer = setup_.loop->after(output_pause, [weak = std::weak_ptr<Child>(child)] {
    const ChildPtr c = weak.lock();
    if (!c) return;
    c->output_timer = 0;
    if (c->output) c->output->want_read();
  });
}

}  // namespace gantry::module::process
