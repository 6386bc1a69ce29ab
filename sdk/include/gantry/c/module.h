/* Helpers for a module written in C: answers, settings, logs, metrics, the descriptor. <gantry/abi.h> is the contract.
 *
 * A C module is a gantry_provider: create() allocates the instance and keeps the host pointer, call() switches over
 * call->method, reads the body with T_read() of <gantry/c/<kind>.h>, and answers each token exactly once with one of
 * the gantry_reply* functions, now or later and from any thread. Everything else of ABI rules 3 and 4 holds as written.
 *
 * All functions are static inline: nothing of this appears in a module's symbols, and modules built with different
 * versions of it coexist. */
#ifndef GANTRY_C_MODULE_H
#define GANTRY_C_MODULE_H

#include <gantry/c/common.h>

#include <stdarg.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__) || defined(__clang__)
#define GANTRY_PRINTF(text, rest) __attribute__((format(printf, text, rest)))
#else
#define GANTRY_PRINTF(text, rest)
#endif

/* ---- texts */

/* For printf's "%.*s". */
#define GANTRY_TEXT(t) (int)((t).len < 4096 ? (t).len : 4096), (t).data ? (t).data : ""

static inline bool gantry_text_is(gantry_text t, const char* s) {
  return t.len == strlen(s) && (t.len == 0 || memcmp(t.data, s, t.len) == 0);
}
static inline bool gantry_text_equal(gantry_text a, gantry_text b) {
  return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}
/* A copy to keep beyond the call, zero at its end; free() it. NULL if there is no memory. */
static inline char* gantry_text_copy(gantry_text t) {
  char* copy = (char*)malloc(t.len + 1);
  if (copy == NULL) return NULL;
  if (t.len) memcpy(copy, t.data, t.len);
  copy[t.len] = 0;
  return copy;
}

/* ---- answers: each token gets exactly one final of these. [any] thread */

static inline void gantry_reply_bytes(const gantry_host* host, uint64_t token, gantry_code code, gantry_bytes body) {
  host->complete(host->ctx, token, code, body);
}
static inline void gantry_reply_ok(const gantry_host* host, uint64_t token) {
  const gantry_bytes none = {NULL, 0};
  gantry_reply_bytes(host, token, GANTRY_OK, none);
}

/* A negative code and one sentence for a person: what, which value, what to do. key_path names the setting when CONFIGURE
 * refuses one, else NULL. Longer sentences are cut at 1 KiB. */
static inline void gantry_reply_error(const gantry_host* host, uint64_t token, gantry_code code, const char* key_path,
                                      const char* format, ...) GANTRY_PRINTF(5, 6);
static inline void gantry_reply_error(const gantry_host* host, uint64_t token, gantry_code code, const char* key_path,
                                      const char* format, ...) {
  char text[1024];
  gantry_fb_builder b;
  gantry_fb_ref message, key;
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  gantry_fb_init(&b);
  message = gantry_fb_string(&b, text);
  key = gantry_fb_string(&b, key_path);
  gantry_Error_begin(&b);
  gantry_Error_set_message(&b, message);
  gantry_Error_set_key_path(&b, key);
  gantry_reply_bytes(host, token, code, gantry_fb_finish(&b, gantry_Error_end(&b)));
  gantry_fb_clear(&b);
}

/* Completes with code OK or MORE and the message whose root was built last; clears the builder. A builder that failed
 * becomes the error RESOURCE_EXHAUSTED or, when it was misused, INTERNAL. */
static inline void gantry_reply_message(const gantry_host* host, uint64_t token, gantry_code code, gantry_fb_builder* b,
                                        gantry_fb_ref root) {
  const gantry_bytes body = gantry_fb_finish(b, root);
  if (body.len)
    gantry_reply_bytes(host, token, code, body);
  else if (b->failed == 1)
    gantry_reply_error(host, token, GANTRY_RESOURCE_EXHAUSTED, NULL, "out of memory while answering");
  else
    gantry_reply_error(host, token, GANTRY_INTERNAL, NULL, "the module built its answer wrongly");
  gantry_fb_clear(b);
}

static inline void gantry_reply_malformed(const gantry_host* host, const gantry_call* call, const char* table) {
  gantry_reply_error(host, call->token, GANTRY_INVALID_ARGUMENT, NULL, "malformed %s", table);
}

/* What remains of a method switch: START, STOP and HEALTH succeed, a method not known is UNIMPLEMENTED. */
static inline void gantry_reply_default(const gantry_host* host, const gantry_call* call) {
  gantry_fb_builder b;
  switch (call->method) {
    case GANTRY_METHOD_START:
    case GANTRY_METHOD_STOP: gantry_reply_ok(host, call->token); return;
    case GANTRY_METHOD_HEALTH:
      gantry_fb_init(&b);
      gantry_Health_begin(&b);
      gantry_reply_message(host, call->token, GANTRY_OK, &b, gantry_Health_end(&b));
      return;
    default:
      gantry_reply_error(host, call->token, GANTRY_UNIMPLEMENTED, NULL, "method %lu is not implemented",
                         (unsigned long)call->method);
  }
}

/* ---- settings: validated against module.toml and complete, so a missing key is a mistake in the manifest */

static inline gantry_Setting gantry_config_find(gantry_Configure c, const char* key) {
  const gantry_fb_vector all = gantry_Configure_settings(c);
  gantry_Setting s = {NULL};
  size_t i;
  for (i = 0; i < all.count; ++i)
    if (gantry_text_is(gantry_Setting_key(gantry_Setting_at(all, i)), key)) return gantry_Setting_at(all, i);
  return s;
}
/* True if the setting, where present, has this type (GANTRY_SETTING_TYPE_*); else CONFIGURE is answered, naming the key.
 * The daemon keeps types by the manifest; other hosts, and daemons of another manifest, may not. */
static inline bool gantry_config_is(const gantry_host* host, const gantry_call* call, gantry_Configure c,
                                    const char* key, gantry_SettingType type) {
  const gantry_Setting s = gantry_config_find(c, key);
  if (s.at == NULL || gantry_Setting_type(s) == type) return true;
  gantry_reply_error(host, call->token, GANTRY_INVALID_ARGUMENT, key, "setting %s is a %s, wanted is a %s", key,
                     gantry_SettingType_name(gantry_Setting_type(s)), gantry_SettingType_name(type));
  return false;
}
/* int, duration (nanoseconds) and size (bytes) */
static inline int64_t gantry_config_number(gantry_Configure c, const char* key) {
  return gantry_Setting_number(gantry_config_find(c, key));
}
static inline double gantry_config_real(gantry_Configure c, const char* key) {
  return gantry_Setting_real(gantry_config_find(c, key));
}
static inline bool gantry_config_flag(gantry_Configure c, const char* key) {
  return gantry_Setting_flag(gantry_config_find(c, key));
}
/* string, path, address; valid until CONFIGURE is answered */
static inline gantry_text gantry_config_text(gantry_Configure c, const char* key) {
  return gantry_Setting_text(gantry_config_find(c, key));
}
/* Elements with gantry_fb_text_at(); a map's are "key=value". */
static inline gantry_fb_vector gantry_config_list(gantry_Configure c, const char* key) {
  return gantry_Setting_items(gantry_config_find(c, key));
}

/* ---- logs and metrics. [any] thread */

static inline bool gantry_log_wanted(const gantry_host* host, uint32_t level) {
#if defined(__GNUC__) || defined(__clang__)
  return level >= __atomic_load_n(host->log_threshold, __ATOMIC_RELAXED);
#else
  return level >= *(const volatile uint32_t*)host->log_threshold;
#endif
}
/* Level GANTRY_LOG_*; cut at 1 KiB. */
static inline void gantry_log(const gantry_host* host, uint32_t level, const char* format, ...) GANTRY_PRINTF(3, 4);
static inline void gantry_log(const gantry_host* host, uint32_t level, const char* format, ...) {
  char text[1024];
  gantry_fb_builder b;
  gantry_fb_ref message;
  gantry_bytes record;
  va_list args;
  if (!gantry_log_wanted(host, level)) return;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  gantry_fb_init(&b);
  message = gantry_fb_string(&b, text);
  gantry_LogRecord_begin(&b);
  gantry_LogRecord_set_message(&b, message);
  record = gantry_fb_finish(&b, gantry_LogRecord_end(&b));
  if (record.len) host->log(host->ctx, level, record);
  gantry_fb_clear(&b);
}

/* Registers a metric (kind GANTRY_METRIC_KIND_*); its id goes to host->metric_add. 0 if there is no memory. */
static inline uint32_t gantry_metric(const gantry_host* host, gantry_MetricKind kind, const char* name,
                                     const char* unit, const char* help) {
  gantry_fb_builder b;
  gantry_fb_ref n, u, h;
  gantry_bytes desc;
  uint32_t id;
  gantry_fb_init(&b);
  n = gantry_fb_string(&b, name);
  u = gantry_fb_string(&b, unit);
  h = gantry_fb_string(&b, help);
  gantry_MetricDesc_begin(&b);
  gantry_MetricDesc_set_name(&b, n);
  gantry_MetricDesc_set_kind(&b, kind);
  gantry_MetricDesc_set_unit(&b, u);
  gantry_MetricDesc_set_help(&b, h);
  desc = gantry_fb_finish(&b, gantry_MetricDesc_end(&b));
  id = desc.len ? host->metric(host->ctx, desc) : 0;
  gantry_fb_clear(&b);
  return id;
}

/* ---- the descriptor */

static inline void gantry_no_reply(void* self, uint64_t token, gantry_code code, gantry_bytes body) {
  (void)self, (void)token, (void)code, (void)body;
}
static inline void gantry_no_cancel(void* self, uint64_t token) { (void)self, (void)token; }
static inline const void* gantry_no_extension(void* self, const char* id) {
  (void)self, (void)id;
  return NULL;
}

#define GANTRY_C_STRING2_(x) #x
#define GANTRY_C_STRING_(x) GANTRY_C_STRING2_(x)
#if defined(__clang__)
#define GANTRY_C_BUILD_ "C, clang " __clang_version__
#else
#define GANTRY_C_BUILD_ "C, gcc " __VERSION__
#endif

/* Exports one provider. `reply` and `cancel` may be gantry_no_reply and gantry_no_cancel. Use once per .so, outside of
 * functions, in a file of its own if tests link the rest. */
#define GANTRY_C_MODULE(kind, name, revision, create, call, reply, cancel, destroy)                                 \
  static const gantry_provider gantry_c_provider_ = {sizeof(gantry_provider), 0, kind, name, revision, revision, 0, \
                                                     create, call, reply, cancel, destroy, gantry_no_extension};    \
  extern const gantry_module gantry_module_v1 __attribute__((visibility("default")));                               \
  const gantry_module gantry_module_v1 = {GANTRY_MAGIC, GANTRY_ABI_MAJOR, GANTRY_ABI_MINOR, sizeof(gantry_module),  \
                                          1, sizeof(gantry_provider), &gantry_c_provider_, GANTRY_C_BUILD_}

/* The manifest as ELF note, for those who build without gantry_add_module(), which does it itself. `path` is found by the
 * assembler: absolute, or below a folder given with -Wa,-I,DIR. Once per .so, outside of functions. */
#define GANTRY_C_MANIFEST(path)                                                                              \
  __asm__(".pushsection " GANTRY_NOTE_SECTION ",\"a\",@note\n.balign 4\n.long 2f - 1f\n.long 4f - 3f\n.long "  \
          GANTRY_C_STRING_(GANTRY_NOTE_MANIFEST) "\n1: .asciz \"" GANTRY_NOTE_NAME "\"\n2: .balign 4\n"       \
          "3: .incbin \"" path "\"\n4: .balign 4\n.popsection\n")

#ifdef __cplusplus
}
#endif
#endif
