// A message put together from parts that lie in different places, in either encoding. Parts that are passed on unchanged are
// written straight from the flatbuffer they stand in; names, numbers and shapes are the schema's.
//
// Not thread-safe; one Composer writes one message.
#pragma once

#include "schema.hpp"

#include <gantry/message.hpp>

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

namespace gantry::gateway_mesos::wire {

// A field by its name on the wire. A name that the schema lacks is a programming mistake and aborts.
[[nodiscard]] const Field& field(std::string_view table, std::string_view name);

// These fields of messages of `to`, which tables of `from` have under the same names: how to write the former from the latter.
class Projection {
 public:
  Projection(std::string_view to, std::string_view from, std::initializer_list<std::string_view> fields);

 private:
  friend class Composer;
  Message as_;
  const Message& home_;
};

class Composer {
 public:
  // Appends to `out`, which must outlive it. The message is whole when every begin() has its end().
  Composer(std::string& out, bool protobuf) : out_(out), protobuf_(protobuf) {}
  [[nodiscard]] bool protobuf() const { return protobuf_; }

  // The message itself.
  void open();
  void close();

  // A message in a field. `large`: a hundred megabytes may follow; its length is then written in the room kept for it (as a
  // varint with leading zeros, which every reader takes) instead of moving them.
  void begin(const Field& f, bool large = false);
  void end();
  // A repeated field of messages. JSON says it even where it stays empty.
  void list(const Field& f);
  void item(const Field& f);  // an element, until end()
  void item(const Field& f, const flatbuffers::Table& t);
  void end_list();

  void fields(const flatbuffers::Table& t, const Projection& p);

  // Fields of the same message that another Composer has written, without its own open() and close().
  void join(std::string_view fields);

  // Also where the value stands in a message of its own ({"value": ...}).
  void text(const Field& f, std::string_view s);
  void bytes(const Field& f, Bytes b);
  void number(const Field& f, double d);
  void flag(const Field& f, bool b);
  void name(const Field& f, std::int64_t enumerator);  // not one of the schema's: nothing is written

 private:
  void key(const Field& f);
  void comma();
  void varint(std::uint64_t v);
  void octets(const Field& f, std::string_view s);
  void measure(const Field& f, bool large);
  struct Level {
    std::size_t begin;  // of what is measured
    bool large;
  };

  std::string& out_;
  bool protobuf_;
  bool first_ = true;  // JSON: nothing before it in its object or array
  std::vector<Level> levels_;
};

}  // namespace gantry::gateway_mesos::wire
