// What the cluster makes of an agent's resources beside plain reservations: persistent volumes (reference mesos-kernel.md A7),
// and how both are told from what the machine itself has.
//
// An operation is a conversion: it takes `consumed` out of a pool that contains it and puts `converted` there.
#pragma once

#include "kernel/resource/resources.hpp"

namespace gantry::resource {

struct Conversion {
  Resources consumed, converted;
};

// Made by the cluster: reserved dynamically, or a persistent volume. The registry keeps these; a machine knows none of it.
[[nodiscard]] bool made(const Resource& r);
[[nodiscard]] inline Resources made(const Resources& r) {
  return r.filter([](const Resource& x) { return made(x); });
}
// What the machine itself has of it: without volume and dynamic reservations.
[[nodiscard]] Resource bare(Resource r);
// The reserved disk a volume lies on: without persistence and volume; the source stays.
[[nodiscard]] Resource disk_of(Resource volume);

// INVALID_ARGUMENT says what is wrong with the request itself; whether a pool has `consumed` is the caller's question.
[[nodiscard]] Result<Conversion> reservation_of(const Resources& wanted);
// `source` is what is reserved now; what both share of the stack of reservations stays.
[[nodiscard]] Result<Conversion> reservation_of(const Resources& wanted, const Resources& source);
[[nodiscard]] Result<Conversion> release_of(const Resources& reserved);
[[nodiscard]] Result<Conversion> creation_of(const Resources& volumes);
[[nodiscard]] Result<Conversion> destruction_of(const Resources& volumes);
[[nodiscard]] Result<Conversion> growth_of(const Resource& volume, const Resource& addition);
[[nodiscard]] Result<Conversion> shrinking_of(const Resource& volume, Scalar by);

// `wanted` with its volumes named as `pool` has them, where they are the same but for how they are used: a task may mount a
// volume elsewhere than it was created for, or read-only.
[[nodiscard]] Resources as_in(const Resources& pool, const Resources& wanted);

// As Mesos prints resources, and frameworks and scripts read them: "cpus(allocated: eng)(reservations: [(DYNAMIC,eng,alice)]):4;
// disk:10"; "{}" when there are none. `allocated` none: without that part.
[[nodiscard]] std::string words(const Resources& resources, RoleId allocated = RoleId::none);

}  // namespace gantry::resource
