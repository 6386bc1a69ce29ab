#include "@NAME_ID@.h"

#include <gantry/c/authenticator.h>

/* One instance. Calls come one at a time (one strand), so nothing here is locked. */
typedef struct instance {
  const gantry_host* host;
  char* principal;
  char* secret;
} instance;

void* @NAME_ID@_create(const gantry_host* host) {
  instance* m = calloc(1, sizeof *m);
  if (m) m->host = host;
  return m;
}
void @NAME_ID@_destroy(void* self) {
  instance* m = self;
  free(m->principal);
  free(m->secret);
  free(m);
}

/* The same time wherever the two differ: answers must not tell how much of a secret was right. */
static bool equal(gantry_text given, const char* stored) {
  const size_t len = strlen(stored);
  unsigned char difference = given.len == len ? 0 : 1;
  for (size_t i = 0; i < len; ++i) difference |= (unsigned char)(stored[i] ^ (i < given.len ? given.data[i] : 0));
  return difference == 0;
}

/* "user:secret" out of the parameters of an HTTP Basic header, into `out` of as many bytes; its length, 0 if it is no base64. */
static size_t decode_base64(gantry_text text, char* out) {
  static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  uint32_t bits = 0;
  size_t n = 0;
  int have = 0;
  while (text.len && text.data[text.len - 1] == '=') --text.len;
  for (size_t i = 0; i < text.len; ++i) {
    const char* at = text.data[i] ? strchr(alphabet, text.data[i]) : NULL;
    if (at == NULL) return 0;
    bits = bits << 6 | (uint32_t)(at - alphabet);
    have += 6;
    if (have >= 8) {
      have -= 8;
      out[n++] = (char)(bits >> have & 0xff);
    }
  }
  return n;
}

static void configure(instance* m, const gantry_call* call) {
  gantry_Configure c;
  if (!gantry_Configure_read(call->body, &c)) {
    gantry_reply_malformed(m->host, call, "Configure");
    return;
  }
  if (!gantry_config_is(m->host, call, c, "principal", GANTRY_SETTING_TYPE_STRING) ||
      !gantry_config_is(m->host, call, c, "secret", GANTRY_SETTING_TYPE_STRING))
    return;
  if (gantry_config_text(c, "secret").len == 0) {
    gantry_reply_error(m->host, call->token, GANTRY_INVALID_ARGUMENT, "secret", "secret is empty: nobody could be let in");
    return;
  }
  char* principal = gantry_text_copy(gantry_config_text(c, "principal"));
  char* secret = gantry_text_copy(gantry_config_text(c, "secret"));
  if (principal == NULL || secret == NULL) {
    free(principal);
    free(secret);
    gantry_reply_error(m->host, call->token, GANTRY_RESOURCE_EXHAUSTED, NULL, "out of memory");
    return;
  }
  free(m->principal);
  free(m->secret);
  m->principal = principal;
  m->secret = secret;
  gantry_reply_ok(m->host, call->token);
}

static void judge(instance* m, const gantry_call* call, gantry_text principal, gantry_text secret) {
  const bool known = m->principal && equal(principal, m->principal), right = m->secret && equal(secret, m->secret);
  if (!known || !right) { /* one sentence for both: it must not tell who exists */
    gantry_reply_error(m->host, call->token, GANTRY_UNAUTHENTICATED, NULL, "unknown principal or wrong secret");
    return;
  }
  gantry_fb_builder b;
  gantry_fb_init(&b);
  const gantry_fb_ref name = gantry_fb_text(&b, principal.data, principal.len);
  gantry_authenticator_Identity_begin(&b);
  gantry_authenticator_Identity_set_principal(&b, name);
  gantry_reply_message(m->host, call->token, GANTRY_OK, &b, gantry_authenticator_Identity_end(&b));
}

/* Three answers: an identity; UNAUTHENTICATED; UNIMPLEMENTED for a scheme that is not ours, so that the next module is asked.
 * What takes long (a hash, a directory server) belongs into host->offload or host->request, never on the strand. */
static void authenticate(instance* m, const gantry_call* call) {
  gantry_authenticator_Credentials c;
  if (!gantry_authenticator_Credentials_read(call->body, &c)) {
    gantry_reply_malformed(m->host, call, "Credentials");
    return;
  }
  const gantry_text scheme = gantry_authenticator_Credentials_scheme(c);
  /* Links of agents give principal and secret as they are; listeners the scheme and parameters of the header. */
  if (scheme.len == 0) {
    judge(m, call, gantry_authenticator_Credentials_principal(c), gantry_authenticator_Credentials_secret(c));
    return;
  }
  if (!gantry_text_is(scheme, "basic")) {
    gantry_reply_error(m->host, call->token, GANTRY_UNIMPLEMENTED, NULL, "scheme \"%.*s\" is not basic", GANTRY_TEXT(scheme));
    return;
  }
  const gantry_text parameters = gantry_authenticator_Credentials_parameters(c);
  char* pair = malloc(parameters.len + 1);
  if (pair == NULL) {
    gantry_reply_error(m->host, call->token, GANTRY_RESOURCE_EXHAUSTED, NULL, "out of memory");
    return;
  }
  const size_t len = decode_base64(parameters, pair);
  const char* colon = memchr(pair, ':', len);
  gantry_text principal = {pair, len}, secret = {pair + len, 0};
  if (colon) {
    principal.len = (size_t)(colon - pair);
    secret.data = colon + 1;
    secret.len = len - principal.len - 1;
  }
  judge(m, call, principal, secret);
  free(pair);
}

static void challenge(instance* m, const gantry_call* call) {
  gantry_authenticator_Challenge c;
  char value[512];
  gantry_fb_builder b;
  if (!gantry_authenticator_Challenge_read(call->body, &c)) {
    gantry_reply_malformed(m->host, call, "Challenge");
    return;
  }
  const gantry_text realm = gantry_authenticator_Challenge_realm(c);
  snprintf(value, sizeof value, "Basic realm=\"%.*s\"", GANTRY_TEXT(realm));
  gantry_fb_init(&b);
  const gantry_fb_ref r = gantry_fb_text(&b, realm.data, realm.len), v = gantry_fb_string(&b, value);
  gantry_authenticator_Challenge_begin(&b);
  gantry_authenticator_Challenge_set_realm(&b, r);
  gantry_authenticator_Challenge_set_value(&b, v);
  gantry_reply_message(m->host, call->token, GANTRY_OK, &b, gantry_authenticator_Challenge_end(&b));
}

/* Every path answers its token exactly once. Methods not known here are UNIMPLEMENTED by gantry_reply_default. */
void @NAME_ID@_call(void* self, const gantry_call* call) {
  instance* m = self;
  switch (call->method) {
    case GANTRY_METHOD_CONFIGURE: configure(m, call); return;
    case GANTRY_AUTHENTICATOR_METHOD_AUTHENTICATE: authenticate(m, call); return;
    case GANTRY_AUTHENTICATOR_METHOD_CHALLENGE: challenge(m, call); return;
    default: gantry_reply_default(m->host, call);
  }
}
