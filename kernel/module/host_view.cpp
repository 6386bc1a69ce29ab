// Modules as an operator asks about them.
#include "kernel/base/log_tail.hpp"
#include "kernel/config/convert.hpp"
#include "kernel/config/suggest.hpp"
#include "kernel/module/host.hpp"

#include <algorithm>

namespace gantry::module {

fb::control::ModuleT ModuleHost::describe(const Item& item) const {
  fb::control::ModuleT m;
  m.kind = item.config.kind;
  m.name = item.config.name;
  m.version = item.config.manifest.version;
  m.host = item.config.host;
  m.path = item.config.path;
  m.state = to_string(item.instance ? item.instance->state() : State::not_for_role);
  if (item.instance) {
    m.message = item.retry ? crash_text(item) : item.instance->message();
    const Facts facts = item.instance->facts();
    m.build = facts.build;
    m.revision = facts.revision;
    const Counters c = item.instance->counters();
    m.calls = c.calls;
    m.faults = c.faults;
    m.slow = c.slow;
    m.restarts = c.restarts;
  }
  return m;
}

std::vector<fb::control::ModuleT> ModuleHost::list() const {
  std::vector<fb::control::ModuleT> out;
  for (const auto& item : items_) out.push_back(describe(*item));
  return out;
}

Result<const ModuleHost::Item*> ModuleHost::look(std::string_view id) const {
  std::vector<std::string> ids;
  for (const auto& item : items_) {
    if (item->config.id() == id) return item.get();
    ids.push_back(item->config.id());
  }
  const std::string hint = config::did_you_mean(id, ids);
  return fail(Code::not_found, "this daemon has no module " + std::string(id) +
                                   (hint.empty() ? "; `gantry module list` shows those it has" : hint));
}

Result<fb::control::ModuleDetailT> ModuleHost::detail(std::string_view id, std::size_t log_lines) const {
  GANTRY_TRY(const Item* item, look(id));
  const config::ModuleConfig& c = item->config;
  fb::control::ModuleDetailT out;
  out.module_ = std::make_unique<fb::control::ModuleT>(describe(*item));
  out.manifest = c.manifest.text;
  for (const config::Field& f : c.manifest.fields) {
    const fb::SettingT* value = c.settings.find(f.key);
    if (!value) continue;
    auto s = std::make_unique<fb::control::ModuleSettingT>();
    s->key = f.key;
    if (!f.secret) s->value = config::to_toml(f, *value);
    s->given = value->given;
    s->secret = f.secret;
    s->reloadable = f.reloadable;
    s->doc = f.doc;
    out.settings.push_back(std::move(s));
  }
  out.log = base::log_tail(c.id(), log_lines);
  return out;
}

Result<Traces::Subject> ModuleHost::subject(std::string_view id) const {
  GANTRY_TRY(const Item* item, look(id));
  const config::ModuleConfig& c = item->config;
  if (!item->instance)
    return fail(Code::failed_precondition, c.id() + " is not for the roles of this daemon; nothing calls it here");
  Traces::Subject s;
  s.instance = item->instance.get();
  s.attach = [instance = item->instance.get()](Tracer* tracer) { instance->trace(tracer); };
  const Facts facts = item->instance->facts();
  s.header.kind = c.kind;
  s.header.name = c.name;
  s.header.revision = facts.revision;
  s.header.abi_major = GANTRY_ABI_MAJOR;
  s.header.abi_minor = GANTRY_ABI_MINOR;
  s.header.module_version = c.manifest.version;
  s.header.build = facts.build;
  s.header.host = c.host;
  s.header.configure = std::make_unique<fb::ConfigureT>(c.configure(false));
  s.header.configure->revision = facts.revision;
  s.header.configure->roles = setup_.roles;
  for (const config::Field& f : c.manifest.fields)
    if (f.secret) s.secret_keys.push_back(f.key);
  return s;
}

}  // namespace gantry::module
