// gantry::Task<T>: a lazy coroutine. It runs when awaited, resumes its awaiter when it ends, and is destroyed with it.
#pragma once

#include <coroutine>
#include <exception>
#include <memory>
#include <optional>
#include <utility>

namespace gantry {
inline namespace v1 {

template <class T>
class Task;

namespace detail {

struct TaskFinal {
  bool await_ready() const noexcept { return false; }
  template <class P>
  std::coroutine_handle<> await_suspend(std::coroutine_handle<P> h) const noexcept {
    return h.promise().continuation ? h.promise().continuation : std::noop_coroutine();
  }
  void await_resume() const noexcept {}
};

struct TaskPromiseBase {
  std::coroutine_handle<> continuation;
  std::exception_ptr exception;
  std::suspend_always initial_suspend() noexcept { return {}; }
  TaskFinal final_suspend() noexcept { return {}; }
  void unhandled_exception() { exception = std::current_exception(); }
};

template <class T>
struct TaskPromise : TaskPromiseBase {
  std::optional<T> value;
  Task<T> get_return_object();
  template <class U>
  void return_value(U&& u) { value.emplace(std::forward<U>(u)); }
  T take() {
    if (exception) std::rethrow_exception(exception);
    return std::move(*value);
  }
};

template <>
struct TaskPromise<void> : TaskPromiseBase {
  Task<void> get_return_object();
  void return_void() {}
  void take() {
    if (exception) std::rethrow_exception(exception);
  }
};

// A coroutine that owns itself; used to start tasks nobody awaits.
struct Detached {
  struct promise_type {
    Detached get_return_object() { return {}; }
    std::suspend_never initial_suspend() noexcept { return {}; }
    std::suspend_never final_suspend() noexcept { return {}; }
    void return_void() {}
    void unhandled_exception() { std::terminate(); }
  };
};

}  // namespace detail

// Single owner, single awaiter, not thread safe: lives on one strand. Exceptions pass to the awaiter.
template <class T = void>
class [[nodiscard]] Task {
 public:
  using promise_type = detail::TaskPromise<T>;
  using Handle = std::coroutine_handle<promise_type>;

  Task() = default;
  explicit Task(Handle h) : handle_(h) {}
  Task(Task&& o) noexcept : handle_(std::exchange(o.handle_, {})) {}
  Task& operator=(Task&& o) noexcept {
    if (this != &o) {
      if (handle_) handle_.destroy();
      handle_ = std::exchange(o.handle_, {});
    }
    return *this;
  }
  ~Task() {
    if (handle_) handle_.destroy();
  }

  auto operator co_await() && noexcept {
    struct Awaiter {
      Handle h;
      bool await_ready() const noexcept { return false; }
      std::coroutine_handle<> await_suspend(std::coroutine_handle<> caller) const noexcept {
        h.promise().continuation = caller;
        return h;
      }
      T await_resume() const { return h.promise().take(); }
    };
    return Awaiter{handle_};
  }

 private:
  Handle handle_;
};

namespace detail {
template <class T>
Task<T> TaskPromise<T>::get_return_object() {
  return Task<T>(std::coroutine_handle<TaskPromise>::from_promise(*this));
}
inline Task<void> TaskPromise<void>::get_return_object() {
  return Task<void>(std::coroutine_handle<TaskPromise>::from_promise(*this));
}
template <class T, class F>
Detached spawn_impl(Task<T> task, F done) {
  if constexpr (std::is_void_v<T>) {
    co_await std::move(task);
    done();
  } else {
    done(co_await std::move(task));
  }
}
}  // namespace detail

// Starts a task now; done(result) runs when it ends. An exception out of the task terminates: catch inside.
template <class T, class F>
void spawn(Task<T> task, F done) {
  detail::spawn_impl(std::move(task), std::move(done));
}
inline void spawn(Task<void> task) {
  detail::spawn_impl(std::move(task), [] {});
}

// One value, set once from elsewhere on the same strand, awaited once. The usual bridge from callbacks:
//   Promise<int> p;  start([p]() mutable { p.set(7); });  int v = co_await p.get();
template <class T>
class Promise {
 public:
  Promise() : state_(std::make_shared<State>()) {}
  void set(T value) const {
    if (state_->value) return;
    state_->value.emplace(std::move(value));
    if (auto h = std::exchange(state_->waiter, {})) h.resume();
  }
  [[nodiscard]] bool is_set() const { return state_->value.has_value(); }
  auto get() const {
    struct Awaiter {
      std::shared_ptr<typename Promise::State> s;
      bool await_ready() const noexcept { return s->value.has_value(); }
      void await_suspend(std::coroutine_handle<> h) const noexcept { s->waiter = h; }
      T await_resume() const { return std::move(*s->value); }
    };
    return Awaiter{state_};
  }

 private:
  struct State {
    std::optional<T> value;
    std::coroutine_handle<> waiter;
  };
  std::shared_ptr<State> state_;
};

}  // namespace v1
}  // namespace gantry
