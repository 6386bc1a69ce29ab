/* The one symbol the module exports. Alone in its file, so that the test can link the functions without it. */
#include "@NAME_ID@.h"

GANTRY_C_MODULE("authenticator", "@NAME@", 1, @NAME_ID@_create, @NAME_ID@_call, gantry_no_reply, gantry_no_cancel,
                @NAME_ID@_destroy);
