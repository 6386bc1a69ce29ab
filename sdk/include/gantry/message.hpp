// Messages: flatbuffers as bytes, packed and viewed in one place.
#pragma once

#include <gantry/abi.h>
#include <gantry/common_generated.h>
#include <gantry/result.hpp>

#include <flatbuffers/flatbuffers.h>

#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace gantry {
inline namespace v1 {

using Bytes = std::span<const std::uint8_t>;

// Owned bytes, movable. Takes over a finished flatbuffer without copying it.
class Buffer {
 public:
  Buffer() = default;
  Buffer(flatbuffers::DetachedBuffer&& b) : flat_(std::move(b)) {}
  explicit Buffer(std::vector<std::uint8_t> v) : vec_(std::move(v)) {}
  explicit Buffer(Bytes b) : vec_(b.begin(), b.end()) {}
  [[nodiscard]] const std::uint8_t* data() const { return flat_.size() ? flat_.data() : vec_.data(); }
  [[nodiscard]] std::size_t size() const { return flat_.size() ? flat_.size() : vec_.size(); }
  [[nodiscard]] bool empty() const { return size() == 0; }
  operator Bytes() const { return {data(), size()}; }

 private:
  flatbuffers::DetachedBuffer flat_;
  std::vector<std::uint8_t> vec_;
};

[[nodiscard]] inline gantry_bytes to_abi(Bytes b) { return {b.data(), b.size()}; }
[[nodiscard]] inline Bytes from_abi(gantry_bytes b) { return {b.data, b.len}; }
[[nodiscard]] inline Bytes as_bytes(std::string_view s) { return {reinterpret_cast<const std::uint8_t*>(s.data()), s.size()}; }

// Encodes an object-API value (fb::XT) as a buffer with root X.
template <class T>
[[nodiscard]] Buffer pack(const T& object) {
  flatbuffers::FlatBufferBuilder fbb(256);
  fbb.Finish(T::TableType::Pack(fbb, &object));
  return Buffer(fbb.Release());
}

// The table of verified bytes, or nullptr if they are not a valid T. Points into `bytes`, which must be 8-aligned or
// on a machine that allows unaligned loads (all we serve do).
template <class T>
[[nodiscard]] const T* view(Bytes bytes) {
  if (bytes.empty()) return nullptr;
  flatbuffers::Verifier verifier(bytes.data(), bytes.size(), 64, 10'000'000);
  return verifier.VerifyBuffer<T>(nullptr) ? flatbuffers::GetRoot<T>(bytes.data()) : nullptr;
}

// Decodes into an object-API value.
template <class T>
[[nodiscard]] Result<typename T::NativeTableType> unpack(Bytes bytes) {
  const T* table = view<T>(bytes);
  if (!table) return fail(Code::invalid_argument, std::string("malformed ") + T::GetFullyQualifiedName());
  typename T::NativeTableType out;
  table->UnPackTo(&out);
  return out;
}

[[nodiscard]] inline std::string_view text(const flatbuffers::String* s) { return s ? std::string_view(s->c_str(), s->size()) : std::string_view(); }

// Errors as reply bodies and back.
[[nodiscard]] inline Buffer pack_error(const Error& e) {
  fb::ErrorT t;
  t.message = e.message;
  t.key_path = e.key_path;
  t.retry_after_ns = e.retry_after_ns;
  t.detail = e.detail;
  return pack(t);
}
[[nodiscard]] inline Error unpack_error(gantry_code code, Bytes body) {
  Error e;
  e.code = static_cast<Code>(code);
  if (const auto* t = view<fb::Error>(body)) {
    e.message = text(t->message());
    e.key_path = text(t->key_path());
    e.retry_after_ns = t->retry_after_ns();
    e.detail = text(t->detail());
  }
  if (e.message.empty()) e.message = to_string(e.code);
  return e;
}

}  // namespace v1
}  // namespace gantry
