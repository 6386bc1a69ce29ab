// A module::Instance that answers from a function, through the loop as real ones do.
#pragma once

#include "kernel/base/loop.hpp"
#include "kernel/module/module.hpp"

#include <functional>

namespace gantry::module {

class FakeInstance final : public Instance {
 public:
  // What it answers; several chunks of a stream come as MORE, the last as the final one.
  using Handler =
      std::function<void(std::uint32_t method, Bytes body, const std::function<void(gantry_code, Bytes)>& reply)>;
  FakeInstance(base::Loop& loop, std::string kind, std::string name, Handler handler)
      : loop_(loop), kind_(std::move(kind)), name_(std::move(name)), handler_(std::move(handler)) {}
  const std::string& kind() const override { return kind_; }
  const std::string& name() const override { return name_; }
  State state() const override { return State::running; }
  Counters counters() const override { return {}; }
  std::uint64_t call(std::uint32_t method, Buffer body, OnReply on_reply, CallOptions) override {
    ++calls;
    loop_.post([this, method, body = std::move(body), on_reply = std::move(on_reply)]() mutable {
      handler_(method, body, [&](gantry_code code, Bytes b) { on_reply(code, b); });
    });
    return ++last_;
  }
  void cancel(std::uint64_t) override {}
  int calls = 0;

 private:
  base::Loop& loop_;
  std::string kind_, name_;
  Handler handler_;
  std::uint64_t last_ = 0;
};

}  // namespace gantry::module
