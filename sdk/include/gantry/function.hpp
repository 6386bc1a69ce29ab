// A move-only callable (std::move_only_function is C++23).
#pragma once

#include <memory>
#include <type_traits>
#include <utility>

namespace gantry {
inline namespace v1 {

template <class Signature>
class Function;

// Owns its target; empty after construction without one, or after a move. Calling an empty one is undefined.
// Targets up to three words that move without throwing are kept inline.
template <class R, class... A>
class Function<R(A...)> {
 public:
  Function() = default;
  Function(std::nullptr_t) {}
  template <class F>
    requires(!std::is_same_v<std::decay_t<F>, Function> && std::is_invocable_r_v<R, std::decay_t<F>&, A...>)
  Function(F&& f) {
    using T = std::decay_t<F>;
    if constexpr (sizeof(T) <= sizeof(space_) && alignof(T) <= alignof(void*) && std::is_nothrow_move_constructible_v<T>) {
      ::new (static_cast<void*>(&space_)) T(std::forward<F>(f));
      static constexpr Table table = {
          [](void* p, A... a) -> R { return (*static_cast<T*>(p))(std::forward<A>(a)...); },
          [](void* to, void* from) noexcept {
            ::new (to) T(std::move(*static_cast<T*>(from)));
            static_cast<T*>(from)->~T();
          },
          [](void* p) noexcept { static_cast<T*>(p)->~T(); }};
      table_ = &table;
    } else {
      ::new (static_cast<void*>(&space_)) T*(new T(std::forward<F>(f)));
      static constexpr Table table = {
          [](void* p, A... a) -> R { return (**static_cast<T**>(p))(std::forward<A>(a)...); },
          [](void* to, void* from) noexcept { ::new (to) T*(*static_cast<T**>(from)); },
          [](void* p) noexcept { delete *static_cast<T**>(p); }};
      table_ = &table;
    }
  }
  Function(Function&& o) noexcept { take(o); }
  Function& operator=(Function&& o) noexcept {
    if (this != &o) {
      reset();
      take(o);
    }
    return *this;
  }
  ~Function() { reset(); }

  explicit operator bool() const { return table_ != nullptr; }
  R operator()(A... a) { return table_->call(&space_, std::forward<A>(a)...); }

 private:
  struct Table {
    R (*call)(void*, A...);
    void (*move)(void*, void*) noexcept;
    void (*destroy)(void*) noexcept;
  };
  void take(Function& o) {
    if (o.table_) o.table_->move(&space_, &o.space_);
    table_ = std::exchange(o.table_, nullptr);
  }
  void reset() {
    if (table_) std::exchange(table_, nullptr)->destroy(&space_);
  }
  void* space_[3];
  const Table* table_ = nullptr;
};

}  // namespace v1
}  // namespace gantry
