#include "kernel/resource/volumes.hpp"

#include <algorithm>

namespace gantry::resource {
namespace {

Error bad(std::string message) { return fail(Code::invalid_argument, std::move(message)); }

bool dynamic(const Resource& r) { return r.reserved() && r.traits().reservations.back().dynamic; }

Status check_volume(const Resource& v) {
  const auto& disk = v.traits().disk;
  if (v.name() != NameId::disk || !disk) return bad("Resource " + words(Resources{v}) + " does not have DiskInfo");
  if (!disk->persistent) return bad("'persistence' is not set in DiskInfo");
  if (!disk->has_volume) return bad("Expecting 'volume' to be set for persistent volume");
  return ok;
}

// What may grow and shrink.
Status check_resizable(const Resource& v, const std::string& doing) {
  if (!v.persistent_volume()) return bad("The 'volume' field is not a persistent volume");
  if (v.shared()) return bad(doing + " a shared persistent volume is not supported");
  if (!v.traits().provider_id.empty()) return bad(doing + " a volume from a resource provider is not supported");
  const DiskType source = v.traits().disk->source;
  if (source != DiskType::none && source != DiskType::path)
    return bad(doing + " a volume is supported on ROOT and PATH disks only");
  return ok;
}

Resource sized(Resource r, Scalar size) {
  r.set_value(size);
  return r;
}

}  // namespace

bool made(const Resource& r) { return dynamic(r) || r.persistent_volume(); }

Resource disk_of(Resource volume) {
  if (!volume.persistent_volume()) return volume;
  Traits t = volume.traits();
  t.shared = false;
  t.disk->persistent = t.disk->has_volume = t.disk->read_only = false;
  for (auto* s : {&t.disk->persistence_id, &t.disk->persistence_principal, &t.disk->container_path, &t.disk->host_path}) s->clear();
  if (*t.disk == Disk{}) t.disk.reset();
  volume.set_traits(std::move(t));
  return volume;
}

Resource bare(Resource r) {
  r = disk_of(std::move(r));
  while (dynamic(r)) r.pop_reservation();
  return r;
}

Result<Conversion> reservation_of(const Resources& wanted) {
  if (wanted.empty()) return bad("No resources specified");
  Conversion c;
  for (const auto& r : wanted) {
    if (!dynamic(r)) return bad("Resource " + words(Resources{r}) + " is not dynamically reserved");
    if (r.persistent_volume()) return bad("A persistent volume " + words(Resources{r}) + " must already be reserved");
    if (r.revocable()) return bad("Revocable resources " + words(Resources{r}) + " cannot be reserved");
    Resource before = r;
    before.pop_reservation();
    c.consumed += before;
    c.converted += r;
  }
  return c;
}

Result<Conversion> reservation_of(const Resources& wanted, const Resources& source) {
  if (source.empty()) return reservation_of(wanted);
  if (wanted.empty()) return bad("No resources specified");
  // The same amounts below other stacks; nothing that is there statically may go.
  Resources plain_source, plain_wanted;
  for (const auto& r : source) {
    if (r.persistent_volume()) return bad("A persistent volume " + words(Resources{r}) + " cannot be reserved anew");
    plain_source += bare(r);
  }
  for (const auto& r : wanted) {
    if (r.persistent_volume() || r.revocable())
      return bad("Resource " + words(Resources{r}) + " cannot be reserved: it is a persistent volume or revocable");
    plain_wanted += bare(r);
  }
  if (!(plain_source == plain_wanted))
    return bad("The resources " + words(wanted) + " are not the same amounts as the source " + words(source));
  return Conversion{source, wanted};
}

Result<Conversion> release_of(const Resources& reserved) {
  if (reserved.empty()) return bad("No resources specified");
  Conversion c;
  for (const auto& r : reserved) {
    if (!dynamic(r)) return bad("Resource " + words(Resources{r}) + " is not dynamically reserved");
    if (r.persistent_volume())
      return bad("A dynamically reserved persistent volume " + words(Resources{r}) +
                 " cannot be unreserved directly. Please destroy the persistent volume first then unreserve the resource");
    Resource after = r;
    after.pop_reservation();
    c.consumed += r;
    c.converted += after;
  }
  return c;
}

Result<Conversion> creation_of(const Resources& volumes) {
  if (volumes.empty()) return bad("No volumes specified");
  Conversion c;
  for (const auto& v : volumes) {
    GANTRY_CHECK(check_volume(v));
    const Disk& disk = *v.traits().disk;
    if (disk.read_only) return bad("Persistent volume '" + disk.persistence_id + "' cannot be created read-only");
    if (!disk.host_path.empty()) return bad("Expecting 'host_path' to be unset for persistent volume");
    if (!v.reserved()) return bad("Persistent volumes cannot be created from unreserved resources.");
    c.consumed += disk_of(v);
    c.converted += v;
  }
  return c;
}

Result<Conversion> destruction_of(const Resources& volumes) {
  if (volumes.empty()) return bad("No volumes specified");
  Conversion c;
  for (const auto& v : volumes) {
    GANTRY_CHECK(check_volume(v));
    c.consumed += v;
    c.converted += disk_of(v);
  }
  return c;
}

Result<Conversion> growth_of(const Resource& volume, const Resource& addition) {
  GANTRY_CHECK(check_resizable(volume, "Growing"));
  if (addition.type() != Type::scalar || addition.empty()) return bad("The size of 'addition' field must be greater than zero");
  if (!disk_of(volume).same_identity(addition)) return bad("Incompatible resources in the 'volume' and 'addition' fields");
  Conversion c;
  c.consumed = Resources{volume, addition};
  c.converted = Resources{sized(volume, volume.value().scalar() + addition.value().scalar())};
  return c;
}

Result<Conversion> shrinking_of(const Resource& volume, Scalar by) {
  GANTRY_CHECK(check_resizable(volume, "Shrinking"));
  if (by <= Scalar()) return bad("Value of 'subtract' must be greater than zero");
  if (by >= volume.value().scalar()) return bad("Value of 'subtract' must be smaller than the size of 'volume'");
  Conversion c;
  c.consumed = Resources{volume};
  c.converted = Resources{sized(volume, volume.value().scalar() - by), sized(disk_of(volume), by)};
  return c;
}

Resources as_in(const Resources& pool, const Resources& wanted) {
  if (std::none_of(wanted.begin(), wanted.end(), [](const Resource& r) { return r.persistent_volume(); })) return wanted;
  // How a volume is used (where it is mounted, whether it may be written) does not tell it from others.
  const auto unused = [](const Resource& r) {
    Resource out = r;
    Traits t = r.traits();
    t.disk->read_only = false;
    t.disk->container_path = t.disk->host_path = {};
    out.set_traits(std::move(t));
    out.set_allocation_role(RoleId::none);
    return out;
  };
  Resources out;
  for (const auto& r : wanted) {
    const Resource* found = &r;
    if (r.persistent_volume() && !pool.contains(r)) {
      const Resource like = unused(r);
      for (const auto& p : pool)
        if (p.persistent_volume() && unused(p) == like) found = &p;
    }
    out += *found;
  }
  return out;
}

std::string words(const Resources& resources, RoleId allocated) {
  if (resources.empty()) return "{}";
  std::string out;
  for (const auto& r : resources) {
    if (!out.empty()) out += "; ";
    out += r.name_text();
    if (allocated != RoleId::none) out += "(allocated: " + std::string(text_of(allocated)) + ")";
    Resource rest = r;
    if (r.reserved()) {
      out += "(reservations: [";
      bool first = true;
      for (const auto& reservation : r.reservations()) {
        out += std::string(first ? "" : ",") + "(" + (reservation.dynamic ? "DYNAMIC," : "STATIC,") + reservation.role +
               (reservation.principal.empty() ? "" : "," + reservation.principal);
        if (!reservation.labels.empty()) {
          out += ",{";
          for (std::size_t i = 0; i < reservation.labels.size(); ++i)
            out += (i ? ", " : "") + reservation.labels[i].first + ": " + reservation.labels[i].second;
          out += "}";
        }
        out += ")";
        first = false;
      }
      out += "])";
      Traits t = r.traits();
      t.reservations.clear();
      rest.set_traits(std::move(t));
    }
    out += rest.text().substr(r.name_text().size());
  }
  return out;
}

}  // namespace gantry::resource
