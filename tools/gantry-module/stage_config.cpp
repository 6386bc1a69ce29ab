// Stage 3: settings, from the fields the manifest declares.
#include "tools/gantry-module/kit.hpp"

#include <algorithm>
#include <limits>

namespace gantry::kit {
namespace {

using fb::SettingType;

fb::SettingT* find(fb::ConfigureT& c, const std::string& key) {
  for (auto& s : c.settings)
    if (s->key == key) return s.get();
  return nullptr;
}

// A CONFIGURE sent as it is, completed somehow. An instance may refuse a second first CONFIGURE, so each gets a fresh one.
template <class Body>
Status send(Subject& s, Check& check, const Body& body, const std::string& what) {
  const auto p = s.open(GANTRY_METHOD_CONFIGURE, body);
  const std::uint32_t crashes = s.crashes();
  p.wait(5s);
  if (!p.done()) check.fail(what + ": CONFIGURE is not completed within 5 s", "complete CONFIGURE, whatever it holds");
  check.require(p.done() && s.crashes() == crashes);  // a crash is reported at the end
  return p.result();
}

void renew(Subject& s, Check& check) {
  (void)s.down();
  check.require(check.ok(s.create(), "create"));
}

void defaults(Env& env, Check& check) {
  env.needs_settings(check);
  Subject& s = env.subject(check);
  check.require(check.ok(s.configure(), "CONFIGURE with the manifest's defaults and [settings]"));
  check.require(check.ok(s.start(), "START"));
  const auto h = s.health();
  if (check.ok(h, "HEALTH") && h->state != fb::HealthState::OK)
    check.notes.push_back("health: " + std::string(fb::EnumNameHealthState(h->state)) + " " + h->message);
}

SettingType other(SettingType t) {
  return t == SettingType::STRING || t == SettingType::LIST || t == SettingType::MAP ? SettingType::INT : SettingType::STRING;
}

void wrong_type(Env& env, Check& check) {
  if (env.target.manifest.fields.empty()) check.skip("it declares no settings");
  env.needs_settings(check);
  Subject& s = env.subject(check);
  bool refuses = false;
  std::vector<Failure> accepted;
  for (const auto& field : env.target.manifest.fields) {
    fb::ConfigureT c = s.configuration();
    auto* setting = find(c, field.key);
    const SettingType right = setting->type;
    *setting = fb::SettingT();
    setting->key = field.key;
    setting->type = other(right);
    setting->given = true;
    setting->text = setting->type == SettingType::STRING ? "not of this type" : "";
    setting->number = 7;
    const std::string what = "setting " + field.key + " (" + std::string(to_string(field.type)) + ") given as " + fb::EnumNameSettingType(setting->type);
    const Status r = send(s, check, c, what);
    refuses |= !r;
    if (r) accepted.push_back({what + " was accepted", "answer INVALID_ARGUMENT with Error.key_path = \"" + field.key + "\"; compare Setting.type before you read the value"});
    else if (r.error().code != Code::invalid_argument) check.code(r, Code::invalid_argument, what);
    else if (r.error().key_path != field.key && r.error().message.find(field.key) == std::string::npos)
      check.fail(what + ": the error names key_path \"" + r.error().key_path + "\" and says \"" + r.error().message + "\"",
                 "put the key into Error.key_path: the daemon shows file and line for it");
    renew(s, check);
  }
  // Who refuses one looks at types; what it accepts then is a setting it does not read, and that the kernel does.
  if (!refuses)
    for (auto& f : accepted) check.failures.push_back(std::move(f));
  else if (!accepted.empty())
    check.notes.push_back(std::to_string(accepted.size()) + " settings seem not to be read, the first: " + accepted.front().what);
}

// Values the manifest forbids never come from a daemon; a module may trust that, but must not break.
void out_of_range(Env& env, Check& check) {
  Subject& s = env.subject(check);
  int tried = 0;
  const auto attempt = [&](const std::string& key, const std::string& value, auto&& set) {
    fb::ConfigureT c = s.configuration();
    auto* setting = find(c, key);
    setting->given = true;
    set(*setting);
    ++tried;
    const Status r = send(s, check, c, "setting " + key + " = " + value);
    if (!r && r.error().code == Code::internal) check.code(r, Code::invalid_argument, "setting " + key + " = " + value);
    if (r && s.start()) check.that(s.health().has_value(), "with " + key + " = " + value + " accepted, HEALTH is answered");
    renew(s, check);
  };
  env.needs_settings(check);
  for (const auto& f : env.target.manifest.fields) {
    if (!f.choices.empty())
      attempt(f.key, "a text that is no choice", [](fb::SettingT& x) { x.text = "no such choice", x.items = {"no such choice"}; });
    const bool real = f.type == config::Type::real;
    if (f.min) attempt(f.key, "below its minimum", [&](fb::SettingT& x) { real ? void(x.real = *f.min - 1) : void(x.number = static_cast<std::int64_t>(*f.min) - 1); });
    if (f.max) attempt(f.key, "above its maximum", [&](fb::SettingT& x) { real ? void(x.real = *f.max + 1) : void(x.number = static_cast<std::int64_t>(*f.max) + 1); });
  }
  if (tried == 0) check.skip("no setting has a range or choices");
}

void unknown_key(Env& env, Check& check) {
  env.needs_settings(check);
  Subject& s = env.subject(check);
  fb::ConfigureT c = s.configuration();
  auto extra = std::make_unique<fb::SettingT>();
  extra->key = "zz_of_a_newer_manifest";
  extra->text = "x";
  c.settings.push_back(std::move(extra));
  check.ok(send(s, check, c, "an unknown setting"), "CONFIGURE with one more setting than the manifest declares");
}

void missing_keys(Env& env, Check& check) {
  Subject& s = env.subject(check);
  fb::ConfigureT c = s.configuration();
  c.settings.clear();
  (void)send(s, check, c, "no setting at all");
  renew(s, check);
  (void)send(s, check, empty_table(), "no field at all");
}

void garbage(Env& env, Check& check) {
  Subject& s = env.subject(check);
  Random random = env.random("config.garbage");
  const Buffer good = pack(s.configuration());
  check.code(s.call(GANTRY_METHOD_CONFIGURE, Buffer()), Code::invalid_argument, "CONFIGURE without a body");
  const std::vector<std::uint8_t> noise(64, 0xff);
  check.code(s.call(GANTRY_METHOD_CONFIGURE, Bytes(noise)), Code::invalid_argument, "CONFIGURE with 64 bytes 0xff");
  for (int i = 0; i < 30; ++i) {
    const Buffer bad = broken(good, random);
    // One that still verifies may name any directory of this machine.
    if (verifies(*schema("common"), "gantry.fb.Configure", bad)) continue;
    if (!check.code(send(s, check, bad, "a damaged body"), Code::invalid_argument, "CONFIGURE with a body that does not verify")) return;
  }
}

void reload(Env& env, Check& check) {
  Subject& s = env.running(check);
  check.ok(s.configure({}, true), "CONFIGURE with reload = true and the settings that are in force");
  // Each reloadable setting alone, with a value next to its own.
  for (const auto& key : s.declared().reloadable) {
    fb::ConfigureT c = s.configuration({}, true);
    auto* x = find(c, key);
    const config::Field* f = env.target.manifest.field(key);
    x->given = true;
    if (x->type == SettingType::BOOL) x->flag = !x->flag;
    else if (x->type == SettingType::INT || x->type == SettingType::DURATION || x->type == SettingType::SIZE) {
      x->number += f && f->max && static_cast<double>(x->number) + 1 > *f->max ? -1 : 1;
      if (x->type == SettingType::INT) x->real = static_cast<double>(x->number);
    } else if (x->type == SettingType::STRING && f && !f->choices.empty()) x->text = f->choices.back();
    else continue;
    check.ok(send(s, check, c, "reload of " + key), "reload of " + key + ", which the manifest calls reloadable");
  }
  check.ok(s.health(), "HEALTH after the reloads");
}

void bad_reload(Env& env, Check& check) {
  Subject& s = env.running(check);
  const std::vector<std::uint8_t> noise(64, 0xff);
  check.code(s.call(GANTRY_METHOD_CONFIGURE, Bytes(noise)), Code::invalid_argument, "a reload that does not verify");
  check.ok(s.health(), "HEALTH after a refused reload");
  check.ok(s.configure({}, true), "a good reload after a refused one");
}

}  // namespace

void add_config_tests(const Target&, std::vector<Test>& tests) {
  const auto add = [&](const char* name, const char* must, const char* remedy, void (*run)(Env&, Check&)) {
    tests.push_back({std::string("config.") + name, 3, must, remedy, run, true, true});
  };
  add("defaults", "it configures and starts with its defaults", "correct the defaults in module.toml, or give what a desk lacks in conformance.toml", defaults);
  add("wrong_type", "a setting of another type than declared is refused, naming its key", "answer INVALID_ARGUMENT with key_path", wrong_type);
  add("out_of_range", "a value outside its range breaks nothing", "refuse it or bear it", out_of_range);
  add("unknown_key", "settings it does not know are ignored", "look settings up by key; do not count them", unknown_key);
  add("missing_keys", "missing settings break nothing", "treat an absent key as its default, or answer INVALID_ARGUMENT with key_path", missing_keys);
  add("garbage", "a CONFIGURE that does not verify is refused with INVALID_ARGUMENT", "verify the body before you read it (the wrappers do)", garbage);
  add("reload", "what the manifest calls reloadable can be reloaded", "take CONFIGURE with reload = true while running, or remove `reloadable`", reload);
  add("bad_reload", "a refused reload leaves it working with its old settings", "check everything before you change anything", bad_reload);
}

}  // namespace gantry::kit
