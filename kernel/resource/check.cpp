#include "kernel/resource/check.hpp"

#include <cmath>

namespace gantry::resource {
namespace {
Error bad(std::string message) { return fail(Code::invalid_argument, std::move(message)); }
}  // namespace

Status check_name(std::string_view name) {
  if (name.empty()) return bad("a resource has no name");
  if (name.size() > 255) return bad("the resource name '" + std::string(name.substr(0, 32)) + "...' is longer than 255 characters");
  for (const char c : name) {
    if (static_cast<unsigned char>(c) <= 0x20 || c == 0x7f || std::string_view(":;,()[]{}").find(c) != std::string_view::npos) {
      return bad("the resource name '" + std::string(name) + "' has white space, a bracket or one of ': ; ,'");
    }
  }
  return ok;
}

Result<Value> check_scalar(std::string_view name, double natural) {
  if (!std::isfinite(natural)) return bad("resource '" + std::string(name) + "' is not a finite number");
  if (natural < 0) return bad("resource '" + std::string(name) + "' is negative (" + Scalar::of(natural).text() + ")");
  if (natural > kMaxScalar) return bad("resource '" + std::string(name) + "' is over 1e12; give it in its natural unit (cpus, MiB)");
  return Value(Scalar::of(natural));
}

Status add_within_bounds(Resources& sum, const Resource& r) {
  sum.add(r);
  Scalar total;
  for (const auto& x : sum)
    if (x.name() == r.name()) total += Scalar::milli(x.value().amount());
  if (total.value() > kMaxScalar)
    return bad("resource '" + std::string(r.name_text()) + "' comes to more than 1e12; give it in its natural unit (cpus, MiB)");
  return ok;
}

Status check_type(const Resource& r) {
  switch (r.name()) {
    case NameId::cpus:
    case NameId::mem:
    case NameId::disk:
    case NameId::gpus:
      if (r.type() != Type::scalar) return bad("resource '" + std::string(r.name_text()) + "' must be a number");
      return ok;
    case NameId::ports:
      if (r.type() != Type::ranges) return bad("resource 'ports' must be ranges, such as [31000-32000]");
      return ok;
    default: return ok;
  }
}

Status check_traits(const Resource& r) {
  const Traits& t = r.traits();
  const std::string what = "resource '" + std::string(r.name_text()) + "'";
  const Reservation* outer = nullptr;
  for (const auto& reservation : t.reservations) {
    if (Status s = validate_role(reservation.role); !s) return std::move(s).error().because(what);
    if (reservation.role == "*") return bad(what + " is reserved to '*'; leave the reservation out instead");
    if (outer) {
      if (!reservation.dynamic) return bad(what + " has a STATIC reservation inside another; only DYNAMIC ones refine");
      if (!reservation.role.starts_with(outer->role + "/")) {
        return bad(what + ": reservation '" + reservation.role + "' does not refine '" + outer->role + "'");
      }
    }
    outer = &reservation;
  }
  if (t.revocable && outer) return bad(what + " is revocable and reserved at once");
  if (t.shared && !r.persistent_volume()) return bad(what + " is shared, which only persistent volumes can be");
  if (t.disk) {
    const Disk& d = *t.disk;
    if (r.name() != NameId::disk) return bad(what + " has disk information; only 'disk' may");
    if (d.has_volume && !d.persistent) return bad(what + " has a volume without persistence");
    if (d.persistent && (d.persistence_id.empty() || !outer)) return bad(what + ": a persistent volume needs an id and a reservation");
    if (d.persistent && (!d.has_volume || d.container_path.empty())) return bad(what + ": a persistent volume needs a container_path");
  }
  return ok;
}

}  // namespace gantry::resource
