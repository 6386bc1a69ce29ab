// Protobuf (proto2) out. Written from the end to the front: the length of a message is known when its tag is written.
#include "proto.hpp"

#include "access.hpp"

#include <bit>
#include <cstring>

namespace gantry::gateway_mesos::wire {
namespace {

class Writer {
 public:
  Writer() : buffer_(4096), begin_(buffer_.size()) {}

  void clear() { begin_ = buffer_.size(); }
  [[nodiscard]] std::string_view written() const {
    return {reinterpret_cast<const char*>(buffer_.data() + begin_), buffer_.size() - begin_};
  }

  void message(const std::uint8_t* base, const Message& m) { fields(base, m, m, false); }
  void message_in(const std::uint8_t* base, const Field& f) {
    message(base, *f.message);
    delimit(f, 0);
  }
  // `m`: whose fields; `home`: in whose table they lie.
  void fields(const std::uint8_t* base, const Message& m, const Message& home) { fields(base, m, home, false); }

 private:
  [[nodiscard]] std::size_t size() const { return buffer_.size() - begin_; }

  std::uint8_t* room(std::size_t n) {
    if (begin_ < n) {
      std::vector<std::uint8_t> bigger(std::max(buffer_.size() * 2, buffer_.size() + n));
      std::memcpy(bigger.data() + bigger.size() - size(), buffer_.data() + begin_, size());
      begin_ = bigger.size() - size();
      buffer_ = std::move(bigger);
    }
    begin_ -= n;
    return buffer_.data() + begin_;
  }
  void raw(const void* data, std::size_t n) {
    if (n) std::memcpy(room(n), data, n);
  }
  void varint(std::uint64_t v) {
    if (v < 0x80) {
      *room(1) = static_cast<std::uint8_t>(v);
      return;
    }
    std::uint8_t bytes[10];
    std::size_t n = 0;
    for (; v >= 0x80; v >>= 7) bytes[n++] = static_cast<std::uint8_t>(v | 0x80);
    bytes[n++] = static_cast<std::uint8_t>(v);
    raw(bytes, n);
  }
  void delimit(const Field& f, std::size_t before) {
    varint(size() - before);
    varint(f.tag);
  }

  void fields(const std::uint8_t* base, const Message& m, const Message& home, bool wrapper_required) {
    for (std::size_t i = m.fields.size(); i-- > 0;) {
      const Field& f = m.fields[i];
      if (f.wrapped) {
        if (!present(base, home, f)) continue;
        if (f.repeated) {
          const Field& inner = f.message->fields[0];
          elements(find(base, home, inner), inner, &f);
        } else {
          const std::size_t before = size();
          fields(base, *f.message, home, f.required);
          delimit(f, before);
        }
        continue;
      }
      const std::uint8_t* at = find(base, home, f);
      if (!at) {
        if (implied(f, wrapper_required)) implied_value(f);
      } else if (f.kind == Kind::presence) {
        if (*at) {
          varint(0);
          varint(f.tag);
        }
      } else if (f.repeated) {
        elements(at, f, nullptr);
      } else {
        value(at, f);
      }
    }
  }

  void elements(const std::uint8_t* at, const Field& f, const Field* wrap) {
    const std::uint8_t* vector = follow(at);
    const uoffset_t count = ReadScalar<uoffset_t>(vector);
    const std::size_t step = width(f);
    for (uoffset_t i = count; i-- > 0;) {
      const std::size_t before = size();
      value(vector + sizeof(uoffset_t) + i * step, f);
      if (wrap) delimit(*wrap, before);
    }
  }

  void implied_value(const Field& f) {
    if (f.kind == Kind::real) {
      raw(&f.real, sizeof f.real);
    } else if (f.kind == Kind::single) {
      const auto real = static_cast<float>(f.real);
      raw(&real, sizeof real);
    } else {
      varint(static_cast<std::uint64_t>(f.integer));
    }
    varint(f.tag);
  }

  void value(const std::uint8_t* at, const Field& f) {
    switch (f.kind) {
      case Kind::boolean:
      case Kind::int32:
      case Kind::uint32:
      case Kind::int64:
      case Kind::uint64: varint(static_cast<std::uint64_t>(integer_at(at, f.store))); break;
      case Kind::enumeration: {
        const std::int64_t number = integer_at(at, f.store);
        if (!f.enumeration->name(number)) return;  // from a newer kernel
        varint(static_cast<std::uint64_t>(number));
        break;
      }
      case Kind::single: {
        const auto real = static_cast<float>(real_at(at, f.store));
        raw(&real, sizeof real);
        break;
      }
      case Kind::real: {
        const double real = real_at(at, f.store);
        raw(&real, sizeof real);
        break;
      }
      case Kind::text:
      case Kind::bytes: {
        const std::string_view s = text_at(at);
        raw(s.data(), s.size());
        varint(s.size());
        break;
      }
      case Kind::message: {
        const std::size_t before = size();
        const Message& m = *f.message;
        message(m.is_struct ? at : follow(at), m);
        varint(size() - before);
        break;
      }
      case Kind::presence: varint(0); break;
    }
    varint(f.tag);
  }

  std::vector<std::uint8_t> buffer_;
  std::size_t begin_;
};

// One a thread: its buffer has grown to what is usual.
Writer& writer() {
  static thread_local Writer w;
  w.clear();
  return w;
}
const std::uint8_t* base(const Table& table) { return reinterpret_cast<const std::uint8_t*>(&table); }

}  // namespace

std::string write_proto(const Table& table, const Message& message) {
  Writer& w = writer();
  w.message(base(table), message);
  return std::string(w.written());
}

void append_proto(std::string& out, const Field& field, const Table& table) {
  Writer& w = writer();
  w.message_in(base(table), field);
  out += w.written();
}

void append_proto_fields(std::string& out, const Table& table, const Message& message, const Message& home) {
  Writer& w = writer();
  w.fields(base(table), message, home);
  out += w.written();
}

}  // namespace gantry::gateway_mesos::wire
