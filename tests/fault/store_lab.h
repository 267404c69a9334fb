/* A store to make calls fail on, one at a time.  What a scenario worked on is
 * compared with what it was, and made so again. */
#ifndef FAULT_STORE_LAB_H
#define FAULT_STORE_LAB_H

#include "store/change.h"
#include "tests/fault/nth.h"

/* Set up and tear down of a test (cmocka). */
int store_lab_make(void **state);
int store_lab_remove(void **state);

/* Below the lab's directory: "a" and "b" are checkpoint directories of one
 * state under two layouts, "store" is the store.  Static, for five calls. */
const char *store_lab_at(const char *name);

/* Run @run at each failure on a store that @arrange has filled (it may be
 * called once).
 *
 * Whatever failed, the store is consistent (fsck), and all it has is either as
 * before or as after a run without a failure: the latter, when @run says that
 * it succeeded.  Where one failure made @run fail, nothing in staging/ and no
 * blob is left; otherwise the next one that takes the lock removes it.  A table
 * that no version names may stay for the next sweep. */
void store_lab_run(const char *name,
                   void (*arrange)(struct store_root *root),
                   enum base_code (*run)(struct base_err *err),
                   uint64_t max_cases);

/* For those that arrange, or have paused; failures are cmocka's. */
struct store_root *store_lab_open(void);
uint64_t store_lab_import(struct store_root *root, const char *dir);
uint64_t store_lab_rescale(struct store_root *root, const char *yaml);
/* Copy a directory; @to does not exist. */
void store_lab_copy(const char *from, const char *to);

#define store_lab_test(test)                                                   \
    cmocka_unit_test_setup_teardown(test, store_lab_make, store_lab_remove)

#endif
