// Between the host and a sound module: passes everything on, except for the one thing that is broken.
//
// A broken module is a sound one (of modules/, or isolator.cpp here), this shim, and a descriptor with the fault's name.
// So a fault is a few lines, everything else about the module is right, and nothing is compiled twice.
#pragma once

#include <gantry/abi.h>
#include <gantry/message.hpp>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string_view>
#include <unordered_map>

extern "C" const char broken_fault[];

namespace broken {

using gantry::Buffer;
using gantry::Bytes;

[[nodiscard]] inline bool fault(std::string_view name) { return name == broken_fault; }

class Shim {
 public:
  explicit Shim(const gantry_host* real);
  virtual ~Shim() = default;
  Shim(const Shim&) = delete;
  Shim& operator=(const Shim&) = delete;
  [[nodiscard]] bool begin();  // creates the inner module
  void end() { inner_.destroy(self_); }

  // What the host does to the module.
  virtual void call(const gantry_call& c) { pass(c); }
  virtual void cancel(std::uint64_t token) { inner_.cancel(self_, token); }
  virtual void reply(std::uint64_t token, gantry_code code, Bytes body) { inner_.reply(self_, token, code, gantry::to_abi(body)); }
  // What the module does to the host [any thread].
  virtual void complete(std::uint64_t token, gantry_code code, Bytes body) { answer(token, code, body); }
  virtual gantry_code request(std::uint32_t service, std::uint32_t method, Bytes body, std::uint64_t token) {
    return ask(service, method, body, token);
  }

 protected:
  // To the module, to the host: past everything above.
  void pass(const gantry_call& c) { inner_.call(self_, &c); }
  void pass(const gantry_call& c, const Buffer& body) {
    gantry_call changed = c;
    changed.body = gantry::to_abi(body);
    inner_.call(self_, &changed);  // the sound modules copy what they keep beyond the call, or the buffer is kept below
  }
  void answer(std::uint64_t token, gantry_code code, Bytes body = {}) { real_->complete(real_->ctx, token, code, gantry::to_abi(body)); }
  gantry_code ask(std::uint32_t service, std::uint32_t method, Bytes body, std::uint64_t token) {
    return real_->request(real_->ctx, service, method, gantry::to_abi(body), token);
  }
  // A call of the shim's own to the module; on_done hears the final code, on whatever thread completes it.
  using OnDone = std::function<void(gantry_code, Bytes)>;
  void own_call(std::uint32_t method, Buffer body, OnDone on_done);
  // Runs fn on the strand at, or after, so many milliseconds.
  void later(std::uint64_t ms, std::function<void()> fn);

  const gantry_host* real_;

 private:
  static Shim& of(void* ctx) { return *static_cast<Shim*>(ctx); }
  struct Own {
    Buffer body;
    OnDone on_done;
  };
  gantry_provider inner_;
  gantry_host host_{};  // what the module sees
  void* self_ = nullptr;
  std::mutex mutex_;
  std::unordered_map<std::uint64_t, Own> own_;
  std::uint64_t last_ = 0;
};

// By each kind's file.
[[nodiscard]] gantry_provider inner_provider();
[[nodiscard]] std::unique_ptr<Shim> make_shim(const gantry_host* real);

}  // namespace broken
