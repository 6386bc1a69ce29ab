// The wire's view of the compiled schema: computed once from reflection, then only read.
#pragma once

#include <gantry/message.hpp>

#include <flatbuffers/reflection.h>

#include <array>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace gantry::gateway_mesos::wire {

enum class Kind : std::uint8_t {
  boolean,
  int32,
  uint32,
  int64,
  uint64,
  single,
  real,
  enumeration,
  text,
  bytes,
  message,
  presence  // an empty message on the wire, a bool here
};

// Names to indexes by open addressing; built once, read often.
class Names {
 public:
  void add(std::string_view name, int value);
  [[nodiscard]] int find(std::string_view name) const;  // -1: none

 private:
  [[nodiscard]] static std::uint32_t hash(std::string_view s) {
    std::uint32_t h = 2166136261U;
    for (const char c : s) h = (h ^ static_cast<unsigned char>(c)) * 16777619U;
    return h ^ (h >> 15);
  }
  void grow();
  struct Entry {
    std::string name;
    int value = -1;
  };
  std::vector<Entry> slots_;  // a power of two
  std::size_t used_ = 0;
};

struct Enum {
  Names by_name;
  std::vector<std::pair<std::int64_t, std::string>> values;  // by number
  int dense = -1;                                            // values[i].first == i for all i <= dense
  [[nodiscard]] const std::string* name(std::int64_t number) const;
};

struct Message;

struct Field {
  std::string name;    // on the wire
  std::string key;     // "name": with quotes and colon
  std::string preset;  // what JSON says where the field is absent, with key; empty: nothing
  std::uint32_t number = 0;
  std::uint32_t tag = 0;  // number and wire type
  Kind kind = Kind::text;
  reflection::BaseType store = reflection::None;  // how the flatbuffer holds it; of an element, if repeated
  bool repeated = false;
  bool map = false;          // repeated {key, value} tables, an object in JSON
  bool required = false;     // proto2 required
  bool element = false;      // of a wrapper that is itself repeated: one value each, all in one vector
  bool wrapped = false;      // kind message: `message` is inlined, its fields lie in our own table
  std::uint16_t slot = 0;    // offset in the vtable (of a struct: in the struct); 0: wrapped
  std::uint8_t index = 255;  // required fields: bit in Message::required
  std::int64_t integer = 0;  // the flatbuffer's default
  double real = 0;
  const Message* message = nullptr;
  const Enum* enumeration = nullptr;
};

struct Message {
  std::string name;      // full name in the schema
  bool inlined = false;  // exists on the wire only: its fields are slots of the table around it
  bool is_struct = false;
  std::uint32_t bytes = 0;  // of a struct
  std::uint64_t required = 0;
  std::vector<Field> fields;  // by number
  Names by_name;
  std::vector<std::int16_t> by_number;  // index in fields, -1: none
  [[nodiscard]] const Field* find(std::string_view n) const {
    const int i = by_name.find(n);
    return i < 0 ? nullptr : &fields[static_cast<std::size_t>(i)];
  }
  [[nodiscard]] const Field* find(std::uint64_t number) const {
    return number < by_number.size() && by_number[number] >= 0 ? &fields[static_cast<std::size_t>(by_number[number])]
                                                               : nullptr;
  }
};

struct Schema {
  explicit Schema(Bytes compiled);
  [[nodiscard]] const Message& root(std::string_view table) const;  // aborts if there is none

  std::vector<std::unique_ptr<Message>> messages;
  std::vector<std::unique_ptr<Enum>> enums;
  std::unordered_map<std::string_view, const Message*> roots;
};

}  // namespace gantry::gateway_mesos::wire
