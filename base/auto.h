/* Cleanup by scope: BASE_AUTO(ptc_plan) plan = NULL; calls ptc_plan_free(plan)
 * when the scope ends, unless base_steal(&plan) moved it out.
 *
 * BASE_AUTO_DEFINE(ptc_plan) stands in the header that declares
 * `void ptc_plan_free(struct ptc_plan *)`.  Destructors take NULL. */
#ifndef BASE_AUTO_H
#define BASE_AUTO_H

#include <stdlib.h>
#include <unistd.h>

#define BASE_AUTO_DEFINE(type)                                                 \
    static inline void type##_auto_(struct type **slot)                        \
    {                                                                          \
        type##_free(*slot);                                                    \
    }                                                                          \
    struct type

#define BASE_AUTO(type) __attribute__((cleanup(type##_auto_))) struct type *

/* Move a pointer out of a BASE_AUTO variable: yields it, leaves NULL. */
#define base_steal(slot)                                                       \
    ({                                                                         \
        __typeof__(*(slot)) base_stolen_ = *(slot);                            \
        *(slot) = NULL;                                                        \
        base_stolen_;                                                          \
    })

static inline void base_free_auto_(void *slot)
{
    free(*(void **)slot);
}

static inline void base_fd_auto_(const int *fd)
{
    if (*fd >= 0) {
        (void)close(*fd); /* nothing to do about a failure here */
    }
}

/* Memory from malloc; a descriptor (-1 means none). */
#define BASE_AUTO_MEM __attribute__((cleanup(base_free_auto_)))
#define BASE_AUTO_FD  __attribute__((cleanup(base_fd_auto_))) int

static inline int base_steal_fd(int *fd)
{
    int stolen = *fd;

    *fd = -1;
    return stolen;
}

#endif
