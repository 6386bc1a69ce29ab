// What the older answers of master and agent are written with: a JSON builder, and what both write alike.
#pragma once

#include "sums.hpp"
#include "wire/codec.hpp"

#include <cstdint>
#include <set>
#include <string>
#include <string_view>

namespace gantry::gateway_mesos::legacy {

// A JSON object or array under construction: commas and keys.
class Json {
 public:
  explicit Json(std::string& out) : out_(out) {}
  void open(char c) {
    out_ += c;
    first_ = true;
  }
  void close(char c) {
    out_ += c;
    first_ = false;
  }
  void item() {
    if (!first_) out_ += ',';
    first_ = false;
  }
  void key(std::string_view name) {  // plain names only
    item();
    out_ += '"';
    out_ += name;
    out_ += "\":";
    first_ = true;
  }
  void data_key(std::string_view name) {
    item();
    wire::append_string(out_, name);
    out_ += ':';
    first_ = true;
  }
  void done() { first_ = false; }
  void text(std::string_view s) { wire::append_string(out_, s), first_ = false; }
  void number(double d) { write_number(out_, d), first_ = false; }
  void integer(std::int64_t n) { out_ += std::to_string(n), first_ = false; }
  void flag(bool b) { out_ += b ? "true" : "false", first_ = false; }
  void list(std::string_view name) { key(name), open('['); }
  void field(std::string_view name, std::string_view s) { key(name), text(s); }
  void field_number(std::string_view name, double d) { key(name), number(d); }
  void field_integer(std::string_view name, std::int64_t n) { key(name), integer(n); }
  void field_flag(std::string_view name, bool b) { key(name), flag(b); }
  template <class T>
  void message(const T& table, std::string_view name) {
    wire::Codec::get().append_json(out_, reinterpret_cast<const flatbuffers::Table*>(&table), name);
    first_ = false;
  }
  void resources(const Sums& sums, Which of = nullptr, std::string_view role = {}) {
    write_resources(out_, sums, of, role);
    first_ = false;
  }
  std::string& out() { return out_; }

 private:
  std::string& out_;
  bool first_ = true;
};

// Which amounts of a Sums: see Which.
[[nodiscard]] bool is_unreserved(const Amount& a, std::string_view);
[[nodiscard]] bool is_reserved_for(const Amount& a, std::string_view role);
[[nodiscard]] std::set<std::string_view> reserved_roles(const Sums& sums);

void labels(Json& j, const flatbuffers::Vector<flatbuffers::Offset<fb::Label>>& list);
void attributes(Json& j, const fb::AgentInfo& info);
// As messages, not as sums.
void resource_list(Json& j, const Sums& sums, Which of = nullptr, std::string_view role = {});

}  // namespace gantry::gateway_mesos::legacy
