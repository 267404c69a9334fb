/* cmocka, with the headers it needs before it in the order it needs them. */
#ifndef UNIT_UNIT_H
#define UNIT_UNIT_H

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#define N_ITEMS(array) (sizeof(array) / sizeof((array)[0]))

/* A call that must succeed; its text is shown when it does not. */
#define assert_ok(call, err)                                                   \
    do {                                                                       \
        if ((call) != BASE_OK) {                                               \
            fail_msg("%s: %s", #call, (err)->text);                            \
        }                                                                      \
    } while (0)

#endif
