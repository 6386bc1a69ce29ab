// The part of NVML's binary interface that we use. The names, numbers and layouts are the library's; they have not changed
// since version 5 of it (2014), those with _v2 since 2018.
#pragma once

#include <cstdint>

namespace gantry::isolator_gpu::nvml {

using Device = struct DeviceHandle*;  // opaque
using EventSet = struct EventSetHandle*;

enum Return : int {
  success = 0,
  uninitialized = 1,
  invalid_argument = 2,
  not_supported = 3,
  no_permission = 4,
  not_found = 6,
  driver_not_loaded = 9,
  timeout = 10,
  gpu_is_lost = 15,
  reset_required = 16,
  unknown = 999
};

struct Memory {
  unsigned long long total, free, used;  // bytes
};
struct Utilization {
  unsigned gpu, memory;  // percent of the time
};
struct EventData {
  Device device;
  unsigned long long type, data;  // data: the number of an Xid
  unsigned gpu_instance, compute_instance;
};
inline constexpr unsigned long long event_xid_critical = 8;
inline constexpr unsigned uuid_size = 96, name_size = 96, version_size = 80;

}  // namespace gantry::isolator_gpu::nvml
