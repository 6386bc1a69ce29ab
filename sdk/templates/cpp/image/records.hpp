// Small records that survive: a file each.
#pragma once

#include <gantry/result.hpp>

#include <map>
#include <string>

namespace @NAME_ID@ {

// What may be the name of a file: not empty, no ".", "..", slash or zero byte.
[[nodiscard]] bool is_file_name(const std::string& name);

class Records {
 public:
  // Makes the directory and reads what is in it.
  [[nodiscard]] static gantry::Result<Records> open(const std::string& directory);
  [[nodiscard]] bool has(const std::string& name) const { return all_.count(name) != 0; }
  [[nodiscard]] const std::map<std::string, std::string>& all() const { return all_; }
  // On the disk when it returns.
  [[nodiscard]] gantry::Status put(const std::string& name, const std::string& value);
  [[nodiscard]] gantry::Status remove(const std::string& name);

 private:
  std::string directory_;
  std::map<std::string, std::string> all_;
};

}  // namespace @NAME_ID@
