/* The module on an in-memory host. Prints what does not hold; exit 0 if all does. */
#include "@NAME_ID@.h"

#include <gantry/c/authenticator.h>
#include <gantry/c/testing.h>

static const gantry_provider provider = {sizeof(gantry_provider), 0, "authenticator", "@NAME@", 1, 1, 0,
                                         @NAME_ID@_create, @NAME_ID@_call, gantry_no_reply, gantry_no_cancel,
                                         @NAME_ID@_destroy, gantry_no_extension};

static gantry_test_answer ask(gantry_test* t, const char* scheme, const char* parameters, const char* principal,
                              const char* secret) {
  gantry_fb_builder b;
  gantry_fb_init(&b);
  const gantry_fb_ref s = gantry_fb_string(&b, scheme), q = gantry_fb_string(&b, parameters);
  const gantry_fb_ref p = gantry_fb_string(&b, principal), x = gantry_fb_string(&b, secret);
  gantry_authenticator_Credentials_begin(&b);
  gantry_authenticator_Credentials_set_scheme(&b, s);
  gantry_authenticator_Credentials_set_parameters(&b, q);
  gantry_authenticator_Credentials_set_principal(&b, p);
  gantry_authenticator_Credentials_set_secret(&b, x);
  return gantry_test_send(t, GANTRY_AUTHENTICATOR_METHOD_AUTHENTICATE, &b, gantry_authenticator_Credentials_end(&b));
}
static bool is_alice(gantry_test_answer a) {
  gantry_authenticator_Identity i;
  return a.code == GANTRY_OK && gantry_authenticator_Identity_read(a.body, &i) &&
         gantry_text_is(gantry_authenticator_Identity_principal(i), "alice");
}

int main(void) {
  static gantry_test t;
  gantry_test_open(&t, &provider);
  gantry_test_setting_text(&t, "principal", "alice");
  gantry_test_setting_text(&t, "secret", "wonderland");
  gantry_test_expect(&t, gantry_test_configure(&t, false).code == GANTRY_OK);
  gantry_test_expect(&t, is_alice(ask(&t, "", "", "alice", "wonderland")));
  gantry_test_expect(&t, is_alice(ask(&t, "basic", "YWxpY2U6d29uZGVybGFuZA==", "", "")));
  gantry_test_expect(&t, ask(&t, "", "", "alice", "").code == GANTRY_UNAUTHENTICATED);
  gantry_test_expect(&t, ask(&t, "", "", "bob", "wonderland").code == GANTRY_UNAUTHENTICATED);
  gantry_test_expect(&t, ask(&t, "basic", "no base64!", "", "").code == GANTRY_UNAUTHENTICATED);
  gantry_test_expect(&t, ask(&t, "bearer", "x", "", "").code == GANTRY_UNIMPLEMENTED);
  return gantry_test_close(&t);
}
