#define _GNU_SOURCE /* prlimit */
#include "nofile.h"

#include <errno.h>
#include <gantry/c/isolator.h>
#include <sys/resource.h>

/* A container between PREPARE and CLEANUP. */
typedef struct container {
  struct container* next;
  char* id;
  int64_t limit;
} container;

/* One instance. Nothing is locked: the host enters it one call at a time (one strand). */
typedef struct nofile {
  const gantry_host* host;
  container* containers;
  int64_t limit;
} nofile;

/* Cheap, and without I/O: the host may create an instance only to ask it something. */
void* nofile_create(const gantry_host* host) {
  nofile* n = calloc(1, sizeof *n);
  if (n) n->host = host;
  return n;
}

static container** find(nofile* n, gantry_text id) {
  container** c = &n->containers;
  while (*c && !gantry_text_is(id, (*c)->id)) c = &(*c)->next;
  return c;
}

static void forget(container** c) {
  container* gone = *c;
  *c = gone->next;
  free(gone->id);
  free(gone);
}

/* Again for a container already known, it only renews the limit. False: no memory. */
static bool remember(nofile* n, gantry_text id) {
  container** c = find(n, id);
  if (*c == NULL) {
    container* fresh = calloc(1, sizeof *fresh);
    /* The request's bytes live until the call is answered: what is needed later is copied. */
    if (fresh) fresh->id = gantry_text_copy(id);
    if (fresh == NULL || fresh->id == NULL) {
      free(fresh);
      return false;
    }
    *c = fresh;
  }
  (*c)->limit = n->limit;
  return true;
}

void nofile_destroy(void* self) {
  nofile* n = self;
  while (n->containers) forget(&n->containers);
  free(n);
}

/* Before start, and again when the operator changed a reloadable setting. Type and range were checked against
 * module.toml; the settings are complete. */
static void configure(nofile* n, const gantry_call* call) {
  gantry_Configure c;
  int64_t limit;
  if (!gantry_Configure_read(call->body, &c)) {
    gantry_reply_malformed(n->host, call, "Configure");
    return;
  }
  if (!gantry_config_is(n->host, call, c, "limit", GANTRY_SETTING_TYPE_INT)) return;
  limit = gantry_config_number(c, "limit");
  if (limit < 16) {
    gantry_reply_error(n->host, call->token, GANTRY_INVALID_ARGUMENT, "limit",
                       "limit is %lld; a process needs at least 16 open files", (long long)limit);
    return;
  }
  n->limit = limit;
  gantry_reply_ok(n->host, call->token);
}

/* Once after start: the containers that live already. Linux has kept their limits; they are only known again. Nothing of
 * ours can outlive a container, so there are no orphans. */
static void recover(nofile* n, const gantry_call* call) {
  gantry_isolator_Recover r;
  gantry_fb_vector known;
  gantry_fb_builder b;
  if (!gantry_isolator_Recover_read(call->body, &r)) {
    gantry_reply_malformed(n->host, call, "Recover");
    return;
  }
  while (n->containers) forget(&n->containers);
  known = gantry_isolator_Recover_containers(r);
  for (size_t i = 0; i < known.count; ++i) {
    if (!remember(n, gantry_isolator_Known_container_id(gantry_isolator_Known_at(known, i)))) {
      gantry_reply_error(n->host, call->token, GANTRY_RESOURCE_EXHAUSTED, NULL, "out of memory while recovering");
      return;
    }
  }
  gantry_fb_init(&b);
  gantry_isolator_Recovered_begin(&b);
  gantry_reply_message(n->host, call->token, GANTRY_OK, &b, gantry_isolator_Recovered_end(&b));
}

/* Before the task's first process exists: nothing to ask of the launcher, but ATTACH must come. */
static void prepare(nofile* n, const gantry_call* call) {
  gantry_isolator_Prepare p;
  gantry_fb_builder b;
  if (!gantry_isolator_Prepare_read(call->body, &p)) {
    gantry_reply_malformed(n->host, call, "Prepare");
    return;
  }
  if (!remember(n, gantry_isolator_Prepare_container_id(p))) {
    gantry_reply_error(n->host, call->token, GANTRY_RESOURCE_EXHAUSTED, NULL, "out of memory");
    return;
  }
  gantry_fb_init(&b);
  gantry_isolator_Prepared_begin(&b);
  gantry_reply_message(n->host, call->token, GANTRY_OK, &b, gantry_isolator_Prepared_end(&b));
}

/* The first process exists but is held before its exec: what is set now, all its children inherit. prlimit does not
 * block, so it may run on the strand; work that may belongs into host->offload. */
static void attach(nofile* n, const gantry_call* call) {
  gantry_isolator_Attach a;
  container* c;
  struct rlimit limit;
  int32_t pid;
  if (!gantry_isolator_Attach_read(call->body, &a)) {
    gantry_reply_malformed(n->host, call, "Attach");
    return;
  }
  c = *find(n, gantry_isolator_Attach_container_id(a));
  if (c == NULL) {
    gantry_reply_error(n->host, call->token, GANTRY_NOT_FOUND, NULL, "container %.*s was not prepared",
                       GANTRY_TEXT(gantry_isolator_Attach_container_id(a)));
    return;
  }
  pid = gantry_isolator_Attach_pid(a);
  if (pid <= 0) { /* 0 would mean this very process */
    gantry_reply_error(n->host, call->token, GANTRY_INVALID_ARGUMENT, NULL, "pid %d is no process", (int)pid);
    return;
  }
  limit.rlim_cur = limit.rlim_max = (rlim_t)c->limit;
  if (prlimit(pid, RLIMIT_NOFILE, &limit, NULL) != 0) {
    const int error = errno;
    gantry_reply_error(n->host, call->token,
                       error == EPERM   ? GANTRY_PERMISSION_DENIED
                       : error == ESRCH ? GANTRY_NOT_FOUND
                                        : GANTRY_INTERNAL,
                       NULL, "cap open files of process %d at %lld: %s", (int)pid, (long long)c->limit, strerror(error));
    return;
  }
  gantry_log(n->host, GANTRY_LOG_DEBUG, "open files of container %s capped at %lld", c->id, (long long)c->limit);
  gantry_reply_ok(n->host, call->token);
}

/* Must succeed for containers never heard of, and twice. */
static void cleanup(nofile* n, const gantry_call* call) {
  gantry_isolator_Cleanup c;
  container** known;
  if (!gantry_isolator_Cleanup_read(call->body, &c)) {
    gantry_reply_malformed(n->host, call, "Cleanup");
    return;
  }
  known = find(n, gantry_isolator_Cleanup_container_id(c));
  if (*known) forget(known);
  gantry_reply_ok(n->host, call->token);
}

/* Every path answers its token exactly once. A method this module does not know, today's or a later one, is
 * UNIMPLEMENTED: gantry_reply_default says so. */
void nofile_call(void* self, const gantry_call* call) {
  nofile* n = self;
  gantry_isolator_Watch w;
  gantry_isolator_Update u;
  gantry_isolator_UsageRequest q;
  gantry_fb_builder b;
  switch (call->method) {
    case GANTRY_METHOD_CONFIGURE: configure(n, call); return;
    case GANTRY_METHOD_RECOVER: recover(n, call); return;
    case GANTRY_ISOLATOR_METHOD_PREPARE: prepare(n, call); return;
    case GANTRY_ISOLATOR_METHOD_ATTACH: attach(n, call); return;
    case GANTRY_ISOLATOR_METHOD_CLEANUP: cleanup(n, call); return;
    case GANTRY_ISOLATOR_METHOD_WATCH: /* never reports a container over its limit: open() does, to the task itself */
      if (gantry_isolator_Watch_read(call->body, &w)) gantry_reply_ok(n->host, call->token);
      else gantry_reply_malformed(n->host, call, "Watch");
      return;
    case GANTRY_ISOLATOR_METHOD_UPDATE: /* the cap does not depend on resources */
      if (gantry_isolator_Update_read(call->body, &u)) gantry_reply_ok(n->host, call->token);
      else gantry_reply_malformed(n->host, call, "Update");
      return;
    case GANTRY_ISOLATOR_METHOD_USAGE: /* measures nothing: an empty list, other isolators fill theirs */
      if (!gantry_isolator_UsageRequest_read(call->body, &q)) {
        gantry_reply_malformed(n->host, call, "UsageRequest");
        return;
      }
      gantry_fb_init(&b);
      gantry_isolator_Usages_begin(&b);
      gantry_reply_message(n->host, call->token, GANTRY_OK, &b, gantry_isolator_Usages_end(&b));
      return;
    default: gantry_reply_default(n->host, call);
  }
}
