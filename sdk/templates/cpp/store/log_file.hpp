// A log on disk that is only appended to: frames of length, checksum and bytes. Blocking: for the offload pool.
#pragma once

#include <gantry/result.hpp>

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace @NAME_ID@ {

class LogFile {
 public:
  LogFile() = default;
  LogFile(const LogFile&) = delete;
  LogFile& operator=(const LogFile&) = delete;
  ~LogFile();

  // Opens or makes `path`, locks it against a second user and gives each whole frame to `frame`. A last frame that was
  // only half written (the machine stopped meanwhile) was never acknowledged and is cut off; damage before it is DATA_LOSS.
  [[nodiscard]] gantry::Status open(const std::string& path, const std::function<bool(std::string_view)>& frame);
  // Durable when it returns ok (unless sync is off). After an error the log accepts nothing more: what is on disk is unknown.
  [[nodiscard]] gantry::Status append(std::string_view frames, bool sync);
  [[nodiscard]] static std::string framed(std::string_view bytes);

 private:
  int fd_ = -1;
  bool broken_ = false;
  std::uint64_t size_ = 0;
  std::string path_;
};

}  // namespace @NAME_ID@
