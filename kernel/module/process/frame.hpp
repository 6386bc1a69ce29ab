// What goes over the socket between the kernel and gantry-modhost: a header of 32 bytes, a body, perhaps descriptors.
// The same for every kind: nobody here knows what a body means. Both ends are one build on one machine, so the format is
// internal and in host byte order.
#pragma once

#include "kernel/base/fd.hpp"

#include <gantry/message.hpp>

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

namespace gantry::module::process {

enum class Type : std::uint8_t {
  // From the kernel.
  call = 1,       // method, token, extra = deadline in ns (0: none), body, descriptors
  cancel,         // token
  reply,          // code, token: the module's; body. Answers a request
  threshold,      // code: the log level
  destroy,        // extra = grace in ns; `destroyed` answers, then the process ends
  // From the module host.
  hello = 64,     // code: revision, method: the provider's flags, body: the build stamp. First, once
  refused,        // code, body: Error. Instead of hello or created; the process ends
  created,        // after hello, once
  complete,       // code, token, body
  request,        // method, extra = service, token: the module's, body
  request_cancel, // token
  log,            // code: level, body: LogRecord
  metric,         // token: the id the module host gave it, body: MetricDesc
  metric_add,     // body: MetricAdd...
  counters,       // token: faults, extra: slow entries; both since the process began
  destroyed,      // code, body: Error
};

struct Header {
  std::uint32_t length = 0;  // of the body, without the padding to 8 bytes that follows it
  Type type{};
  std::uint8_t fds = 0;      // descriptors that belong to this frame
  std::uint16_t reserved = 0;
  std::int32_t code = 0;
  std::uint32_t method = 0;
  std::uint64_t token = 0;
  std::uint64_t extra = 0;
};
static_assert(sizeof(Header) == 32);

struct MetricAdd {
  std::uint32_t id;
  std::uint32_t reserved;
  double value;
};
static_assert(sizeof(MetricAdd) == 16);

// The longest body either side accepts, and the most descriptors of one frame.
inline constexpr std::size_t max_body = std::size_t{64} << 20;
inline constexpr std::size_t max_fds = 64;

// Splits what arrives into frames. Pure. Body bytes start on 8-byte boundaries.
class FrameReader {
 public:
  enum class From { kernel, host };  // whose frames are accepted
  explicit FrameReader(From from) : from_(from) {}

  // Room for `n` more bytes; then tell how many came.
  std::uint8_t* room(std::size_t n);
  void arrived(std::size_t n) { end_ += n; }
  // The next whole frame; false: more has to arrive. The body is valid until the next room(). An error is final.
  Result<bool> next(Header& header, Bytes& body);
  // Whether the stream stops inside a frame.
  [[nodiscard]] bool partial() const { return begin_ != end_; }

 private:
  const From from_;
  std::vector<std::uint8_t> buffer_;
  std::size_t begin_ = 0, end_ = 0;
};

// Collects frames and writes them in as few system calls as there are bursts.
class FrameWriter {
 public:
  // The length is filled in. `fds` are sent along and closed.
  void add(Header header, Bytes body = {}, std::vector<base::Fd> fds = {});
  enum class Flushed { all, blocked, failed };
  // Writes what `socket` takes without waiting. failed: the other end has gone.
  Flushed flush(int socket);
  [[nodiscard]] std::size_t waiting() const { return buffer_.size() - sent_; }

 private:
  struct Passed {
    std::uint64_t at;  // where its frame begins, in bytes since the beginning of the stream
    base::Fd fd;
  };
  std::vector<std::uint8_t> buffer_;
  std::size_t sent_ = 0;        // of buffer_
  std::uint64_t before_ = 0;    // bytes of the stream before buffer_
  std::deque<Passed> fds_;      // not sent yet
};

}  // namespace gantry::module::process
