// Rules that look at more than one setting.
#include "kernel/config/builder.hpp"
#include "kernel/config/convert.hpp"
#include "kernel/resource/fault_domain.hpp"
#include "kernel/resource/resources.hpp"

#include <algorithm>

namespace gantry::config {
namespace {

Where place_of(const std::map<std::string, Where>& where_of, const std::string& key, const Where& otherwise) {
  const auto it = where_of.find(key);
  return it == where_of.end() ? otherwise : it->second;
}

std::string kind_of(const std::string& id) { return id.substr(0, id.find('.')); }

}  // namespace

void Builder::address_rules(const Manifest& manifest, const Values& values,
                            const std::map<std::string, Where>& where_of, const std::string& title,
                            const Where& where) {
  for (const Field& f : manifest.fields) {
    if (f.type != Type::address) continue;
    const fb::SettingT* address = values.find(f.key);
    if (!address || is_loopback(address->text)) continue;
    const auto dot = f.key.rfind('.');
    const std::string prefix = dot == std::string::npos ? "" : f.key.substr(0, dot + 1);
    const fb::SettingT* insecure = values.find(prefix + "insecure");
    const fb::SettingT* realm = values.find(prefix + "realm");
    const fb::SettingT* authenticate = manifest.kind == "kernel" ? values.find("authenticate") : nullptr;
    // A module that judges credentials itself: whom it asks for them. It refuses to start if that leaves something open.
    const fb::SettingT* asks = manifest.kind != "kernel" ? values.find(prefix + "authenticate") : nullptr;
    if ((insecure && insecure->flag) || (realm && !realm->text.empty()) || (authenticate && authenticate->flag) ||
        (asks && !asks->items.empty()))
      continue;
    std::string remedy;
    if (authenticate) remedy += "set authenticate = true";
    if (realm) remedy += "set " + prefix + "realm";
    if (asks) remedy += (remedy.empty() ? "set " : ", or set ") + prefix + "authenticate";
    if (insecure) remedy += (remedy.empty() ? "write " : ", or write ") + prefix + "insecure = true if that is meant";
    error(place_of(where_of, f.key, where), title + "." + f.key + ": " + address->text +
                                                " is reachable from other machines without authentication; " +
                                                (remedy.empty() ? "use a loopback address" : remedy));
  }
}

void Builder::rules(const Node* kernel_table) {
  const Values& k = config_->kernel_;
  const auto& where_of = config_->kernel_where_;
  const Where kernel_where = kernel_table ? kernel_table->key_where : Where{options_.file, 0, 0};
  const auto at = [&](const std::string& key) { return place_of(where_of, key, kernel_where); };

  address_rules(kernel_manifest(), k, where_of, "kernel", kernel_where);
  for (const ModuleConfig& m : config_->modules_) address_rules(m.manifest, m.settings, m.where_of, m.id(), m.where);

  if (k.text("control").size() > 107)
    error(at(k.given("control") ? "control" : "work_dir"),
          "kernel.control: a unix socket's path has at most 107 characters, got " + k.text("control") +
              "; set control to a shorter path");
  if (k.text("work_dir").empty()) error(at("work_dir"), "kernel.work_dir: expected an absolute path, got \"\"");
  if (const auto r = resource::Resources::parse(k.text("resources")); !r)
    error(at("resources"), "kernel.resources: " + r.error().message);
  if (const auto a = resource::parse_attributes(k.text("attributes")); !a)
    error(at("attributes"), "kernel.attributes: " + a.error().message);
  if (const auto d = resource::parse_fault_domain(k.text("domain")); !d) error(at("domain"), "kernel.domain: " + d.error().message);
  for (const std::string& dir : k.list("module_dirs")) {
    if (!dir.starts_with('/'))
      error(at("module_dirs"), "kernel.module_dirs: expected absolute paths, got \"" + dir + "\"");
  }
  if (k.number("status_retry_max") < k.number("status_retry_min"))
    error(at(k.given("status_retry_max") ? "status_retry_max" : "status_retry_min"),
          "kernel.status_retry_max is below status_retry_min");
  if (k.number("registration_backoff_max") < k.number("registration_backoff"))
    error(at(k.given("registration_backoff_max") ? "registration_backoff_max" : "registration_backoff"),
          "kernel.registration_backoff_max is below registration_backoff");
  if (k.text("principal").empty() != k.text("secret_file").empty())
    error(at(k.text("principal").empty() ? "secret_file" : "principal"),
          "kernel.principal and kernel.secret_file belong together: give both or none");

  // What a role needs. When a file could not be read, what is missing may stand there.
  const auto count = [&](std::string_view kind) {
    return std::count_if(mentioned_.begin(), mentioned_.end(), [&](const auto& m) { return kind_of(m.first) == kind; });
  };
  const bool master = config_->master(), agent = config_->agent();
  struct Need {
    const char* kind;
    bool wanted;
  };
  // "[kind.name]" of a module that lies ready, or how to write it.
  const auto table = [&](const std::string& kind) {
    const auto names = available_modules(k.list("module_dirs"), kind);
    return "[" + kind + "." + (names.empty() ? "NAME" : names.front()) + "]";
  };
  for (const Need& need : {Need{"allocator", master}, Need{"store", master}, Need{"election", master || agent}}) {
    if (count(need.kind) == 0 && need.wanted && !broken_)
      error(kernel_where, std::string(master ? "a master" : "an agent") + " needs one " + need.kind +
                              " module and there is none; add " + table(need.kind));
    bool first = true;
    for (const auto& [id, where] : mentioned_) {
      if (kind_of(id) != need.kind) continue;
      if (!first)
        error(where, "there can be only one " + std::string(need.kind) + ", and " + id +
                         " is the second; remove one or set disabled = true");
      first = false;
    }
  }
  if (agent && count("isolator") == 0 && !broken_)
    warning(kernel_where,
            "no isolator is configured: tasks of this agent run without limits; add " + table("isolator"));
  if (master && k.flag("authenticate") && count("authenticator") == 0 && !broken_)
    error(at("authenticate"),
          "kernel.authenticate needs an authenticator module and there is none; add " + table("authenticator"));

  for (const ModuleConfig& m : config_->modules_) {
    const bool serves =
        std::any_of(m.roles.begin(), m.roles.end(), [&](const std::string& r) { return m.manifest.for_role(r); });
    if (!serves) continue;
    for (const std::string& need : m.manifest.needs) {
      const bool there = std::any_of(mentioned_.begin(), mentioned_.end(), [&](const auto& other) {
        return other.first == need || kind_of(other.first) == need;
      });
      if (!there && !broken_) {
        const bool specific = need.find('.') != std::string::npos;
        error(m.where, m.id() + " needs " + (specific ? "the module " : "a module of kind ") + need +
                           " and there is none; add [" + need + (specific ? "]" : ".NAME]"));
      }
    }
  }
}

}  // namespace gantry::config
