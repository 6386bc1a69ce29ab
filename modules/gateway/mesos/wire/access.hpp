// What both writers read with: fields of a flatbuffer table by the precomputed list.
#pragma once

#include "schema.hpp"

#include <flatbuffers/flatbuffers.h>

namespace gantry::gateway_mesos::wire {

using flatbuffers::ReadScalar;
using flatbuffers::Table;
using flatbuffers::uoffset_t;

[[nodiscard]] inline const std::uint8_t* follow(const std::uint8_t* at) { return at + ReadScalar<uoffset_t>(at); }

[[nodiscard]] inline std::string_view text_at(const std::uint8_t* at) {
  const std::uint8_t* s = follow(at);
  return {reinterpret_cast<const char*>(s + sizeof(uoffset_t)), ReadScalar<uoffset_t>(s)};
}

// An integer, bool or enum of the given width, sign-extended.
[[nodiscard]] inline std::int64_t integer_at(const std::uint8_t* at, reflection::BaseType store) {
  switch (store) {
    case reflection::Bool:
    case reflection::UByte: return *at;
    case reflection::Byte: return ReadScalar<std::int8_t>(at);
    case reflection::Short: return ReadScalar<std::int16_t>(at);
    case reflection::UShort: return ReadScalar<std::uint16_t>(at);
    case reflection::Int: return ReadScalar<std::int32_t>(at);
    case reflection::UInt: return ReadScalar<std::uint32_t>(at);
    default: return ReadScalar<std::int64_t>(at);
  }
}

[[nodiscard]] inline double real_at(const std::uint8_t* at, reflection::BaseType store) {
  return store == reflection::Float ? static_cast<double>(ReadScalar<float>(at)) : ReadScalar<double>(at);
}

[[nodiscard]] constexpr std::size_t width(const Field& f) {
  if (f.kind == Kind::message) return f.message->is_struct ? f.message->bytes : sizeof(uoffset_t);
  switch (f.store) {
    case reflection::Bool:
    case reflection::UByte:
    case reflection::Byte: return 1;
    case reflection::Short:
    case reflection::UShort: return 2;
    case reflection::Long:
    case reflection::ULong:
    case reflection::Double: return 8;
    default: return 4;
  }
}

// Where the value of a field lies, or null if the table has none. Of a struct: always there.
[[nodiscard]] inline const std::uint8_t* find(const std::uint8_t* base, const Message& message, const Field& f) {
  if (message.is_struct) return base + f.slot;
  const auto* table = reinterpret_cast<const Table*>(base);
  const auto offset = table->GetOptionalFieldOffset(f.slot);
  return offset ? base + offset : nullptr;
}

// Is there something to write? A list that is there but empty is: its message was set.
[[nodiscard]] bool present(const std::uint8_t* base, const Message& message, const Field& f);

[[nodiscard]] constexpr bool is_scalar(Kind k) { return k < Kind::text; }

// A scalar of the schema without "= null" is left out of the flatbuffer where it equals its default; required fields
// and those of required wrappers are written nevertheless.
[[nodiscard]] constexpr bool implied(const Field& f, bool wrapper_required) {
  return (f.required || wrapper_required) && is_scalar(f.kind) && !f.repeated;
}

}  // namespace gantry::gateway_mesos::wire
