// What both readers build with: values of a table are pushed as they come, children first, and written when it ends.
#pragma once

#include "schema.hpp"

#include <flatbuffers/flatbuffers.h>

#include <array>
#include <bit>
#include <cstring>
#include <vector>

namespace gantry::gateway_mesos::wire {

class TableBuilder {
 public:
  TableBuilder() { fbb_.DedupVtables(false); }  // see share_layout()

  // A table begins with `mark()` and ends with finish(message, that mark); everything pushed between belongs to it.
  [[nodiscard]] std::size_t mark() const { return pending_.size(); }

  // `bits`: the value; of a double its bits, of what lies elsewhere (text, bytes, table, element of a vector) its
  // offset, of a struct what finish_struct() gave.
  void push(const Field& field, std::uint64_t bits) { pending_.push_back({&field, bits, State::value}); }
  void push_text(const Field& field, std::string_view s) { push(field, fbb_.CreateString(s.data(), s.size()).o); }
  void push_bytes(const Field& field, const std::uint8_t* data, std::size_t size) {
    push(field, fbb_.CreateVector(data, size).o);
  }
  // The vector exists even if no element comes: a list's message was given, empty.
  void touch(const Field& field) { pending_.push_back({&field, 0, State::touch}); }

  [[nodiscard]] std::uint64_t finish(std::size_t begin);
  [[nodiscard]] std::uint64_t finish_struct(const Message& message, std::size_t begin);
  // Completes the buffer; the builder is ready for the next one afterwards.
  [[nodiscard]] flatbuffers::DetachedBuffer release(std::uint64_t root);
  void reset();

 private:
  enum class State : std::uint8_t { value, touch, ready, gone };
  struct Pending {
    const Field* field;
    std::uint64_t bits;
    State state;
  };

  [[nodiscard]] std::uint64_t vector_of(const Field& field, std::size_t begin, std::size_t end);
  template <class T>
  [[nodiscard]] std::uint64_t scalars(const std::vector<std::uint64_t>& values);
  void drop_replaced(const Field& map);
  void add(const Field& field, std::uint64_t bits);
  void share_layout(flatbuffers::uoffset_t table);

  flatbuffers::FlatBufferBuilder fbb_{1024};
  std::vector<Pending> pending_;
  std::vector<std::uint64_t> elements_;
  std::vector<std::uint8_t> structs_;
  std::array<flatbuffers::uoffset_t, 1024> layouts_{};  // where a vtable of that hash was last written; 0: nowhere
};

}  // namespace gantry::gateway_mesos::wire
