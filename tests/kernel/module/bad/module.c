/* A module in plain C that answers everything with OK, and in one respect, chosen by macros, is wrong. */
#include <gantry/abi.h>

#ifndef BAD_MAJOR
#define BAD_MAJOR GANTRY_ABI_MAJOR
#endif
#ifndef BAD_MAGIC
#define BAD_MAGIC GANTRY_MAGIC
#endif
#ifndef BAD_SYMBOL
#define BAD_SYMBOL gantry_module_v1
#endif
#ifndef BAD_KIND
#define BAD_KIND "fetcher"
#endif
#ifndef BAD_REVISION
#define BAD_REVISION 1
#endif
#ifndef BAD_FLAGS
#define BAD_FLAGS 0
#endif
#ifndef BAD_COUNT
#define BAD_COUNT 1
#endif
#ifdef BAD_UNRESOLVED
extern int gantry_test_symbol_that_nobody_has(void);
#endif

static const gantry_host* the_host;
#ifndef BAD_CREATE_NULL
static int self;
#endif

static void* create(const gantry_host* host) {
  the_host = host;
#ifdef BAD_CREATE_NULL
  return (void*)0;
#else
  return &self;
#endif
}
#ifndef BAD_NO_CALL
static void call(void* me, const gantry_call* c) {
  const gantry_bytes none = {0, 0};
  (void)me;
#ifdef BAD_UNRESOLVED
  if (gantry_test_symbol_that_nobody_has()) return;
#endif
  the_host->complete(the_host->ctx, c->token, GANTRY_OK, none);
}
#else
#define call 0
#endif
static void reply(void* me, uint64_t token, gantry_code code, gantry_bytes body) {
  (void)me, (void)token, (void)code, (void)body;
}
static void cancel(void* me, uint64_t token) { (void)me, (void)token; }
static void destroy(void* me) { (void)me; }

#define PROVIDER(bytes) \
  { bytes, BAD_FLAGS, BAD_KIND, "good", BAD_REVISION, BAD_REVISION, 0, create, call, reply, cancel, destroy, 0 }

#if defined(BAD_BIGGER)
/* What a module of a later minor looks like: records longer than this kernel knows. */
struct longer {
  gantry_provider p;
  uint64_t appended[3];
};
static const struct longer providers[2] = {
    {{sizeof(struct longer), 0, "store", "other", 1, 1, 0, create, call, reply, cancel, destroy, 0}, {1, 2, 3}},
    {PROVIDER(sizeof(struct longer)), {4, 5, 6}}};
#define STRIDE sizeof(struct longer)
#define COUNT 2
#elif defined(BAD_SMALLER)
/* And of an earlier one: without the last member. */
struct shorter {
  uint32_t size, flags;
  const char *kind, *name;
  uint16_t rev_min, rev_max;
  uint32_t reserved;
  void* (*create)(const gantry_host*);
  void (*call)(void*, const gantry_call*);
  void (*reply)(void*, uint64_t, gantry_code, gantry_bytes);
  void (*cancel)(void*, uint64_t);
  void (*destroy)(void*);
};
static const struct shorter providers[1] = {
    {sizeof(struct shorter), 0, BAD_KIND, "good", 1, 1, 0, create, call, reply, cancel, destroy}};
#define STRIDE sizeof(struct shorter)
#define COUNT 1
#else
static const gantry_provider providers[1] = {PROVIDER(sizeof(gantry_provider))};
#ifdef BAD_STRIDE
#define STRIDE BAD_STRIDE
#else
#define STRIDE sizeof(gantry_provider)
#endif
#define COUNT BAD_COUNT
#endif

extern const gantry_module BAD_SYMBOL __attribute__((visibility("default")));
const gantry_module BAD_SYMBOL = {
    BAD_MAGIC, BAD_MAJOR, 0, sizeof(gantry_module), COUNT, STRIDE, (const gantry_provider*)providers, "test build"};
