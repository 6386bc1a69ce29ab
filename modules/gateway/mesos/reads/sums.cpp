#include "sums.hpp"

#include "wire/codec.hpp"

#include <gantry/message.hpp>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <set>
#include <utility>

namespace gantry::gateway_mesos {
namespace {

bool same_text(const flatbuffers::String* a, const flatbuffers::String* b) { return text(a) == text(b); }

template <class T>
bool same_table(const T* a, const T* b) {
  if (a == b) return true;
  if (!a || !b) return false;
  flatbuffers::FlatBufferBuilder x, y;
  std::unique_ptr<typename T::NativeTableType> ta(a->UnPack()), tb(b->UnPack());
  x.Finish(T::Pack(x, ta.get()));
  y.Finish(T::Pack(y, tb.get()));
  return x.GetSize() == y.GetSize() && std::equal(x.GetBufferPointer(), x.GetBufferPointer() + x.GetSize(), y.GetBufferPointer());
}

bool same_kind(const fb::Resource& a, const fb::Resource& b) {
  if (&a == &b) return true;
  if (!same_text(a.name(), b.name()) || a.type() != b.type() || a.revocable() != b.revocable() || a.shared() != b.shared() ||
      !same_text(a.provider_id(), b.provider_id()))
    return false;
  const auto na = a.reservations() ? a.reservations()->size() : 0, nb = b.reservations() ? b.reservations()->size() : 0;
  if (na != nb) return false;
  for (flatbuffers::uoffset_t i = 0; i < na; ++i)
    if (!same_table(a.reservations()->Get(i), b.reservations()->Get(i))) return false;
  return same_table(a.disk(), b.disk());
}

void join(std::vector<fb::Range>& ranges) {
  std::sort(ranges.begin(), ranges.end(), [](const auto& a, const auto& b) { return a.begin() < b.begin(); });
  std::size_t n = 0;
  for (const auto& r : ranges) {
    if (n && r.begin() <= ranges[n - 1].end() + 1)
      ranges[n - 1] = fb::Range(ranges[n - 1].begin(), std::max(ranges[n - 1].end(), r.end()));
    else
      ranges[n++] = r;
  }
  ranges.resize(n);
}

}  // namespace

std::string_view reservation_role(const fb::Resource& r) {
  if (r.reservations() && r.reservations()->size()) return text(r.reservations()->Get(r.reservations()->size() - 1)->role());
  return {};
}

void Sums::add(const ResourceVector* resources, bool with_allocation) {
  if (!resources) return;
  for (const auto* r : *resources) add(*r, with_allocation ? text(r->allocation_role()) : std::string_view());
}

void Sums::add(const fb::Resource& r, std::string_view allocation) {
  const std::int64_t scalar = r.scalar() ? std::llround(*r.scalar() * 1000) : 0;
  if (!r.ranges() && !r.set()) {  // nearly all; nothing is made for those that only add to what is there
    for (auto& x : amounts_)
      if (x.allocation == allocation && same_kind(*x.like, r)) {
        x.scalar += scalar;
        return;
      }
  }
  Amount a;
  a.like = &r;
  a.allocation = allocation;
  a.scalar = scalar;
  if (r.ranges()) {
    for (const auto* range : *r.ranges()) a.ranges.push_back(*range);
  }
  if (r.set())
    for (const auto* s : *r.set()) a.set.push_back(text(s));
  add(a);
}

void Sums::add(const Amount& a) {
  for (auto& x : amounts_) {
    if (x.allocation != a.allocation || !same_kind(*x.like, *a.like)) continue;
    x.scalar += a.scalar;  // ranges and sets are joined when they are written: sorting each time would cost n * n
    x.ranges.insert(x.ranges.end(), a.ranges.begin(), a.ranges.end());
    x.set.insert(x.set.end(), a.set.begin(), a.set.end());
    return;
  }
  amounts_.push_back(a);
}

void write_number(std::string& out, double value) { wire::append_double(out, value); }

void write_scalar(std::string& out, std::int64_t n) {
  if (n < 0) {
    out += '-';
    n = -n;
  }
  char text[32];
  const auto r = std::to_chars(text, text + sizeof text, n / 1000);
  out.append(text, r.ptr);
  out += '.';
  const auto f = static_cast<int>(n % 1000);
  out += static_cast<char>('0' + f / 100);
  if (f % 100) out += static_cast<char>('0' + f / 10 % 10);
  if (f % 10) out += static_cast<char>('0' + f % 10);
}

void write_resources(std::string& out, const Sums& sums, Which of, std::string_view role) {
  struct Total {
    std::string name;
    std::int64_t scalar = 0;
    const fb::Resource* like = nullptr;
    std::vector<fb::Range> ranges;
    std::vector<std::string_view> set;
  };
  std::vector<Total> totals;
  for (const char* name : {"disk", "mem", "gpus", "cpus"}) {
    totals.emplace_back();
    totals.back().name = name;
  }
  for (const auto& a : sums.amounts()) {
    if (of && !of(a, role)) continue;
    std::string_view name = text(a.like->name());
    std::string long_name;
    if (a.like->revocable()) name = long_name = std::string(name) + "_revocable";
    auto it = std::find_if(totals.begin(), totals.end(), [&](const Total& t) { return t.name == name; });
    if (it == totals.end()) {
      totals.emplace_back();
      it = totals.end() - 1;
      it->name = name;
    }
    it->like = a.like;
    it->scalar += a.scalar;
    it->ranges.insert(it->ranges.end(), a.ranges.begin(), a.ranges.end());
    it->set.insert(it->set.end(), a.set.begin(), a.set.end());
  }
  char comma = '{';
  for (auto& t : totals) {
    out += std::exchange(comma, ',');
    wire::append_string(out, t.name);
    out += ':';
    if (!t.like || t.like->type() == fb::ValueType::SCALAR) {
      write_scalar(out, t.scalar);
    } else if (t.like->type() == fb::ValueType::RANGES) {
      join(t.ranges);
      out += "\"[";
      for (std::size_t i = 0; i < t.ranges.size(); ++i) {
        if (i) out += ", ";
        out += std::to_string(t.ranges[i].begin()) + "-" + std::to_string(t.ranges[i].end());
      }
      out += "]\"";
    } else {
      std::sort(t.set.begin(), t.set.end());
      t.set.erase(std::unique(t.set.begin(), t.set.end()), t.set.end());
      std::string items = "{";
      for (std::size_t i = 0; i < t.set.size(); ++i) items += (i ? ", " : "") + std::string(t.set[i]);
      wire::append_string(out, items + "}");
    }
  }
  out += '}';
}

void write_quantities(std::string& out, const Sums& sums, Which of, std::string_view role) {
  std::map<std::string_view, std::int64_t> totals;
  for (const auto& a : sums.amounts()) {
    if (of && !of(a, role)) continue;
    std::int64_t n = a.scalar + static_cast<std::int64_t>(a.set.size()) * 1000;
    for (const auto& r : a.ranges) n += static_cast<std::int64_t>(r.end() - r.begin() + 1) * 1000;
    if (n) totals[text(a.like->name())] += n;
  }
  char comma = '{';
  for (const auto& [name, n] : totals) {
    out += std::exchange(comma, ',');
    wire::append_string(out, name);
    out += ':';
    write_scalar(out, n);
  }
  out += totals.empty() ? "{}" : "}";
}

void both_forms(fb::ResourceT& r) {
  r.role = "*";
  r.reservation.reset();
  if (r.reservations.empty()) return;
  const auto& top = *r.reservations.back();
  r.role = top.role;
  if (r.reservations.size() > 1 || top.type != fb::ReservationType::DYNAMIC) return;
  r.reservation = std::make_unique<fb::ReservationInfoT>();
  r.reservation->principal = top.principal;
  for (const auto& l : top.labels) r.reservation->labels.push_back(std::make_unique<fb::LabelT>(*l));
}

std::vector<std::unique_ptr<fb::ResourceT>> to_messages(const Sums& sums, Which of, std::string_view role) {
  std::vector<std::unique_ptr<fb::ResourceT>> out;
  for (const auto& a : sums.amounts()) {
    if (of && !of(a, role)) continue;
    std::unique_ptr<fb::ResourceT> r(a.like->UnPack());
    r->allocation_role = a.allocation;
    if (a.like->type() == fb::ValueType::SCALAR) r->scalar = static_cast<double>(a.scalar) / 1000;
    r->ranges = a.ranges;
    join(r->ranges);
    const std::set<std::string_view> items(a.set.begin(), a.set.end());
    r->set.assign(items.begin(), items.end());
    both_forms(*r);
    out.push_back(std::move(r));
  }
  return out;
}

}  // namespace gantry::gateway_mesos
