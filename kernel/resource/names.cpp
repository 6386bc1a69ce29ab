#include "kernel/resource/names.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <unordered_map>

namespace gantry::resource {
namespace {

// Texts live in chunks that never move, so text_of() needs no lock. Ids start at 1.
class Interner {
 public:
  struct Entry {
    std::string text;
    std::uint32_t parent = 0;
  };

  // parent_of_text(text) gives the text whose id becomes the parent; empty for none.
  template <class P>
  std::uint32_t intern(std::string_view text, P parent_of_text) {
    if (text.empty()) return 0;
    {
      std::shared_lock lock(mutex_);
      if (const auto it = ids_.find(text); it != ids_.end()) return it->second;
    }
    const std::uint32_t parent = intern_parent(parent_of_text(text), parent_of_text);
    std::unique_lock lock(mutex_);
    if (const auto it = ids_.find(text); it != ids_.end()) return it->second;
    const std::uint32_t id = count_.load(std::memory_order_relaxed) + 1;
    if (id >= kChunk * kChunks) return 0;  // out of ids: callers answer RESOURCE_EXHAUSTED
    if (!chunks_[id / kChunk].load(std::memory_order_relaxed)) {
      owned_[id / kChunk] = std::make_unique<std::array<Entry, kChunk>>();
      chunks_[id / kChunk].store(owned_[id / kChunk].get(), std::memory_order_release);
    }
    Entry& e = (*owned_[id / kChunk])[id % kChunk];
    e.text = text;
    e.parent = parent;
    ids_.emplace(e.text, id);
    count_.store(id, std::memory_order_release);
    return id;
  }
  [[nodiscard]] const Entry* find(std::uint32_t id) const {
    if (id == 0 || id > count_.load(std::memory_order_acquire)) return nullptr;
    return &(*chunks_[id / kChunk].load(std::memory_order_acquire))[id % kChunk];
  }

 private:
  template <class P>
  std::uint32_t intern_parent(std::string_view parent, P p) { return parent.empty() ? 0 : intern(parent, p); }

  static constexpr std::uint32_t kChunk = 1024;
  static constexpr std::uint32_t kChunks = 16384;
  std::shared_mutex mutex_;
  std::unordered_map<std::string_view, std::uint32_t> ids_;
  std::atomic<std::uint32_t> count_{0};
  std::array<std::atomic<std::array<Entry, kChunk>*>, kChunks> chunks_{};
  std::array<std::unique_ptr<std::array<Entry, kChunk>>, kChunks> owned_;
};

std::string_view no_parent(std::string_view) { return {}; }
std::string_view role_parent(std::string_view role) {
  const auto slash = role.rfind('/');
  return slash == std::string_view::npos ? std::string_view() : role.substr(0, slash);
}

// Never destroyed: ids and texts stay valid while static objects are torn down.
Interner& names() {
  static Interner& instance = []() -> Interner& {
    auto* i = new Interner;
    for (const auto* n : {"cpus", "mem", "disk", "ports", "gpus"}) i->intern(n, no_parent);  // the order of NameId
    return *i;
  }();
  return instance;
}
Interner& roles() {
  static Interner& instance = []() -> Interner& {
    auto* i = new Interner;
    i->intern("*", no_parent);
    return *i;
  }();
  return instance;
}

}  // namespace

NameId intern_name(std::string_view text) { return static_cast<NameId>(names().intern(text, no_parent)); }
RoleId intern_role(std::string_view text) { return static_cast<RoleId>(roles().intern(text, role_parent)); }

std::string_view text_of(NameId id) {
  const auto* e = names().find(static_cast<std::uint32_t>(id));
  return e ? std::string_view(e->text) : std::string_view();
}
std::string_view text_of(RoleId id) {
  const auto* e = roles().find(static_cast<std::uint32_t>(id));
  return e ? std::string_view(e->text) : std::string_view();
}
RoleId parent_of(RoleId id) {
  const auto* e = roles().find(static_cast<std::uint32_t>(id));
  return e ? static_cast<RoleId>(e->parent) : RoleId::none;
}
bool is_within(RoleId role, RoleId ancestor) {
  for (; role != RoleId::none; role = parent_of(role)) {
    if (role == ancestor) return true;
  }
  return false;
}

Status validate_role(std::string_view role) {
  const auto bad = [role](std::string_view why) {
    return fail(Code::invalid_argument, "role '" + std::string(role) + "' " + std::string(why));
  };
  if (role.empty()) return fail(Code::invalid_argument, "role is empty; use '*' for the default role");
  if (role == "*") return ok;
  if (role.size() > 1024) return fail(Code::invalid_argument, "role is longer than 1024 characters");
  for (const char c : role) {
    const auto u = static_cast<unsigned char>(c);
    if (u <= 0x20 || u == 0x7f) return bad("has white space or a control character");
  }
  for (std::size_t begin = 0; begin <= role.size();) {
    const std::size_t end = std::min(role.find('/', begin), role.size());
    const std::string_view part = role.substr(begin, end - begin);
    if (part.empty()) return bad("has an empty part between slashes");
    if (part == "." || part == "..") return bad("has a part '.' or '..'");
    if (part.front() == '-') return bad("has a part that starts with '-'");
    if (part == "*") return bad("has a part '*', which is only allowed alone");
    begin = end + 1;
  }
  return ok;
}

}  // namespace gantry::resource
