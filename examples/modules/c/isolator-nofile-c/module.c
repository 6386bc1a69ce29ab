/* A file of its own, so that the test can link the functions without the exported symbol. */
#include "nofile.h"

GANTRY_C_MODULE("isolator", "nofile-c", 1, nofile_create, nofile_call, gantry_no_reply, gantry_no_cancel, nofile_destroy);
