// Putting a table of one flatbuffer into another without reading it field by field: its bytes are copied once, as a
// block, and pointed into. What a message passes on unchanged (a TaskInfo, a TaskStatus) costs one memcpy.
//
// The block is everything the source buffer holds, so graft only from buffers that carry little else. The bytes must
// have been verified as a whole; a verifier accepts the result, for references may point anywhere forward.
#pragma once

#include <gantry/message.hpp>

#include <cstdint>
#include <cstring>
#include <memory>

namespace gantry::master {

// A finished flatbuffer kept for long: 12 bytes and one allocation, against the 56 of Buffer.
class Blob {
 public:
  Blob() = default;
  explicit Blob(Bytes b)
      : data_(b.empty() ? nullptr : new std::uint8_t[b.size()]), size_(static_cast<std::uint32_t>(b.size())) {
    if (size_) std::memcpy(data_.get(), b.data(), size_);
  }
  [[nodiscard]] bool empty() const { return size_ == 0; }
  operator Bytes() const { return {data_.get(), size_}; }
  // The root; precondition: not empty and known to be a T.
  template <class T>
  [[nodiscard]] const T* as() const {
    return flatbuffers::GetRoot<T>(data_.get());
  }

  // A buffer of its own whose root is `table`, which lies inside `source`.
  template <class T>
  [[nodiscard]] static Blob cut(Bytes source, const T* table) {
    Blob out;
    const auto at = static_cast<std::size_t>(reinterpret_cast<const std::uint8_t*>(table) - source.data());
    out.size_ = static_cast<std::uint32_t>(source.size() + 8);
    out.data_.reset(new std::uint8_t[out.size_]);
    std::memset(out.data_.get(), 0, 8);
    flatbuffers::WriteScalar(out.data_.get(), static_cast<flatbuffers::uoffset_t>(at + 8));
    std::memcpy(out.data_.get() + 8, source.data(), source.size());
    return out;
  }

 private:
  std::unique_ptr<std::uint8_t[]> data_;
  std::uint32_t size_ = 0;
};

// Copies `source` into the builder; offset of `object` (a table, vector or string inside `source`) for use as a field.
// Not between StartTable and EndTable.
template <class T>
[[nodiscard]] flatbuffers::Offset<T> graft(flatbuffers::FlatBufferBuilder& fbb, Bytes source, const T* object) {
  const auto at = static_cast<std::size_t>(reinterpret_cast<const std::uint8_t*>(object) - source.data());
  fbb.PreAlign(source.size(), 8);
  fbb.PushBytes(source.data(), source.size());
  return flatbuffers::Offset<T>(static_cast<flatbuffers::uoffset_t>(fbb.GetSize() - at));
}

}  // namespace gantry::master
