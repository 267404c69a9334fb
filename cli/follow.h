/* Following what happens, through lost connections.
 *
 * Events have ascending revisions.  When a watch ends, whatever the reason, it is
 * begun again behind the last event that was seen, so that none is missed and none
 * comes twice. */
#ifndef CLI_FOLLOW_H
#define CLI_FOLLOW_H

#include <retile/v1/watch.pb-c.h>

#include "cli/connect.h"

struct cli_follow {
    const char *job; /* NULL: everything */
    uint64_t from;   /* the first revision that is wanted */
    /* Each event; false: enough. */
    bool (*on_event)(void *ctx, const Retile__V1__Event *event);
    /* Some ten times a second, connected or not; true: enough.  May be NULL. */
    bool (*on_idle)(void);
    /* The connection was lost (@err), or is there again (NULL).  May be NULL. */
    void (*on_lost)(void *ctx, const struct base_err *err);
    void *ctx;
    int64_t patience_ns; /* how long it may be lost; 0: for ever */
};

/* BASE_OK: on_event or on_idle had enough; @follow->from is what comes next.
 * Errors: BASE_INTERRUPTED  a signal
 *         BASE_LIMIT        @from is no longer kept
 *         BASE_UNREACHABLE  patience has run out
 *         others            the coordinator refuses */
enum base_code cli_follow(struct cli_server *server,
                          struct cli_follow *follow,
                          struct base_err *err) BASE_MUST_CHECK;

/* The revision that the next event will have at least.
 * Errors: as cli_call */
enum base_code cli_follow_next(struct cli_server *server,
                               uint64_t *ret,
                               struct base_err *err) BASE_MUST_CHECK;

#endif
