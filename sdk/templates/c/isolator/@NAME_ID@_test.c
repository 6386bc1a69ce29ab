/* The module on an in-memory host. Prints what does not hold; exit 0 if all does. */
#include "@NAME_ID@.h"

#include <gantry/c/isolator.h>
#include <gantry/c/testing.h>

static const gantry_provider provider = {sizeof(gantry_provider), 0, "isolator", "@NAME@", 1, 1, 0,
                                         @NAME_ID@_create, @NAME_ID@_call, gantry_no_reply, gantry_no_cancel,
                                         @NAME_ID@_destroy, gantry_no_extension};

static gantry_test_answer prepare(gantry_test* t, const char* id) {
  gantry_fb_builder b;
  gantry_fb_init(&b);
  const gantry_fb_ref container = gantry_fb_string(&b, id);
  gantry_isolator_Prepare_begin(&b);
  gantry_isolator_Prepare_set_container_id(&b, container);
  return gantry_test_send(t, GANTRY_ISOLATOR_METHOD_PREPARE, &b, gantry_isolator_Prepare_end(&b));
}
static gantry_code attach(gantry_test* t, const char* id) {
  gantry_fb_builder b;
  gantry_fb_init(&b);
  const gantry_fb_ref container = gantry_fb_string(&b, id);
  gantry_isolator_Attach_begin(&b);
  gantry_isolator_Attach_set_container_id(&b, container);
  gantry_isolator_Attach_set_pid(&b, 1);
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

int main(void) {
  static gantry_test t;
  const gantry_bytes none = {NULL, 0};
  gantry_test_open(&t, &provider);
  gantry_test_setting_text(&t, "variable", "ISOLATED_BY");
  gantry_test_expect(&t, gantry_test_configure(&t, false).code == GANTRY_OK);
  gantry_test_expect(&t, gantry_test_call(&t, GANTRY_METHOD_START, none).code == GANTRY_OK);

  /* The life of a container. */
  gantry_isolator_Prepared prepared = {NULL};
  const gantry_test_answer a = prepare(&t, "c1");
  gantry_test_expect(&t, a.code == GANTRY_OK && gantry_isolator_Prepared_read(a.body, &prepared));
  const gantry_Variable v = gantry_Variable_at(gantry_isolator_Prepared_environment(prepared), 0);
  gantry_test_expect(&t, gantry_text_is(gantry_Variable_name(v), "ISOLATED_BY"));
  gantry_test_expect(&t, attach(&t, "c1") == GANTRY_OK);
  gantry_test_expect(&t, cleanup(&t, "c1") == GANTRY_OK && cleanup(&t, "c1") == GANTRY_OK);
  gantry_test_expect(&t, attach(&t, "c1") == GANTRY_NOT_FOUND);

  /* A wrong setting is refused by key. */
  gantry_test_setting_text(&t, "variable", "a=b");
  gantry_test_expect(&t, gantry_test_configure(&t, true).code == GANTRY_INVALID_ARGUMENT);
  gantry_test_expect(&t, strcmp(t.last_key, "variable") == 0);

  gantry_test_expect(&t, gantry_test_call(&t, 99, none).code == GANTRY_UNIMPLEMENTED);
  gantry_test_expect(&t, gantry_test_call(&t, GANTRY_METHOD_STOP, none).code == GANTRY_OK);
  return gantry_test_close(&t);
}
