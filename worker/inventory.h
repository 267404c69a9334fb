/* What the store has of each job, as the messages say it.
 *
 * A version's contents never change, so each is opened once and remembered;
 * only its pin is read anew.  Owner: the store's thread. */
#ifndef WORKER_INVENTORY_H
#define WORKER_INVENTORY_H

#include "store/root.h"
#include "worker/message.h"

struct worker_versions {
    Retile__V1__Version **items; /* given, ascending */
    size_t n;
};
void worker_versions_done(struct worker_versions *versions);

struct worker_inventory;
void worker_inventory_free(struct worker_inventory *inventory);
BASE_AUTO_DEFINE(worker_inventory);
struct worker_inventory *worker_inventory_create(void); /* NULL: no memory */

/* Published versions of @job; none when there is no such job.  One that cannot
 * be read is left out, and *ret_damaged (given; NULL: none) says which and why. */
enum base_code worker_inventory_list(struct worker_inventory *inventory,
                                     const struct store_root *root,
                                     const char *job,
                                     struct worker_versions *ret,
                                     char **ret_damaged,
                                     struct base_err *err) BASE_MUST_CHECK;
/* Its numbers may come again with other contents. */
void worker_inventory_forget(struct worker_inventory *inventory,
                             const char *job);

#endif
