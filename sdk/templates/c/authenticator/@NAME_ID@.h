/* Authenticator `@NAME@`. The contract: docs/authenticator.md and schema/authenticator.fbs of the SDK. */
#ifndef @NAME_ID@_h
#define @NAME_ID@_h

#include <gantry/c/module.h>

void* @NAME_ID@_create(const gantry_host* host);
void @NAME_ID@_call(void* self, const gantry_call* call);
void @NAME_ID@_destroy(void* self);

#endif
