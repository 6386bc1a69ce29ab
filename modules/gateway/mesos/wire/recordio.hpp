// RecordIO: how Mesos frames the messages of a stream. A record is its length in decimal, a newline, and that many
// bytes.
#pragma once

#include <gantry/message.hpp>
#include <gantry/result.hpp>

#include <algorithm>
#include <charconv>
#include <string>
#include <string_view>
#include <vector>

namespace gantry::gateway_mesos::wire {

// One record, ready to be one chunk of the HTTP answer: clients cut streams by chunks and by lines (clients.md section
// 0 rules 1, 2).
[[nodiscard]] inline std::string record(std::string_view body) {
  char digits[20];
  const auto r = std::to_chars(digits, digits + sizeof digits, body.size());
  std::string out;
  out.reserve(static_cast<std::size_t>(r.ptr - digits) + 1 + body.size());
  out.append(digits, r.ptr);
  out += '\n';
  out += body;
  return out;
}

// Cuts a stream that arrives in pieces into records. Not thread-safe. Holds one unfinished record at most, which is at
// most as long as the limit.
class RecordReader {
 public:
  explicit RecordReader(std::size_t max_record = std::size_t{64} << 20) : max_(max_record) {}

  // Calls `each(Bytes)` for every record that this piece completes; its argument lives until `each` returns. After an
  // error (INVALID_ARGUMENT: no length where one should be; RESOURCE_EXHAUSTED: beyond the limit) the stream is lost,
  // and every further call says so.
  template <class F>
  Status feed(Bytes piece, F&& each) {
    if (failed_) return fail(failed_code_, failed_text());
    const std::uint8_t* at = piece.data();
    const std::uint8_t* const end = at + piece.size();
    while (at != end) {
      if (!in_body_) {
        const std::uint8_t c = *at++;
        if (c >= '0' && c <= '9' && digits_ < 20) {
          ++digits_;
          length_ = length_ * 10 + (c - '0');
          if (length_ > max_) return broken(Code::resource_exhausted);
        } else if (c == '\n' && digits_ > 0) {
          in_body_ = true;
          held_.clear();
          if (length_ == 0) take({}, each);
        } else {
          return broken(Code::invalid_argument);
        }
        continue;
      }
      const std::size_t wanted = length_ - held_.size();
      const std::size_t here = static_cast<std::size_t>(end - at);
      if (held_.empty() && here >= wanted) {
        const Bytes body(at, wanted);
        at += wanted;
        take(body, each);
      } else {
        const std::size_t n = std::min(wanted, here);
        held_.insert(held_.end(), at, at + n);
        at += n;
        if (held_.size() == length_) take(held_, each);
      }
    }
    return ok;
  }

  // Between two records: here a stream may end.
  [[nodiscard]] bool complete() const { return !failed_ && !in_body_ && digits_ == 0; }

 private:
  template <class F>
  void take(Bytes body, F& each) {
    in_body_ = false;
    digits_ = 0;
    length_ = 0;
    each(body);
  }

  Status broken(Code code) {
    failed_ = true;
    failed_code_ = code;
    held_ = {};
    return fail(code, failed_text());
  }
  [[nodiscard]] std::string failed_text() const {
    return failed_code_ == Code::invalid_argument
               ? "RecordIO: expected a decimal length and a newline"
               : "RecordIO: a record is longer than the limit of " + std::to_string(max_) + " bytes";
  }

  std::size_t max_;
  std::size_t length_ = 0;
  unsigned digits_ = 0;
  bool in_body_ = false;
  bool failed_ = false;
  Code failed_code_ = Code::ok;
  std::vector<std::uint8_t> held_;
};

}  // namespace gantry::gateway_mesos::wire
