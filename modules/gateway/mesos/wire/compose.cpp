#include "compose.hpp"

#include "codec.hpp"
#include "json_out.hpp"
#include "proto.hpp"

#include <cstdio>
#include <cstdlib>

namespace gantry::gateway_mesos::wire {
namespace {

constexpr std::size_t kRoom = 5;  // bytes of a length below 2^35
constexpr std::size_t kWorthMoving = 1 << 20;

void put_varint(std::string& out, std::uint64_t v) {
  for (; v >= 0x80; v >>= 7) out += static_cast<char>(v | 0x80);
  out += static_cast<char>(v);
}

std::size_t varint_size(std::uint64_t v) {
  std::size_t n = 1;
  for (; v >= 0x80; v >>= 7) ++n;
  return n;
}

}  // namespace

const Field& field(std::string_view table, std::string_view name) {
  const Field* f = Codec::get().schema().root(table).find(name);
  if (!f) {
    std::fprintf(stderr, "the schema's %.*s has no field %.*s\n", static_cast<int>(table.size()), table.data(), static_cast<int>(name.size()),
                 name.data());
    std::abort();
  }
  return *f;
}

Projection::Projection(std::string_view to, std::string_view from, std::initializer_list<std::string_view> names)
    : home_(Codec::get().schema().root(from)) {
  as_.name = to;
  for (const auto name : names) {
    const Field &target = field(to, name), &source = field(from, name);
    Field x = source;    // where it lies
    x.key = target.key;  // and what it is called
    x.preset = target.preset;
    x.number = target.number;
    x.tag = target.tag;
    x.required = target.required;
    as_.fields.push_back(std::move(x));
  }
}

void Composer::comma() {
  if (!std::exchange(first_, false)) out_ += ',';
}
void Composer::key(const Field& f) {
  comma();
  out_ += f.key;
}
void Composer::varint(std::uint64_t v) { put_varint(out_, v); }

void Composer::open() {
  if (!protobuf_) out_ += '{';
  first_ = true;
}
void Composer::close() {
  if (!protobuf_) out_ += '}';
  first_ = false;
}

void Composer::begin(const Field& f, bool large) {
  if (protobuf_) return measure(f, large);
  key(f);
  open();
}
void Composer::item(const Field& f) {
  if (protobuf_) return measure(f, false);
  comma();
  open();
}
void Composer::item(const Field& f, const flatbuffers::Table& t) {
  if (protobuf_) return append_proto(out_, f, t);
  comma();
  write_json(out_, t, *f.message);
}

void Composer::measure(const Field& f, bool large) {
  varint(f.tag);
  out_.append(large ? kRoom : 1, '\0');
  levels_.push_back({out_.size(), large});
}

void Composer::end() {
  if (!protobuf_) return close();
  const Level level = levels_.back();
  levels_.pop_back();
  std::uint64_t size = out_.size() - level.begin;
  if (level.large) {
    if (size < kWorthMoving) {
      std::string length;
      put_varint(length, size);
      out_.replace(level.begin - kRoom, kRoom, length);
      return;
    }
    for (std::size_t i = 0; i < kRoom; ++i, size >>= 7)
      out_[level.begin - kRoom + i] = static_cast<char>((size & 0x7f) | (i + 1 < kRoom ? 0x80 : 0));
    return;
  }
  // Nearly always one byte or two.
  out_[level.begin - 1] = static_cast<char>(size < 0x80 ? size : (size & 0x7f) | 0x80);
  if (size < 0x80) return;
  std::string more;
  put_varint(more, size >> 7);
  out_.insert(level.begin, more);
}

void Composer::list(const Field& f) {
  if (protobuf_) return;
  key(f);
  out_ += '[';
  first_ = true;
}
void Composer::end_list() {
  if (protobuf_) return;
  out_ += ']';
  first_ = false;
}

void Composer::fields(const flatbuffers::Table& t, const Projection& p) {
  if (protobuf_) append_proto_fields(out_, t, p.as_, p.home_);
  else write_json_fields(out_, t, p.as_, p.home_, first_);
}

void Composer::join(std::string_view fields) {
  if (fields.empty()) return;
  if (!protobuf_) comma();
  out_ += fields;
}

void Composer::octets(const Field& f, std::string_view s) {
  if (f.wrapped) {
    const Field& inner = f.message->fields[0];
    varint(f.tag);
    varint(varint_size(inner.tag) + varint_size(s.size()) + s.size());
    varint(inner.tag);
  } else {
    varint(f.tag);
  }
  varint(s.size());
  out_ += s;
}

void Composer::text(const Field& f, std::string_view s) {
  if (protobuf_) return octets(f, s);
  key(f);
  if (f.wrapped) (out_ += '{') += f.message->fields[0].key;
  append_string(out_, s);
  if (f.wrapped) out_ += '}';
}

void Composer::bytes(const Field& f, Bytes b) {
  if (protobuf_) return octets(f, {reinterpret_cast<const char*>(b.data()), b.size()});
  key(f);
  out_ += '"';
  append_base64(out_, b);
  out_ += '"';
}

void Composer::number(const Field& f, double d) {
  if (protobuf_) {
    varint(f.tag);
    out_.append(reinterpret_cast<const char*>(&d), sizeof d);
  } else {
    key(f);
    append_double(out_, d);
  }
}

void Composer::flag(const Field& f, bool b) {
  if (protobuf_) {
    varint(f.tag);
    varint(b);
  } else {
    key(f);
    out_ += b ? "true" : "false";
  }
}

void Composer::name(const Field& f, std::int64_t enumerator) {
  const std::string* name = f.enumeration->name(enumerator);
  if (!name) return;  // from a newer kernel
  if (protobuf_) {
    varint(f.tag);
    varint(static_cast<std::uint64_t>(enumerator));
  } else {
    key(f);
    ((out_ += '"') += *name) += '"';
  }
}

}  // namespace gantry::gateway_mesos::wire
