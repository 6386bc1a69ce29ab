// Amounts: fixed-point scalars, ranges of integers, sets of words; and Value, any one of them in eight bytes.
#pragma once

#include <atomic>
#include <compare>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace gantry::resource {

// A number with three decimals (1 cpu = 1000 thousandths), as Mesos compares them, so that 0.1 + 0.2 == 0.3. Arithmetic
// saturates at +-kMax instead of wrapping.
class Scalar {
 public:
  static constexpr std::int64_t kMax = (std::int64_t{1} << 61) - 1;

  constexpr Scalar() = default;
  [[nodiscard]] static constexpr Scalar milli(std::int64_t thousandths) {
    Scalar s;
    s.milli_ = thousandths > kMax ? kMax : thousandths < -kMax ? -kMax : thousandths;
    return s;
  }
  // Rounds half away from zero at the third decimal. NaN becomes 0; check is_finite first on outside input.
  [[nodiscard]] static Scalar of(double natural);

  [[nodiscard]] constexpr std::int64_t milli() const { return milli_; }
  [[nodiscard]] constexpr double value() const { return static_cast<double>(milli_) / 1000.0; }
  [[nodiscard]] constexpr bool is_whole() const { return milli_ % 1000 == 0; }
  // "0.1", "3", "1.005": the shortest form.
  [[nodiscard]] std::string text() const;

  // |a| + |b| stays below 2^62, so the sum itself cannot overflow.
  friend constexpr Scalar operator+(Scalar a, Scalar b) { return milli(a.milli_ + b.milli_); }
  friend constexpr Scalar operator-(Scalar a, Scalar b) { return milli(a.milli_ - b.milli_); }
  constexpr Scalar& operator+=(Scalar o) { return *this = *this + o; }
  constexpr Scalar& operator-=(Scalar o) { return *this = *this - o; }
  friend constexpr auto operator<=>(Scalar, Scalar) = default;

 private:
  std::int64_t milli_ = 0;
};

namespace detail {
// Intrusive, thread-safe count; T has a member `mutable std::atomic<std::uint32_t> refs`, born as 1.
template <class T>
class Ref {
 public:
  Ref() = default;
  explicit Ref(const T* owned) : p_(owned) {}
  Ref(const Ref& o) : p_(o.p_) {
    if (p_) p_->refs.fetch_add(1, std::memory_order_relaxed);
  }
  Ref(Ref&& o) noexcept : p_(std::exchange(o.p_, nullptr)) {}
  Ref& operator=(Ref o) noexcept {
    std::swap(p_, o.p_);
    return *this;
  }
  ~Ref() {
    if (p_ && p_->refs.fetch_sub(1, std::memory_order_acq_rel) == 1) delete p_;
  }
  [[nodiscard]] const T* get() const { return p_; }
  const T* operator->() const { return p_; }
  explicit operator bool() const { return p_ != nullptr; }
  [[nodiscard]] const T* release() { return std::exchange(p_, nullptr); }

 private:
  const T* p_ = nullptr;
};
}  // namespace detail

// Inclusive at both ends; begin <= end.
struct Range {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  friend bool operator==(const Range&, const Range&) = default;
};

// A set of unsigned integers as sorted, disjoint, non-adjacent ranges. Immutable content shared between copies.
class Ranges {
 public:
  Ranges() = default;
  // Sorts and joins; ranges with begin > end are dropped.
  explicit Ranges(std::vector<Range> ranges);

  [[nodiscard]] std::span<const Range> items() const { return rep_ ? std::span<const Range>(rep_->items) : std::span<const Range>(); }
  [[nodiscard]] bool empty() const { return !rep_; }
  // How many integers; saturates at 2^64 - 1.
  [[nodiscard]] std::uint64_t count() const { return rep_ ? rep_->count : 0; }
  [[nodiscard]] bool contains(const Ranges& other) const;
  [[nodiscard]] bool contains(std::uint64_t n) const;
  // The n smallest integers (all if there are fewer).
  [[nodiscard]] Ranges first(std::uint64_t n) const;
  [[nodiscard]] std::string text() const;  // "[31000-31005, 32000-32000]"

  friend Ranges operator+(const Ranges& a, const Ranges& b);  // union
  friend Ranges operator-(const Ranges& a, const Ranges& b);  // difference
  friend Ranges operator&(const Ranges& a, const Ranges& b);  // intersection
  friend bool operator==(const Ranges& a, const Ranges& b);

 private:
  friend class Value;
  struct Rep {
    mutable std::atomic<std::uint32_t> refs{1};
    std::uint64_t count = 0;  // kept: the allocator asks for it in every round
    std::vector<Range> items;
  };
  static Ranges from_sorted(std::vector<Range> items);
  detail::Ref<Rep> rep_;
};

// A set of words, sorted. Immutable content shared between copies.
class Set {
 public:
  Set() = default;
  explicit Set(std::vector<std::string> items);  // sorts, drops duplicates

  [[nodiscard]] std::span<const std::string> items() const {
    return rep_ ? std::span<const std::string>(rep_->items) : std::span<const std::string>();
  }
  [[nodiscard]] bool empty() const { return !rep_; }
  [[nodiscard]] std::uint64_t count() const { return items().size(); }
  [[nodiscard]] bool contains(const Set& other) const;
  [[nodiscard]] bool contains(std::string_view item) const;
  [[nodiscard]] Set first(std::uint64_t n) const;
  [[nodiscard]] std::string text() const;  // "{a, b}"

  friend Set operator+(const Set& a, const Set& b);
  friend Set operator-(const Set& a, const Set& b);
  friend Set operator&(const Set& a, const Set& b);
  friend bool operator==(const Set& a, const Set& b);

 private:
  friend class Value;
  struct Rep {
    mutable std::atomic<std::uint32_t> refs{1};
    std::vector<std::string> items;
  };
  detail::Ref<Rep> rep_;
};

enum class Type : std::uint8_t { scalar = 0, ranges = 1, set = 2 };

// One amount of any type. Eight bytes: the low two bits tell the type, the rest is the scalar or a shared pointer,
// because a master keeps millions of these.
class Value {
 public:
  Value() : word_(0) {}
  Value(Scalar s) : word_(static_cast<std::uint64_t>(s.milli()) << 2) {}
  Value(Ranges r);
  Value(Set s);
  Value(const Value& o);
  Value(Value&& o) noexcept : word_(std::exchange(o.word_, 0)) {}
  Value& operator=(Value o) noexcept {
    std::swap(word_, o.word_);
    return *this;
  }
  ~Value();

  [[nodiscard]] Type type() const { return static_cast<Type>(word_ & 3); }
  // Of another type: the zero of the asked one.
  [[nodiscard]] Scalar scalar() const {
    return type() == Type::scalar ? Scalar::milli(static_cast<std::int64_t>(word_) >> 2) : Scalar();
  }
  [[nodiscard]] Ranges ranges() const;
  [[nodiscard]] Set set() const;
  // What ranges() holds, without sharing it: valid as long as this value.
  [[nodiscard]] std::span<const Range> range_items() const {
    return type() == Type::ranges && rep<Ranges::Rep>() ? std::span<const Range>(rep<Ranges::Rep>()->items) : std::span<const Range>();
  }

  // Tells the processor that the shared part is wanted soon.
  [[gnu::always_inline]] void prefetch() const {
    if (type() != Type::scalar) __builtin_prefetch(rep<char>());
  }

  // Scalars are empty at zero or below.
  [[nodiscard]] bool empty() const;
  // Thousandths; a range or set counts 1000 an item (the unit of allocator.fbs).
  [[nodiscard]] std::int64_t amount() const;
  [[nodiscard]] bool contains(const Value& o) const;  // false across types
  // The part of it worth `thousandths`: scalars shrink, ranges and sets give their first items.
  [[nodiscard]] Value first(std::int64_t thousandths) const;
  // Both operands have one type.
  Value& operator+=(const Value& o);
  Value& operator-=(const Value& o);
  [[nodiscard]] std::string text() const;
  friend bool operator==(const Value& a, const Value& b);

 private:
  template <class Rep>
  [[nodiscard]] const Rep* rep() const { return reinterpret_cast<const Rep*>(word_ & ~std::uint64_t{3}); }
  std::uint64_t word_;
};

}  // namespace gantry::resource
