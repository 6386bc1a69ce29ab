#include "kernel/resource/wire.hpp"

#include "kernel/resource/fault_domain.hpp"

#include "kernel/resource/check.hpp"

#include <gantry/message.hpp>

namespace gantry::resource {
namespace {

using Pairs = std::vector<std::pair<std::string, std::string>>;
using LabelVector = flatbuffers::Vector<flatbuffers::Offset<fb::Label>>;
using StringVector = flatbuffers::Vector<flatbuffers::Offset<flatbuffers::String>>;

Error bad(std::string message) { return fail(Code::invalid_argument, std::move(message)); }
std::string str(const flatbuffers::String* s) { return std::string(text(s)); }

Pairs pairs(const LabelVector* labels) {
  Pairs out;
  if (labels)
    for (const auto* l : *labels) out.emplace_back(str(l->key()), str(l->value()));
  return out;
}

Result<Value> read_ranges(std::string_view name, const fb::Range* begin, std::size_t count) {
  std::vector<Range> ranges;
  ranges.reserve(count);
  for (std::size_t i = 0; i < count; ++i) {
    const fb::Range& r = begin[i];
    if (r.begin() > r.end()) {
      return bad("'" + std::string(name) + "': the range " + std::to_string(r.begin()) + "-" + std::to_string(r.end()) + " ends before it begins");
    }
    ranges.push_back({r.begin(), r.end()});
  }
  return Value(Ranges(std::move(ranges)));
}
Result<Value> read_ranges(std::string_view name, const flatbuffers::Vector<const fb::Range*>* v) {
  if (!v) return Value(Ranges());
  return read_ranges(name, reinterpret_cast<const fb::Range*>(v->Data()), v->size());
}
Value read_set(const StringVector* v) {
  std::vector<std::string> items;
  if (v)
    for (const auto* s : *v) items.push_back(str(s));
  return Set(std::move(items));
}

Traits read_traits(const fb::Resource& r) {
  Traits t;
  if (r.reservations()) {
    for (const auto* x : *r.reservations()) {
      t.reservations.push_back({x->type() == fb::ReservationType::DYNAMIC, str(x->role()), str(x->principal()), pairs(x->labels())});
    }
  }
  t.revocable = r.revocable();
  t.shared = r.shared();
  t.provider_id = str(r.provider_id());
  if (const auto* disk = r.disk()) {
    Disk& d = t.disk.emplace();
    if (const auto* p = disk->persistence()) {
      d.persistent = true;
      d.persistence_id = str(p->id());
      d.persistence_principal = str(p->principal());
    }
    if (const auto* v = disk->volume()) {
      d.has_volume = true;
      d.container_path = str(v->container_path());
      d.host_path = str(v->host_path());
      d.read_only = v->mode() == fb::VolumeMode::RO;
    }
    if (const auto* s = disk->source()) {
      d.has_source = true;
      d.source = static_cast<DiskType>(s->type());
      d.path_root = str(s->path_root());
      d.mount_root = str(s->mount_root());
      d.id = str(s->id());
      d.metadata = pairs(s->metadata());
      d.profile = str(s->profile());
      d.vendor = str(s->vendor());
    }
    if (*t.disk == Disk{}) t.disk.reset();  // an empty message says nothing
  }
  return t;
}

Result<Resource> finish(std::string_view name, Value value, Traits traits, std::string_view allocation_role) {
  Resource r(name, std::move(value), std::move(traits));
  if (r.name() == NameId::none) return fail(Code::resource_exhausted, "too many different resource names");
  if (!allocation_role.empty()) {
    GANTRY_CHECK(validate_role(allocation_role));  // what is interned stays for ever
    r.set_allocation_role(intern_role(allocation_role));
  }
  GANTRY_CHECK(check_type(r));
  GANTRY_CHECK(check_traits(r));
  return r;
}

Result<Resource> read(const fb::Resource& r) {
  const std::string_view name = text(r.name());
  GANTRY_CHECK(check_name(name));
  if (r.reservations()) {
    for (const auto* x : *r.reservations()) {
      if (x->type() == fb::ReservationType::UNKNOWN) return bad("resource '" + std::string(name) + "' has a reservation without type; use STATIC or DYNAMIC");
    }
  }
  Value value;
  switch (r.type()) {
    case fb::ValueType::SCALAR: {
      if (!r.scalar()) return bad("resource '" + std::string(name) + "' is a SCALAR without its value");
      GANTRY_TRY(value, check_scalar(name, *r.scalar()));
      break;
    }
    case fb::ValueType::RANGES: {
      GANTRY_TRY(value, read_ranges(name, r.ranges()));
      break;
    }
    case fb::ValueType::SET: value = read_set(r.set()); break;
    default: return bad("resource '" + std::string(name) + "' has an unknown type; use SCALAR, RANGES or SET");
  }
  return finish(name, std::move(value), read_traits(r), text(r.allocation_role()));
}

// ---- writing

flatbuffers::Offset<flatbuffers::Vector<flatbuffers::Offset<fb::Label>>> write_pairs(flatbuffers::FlatBufferBuilder& fbb, const Pairs& p) {
  if (p.empty()) return 0;
  std::vector<flatbuffers::Offset<fb::Label>> offsets;
  for (const auto& [k, v] : p) offsets.push_back(fb::CreateLabelDirect(fbb, k.c_str(), v.c_str()));
  return fbb.CreateVector(offsets);
}
flatbuffers::Offset<flatbuffers::String> write_text(flatbuffers::FlatBufferBuilder& fbb, const std::string& s) {
  return s.empty() ? flatbuffers::Offset<flatbuffers::String>() : fbb.CreateString(s);
}

flatbuffers::Offset<fb::DiskInfo> write_disk(flatbuffers::FlatBufferBuilder& fbb, const Disk& d) {
  flatbuffers::Offset<fb::Persistence> persistence;
  flatbuffers::Offset<fb::Volume> volume;
  flatbuffers::Offset<fb::DiskSource> source;
  if (d.persistent) {
    const auto id = write_text(fbb, d.persistence_id), principal = write_text(fbb, d.persistence_principal);
    persistence = fb::CreatePersistence(fbb, id, principal);
  }
  if (d.has_volume) {
    const auto container = write_text(fbb, d.container_path), host = write_text(fbb, d.host_path);
    volume = fb::CreateVolume(fbb, container, host, d.read_only ? fb::VolumeMode::RO : fb::VolumeMode::RW);
  }
  if (d.has_source) {
    const auto path = write_text(fbb, d.path_root), mount = write_text(fbb, d.mount_root), id = write_text(fbb, d.id);
    const auto metadata = write_pairs(fbb, d.metadata);
    const auto profile = write_text(fbb, d.profile), vendor = write_text(fbb, d.vendor);
    source = fb::CreateDiskSource(fbb, static_cast<fb::DiskSourceType>(d.source), path, mount, id, metadata, profile, vendor);
  }
  return fb::CreateDiskInfo(fbb, persistence, volume, source);
}

flatbuffers::Offset<fb::Resource> write_one(flatbuffers::FlatBufferBuilder& fbb, const Resource& r, RoleId allocated_to) {
  const std::string_view name_text = r.name_text();
  const auto name = fbb.CreateSharedString(name_text.data(), name_text.size());
  flatbuffers::Offset<flatbuffers::Vector<const fb::Range*>> ranges;
  flatbuffers::Offset<StringVector> set;
  if (r.type() == Type::ranges) {
    const auto items = r.value().range_items();
    static_assert(sizeof(Range) == sizeof(fb::Range));
    ranges = fbb.CreateVectorOfStructs(reinterpret_cast<const fb::Range*>(items.data()), items.size());
  } else if (r.type() == Type::set) {
    const Set held = r.value().set();
    set = fbb.CreateVectorOfStrings(std::vector<std::string>(held.items().begin(), held.items().end()));
  }
  flatbuffers::Offset<flatbuffers::String> allocation_role, provider;
  flatbuffers::Offset<flatbuffers::Vector<flatbuffers::Offset<fb::ReservationInfo>>> reservations;
  flatbuffers::Offset<fb::DiskInfo> disk;
  if (allocated_to != RoleId::none) {
    const std::string_view role = text_of(allocated_to);
    allocation_role = fbb.CreateSharedString(role.data(), role.size());
  }
  const Traits& t = r.traits();
  if (!t.reservations.empty()) {
    std::vector<flatbuffers::Offset<fb::ReservationInfo>> offsets;
    for (const auto& x : t.reservations) {
      const auto principal = write_text(fbb, x.principal);
      const auto labels = write_pairs(fbb, x.labels);
      const auto role = write_text(fbb, x.role);
      offsets.push_back(fb::CreateReservationInfo(fbb, principal, labels, role, x.dynamic ? fb::ReservationType::DYNAMIC : fb::ReservationType::STATIC));
    }
    reservations = fbb.CreateVector(offsets);
  }
  provider = write_text(fbb, t.provider_id);
  if (t.disk) disk = write_disk(fbb, *t.disk);
  fb::ResourceBuilder b(fbb);
  b.add_name(name);
  b.add_type(static_cast<fb::ValueType>(r.type()));
  if (r.type() == Type::scalar) b.add_scalar(r.value().scalar().value());
  b.add_ranges(ranges);
  b.add_set(set);
  b.add_disk(disk);
  b.add_revocable(t.revocable);
  b.add_shared(t.shared);
  b.add_allocation_role(allocation_role);
  b.add_provider_id(provider);
  b.add_reservations(reservations);
  return b.Finish();
}

}  // namespace

Result<Resources> from_wire(const ResourceVector* resources) {
  Resources out;
  if (!resources) return out;
  for (const auto* r : *resources) {
    GANTRY_TRY(Resource one, read(*r));
    GANTRY_CHECK(add_within_bounds(out, one));
  }
  return out;
}

Result<Resource> from_wire(const fb::ResourceT& r) {
  // The common case, without a detour: a plain scalar or ranges.
  if (r.reservations.empty() && !r.disk && !r.revocable && !r.shared && r.provider_id.empty() && r.type != fb::ValueType::SET) {
    GANTRY_CHECK(check_name(r.name));
    if (r.type == fb::ValueType::SCALAR && r.scalar) {
      GANTRY_TRY(Value v, check_scalar(r.name, *r.scalar));
      return finish(r.name, std::move(v), {}, r.allocation_role);
    }
    if (r.type == fb::ValueType::RANGES) {
      GANTRY_TRY(Value v, read_ranges(r.name, r.ranges.data(), r.ranges.size()));
      return finish(r.name, std::move(v), {}, r.allocation_role);
    }
  }
  flatbuffers::FlatBufferBuilder fbb(256);
  fbb.Finish(fb::CreateResource(fbb, &r));
  return read(*flatbuffers::GetRoot<fb::Resource>(fbb.GetBufferPointer()));
}

Result<Resources> from_wire(const std::vector<std::unique_ptr<fb::ResourceT>>& resources) {
  Resources out;
  for (const auto& r : resources) {
    if (!r) return bad("a resource is missing");
    GANTRY_TRY(Resource one, from_wire(*r));
    GANTRY_CHECK(add_within_bounds(out, one));
  }
  return out;
}

ResourceOffsets write(flatbuffers::FlatBufferBuilder& fbb, const Resources& resources) {
  std::vector<flatbuffers::Offset<fb::Resource>> offsets;
  offsets.reserve(resources.size());
  for (const auto& r : resources) offsets.push_back(write_one(fbb, r, r.allocation_role()));
  return fbb.CreateVector(offsets);
}
ResourceOffsets write_allocated(flatbuffers::FlatBufferBuilder& fbb, const Resources& resources, RoleId role) {
  std::vector<flatbuffers::Offset<fb::Resource>> offsets;
  offsets.reserve(resources.size());
  for (const auto& r : resources) offsets.push_back(write_one(fbb, r, role));
  return fbb.CreateVector(offsets);
}

std::unique_ptr<fb::ResourceT> to_wire(const Resource& r) {
  auto out = std::make_unique<fb::ResourceT>();
  if (r.traits().plain() && r.type() != Type::set) {
    out->name = r.name_text();
    out->type = static_cast<fb::ValueType>(r.type());
    out->allocation_role = text_of(r.allocation_role());
    if (r.type() == Type::scalar) {
      out->scalar = r.value().scalar().value();
    } else {
      for (const Range& x : r.value().range_items()) out->ranges.emplace_back(x.begin, x.end);
    }
    return out;
  }
  flatbuffers::FlatBufferBuilder fbb(512);
  fbb.Finish(write_one(fbb, r, r.allocation_role()));
  flatbuffers::GetRoot<fb::Resource>(fbb.GetBufferPointer())->UnPackTo(out.get());
  return out;
}

std::vector<std::unique_ptr<fb::ResourceT>> to_wire(const Resources& resources) {
  std::vector<std::unique_ptr<fb::ResourceT>> out;
  out.reserve(resources.size());
  for (const auto& r : resources) out.push_back(to_wire(r));
  return out;
}

// ---- fault domain

std::unique_ptr<fb::DomainInfoT> to_wire(const FaultDomain& domain) {
  auto out = std::make_unique<fb::DomainInfoT>();
  out->fault_domain = std::make_unique<fb::FaultDomainT>();
  out->fault_domain->region = domain.region;
  out->fault_domain->zone = domain.zone;
  return out;
}

// ---- attributes

Result<Attributes> attributes_from_wire(const std::vector<std::unique_ptr<fb::AttributeT>>& attributes) {
  Attributes out;
  for (const auto& a : attributes) {
    if (!a || a->name.empty()) return bad("an attribute has no name");
    Attribute x;
    x.name = a->name;
    switch (a->type) {
      case fb::ValueType::SCALAR:
        if (!a->scalar || *a->scalar != *a->scalar) return bad("attribute '" + a->name + "' is a SCALAR without a number");
        x.value = Value(Scalar::of(*a->scalar));
        break;
      case fb::ValueType::RANGES: {
        GANTRY_TRY(x.value, read_ranges(a->name, a->ranges.data(), a->ranges.size()));
        break;
      }
      case fb::ValueType::SET: x.value = Value(Set(a->set)); break;
      case fb::ValueType::TEXT: x.text = a->text; break;
      default: return bad("attribute '" + a->name + "' has an unknown type; use SCALAR, RANGES, SET or TEXT");
    }
    out.push_back(std::move(x));
  }
  return out;
}

Result<Attributes> attributes_from_wire(const AttributeVector* attributes) {
  std::vector<std::unique_ptr<fb::AttributeT>> objects;
  if (attributes)
    for (const auto* a : *attributes) objects.emplace_back(a->UnPack());
  return attributes_from_wire(objects);
}

std::vector<std::unique_ptr<fb::AttributeT>> attributes_to_wire(const Attributes& attributes) {
  std::vector<std::unique_ptr<fb::AttributeT>> out;
  for (const auto& a : attributes) {
    auto t = std::make_unique<fb::AttributeT>();
    t->name = a.name;
    t->type = a.value ? static_cast<fb::ValueType>(a.value->type()) : fb::ValueType::TEXT;
    t->text = a.text;
    if (a.value) {
      if (a.value->type() == Type::scalar) t->scalar = a.value->scalar().value();
      const Ranges ranges = a.value->ranges();
      for (const Range& r : ranges.items()) t->ranges.emplace_back(r.begin, r.end);
      const Set set = a.value->set();
      t->set.assign(set.items().begin(), set.items().end());
    }
    out.push_back(std::move(t));
  }
  return out;
}

}  // namespace gantry::resource
