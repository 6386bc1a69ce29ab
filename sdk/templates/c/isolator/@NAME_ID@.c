#include "@NAME_ID@.h"

#include <gantry/c/isolator.h>

/* A container between PREPARE and CLEANUP. */
typedef struct container {
  struct container* next;
  char* id;
} container;

/* One instance. Calls come one at a time (one strand), so nothing here is locked. */
typedef struct instance {
  const gantry_host* host;
  char* variable;
  container* containers;
} instance;

void* @NAME_ID@_create(const gantry_host* host) {
  instance* m = calloc(1, sizeof *m);
  if (m) m->host = host;
  return m;
}

static container** find(instance* m, gantry_text id) {
  container** c = &m->containers;
  while (*c && !gantry_text_is(id, (*c)->id)) c = &(*c)->next;
  return c;
}
static void forget(container** c) {
  container* gone = *c;
  *c = gone->next;
  free(gone->id);
  free(gone);
}
/* False: no memory. What is needed after the call is copied, for the request lives only until it is answered. */
static bool remember(instance* m, gantry_text id) {
  container** c = find(m, id);
  if (*c) return true;
  container* fresh = calloc(1, sizeof *fresh);
  if (fresh) fresh->id = gantry_text_copy(id);
  if (fresh == NULL || fresh->id == NULL) {
    free(fresh);
    return false;
  }
  *c = fresh;
  return true;
}
static void out_of_memory(instance* m, const gantry_call* call) {
  gantry_reply_error(m->host, call->token, GANTRY_RESOURCE_EXHAUSTED, NULL, "out of memory");
}

void @NAME_ID@_destroy(void* self) {
  instance* m = self;
  while (m->containers) forget(&m->containers);
  free(m->variable);
  free(m);
}

/* Values arrive validated against module.toml. Refuse what only this module can judge, naming the key. */
static void configure(instance* m, const gantry_call* call) {
  gantry_Configure c;
  if (!gantry_Configure_read(call->body, &c)) {
    gantry_reply_malformed(m->host, call, "Configure");
    return;
  }
  if (!gantry_config_is(m->host, call, c, "variable", GANTRY_SETTING_TYPE_STRING)) return;
  const gantry_text variable = gantry_config_text(c, "variable");
  if (variable.len == 0 || memchr(variable.data, '=', variable.len)) {
    gantry_reply_error(m->host, call->token, GANTRY_INVALID_ARGUMENT, "variable",
                       "variable \"%.*s\" cannot be the name of an environment variable", GANTRY_TEXT(variable));
    return;
  }
  char* copy = gantry_text_copy(variable);
  if (copy == NULL) {
    out_of_memory(m, call);
    return;
  }
  free(m->variable);
  m->variable = copy;
  gantry_reply_ok(m->host, call->token);
}

/* Once after start: the containers that were alive before. Know them again; report as orphans what you find of yours in the
 * outside world (directories, links, rules) that is not among them. This module leaves nothing there. */
static void recover(instance* m, const gantry_call* call) {
  gantry_isolator_Recover request;
  if (!gantry_isolator_Recover_read(call->body, &request)) {
    gantry_reply_malformed(m->host, call, "Recover");
    return;
  }
  while (m->containers) forget(&m->containers);
  const gantry_fb_vector known = gantry_isolator_Recover_containers(request);
  for (size_t i = 0; i < known.count; ++i) {
    if (!remember(m, gantry_isolator_Known_container_id(gantry_isolator_Known_at(known, i)))) {
      out_of_memory(m, call);
      return;
    }
  }
  gantry_fb_builder b;
  gantry_fb_init(&b);
  gantry_isolator_Recovered_begin(&b);
  gantry_reply_message(m->host, call->token, GANTRY_OK, &b, gantry_isolator_Recovered_end(&b));
}

/* Before the first process exists: the place to refuse a launch, and to say what the launcher shall do. May come twice. */
static void prepare(instance* m, const gantry_call* call) {
  gantry_isolator_Prepare request;
  if (!gantry_isolator_Prepare_read(call->body, &request)) {
    gantry_reply_malformed(m->host, call, "Prepare");
    return;
  }
  if (!remember(m, gantry_isolator_Prepare_container_id(request))) {
    out_of_memory(m, call);
    return;
  }
  /* Children first, then the table that holds them. */
  gantry_fb_builder b;
  gantry_fb_init(&b);
  const gantry_fb_ref name = gantry_fb_string(&b, m->variable), value = gantry_fb_string(&b, "@NAME@");
  gantry_Variable_begin(&b);
  gantry_Variable_set_name(&b, name);
  gantry_Variable_set_value(&b, value);
  const gantry_fb_ref variable = gantry_Variable_end(&b);
  const gantry_fb_ref environment = gantry_fb_refs(&b, &variable, 1);
  gantry_isolator_Prepared_begin(&b);
  gantry_isolator_Prepared_set_environment(&b, environment);
  gantry_reply_message(m->host, call->token, GANTRY_OK, &b, gantry_isolator_Prepared_end(&b));
}

/* The first process exists and is held before its exec: Attach_pid, and its pidfd in call->fds. Whatever is set on it now
 * (limits, groups) holds from the task's first instruction on. If you need nothing of it, say no_attach in PREPARE. */
static void attach(instance* m, const gantry_call* call) {
  gantry_isolator_Attach request;
  if (!gantry_isolator_Attach_read(call->body, &request)) {
    gantry_reply_malformed(m->host, call, "Attach");
    return;
  }
  const gantry_text id = gantry_isolator_Attach_container_id(request);
  if (*find(m, id) == NULL) {
    gantry_reply_error(m->host, call->token, GANTRY_NOT_FOUND, NULL, "container %.*s was not prepared", GANTRY_TEXT(id));
    return;
  }
  gantry_reply_ok(m->host, call->token);
}

/* Must succeed for containers never heard of, and twice. Undo all that was done for the container. */
static void cleanup(instance* m, const gantry_call* call) {
  gantry_isolator_Cleanup request;
  if (!gantry_isolator_Cleanup_read(call->body, &request)) {
    gantry_reply_malformed(m->host, call, "Cleanup");
    return;
  }
  container** known = find(m, gantry_isolator_Cleanup_container_id(request));
  if (*known) forget(known);
  gantry_reply_ok(m->host, call->token);
}

/* Limits follow no resources, nothing is measured and no stream has anything to say: the answers of whoever does nothing. */
static void watch_update_usage(instance* m, const gantry_call* call) {
  gantry_isolator_Watch watch;
  gantry_isolator_Update update;
  gantry_isolator_UsageRequest usage;
  gantry_fb_builder b;
  if (call->method == GANTRY_ISOLATOR_METHOD_WATCH ? !gantry_isolator_Watch_read(call->body, &watch)
      : call->method == GANTRY_ISOLATOR_METHOD_UPDATE ? !gantry_isolator_Update_read(call->body, &update)
                                                      : !gantry_isolator_UsageRequest_read(call->body, &usage)) {
    gantry_reply_malformed(m->host, call, "request");
  } else if (call->method == GANTRY_ISOLATOR_METHOD_USAGE) {
    gantry_fb_init(&b);
    gantry_isolator_Usages_begin(&b);
    gantry_reply_message(m->host, call->token, GANTRY_OK, &b, gantry_isolator_Usages_end(&b));
  } else {
    gantry_reply_ok(m->host, call->token);
  }
}

/* Every path answers its token exactly once. Methods not known here are UNIMPLEMENTED by gantry_reply_default. */
void @NAME_ID@_call(void* self, const gantry_call* call) {
  instance* m = self;
  switch (call->method) {
    case GANTRY_METHOD_CONFIGURE: configure(m, call); return;
    case GANTRY_METHOD_RECOVER: recover(m, call); return;
    case GANTRY_ISOLATOR_METHOD_PREPARE: prepare(m, call); return;
    case GANTRY_ISOLATOR_METHOD_ATTACH: attach(m, call); return;
    case GANTRY_ISOLATOR_METHOD_CLEANUP: cleanup(m, call); return;
    case GANTRY_ISOLATOR_METHOD_WATCH:
    case GANTRY_ISOLATOR_METHOD_UPDATE:
    case GANTRY_ISOLATOR_METHOD_USAGE: watch_update_usage(m, call); return;
    default: gantry_reply_default(m->host, call);
  }
}
