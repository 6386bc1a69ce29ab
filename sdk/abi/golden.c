/* The layout of ABI 1.0, as numbers. A released offset never changes: if this file no longer compiles, the change
 * breaks every module that exists. New members are added at the end of a struct, and of this file.
 * Compiled as C11, C17 and C++20 with -Wpadded: there is no padding a compiler could lay out differently. */
#include <gantry/abi.h>

#ifdef __cplusplus
#define CHECK(condition) static_assert(condition, #condition)
#else
#define CHECK(condition) _Static_assert(condition, #condition)
#endif
#define AT(type, member, offset) CHECK(offsetof(type, member) == (offset))

CHECK(sizeof(void*) == 8);
CHECK(GANTRY_ABI_MAJOR == 1);
CHECK(sizeof(GANTRY_MAGIC) == 8);

/* 1.0 */
AT(gantry_bytes, data, 0);
AT(gantry_bytes, len, 8);
CHECK(sizeof(gantry_bytes) == 16);

AT(gantry_call, size, 0);
AT(gantry_call, method, 4);
AT(gantry_call, token, 8);
AT(gantry_call, deadline_ns, 16);
AT(gantry_call, body, 24);
AT(gantry_call, fds, 40);
AT(gantry_call, nfds, 48);
AT(gantry_call, reserved, 52);
AT(gantry_call, trace, 56);
CHECK(sizeof(gantry_call) >= 72);

AT(gantry_host, size, 0);
AT(gantry_host, abi_minor, 4);
AT(gantry_host, ctx, 8);
AT(gantry_host, log_threshold, 16);
AT(gantry_host, log, 24);
AT(gantry_host, complete, 32);
AT(gantry_host, request, 40);
AT(gantry_host, post, 48);
AT(gantry_host, offload, 56);
AT(gantry_host, timer, 64);
AT(gantry_host, timer_cancel, 72);
AT(gantry_host, metric, 80);
AT(gantry_host, metric_add, 88);
AT(gantry_host, now, 96);
AT(gantry_host, wall, 104);
AT(gantry_host, request_cancel, 112);
AT(gantry_host, extension, 120);
CHECK(sizeof(gantry_host) >= 128);

AT(gantry_provider, size, 0);
AT(gantry_provider, flags, 4);
AT(gantry_provider, kind, 8);
AT(gantry_provider, name, 16);
AT(gantry_provider, rev_min, 24);
AT(gantry_provider, rev_max, 26);
AT(gantry_provider, reserved, 28);
AT(gantry_provider, create, 32);
AT(gantry_provider, call, 40);
AT(gantry_provider, reply, 48);
AT(gantry_provider, cancel, 56);
AT(gantry_provider, destroy, 64);
AT(gantry_provider, extension, 72);
CHECK(sizeof(gantry_provider) >= 80);

AT(gantry_module, magic, 0);
AT(gantry_module, abi_major, 8);
AT(gantry_module, abi_minor, 10);
AT(gantry_module, size, 12);
AT(gantry_module, provider_count, 16);
AT(gantry_module, provider_stride, 20);
AT(gantry_module, providers, 24);
AT(gantry_module, build, 32);
CHECK(sizeof(gantry_module) >= 40);

/* Codes and methods travel between binaries of different age as well. */
CHECK(GANTRY_OK == 0 && GANTRY_MORE == 1 && GANTRY_CANCELLED == -1 && GANTRY_UNKNOWN == -2 && GANTRY_INVALID_ARGUMENT == -3);
CHECK(GANTRY_DEADLINE_EXCEEDED == -4 && GANTRY_NOT_FOUND == -5 && GANTRY_ALREADY_EXISTS == -6 && GANTRY_PERMISSION_DENIED == -7);
CHECK(GANTRY_RESOURCE_EXHAUSTED == -8 && GANTRY_FAILED_PRECONDITION == -9 && GANTRY_ABORTED == -10 && GANTRY_OUT_OF_RANGE == -11);
CHECK(GANTRY_UNIMPLEMENTED == -12 && GANTRY_INTERNAL == -13 && GANTRY_UNAVAILABLE == -14 && GANTRY_DATA_LOSS == -15);
CHECK(GANTRY_UNAUTHENTICATED == -16);
CHECK(GANTRY_METHOD_CONFIGURE == 0 && GANTRY_METHOD_START == 1 && GANTRY_METHOD_STOP == 2 && GANTRY_METHOD_HEALTH == 3);
CHECK(GANTRY_METHOD_RECOVER == 4 && GANTRY_METHOD_CREDIT == 5);
CHECK(GANTRY_CONCURRENT == 1 && GANTRY_BLOCKING == 2 && GANTRY_NEEDS_PROCESS == 4 && GANTRY_NEVER_PROCESS == 8);
CHECK(GANTRY_LOG_DEBUG == 0 && GANTRY_LOG_INFO == 1 && GANTRY_LOG_WARNING == 2 && GANTRY_LOG_ERROR == 3);
CHECK(GANTRY_NOTE_MANIFEST == 1 && sizeof(GANTRY_NOTE_SECTION) == 13 && sizeof(GANTRY_NOTE_NAME) == 7);
CHECK(sizeof(GANTRY_MODULE_SYMBOL) == 17);
CHECK(sizeof(gantry_code) == 4 && (gantry_code)-1 < 0);
CHECK(GANTRY_ABI_MINOR >= 0);
