/* Gantry module ABI, major 1: the only C++-free line between gantryd and a module.
 *
 * Conventions, valid for every declaration below:
 *  1. C11 (also compiles as C17 and C++20, without padding warnings); fixed-width integers only.
 *  2. Every struct starts with its own size in bytes. Members are only ever appended; whoever reads
 *     a member that a smaller peer may lack checks `size` first. Nothing is inserted or removed in major 1.
 *  3. Ownership: whoever passes bytes keeps them alive until the matching completion (for a call) or
 *     until the function returns (for everything else). Whoever needs them longer copies.
 *     Nobody frees the other side's memory.
 *  4. Threads: [strand] = entered by the host one at a time per instance, never re-entrantly, not always
 *     on the same OS thread. [any] = may be called from any thread at any time between create and the
 *     return of destroy. The host never enters a module from inside a host function.
 *  5. No exception, C++ type, or foreign allocator crosses this line.
 *  6. Integers in messages and structs are host byte order; both sides live on one machine.
 *
 * Message bodies are flatbuffers, described in sdk/schema. A body that does not verify is answered with
 * GANTRY_INVALID_ARGUMENT by the generated wrapper; raw C authors verify themselves.
 */
#ifndef GANTRY_ABI_H
#define GANTRY_ABI_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GANTRY_ABI_MAJOR 1
#define GANTRY_ABI_MINOR 0
#define GANTRY_MAGIC "GANTRYM" /* seven characters and the terminating zero */

/* Name and type of the ELF note that holds module.toml byte for byte, so tools read it without running code. */
#define GANTRY_NOTE_SECTION ".note.gantry"
#define GANTRY_NOTE_NAME "Gantry"
#define GANTRY_NOTE_MANIFEST 1

typedef struct gantry_bytes {
  const uint8_t* data; /* may be NULL when len is 0 */
  size_t len;
} gantry_bytes;

/* 0 success, 1 a stream chunk (more completions follow), negative an error of this fixed catalogue. */
typedef int32_t gantry_code;
#define GANTRY_OK 0
#define GANTRY_MORE 1
#define GANTRY_CANCELLED (-1)
#define GANTRY_UNKNOWN (-2)
#define GANTRY_INVALID_ARGUMENT (-3)
#define GANTRY_DEADLINE_EXCEEDED (-4)
#define GANTRY_NOT_FOUND (-5)
#define GANTRY_ALREADY_EXISTS (-6)
#define GANTRY_PERMISSION_DENIED (-7)
#define GANTRY_RESOURCE_EXHAUSTED (-8)
#define GANTRY_FAILED_PRECONDITION (-9)
#define GANTRY_ABORTED (-10)
#define GANTRY_OUT_OF_RANGE (-11)
#define GANTRY_UNIMPLEMENTED (-12)
#define GANTRY_INTERNAL (-13)
#define GANTRY_UNAVAILABLE (-14)
#define GANTRY_DATA_LOSS (-15)
#define GANTRY_UNAUTHENTICATED (-16)

/* Log levels; a record below *gantry_host.log_threshold need not be built. */
#define GANTRY_LOG_DEBUG 0
#define GANTRY_LOG_INFO 1
#define GANTRY_LOG_WARNING 2
#define GANTRY_LOG_ERROR 3

/* Methods 0..15 are the same for every kind; a kind's own methods start at 16. */
#define GANTRY_METHOD_CONFIGURE 0 /* body Configure; also sent again on reload */
#define GANTRY_METHOD_START 1     /* empty body; after configure, dependencies are started */
#define GANTRY_METHOD_STOP 2      /* empty body; drain, then complete; no further calls but destroy follow */
#define GANTRY_METHOD_HEALTH 3    /* empty body; reply Health */
#define GANTRY_METHOD_RECOVER 4   /* kind specific body; once, before the first method of the kind */
#define GANTRY_METHOD_CREDIT 5    /* body Credit; grants further chunks to a running stream */

typedef struct gantry_call {
  uint32_t size;
  uint32_t method;
  uint64_t token;       /* give it back through gantry_host.complete, with a final code exactly once */
  uint64_t deadline_ns; /* CLOCK_MONOTONIC; 0 = none */
  gantry_bytes body;    /* valid until this token is completed with a final code */
  const int32_t* fds;   /* borrowed until the final completion: dup what you keep */
  uint32_t nfds;
  uint32_t reserved;
  uint8_t trace[16]; /* W3C trace id, zero if none */
} gantry_call;

/* What the host gives one instance; valid from create until destroy returns. All functions are [any]. */
typedef struct gantry_host {
  uint32_t size;
  uint32_t abi_minor;
  void* ctx;
  const uint32_t* log_threshold; /* read it relaxed-atomically; skip building records below it */

  /* record: flatbuffer LogRecord. Rate limited per instance; never blocks. */
  void (*log)(void* ctx, uint32_t level, gantry_bytes record);

  /* Completes `token` with MORE any number of times, then once with a final code. A body with a negative
   * code is a flatbuffer Error. Late, repeated or unknown tokens are counted against the instance and ignored. */
  void (*complete)(void* ctx, uint64_t token, gantry_code code, gantry_bytes reply);

  /* Calls a host service (ids in host.fbs). The answer arrives in provider.reply with my_token: MORE chunks,
   * then one final code. Returns GANTRY_OK if accepted, else no reply follows. */
  gantry_code (*request)(void* ctx, uint32_t service, uint32_t method, gantry_bytes body, uint64_t my_token);

  /* Runs fn(arg) on this instance's strand, later. */
  void (*post)(void* ctx, void (*fn)(void*), void* arg);

  /* Runs fn(arg) on the host's blocking pool. Use post() to come back to the strand. */
  void (*offload)(void* ctx, void (*fn)(void*), void* arg);

  /* Runs fn(arg) on the strand once the clock reaches at_ns. Returns an id, never 0. */
  uint64_t (*timer)(void* ctx, uint64_t at_ns, void (*fn)(void*), void* arg);
  /* After it returns on the strand, fn does not run any more. Unknown ids are ignored. */
  void (*timer_cancel)(void* ctx, uint64_t id);

  /* desc: flatbuffer MetricDesc. Returns an id to use with metric_add; the same name gives the same id. */
  uint32_t (*metric)(void* ctx, gantry_bytes desc);
  void (*metric_add)(void* ctx, uint32_t id, double value);

  /* Monotonic nanoseconds of the host's clock: real in a daemon, manual in tests and simulations. */
  uint64_t (*now)(void* ctx);
  /* Wall clock, nanoseconds since 1970; may jump. For timestamps shown to people, never for durations. */
  uint64_t (*wall)(void* ctx);

  /* Cancels a running request of mine; its reply still arrives, usually with GANTRY_CANCELLED. */
  void (*request_cancel)(void* ctx, uint64_t my_token);

  const void* (*extension)(void* ctx, const char* id);
} gantry_host;

/* gantry_provider.flags */
#define GANTRY_CONCURRENT 1u    /* calls may overlap; the module locks for itself */
#define GANTRY_BLOCKING 2u      /* give the instance a thread of its own */
#define GANTRY_NEEDS_PROCESS 4u /* refuses host = "kernel" */
#define GANTRY_NEVER_PROCESS 8u /* refuses host = "process" */

/* One implementation inside a module. All functions are [strand] unless flags say CONCURRENT. */
typedef struct gantry_provider {
  uint32_t size;
  uint32_t flags;
  const char* kind; /* "isolator" */
  const char* name; /* "cgroups" */
  uint16_t rev_min; /* lowest and highest kind revision understood */
  uint16_t rev_max;
  uint32_t reserved;
  void* (*create)(const gantry_host* host);      /* cheap, no I/O; NULL = out of memory */
  void (*call)(void* self, const gantry_call* call); /* the struct itself is only valid during the call */
  void (*reply)(void* self, uint64_t my_token, gantry_code code, gantry_bytes body);
  void (*cancel)(void* self, uint64_t token);    /* a wish: the token must still be completed */
  void (*destroy)(void* self);                   /* the host has seen all tokens completed before */
  const void* (*extension)(void* self, const char* id);
} gantry_provider;

typedef struct gantry_module {
  char magic[8];
  uint16_t abi_major;
  uint16_t abi_minor;
  uint32_t size;
  uint32_t provider_count;
  uint32_t provider_stride; /* distance between providers, so either side may have the longer struct */
  const gantry_provider* providers;
  const char* build; /* compiler, flags, vendor stamp: for people and bug reports */
} gantry_module;

/* The only symbol a module exports. */
#define GANTRY_MODULE_SYMBOL "gantry_module_v1"

#ifdef __cplusplus
}
#endif
#endif
