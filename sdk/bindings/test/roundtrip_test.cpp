// Every table of every schema with random values: written by flatc's own library through reflection, copied field by field
// through the generated C and Rust accessors and builders, and compared as flatc's JSON. Then damaged bytes: what C
// accepts, flatc's verifier must accept, too, and nobody may read outside (run it under ASan).
#include "rust_library.hpp"

#include <gantry/c/fb.h>
#include <gantry/isolator_generated.h>
#include <gantry/message.hpp>

#include <flatbuffers/idl.h>
#include <flatbuffers/reflection.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <random>
#include <set>

extern "C" int gantry_test_copy_c(const char* name, gantry_bytes in, gantry_fb_builder* b, gantry_bytes* out);
int oracle(const char* name, const std::uint8_t* data, std::size_t len);

namespace gantry::bindings {
namespace {

using reflection::BaseType;
namespace fs = std::filesystem;

std::string read(const fs::path& p) {
  std::ifstream in(p, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

// Writes a random table of a schema.
// Messages inside messages: the table of the bytes in a field, by "table.field". Generated C++ verifies them with the message around
// them; for C and Rust they are bytes, which whoever reads them verifies.
using Nested = std::map<std::string, std::string>;

class Author {
 public:
  Author(const reflection::Schema& schema, const Nested& nested, std::uint32_t seed, bool empties)
      : schema_(schema), nested_(nested), rng_(seed), empties_(empties) {}

  Buf message(const reflection::Object& table) {
    fbb_.Finish(flatbuffers::Offset<flatbuffers::Table>(write(table, 0)));
    return {fbb_.GetBufferPointer(), fbb_.GetBufferPointer() + fbb_.GetSize()};
  }

 private:
  std::uint64_t below(std::uint64_t n) { return rng_() % n; }

  static std::size_t size_of(BaseType t) {
    switch (t) {
      case BaseType::Short:
      case BaseType::UShort: return 2;
      case BaseType::Int:
      case BaseType::UInt:
      case BaseType::Float: return 4;
      case BaseType::Long:
      case BaseType::ULong:
      case BaseType::Double: return 8;
      default: return 1;
    }
  }

  // A value of `type`, little-endian, in the first size_of(type) bytes.
  std::uint64_t scalar(BaseType type, int enum_index) {
    if (type == BaseType::Bool) return below(2);
    if (type == BaseType::Float) {
      const float f = static_cast<float>(static_cast<int>(below(2000)) - 1000) / 8;
      std::uint32_t bits;
      std::memcpy(&bits, &f, 4);
      return bits;
    }
    if (type == BaseType::Double) {
      const double d = static_cast<double>(static_cast<int>(below(2000000)) - 1000000) / 64;
      std::uint64_t bits;
      std::memcpy(&bits, &d, 8);
      return bits;
    }
    if (enum_index >= 0 && below(4)) {
      const auto* values = schema_.enums()->Get(static_cast<unsigned>(enum_index))->values();
      return static_cast<std::uint64_t>(values->Get(static_cast<unsigned>(below(values->size())))->value());
    }
    const std::uint64_t v = (static_cast<std::uint64_t>(rng_()) << 32) | rng_();
    return below(3) ? v : v % 100;
  }

  static bool is_default(const reflection::Field& f, std::uint64_t bits) {
    switch (f.type()->base_type()) {
      case BaseType::Float: {
        float v;
        std::memcpy(&v, &bits, 4);
        return v == static_cast<float>(f.default_real());
      }
      case BaseType::Double: {
        double v;
        std::memcpy(&v, &bits, 8);
        return v == f.default_real();
      }
      default: {
        const std::uint64_t mask = ~0ull >> (64 - 8 * size_of(f.type()->base_type()));
        return (bits & mask) == (static_cast<std::uint64_t>(f.default_integer()) & mask);
      }
    }
  }

  void structure(const reflection::Object& s, std::uint8_t* at) {
    for (const auto* f : *s.fields()) {
      if (f->type()->base_type() == BaseType::Obj) {
        structure(*schema_.objects()->Get(static_cast<unsigned>(f->type()->index())), at + f->offset());
      } else {
        const std::uint64_t bits = scalar(f->type()->base_type(), f->type()->index());
        std::memcpy(at + f->offset(), &bits, size_of(f->type()->base_type()));
      }
    }
  }

  std::string text() {
    static const char* const pieces[] = {"a", "Zz", "0", " ", "\"", "\\", "/", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x90\x99", "long piece of text"};
    std::string s;
    for (std::uint64_t n = below(4) + (empties_ ? 0 : 1); n; --n) s += pieces[below(std::size(pieces))];
    return s;
  }
  std::size_t count() { return static_cast<std::size_t>(below(4) + (empties_ ? 0 : 1)); }

  flatbuffers::uoffset_t message_inside(const std::string& table) {
    const Buf m = Author(schema_, nested_, static_cast<std::uint32_t>(rng_()), empties_).message(*schema_.objects()->LookupByKey(table.c_str()));
    fbb_.ForceVectorAlignment(m.size(), 1, 8);
    return fbb_.CreateVector(m.data(), m.size()).o;
  }

  flatbuffers::uoffset_t vector(const reflection::Type& type, int depth) {
    const std::size_t n = count();
    const auto* object = type.index() >= 0 && type.element() == BaseType::Obj ? schema_.objects()->Get(static_cast<unsigned>(type.index())) : nullptr;
    if (type.element() == BaseType::String || (object && !object->is_struct())) {
      std::vector<flatbuffers::Offset<void>> refs;
      for (std::size_t i = 0; i < n; ++i) refs.emplace_back(object ? write(*object, depth + 1) : fbb_.CreateString(text()).o);
      return fbb_.CreateVector(refs).o;
    }
    const std::size_t size = object ? static_cast<std::size_t>(object->bytesize()) : size_of(type.element());
    Buf bytes(n * size);
    for (std::size_t i = 0; i < n; ++i) {
      if (object) {
        structure(*object, bytes.data() + i * size);
      } else {
        const std::uint64_t bits = scalar(type.element(), type.index());
        std::memcpy(bytes.data() + i * size, &bits, size);
      }
    }
    fbb_.StartVector(n, size);
    if (object) fbb_.ForceVectorAlignment(n, size, static_cast<std::size_t>(object->minalign()));
    fbb_.PushBytes(bytes.data(), bytes.size());
    return fbb_.EndVector(n);
  }

  flatbuffers::uoffset_t write(const reflection::Object& table, int depth) {
    struct Child {
      const reflection::Field* field;
      flatbuffers::uoffset_t ref;
      std::uint8_t tag;
    };
    std::vector<Child> children;
    for (const auto* f : *table.fields()) {
      const auto base = f->type()->base_type();
      const bool deep = depth > 3 && (base == BaseType::Obj || base == BaseType::Vector || base == BaseType::Union);
      if (f->deprecated() || (!f->required() && (deep || below(3) == 0))) continue;
      const auto* object = base == BaseType::Obj ? schema_.objects()->Get(static_cast<unsigned>(f->type()->index())) : nullptr;
      if (base == BaseType::String) {
        children.push_back({f, fbb_.CreateString(text()).o, 0});
      } else if (base == BaseType::Vector) {
        const auto inner = nested_.find(table.name()->str() + "." + f->name()->str());
        children.push_back({f, inner == nested_.end() ? vector(*f->type(), depth) : message_inside(inner->second), 0});
      } else if (base == BaseType::Union) {
        const auto* values = schema_.enums()->Get(static_cast<unsigned>(f->type()->index()))->values();
        const auto* member = values->Get(static_cast<unsigned>(1 + below(values->size() - 1)));
        const auto ref = write(*schema_.objects()->Get(static_cast<unsigned>(member->union_type()->index())), depth + 1);
        children.push_back({f, ref, static_cast<std::uint8_t>(member->value())});
      } else if (object && !object->is_struct()) {
        children.push_back({f, write(*object, depth + 1), 0});
      }
    }
    const auto start = fbb_.StartTable();
    for (const auto& c : children) {
      if (c.tag) fbb_.AddElement<std::uint8_t>(static_cast<flatbuffers::voffset_t>(c.field->offset() - 2), c.tag);
      fbb_.AddOffset(c.field->offset(), flatbuffers::Offset<void>(c.ref));
    }
    for (const auto* f : *table.fields()) {
      const auto base = f->type()->base_type();
      if (f->deprecated() || base == BaseType::UType || below(3) == 0) continue;
      if (base == BaseType::Obj) {
        const auto* object = schema_.objects()->Get(static_cast<unsigned>(f->type()->index()));
        if (!object->is_struct()) continue;
        Buf bytes(static_cast<std::size_t>(object->bytesize()));
        structure(*object, bytes.data());
        fbb_.StartStruct(static_cast<std::size_t>(object->minalign()));
        fbb_.PushBytes(bytes.data(), bytes.size());
        fbb_.AddStructOffset(f->offset(), fbb_.EndStruct());
      } else if (base != BaseType::String && base != BaseType::Vector && base != BaseType::Union) {
        const std::uint64_t bits = scalar(base, f->type()->index());
        if (!f->optional() && is_default(*f, bits)) continue;  // nobody writes defaults
        switch (size_of(base)) {
          case 1: fbb_.AddElement(f->offset(), static_cast<std::uint8_t>(bits)); break;
          case 2: fbb_.AddElement(f->offset(), static_cast<std::uint16_t>(bits)); break;
          case 4: fbb_.AddElement(f->offset(), static_cast<std::uint32_t>(bits)); break;
          default: fbb_.AddElement(f->offset(), bits);
        }
      }
    }
    return fbb_.EndTable(start);
  }

  const reflection::Schema& schema_;
  const Nested& nested_;
  std::mt19937 rng_;
  bool empties_;
  flatbuffers::FlatBufferBuilder fbb_;
};

class RoundTrip : public ::testing::TestWithParam<fs::path> {
 protected:
  RoundTrip() : bfbs(read(GetParam())), schema(*reflection::GetSchema(bfbs.data())) {
    flatbuffers::IDLOptions options;
    options.strict_json = true;
    options.indent_step = 1;
    parser = std::make_unique<flatbuffers::Parser>(options);
    EXPECT_TRUE(parser->Deserialize(reinterpret_cast<const std::uint8_t*>(bfbs.data()), bfbs.size()));
    // Only schemas written with flatc's own attributes say it, and those its library does not read.
    const fs::path full = fs::path(BFBS_FULL) / GetParam().filename();
    if (!fs::exists(full)) return;
    const std::string bytes = read(full);
    for (const auto* o : *reflection::GetSchema(bytes.data())->objects())
      for (const auto* f : *o->fields())
        if (const auto* a = f->attributes() ? f->attributes()->LookupByKey("nested_flatbuffer") : nullptr)
          nested[o->name()->str() + "." + f->name()->str()] = a->value()->str();
  }
  std::string json(const std::string& table, const Buf& message) {
    std::string text;
    EXPECT_TRUE(parser->SetRootType(table.c_str())) << table;
    EXPECT_TRUE(flatbuffers::GenerateText(*parser, message.data(), &text)) << table;
    return text;
  }
  // By flatc's own generated code: what the C++ wrapper uses.
  static bool valid(const std::string& table, const Buf& message) { return oracle(table.c_str(), message.data(), message.size()) == 1; }
  static int copy_c(const std::string& table, const Buf& in, Buf& out) {
    gantry_fb_builder b;
    gantry_fb_init(&b);
    gantry_bytes copy = {nullptr, 0};
    const int rc = gantry_test_copy_c(table.c_str(), {in.data(), in.size()}, &b, &copy);
    if (rc == 1) out.assign(copy.data, copy.data + copy.len);
    gantry_fb_clear(&b);
    return rc;
  }
  template <class F>
  void each_table(F f) {
    for (const auto* object : *schema.objects())
      if (!object->is_struct()) f(*object, object->name()->str());
  }

  // Somewhere below there is a message inside a message.
  bool holds_messages(const reflection::Object& table) const {
    std::set<const reflection::Object*> seen;
    const std::function<bool(const reflection::Object&)> look = [&](const reflection::Object& o) {
      if (!seen.insert(&o).second) return false;
      for (const auto* f : *o.fields()) {
        if (nested.contains(o.name()->str() + "." + f->name()->str())) return true;
        const auto& t = *f->type();
        const bool tables = t.base_type() == BaseType::Obj || (t.base_type() == BaseType::Vector && t.element() == BaseType::Obj);
        if (tables && look(*schema.objects()->Get(static_cast<unsigned>(t.index())))) return true;
        if (t.base_type() != BaseType::Union) continue;
        for (const auto* v : *schema.enums()->Get(static_cast<unsigned>(t.index()))->values())
          if (v->union_type() && v->union_type()->index() >= 0 && look(*schema.objects()->Get(static_cast<unsigned>(v->union_type()->index())))) return true;
      }
      return false;
    };
    return look(table);
  }

  std::string bfbs;
  Nested nested;
  const reflection::Schema& schema;
  std::unique_ptr<flatbuffers::Parser> parser;
};

TEST_P(RoundTrip, ThroughC) {
  each_table([&](const reflection::Object& table, const std::string& name) {
    for (std::uint32_t seed = 0; seed < 12 && !HasFailure(); ++seed) {
      const Buf in = Author(schema, nested, seed, true).message(table);
      ASSERT_TRUE(valid(name, in)) << name;
      Buf out;
      ASSERT_EQ(copy_c(name, in, out), 1) << name << " seed " << seed;
      ASSERT_TRUE(valid(name, out)) << name << " seed " << seed;
      ASSERT_EQ(json(name, out), json(name, in)) << name << " seed " << seed;
    }
  });
}

TEST_P(RoundTrip, ThroughRust) {
  const RustLibrary rust;
  if (!rust.loaded()) GTEST_SKIP() << rust.why();
  each_table([&](const reflection::Object& table, const std::string& name) {
    for (std::uint32_t seed = 0; seed < 12 && !HasFailure(); ++seed) {
      // Owned messages do not write empty texts and vectors, as the C++ ones do not.
      const Buf in = Author(schema, nested, seed, false).message(table);
      Buf out;
      ASSERT_EQ(rust.copy(name, in, out), 1) << name << " seed " << seed;
      ASSERT_TRUE(valid(name, out)) << name << " seed " << seed;
      ASSERT_EQ(json(name, out), json(name, in)) << name << " seed " << seed;
    }
  });
}

TEST_P(RoundTrip, DamagedBytesAreJudgedAsFlatcDoes) {
  const RustLibrary rust;
  std::mt19937 rng(7);
  each_table([&](const reflection::Object& table, const std::string& name) {
    const Buf good = Author(schema, nested, rng(), true).message(table);
    for (int i = 0; i < 60; ++i) {
      Buf bad = good;
      for (auto n = 1 + rng() % 3; n; --n) bad[rng() % bad.size()] = rng() % 2 ? static_cast<std::uint8_t>(rng()) : static_cast<std::uint8_t>(rng() % 16);
      if (rng() % 4 == 0) bad.resize(rng() % bad.size());
      Buf out;
      // Its own allocation, so that ASan sees each byte read beyond the end.
      const Buf exact(bad.begin(), bad.end());
      const int c = copy_c(name, exact, out);
      ASSERT_GE(c, 0) << name;
      if (holds_messages(table)) {
        ASSERT_TRUE(c == 1 || !valid(name, exact)) << name << " try " << i;
      } else {
        ASSERT_EQ(c == 1, valid(name, exact)) << name << " try " << i;
      }
      if (!rust.loaded()) continue;
      const int r = rust.copy(name, exact, out);
      ASSERT_GE(r, 0) << name << ": panic, try " << i;
      ASSERT_TRUE(r == 0 || c == 1) << name << ": Rust accepts what C refuses, try " << i;
    }
  });
}

std::vector<fs::path> schemas() {
  std::vector<fs::path> all = {TEST_BFBS};
  for (const auto& e : fs::directory_iterator(BFBS_DIR))
    if (e.path().extension() == ".bfbs") all.push_back(e.path());
  std::sort(all.begin(), all.end());
  return all;
}

INSTANTIATE_TEST_SUITE_P(Schemas, RoundTrip, ::testing::ValuesIn(schemas()), [](const auto& info) { return info.param.stem().string(); });

// The generated C++ itself, both ways, on one message with all that kinds use.
TEST(RoundTripTyped, CxxReadsWhatTheOthersCopied) {
  fb::isolator::PreparedT p;
  p.namespaces = 5;
  p.enter_files = {"/a", "/b"};
  p.mounts.push_back(std::make_unique<fb::isolator::MountT>());
  p.mounts[0]->target = "/x";
  p.mounts[0]->flags = 1ull << 40;
  p.no_attach = true;
  const Buffer packed = pack(p);
  const Buf in(packed.data(), packed.data() + packed.size());
  const auto check = [&](const Buf& out) {
    const auto back = unpack<fb::isolator::Prepared>(Bytes(out));
    ASSERT_TRUE(back);
    EXPECT_EQ(back->namespaces, 5u);
    EXPECT_EQ(back->enter_files, p.enter_files);
    ASSERT_EQ(back->mounts.size(), 1u);
    EXPECT_EQ(back->mounts[0]->flags, 1ull << 40);
    EXPECT_TRUE(back->no_attach);
  };
  gantry_fb_builder b;
  gantry_fb_init(&b);
  gantry_bytes c = {nullptr, 0};
  ASSERT_EQ(gantry_test_copy_c("gantry.fb.isolator.Prepared", {in.data(), in.size()}, &b, &c), 1);
  check(Buf(c.data, c.data + c.len));
  gantry_fb_clear(&b);
  const RustLibrary rust;
  if (!rust.loaded()) GTEST_SKIP() << rust.why();
  Buf out;
  ASSERT_EQ(rust.copy("gantry.fb.isolator.Prepared", in, out), 1);
  check(out);
}

}  // namespace
}  // namespace gantry::bindings
