/* Watchers: streams of events, each from where it asked, then as they happen.
 *
 * One thread sends.  The last batches are kept in memory, each packed once and
 * shared by all watchers that want all of it; what is older is read out of
 * persistence, a page at a time, so that a watcher that catches up holds up
 * nobody.  A watcher gets no more while too much waits for it (RPC_SENT_FULL),
 * and is ended (RESOURCE_EXHAUSTED) when that lasts; one that falls behind what
 * is kept gets OUT_OF_RANGE. */
#ifndef COORDINATOR_WATCH_H
#define COORDINATOR_WATCH_H

#include <stddef.h>
#include <stdint.h>

#include "coordinator/persist.h"
#include "proto/rpc_server.h"

struct coord_watch;
struct coord_watcher;

void coord_watch_free(struct coord_watch *watch); /* every call must be over */
BASE_AUTO_DEFINE(coord_watch);

/* @newest: the highest revision that is written; @stall_ms: how long a watcher
 * may be full; @persist is borrowed.
 * Errors: BASE_NO_MEM, BASE_LIMIT (threads) */
enum base_code coord_watch_start(struct persist *persist,
                                 uint64_t newest,
                                 unsigned max_watchers,
                                 unsigned stall_ms,
                                 struct coord_watch **ret,
                                 struct base_err *err) BASE_MUST_CHECK;

/* Events that were committed, ascending, above all before.  Borrowed.  Does not
 * block; when memory is short they are read out of persistence. */
void coord_watch_publish(struct coord_watch *watch,
                         const struct persist_event *events,
                         size_t n_events);

uint64_t coord_watch_newest(struct coord_watch *watch);

/* Serve @call from @from on (0: from now on), only events of @job unless it is
 * empty.  The result is the caller's to hand to writable and close.
 * Errors: BASE_LIMIT (too many watch), BASE_NO_MEM, BASE_CHANGED (@from is above
 *         what there will be: persistence was restored from an older copy) */
enum base_code coord_watch_add(struct coord_watch *watch,
                               struct rpc_call *call,
                               uint64_t from,
                               const char *job,
                               struct coord_watcher **ret,
                               struct base_err *err) BASE_MUST_CHECK;
void coord_watch_writable(struct coord_watcher *watcher);
void coord_watch_close(struct coord_watcher *watcher); /* its call is over */

size_t coord_watch_count(struct coord_watch *watch);

#endif
