// What a figure is, and how it is printed: `name value unit p50 p99 runs`.
#pragma once

#include <cstddef>
#include <functional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace gantry::bench {

struct Settings {
  bool smoke = false;    // tiny sizes, one run: only that it works
  unsigned runs = 0;     // 0: the figure's own number
  std::string bin_dir;   // where gantryd, gantry-supervisor and gantry-bench-floor lie
  [[nodiscard]] unsigned repeat(unsigned usual) const { return smoke ? 1 : runs ? runs : usual; }
  [[nodiscard]] std::size_t size(std::size_t full, std::size_t tiny) const { return smoke ? tiny : full; }
};

class Report {
 public:
  explicit Report(std::set<std::string, std::less<>> wanted) : wanted_(std::move(wanted)) {}
  [[nodiscard]] bool wants(std::string_view name) const { return wanted_.contains(name); }
  // One value a run: value and p50 are their median, p99 the worst of a hundred.
  void value(std::string_view name, std::string_view unit, const std::vector<double>& runs) const { line(name, unit, median_of(runs), runs, runs.size()); }
  // Single latencies, a list a run: value is the median of the runs' medians, p50 and p99 are over all of them.
  void latencies(std::string_view name, std::string_view unit, const std::vector<std::vector<double>>& runs) const;
  void skipped(std::string_view name, std::string_view why) const;

  [[nodiscard]] static double median_of(std::vector<double> v);
  [[nodiscard]] static double percentile(std::vector<double> v, double p);

 private:
  void line(std::string_view name, std::string_view unit, double value, const std::vector<double>& all, std::size_t runs) const;
  std::set<std::string, std::less<>> wanted_;
};

// Figures measured together. Each group runs in a process of its own, so that memory figures are its own. Throws
// std::exception when it cannot measure.
struct Group {
  std::vector<std::string> names;
  void (*run)(const Settings&, const Report&);
};

void run_allocate(const Settings&, const Report&);
void run_allocate_filtered(const Settings&, const Report&);
void run_allocate_quota(const Settings&, const Report&);
void run_control_plane(const Settings&, const Report&);
void run_accept_to_running(const Settings&, const Report&);
void run_place_100k(const Settings&, const Report&);
void run_place_1m(const Settings&, const Report&);
void run_launch(const Settings&, const Report&);
void run_daemons(const Settings&, const Report&);
void run_module_call(const Settings&, const Report&);
void run_bad_neighbour(const Settings&, const Report&);
// Where gateway/mesos is built.
void run_mesos_life_cycles_protobuf(const Settings&, const Report&);
void run_mesos_life_cycles_json(const Settings&, const Report&);
void run_mesos_latency_protobuf(const Settings&, const Report&);
void run_mesos_latency_json(const Settings&, const Report&);
void run_mesos_reads(const Settings&, const Report&);

}  // namespace gantry::bench
