/* The module on an in-memory host, without a daemon. Prints what does not hold; exit 0 if all does. */
#define _GNU_SOURCE
#include "nofile.h"

#include <gantry/c/isolator.h>
#include <gantry/c/testing.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static const gantry_provider provider = {sizeof(gantry_provider), 0, "isolator", "nofile-c", 1, 1, 0,
                                         nofile_create, nofile_call, gantry_no_reply, gantry_no_cancel, nofile_destroy,
                                         gantry_no_extension};

static gantry_code prepare(gantry_test* t, const char* id) {
  gantry_fb_builder b;
  gantry_fb_init(&b);
  const gantry_fb_ref container = gantry_fb_string(&b, id);
  gantry_isolator_Prepare_begin(&b);
  gantry_isolator_Prepare_set_container_id(&b, container);
  const gantry_test_answer a = gantry_test_send(t, GANTRY_ISOLATOR_METHOD_PREPARE, &b, gantry_isolator_Prepare_end(&b));
  gantry_isolator_Prepared prepared;
  gantry_test_expect(t, a.code != GANTRY_OK || gantry_isolator_Prepared_read(a.body, &prepared));
  return a.code;
}

static gantry_code attach(gantry_test* t, const char* id, pid_t pid) {
  gantry_fb_builder b;
  gantry_fb_init(&b);
  const gantry_fb_ref container = gantry_fb_string(&b, id);
  gantry_isolator_Attach_begin(&b);
  gantry_isolator_Attach_set_container_id(&b, container);
  gantry_isolator_Attach_set_pid(&b, pid);
  return gantry_test_send(t, GANTRY_ISOLATOR_METHOD_ATTACH, &b, gantry_isolator_Attach_end(&b)).code;
}

static gantry_code cleanup(gantry_test* t, const char* id) {
  gantry_fb_builder b;
  gantry_fb_init(&b);
  const gantry_fb_ref container = gantry_fb_string(&b, id);
  gantry_isolator_Cleanup_begin(&b);
  gantry_isolator_Cleanup_set_container_id(&b, container);
  return gantry_test_send(t, GANTRY_ISOLATOR_METHOD_CLEANUP, &b, gantry_isolator_Cleanup_end(&b)).code;
}

static gantry_code recover(gantry_test* t, const char* id) {
  gantry_fb_builder b;
  gantry_fb_ref known[1];
  gantry_fb_init(&b);
  const gantry_fb_ref container = gantry_fb_string(&b, id);
  gantry_isolator_Known_begin(&b);
  gantry_isolator_Known_set_container_id(&b, container);
  known[0] = gantry_isolator_Known_end(&b);
  const gantry_fb_ref containers = gantry_fb_refs(&b, known, 1);
  gantry_isolator_Recover_begin(&b);
  gantry_isolator_Recover_set_containers(&b, containers);
  return gantry_test_send(t, GANTRY_METHOD_RECOVER, &b, gantry_isolator_Recover_end(&b)).code;
}

static rlim_t limit_of(pid_t pid) {
  struct rlimit r = {0, 0};
  prlimit(pid, RLIMIT_NOFILE, NULL, &r);
  return r.rlim_cur == r.rlim_max ? r.rlim_cur : 0;
}

/* A process that waits to be limited. */
static pid_t start_task(void) {
  const pid_t pid = fork();
  if (pid == 0) {
    pause();
    _exit(0);
  }
  return pid;
}
static void end_task(pid_t pid) {
  kill(pid, SIGKILL);
  waitpid(pid, NULL, 0);
}

int main(void) {
  static gantry_test t;
  gantry_bytes garbage = {(const uint8_t*)"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 12};
  gantry_bytes none = {NULL, 0};
  pid_t task = start_task();

  gantry_test_open(&t, &provider);
  gantry_test_setting_number(&t, "limit", 64);
  gantry_test_expect(&t, gantry_test_configure(&t, false).code == GANTRY_OK);
  gantry_test_expect(&t, gantry_test_call(&t, GANTRY_METHOD_START, none).code == GANTRY_OK);

  /* The held process is capped; preparing and cleaning up twice is the same as once. */
  gantry_test_expect(&t, prepare(&t, "c1") == GANTRY_OK && prepare(&t, "c1") == GANTRY_OK);
  gantry_test_expect(&t, attach(&t, "c1", task) == GANTRY_OK);
  gantry_test_expect(&t, limit_of(task) == 64);
  gantry_test_expect(&t, cleanup(&t, "c1") == GANTRY_OK && cleanup(&t, "c1") == GANTRY_OK);
  gantry_test_expect(&t, cleanup(&t, "never heard of") == GANTRY_OK);

  /* Wrong order, processes that are none. */
  gantry_test_expect(&t, attach(&t, "c1", task) == GANTRY_NOT_FOUND);
  gantry_test_expect(&t, strstr(t.last_error, "c1 was not prepared") != NULL);
  gantry_test_expect(&t, prepare(&t, "c2") == GANTRY_OK && attach(&t, "c2", 0) == GANTRY_INVALID_ARGUMENT);
  end_task(task);
  gantry_test_expect(&t, attach(&t, "c2", task) == GANTRY_NOT_FOUND);

  /* A reload counts for the next task; a wrong one names its key and changes nothing. */
  gantry_test_setting_number(&t, "limit", 32);
  gantry_test_expect(&t, gantry_test_configure(&t, true).code == GANTRY_OK);
  gantry_test_setting_number(&t, "limit", 3);
  gantry_test_expect(&t, gantry_test_configure(&t, true).code == GANTRY_INVALID_ARGUMENT);
  gantry_test_expect(&t, strcmp(t.last_key, "limit") == 0);
  task = start_task();
  gantry_test_expect(&t, prepare(&t, "c3") == GANTRY_OK && attach(&t, "c3", task) == GANTRY_OK && limit_of(task) == 32);
  end_task(task);

  /* Containers from before are known again, others forgotten. */
  task = start_task();
  gantry_test_expect(&t, recover(&t, "c9") == GANTRY_OK && attach(&t, "c9", task) == GANTRY_OK);
  gantry_test_expect(&t, attach(&t, "c3", task) == GANTRY_NOT_FOUND);
  end_task(task);

  /* What comes from outside may be anything. */
  for (uint32_t m = 4; m < 22; m = m == 4 ? 16 : m + 1)
    gantry_test_expect(&t, gantry_test_call(&t, m, garbage).code == GANTRY_INVALID_ARGUMENT);
  gantry_test_expect(&t, gantry_test_call(&t, GANTRY_METHOD_CONFIGURE, none).code == GANTRY_INVALID_ARGUMENT);
  gantry_test_expect(&t, gantry_test_call(&t, 99, none).code == GANTRY_UNIMPLEMENTED);
  gantry_test_expect(&t, gantry_test_call(&t, GANTRY_METHOD_HEALTH, none).body.len > 0);
  gantry_test_expect(&t, gantry_test_call(&t, GANTRY_METHOD_STOP, none).code == GANTRY_OK);
  return gantry_test_close(&t);
}
