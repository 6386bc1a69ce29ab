// The test library written in Rust, loaded if it was built.
#pragma once

#include <dlfcn.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace gantry::bindings {

using Buf = std::vector<std::uint8_t>;

class RustLibrary {
 public:
  RustLibrary() : lib_(::dlopen(RUST_LIBRARY, RTLD_NOW | RTLD_LOCAL)) {
    if (!lib_) return;
    copy_ = reinterpret_cast<decltype(copy_)>(::dlsym(lib_, "gantry_test_copy_rust"));
    layout_ = reinterpret_cast<decltype(layout_)>(::dlsym(lib_, "gantry_test_layout"));
    free_ = reinterpret_cast<decltype(free_)>(::dlsym(lib_, "gantry_test_free"));
  }
  [[nodiscard]] bool loaded() const { return copy_ && layout_ && free_; }
  [[nodiscard]] std::string why() const { return "the Rust test library was not built (cargo and rustc are needed)"; }

  // 1 copied, 0 refused, negative: a mistake in the test or a panic.
  int copy(const std::string& table, const Buf& in, Buf& out) const {
    std::uint8_t* data = nullptr;
    std::size_t len = 0;
    const int rc = copy_(table.c_str(), in.data(), in.size(), &data, &len);
    if (rc == 1) {
      out.assign(data, data + len);
      free_(data, len);
    }
    return rc;
  }
  [[nodiscard]] std::string layout() const {
    std::size_t len = 0;
    std::uint8_t* data = layout_(&len);
    std::string text(reinterpret_cast<char*>(data), len);
    free_(data, len);
    return text;
  }

 private:
  void* lib_;  // stays loaded, as modules do
  int (*copy_)(const char*, const std::uint8_t*, std::size_t, std::uint8_t**, std::size_t*) = nullptr;
  std::uint8_t* (*layout_)(std::size_t*) = nullptr;
  void (*free_)(std::uint8_t*, std::size_t) = nullptr;
};

}  // namespace gantry::bindings
