/* The loop around the core: one thread takes what waits, steps the core for each,
 * writes once, and only then answers, sends and shows.
 *
 *   calls, sessions --queue--> step, step, ... -> flush -> ONE commit
 *                                       -> answers, sends; events to the watch
 *
 * When a commit fails, memory is ahead of what is durable: on_failed is told and
 * must end the process; nothing is answered.
 *
 * What waits is bounded: calls by max_calls, and a session has one message and
 * its end in the queue at most (whoever feeds it reads the next one when
 * `stepped` says so).
 *
 * The callbacks of waiters and sessions run on the loop and must not block, nor
 * call the driver. */
#ifndef COORDINATOR_DRIVER_H
#define COORDINATOR_DRIVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uthash.h>

#include "coordinator/core/core.h"
#include "coordinator/persist.h"

struct coord_driver;

/* One thing in the queue.  The driver's. */
struct coord_node {
    struct coord_node *next;
    enum coord_event_kind kind;
    ProtobufCMessage *message;
    struct coord_waiter *waiter;
    struct coord_session *session;
};

/* Who waits for a call's answer: a part of the caller's object, which lives until
 * `answer`. */
struct coord_waiter {
    /* Exactly once.  @message (borrowed) is NULL unless the status is OK. */
    void (*answer)(struct coord_waiter *waiter,
                   const struct rpc_status *status,
                   const ProtobufCMessage *message);
    const char *method; /* "/retile.v1.Jobs/Submit"; static */
    /* The session that the call names, and the host that its certificate is of;
     * a session of another host is refused.  NULL: any. */
    uint64_t session_number;
    const char *host;
    uint64_t ticket; /* the driver's, as all below */
    struct coord_node node;
    UT_hash_handle hh;
};

/* An agent's session: a part of the caller's object, which lives until
 * `closed`. */
struct coord_session {
    /* @message is borrowed; NULL: end the stream with @status. */
    void (*send)(struct coord_session *session,
                 const ProtobufCMessage *message,
                 const struct rpc_status *status);
    void (*stepped)(struct coord_session *session); /* say the next one */
    void (*closed)(struct coord_session *session);
    char host[129];  /* as its Hello says */
    uint64_t number; /* the driver's, as all below */
    struct coord_node says;
    struct coord_node closing;
    UT_hash_handle hh;
};

struct coord_driver_options {
    struct persist *persist; /* borrowed */
    struct coord_limits limits;
    unsigned max_calls; /* that wait in the queue */
    /* On the loop, after a commit that had events; borrowed. */
    void (*on_events)(void *ctx,
                      const struct persist_event *events,
                      size_t n_events);
    void (*on_failed)(void *ctx, const struct base_err *err);
    void *ctx;
};

void coord_driver_free(struct coord_driver *driver); /* stops it */
BASE_AUTO_DEFINE(coord_driver);

/* Load what persistence keeps.  *ret_newest: the highest revision of an event.
 * Errors: those of load, coord_load, coord_begin and commit; BASE_NO_MEM */
enum base_code coord_driver_create(const struct coord_driver_options *options,
                                   struct coord_driver **ret,
                                   uint64_t *ret_newest,
                                   struct base_err *err) BASE_MUST_CHECK;
/* Start the loop.  Errors: BASE_LIMIT, BASE_IO (threads) */
enum base_code coord_driver_start(struct coord_driver *driver,
                                  struct base_err *err) BASE_MUST_CHECK;

/* Step what waits, answer whoever is left with UNAVAILABLE, and join the loop.
 * Nothing may be queued afterwards but coord_driver_close. */
void coord_driver_stop(struct coord_driver *driver);

/* Queue a call.  Any thread.  @message is taken on success, freed as
 * rpc_message_free does.  Errors: BASE_LIMIT (too many wait), BASE_INTERRUPTED
 * (it stops) */
enum base_code coord_driver_call(struct coord_driver *driver,
                                 struct coord_waiter *waiter,
                                 ProtobufCMessage *message,
                                 struct base_err *err) BASE_MUST_CHECK;

/* An agent's Hello, a later message, the stream's end: on any thread, in this
 * order, one message at a time.  @message (FromAgent) is taken. */
void coord_driver_open(struct coord_driver *driver,
                       struct coord_session *session,
                       ProtobufCMessage *message);
void coord_driver_say(struct coord_driver *driver,
                      struct coord_session *session,
                      ProtobufCMessage *message);
void coord_driver_close(struct coord_driver *driver,
                        struct coord_session *session);

struct coord_driver_stats {
    uint64_t n_steps;
    uint64_t n_commits;
    uint64_t n_records;
    uint64_t n_events;
    size_t n_sessions;
    size_t n_waiting; /* calls that are not answered */
};
struct coord_driver_stats coord_driver_stats_get(struct coord_driver *driver);

#endif
