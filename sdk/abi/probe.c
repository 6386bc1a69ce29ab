/* Names every struct of the ABI in an exported symbol, so that abidw finds them all. A new struct gets a line here. */
#include <gantry/abi.h>

#define PROBE(type) \
  extern const type probe_##type; \
  const type probe_##type = {0}

PROBE(gantry_bytes);
PROBE(gantry_call);
PROBE(gantry_host);
PROBE(gantry_provider);
/* The symbol modules export, under a name of its own: gantry_module_v1 is theirs. */
extern const gantry_module probe_gantry_module;
const gantry_module probe_gantry_module = {GANTRY_MAGIC, GANTRY_ABI_MAJOR, GANTRY_ABI_MINOR, sizeof(gantry_module), 0, 0, 0, 0};

extern const gantry_code probe_gantry_code;
const gantry_code probe_gantry_code = GANTRY_OK;
