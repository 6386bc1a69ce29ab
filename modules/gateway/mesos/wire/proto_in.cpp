// Protobuf (proto2) in, in one pass: fields may come in any order, any number of times, and unknown ones are skipped.
#include "proto.hpp"

#include "table_builder.hpp"

#include <deque>

namespace gantry::gateway_mesos::wire {
namespace {

constexpr int max_depth = 60;  // of tables; view<>() follows 64

struct Cursor {
  const std::uint8_t* at;
  const std::uint8_t* end;

  [[nodiscard]] bool empty() const { return at == end; }

  bool varint(std::uint64_t& out) {
    if (at != end && *at < 0x80) {
      out = *at++;
      return true;
    }
    out = 0;
    for (unsigned shift = 0; shift < 70; shift += 7) {
      if (at == end) return false;
      const std::uint8_t b = *at++;
      if (shift < 64) out |= static_cast<std::uint64_t>(b & 0x7F) << shift;
      if (b < 0x80) return true;
    }
    return false;
  }
  bool fixed(unsigned bytes, std::uint64_t& out) {
    if (static_cast<std::size_t>(end - at) < bytes) return false;
    out = 0;
    std::memcpy(&out, at, bytes);
    at += bytes;
    return true;
  }
  bool span(Bytes& out) {
    std::uint64_t size = 0;
    if (!varint(size) || size > static_cast<std::uint64_t>(end - at)) return false;
    out = {at, static_cast<std::size_t>(size)};
    at += size;
    return true;
  }
};

bool skip(Cursor& c, unsigned type, std::uint64_t number, int depth) {
  std::uint64_t ignored = 0;
  Bytes bytes;
  switch (type) {
    case 0: return c.varint(ignored);
    case 1: return c.fixed(8, ignored);
    case 2: return c.span(bytes);
    case 5: return c.fixed(4, ignored);
    case 3:
      if (depth > 100) return false;
      while (true) {
        std::uint64_t tag = 0;
        if (!c.varint(tag) || tag >> 3 == 0) return false;
        if ((tag & 7) == 4) return tag >> 3 == number;
        if (!skip(c, tag & 7, tag >> 3, depth + 1)) return false;
      }
    default: return false;
  }
}

class Reader {
 public:
  TableBuilder builder;

  void begin() {
    builder.reset();
    later_.clear();
    joined_.clear();
  }

  // False: malformed, or a required field is absent.
  bool table(Bytes body, const Message& message, int depth, std::uint64_t& made) {
    if (depth > max_depth) return false;
    const std::size_t mark = builder.mark();
    if (!fields(body, message, depth)) return false;
    made = message.is_struct ? builder.finish_struct(message, mark) : builder.finish(mark);
    return true;
  }

 private:
  struct Later {
    const Field* field;
    Bytes bytes;
    std::vector<std::uint8_t>* joined;  // what `bytes` is, once there is more than one piece
  };

  bool fields(Bytes body, const Message& message, int depth) {
    Cursor c{body.data(), body.data() + body.size()};
    const std::size_t later_begin = later_.size();
    std::uint64_t seen = 0;
    while (!c.empty()) {
      std::uint64_t tag = 0;
      if (!c.varint(tag) || tag >> 3 == 0 || tag > 0xFFFFFFFFU) return false;
      const Field* f = message.find(tag >> 3);
      const unsigned type = tag & 7;
      if (!f) {
        if (!skip(c, type, tag >> 3, 0)) return false;
        continue;
      }
      if (type == (f->tag & 7)) {
        if (!value(c, *f, depth, later_begin, seen)) return false;
      } else if (type == 2 && f->repeated && is_scalar_kind(f->kind)) {
        Bytes packed;
        if (!c.span(packed)) return false;
        Cursor each{packed.data(), packed.data() + packed.size()};
        while (!each.empty())
          if (!scalar(each, *f, seen)) return false;
      } else if (!skip(c, type, tag >> 3, 0)) {
        return false;
      }
    }
    // A message given in several pieces is their sum: read when all are known.
    for (std::size_t i = later_begin; i < later_.size(); ++i) {
      const Later l = later_[i];
      std::uint64_t made = 0;
      if (!table(l.bytes, *l.field->message, depth + 1, made)) return false;
      builder.push(*l.field, made);
    }
    later_.resize(later_begin);
    return (message.required & ~seen) == 0;
  }

  static bool is_scalar_kind(Kind k) { return k < Kind::text; }

  static void mark_seen(const Field& f, std::uint64_t& seen) {
    if (f.index != 255) seen |= std::uint64_t{1} << f.index;
  }

  bool value(Cursor& c, const Field& f, int depth, std::size_t later_begin, std::uint64_t& seen) {
    if (is_scalar_kind(f.kind)) return scalar(c, f, seen);
    Bytes bytes;
    if (!c.span(bytes)) return false;
    switch (f.kind) {
      case Kind::text: builder.push_text(f, {reinterpret_cast<const char*>(bytes.data()), bytes.size()}); break;
      case Kind::bytes: builder.push_bytes(f, bytes.data(), bytes.size()); break;
      case Kind::presence: builder.push(f, 1); break;
      default:
        if (f.wrapped) {
          if (depth > max_depth || !fields(bytes, *f.message, depth + 1)) return false;
          for (const Field& inner : f.message->fields)
            if (inner.repeated && !inner.element) builder.touch(inner);
        } else if (f.repeated) {
          std::uint64_t made = 0;
          if (!table(bytes, *f.message, depth + 1, made)) return false;
          builder.push(f, made);
        } else {
          postpone(f, bytes, later_begin);
        }
    }
    mark_seen(f, seen);
    return true;
  }

  void postpone(const Field& f, Bytes bytes, std::size_t later_begin) {
    for (std::size_t i = later_begin; i < later_.size(); ++i) {
      Later& l = later_[i];
      if (l.field != &f) continue;
      if (!l.joined) l.joined = &joined_.emplace_back(l.bytes.begin(), l.bytes.end());
      l.joined->insert(l.joined->end(), bytes.begin(), bytes.end());
      l.bytes = *l.joined;
      return;
    }
    later_.push_back({&f, bytes, nullptr});
  }

  bool scalar(Cursor& c, const Field& f, std::uint64_t& seen) {
    std::uint64_t bits = 0;
    switch (f.kind) {
      case Kind::real:
        if (!c.fixed(8, bits)) return false;
        break;
      case Kind::single:
        if (!c.fixed(4, bits)) return false;
        bits =
            std::bit_cast<std::uint64_t>(static_cast<double>(std::bit_cast<float>(static_cast<std::uint32_t>(bits))));
        break;
      default:
        if (!c.varint(bits)) return false;
        if (f.kind == Kind::boolean) bits = bits != 0;
        if (f.kind == Kind::int32)
          bits = static_cast<std::uint64_t>(static_cast<std::int64_t>(static_cast<std::int32_t>(bits)));
        if (f.kind == Kind::uint32) bits = static_cast<std::uint32_t>(bits);
        // proto2: a number without a name counts as an unknown field.
        if (f.kind == Kind::enumeration && !f.enumeration->name(static_cast<std::int32_t>(bits))) return true;
    }
    builder.push(f, bits);
    mark_seen(f, seen);
    return true;
  }

  std::vector<Later> later_;
  std::deque<std::vector<std::uint8_t>> joined_;
};

}  // namespace

Result<Buffer> read_proto(Bytes body, const Message& message, std::string_view short_name) {
  static thread_local Reader reader;
  reader.begin();
  std::uint64_t root = 0;
  if (!reader.table(body, message, 0, root))
    return fail(Code::invalid_argument, "Failed to parse body into " + std::string(short_name) + " protobuf");
  return Buffer(reader.builder.release(root));
}

}  // namespace gantry::gateway_mesos::wire
