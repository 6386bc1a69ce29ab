// What several suites need: files below the case's scratch directory.
#pragma once

#include <gantry/testing/subject.hpp>

#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <vector>

namespace gantry::conformance {

inline std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream s;
  s << in.rdbuf();
  return s.str();
}

inline void write_file(const std::string& path, const std::string& data) {
  std::error_code ec;
  std::filesystem::create_directories(std::filesystem::path(path).parent_path(), ec);
  std::ofstream(path, std::ios::binary) << data;
}

// A fresh directory below scratch(), passable for every account.
inline std::string make_directory(const Subject& subject, const std::string& name) {
  const std::string path = subject.scratch() + "/" + name;
  std::error_code ec;
  std::filesystem::create_directories(path, ec);
  std::filesystem::permissions(path, std::filesystem::perms(0755), ec);
  return path;
}

inline bool exists(const std::string& path) {
  std::error_code ec;
  return std::filesystem::exists(std::filesystem::symlink_status(path, ec));
}

// Every path below a directory, relative to it.
inline std::set<std::string> tree(const std::string& directory) {
  std::set<std::string> out;
  std::error_code ec;
  for (std::filesystem::recursive_directory_iterator it(directory, ec), end; !ec && it != end; it.increment(ec))
    out.insert(it->path().lexically_relative(directory).string());
  return out;
}

}  // namespace gantry::conformance
