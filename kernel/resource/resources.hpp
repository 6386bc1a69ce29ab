// Resources: what an agent has, an offer gives and a task holds, with the algebra of the master's books.
//
// A Resources is a bag of Resource entries in canonical form: entries of equal identity (name, type, allocation role,
// reservations, disk, ...) are merged, empty ones are gone, order is fixed. So a == b is plain comparison and
// a + b - b == a holds. Typical "cpus;mem;disk;ports" costs about 160 bytes and three allocations. Not thread safe to
// modify; copies share immutable parts and may live on different threads.
#pragma once

#include "kernel/resource/names.hpp"
#include "kernel/resource/value.hpp"

#include <gantry/result.hpp>

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace gantry::resource {

// One layer of a reservation stack (outermost first; the last one names the effective role).
struct Reservation {
  bool dynamic = false;  // false: static, from the agent's own resources text
  std::string role;
  std::string principal;
  std::vector<std::pair<std::string, std::string>> labels;
  friend bool operator==(const Reservation&, const Reservation&) = default;
};

enum class DiskType : std::uint8_t { none = 0, path = 1, mount = 2, block = 3, raw = 4 };

struct Disk {
  bool persistent = false;
  std::string persistence_id;
  std::string persistence_principal;
  bool has_volume = false;
  std::string container_path;
  std::string host_path;
  bool read_only = false;
  bool has_source = false;
  DiskType source = DiskType::none;
  std::string path_root;
  std::string mount_root;
  std::string id;
  std::vector<std::pair<std::string, std::string>> metadata;
  std::string profile;
  std::string vendor;
  friend bool operator==(const Disk&, const Disk&) = default;
};

// What distinguishes an entry from plain unreserved "cpus"; most entries have none of it.
struct Traits {
  std::vector<Reservation> reservations;
  std::optional<Disk> disk;
  bool revocable = false;
  bool shared = false;
  std::string provider_id;
  friend bool operator==(const Traits&, const Traits&) = default;
  [[nodiscard]] bool plain() const { return *this == Traits{}; }
};

// One entry. 24 bytes.
class Resource {
 public:
  Resource() = default;
  Resource(NameId name, Value value) : value_(std::move(value)), name_(name) {}
  Resource(std::string_view name, Value value) : Resource(intern_name(name), std::move(value)) {}
  Resource(std::string_view name, Value value, Traits traits) : Resource(name, std::move(value)) { set_traits(std::move(traits)); }

  [[nodiscard]] NameId name() const { return name_; }
  [[nodiscard]] std::string_view name_text() const { return text_of(name_); }
  [[nodiscard]] const Value& value() const { return value_; }
  [[nodiscard]] Type type() const { return value_.type(); }
  [[nodiscard]] bool empty() const { return value_.empty(); }
  void set_value(Value v) { value_ = std::move(v); }

  [[nodiscard]] const Traits& traits() const;  // of a plain resource: a static empty one
  void set_traits(Traits t);
  [[nodiscard]] std::span<const Reservation> reservations() const { return traits().reservations; }
  [[nodiscard]] bool reserved() const { return rep_ && !rep_->traits.reservations.empty(); }
  // none = unreserved
  [[nodiscard]] RoleId reservation_role() const { return rep_ ? rep_->role : RoleId::none; }
  [[nodiscard]] bool revocable() const { return rep_ && rep_->traits.revocable; }
  [[nodiscard]] bool shared() const { return rep_ && rep_->traits.shared; }
  [[nodiscard]] bool refined() const { return rep_ && rep_->traits.reservations.size() > 1; }
  [[nodiscard]] bool persistent_volume() const { return rep_ && rep_->traits.disk && rep_->traits.disk->persistent; }
  // May be offered to `role`: unreserved, or reserved to it or to an ancestor of it.
  [[nodiscard]] bool allocatable_to(RoleId role) const;

  [[nodiscard]] RoleId allocation_role() const { return allocation_role_; }
  void set_allocation_role(RoleId role) { allocation_role_ = role; }

  void push_reservation(Reservation r);
  void pop_reservation();  // of the innermost; nothing on unreserved ones

  // Equal in everything but the amount.
  [[nodiscard]] bool same_identity(const Resource& o) const;
  // Volumes, shared and mounted disks are indivisible: they neither merge nor split.
  [[nodiscard]] bool divisible() const;
  // "cpus(eng):4", the form Mesos prints; parse() reads it back unless there are dynamic reservations or disks.
  [[nodiscard]] std::string text() const;

  friend bool operator==(const Resource& a, const Resource& b) { return a.same_identity(b) && a.value_ == b.value_; }

 private:
  friend class Resources;
  struct Rep {
    mutable std::atomic<std::uint32_t> refs{1};
    Traits traits;
    std::string key;  // of traits: comparable and ordered
    RoleId role = RoleId::none;
  };
  // The canonical order; equivalent exactly when same_identity.
  [[nodiscard]] bool before(const Resource& o) const;
  Value value_;
  detail::Ref<Rep> rep_;
  NameId name_ = NameId::none;
  RoleId allocation_role_ = RoleId::none;
};

// An amount as the allocator counts it; the members are those of allocator.fbs Quantity.
struct Quantity {
  NameId name = NameId::none;
  RoleId role = RoleId::none;  // reserved to; none = unreserved
  std::uint32_t flags = 0;     // bits of fb::allocator::QuantityFlags: 1 revocable, 2 shared, 4 gpu, 8 refined
  std::int64_t milli = 0;
  friend bool operator==(const Quantity&, const Quantity&) = default;
};

class Resources {
 public:
  Resources() = default;
  Resources(std::initializer_list<Resource> items) {
    for (const auto& r : items) add(r);
  }
  explicit Resources(std::span<const Resource> items) {
    for (const auto& r : items) add(r);
  }

  // Reads "cpus:4;mem:1024;ports:[31000-32000];disk(eng):5;gpus:1" (mesos-kernel.md B end). Entries without a role are
  // reserved to `default_role` unless that is "*". Errors name the entry.
  [[nodiscard]] static Result<Resources> parse(std::string_view text, std::string_view default_role = "*");
  // The same form; "" when empty.
  [[nodiscard]] std::string text() const;

  [[nodiscard]] bool empty() const { return items_.empty(); }
  [[nodiscard]] std::size_t size() const { return items_.size(); }
  [[nodiscard]] auto begin() const { return items_.begin(); }
  [[nodiscard]] auto end() const { return items_.end(); }
  void clear() { items_.clear(); }
  // For memory figures: heap and own bytes, shared parts counted in full.
  [[nodiscard]] std::size_t memory_bytes() const;

  // ---- algebra
  void add(const Resource& r);
  Resources& operator+=(const Resource& r) { add(r); return *this; }
  Resources& operator+=(const Resources& o);
  Resources& operator+=(Resources&& o) {
    if (items_.empty() && this != &o) {
      items_ = std::move(o.items_);
      return *this;
    }
    return *this += std::as_const(o);
  }
  friend Resources operator+(Resources a, const Resources& b) { a += b; return a; }

  [[nodiscard]] bool contains(const Resources& o) const;
  [[nodiscard]] bool contains(const Resource& r) const;
  // Takes `o` out if it is contained and returns true; else changes nothing and returns false.
  [[nodiscard]] bool subtract(const Resources& o);
  // Precondition: contains(o); aborts naming both otherwise. For the books, where anything else is an impossible state.
  Resources& operator-=(const Resources& o);
  friend Resources operator-(Resources a, const Resources& b) { a -= b; return a; }
  // What both have, entry by entry.
  [[nodiscard]] Resources intersect(const Resources& o) const;
  // *this without what `o` also has (never fails).
  [[nodiscard]] Resources without(const Resources& o) const { Resources r = *this; r -= intersect(o); return r; }
  friend bool operator==(const Resources& a, const Resources& b);

  // ---- views
  template <class P>
  [[nodiscard]] Resources filter(P keep) const {
    Resources out;
    for (const auto& r : items_)
      if (keep(r)) out.items_.push_back(r);
    return out;
  }
  [[nodiscard]] Resources unreserved() const { return filter([](const Resource& r) { return !r.reserved(); }); }
  // Effective role exactly `role`; without argument: reserved to anybody.
  [[nodiscard]] Resources reserved(RoleId role) const { return filter([role](const Resource& r) { return r.reserved() && r.reservation_role() == role; }); }
  [[nodiscard]] Resources reserved() const { return filter([](const Resource& r) { return r.reserved(); }); }
  [[nodiscard]] Resources revocable() const { return filter([](const Resource& r) { return r.revocable(); }); }
  [[nodiscard]] Resources non_revocable() const { return filter([](const Resource& r) { return !r.revocable(); }); }
  [[nodiscard]] Resources shared() const { return filter([](const Resource& r) { return r.shared(); }); }
  [[nodiscard]] Resources persistent_volumes() const { return filter([](const Resource& r) { return r.persistent_volume(); }); }
  // What may be offered to `role`: unreserved, or reserved to it or an ancestor.
  [[nodiscard]] Resources allocatable_to(RoleId role) const { return filter([role](const Resource& r) { return r.allocatable_to(role); }); }
  // What could be reserved (further) for `role`: unreserved, or reserved to a strict ancestor; no volumes, no revocable.
  [[nodiscard]] Resources reservable_to(RoleId role) const;
  // All reservations dropped, entries merged.
  [[nodiscard]] Resources to_unreserved() const;
  // `reservation` pushed on every entry.
  [[nodiscard]] Resources push_reservation(const Reservation& reservation) const;
  [[nodiscard]] Resources pop_reservation() const;
  // The same resources marked as allocated to `role`; none removes the mark.
  [[nodiscard]] Resources allocated_to(RoleId role) const;
  [[nodiscard]] Resources unallocated() const { return allocated_to(RoleId::none); }

  // ---- hints for walks over many: first the entries, some steps later what they share. Inlined by force, for gcc drops
  // calls of functions that only prefetch.
  [[gnu::always_inline]] void prefetch_entries() const {
    const char* p = reinterpret_cast<const char*>(items_.data());
    for (std::size_t i = 0; i < items_.size() * sizeof(Resource); i += 64) __builtin_prefetch(p + i);
  }
  [[gnu::always_inline]] void prefetch_values() const {
    for (const auto& r : items_) r.value().prefetch();
  }

  // ---- sums over all entries of a name, whatever their reservations
  [[nodiscard]] Scalar scalar(NameId name) const;
  [[nodiscard]] Scalar cpus() const { return scalar(NameId::cpus); }
  [[nodiscard]] Scalar mem() const { return scalar(NameId::mem); }    // MiB
  [[nodiscard]] Scalar disk() const { return scalar(NameId::disk); }  // MiB
  [[nodiscard]] Scalar gpus() const { return scalar(NameId::gpus); }
  [[nodiscard]] Ranges ranges(NameId name) const;
  [[nodiscard]] Ranges ports() const { return ranges(NameId::ports); }
  [[nodiscard]] Set set(NameId name) const;

  // ---- the allocator's unit
  // Amounts grouped by (name, effective role, flags), in the order of the entries.
  [[nodiscard]] std::vector<Quantity> quantities() const;
  void quantities(std::vector<Quantity>& out) const;  // into `out`, whose memory is used again
  // Concrete resources for amounts the allocator granted: scalars shrink, ranges and sets give their first items,
  // indivisible entries are given whole. nullopt if it does not have that much. Flags and roles must match.
  [[nodiscard]] std::optional<Resources> take(std::span<const Quantity> wanted) const;

  // ---- operations; the error is a sentence for OPERATION_ERROR / a dropped operation
  // *this with the innermost reservation of each entry of `wanted` made: what `wanted` is without it must be contained.
  [[nodiscard]] Result<Resources> reserve(const Resources& wanted) const;
  // The reverse. Static reservations and persistent volumes are refused.
  [[nodiscard]] Result<Resources> unreserve(const Resources& reserved) const;

 private:
  std::vector<Resource> items_;  // sorted by Resource::before(), indivisible duplicates by amount
};

// ---- attributes: "rack:r1;zone:{a,b};n:3;x:[1-5]"

// Exactly one of value and text says what it is; a word that is no number is TEXT.
struct Attribute {
  std::string name;
  std::optional<Value> value;
  std::string text;
  friend bool operator==(const Attribute&, const Attribute&) = default;
};
using Attributes = std::vector<Attribute>;
[[nodiscard]] Result<Attributes> parse_attributes(std::string_view text);
[[nodiscard]] std::string to_text(const Attributes& attributes);

}  // namespace gantry::resource
