// Artifacts kept for the next task: files in the module's own directory, by user and URI, the least recently used making way.
#pragma once

#include "tree.hpp"

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <mutex>
#include <optional>
#include <string>

namespace gantry::fetcher_curl {

// [any thread] The content is forgotten when the daemon starts: nobody knows whether it is whole or still current.
class Cache {
 public:
  // Empties `directory`, made if missing. A directory that cannot be used turns the cache off; the error says why.
  Status open(const std::string& directory);
  void set_capacity(std::uint64_t bytes);

  // The cached file, opened for reading, filling it by `fill(fd)` the first time. Others who want the same wait meanwhile.
  // nullopt: not cacheable now (no room, no directory); the caller fetches for itself. Errors are those of fill.
  [[nodiscard]] Result<std::optional<Fd>> get(const std::string& user, const std::string& uri, const std::function<Status(int fd)>& fill,
                                              const Cancelled& cancelled);
  [[nodiscard]] std::uint64_t used() const;
  [[nodiscard]] std::uint64_t hits() const;

 private:
  struct Entry {
    std::string path;
    std::uint64_t size = 0;
    bool ready = false;
    std::list<std::string>::iterator age;
  };
  [[nodiscard]] bool make_room(std::uint64_t bytes);
  void drop(std::map<std::string, Entry>::iterator it);

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::string directory_;
  std::uint64_t capacity_ = 0, used_ = 0, hits_ = 0, number_ = 0;
  std::map<std::string, Entry> entries_;
  std::list<std::string> ages_;  // keys of ready entries, oldest use first
};

}  // namespace gantry::fetcher_curl
