#include "kernel/resource/value.hpp"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>

namespace gantry::resource {

Scalar Scalar::of(double natural) {
  if (std::isnan(natural)) return {};
  const double scaled = natural * 1000.0;
  if (scaled >= static_cast<double>(kMax)) return milli(kMax);
  if (scaled <= -static_cast<double>(kMax)) return milli(-kMax);
  return milli(std::llround(scaled));
}

std::string Scalar::text() const {
  const std::uint64_t abs = static_cast<std::uint64_t>(milli_ < 0 ? -milli_ : milli_);
  std::string out = (milli_ < 0 ? "-" : "") + std::to_string(abs / 1000);
  if (const auto rest = abs % 1000) {
    std::string fraction = std::to_string(1000 + rest).substr(1);
    while (fraction.back() == '0') fraction.pop_back();
    out += "." + fraction;
  }
  return out;
}

// ---- Ranges

namespace {

std::uint64_t count_of(std::span<const Range> items) {
  std::uint64_t n = 0;
  for (const Range& r : items) {
    const std::uint64_t width = r.end - r.begin;
    if (width == std::numeric_limits<std::uint64_t>::max() || n > std::numeric_limits<std::uint64_t>::max() - width - 1) {
      return std::numeric_limits<std::uint64_t>::max();
    }
    n += width + 1;
  }
  return n;
}

}  // namespace

Ranges Ranges::from_sorted(std::vector<Range> items) {
  Ranges out;
  if (items.empty()) return out;
  auto* rep = new Rep;
  items.shrink_to_fit();
  rep->items = std::move(items);
  rep->count = count_of(rep->items);
  out.rep_ = detail::Ref<Rep>(rep);
  return out;
}

Ranges::Ranges(std::vector<Range> ranges) {
  std::erase_if(ranges, [](const Range& r) { return r.begin > r.end; });
  std::sort(ranges.begin(), ranges.end(), [](const Range& a, const Range& b) { return a.begin < b.begin; });
  std::vector<Range> joined;
  for (const Range& r : ranges) {
    // Adjacent ranges join, too; end + 1 must not wrap.
    if (!joined.empty() && (joined.back().end == std::numeric_limits<std::uint64_t>::max() || r.begin <= joined.back().end + 1)) {
      joined.back().end = std::max(joined.back().end, r.end);
    } else {
      joined.push_back(r);
    }
  }
  *this = from_sorted(std::move(joined));
}

bool Ranges::contains(const Ranges& other) const {
  if (rep_.get() == other.rep_.get()) return true;
  const auto mine = items();
  std::size_t i = 0;
  for (const Range& r : other.items()) {
    while (i < mine.size() && mine[i].end < r.begin) ++i;
    if (i == mine.size() || mine[i].begin > r.begin || mine[i].end < r.end) return false;
  }
  return true;
}

bool Ranges::contains(std::uint64_t n) const {
  const auto mine = items();
  const auto it = std::partition_point(mine.begin(), mine.end(), [n](const Range& r) { return r.end < n; });
  return it != mine.end() && it->begin <= n;
}

Ranges Ranges::first(std::uint64_t n) const {
  std::vector<Range> out;
  for (const Range& r : items()) {
    if (n == 0) break;
    const std::uint64_t width = r.end - r.begin;
    if (width < n) {
      out.push_back(r);
      n -= width + 1;  // width == 2^64-1 cannot get here: width < n
    } else {
      out.push_back({r.begin, r.begin + (n - 1)});
      n = 0;
    }
  }
  return from_sorted(std::move(out));
}

std::string Ranges::text() const {
  std::string out = "[";
  for (const Range& r : items()) {
    if (out.size() > 1) out += ", ";
    out += std::to_string(r.begin) + "-" + std::to_string(r.end);
  }
  return out + "]";
}

Ranges operator+(const Ranges& a, const Ranges& b) {
  if (a.empty()) return b;
  if (b.empty()) return a;
  std::vector<Range> all(a.items().begin(), a.items().end());
  all.insert(all.end(), b.items().begin(), b.items().end());
  return Ranges(std::move(all));
}

Ranges operator-(const Ranges& a, const Ranges& b) {
  if (a.empty() || b.empty()) return a;
  std::vector<Range> out;
  const auto cut = b.items();
  std::size_t i = 0;
  for (Range r : a.items()) {
    while (i < cut.size() && cut[i].end < r.begin) ++i;
    bool alive = true;
    for (std::size_t j = i; alive && j < cut.size() && cut[j].begin <= r.end; ++j) {
      if (cut[j].begin > r.begin) out.push_back({r.begin, cut[j].begin - 1});
      if (cut[j].end >= r.end) alive = false;
      else r.begin = cut[j].end + 1;
    }
    if (alive) out.push_back(r);
  }
  return Ranges::from_sorted(std::move(out));
}

Ranges operator&(const Ranges& a, const Ranges& b) {
  std::vector<Range> out;
  const auto x = a.items();
  const auto y = b.items();
  for (std::size_t i = 0, j = 0; i < x.size() && j < y.size();) {
    const Range r{std::max(x[i].begin, y[j].begin), std::min(x[i].end, y[j].end)};
    if (r.begin <= r.end) out.push_back(r);
    if (x[i].end < y[j].end) ++i;
    else ++j;
  }
  return Ranges::from_sorted(std::move(out));
}

bool operator==(const Ranges& a, const Ranges& b) {
  return a.rep_.get() == b.rep_.get() || std::equal(a.items().begin(), a.items().end(), b.items().begin(), b.items().end());
}

// ---- Set

Set::Set(std::vector<std::string> items) {
  if (items.empty()) return;
  std::sort(items.begin(), items.end());
  items.erase(std::unique(items.begin(), items.end()), items.end());
  auto* rep = new Rep;
  rep->items = std::move(items);
  rep_ = detail::Ref<Rep>(rep);
}

bool Set::contains(const Set& o) const {
  return std::includes(items().begin(), items().end(), o.items().begin(), o.items().end());
}
bool Set::contains(std::string_view item) const { return std::binary_search(items().begin(), items().end(), item); }

Set Set::first(std::uint64_t n) const {
  const auto all = items();
  return Set(std::vector<std::string>(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(std::min<std::uint64_t>(n, all.size()))));
}

std::string Set::text() const {
  std::string out = "{";
  for (const auto& s : items()) {
    if (out.size() > 1) out += ", ";
    out += s;
  }
  return out + "}";
}

Set operator+(const Set& a, const Set& b) {
  std::vector<std::string> out;
  std::set_union(a.items().begin(), a.items().end(), b.items().begin(), b.items().end(), std::back_inserter(out));
  return Set(std::move(out));
}
Set operator-(const Set& a, const Set& b) {
  std::vector<std::string> out;
  std::set_difference(a.items().begin(), a.items().end(), b.items().begin(), b.items().end(), std::back_inserter(out));
  return Set(std::move(out));
}
Set operator&(const Set& a, const Set& b) {
  std::vector<std::string> out;
  std::set_intersection(a.items().begin(), a.items().end(), b.items().begin(), b.items().end(), std::back_inserter(out));
  return Set(std::move(out));
}
bool operator==(const Set& a, const Set& b) {
  return a.rep_.get() == b.rep_.get() || std::equal(a.items().begin(), a.items().end(), b.items().begin(), b.items().end());
}

// ---- Value

Value::Value(Ranges r) : word_(reinterpret_cast<std::uint64_t>(r.rep_.release()) | static_cast<std::uint64_t>(Type::ranges)) {}
Value::Value(Set s) : word_(reinterpret_cast<std::uint64_t>(s.rep_.release()) | static_cast<std::uint64_t>(Type::set)) {}

Value::Value(const Value& o) : word_(o.word_) {
  if (type() == Type::ranges && rep<Ranges::Rep>()) rep<Ranges::Rep>()->refs.fetch_add(1, std::memory_order_relaxed);
  if (type() == Type::set && rep<Set::Rep>()) rep<Set::Rep>()->refs.fetch_add(1, std::memory_order_relaxed);
}

Value::~Value() {
  // The Ref takes the count over and gives it back.
  if (type() == Type::ranges) detail::Ref<Ranges::Rep> drop(rep<Ranges::Rep>());
  if (type() == Type::set) detail::Ref<Set::Rep> drop(rep<Set::Rep>());
}

Ranges Value::ranges() const {
  Ranges out;
  if (type() == Type::ranges && rep<Ranges::Rep>()) {
    rep<Ranges::Rep>()->refs.fetch_add(1, std::memory_order_relaxed);
    out.rep_ = detail::Ref<Ranges::Rep>(rep<Ranges::Rep>());
  }
  return out;
}

Set Value::set() const {
  Set out;
  if (type() == Type::set && rep<Set::Rep>()) {
    rep<Set::Rep>()->refs.fetch_add(1, std::memory_order_relaxed);
    out.rep_ = detail::Ref<Set::Rep>(rep<Set::Rep>());
  }
  return out;
}

bool Value::empty() const { return type() == Type::scalar ? scalar() <= Scalar() : (word_ & ~std::uint64_t{3}) == 0; }

std::int64_t Value::amount() const {
  if (type() == Type::scalar) return scalar().milli();
  if ((word_ & ~std::uint64_t{3}) == 0) return 0;
  const std::uint64_t n = type() == Type::ranges ? rep<Ranges::Rep>()->count : rep<Set::Rep>()->items.size();
  return n > static_cast<std::uint64_t>(Scalar::kMax) / 1000 ? Scalar::kMax : static_cast<std::int64_t>(n) * 1000;
}

bool Value::contains(const Value& o) const {
  if (type() != o.type()) return false;
  switch (type()) {
    case Type::scalar: return scalar() >= o.scalar();
    case Type::ranges: return ranges().contains(o.ranges());
    case Type::set: return set().contains(o.set());
  }
  return false;
}

Value Value::first(std::int64_t thousandths) const {
  const std::int64_t want = std::max<std::int64_t>(thousandths, 0);
  switch (type()) {
    case Type::scalar: return Scalar::milli(std::min(want, scalar().milli()));
    case Type::ranges: return ranges().first(static_cast<std::uint64_t>(want) / 1000);
    case Type::set: return set().first(static_cast<std::uint64_t>(want) / 1000);
  }
  return {};
}

Value& Value::operator+=(const Value& o) {
  switch (type()) {
    case Type::scalar: return *this = scalar() + o.scalar();
    case Type::ranges: return *this = ranges() + o.ranges();
    case Type::set: return *this = set() + o.set();
  }
  return *this;
}

Value& Value::operator-=(const Value& o) {
  switch (type()) {
    case Type::scalar: return *this = scalar() - o.scalar();
    case Type::ranges: return *this = ranges() - o.ranges();
    case Type::set: return *this = set() - o.set();
  }
  return *this;
}

std::string Value::text() const {
  switch (type()) {
    case Type::scalar: return scalar().text();
    case Type::ranges: return ranges().text();
    case Type::set: return set().text();
  }
  return {};
}

bool operator==(const Value& a, const Value& b) {
  if (a.word_ == b.word_) return true;
  if (a.type() != b.type() || a.type() == Type::scalar) return false;
  return a.type() == Type::ranges ? a.ranges() == b.ranges() : a.set() == b.set();
}

}  // namespace gantry::resource
