/* The descriptor of a broken module, wrong in one respect where a macro says so. The fault's name goes to the code. */
#include <gantry/abi.h>

#ifndef BROKEN_MAGIC
#define BROKEN_MAGIC GANTRY_MAGIC
#endif
#ifndef BROKEN_MAJOR
#define BROKEN_MAJOR GANTRY_ABI_MAJOR
#endif
#ifndef BROKEN_SYMBOL
#define BROKEN_SYMBOL gantry_module_v1
#endif
#ifndef BROKEN_STRIDE
#define BROKEN_STRIDE sizeof(gantry_provider)
#endif
#ifndef BROKEN_SIZE
#define BROKEN_SIZE sizeof(gantry_module)
#endif
#ifndef BROKEN_REVISION
#define BROKEN_REVISION 1
#endif
#ifndef BROKEN_CALL
#define BROKEN_CALL broken_call
#endif

extern void* broken_create(const gantry_host* host);
extern void broken_call(void* self, const gantry_call* call);
extern void broken_reply(void* self, uint64_t token, gantry_code code, gantry_bytes body);
extern void broken_cancel(void* self, uint64_t token);
extern void broken_destroy(void* self);

const char broken_fault[] = BROKEN_FAULT;

static const gantry_provider providers[] = {{sizeof(gantry_provider), 0, BROKEN_KIND, BROKEN_NAME, BROKEN_REVISION,
                                             BROKEN_REVISION, 0, broken_create, BROKEN_CALL, broken_reply,
                                             broken_cancel, broken_destroy, 0}};

#define EXPORTED __attribute__((visibility("default")))
extern EXPORTED const gantry_module BROKEN_SYMBOL;
const gantry_module BROKEN_SYMBOL = {BROKEN_MAGIC, BROKEN_MAJOR, GANTRY_ABI_MINOR, BROKEN_SIZE, 1, BROKEN_STRIDE,
                                     providers, "broken on purpose"};
#ifdef BROKEN_SECOND_EXPORT
extern EXPORTED int acme_helper(void);
int acme_helper(void) { return 1; }
#endif
#ifdef BROKEN_UNIQUE
/* What gcc makes of a template's static member that is visible. */
__asm__(".pushsection .data\n.globl acme_unique\n.type acme_unique, @gnu_unique_object\n.size acme_unique, 4\n"
        "acme_unique: .long 7\n.popsection\n");
#endif
