#include "kernel/module/process/frame.hpp"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace gantry::module::process {
namespace {

constexpr std::size_t padded(std::size_t n) { return (n + 7) & ~std::size_t{7}; }
constexpr std::size_t keep = 256 << 10;         // memory held for the next burst
constexpr std::size_t most_at_once = 1 << 20;   // of one sendmsg
constexpr std::size_t most_fds_at_once = 200;   // the kernel allows 253

bool known(Type t, FrameReader::From from) {
  return from == FrameReader::From::kernel ? t >= Type::call && t <= Type::destroy
                                           : t >= Type::hello && t <= Type::destroyed;
}

}  // namespace

std::uint8_t* FrameReader::room(std::size_t n) {
  if (begin_ == end_) {
    begin_ = end_ = 0;
    if (buffer_.size() > keep && n <= keep) std::vector<std::uint8_t>().swap(buffer_);
  } else if (begin_ && begin_ >= buffer_.size() / 2) {
    // Frames are padded, so this moves by a multiple of 8.
    std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  if (buffer_.size() < end_ + n) buffer_.resize(std::max(end_ + n, std::min(buffer_.size() * 2, end_ + n + max_body)));
  return buffer_.data() + end_;
}

Result<bool> FrameReader::next(Header& header, Bytes& body) {
  const std::size_t have = end_ - begin_;
  if (have < sizeof header) return false;
  std::memcpy(&header, buffer_.data() + begin_, sizeof header);
  if (!known(header.type, from_) || header.reserved != 0)
    return fail(Code::data_loss, "frame of unknown type " + std::to_string(static_cast<unsigned>(header.type)));
  if (header.length > max_body)
    return fail(Code::data_loss, "frame of " + std::to_string(header.length) + " bytes; at most " +
                                     std::to_string(max_body) + " are accepted");
  if (header.fds > max_fds || (header.fds && from_ == From::host))
    return fail(Code::data_loss, "frame with " + std::to_string(header.fds) + " descriptors");
  if (have < sizeof header + padded(header.length)) return false;
  body = {buffer_.data() + begin_ + sizeof header, header.length};
  begin_ += sizeof header + padded(header.length);
  return true;
}

void FrameWriter::add(Header header, Bytes body, std::vector<base::Fd> fds) {
  header.length = static_cast<std::uint32_t>(body.size());
  header.fds = static_cast<std::uint8_t>(fds.size());
  if (sent_ > most_at_once && sent_ > buffer_.size() / 2) {  // a slow reader must not make what it has read pile up
    buffer_.erase(buffer_.begin(), buffer_.begin() + static_cast<std::ptrdiff_t>(sent_));
    before_ += std::exchange(sent_, 0);
  }
  const std::size_t at = buffer_.size();
  for (auto& fd : fds) fds_.push_back({before_ + at, std::move(fd)});
  const std::size_t whole = sizeof header + padded(body.size());
  if (buffer_.capacity() < at + whole) buffer_.reserve(std::max(at + whole, buffer_.capacity() * 2));
  const auto* h = reinterpret_cast<const std::uint8_t*>(&header);
  buffer_.insert(buffer_.end(), h, h + sizeof header);
  buffer_.insert(buffer_.end(), body.begin(), body.end());
  buffer_.resize(at + whole);
}

FrameWriter::Flushed FrameWriter::flush(int socket) {
  while (waiting()) {
    std::size_t n = std::min(waiting(), most_at_once);
    // Descriptors travel with the first byte of a write. A frame never begins before its own do, because all those whose
    // frames begin in this write go along with it.
    std::size_t count = 0;
    const std::uint64_t position = before_ + sent_;
    while (count < fds_.size() && fds_[count].at < position + n) {
      if (count == most_fds_at_once) {
        // Cut before the frame that would need more; a frame's own never exceed max_fds.
        while (count > 0 && fds_[count - 1].at == fds_[count].at) --count;
        n = static_cast<std::size_t>(fds_[count].at - position);
        break;
      }
      ++count;
    }
    iovec iov{buffer_.data() + sent_, n};
    msghdr message{};
    message.msg_iov = &iov;
    message.msg_iovlen = 1;
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * most_fds_at_once)];
    if (count) {
      message.msg_control = control;
      message.msg_controllen = CMSG_SPACE(sizeof(int) * count);
      cmsghdr* c = CMSG_FIRSTHDR(&message);
      c->cmsg_level = SOL_SOCKET;
      c->cmsg_type = SCM_RIGHTS;
      c->cmsg_len = CMSG_LEN(sizeof(int) * count);
      for (std::size_t i = 0; i < count; ++i) {
        const int fd = fds_[i].fd.get();
        std::memcpy(CMSG_DATA(c) + i * sizeof(int), &fd, sizeof fd);
      }
    }
    const ssize_t written = ::sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (written < 0) {
      if (errno == EINTR) continue;
      return errno == EAGAIN || errno == EWOULDBLOCK ? Flushed::blocked : Flushed::failed;
    }
    sent_ += static_cast<std::size_t>(written);
    fds_.erase(fds_.begin(), fds_.begin() + static_cast<std::ptrdiff_t>(count));
  }
  before_ += sent_;
  sent_ = 0;
  buffer_.clear();
  if (buffer_.capacity() > keep) std::vector<std::uint8_t>().swap(buffer_);
  return Flushed::all;
}

}  // namespace gantry::module::process
