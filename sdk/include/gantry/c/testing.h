/* A host for the tests of a C module: manual clock, one thread, nothing runs until the test says so.
 *
 *   gantry_test t;
 *   gantry_test_open(&t, &my_provider);
 *   gantry_test_setting_number(&t, "limit", 64);                       settings of the next configure
 *   gantry_test_expect(gantry_test_configure(&t, false).code == GANTRY_OK);
 *   gantry_test_answer a = gantry_test_call(&t, GANTRY_ISOLATOR_METHOD_PREPARE, body);
 *   gantry_test_advance(&t, 5000000000);                               timers
 *   return gantry_test_close(&t);                                      0, or 1 with each breach printed
 *
 * Breaches of the ABI (double, early or unknown completions, calls left open at destroy) are printed and counted.
 * offload() runs inline in gantry_test_run(); the module must not complete from threads of its own here. */
#ifndef GANTRY_C_TESTING_H
#define GANTRY_C_TESTING_H

#include <gantry/c/module.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GANTRY_TEST_CALLS 256
#define GANTRY_TEST_JOBS 256
#define GANTRY_TEST_SETTINGS 64

typedef struct gantry_test_answer {
  gantry_code code;   /* final code; GANTRY_MORE: not completed yet */
  uint32_t chunks;    /* MORE completions so far */
  gantry_bytes body;  /* of the latest completion; valid until the test is closed or the same call answers again */
  uint64_t token;
} gantry_test_answer;

typedef struct gantry_test_job {
  void (*fn)(void*);
  void* arg;
  uint64_t at; /* 0: at once */
  uint64_t id;
} gantry_test_job;

typedef struct gantry_test_setting {
  const char* key;
  const char* text;
  int64_t number;
  gantry_SettingType type;
  uint8_t flag;
  uint8_t padding_[6];
} gantry_test_setting;

typedef struct gantry_test {
  gantry_host host;
  const gantry_provider* provider;
  void* self;
  gantry_test_answer calls[GANTRY_TEST_CALLS]; /* token = index + 1 */
  uint8_t* bodies[GANTRY_TEST_CALLS];
  gantry_test_job jobs[GANTRY_TEST_JOBS];
  gantry_test_setting settings[GANTRY_TEST_SETTINGS];
  const char* work_dir;
  char last_error[256]; /* message of the latest error completion */
  char last_key[64];    /* and its key_path */
  uint64_t clock;
  uint64_t last_id;
  size_t call_count;
  size_t job_count;
  size_t setting_count;
  uint32_t log_threshold;
  uint32_t logs;
  uint32_t faults;
  uint32_t failures;
} gantry_test;

#define gantry_test_expect(t, condition) \
  ((condition) ? (void)0 : (void)((t)->failures++, fprintf(stderr, "%s:%d: expected %s\n", __FILE__, __LINE__, #condition)))

static inline void gantry_test_fault(gantry_test* t, const char* what, uint64_t token) {
  t->faults++;
  fprintf(stderr, "breach of the ABI: %s (token %llu)\n", what, (unsigned long long)token);
}
static inline void gantry_test_log_(void* ctx, uint32_t level, gantry_bytes record) {
  gantry_test* t = (gantry_test*)ctx;
  gantry_LogRecord r;
  (void)level;
  t->logs++;
  if (!gantry_LogRecord_read(record, &r)) gantry_test_fault(t, "malformed log record", 0);
}
static inline void gantry_test_complete_(void* ctx, uint64_t token, gantry_code code, gantry_bytes reply) {
  gantry_test* t = (gantry_test*)ctx;
  gantry_test_answer* a;
  gantry_Error e;
  if (token == 0 || token > t->call_count) { gantry_test_fault(t, "completion of an unknown token", token); return; }
  a = &t->calls[token - 1];
  if (a->code != GANTRY_MORE) { gantry_test_fault(t, "completed twice", token); return; }
  free(t->bodies[token - 1]);
  t->bodies[token - 1] = (uint8_t*)malloc(reply.len + 1);
  if (reply.len) memcpy(t->bodies[token - 1], reply.data, reply.len);
  a->body.data = t->bodies[token - 1];
  a->body.len = reply.len;
  a->code = code;
  if (code == GANTRY_MORE) a->chunks++;
  if (code < 0 && gantry_Error_read(a->body, &e)) {
    snprintf(t->last_error, sizeof t->last_error, "%.*s", GANTRY_TEXT(gantry_Error_message(e)));
    snprintf(t->last_key, sizeof t->last_key, "%.*s", GANTRY_TEXT(gantry_Error_key_path(e)));
  } else if (code < 0 && reply.len) {
    gantry_test_fault(t, "the body of an error is no Error", token);
  }
}
static inline uint64_t gantry_test_timer_(void* ctx, uint64_t at, void (*fn)(void*), void* arg) {
  gantry_test* t = (gantry_test*)ctx;
  gantry_test_job* j;
  if (t->job_count == GANTRY_TEST_JOBS) { gantry_test_fault(t, "too many jobs for the test host", 0); return 0; }
  j = &t->jobs[t->job_count++];
  j->fn = fn;
  j->arg = arg;
  j->at = at;
  j->id = ++t->last_id;
  return j->id;
}
static inline void gantry_test_post_(void* ctx, void (*fn)(void*), void* arg) { gantry_test_timer_(ctx, 0, fn, arg); }
static inline void gantry_test_timer_cancel_(void* ctx, uint64_t id) {
  gantry_test* t = (gantry_test*)ctx;
  size_t i;
  for (i = 0; i < t->job_count; ++i)
    if (t->jobs[i].id == id) {
      memmove(&t->jobs[i], &t->jobs[i + 1], (t->job_count - i - 1) * sizeof *t->jobs);
      t->job_count--;
      return;
    }
}
static inline gantry_code gantry_test_request_(void* ctx, uint32_t service, uint32_t method, gantry_bytes body, uint64_t token) {
  (void)ctx, (void)service, (void)method, (void)body, (void)token;
  return GANTRY_PERMISSION_DENIED; /* set t.host.request for a module that uses services */
}
static inline uint32_t gantry_test_metric_(void* ctx, gantry_bytes desc) {
  gantry_test* t = (gantry_test*)ctx;
  gantry_MetricDesc d;
  if (!gantry_MetricDesc_read(desc, &d)) gantry_test_fault(t, "malformed metric", 0);
  return (uint32_t)++t->last_id;
}
static inline void gantry_test_metric_add_(void* ctx, uint32_t id, double value) { (void)ctx, (void)id, (void)value; }
static inline uint64_t gantry_test_now_(void* ctx) { return ((gantry_test*)ctx)->clock; }
static inline void gantry_test_request_cancel_(void* ctx, uint64_t token) { (void)ctx, (void)token; }

/* Runs what was posted, offloaded or is due. */
static inline void gantry_test_run(gantry_test* t) {
  for (;;) {
    size_t i, best = t->job_count;
    gantry_test_job j;
    for (i = 0; i < t->job_count; ++i)
      if (t->jobs[i].at <= t->clock && (best == t->job_count || t->jobs[i].at < t->jobs[best].at)) best = i;
    if (best == t->job_count) return;
    j = t->jobs[best];
    memmove(&t->jobs[best], &t->jobs[best + 1], (t->job_count - best - 1) * sizeof *t->jobs);
    t->job_count--;
    j.fn(j.arg);
  }
}
static inline void gantry_test_advance(gantry_test* t, uint64_t ns) {
  t->clock += ns;
  gantry_test_run(t);
}

/* Creates an instance of the provider. The work_dir of configure is "." unless the test sets it. */
static inline void gantry_test_open(gantry_test* t, const gantry_provider* provider) {
  gantry_host h;
  memset(t, 0, sizeof *t);
  memset(&h, 0, sizeof h);
  h.size = sizeof h;
  h.abi_minor = GANTRY_ABI_MINOR;
  h.ctx = t;
  h.log_threshold = &t->log_threshold;
  h.log = gantry_test_log_;
  h.complete = gantry_test_complete_;
  h.request = gantry_test_request_;
  h.post = gantry_test_post_;
  h.offload = gantry_test_post_;
  h.timer = gantry_test_timer_;
  h.timer_cancel = gantry_test_timer_cancel_;
  h.metric = gantry_test_metric_;
  h.metric_add = gantry_test_metric_add_;
  h.now = gantry_test_now_;
  h.wall = gantry_test_now_;
  h.request_cancel = gantry_test_request_cancel_;
  h.extension = gantry_no_extension;
  t->host = h;
  t->clock = 1000000000;
  t->provider = provider;
  t->work_dir = ".";
  t->self = provider->create(&t->host);
  if (t->self == NULL) gantry_test_fault(t, "create() returned NULL", 0);
}

/* Sends a call and runs what it started. Read the answer of a call that was not done with gantry_test_answer_of(). */
static inline gantry_test_answer gantry_test_call(gantry_test* t, uint32_t method, gantry_bytes body) {
  gantry_test_answer none = {GANTRY_UNAVAILABLE, 0, {NULL, 0}, 0};
  gantry_call c;
  if (t->self == NULL || t->call_count == GANTRY_TEST_CALLS) {
    gantry_test_fault(t, "the test host takes no more calls", 0);
    return none;
  }
  memset(&c, 0, sizeof c);
  c.size = sizeof c;
  c.method = method;
  c.token = ++t->call_count;
  c.body = body;
  t->calls[c.token - 1].code = GANTRY_MORE;
  t->calls[c.token - 1].token = c.token;
  t->provider->call(t->self, &c);
  gantry_test_run(t);
  return t->calls[c.token - 1];
}
static inline gantry_test_answer gantry_test_answer_of(const gantry_test* t, uint64_t token) {
  return t->calls[token - 1];
}
/* Calls with the message just built; clears the builder. */
static inline gantry_test_answer gantry_test_send(gantry_test* t, uint32_t method, gantry_fb_builder* b, gantry_fb_ref root) {
  const gantry_bytes body = gantry_fb_finish(b, root);
  const gantry_test_answer a = gantry_test_call(t, method, body);
  gantry_test_expect(t, body.len != 0);
  gantry_fb_clear(b);
  return a;
}

static inline gantry_test_setting* gantry_test_setting_(gantry_test* t, const char* key, gantry_SettingType type) {
  size_t i = 0;
  while (i < t->setting_count && strcmp(t->settings[i].key, key) != 0) ++i;
  if (i == t->setting_count && i + 1 < GANTRY_TEST_SETTINGS) t->setting_count++;
  t->settings[i].key = key;
  t->settings[i].type = type;
  return &t->settings[i];
}
static inline void gantry_test_setting_number(gantry_test* t, const char* key, int64_t v) {
  gantry_test_setting_(t, key, GANTRY_SETTING_TYPE_INT)->number = v;
}
static inline void gantry_test_setting_text(gantry_test* t, const char* key, const char* v) {
  gantry_test_setting_(t, key, GANTRY_SETTING_TYPE_STRING)->text = v;
}
static inline void gantry_test_setting_flag(gantry_test* t, const char* key, bool v) {
  gantry_test_setting_(t, key, GANTRY_SETTING_TYPE_BOOL)->flag = v ? 1 : 0;
}
/* CONFIGURE with all settings given so far. */
static inline gantry_test_answer gantry_test_configure(gantry_test* t, bool reload) {
  gantry_fb_builder b;
  gantry_fb_ref refs[GANTRY_TEST_SETTINGS], settings, work_dir;
  size_t i;
  gantry_fb_init(&b);
  for (i = 0; i < t->setting_count; ++i) {
    const gantry_test_setting* s = &t->settings[i];
    const gantry_fb_ref key = gantry_fb_string(&b, s->key), text = gantry_fb_string(&b, s->text);
    gantry_Setting_begin(&b);
    gantry_Setting_set_key(&b, key);
    gantry_Setting_set_type(&b, s->type);
    gantry_Setting_set_text(&b, text);
    gantry_Setting_set_number(&b, s->number);
    gantry_Setting_set_real(&b, (double)s->number);
    gantry_Setting_set_flag(&b, s->flag != 0);
    gantry_Setting_set_given(&b, true);
    refs[i] = gantry_Setting_end(&b);
  }
  settings = gantry_fb_refs(&b, refs, t->setting_count);
  work_dir = gantry_fb_string(&b, t->work_dir);
  gantry_Configure_begin(&b);
  gantry_Configure_set_settings(&b, settings);
  gantry_Configure_set_reload(&b, reload);
  gantry_Configure_set_work_dir(&b, work_dir);
  gantry_Configure_set_revision(&b, t->provider->rev_max);
  return gantry_test_send(t, GANTRY_METHOD_CONFIGURE, &b, gantry_Configure_end(&b));
}

/* Destroys the instance. 0 if there was no breach and every expectation held. */
static inline int gantry_test_close(gantry_test* t) {
  size_t i;
  for (i = 0; i < t->call_count; ++i)
    if (t->calls[i].code == GANTRY_MORE) gantry_test_fault(t, "never completed", i + 1);
  if (t->self) t->provider->destroy(t->self);
  t->self = NULL;
  for (i = 0; i < t->call_count; ++i) free(t->bodies[i]);
  t->call_count = 0;
  return t->faults || t->failures ? 1 : 0;
}

#ifdef __cplusplus
}
#endif
#endif
