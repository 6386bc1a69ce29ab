// Sums of resources, for reading only: the books are the master's.
//
// Scalars are kept in thousandths, as everywhere in Mesos, so that 0.1 + 0.2 is 0.3.
#pragma once

#include <gantry/types_generated.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace gantry::gateway_mesos {

using ResourceVector = flatbuffers::Vector<flatbuffers::Offset<fb::Resource>>;

// One resource of a sum, with all that tells it from others.
struct Amount {
  const fb::Resource* like = nullptr;  // name, type, reservations, disk, ...: valid as long as the rows that were added
  std::string_view allocation;         // role, empty: none
  std::int64_t scalar = 0;             // thousandths
  std::vector<fb::Range> ranges;       // in any order, may touch
  std::vector<std::string_view> set;   // in any order, may repeat
};

class Sums {
 public:
  void add(const ResourceVector* resources, bool with_allocation = true);
  void add(const fb::Resource& r, std::string_view allocation);
  [[nodiscard]] const std::vector<Amount>& amounts() const { return amounts_; }
  [[nodiscard]] bool empty() const { return amounts_.empty(); }
  void add(const Amount& a);
  void add(const Sums& other) {
    for (const auto& a : other.amounts_) add(a);
  }

 private:
  std::vector<Amount> amounts_;
};

// The role a resource is reserved for, empty if it is not reserved.
[[nodiscard]] std::string_view reservation_role(const fb::Resource& r);

// {"disk":0.0,"mem":32.0,"gpus":0.0,"cpus":0.1,"ports":"[31000-32000]"}: the form of the old endpoints. `of` chooses
// amounts; revocable ones are named "cpus_revocable".
using Which = bool (*)(const Amount&, std::string_view role);
void write_resources(std::string& out, const Sums& sums, Which of = nullptr, std::string_view role = {});
// {"cpus":4.0,"ports":1001.0}: amounts alone, names in order, nothing that is zero.
void write_quantities(std::string& out, const Sums& sums, Which of = nullptr, std::string_view role = {});
// As v1 resources, in both forms of a reservation.
[[nodiscard]] std::vector<std::unique_ptr<fb::ResourceT>> to_messages(const Sums& sums, Which of = nullptr,
                                                                      std::string_view role = {});
// Adds the old form to the new one.
void both_forms(fb::ResourceT& r);

// ---- JSON, as Mesos writes it
void write_number(std::string& out, double value);  // 4.0, 0.1, 1795361295.8428817
void write_scalar(std::string& out, std::int64_t thousandths);

}  // namespace gantry::gateway_mesos
