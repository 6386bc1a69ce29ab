// NVIDIA's management library as the tests need it. The file named by $GANTRY_FAKE_NVML is read at every call, one card a line:
//   uuid minor used total percent [lost] [xid=N]
// A line "init=CODE" makes nvmlInit fail. Every xid is told once.
#include "../nvml_api.hpp"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <mutex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

namespace nvml = gantry::isolator_gpu::nvml;

struct nvml::DeviceHandle {
  std::string uuid;
};
struct nvml::EventSetHandle {
  std::set<std::string> told;
};

namespace {

struct Line {
  std::string uuid;
  unsigned minor = 0, percent = 0;
  unsigned long long used = 0, total = 0, xid = 0;
  bool lost = false;
};

std::vector<Line> lines(int* init = nullptr) {
  std::vector<Line> out;
  const char* path = std::getenv("GANTRY_FAKE_NVML");
  std::ifstream in(path ? path : "");
  for (std::string text; std::getline(in, text);) {
    if (text.rfind("init=", 0) == 0) {
      if (init) *init = std::atoi(text.c_str() + 5);
      continue;
    }
    Line line;
    std::istringstream words(text);
    if (!(words >> line.uuid >> line.minor >> line.used >> line.total >> line.percent)) continue;
    for (std::string word; words >> word;) {
      if (word == "lost") line.lost = true;
      if (word.rfind("xid=", 0) == 0) line.xid = std::strtoull(word.c_str() + 4, nullptr, 10);
    }
    out.push_back(line);
  }
  return out;
}

// Handles live as long as the process, as the library's do.
nvml::Device handle(const std::string& uuid) {
  static std::mutex mutex;
  static std::vector<std::unique_ptr<nvml::DeviceHandle>> all;
  const std::lock_guard lock(mutex);
  for (const auto& d : all)
    if (d->uuid == uuid) return d.get();
  all.push_back(std::make_unique<nvml::DeviceHandle>(nvml::DeviceHandle{uuid}));
  return all.back().get();
}

int find(nvml::Device device, Line& out) {
  for (const auto& line : lines())
    if (line.uuid == device->uuid) {
      out = line;
      return line.lost ? nvml::gpu_is_lost : nvml::success;
    }
  return nvml::not_found;
}

int copy(const std::string& text, char* out, unsigned size) {
  std::snprintf(out, size, "%s", text.c_str());
  return nvml::success;
}

}  // namespace

#define EXPORT extern "C" __attribute__((visibility("default")))

EXPORT int nvmlInit_v2() {
  int code = nvml::success;
  (void)lines(&code);
  return code;
}
EXPORT int nvmlShutdown() { return nvml::success; }
EXPORT const char* nvmlErrorString(int code) {
  return code == nvml::gpu_is_lost ? "GPU is lost" : code == nvml::driver_not_loaded ? "Driver Not Loaded" : "Unknown Error";
}
EXPORT int nvmlSystemGetDriverVersion(char* out, unsigned size) { return copy("535.104.05", out, size); }
EXPORT int nvmlDeviceGetCount_v2(unsigned* out) {
  *out = static_cast<unsigned>(lines().size());
  return nvml::success;
}
EXPORT int nvmlDeviceGetHandleByIndex_v2(unsigned index, nvml::Device* out) {
  const auto all = lines();
  if (index >= all.size()) return nvml::invalid_argument;
  *out = handle(all[index].uuid);
  return nvml::success;
}
EXPORT int nvmlDeviceGetHandleByUUID(const char* uuid, nvml::Device* out) {
  for (const auto& line : lines())
    if (line.uuid == uuid) {
      *out = handle(uuid);
      return nvml::success;
    }
  return nvml::not_found;
}
EXPORT int nvmlDeviceGetUUID(nvml::Device device, char* out, unsigned size) { return copy(device->uuid, out, size); }
EXPORT int nvmlDeviceGetName(nvml::Device, char* out, unsigned size) { return copy("Fake card", out, size); }
EXPORT int nvmlDeviceGetMinorNumber(nvml::Device device, unsigned* out) {
  Line line;
  const int code = find(device, line);
  *out = line.minor;
  return code;
}
EXPORT int nvmlDeviceGetMemoryInfo(nvml::Device device, nvml::Memory* out) {
  Line line;
  const int code = find(device, line);
  *out = {line.total, line.total - line.used, line.used};
  return code;
}
EXPORT int nvmlDeviceGetUtilizationRates(nvml::Device device, nvml::Utilization* out) {
  Line line;
  const int code = find(device, line);
  *out = {line.percent, 0};
  return code;
}
EXPORT int nvmlEventSetCreate(nvml::EventSet* out) {
  *out = new nvml::EventSetHandle;
  return nvml::success;
}
EXPORT int nvmlDeviceRegisterEvents(nvml::Device, unsigned long long, nvml::EventSet) { return nvml::success; }
EXPORT int nvmlEventSetWait_v2(nvml::EventSet set, nvml::EventData* out, unsigned) {
  for (const auto& line : lines())
    if (line.xid && set->told.insert(line.uuid + " " + std::to_string(line.xid)).second) {
      *out = {handle(line.uuid), nvml::event_xid_critical, line.xid, 0, 0};
      return nvml::success;
    }
  return nvml::timeout;
}
EXPORT int nvmlEventSetFree(nvml::EventSet set) {
  delete set;
  return nvml::success;
}
