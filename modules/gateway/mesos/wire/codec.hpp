// The Mesos v1 wire forms of our messages: JSON and protobuf <-> flatbuffer, driven by the compiled schema alone.
#pragma once

#include <gantry/message.hpp>
#include <gantry/result.hpp>

#include <memory>
#include <string>
#include <string_view>

namespace gantry::gateway_mesos::wire {

struct Schema;

// Root tables are named as in the schema: "gantry.fb.Call", "gantry.fb.master.Response". A name that the schema lacks
// is a programming mistake and aborts. All functions are thread-safe and keep nothing of their arguments. Contract:
// reference/mesos-kernel.md B2, reference/clients.md section 0 rules 10 and 11; README.md of this folder.
class Codec {
 public:
  // Over the schema embedded in this library; built on first use, never destroyed.
  [[nodiscard]] static const Codec& get();
  explicit Codec(Bytes compiled_schema);  // for tests: bytes of flatc --schema -b
  ~Codec();

  // Lax in. An error is INVALID_ARGUMENT and its message is the whole sentence Mesos answers with, e.g.
  // "Failed to convert JSON into Call protobuf: Missing required fields: subscribe.framework_info.user".
  //
  // What was given is stored even where it equals the schema's default, so that flatbuffers::IsFieldPresent(call,
  // fb::Call::VT_TYPE) tells an absent (or unknown) type from UNKNOWN. The result always passes view<>().
  [[nodiscard]] Result<Buffer> from_json(std::string_view json, std::string_view table) const;
  [[nodiscard]] Result<Buffer> from_protobuf(Bytes body, std::string_view table) const;

  // Strict out: set fields and the wire's defaults, empty repeated fields omitted, one line without CR or LF. `message`
  // is a flatbuffer of `table` that has been verified (view<>) or was built here. Protobuf: fields in order of their
  // numbers.
  [[nodiscard]] std::string to_json(Bytes message, std::string_view table) const;
  [[nodiscard]] std::string to_protobuf(Bytes message, std::string_view table) const;
  // The same, appended to `out`, from a table anywhere in a flatbuffer (one of many in a followed snapshot).
  void append_json(std::string& out, const flatbuffers::Table* message, std::string_view table) const;

  [[nodiscard]] const Schema& schema() const { return *schema_; }

 private:
  std::unique_ptr<const Schema> schema_;
};

// The number as Mesos prints it: the fewest digits that read back as the same, always with a fraction ("4.0", "0.1"),
// 1e21 and beyond as "1e21"; "Infinity" in quotes.
void append_double(std::string& out, double value);
// A JSON string with its quotes; invalid UTF-8 is replaced.
void append_string(std::string& out, std::string_view text);
void append_base64(std::string& out, Bytes bytes);

}  // namespace gantry::gateway_mesos::wire
