// Resources and attributes to and from the schema's tables (types.fbs). What comes in is validated: names, amounts, roles.
#pragma once

#include "kernel/resource/resources.hpp"

#include <gantry/types_generated.h>

#include <memory>
#include <vector>

namespace gantry::resource {

using ResourceOffsets = flatbuffers::Offset<flatbuffers::Vector<flatbuffers::Offset<fb::Resource>>>;
using ResourceVector = flatbuffers::Vector<flatbuffers::Offset<fb::Resource>>;
using AttributeVector = flatbuffers::Vector<flatbuffers::Offset<fb::Attribute>>;

// A nullptr vector is empty. INVALID_ARGUMENT names the entry: unknown type, negative, infinite or missing amounts, reversed
// ranges, bad roles, a refinement that does not narrow, shared without volume, revocable and reserved at once.
[[nodiscard]] Result<Resources> from_wire(const ResourceVector* resources);
[[nodiscard]] Result<Resources> from_wire(const std::vector<std::unique_ptr<fb::ResourceT>>& resources);
[[nodiscard]] Result<Resource> from_wire(const fb::ResourceT& resource);
[[nodiscard]] ResourceOffsets write(flatbuffers::FlatBufferBuilder& fbb, const Resources& resources);
// All entries marked as allocated to `role`, whatever they say: write(fbb, resources.allocated_to(role)) without making that.
// They carry no such marks of their own, or the same one.
[[nodiscard]] ResourceOffsets write_allocated(flatbuffers::FlatBufferBuilder& fbb, const Resources& resources, RoleId role);
[[nodiscard]] std::vector<std::unique_ptr<fb::ResourceT>> to_wire(const Resources& resources);
[[nodiscard]] std::unique_ptr<fb::ResourceT> to_wire(const Resource& resource);

[[nodiscard]] Result<Attributes> attributes_from_wire(const AttributeVector* attributes);
[[nodiscard]] Result<Attributes> attributes_from_wire(const std::vector<std::unique_ptr<fb::AttributeT>>& attributes);
[[nodiscard]] std::vector<std::unique_ptr<fb::AttributeT>> attributes_to_wire(const Attributes& attributes);

}  // namespace gantry::resource
