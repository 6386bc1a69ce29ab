#include "tools/gantry-module/messages.hpp"

#include <flatbuffers/reflection.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <map>

// The schemas, embedded (schemas.c.in).
extern "C" {
#define GANTRY_SCHEMA(kind) \
  extern const unsigned char gantry_schema_##kind[]
GANTRY_SCHEMA(allocator);
GANTRY_SCHEMA(authenticator);
GANTRY_SCHEMA(authorizer);
GANTRY_SCHEMA(common);
GANTRY_SCHEMA(election);
GANTRY_SCHEMA(fetcher);
GANTRY_SCHEMA(framework);
GANTRY_SCHEMA(image);
GANTRY_SCHEMA(isolator);
GANTRY_SCHEMA(store);
#undef GANTRY_SCHEMA
}

namespace gantry::kit {
namespace {

using flatbuffers::FlatBufferBuilder;
using flatbuffers::Offset;
using reflection::BaseType;
using reflection::Field;
using reflection::Object;
using reflection::Schema;

// The comments at the head of each schema say the same in words.
const std::map<std::string_view, std::vector<Message>>& table_of_methods() {
  static const std::map<std::string_view, std::vector<Message>> table = {
      {"allocator", {{16, "ALLOCATE", "gantry.fb.allocator.Deltas", "gantry.fb.allocator.Round", {}}}},
      {"authenticator",
       {{16, "AUTHENTICATE", "gantry.fb.authenticator.Credentials", "gantry.fb.authenticator.Identity", {}},
        {17, "CHALLENGE", "gantry.fb.authenticator.Challenge", "gantry.fb.authenticator.Challenge", {}}}},
      {"authorizer",
       {{16, "AUTHORIZE", "gantry.fb.authorizer.Questions", "gantry.fb.authorizer.Verdicts", {}},
        {17, "CHANGED", {}, {}, "-"}}},
      {"election",
       {{16, "CONTEND", "gantry.fb.election.Candidate", {}, "gantry.fb.election.Leadership"},
        {17, "WATCH", {}, {}, "gantry.fb.election.Leader"}}},
      {"fetcher", {{16, "FETCH", "gantry.fb.fetcher.Fetch", {}, {}}}},
      {"framework", {}},
      {"gateway", {}},
      {"image",
       {{4, "RECOVER", "gantry.fb.image.Recover", "gantry.fb.image.Recovered", {}},
        {16, "PULL", "gantry.fb.image.Pull", "gantry.fb.image.Image", "gantry.fb.image.Progress"},
        {17, "RELEASE", "gantry.fb.image.Release", {}, {}},
        {18, "INSPECT", "gantry.fb.image.Inspect", "gantry.fb.image.Image", {}},
        {19, "LIST", "gantry.fb.image.List", "gantry.fb.image.Images", {}},
        {20, "PRUNE", "gantry.fb.image.Prune", "gantry.fb.image.Pruned", {}}}},
      {"isolator",
       {{4, "RECOVER", "gantry.fb.isolator.Recover", "gantry.fb.isolator.Recovered", {}},
        {16, "PREPARE", "gantry.fb.isolator.Prepare", "gantry.fb.isolator.Prepared", {}},
        {17, "ATTACH", "gantry.fb.isolator.Attach", {}, {}},
        {18, "WATCH", "gantry.fb.isolator.Watch", {}, "gantry.fb.isolator.Limited"},
        {19, "UPDATE", "gantry.fb.isolator.Update", {}, {}},
        {20, "USAGE", "gantry.fb.isolator.UsageRequest", "gantry.fb.isolator.Usages", {}},
        {21, "CLEANUP", "gantry.fb.isolator.Cleanup", {}, {}}}},
      {"store",
       {{16, "GET", "gantry.fb.store.Get", "gantry.fb.store.Record", {}},
        {17, "COMMIT", "gantry.fb.store.Commit", "gantry.fb.store.Committed", {}},
        {18, "LIST", "gantry.fb.store.List", {}, "gantry.fb.store.Records"}}},
  };
  return table;
}

const Object* find(const Schema& schema, std::string_view name) {
  for (const auto* o : *schema.objects())
    if (text(o->name()) == name) return o;
  return nullptr;
}

std::uint64_t below(Random& r, std::uint64_t n) { return n ? r() % n : 0; }

template <std::size_t N>
std::string pick(Random& r, const char* const (&words)[N]) {
  return words[below(r, N)];
}

std::string random_bytes(Random& r, std::size_t n) {
  std::string s(n, '\0');
  for (char& c : s) c = static_cast<char>(r());
  return s;
}

bool has(std::string_view name, std::string_view part) { return name.find(part) != std::string_view::npos; }

std::string random_text(std::string_view name, Random& r, const std::string& directory) {
  if (name == "directory" || name == "sandbox" || name == "work_dir" || has(name, "path"))
    return directory + pick(r, {"", "/a", "/a/../b", "/no/such/place", "/%s%n", "/a//b/"});
  if (name == "user") return pick(r, {"", "nobody", "no-such-user", "root:root", "-1"});
  if (name == "uri" || (name == "value" && below(r, 2)))
    return pick(r, {"file:///etc/hostname", "file://", "http://127.0.0.1:1/x", "http://[::1", "ftp://x", "/etc/../etc/hostname",
                    "", "file:///no/such/file", "http://127.0.0.1:1/../../x.tar.gz"});
  switch (below(r, 12)) {
    case 0: return {};
    case 1: return random_bytes(r, 1 + below(r, 40));
    case 2: return std::string(1 + below(r, 70'000), 'x');
    case 3: return "../../x";
    case 4: return "%s%n%99999d";
    case 5: return std::string("a\0b", 3);
    case 6: return "\xc3\x28\xf0\x9f";
    default: return pick(r, {"a", "b", "c1", "c2", "cpus", "mem", "*", "role/a", "basic", "x y", "-", "."});
  }
}

std::int64_t random_number(std::string_view name, Random& r) {
  if (has(name, "pid")) return below(r, 2) ? 0 : below(r, 2) ? -1 : std::numeric_limits<std::int32_t>::max();
  switch (below(r, 10)) {
    case 0: return -1;
    case 1: return std::numeric_limits<std::int64_t>::max();
    case 2: return std::numeric_limits<std::int64_t>::min();
    case 3: return std::numeric_limits<std::int32_t>::max();
    case 4: return static_cast<std::int64_t>(r());
    case 5: return static_cast<std::int64_t>(below(r, 1'000'000));
    default: return static_cast<std::int64_t>(below(r, 6));
  }
}

double random_real(Random& r) {
  switch (below(r, 9)) {
    case 0: return std::numeric_limits<double>::quiet_NaN();
    case 1: return std::numeric_limits<double>::infinity();
    case 2: return -1;
    case 3: return 1e308;
    case 4: return 0;
    default: return static_cast<double>(below(r, 10'000)) / 1000;
  }
}

// One builder of one message.
class Maker {
 public:
  Maker(const Schema& schema, Random& random, const std::string& directory)
      : schema_(schema), random_(random), directory_(directory) {}

  Buffer make(const Object& root) {
    fbb_.Finish(Offset<flatbuffers::Table>(table(root, 0)));
    return Buffer(fbb_.Release());
  }

 private:
  // Offsets have to be made before the table that holds them is begun.
  flatbuffers::uoffset_t table(const Object& object, int depth) {
    std::map<const Field*, flatbuffers::uoffset_t> offsets;
    std::vector<const Field*> inlined;
    for (const Field* f : *object.fields()) {
      if (f->deprecated() || below(random_, 4) == 0) continue;
      switch (f->type()->base_type()) {
        case BaseType::None:
        case BaseType::UType:
        case BaseType::Union:
        case BaseType::Array: break;
        case BaseType::String:
          offsets[f] = fbb_.CreateString(random_text(text(f->name()), random_, directory_)).o;
          break;
        case BaseType::Vector:
          if (const auto o = vector(*f, depth)) offsets[f] = o;
          break;
        case BaseType::Obj: {
          const Object* sub = schema_.objects()->Get(static_cast<unsigned>(f->type()->index()));
          if (sub->is_struct()) inlined.push_back(f);
          else if (depth < 6) offsets[f] = table(*sub, depth + 1);
          break;
        }
        default: inlined.push_back(f);
      }
    }
    const auto start = fbb_.StartTable();
    for (const auto& [f, o] : offsets) fbb_.AddOffset(f->offset(), Offset<void>(o));
    for (const Field* f : inlined) scalar(*f);
    return fbb_.EndTable(start);
  }

  void scalar(const Field& f) {
    if (f.type()->base_type() == BaseType::Obj) {
      const Object* sub = schema_.objects()->Get(static_cast<unsigned>(f.type()->index()));
      const std::string bytes = structs(*sub, 1);
      fbb_.Align(static_cast<std::size_t>(sub->minalign()));
      fbb_.PushBytes(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
      fbb_.TrackField(f.offset(), fbb_.GetSize());
      return;
    }
    const std::string_view name = text(f.name());
    const std::int64_t n = enumerated(*f.type(), name);
    switch (f.type()->base_type()) {
      case BaseType::Bool: fbb_.AddElement<std::uint8_t>(f.offset(), static_cast<std::uint8_t>(n & 1)); break;
      case BaseType::Byte:
      case BaseType::UByte: fbb_.AddElement<std::uint8_t>(f.offset(), static_cast<std::uint8_t>(n)); break;
      case BaseType::Short:
      case BaseType::UShort: fbb_.AddElement<std::uint16_t>(f.offset(), static_cast<std::uint16_t>(n)); break;
      case BaseType::Int:
      case BaseType::UInt: fbb_.AddElement<std::uint32_t>(f.offset(), static_cast<std::uint32_t>(n)); break;
      case BaseType::Long:
      case BaseType::ULong: fbb_.AddElement<std::uint64_t>(f.offset(), static_cast<std::uint64_t>(n)); break;
      case BaseType::Float: fbb_.AddElement<float>(f.offset(), static_cast<float>(random_real(random_))); break;
      case BaseType::Double: fbb_.AddElement<double>(f.offset(), random_real(random_)); break;
      default: break;
    }
  }

  // Mostly a value the enum has.
  std::int64_t enumerated(const reflection::Type& type, std::string_view name) {
    if (type.index() >= 0 && below(random_, 8) != 0) {
      const auto* values = schema_.enums()->Get(static_cast<unsigned>(type.index()))->values();
      return values->Get(static_cast<unsigned>(below(random_, values->size())))->value();
    }
    return random_number(name, random_);
  }

  flatbuffers::uoffset_t vector(const Field& f, int depth) {
    const auto element = f.type()->element();
    const std::size_t n = below(random_, 40) == 0 ? below(random_, 300) : below(random_, 4);
    if (element == BaseType::String) {
      std::vector<Offset<flatbuffers::String>> items;
      for (std::size_t i = 0; i < n; ++i) items.push_back(fbb_.CreateString(random_text(text(f.name()), random_, directory_)));
      return fbb_.CreateVector(items).o;
    }
    if (element == BaseType::Obj) {
      const Object* sub = schema_.objects()->Get(static_cast<unsigned>(f.type()->index()));
      if (sub->is_struct()) {
        const std::string bytes = structs(*sub, n);
        const auto align = static_cast<std::size_t>(sub->minalign());
        fbb_.StartVector(bytes.size() / align, align);
        fbb_.PushBytes(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
        return fbb_.EndVector(n);
      }
      if (depth >= 6) return 0;
      std::vector<Offset<flatbuffers::Table>> items;
      for (std::size_t i = 0; i < std::min<std::size_t>(n, 8); ++i) items.emplace_back(table(*sub, depth + 1));
      return fbb_.CreateVector(items).o;
    }
    const std::size_t size = flatbuffers::GetTypeSize(element);
    if (size == 0 || element == BaseType::Union || element == BaseType::Vector) return 0;
    std::string bytes = random_bytes(random_, n * size);
    if (below(random_, 2)) {  // small numbers are handles somebody may know
      std::fill(bytes.begin(), bytes.end(), '\0');
      for (std::size_t i = 0; i < n; ++i) bytes[i * size] = static_cast<char>(below(random_, 6));
    }
    fbb_.StartVector(n, size);
    fbb_.PushBytes(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
    return fbb_.EndVector(n);
  }

  // n structs side by side, most members small.
  std::string structs(const Object& object, std::size_t n) {
    const auto size = static_cast<std::size_t>(object.bytesize());
    std::string bytes(n * size, '\0');
    for (std::size_t i = 0; i < n; ++i)
      for (const Field* f : *object.fields()) {
        const std::size_t width = flatbuffers::GetTypeSize(f->type()->base_type());
        if (f->offset() + width > size || width > 8) continue;
        const std::int64_t v = random_number(text(f->name()), random_);
        std::memcpy(bytes.data() + i * size + f->offset(), &v, width);  // little-endian, as flatbuffers are
      }
    return bytes;
  }

  const Schema& schema_;
  Random& random_;
  const std::string& directory_;
  FlatBufferBuilder fbb_{1024};
};

}  // namespace

const std::vector<Message>& messages(std::string_view kind) {
  static const std::vector<Message> none;
  const auto it = table_of_methods().find(kind);
  return it == table_of_methods().end() ? none : it->second;
}

std::string method_name(std::string_view kind, std::uint32_t method) {
  static const char* const common[] = {"CONFIGURE", "START", "STOP", "HEALTH", "RECOVER", "CREDIT"};
  if (method < 6) return common[method];
  for (const Message& m : messages(kind))
    if (m.method == method) return std::string(m.name);
  return "method " + std::to_string(method);
}

const Schema* schema(std::string_view kind) {
#define GANTRY_SCHEMA(name) \
  if (kind == #name) return reflection::GetSchema(gantry_schema_##name)
  GANTRY_SCHEMA(allocator);
  GANTRY_SCHEMA(authenticator);
  GANTRY_SCHEMA(authorizer);
  GANTRY_SCHEMA(common);
  GANTRY_SCHEMA(election);
  GANTRY_SCHEMA(fetcher);
  GANTRY_SCHEMA(framework);
  GANTRY_SCHEMA(image);
  GANTRY_SCHEMA(isolator);
  GANTRY_SCHEMA(store);
#undef GANTRY_SCHEMA
  return nullptr;
}

Buffer random_message(const Schema& schema, std::string_view table, Random& random, const std::string& directory) {
  const Object* object = find(schema, table);
  return object ? Maker(schema, random, directory).make(*object) : Buffer();
}

Buffer empty_table() {
  FlatBufferBuilder fbb;
  fbb.Finish(Offset<flatbuffers::Table>(fbb.EndTable(fbb.StartTable())));
  return Buffer(fbb.Release());
}

Buffer unknown_fields() {
  FlatBufferBuilder fbb;
  const auto name = fbb.CreateString("a field of a later revision");
  const auto inner = fbb.EndTable(fbb.StartTable());
  const auto start = fbb.StartTable();
  // Offsets in a vtable: 4 + 2 * id. No table of ours has 200 fields.
  fbb.AddElement<std::uint64_t>(4 + 2 * 200, 77);
  fbb.AddOffset(4 + 2 * 201, name);
  fbb.AddOffset(4 + 2 * 202, Offset<flatbuffers::Table>(inner));
  fbb.Finish(Offset<flatbuffers::Table>(fbb.EndTable(start)));
  return Buffer(fbb.Release());
}

Buffer broken(Bytes message, Random& random) {
  std::vector<std::uint8_t> b(message.begin(), message.end());
  switch (b.empty() ? 9 : below(random, 10)) {
    case 0: b.resize(below(random, b.size())); break;
    case 1: b.insert(b.end(), 1 + below(random, 64), 0xff); break;
    case 2: {  // an offset that points far away
      const std::size_t at = below(random, b.size()) & ~std::size_t{3};
      for (std::size_t i = at; i < std::min(at + 4, b.size()); ++i) b[i] = 0xff;
      break;
    }
    case 9: {
      b.resize(below(random, 200));
      for (auto& x : b) x = static_cast<std::uint8_t>(random());
      break;
    }
    default:
      for (std::uint64_t n = 1 + below(random, 6); n > 0; --n)
        b[below(random, b.size())] ^= static_cast<std::uint8_t>(1u << below(random, 8));
  }
  return Buffer(std::move(b));
}

bool verifies(const Schema& schema, std::string_view table, Bytes message) {
  const Object* object = find(schema, table);
  return object && !message.empty() && flatbuffers::Verify(schema, *object, message.data(), message.size(), 64, 10'000'000);
}

}  // namespace gantry::kit
