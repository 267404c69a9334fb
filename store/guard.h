/* A guard around reads of mapped files: a page that is no longer there (the
 * file shrank, the disk failed) ends the read instead of the process. */
#ifndef STORE_GUARD_H
#define STORE_GUARD_H

#include <stdbool.h>

/* Run fn(ctx); false when a SIGBUS ended it half way.  @fn must hold nothing
 * that its sudden end would leave behind, and keep its state in @ctx.  Guards
 * do not nest.  Needs store_guard_install (store/gather.h). */
bool store_guard_run(void (*fn)(void *ctx), void *ctx);

#endif
