// Resource: one entry and its identity.
#include "kernel/resource/resources.hpp"

#include "kernel/resource/identity.hpp"

namespace gantry::resource {
namespace {

void put(std::string& key, std::string_view text) {
  key += std::to_string(text.size());
  key += ':';
  key += text;
}
void put(std::string& key, const std::vector<std::pair<std::string, std::string>>& pairs) {
  key += std::to_string(pairs.size());
  key += '#';
  for (const auto& [k, v] : pairs) {
    put(key, k);
    put(key, v);
  }
}

}  // namespace

// Injective: equal keys mean equal traits, and the order of keys does not depend on ids or addresses.
std::string traits_key(const Traits& t) {
  std::string key;
  for (const auto& r : t.reservations) {
    key += r.dynamic ? 'D' : 'S';
    put(key, r.role);
    put(key, r.principal);
    put(key, r.labels);
  }
  key += t.revocable ? 'v' : '.';
  key += t.shared ? 's' : '.';
  put(key, t.provider_id);
  if (t.disk) {
    const Disk& d = *t.disk;
    key += d.persistent ? 'P' : '-';
    put(key, d.persistence_id);
    put(key, d.persistence_principal);
    key += d.has_volume ? 'V' : '-';
    put(key, d.container_path);
    put(key, d.host_path);
    key += d.read_only ? 'r' : 'w';
    key += d.has_source ? 'S' : '-';
    key += static_cast<char>('0' + static_cast<int>(d.source));
    for (const auto* s : {&d.path_root, &d.mount_root, &d.id, &d.profile, &d.vendor}) put(key, *s);
    put(key, d.metadata);
  }
  return key;
}

const Traits& Resource::traits() const {
  static const Traits none;
  return rep_ ? rep_->traits : none;
}

void Resource::set_traits(Traits t) {
  if (t.plain()) {
    rep_ = {};
    return;
  }
  auto* rep = new Rep;
  rep->role = t.reservations.empty() ? RoleId::none : intern_role(t.reservations.back().role);
  rep->key = traits_key(t);
  rep->traits = std::move(t);
  rep_ = detail::Ref<Rep>(rep);
}

bool Resource::allocatable_to(RoleId role) const {
  return !reserved() || is_within(role, reservation_role());
}

void Resource::push_reservation(Reservation r) {
  Traits t = traits();
  t.reservations.push_back(std::move(r));
  set_traits(std::move(t));
}

void Resource::pop_reservation() {
  if (!reserved()) return;
  Traits t = traits();
  t.reservations.pop_back();
  set_traits(std::move(t));
}

bool Resource::same_identity(const Resource& o) const {
  return name_ == o.name_ && allocation_role_ == o.allocation_role_ && type() == o.type() &&
         (rep_.get() == o.rep_.get() || (rep_ && o.rep_ && rep_->key == o.rep_->key));
}

bool Resource::divisible() const {
  if (!rep_) return true;
  const Traits& t = rep_->traits;
  if (t.shared) return false;
  if (!t.disk) return true;
  if (t.disk->persistent || t.disk->source == DiskType::mount || t.disk->source == DiskType::block) return false;
  return t.disk->source != DiskType::raw || t.disk->id.empty();
}

bool Resource::before(const Resource& o) const {
  if (name_ != o.name_) return name_ < o.name_;
  if (type() != o.type()) return type() < o.type();
  if (allocation_role_ != o.allocation_role_) return allocation_role_ < o.allocation_role_;
  if (rep_.get() == o.rep_.get()) return false;
  if (!rep_ || !o.rep_) return !rep_;
  return rep_->key < o.rep_->key;
}

std::string Resource::text() const {
  std::string out(name_text());
  if (reserved()) {
    const Reservation& last = traits().reservations.back();
    out += "(" + last.role;
    if (last.dynamic) out += last.principal.empty() ? ", dynamic" : ", dynamic, " + last.principal;
    out += ")";
  }
  if (const auto& disk = traits().disk) {
    out += "[";
    if (disk->source == DiskType::mount) out += "MOUNT:" + disk->mount_root;
    if (disk->source == DiskType::path) out += "PATH:" + disk->path_root;
    if (disk->source == DiskType::block) out += "BLOCK:" + disk->id;
    if (disk->source == DiskType::raw) out += "RAW:" + disk->id;
    if (disk->persistent) out += (disk->has_source ? "," : "") + disk->persistence_id + ":" + disk->container_path;
    out += "]";
  }
  if (revocable()) out += "{REV}";
  if (shared()) out += "<SHARED>";
  return out + ":" + value_.text();
}

}  // namespace gantry::resource
