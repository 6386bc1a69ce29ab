// blkio of version 1 and io of version 2: a weight among those who want a disk, ceilings per device, and what was moved.
#include "controller.hpp"

#include <algorithm>
#include <charconv>

namespace gantry::isolator_cgroups {
namespace {

// io.weight 1..10000 on the scale of BFQ, 1..1000; 100 is usual on both.
std::uint32_t bfq_weight(std::uint32_t weight) { return weight <= 100 ? weight : 100 + (weight - 100) * 900 / 9900; }

class Io final : public Controller {
 public:
  using Controller::Controller;

  Status open() override {
    if (!policy().io_weight) return ok;
    for (const char* name : {"io.weight", "io.bfq.weight", "blkio.bfq.weight"})
      if (file_exists(place().dir + "/" + name)) {
        weight_file_ = name;
        return ok;
      }
    return fail(Code::unavailable, "io_weight = " + std::to_string(policy().io_weight) +
                                       " has no effect: this kernel has neither the io.cost nor the bfq weights");
  }

  Status apply(const std::string& id, const Limits&) override {
    if (!weight_file_.empty())
      GANTRY_CHECK(write_file(file(id, weight_file_),
                              std::to_string(weight_file_ == "io.weight" ? policy().io_weight : bfq_weight(policy().io_weight))));
    for (const auto& max : policy().io_max) GANTRY_CHECK(v2() ? set_v2(id, max) : set_v1(id, max));
    return ok;
  }

  void measure(const std::string& id, fb::isolator::UsageT& u) const override {
    if (!v2()) {
      // "8:0 Read 4096", and a line "Total 8192" at the end.
      const auto sum = [&](const char* name, std::uint64_t& reads, std::uint64_t& writes) {
        const std::string text = read_file(file(id, name)).value_or("");
        for (const auto line : split(text, '\n')) {
          const auto words = split(line, ' ');
          if (words.size() != 3) continue;
          std::uint64_t n = 0;
          std::from_chars(words[2].data(), words[2].data() + words[2].size(), n);
          if (words[1] == "Read") reads += n;
          if (words[1] == "Write") writes += n;
        }
      };
      sum("blkio.throttle.io_service_bytes_recursive", u.io_read_bytes, u.io_write_bytes);
      sum("blkio.throttle.io_serviced_recursive", u.io_reads, u.io_writes);
      return;
    }
    // "8:0 rbytes=4096 wbytes=0 rios=1 wios=0 ..."
    const std::string text = read_file(file(id, "io.stat")).value_or("");
    for (const auto line : split(text, '\n'))
      for (const auto word : split(line, ' ')) {
        const auto equals = word.find('=');
        if (equals == word.npos) continue;
        std::uint64_t n = 0;
        std::from_chars(word.data() + equals + 1, word.data() + word.size(), n);
        const auto key = word.substr(0, equals);
        if (key == "rbytes") u.io_read_bytes += n;
        if (key == "wbytes") u.io_write_bytes += n;
        if (key == "rios") u.io_reads += n;
        if (key == "wios") u.io_writes += n;
      }
  }

 private:
  Status set_v1(const std::string& id, const IoMax& max) {
    const std::string device = std::to_string(max.major) + ":" + std::to_string(max.minor) + " ";
    const std::pair<const char*, const std::optional<std::uint64_t>&> files[] = {{"blkio.throttle.read_bps_device", max.read_bytes},
                                                                                 {"blkio.throttle.write_bps_device", max.write_bytes},
                                                                                 {"blkio.throttle.read_iops_device", max.reads},
                                                                                 {"blkio.throttle.write_iops_device", max.writes}};
    for (const auto& [name, value] : files)
      if (value) GANTRY_CHECK(write_file(file(id, name), device + std::to_string(*value)));
    return ok;
  }
  Status set_v2(const std::string& id, const IoMax& max) {
    std::string line = std::to_string(max.major) + ":" + std::to_string(max.minor);
    const std::pair<const char*, const std::optional<std::uint64_t>&> keys[] = {
        {" rbps=", max.read_bytes}, {" wbps=", max.write_bytes}, {" riops=", max.reads}, {" wiops=", max.writes}};
    for (const auto& [key, value] : keys)
      if (value) line += key + std::to_string(*value);
    return write_file(file(id, "io.max"), line);
  }

  std::string weight_file_;  // empty: no weight is asked for, or there is none
};

}  // namespace

std::unique_ptr<Controller> make_io(Place place, const Policy& policy) { return std::make_unique<Io>(std::move(place), policy); }

}  // namespace gantry::isolator_cgroups
