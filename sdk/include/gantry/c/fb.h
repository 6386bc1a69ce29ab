/* Flatbuffers for C11: verify, read, build. The generated headers beside this one (<gantry/c/isolator.h>, ...) rest on
 * it; an author uses mostly their functions, and from here gantry_text, gantry_fb_vector and gantry_fb_builder.
 *
 * Reading: T_read(bytes, &t) verifies everything reachable once, by the rules of the C++ verifier; after that accessors
 * only follow offsets. A handle T is a pointer into the bytes and lives as long as they do (a request's body: until its
 * token is completed). An absent field reads as its default, an absent text, vector or table as {NULL}; accessors may
 * be called on an absent table and answer with defaults.
 *
 * Building: children first, then T_begin, T_set_x..., T_end, at last gantry_fb_finish. A builder that ran out of memory
 * or was misused (nested begin, child made inside a table) turns `failed` and finishes with empty bytes.
 *
 * Threads: none of its own; a builder belongs to one thread at a time. Host byte order must be little-endian.
 * All functions are static inline, so nothing of this appears in a module's symbols. */
#ifndef GANTRY_C_FB_H
#define GANTRY_C_FB_H

#include <gantry/abi.h>

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#ifdef __cplusplus
#define GANTRY_FB_ASSERT(condition) static_assert(condition, #condition)
extern "C" {
#else
#define GANTRY_FB_ASSERT(condition) _Static_assert(condition, #condition)
#endif

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "gantry/c/fb.h reads flatbuffers in place and needs a little-endian machine"
#endif

/* Bytes of a string: UTF-8, not checked; a zero follows the last byte. data is NULL when the field is absent. */
typedef struct gantry_text {
  const char* data;
  size_t len;
} gantry_text;

/* Elements of a vector; `at` is NULL and count 0 when the field is absent. */
typedef struct gantry_fb_vector {
  const uint8_t* at;
  size_t count;
} gantry_fb_vector;

/* ---- what a table looks like, for the verifier (made by the generator) */

#define GANTRY_FB_SCALAR 0        /* size and align are the scalar's */
#define GANTRY_FB_STRUCT 1        /* size and align are the struct's */
#define GANTRY_FB_STRING 2
#define GANTRY_FB_TABLE 3         /* shape */
#define GANTRY_FB_VECTOR 4        /* of scalars or structs of `size` bytes */
#define GANTRY_FB_STRINGS 5
#define GANTRY_FB_TABLES 6        /* shape */
#define GANTRY_FB_UNION 7         /* shape: one entry a member, `slot` being its tag; the tag's field is slot - 2 */

typedef struct gantry_fb_field {
  uint16_t slot; /* offset in the vtable: 4 + 2 * field id */
  uint8_t kind;
  uint8_t required;
  uint32_t align;
  size_t size;
  const struct gantry_fb_shape* shape;
} gantry_fb_field;

typedef struct gantry_fb_shape {
  const char* name;
  const gantry_fb_field* fields;
  size_t count;
} gantry_fb_shape;

/* ---- raw access, without checks */

static inline uint16_t gantry_fb_u16(const uint8_t* p) { uint16_t v; memcpy(&v, p, sizeof v); return v; }
static inline uint32_t gantry_fb_u32(const uint8_t* p) { uint32_t v; memcpy(&v, p, sizeof v); return v; }
static inline int32_t gantry_fb_i32(const uint8_t* p) { int32_t v; memcpy(&v, p, sizeof v); return v; }
static inline const uint8_t* gantry_fb_follow(const uint8_t* p) { return p + gantry_fb_u32(p); }

/* ---- verifier */

#define GANTRY_FB_MAX_SIZE 2147483647u
#define GANTRY_FB_MAX_DEPTH 64u
#define GANTRY_FB_MAX_TABLES 10000000u

typedef struct gantry_fb_check {
  const uint8_t* data;
  size_t len;
  uint32_t depth;
  uint32_t tables;
} gantry_fb_check;

static inline int gantry_fb_ok(const gantry_fb_check* c, size_t at, size_t n) { return n < c->len && at <= c->len - n; }
static inline int gantry_fb_ok_scalar(const gantry_fb_check* c, size_t at, size_t n) {
  return (at & (n - 1)) == 0 && gantry_fb_ok(c, at, n);
}
/* Follows the offset stored at `at`; 0 if it is not valid. */
static inline size_t gantry_fb_ok_offset(const gantry_fb_check* c, size_t at) {
  uint32_t o;
  if (!gantry_fb_ok_scalar(c, at, 4)) return 0;
  o = gantry_fb_u32(c->data + at);
  if (o == 0 || o > GANTRY_FB_MAX_SIZE || !gantry_fb_ok(c, at + o, 1)) return 0;
  return at + o;
}
static inline int gantry_fb_ok_vector(const gantry_fb_check* c, size_t at, size_t size, size_t* end) {
  size_t n;
  if (!gantry_fb_ok_scalar(c, at, 4)) return 0;
  n = gantry_fb_u32(c->data + at);
  if (n >= GANTRY_FB_MAX_SIZE / size) return 0;
  *end = at + 4 + n * size;
  return gantry_fb_ok(c, at, 4 + n * size);
}
static inline int gantry_fb_ok_string(const gantry_fb_check* c, size_t at) {
  size_t end;
  return gantry_fb_ok_vector(c, at, 1, &end) && gantry_fb_ok(c, end, 1) && c->data[end] == 0;
}
static inline int gantry_fb_ok_table(gantry_fb_check* c, const gantry_fb_shape* shape, size_t at);

static inline int gantry_fb_ok_field(gantry_fb_check* c, const gantry_fb_field* f, size_t table, size_t vtable,
                                     size_t vsize) {
  const size_t in = f->slot < vsize ? gantry_fb_u16(c->data + vtable + f->slot) : 0;
  const size_t at = table + in;
  size_t to, end, i, n;
  if (in == 0) return !f->required;
  if (f->kind == GANTRY_FB_SCALAR || f->kind == GANTRY_FB_STRUCT)
    return (at & (f->align - 1)) == 0 && gantry_fb_ok(c, at, f->size);
  to = gantry_fb_ok_offset(c, at);
  if (to == 0) return 0;
  switch (f->kind) {
    case GANTRY_FB_STRING: return gantry_fb_ok_string(c, to);
    case GANTRY_FB_TABLE: return gantry_fb_ok_table(c, f->shape, to);
    case GANTRY_FB_VECTOR: return gantry_fb_ok_vector(c, to, f->size, &end);
    case GANTRY_FB_UNION: {
      const size_t tag_in = gantry_fb_u16(c->data + vtable + f->slot - 2);
      const uint8_t tag = tag_in ? c->data[table + tag_in] : 0; /* in bounds: the tag's own field came before */
      for (i = 0; tag && i < f->shape->count; ++i)
        if (f->shape->fields[i].slot == tag) return gantry_fb_ok_table(c, f->shape->fields[i].shape, to);
      return 1; /* none, or a member of a later schema: never read */
    }
    default: break;
  }
  if (!gantry_fb_ok_vector(c, to, 4, &end)) return 0;
  n = gantry_fb_u32(c->data + to);
  for (i = 0; i < n; ++i) {
    const size_t slot = to + 4 + 4 * i;
    const size_t element = slot + gantry_fb_u32(c->data + slot);
    if (!(f->kind == GANTRY_FB_STRINGS ? gantry_fb_ok_string(c, element) : gantry_fb_ok_table(c, f->shape, element)))
      return 0;
  }
  return 1;
}

static inline int gantry_fb_ok_table(gantry_fb_check* c, const gantry_fb_shape* shape, size_t at) {
  size_t vtable, vsize, i;
  if (!gantry_fb_ok_scalar(c, at, 4)) return 0;
  vtable = at - (size_t)(ptrdiff_t)gantry_fb_i32(c->data + at);
  if (++c->depth > GANTRY_FB_MAX_DEPTH || ++c->tables > GANTRY_FB_MAX_TABLES) return 0;
  if (!gantry_fb_ok_scalar(c, vtable, 2)) return 0;
  vsize = gantry_fb_u16(c->data + vtable);
  if ((vsize & 1) || !gantry_fb_ok(c, vtable, vsize)) return 0;
  for (i = 0; i < shape->count; ++i)
    if (!gantry_fb_ok_field(c, &shape->fields[i], at, vtable, vsize)) return 0;
  --c->depth;
  return 1;
}

/* The root table of `bytes` if they hold a valid one of this shape, else NULL. */
static inline const uint8_t* gantry_fb_root(gantry_bytes bytes, const gantry_fb_shape* shape) {
  gantry_fb_check c = {bytes.data, bytes.len, 0, 0};
  size_t root;
  if (bytes.data == NULL || bytes.len < 8 || bytes.len > GANTRY_FB_MAX_SIZE) return NULL;
  root = gantry_fb_ok_offset(&c, 0);
  return root && gantry_fb_ok_table(&c, shape, root) ? bytes.data + root : NULL;
}

/* ---- reading verified tables */

/* Where a field is, or NULL. */
static inline const uint8_t* gantry_fb_at(const uint8_t* table, uint16_t slot) {
  const uint8_t* vtable;
  uint16_t in;
  if (table == NULL) return NULL;
  vtable = table - gantry_fb_i32(table);
  in = slot < gantry_fb_u16(vtable) ? gantry_fb_u16(vtable + slot) : 0;
  return in ? table + in : NULL;
}
static inline const uint8_t* gantry_fb_ref_at(const uint8_t* table, uint16_t slot) {
  const uint8_t* at = gantry_fb_at(table, slot);
  return at ? gantry_fb_follow(at) : NULL;
}
static inline gantry_text gantry_fb_text_of(const uint8_t* at) {
  gantry_text t = {NULL, 0};
  if (at) { t.data = (const char*)at + 4; t.len = gantry_fb_u32(at); }
  return t;
}
static inline gantry_text gantry_fb_get_text(const uint8_t* table, uint16_t slot) {
  return gantry_fb_text_of(gantry_fb_ref_at(table, slot));
}
static inline gantry_bytes gantry_fb_get_bytes(const uint8_t* table, uint16_t slot) {
  const uint8_t* at = gantry_fb_ref_at(table, slot);
  gantry_bytes b = {NULL, 0};
  if (at) { b.data = at + 4; b.len = gantry_fb_u32(at); }
  return b;
}
static inline gantry_fb_vector gantry_fb_get_vector(const uint8_t* table, uint16_t slot) {
  const uint8_t* at = gantry_fb_ref_at(table, slot);
  gantry_fb_vector v = {NULL, 0};
  if (at) { v.at = at + 4; v.count = gantry_fb_u32(at); }
  return v;
}
/* Element i of a vector of strings; absent when i is past the end. */
static inline gantry_text gantry_fb_text_at(gantry_fb_vector v, size_t i) {
  return gantry_fb_text_of(i < v.count ? gantry_fb_follow(v.at + 4 * i) : NULL);
}
/* Element i of a vector of tables, or NULL. */
static inline const uint8_t* gantry_fb_table_at(gantry_fb_vector v, size_t i) {
  return i < v.count ? gantry_fb_follow(v.at + 4 * i) : NULL;
}

/* ---- building */

typedef uint32_t gantry_fb_ref; /* a finished child: its distance from the end of the buffer; 0 = absent */

#define GANTRY_FB_MAX_FIELDS 256
#define GANTRY_FB_VTABLES 16

typedef struct gantry_fb_builder {
  uint8_t* data; /* filled from the end towards the front */
  size_t capacity;
  size_t used;
  size_t align;     /* largest seen */
  uint32_t failed;  /* 1 = out of memory, 2 = misuse */
  uint32_t inside;  /* between T_begin and T_end */
  uint32_t start;   /* `used` at T_begin */
  uint32_t fields;  /* highest field id set so far, plus 1 */
  uint32_t slots[GANTRY_FB_MAX_FIELDS];
  uint32_t vtables[GANTRY_FB_VTABLES]; /* latest ones: equal vtables are shared */
  uint32_t next_vtable;
  uint32_t reserved;
} gantry_fb_builder;

static inline void gantry_fb_init(gantry_fb_builder* b) { memset(b, 0, sizeof *b); b->align = 1; }
/* Frees the memory; the builder is as after gantry_fb_init. */
static inline void gantry_fb_clear(gantry_fb_builder* b) { free(b->data); gantry_fb_init(b); }

/* Makes room for n bytes at the front and returns it, or NULL. */
static inline uint8_t* gantry_fb_push(gantry_fb_builder* b, size_t n) {
  if (b->failed) return NULL;
  if (b->data == NULL || n > b->capacity - b->used) {
    size_t capacity = b->capacity ? b->capacity : 256;
    uint8_t* data;
    while (capacity - b->used < n && capacity <= GANTRY_FB_MAX_SIZE) capacity *= 2;
    data = capacity <= GANTRY_FB_MAX_SIZE ? (uint8_t*)malloc(capacity) : NULL;
    if (data == NULL) {
      b->failed = 1;
      return NULL;
    }
    if (b->used) memcpy(data + capacity - b->used, b->data + b->capacity - b->used, b->used);
    free(b->data);
    b->data = data;
    b->capacity = capacity;
  }
  b->used += n;
  return b->data + b->capacity - b->used;
}
/* Pads so that after `n` further bytes the front is a multiple of `align`. */
static inline void gantry_fb_pad(gantry_fb_builder* b, size_t n, size_t align) {
  const size_t pad = (~(b->used + n) + 1) & (align - 1);
  uint8_t* p;
  if (align > b->align) b->align = align;
  p = gantry_fb_push(b, pad);
  if (p && pad) memset(p, 0, pad);
}
static inline void gantry_fb_push_u32(gantry_fb_builder* b, uint32_t v) {
  uint8_t* p = gantry_fb_push(b, 4);
  if (p) memcpy(p, &v, 4);
}
static inline int gantry_fb_outside(gantry_fb_builder* b) {
  if (b->inside && !b->failed) b->failed = 2;
  return !b->failed;
}

/* A vector of n scalars or structs, copied as they lie in memory. */
static inline gantry_fb_ref gantry_fb_vector_of(gantry_fb_builder* b, const void* items, size_t n, size_t size,
                                                size_t align) {
  uint8_t* p;
  if (!gantry_fb_outside(b)) return 0;
  if (n > GANTRY_FB_MAX_SIZE / size) { b->failed = 1; return 0; }
  gantry_fb_pad(b, n * size, 4);
  gantry_fb_pad(b, n * size, align);
  p = gantry_fb_push(b, n * size);
  if (p && n) memcpy(p, items, n * size);
  gantry_fb_push_u32(b, (uint32_t)n);
  return b->failed ? 0 : (gantry_fb_ref)b->used;
}
static inline gantry_fb_ref gantry_fb_bytes(gantry_fb_builder* b, const void* data, size_t n) {
  return gantry_fb_vector_of(b, data, n, 1, 1);
}
static inline gantry_fb_ref gantry_fb_text(gantry_fb_builder* b, const char* data, size_t len) {
  uint8_t* p;
  if (!gantry_fb_outside(b)) return 0;
  if (len >= GANTRY_FB_MAX_SIZE) { b->failed = 1; return 0; }
  gantry_fb_pad(b, len + 1, 4);
  p = gantry_fb_push(b, len + 1);
  if (p) {
    if (len) memcpy(p, data, len);
    p[len] = 0;
  }
  gantry_fb_push_u32(b, (uint32_t)len);
  return b->failed ? 0 : (gantry_fb_ref)b->used;
}
static inline gantry_fb_ref gantry_fb_string(gantry_fb_builder* b, const char* s) {
  return s ? gantry_fb_text(b, s, strlen(s)) : 0;
}
/* A vector of n children (tables or strings) made before. */
static inline gantry_fb_ref gantry_fb_refs(gantry_fb_builder* b, const gantry_fb_ref* refs, size_t n) {
  size_t i;
  if (!gantry_fb_outside(b)) return 0;
  if (n > GANTRY_FB_MAX_SIZE / 4) { b->failed = 1; return 0; }
  gantry_fb_pad(b, n * 4, 4);
  for (i = n; i > 0 && !b->failed; --i) {
    if (refs[i - 1] == 0 || refs[i - 1] > b->used) { b->failed = 2; return 0; }
    gantry_fb_push_u32(b, (uint32_t)b->used + 4 - refs[i - 1]);
  }
  gantry_fb_push_u32(b, (uint32_t)n);
  return b->failed ? 0 : (gantry_fb_ref)b->used;
}

static inline void gantry_fb_begin(gantry_fb_builder* b) {
  if (!gantry_fb_outside(b)) return;
  b->inside = 1;
  b->start = (uint32_t)b->used;
  b->fields = 0;
}
static inline void gantry_fb_slot(gantry_fb_builder* b, uint16_t slot) {
  const uint32_t id = (slot - 4u) / 2u;
  while (b->fields <= id) b->slots[b->fields++] = 0;
  b->slots[id] = (uint32_t)b->used;
}
static inline void gantry_fb_set(gantry_fb_builder* b, uint16_t slot, const void* value, size_t size, size_t align) {
  uint8_t* p;
  if (!b->inside && !b->failed) b->failed = 2;
  gantry_fb_pad(b, size, align);
  p = gantry_fb_push(b, size);
  if (p == NULL) return;
  memcpy(p, value, size);
  gantry_fb_slot(b, slot);
}
static inline void gantry_fb_set_ref(gantry_fb_builder* b, uint16_t slot, gantry_fb_ref ref) {
  if (ref == 0 || b->failed) return;
  if (!b->inside || ref > b->used) { b->failed = 2; return; }
  gantry_fb_pad(b, 4, 4);
  gantry_fb_push_u32(b, (uint32_t)b->used + 4 - ref);
  if (!b->failed) gantry_fb_slot(b, slot);
}
static inline gantry_fb_ref gantry_fb_end(gantry_fb_builder* b) {
  uint16_t vtable[GANTRY_FB_MAX_FIELDS + 2];
  uint32_t table, i, distance;
  size_t vsize;
  uint8_t* p;
  if (!b->inside && !b->failed) b->failed = 2;
  gantry_fb_pad(b, 4, 4);
  gantry_fb_push_u32(b, 0); /* distance to the vtable, below */
  if (b->failed) return 0;
  table = (uint32_t)b->used;
  if (table - b->start > 65535u) { b->failed = 2; return 0; }
  vsize = (b->fields + 2) * 2;
  vtable[0] = (uint16_t)vsize;
  vtable[1] = (uint16_t)(table - b->start);
  for (i = 0; i < b->fields; ++i) vtable[i + 2] = b->slots[i] ? (uint16_t)(table - b->slots[i]) : 0;
  b->inside = 0;
  for (i = 0; i < GANTRY_FB_VTABLES; ++i) {
    const uint32_t at = b->vtables[i];
    const uint8_t* old = b->data + b->capacity - at;
    if (at == 0 || gantry_fb_u16(old) != vsize || memcmp(old, vtable, vsize) != 0) continue;
    distance = at - table; /* negative, as unsigned: the vtable lies behind the table */
    memcpy(b->data + b->capacity - table, &distance, 4);
    return table;
  }
  gantry_fb_pad(b, vsize, 2);
  p = gantry_fb_push(b, vsize);
  if (p == NULL) return 0;
  memcpy(p, vtable, vsize);
  b->vtables[b->next_vtable++ % GANTRY_FB_VTABLES] = (uint32_t)b->used;
  distance = (uint32_t)b->used - table;
  memcpy(b->data + b->capacity - table, &distance, 4);
  return table;
}

/* Of each scalar type: gantry_fb_get_u32(table, slot, default), gantry_fb_u32_at(vector, i) (0 past the end),
 * gantry_fb_set_u32(builder, slot, value), gantry_fb_vector_u32(builder, items, n). */
#define GANTRY_FB_SCALAR_FUNCTIONS(name, type)                                                                  \
  static inline type gantry_fb_get_##name(const uint8_t* table, uint16_t slot, type otherwise) {                 \
    const uint8_t* at = gantry_fb_at(table, slot);                                                               \
    if (at) memcpy(&otherwise, at, sizeof otherwise);                                                            \
    return otherwise;                                                                                            \
  }                                                                                                              \
  static inline type gantry_fb_##name##_at(gantry_fb_vector v, size_t i) {                                       \
    type item = 0;                                                                                               \
    if (i < v.count) memcpy(&item, v.at + i * sizeof item, sizeof item);                                         \
    return item;                                                                                                 \
  }                                                                                                              \
  static inline void gantry_fb_set_##name(gantry_fb_builder* b, uint16_t slot, type v) {                         \
    gantry_fb_set(b, slot, &v, sizeof v, sizeof v);                                                              \
  }                                                                                                              \
  static inline gantry_fb_ref gantry_fb_vector_##name(gantry_fb_builder* b, const type* items, size_t n) {       \
    return gantry_fb_vector_of(b, items, n, sizeof *items, sizeof *items);                                       \
  }
GANTRY_FB_SCALAR_FUNCTIONS(u8, uint8_t)
GANTRY_FB_SCALAR_FUNCTIONS(i8, int8_t)
GANTRY_FB_SCALAR_FUNCTIONS(u16, uint16_t)
GANTRY_FB_SCALAR_FUNCTIONS(i16, int16_t)
GANTRY_FB_SCALAR_FUNCTIONS(u32, uint32_t)
GANTRY_FB_SCALAR_FUNCTIONS(i32, int32_t)
GANTRY_FB_SCALAR_FUNCTIONS(u64, uint64_t)
GANTRY_FB_SCALAR_FUNCTIONS(i64, int64_t)
GANTRY_FB_SCALAR_FUNCTIONS(f32, float)
GANTRY_FB_SCALAR_FUNCTIONS(f64, double)
#undef GANTRY_FB_SCALAR_FUNCTIONS
/* A bool is a byte; outside bytes may hold any value, and each but 0 is true. */
static inline bool gantry_fb_get_bool(const uint8_t* table, uint16_t slot, bool otherwise) {
  return gantry_fb_get_u8(table, slot, otherwise ? 1 : 0) != 0;
}
static inline bool gantry_fb_bool_at(gantry_fb_vector v, size_t i) { return gantry_fb_u8_at(v, i) != 0; }
static inline void gantry_fb_set_bool(gantry_fb_builder* b, uint16_t slot, bool v) {
  gantry_fb_set_u8(b, slot, v ? 1 : 0);
}

/* The finished message with this root; empty if anything failed. Lives until gantry_fb_clear. */
static inline gantry_bytes gantry_fb_finish(gantry_fb_builder* b, gantry_fb_ref root) {
  gantry_bytes out = {NULL, 0};
  if (root == 0 || !gantry_fb_outside(b)) return out;
  gantry_fb_pad(b, 4, b->align > 4 ? b->align : 4);
  gantry_fb_push_u32(b, (uint32_t)b->used + 4 - root);
  if (b->failed) return out;
  out.data = b->data + b->capacity - b->used;
  out.len = b->used;
  return out;
}

#ifdef __cplusplus
}
#endif
#endif
