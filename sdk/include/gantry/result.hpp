// Errors as values. gcc 12 has no std::expected in C++20; Result has its member names, so it can become an alias later.
#pragma once

#include <gantry/abi.h>

#include <cassert>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

namespace gantry {
inline namespace v1 {

enum class Code : gantry_code {
  ok = GANTRY_OK,
  more = GANTRY_MORE,
  cancelled = GANTRY_CANCELLED,
  unknown = GANTRY_UNKNOWN,
  invalid_argument = GANTRY_INVALID_ARGUMENT,
  deadline_exceeded = GANTRY_DEADLINE_EXCEEDED,
  not_found = GANTRY_NOT_FOUND,
  already_exists = GANTRY_ALREADY_EXISTS,
  permission_denied = GANTRY_PERMISSION_DENIED,
  resource_exhausted = GANTRY_RESOURCE_EXHAUSTED,
  failed_precondition = GANTRY_FAILED_PRECONDITION,
  aborted = GANTRY_ABORTED,
  out_of_range = GANTRY_OUT_OF_RANGE,
  unimplemented = GANTRY_UNIMPLEMENTED,
  internal = GANTRY_INTERNAL,
  unavailable = GANTRY_UNAVAILABLE,
  data_loss = GANTRY_DATA_LOSS,
  unauthenticated = GANTRY_UNAUTHENTICATED,
};

// The catalogue's name of a code, e.g. "NOT_FOUND".
[[nodiscard]] constexpr std::string_view to_string(Code code) {
  switch (code) {
    case Code::ok: return "OK";
    case Code::more: return "MORE";
    case Code::cancelled: return "CANCELLED";
    case Code::unknown: return "UNKNOWN";
    case Code::invalid_argument: return "INVALID_ARGUMENT";
    case Code::deadline_exceeded: return "DEADLINE_EXCEEDED";
    case Code::not_found: return "NOT_FOUND";
    case Code::already_exists: return "ALREADY_EXISTS";
    case Code::permission_denied: return "PERMISSION_DENIED";
    case Code::resource_exhausted: return "RESOURCE_EXHAUSTED";
    case Code::failed_precondition: return "FAILED_PRECONDITION";
    case Code::aborted: return "ABORTED";
    case Code::out_of_range: return "OUT_OF_RANGE";
    case Code::unimplemented: return "UNIMPLEMENTED";
    case Code::internal: return "INTERNAL";
    case Code::unavailable: return "UNAVAILABLE";
    case Code::data_loss: return "DATA_LOSS";
    case Code::unauthenticated: return "UNAUTHENTICATED";
  }
  return "UNKNOWN";
}

// A failure a person can act on: what went wrong with which value, and what to do.
struct Error {
  Code code = Code::unknown;
  std::string message;
  std::string key_path;              // configuration errors: the settings key
  std::uint64_t retry_after_ns = 0;  // 0: retrying does not help
  std::string detail;

  // Puts what was being done in front: "create cgroup: permission denied".
  Error&& because(std::string_view context) && {
    message.insert(0, ": ");
    message.insert(0, context);
    return std::move(*this);
  }
  Error because(std::string_view context) const& {
    Error copy = *this;
    return std::move(copy).because(context);
  }
};

[[nodiscard]] inline Error fail(Code code, std::string message, std::string key_path = {}) {
  return Error{code, std::move(message), std::move(key_path), 0, {}};
}

struct Ok {};
inline constexpr Ok ok{};

template <class T>
class [[nodiscard]] Result {
 public:
  using value_type = T;
  using error_type = Error;

  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}

  [[nodiscard]] bool has_value() const { return state_.index() == 0; }
  explicit operator bool() const { return has_value(); }

  // Calling value() on an error, or error() on a value, is a programming mistake and asserts.
  T& value() & { assert(has_value()); return *std::get_if<0>(&state_); }
  const T& value() const& { assert(has_value()); return *std::get_if<0>(&state_); }
  T&& value() && { assert(has_value()); return std::move(*std::get_if<0>(&state_)); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

  Error& error() & { assert(!has_value()); return *std::get_if<1>(&state_); }
  const Error& error() const& { assert(!has_value()); return *std::get_if<1>(&state_); }
  Error&& error() && { assert(!has_value()); return std::move(*std::get_if<1>(&state_)); }

  template <class U>
  T value_or(U&& other) const& { return has_value() ? value() : static_cast<T>(std::forward<U>(other)); }

  template <class F>
  auto and_then(F&& f) && -> decltype(f(std::declval<T>())) {
    if (has_value()) return std::forward<F>(f)(std::move(value()));
    return std::move(error());
  }

 private:
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  using value_type = void;
  using error_type = Error;

  Result() = default;
  Result(Ok) {}
  Result(Error error) : error_(std::move(error)) {}

  [[nodiscard]] bool has_value() const { return !error_; }
  explicit operator bool() const { return has_value(); }
  void value() const { assert(has_value()); }
  Error& error() & { assert(error_); return *error_; }
  const Error& error() const& { assert(error_); return *error_; }
  Error&& error() && { assert(error_); return std::move(*error_); }

 private:
  std::optional<Error> error_;
};

using Status = Result<void>;

}  // namespace v1
}  // namespace gantry

// Leaves the enclosing function with the error of `expr`, else names its value: GANTRY_TRY(auto file, open(path));
#define GANTRY_TRY(decl, expr) GANTRY_TRY_IMPL_(return, decl, expr, GANTRY_CAT_(gantry_try_, __LINE__))
#define GANTRY_CHECK(expr) GANTRY_CHECK_IMPL_(return, expr, GANTRY_CAT_(gantry_try_, __LINE__))
// The same inside a coroutine.
#define GANTRY_CO_TRY(decl, expr) GANTRY_TRY_IMPL_(co_return, decl, expr, GANTRY_CAT_(gantry_try_, __LINE__))
#define GANTRY_CO_CHECK(expr) GANTRY_CHECK_IMPL_(co_return, expr, GANTRY_CAT_(gantry_try_, __LINE__))

#define GANTRY_CAT_(a, b) GANTRY_CAT2_(a, b)
#define GANTRY_CAT2_(a, b) a##b
#define GANTRY_TRY_IMPL_(ret, decl, expr, tmp) \
  auto tmp = (expr);                           \
  if (!tmp.has_value()) ret std::move(tmp).error(); \
  decl = std::move(tmp).value()
#define GANTRY_CHECK_IMPL_(ret, expr, tmp) \
  if (auto tmp = (expr); !tmp.has_value()) ret std::move(tmp).error()
