/* Where the coordinator's records and events are kept: a table of functions, so
 * that a store with replicas (etcd) can take SQLite's place.
 *
 * Records are small (a job's is some KiB) and are all read at start.  Events are
 * the history of a watch: each has a revision, ascending; the oldest are dropped.
 * A batch is all or nothing, and durable when commit returns.  One thread at a
 * time, but for `events`, which any thread may call. */
#ifndef COORDINATOR_PERSIST_H
#define COORDINATOR_PERSIST_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "coordinator/core/core.h"

/* A packed Event. */
struct persist_event {
    uint64_t revision;
    struct base_str body;
};

struct persist_batch {
    const struct coord_record *records;
    size_t n_records;
    const struct persist_event *events; /* ascending, above all that are kept */
    size_t n_events;
};

typedef enum base_code (*persist_record_fn)(void *ctx,
                                            const struct coord_record *record,
                                            struct base_err *err);
typedef enum base_code (*persist_event_fn)(void *ctx,
                                           const struct persist_event *event,
                                           struct base_err *err);

struct persist;
struct persist_ops {
    const char *name;
    /* Visit every record; *ret_oldest and *ret_newest are the revisions of the
     * events that are kept (0, 0: none).
     * Errors: BASE_BAD_INPUT (damaged), BASE_IO, fn's */
    enum base_code (*load)(struct persist *persist,
                           persist_record_fn fn,
                           void *ctx,
                           uint64_t *ret_oldest,
                           uint64_t *ret_newest,
                           struct base_err *err);
    /* Errors: BASE_NO_SPACE, BASE_IO; then it is not known what is durable, and
     * the process must end. */
    enum base_code (*commit)(struct persist *persist,
                             const struct persist_batch *batch,
                             struct base_err *err);
    /* Visit at most @max events from @from on, ascending; from the oldest that
     * is kept when it is 0.
     * Errors: BASE_NOT_FOUND (@from is older than what is kept), BASE_IO, fn's */
    enum base_code (*events)(struct persist *persist,
                             uint64_t from,
                             size_t max,
                             persist_event_fn fn,
                             void *ctx,
                             struct base_err *err);
    void (*close)(struct persist *persist);
};

struct persist {
    const struct persist_ops *ops;
};

/* SQLite in @path (made when it is not there; ":memory:" for tests): WAL, FULL.
 * @max_events are kept.  Another process that has it open is refused.
 * Errors: BASE_EXISTS (in use), BASE_BAD_INPUT (no database of ours, of a later
 * schema, damaged), BASE_IO */
enum base_code persist_sqlite_open(const char *path,
                                   uint64_t max_events,
                                   struct persist **ret,
                                   struct base_err *err) BASE_MUST_CHECK;

#endif
