// The one symbol the module exports. Alone in its file, so that the test can link the class without it.
#include "@NAME_ID@.hpp"

GANTRY_MODULE(@NAME_ID@::@CLASS@, "@NAME@")
