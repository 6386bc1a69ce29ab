#include "table_builder.hpp"

#include <algorithm>
#include <string_view>
#include <unordered_set>

namespace gantry::gateway_mesos::wire {

template <class T>
std::uint64_t TableBuilder::scalars(const std::vector<std::uint64_t>& values) {
  fbb_.StartVector(values.size(), sizeof(T));
  for (std::size_t i = values.size(); i-- > 0;) {
    if constexpr (std::is_same_v<T, double>) {
      fbb_.PushElement(std::bit_cast<double>(values[i]));
    } else if constexpr (std::is_same_v<T, float>) {
      fbb_.PushElement(static_cast<float>(std::bit_cast<double>(values[i])));
    } else {
      fbb_.PushElement(static_cast<T>(values[i]));
    }
  }
  return fbb_.EndVector(values.size());
}

std::uint64_t TableBuilder::vector_of(const Field& field, std::size_t begin, std::size_t end) {
  elements_.clear();
  for (std::size_t i = begin; i < end; ++i)
    if (pending_[i].field->slot == field.slot && pending_[i].state == State::value)
      elements_.push_back(pending_[i].bits);
  if (field.map && elements_.size() > 1) drop_replaced(field);
  if (field.kind == Kind::message && field.message->is_struct) {
    const std::size_t size = field.message->bytes;
    std::uint8_t* to = nullptr;
    const auto offset = fbb_.CreateUninitializedVector(elements_.size(), size, &to);
    for (const std::uint64_t at : elements_) {
      std::memcpy(to, structs_.data() + at, size);
      to += size;
    }
    return offset;
  }
  switch (field.store) {
    case reflection::Bool:
    case reflection::UByte: return scalars<std::uint8_t>(elements_);
    case reflection::Byte: return scalars<std::int8_t>(elements_);
    case reflection::Short: return scalars<std::int16_t>(elements_);
    case reflection::UShort: return scalars<std::uint16_t>(elements_);
    case reflection::Int: return scalars<std::int32_t>(elements_);
    case reflection::UInt: return scalars<std::uint32_t>(elements_);
    case reflection::Long: return scalars<std::int64_t>(elements_);
    case reflection::ULong: return scalars<std::uint64_t>(elements_);
    case reflection::Float: return scalars<float>(elements_);
    case reflection::Double: return scalars<double>(elements_);
    default: break;
  }
  fbb_.StartVector(elements_.size(), sizeof(flatbuffers::uoffset_t));
  for (std::size_t i = elements_.size(); i-- > 0;)
    fbb_.PushElement(flatbuffers::Offset<void>(static_cast<flatbuffers::uoffset_t>(elements_[i])));
  return fbb_.EndVector(elements_.size());
}

// A map has a key once: of two entries the later one holds.
void TableBuilder::drop_replaced(const Field& map) {
  const flatbuffers::voffset_t slot = map.message->find(std::uint64_t{1})->slot;
  const auto key = [&](std::uint64_t entry) {
    const auto* table =
        reinterpret_cast<const flatbuffers::Table*>(fbb_.GetCurrentBufferPointer() + fbb_.GetSize() - entry);
    return text(table->GetPointer<const flatbuffers::String*>(slot));
  };
  std::unordered_set<std::string_view> known;
  std::size_t kept = elements_.size();
  for (std::size_t i = elements_.size(); i-- > 0;)
    if (known.insert(key(elements_[i])).second) elements_[--kept] = elements_[i];
  elements_.erase(elements_.begin(), elements_.begin() + static_cast<std::ptrdiff_t>(kept));
}

void TableBuilder::add(const Field& field, std::uint64_t bits) {
  const flatbuffers::voffset_t slot = field.slot;
  const auto put = [&](auto value) {
    fbb_.PushElement(value);
    fbb_.TrackField(slot, fbb_.GetSize());
  };
  if (!field.repeated) {
    switch (field.store) {
      case reflection::Bool:
      case reflection::UByte: put(static_cast<std::uint8_t>(bits)); return;
      case reflection::Byte: put(static_cast<std::int8_t>(bits)); return;
      case reflection::Short: put(static_cast<std::int16_t>(bits)); return;
      case reflection::UShort: put(static_cast<std::uint16_t>(bits)); return;
      case reflection::Int: put(static_cast<std::int32_t>(bits)); return;
      case reflection::UInt: put(static_cast<std::uint32_t>(bits)); return;
      case reflection::Long: put(static_cast<std::int64_t>(bits)); return;
      case reflection::ULong: put(bits); return;
      case reflection::Float: put(static_cast<float>(std::bit_cast<double>(bits))); return;
      case reflection::Double: put(std::bit_cast<double>(bits)); return;
      default: break;
    }
  }
  fbb_.AddOffset(slot, flatbuffers::Offset<void>(static_cast<flatbuffers::uoffset_t>(bits)));
}

std::uint64_t TableBuilder::finish(std::size_t begin) {
  const std::size_t end = pending_.size();
  std::uint64_t done[2] = {0, 0};
  // Backwards: of a singular field given twice the last one holds.
  for (std::size_t i = end; i-- > begin;) {
    Pending& p = pending_[i];
    const unsigned bit = (p.field->slot - 4U) / 2U;
    std::uint64_t& word = done[bit >> 6];
    const std::uint64_t mask = std::uint64_t{1} << (bit & 63);
    if (word & mask) {
      // Elements stay visible to vector_of() below; they are not added themselves.
      if (!p.field->repeated) p.state = State::gone;
      continue;
    }
    word |= mask;
    if (p.field->repeated) {
      p.bits = vector_of(*p.field, begin, end);
    }
    p.state = State::ready;
  }
  const auto start = fbb_.StartTable();
  for (std::size_t i = begin; i < end; ++i)
    if (pending_[i].state == State::ready) add(*pending_[i].field, pending_[i].bits);
  pending_.resize(begin);
  const auto table = fbb_.EndTable(start);
  share_layout(table);
  return table;
}

// Tables of one layout share a vtable. The builder would compare a new one with all before it, and clients choose the order of
// fields, so that no two need be alike: here it is compared with one, and stays where that is another.
void TableBuilder::share_layout(flatbuffers::uoffset_t table) {
  const flatbuffers::uoffset_t written = fbb_.GetSize();
  const auto at = [&](flatbuffers::uoffset_t offset) { return fbb_.GetCurrentBufferPointer() + written - offset; };
  const std::string_view layout(reinterpret_cast<const char*>(at(written)), written - table);  // it is just before its table
  auto& known = layouts_[std::hash<std::string_view>{}(layout) % layouts_.size()];
  // Whatever is at an older offset has at least that many bytes behind it, and its size comes first.
  if (!known || std::memcmp(at(known), layout.data(), std::min<std::size_t>(layout.size(), known)) != 0) {
    known = written;
    return;
  }
  fbb_.PopBytes(layout.size());
  flatbuffers::WriteScalar(fbb_.GetCurrentBufferPointer() + fbb_.GetSize() - table,
                           static_cast<flatbuffers::soffset_t>(known) - static_cast<flatbuffers::soffset_t>(table));
}

std::uint64_t TableBuilder::finish_struct(const Message& message, std::size_t begin) {
  const std::size_t at = structs_.size();
  structs_.resize(at + message.bytes, 0);
  for (std::size_t i = begin; i < pending_.size(); ++i) {
    const Field& f = *pending_[i].field;
    std::uint8_t* to = structs_.data() + at + f.slot;
    const std::uint64_t bits = pending_[i].bits;
    switch (f.store) {
      case reflection::Bool:
      case reflection::UByte:
      case reflection::Byte: std::memcpy(to, &bits, 1); break;  // little endian: the low bytes come first
      case reflection::Short:
      case reflection::UShort: std::memcpy(to, &bits, 2); break;
      case reflection::Int:
      case reflection::UInt: std::memcpy(to, &bits, 4); break;
      default: std::memcpy(to, &bits, 8); break;
    }
  }
  pending_.resize(begin);
  return at;
}

flatbuffers::DetachedBuffer TableBuilder::release(std::uint64_t root) {
  fbb_.Finish(flatbuffers::Offset<flatbuffers::Table>(static_cast<flatbuffers::uoffset_t>(root)));
  auto out = fbb_.Release();
  reset();
  return out;
}

void TableBuilder::reset() {
  fbb_.Clear();
  layouts_.fill(0);
  // After something huge its room goes back: builders live as long as their threads.
  const auto empty = [](auto& v) {
    v.clear();
    if (v.capacity() > 65536) v = {};
  };
  empty(pending_);
  empty(elements_);
  empty(structs_);
}

}  // namespace gantry::gateway_mesos::wire
