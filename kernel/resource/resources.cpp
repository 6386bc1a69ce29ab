#include "kernel/resource/resources.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

namespace gantry::resource {
namespace {

Value intersection(const Value& a, const Value& b) {
  if (a.type() != b.type()) return {};
  switch (a.type()) {
    case Type::scalar: return std::min(a.scalar(), b.scalar());
    case Type::ranges: return a.ranges() & b.ranges();
    case Type::set: return a.set() & b.set();
  }
  return {};
}

std::uint32_t quantity_flags(const Resource& r) {
  return (r.revocable() ? 1u : 0u) | (r.shared() ? 2u : 0u) | (r.name() == NameId::gpus ? 4u : 0u) | (r.refined() ? 8u : 0u);
}

bool matches(const Quantity& q, const Resource& r) {
  return q.name == r.name() && q.role == r.reservation_role() && q.flags == quantity_flags(r);
}

}  // namespace

void Resources::add(const Resource& r) {
  if (r.empty()) return;
  auto [first, last] = std::equal_range(items_.begin(), items_.end(), r, [](const Resource& a, const Resource& b) { return a.before(b); });
  if (first != last && r.divisible()) {
    first->value_ += r.value_;
    return;
  }
  // Equal indivisible ones stand side by side, ordered so that comparison of bags stays plain.
  const auto at = std::find_if(first, last, [&](const Resource& x) {
    return x.value_.amount() != r.value_.amount() ? x.value_.amount() > r.value_.amount() : x.value_.text() > r.value_.text();
  });
  items_.insert(at, r);
}

Resources& Resources::operator+=(const Resources& o) {
  if (this == &o) {
    const Resources copy = o;
    return *this += copy;
  }
  if (items_.empty()) {
    items_ = o.items_;
    return *this;
  }
  for (const auto& r : o.items_) add(r);
  return *this;
}

bool Resources::contains(const Resource& r) const {
  if (r.empty()) return true;
  return std::any_of(items_.begin(), items_.end(), [&](const Resource& mine) {
    return mine.same_identity(r) && (r.divisible() ? mine.value_.contains(r.value_) : mine.value_ == r.value_);
  });
}

bool Resources::contains(const Resources& o) const {
  for (const auto& r : o.items_) {
    if (r.divisible()) {
      if (!contains(r)) return false;
    } else {
      const auto equal = [&](const Resource& x) { return x == r; };
      if (std::count_if(items_.begin(), items_.end(), equal) < std::count_if(o.items_.begin(), o.items_.end(), equal)) return false;
    }
  }
  return true;
}

bool Resources::subtract(const Resources& o) {
  if (!contains(o)) return false;
  if (this == &o) {
    items_.clear();
    return true;
  }
  for (const auto& r : o.items_) {
    const auto it = std::find_if(items_.begin(), items_.end(),
                                 [&](const Resource& x) { return x.same_identity(r) && (r.divisible() || x.value_ == r.value_); });
    if (r.divisible()) it->value_ -= r.value_;
    if (!r.divisible() || it->empty()) items_.erase(it);
  }
  return true;
}

Resources& Resources::operator-=(const Resources& o) {
  if (!subtract(o)) {
    std::fprintf(stderr, "invariant broken: '%s' does not contain '%s'\n", text().c_str(), o.text().c_str());
    std::abort();
  }
  return *this;
}

Resources Resources::intersect(const Resources& o) const {
  Resources out;
  std::vector<const Resource*> used;
  for (const auto& r : o.items_) {
    for (const auto& mine : items_) {
      if (!mine.same_identity(r)) continue;
      if (r.divisible()) {
        Resource common = mine;
        common.value_ = intersection(mine.value_, r.value_);
        out.add(common);
        break;
      }
      if (mine.value_ == r.value_ && std::find(used.begin(), used.end(), &mine) == used.end()) {
        used.push_back(&mine);
        out.add(mine);
        break;
      }
    }
  }
  return out;
}

bool operator==(const Resources& a, const Resources& b) { return a.items_ == b.items_; }

Resources Resources::reservable_to(RoleId role) const {
  return filter([role](const Resource& r) {
    if (r.persistent_volume() || r.revocable()) return false;
    return !r.reserved() || (r.reservation_role() != role && is_within(role, r.reservation_role()));
  });
}

Resources Resources::to_unreserved() const {
  Resources out;
  for (Resource r : items_) {
    if (r.reserved()) {
      Traits t = r.traits();
      t.reservations.clear();
      r.set_traits(std::move(t));
    }
    out.add(r);
  }
  return out;
}

Resources Resources::push_reservation(const Reservation& reservation) const {
  Resources out;
  for (Resource r : items_) {
    r.push_reservation(reservation);
    out.add(r);
  }
  return out;
}

Resources Resources::pop_reservation() const {
  Resources out;
  for (Resource r : items_) {
    r.pop_reservation();
    out.add(r);
  }
  return out;
}

Resources Resources::allocated_to(RoleId role) const {
  Resources out;
  const auto same = [&](const Resource& r) { return r.allocation_role() == items_.front().allocation_role(); };
  if (std::all_of(items_.begin(), items_.end(), same)) {  // they stay distinct and in order; every offer comes this way
    out.items_ = items_;
    for (auto& r : out.items_) r.set_allocation_role(role);
    return out;
  }
  for (Resource r : items_) {
    r.set_allocation_role(role);
    out.add(r);
  }
  return out;
}

Scalar Resources::scalar(NameId name) const {
  Scalar sum;
  for (const auto& r : items_)
    if (r.name() == name) sum += r.value().scalar();
  return sum;
}

Ranges Resources::ranges(NameId name) const {
  Ranges all;
  for (const auto& r : items_)
    if (r.name() == name) all = all + r.value().ranges();
  return all;
}

Set Resources::set(NameId name) const {
  Set all;
  for (const auto& r : items_)
    if (r.name() == name) all = all + r.value().set();
  return all;
}

std::size_t Resources::memory_bytes() const {
  std::size_t n = sizeof *this + items_.capacity() * sizeof(Resource);
  for (const auto& r : items_) {
    n += r.value().ranges().items().size() * sizeof(Range) + (r.type() == Type::ranges ? 48 : 0);
    for (const auto& s : r.value().set().items()) n += sizeof s + s.capacity();
    if (!r.traits().plain()) n += sizeof(Resource::Rep) + r.rep_->key.capacity() + r.reservations().size() * sizeof(Reservation);
  }
  return n;
}

std::vector<Quantity> Resources::quantities() const {
  std::vector<Quantity> out;
  out.reserve(items_.size());
  quantities(out);
  return out;
}

void Resources::quantities(std::vector<Quantity>& out) const {
  out.clear();
  for (const auto& r : items_) {
    const auto it = std::find_if(out.begin(), out.end(), [&](const Quantity& q) { return matches(q, r); });
    if (it == out.end()) out.push_back({r.name(), r.reservation_role(), quantity_flags(r), r.value().amount()});
    else it->milli = (Scalar::milli(it->milli) + Scalar::milli(r.value().amount())).milli();
  }
}

std::optional<Resources> Resources::take(std::span<const Quantity> wanted) const {
  Resources rest = *this;
  Resources out;
  for (const auto& q : wanted) {
    std::int64_t missing = q.milli;
    for (auto it = rest.items_.begin(); it != rest.items_.end() && missing > 0;) {
      if (!matches(q, *it)) {
        ++it;
        continue;
      }
      Resource part = *it;
      if (part.divisible()) {
        part.value_ = it->value_.first(missing);
        // Items of ranges and sets are whole: a fraction of one asks for nothing.
        if (part.type() != Type::scalar) missing -= missing % 1000;
      } else if (part.value_.amount() > missing) {
        ++it;
        continue;
      }
      missing -= part.value_.amount();
      out.add(part);
      it->value_ -= part.value_;
      it = it->empty() ? rest.items_.erase(it) : it + 1;
    }
    if (missing > 0) return std::nullopt;
  }
  return out;
}

Result<Resources> Resources::reserve(const Resources& wanted) const {
  if (wanted.empty()) return fail(Code::invalid_argument, "RESERVE names no resources");
  Resources out = *this;
  for (const auto& r : wanted.items_) {
    if (!r.reserved() || !r.reservations().back().dynamic) {
      return fail(Code::invalid_argument, "RESERVE of '" + r.text() + "' needs a DYNAMIC reservation");
    }
    if (r.persistent_volume()) return fail(Code::invalid_argument, "RESERVE of the persistent volume '" + r.text() + "' is not possible");
    if (r.revocable()) return fail(Code::invalid_argument, "RESERVE of the revocable '" + r.text() + "' is not possible");
    Resource before = r;
    before.pop_reservation();
    if (!out.subtract(Resources{before})) {
      return fail(Code::failed_precondition, "RESERVE needs '" + before.text() + "', but there is only '" + out.text() + "'");
    }
    out.add(r);
  }
  return out;
}

Result<Resources> Resources::unreserve(const Resources& reserved) const {
  if (reserved.empty()) return fail(Code::invalid_argument, "UNRESERVE names no resources");
  Resources out = *this;
  for (const auto& r : reserved.items_) {
    if (!r.reserved() || !r.reservations().back().dynamic) {
      return fail(Code::invalid_argument, "UNRESERVE of '" + r.text() + "': only dynamic reservations can be undone");
    }
    if (r.persistent_volume()) {
      return fail(Code::invalid_argument, "UNRESERVE of the persistent volume '" + r.text() + "': destroy the volume first");
    }
    if (!out.subtract(Resources{r})) {
      return fail(Code::failed_precondition, "UNRESERVE needs '" + r.text() + "', but there is only '" + out.text() + "'");
    }
    Resource after = r;
    after.pop_reservation();
    out.add(after);
  }
  return out;
}

std::string Resources::text() const {
  std::string out;
  for (const auto& r : items_) {
    if (!out.empty()) out += ";";
    out += r.text();
  }
  return out;
}

}  // namespace gantry::resource
