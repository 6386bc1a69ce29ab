#include "schema.hpp"

#include "codec.hpp"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstdlib>

namespace gantry::gateway_mesos::wire {

namespace {

// A schema that does not fit the wire is a mistake of ours that every test finds: no error value for it.
[[noreturn]] void broken(const std::string& what) {
  std::fprintf(stderr, "wire schema: %s\n", what.c_str());
  std::abort();
}

std::string_view sv(const flatbuffers::String* s) { return text(s); }

class Builder {
 public:
  Builder(Schema& schema, const reflection::Schema& from) : out_(schema), from_(from) {}

  void run() {
    enums_.resize(from_.enums()->size());
    for (flatbuffers::uoffset_t i = 0; i < from_.enums()->size(); ++i) enums_[i] = make_enum(*from_.enums()->Get(i));
    for (const auto* object : *from_.objects()) {
      Message* m = message_of(*object, {});
      out_.roots[m->name] = m;
    }
    // Filling may ask for restricted views of tables, which append to the list.
    for (std::size_t i = 0; i < todo_.size(); ++i) fill(i);
  }

 private:
  struct Todo {
    Message* message;
    const reflection::Object* object;
    std::vector<std::string_view> only;
  };

  static std::vector<std::string_view> words(std::string_view s) {
    std::vector<std::string_view> out;
    while (!s.empty()) {
      const std::size_t end = std::min(s.find(' '), s.size());
      if (end) out.push_back(s.substr(0, end));
      s.remove_prefix(std::min(end + 1, s.size()));
    }
    return out;
  }

  const Enum* make_enum(const reflection::Enum& e) {
    auto made = std::make_unique<Enum>();
    for (const auto* v : *e.values()) {
      made->values.emplace_back(v->value(), std::string(sv(v->name())));
      made->by_name.add(sv(v->name()), static_cast<int>(v->value()));
    }
    std::sort(made->values.begin(), made->values.end());
    while (made->dense + 1 < static_cast<int>(made->values.size()) &&
           made->values[static_cast<std::size_t>(made->dense + 1)].first == made->dense + 1)
      ++made->dense;
    out_.enums.push_back(std::move(made));
    return out_.enums.back().get();
  }

  Message* fresh(std::string name) {
    out_.messages.push_back(std::make_unique<Message>());
    out_.messages.back()->name = std::move(name);
    return out_.messages.back().get();
  }

  Message* message_of(const reflection::Object& object, std::string_view only) {
    const std::string id = std::string(sv(object.name())) + "|" + std::string(only);
    auto& made = made_[id];
    if (!made) {
      made = fresh(std::string(sv(object.name())));
      made->is_struct = object.is_struct();
      made->bytes = static_cast<std::uint32_t>(object.bytesize());
      todo_.push_back({made, &object, words(only)});
    }
    return made;
  }

  static std::optional<std::string_view> attribute(const reflection::Field& f, const char* key) {
    if (!f.attributes()) return {};
    const auto* found = f.attributes()->LookupByKey(key);
    if (!found) return {};
    return sv(found->value());
  }

  static std::uint32_t number_of(std::string_view s, std::string_view where) {
    std::uint32_t n = 0;
    const auto r = std::from_chars(s.data(), s.data() + s.size(), n);
    if (r.ec != std::errc() || r.ptr != s.data() + s.size() || n == 0 || n > 4096)
      broken("proto number of " + std::string(where));
    return n;
  }

  static Kind kind_of(reflection::BaseType t, bool is_enum, std::string_view where) {
    if (is_enum) return Kind::enumeration;
    switch (t) {
      case reflection::Bool: return Kind::boolean;
      case reflection::Byte:
      case reflection::Short:
      case reflection::Int: return Kind::int32;
      case reflection::UByte:
      case reflection::UShort:
      case reflection::UInt: return Kind::uint32;
      case reflection::Long: return Kind::int64;
      case reflection::ULong: return Kind::uint64;
      case reflection::Float: return Kind::single;
      case reflection::Double: return Kind::real;
      case reflection::String: return Kind::text;
      case reflection::Obj: return Kind::message;
      default: broken("type of " + std::string(where));
    }
  }

  // The field as the flatbuffer has it, without the wrapping the wire puts around it.
  Field plain(const reflection::Field& f, const std::string& where) {
    Field out;
    const auto* type = f.type();
    reflection::BaseType base = type->base_type();
    if (base == reflection::Vector) {
      out.repeated = true;
      base = type->element();
    }
    const bool is_enum = type->index() >= 0 && base != reflection::Obj;
    if (out.repeated && base == reflection::UByte && !is_enum) {
      out.repeated = false;
      out.kind = Kind::bytes;
      out.store = reflection::Vector;
    } else {
      out.kind = kind_of(base, is_enum, where);
      out.store = base;
    }
    if (is_enum) out.enumeration = enums_[static_cast<std::size_t>(type->index())];
    if (out.kind == Kind::message)
      out.message = message_of(*from_.objects()->Get(static_cast<flatbuffers::uoffset_t>(type->index())),
                               attribute(f, "only").value_or(""));
    out.slot = f.offset();
    out.integer = f.default_integer();
    out.real = f.default_real();
    return out;
  }

  void finish(Field& f, std::string name, std::uint32_t number) {
    f.name = std::move(name);
    f.key = "\"" + f.name + "\":";
    f.number = number;
    unsigned type = 0;
    switch (f.kind) {
      case Kind::real: type = 1; break;
      case Kind::single: type = 5; break;
      case Kind::text:
      case Kind::bytes:
      case Kind::message:
      case Kind::presence: type = 2; break;
      default: break;
    }
    f.tag = number << 3 | type;
  }

  static void preset(Field& f, std::string_view value) {
    f.preset = f.key;
    if (f.repeated) {
      f.preset += value;  // "[]"
    } else if (f.kind == Kind::enumeration || f.kind == Kind::text) {
      append_string(f.preset, value);
    } else if (f.kind == Kind::real || f.kind == Kind::single) {
      append_double(f.preset, std::strtod(std::string(value).c_str(), nullptr));
    } else {
      f.preset += value;
    }
  }

  void fill(std::size_t at) {
    Message* const m = todo_[at].message;
    const reflection::Object& object = *todo_[at].object;
    const std::vector<std::string_view> only = todo_[at].only;
    std::vector<const reflection::Field*> fields(object.fields()->begin(), object.fields()->end());
    std::sort(fields.begin(), fields.end(), [](const auto* a, const auto* b) { return a->id() < b->id(); });
    std::vector<std::pair<std::uint32_t, Message*>> wrappers;  // wire messages of this table, by number
    for (const auto* f : fields) {
      const std::string where = m->name + "." + std::string(sv(f->name()));
      if (m->is_struct) {
        Field field = plain(*f, where);
        field.required = true;
        finish(field, std::string(sv(f->name())), static_cast<std::uint32_t>(f->id() + 1));
        m->fields.push_back(std::move(field));
        continue;
      }
      const auto proto = attribute(*f, "proto");
      if (!proto || f->deprecated()) continue;
      if (f->offset() >= 4 + 2 * 128) broken(where + ": a table of the wire has at most 128 fields");
      const std::string name(attribute(*f, "wire").value_or(sv(f->name())));
      if (!only.empty() && std::find(only.begin(), only.end(), name) == only.end()) continue;
      const std::uint32_t number = number_of(*proto, where);
      const bool required = attribute(*f, "wire_required").has_value();
      Field inner = plain(*f, where);
      if (attribute(*f, "presence")) {
        if (inner.kind != Kind::boolean || inner.repeated) broken(where + ": presence is for bool");
        inner.kind = Kind::presence;
      }
      const auto wrap = attribute(*f, "wrap"), list = attribute(*f, "list");
      if (!wrap && !list) {
        inner.required = required;
        inner.map = attribute(*f, "map").has_value();
        if (inner.map && (!inner.repeated || inner.kind != Kind::message))
          broken(where + ": map is for vectors of tables");
        finish(inner, name, number);
        if (const auto value = attribute(*f, "wire_default")) preset(inner, *value);
        m->fields.push_back(std::move(inner));
        continue;
      }
      if (inner.repeated != (list.has_value() || (wrap && inner.repeated))) broken(where + ": list is for vectors");
      Message* around = nullptr;
      for (auto& [n, w] : wrappers)
        if (n == number) around = w;
      if (!around) {
        around = fresh(where);
        around->inlined = true;
        wrappers.emplace_back(number, around);
        Field outer;
        outer.kind = Kind::message;
        outer.message = around;
        outer.wrapped = true;
        outer.required = required;
        outer.repeated = wrap && inner.repeated;
        finish(outer, name, number);
        m->fields.push_back(std::move(outer));
      }
      inner.element = wrap && inner.repeated;
      inner.required = wrap && !attribute(*f, "wrap_optional");
      const auto inner_number = attribute(*f, "wrap_proto");
      finish(inner, std::string(list ? *list : *wrap), inner_number ? number_of(*inner_number, where) : 1);
      around->fields.push_back(std::move(inner));
    }
    for (auto& [n, w] : wrappers) index(*w);
    index(*m);
  }

  static void index(Message& m) {
    std::sort(m.fields.begin(), m.fields.end(), [](const Field& a, const Field& b) { return a.number < b.number; });
    std::uint8_t bits = 0;
    for (std::size_t i = 0; i < m.fields.size(); ++i) {
      Field& f = m.fields[i];
      if (m.by_name.find(f.name) >= 0) broken(m.name + ": two fields " + f.name);
      m.by_name.add(f.name, static_cast<int>(i));
      if (m.by_number.size() <= f.number) m.by_number.resize(f.number + 1, -1);
      if (m.by_number[f.number] >= 0) broken(m.name + ": two fields have the number " + std::to_string(f.number));
      m.by_number[f.number] = static_cast<std::int16_t>(i);
      if (!f.required) continue;
      if (bits >= 64) broken(m.name + ": more than 64 required fields");
      f.index = bits;
      m.required |= std::uint64_t{1} << bits++;
    }
  }

  Schema& out_;
  const reflection::Schema& from_;
  std::vector<const Enum*> enums_;
  std::unordered_map<std::string, Message*> made_;
  std::vector<Todo> todo_;
};

}  // namespace

void Names::add(std::string_view name, int value) {
  if ((used_ + 1) * 2 > slots_.size()) grow();
  for (std::size_t i = hash(name);; ++i) {
    Entry& e = slots_[i & (slots_.size() - 1)];
    if (e.name.empty()) {
      e = {std::string(name), value};
      ++used_;
      return;
    }
  }
}

void Names::grow() {
  std::vector<Entry> old = std::move(slots_);
  slots_.assign(std::max<std::size_t>(8, old.size() * 2), {});
  used_ = 0;
  for (Entry& e : old)
    if (!e.name.empty()) add(e.name, e.value);
}

int Names::find(std::string_view name) const {
  if (slots_.empty() || name.empty()) return -1;
  for (std::size_t i = hash(name);; ++i) {
    const Entry& e = slots_[i & (slots_.size() - 1)];
    if (e.name.empty()) return -1;
    if (e.name == name) return e.value;
  }
}

const std::string* Enum::name(std::int64_t number) const {
  if (number >= 0 && number <= dense) return &values[static_cast<std::size_t>(number)].second;
  const auto at =
      std::lower_bound(values.begin(), values.end(), number, [](const auto& v, std::int64_t n) { return v.first < n; });
  return at != values.end() && at->first == number ? &at->second : nullptr;
}

Schema::Schema(Bytes compiled) {
  flatbuffers::Verifier verifier(compiled.data(), compiled.size());
  if (!reflection::VerifySchemaBuffer(verifier)) broken("the compiled schema is damaged");
  Builder(*this, *reflection::GetSchema(compiled.data())).run();
}

const Message& Schema::root(std::string_view table) const {
  const auto at = roots.find(table);
  if (at == roots.end()) broken("there is no table " + std::string(table));
  return *at->second;
}

}  // namespace gantry::gateway_mesos::wire
