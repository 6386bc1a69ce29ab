/* Isolator `nofile-c`: caps the open files of a task. See README.md. */
#ifndef NOFILE_H
#define NOFILE_H

#include <gantry/c/module.h>

void* nofile_create(const gantry_host* host);
void nofile_call(void* self, const gantry_call* call);
void nofile_destroy(void* self);

#endif
