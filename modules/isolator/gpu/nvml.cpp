#include "nvml.hpp"

#include "nvml_api.hpp"

#include <dlfcn.h>

#include <algorithm>
#include <array>
#include <mutex>

namespace gantry::isolator_gpu {

struct Nvml::Functions {
  void* library = nullptr;
  bool begun = false;

  int (*init)() = nullptr;
  int (*shutdown)() = nullptr;
  const char* (*error_string)(int) = nullptr;
  int (*driver_version)(char*, unsigned) = nullptr;
  int (*count)(unsigned*) = nullptr;
  int (*by_index)(unsigned, nvml::Device*) = nullptr;
  int (*by_uuid)(const char*, nvml::Device*) = nullptr;
  int (*uuid)(nvml::Device, char*, unsigned) = nullptr;
  int (*name)(nvml::Device, char*, unsigned) = nullptr;
  int (*minor)(nvml::Device, unsigned*) = nullptr;
  int (*memory)(nvml::Device, nvml::Memory*) = nullptr;
  int (*utilization)(nvml::Device, nvml::Utilization*) = nullptr;
  // Optional: without them only what the library says of a card when asked is known.
  int (*make_events)(nvml::EventSet*) = nullptr;
  int (*listen)(nvml::Device, unsigned long long, nvml::EventSet) = nullptr;
  int (*wait)(nvml::EventSet, nvml::EventData*, unsigned) = nullptr;
  int (*free_events)(nvml::EventSet) = nullptr;

  std::mutex mutex;  // of what is below
  nvml::EventSet events = nullptr;
  std::map<std::string, std::string> xids;  // uuid -> what it told
  std::vector<Card> last;                   // as they were when they could still be asked

  [[nodiscard]] std::string text(int code) const {
    const char* t = error_string ? error_string(code) : nullptr;
    return t ? t : "error " + std::to_string(code);
  }
  template <class F>
  bool find(const char* symbol, F& function) {
    function = reinterpret_cast<F>(::dlsym(library, symbol));
    return function != nullptr;
  }
  void listen_to_cards();
  void take_events();
};

// Which numbers are a program's own fault is told in NVIDIA's catalogue of Xid errors.
bool xid_is_of_the_card(std::uint64_t xid) {
  constexpr std::array<std::uint64_t, 6> of_programs{13, 31, 43, 45, 68, 109};  // exceptions, page faults, preemption, time-outs
  return std::find(of_programs.begin(), of_programs.end(), xid) == of_programs.end();
}

Nvml::Nvml() : functions_(std::make_unique<Functions>()) {}

Nvml::~Nvml() {
  Functions& f = *functions_;
  if (f.events && f.free_events) f.free_events(f.events);
  if (f.begun) f.shutdown();
  if (f.library) ::dlclose(f.library);
}

Result<std::shared_ptr<Nvml>> Nvml::load(const std::string& library) {
  std::shared_ptr<Nvml> out(new Nvml);
  Functions& f = *out->functions_;
  // It stays mapped: not every driver survives being unloaded.
  f.library = ::dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (!f.library) return fail(Code::not_found, "there is no NVIDIA driver here: " + std::string(::dlerror()));
  const bool complete = f.find("nvmlInit_v2", f.init) && f.find("nvmlShutdown", f.shutdown) && f.find("nvmlErrorString", f.error_string) &&
                        f.find("nvmlSystemGetDriverVersion", f.driver_version) && f.find("nvmlDeviceGetCount_v2", f.count) &&
                        f.find("nvmlDeviceGetHandleByIndex_v2", f.by_index) && f.find("nvmlDeviceGetHandleByUUID", f.by_uuid) &&
                        f.find("nvmlDeviceGetUUID", f.uuid) && f.find("nvmlDeviceGetName", f.name) &&
                        f.find("nvmlDeviceGetMinorNumber", f.minor) && f.find("nvmlDeviceGetMemoryInfo", f.memory) &&
                        f.find("nvmlDeviceGetUtilizationRates", f.utilization);
  if (!complete) return fail(Code::unavailable, library + " is not NVIDIA's management library, or older than its version 5");
  const bool events = f.find("nvmlEventSetCreate", f.make_events) && f.find("nvmlDeviceRegisterEvents", f.listen) &&
                      f.find("nvmlEventSetWait_v2", f.wait) && f.find("nvmlEventSetFree", f.free_events);
  if (!events) f.make_events = nullptr;
  if (const int code = f.init(); code != nvml::success)
    return fail(Code::unavailable, "the NVIDIA driver does not answer: " + f.text(code));
  f.begun = true;
  f.listen_to_cards();
  return out;
}

void Nvml::Functions::listen_to_cards() {
  unsigned n = 0;
  if (!make_events || count(&n) != nvml::success || make_events(&events) != nvml::success) return;
  for (unsigned i = 0; i < n; ++i) {
    nvml::Device device = nullptr;
    // Cards that cannot tell are asked all the same, by cards().
    if (by_index(i, &device) == nvml::success) (void)listen(device, nvml::event_xid_critical, events);
  }
}

void Nvml::Functions::take_events() {
  // A card in trouble may tell the same without end; what is not taken now is taken next time.
  for (int i = 0; events && i < 100; ++i) {
    nvml::EventData event{};
    if (wait(events, &event, 0) != nvml::success) return;
    char id[nvml::uuid_size] = {};
    if (event.type != nvml::event_xid_critical || !xid_is_of_the_card(event.data) || uuid(event.device, id, sizeof id) != nvml::success)
      continue;
    xids.try_emplace(id, "it told of a critical error, Xid " + std::to_string(event.data) +
                             "; see the kernel's log, and start the agent again when it is repaired");
  }
}

Result<std::vector<Card>> Nvml::cards() {
  Functions& f = *functions_;
  const std::lock_guard lock(f.mutex);
  f.take_events();
  unsigned n = 0;
  if (const int code = f.count(&n); code != nvml::success)
    return fail(Code::unavailable, "the NVIDIA driver does not count its cards: " + f.text(code));
  std::vector<Card> out;
  for (unsigned i = 0; i < n; ++i) {
    nvml::Device device = nullptr;
    char id[nvml::uuid_size] = {}, name[nvml::name_size] = {};
    Card card;
    card.index = i;
    nvml::Memory memory{};
    int code = f.by_index(i, &device);
    if (code == nvml::success) code = f.uuid(device, id, sizeof id);
    if (code == nvml::success) code = f.minor(device, &card.minor);
    if (code == nvml::success) code = f.memory(device, &memory);  // the first to fail on a card that fell off its bus
    if (code != nvml::success) card.problem = f.text(code);
    if (f.name && device && f.name(device, name, sizeof name) == nvml::success) card.name = name;
    card.uuid = id;
    if (card.uuid.empty()) {  // known by its place, if we saw it while it could tell its name
      const auto before = std::find_if(f.last.begin(), f.last.end(), [&](const Card& c) { return c.index == i; });
      if (before == f.last.end()) continue;
      card.uuid = before->uuid;
      card.minor = before->minor;
      card.name = before->name;
    }
    if (const auto xid = f.xids.find(card.uuid); xid != f.xids.end() && card.problem.empty()) card.problem = xid->second;
    out.push_back(std::move(card));
  }
  // Some drivers leave a lost card out of the count.
  for (const auto& before : f.last)
    if (std::none_of(out.begin(), out.end(), [&](const Card& c) { return c.uuid == before.uuid; })) {
      out.push_back(before);
      out.back().problem = "the driver does not have it any more";
    }
  f.last = out;
  return out;
}

Result<CardUse> Nvml::use(const std::string& uuid) {
  Functions& f = *functions_;
  nvml::Device device = nullptr;
  nvml::Memory memory{};
  nvml::Utilization busy{};
  int code = f.by_uuid(uuid.c_str(), &device);
  if (code == nvml::success) code = f.memory(device, &memory);
  if (code != nvml::success) return fail(Code::unavailable, "card " + uuid + ": " + f.text(code));
  CardUse out{0, memory.used, memory.total};
  if (f.utilization(device, &busy) == nvml::success) out.utilization = busy.gpu / 100.0;  // some cards do not measure it
  return out;
}

std::string Nvml::driver_version() const {
  char version[nvml::version_size] = {};
  return functions_->driver_version(version, sizeof version) == nvml::success ? version : "";
}

}  // namespace gantry::isolator_gpu
