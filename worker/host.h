/* What a host is: its name, and what /proc and /sys say of it. */
#ifndef WORKER_HOST_H
#define WORKER_HOST_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum { WORKER_HOST_NAME_BYTES = 129, WORKER_HOST_ADDRESS_BYTES = 257 };

struct worker_host {
    char name[WORKER_HOST_NAME_BYTES];
    char address[WORKER_HOST_ADDRESS_BYTES]; /* where others reach its ranks */
    uint64_t memory_bytes;                   /* 0: not known */
    uint32_t n_numa_nodes;                   /* at least 1 */
};

/* @name, @address: NULL: the machine's name; 127.0.0.1.
 * Errors: BASE_BAD_ARG  no name for a host: 1 to 128 of [A-Za-z0-9._-], not
 *                       beginning with a dot or a dash; an address too long */
enum base_code worker_host_read(const char *name,
                                const char *address,
                                struct worker_host *ret,
                                struct base_err *err) BASE_MUST_CHECK;
bool worker_host_name_is_good(const char *name);

/* 32 random hexadecimal digits and a NUL. */
enum base_code worker_random_text(char ret[33],
                                  struct base_err *err) BASE_MUST_CHECK;

#endif
