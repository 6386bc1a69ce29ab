#include "kernel/module/records.hpp"

#include "kernel/base/log.hpp"

#include <gantry/common_generated.h>

#include <algorithm>

namespace gantry::module {

bool LogBudget::take(base::Instant now, std::uint64_t& dropped) {
  const std::lock_guard lock(mutex_);
  dropped = 0;
  if (filled_.count() != 0)
    left_ = std::min(burst_, left_ + rate_ * std::chrono::duration<double>(now - filled_).count());
  filled_ = now;
  if (left_ < 1) {
    ++dropped_;
    return false;
  }
  --left_;
  dropped = std::exchange(dropped_, 0);
  return true;
}

void write_record(const std::string& id, std::uint32_t level, Bytes record) {
  const auto* r = view<fb::LogRecord>(record);
  if (!r) return base::log_warning(id, "sent a malformed log record");
  std::vector<base::LogField> fields;
  if (r->fields())
    for (const auto* f : *r->fields()) fields.push_back({text(f->key()), std::string(text(f->value()))});
  base::log(static_cast<base::Level>(std::min<std::uint32_t>(level, GANTRY_LOG_ERROR)), id, text(r->message()),
            fields.data(), fields.size());
}

}  // namespace gantry::module
