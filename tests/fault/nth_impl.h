/* Between nth.c and the wrapped functions of alloc.c and calls.c. */
#ifndef FAULT_NTH_IMPL_H
#define FAULT_NTH_IMPL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define NTH_NEVER UINT64_MAX

/* Of one kind of call: allocations, or system calls.  Threads may count: then
 * another one is the n-th each time. */
struct nth_counter {
    atomic_uint_fast64_t n; /* asked for since the start of a run */
    uint64_t fail;          /* the one that fails */
    bool stays;             /* and those behind it */
    unsigned variant;
    /* Of the one that failed first: */
    const char *what;
    int errnum;
    unsigned n_variants;
    bool is_retried;
};

extern struct nth_counter nth_allocs;
extern struct nth_counter nth_calls;
extern bool nth_is_paused;
extern atomic_int_fast64_t nth_n_live; /* allocations that nobody has freed */
extern atomic_int_fast64_t nth_n_maps;
extern atomic_int_fast64_t nth_n_dirs; /* DIR */

#endif
