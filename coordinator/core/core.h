/* The coordinator's core: jobs, generations, attempts, versions, hosts, devices;
 * a pure function of (state, event, time) to (new state, actions).
 *
 *   coord_create, coord_load for each record, coord_begin
 *   coord_step for each event        state in memory changes, actions gather
 *   coord_flush                      what changed since, as records
 *   ... the driver writes records and events in ONE batch, and only then
 *   sends what the actions say ...
 *
 * So a driver may step many events before it writes once.  When it cannot write,
 * it must end: memory is ahead of what is durable.  A core that is loaded from
 * what was written behaves as one that went on, but for sessions, which all have
 * to come again, and calls that nobody answered, which their clients repeat.
 *
 * Messages are those of proto/, checked by rpc_check before they come here, and
 * borrowed during the call.  What a step puts into actions lives in their arena.
 *
 * No I/O, clock, thread, random number or log.  Owner: the driver's loop.
 * Everything that grows is bounded by coord_limits. */
#ifndef COORDINATOR_CORE_CORE_H
#define COORDINATOR_CORE_CORE_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "proto/rpc.h"

struct coord_limits {
    uint32_t max_jobs;
    uint32_t max_hosts;
    uint32_t max_devices;   /* of a host */
    uint32_t max_versions;  /* of a job, pinned ones too */
    uint32_t max_requests;  /* answers that are kept, the oldest go first */
    uint32_t history;       /* generations of a job that are kept */
    uint32_t lease_ms;      /* a host not heard of for so long is lost */
    uint32_t renew_ms;      /* how often it is to renew */
    uint32_t make_wait_ms;  /* for a version to be made; then it is aborted */
    uint32_t start_wait_ms; /* for a generation to be prepared */
    uint32_t backoff_ms;    /* before the first restart; doubles */
    uint32_t max_backoff_ms;
};
void coord_limits_init(struct coord_limits *limits); /* the defaults */

/* When something happens.  Deadlines are measured by mono_ns, which no clock
 * setting moves; wall_ns is only shown. */
struct coord_time {
    int64_t mono_ns;
    int64_t wall_ns;
};

enum coord_event_kind {
    COORD_CALL,           /* a client's or an agent's unary call */
    COORD_SESSION_OPEN,   /* an agent's Hello */
    COORD_SESSION_SAYS,   /* a later message of it */
    COORD_SESSION_CLOSED, /* its stream is over */
    COORD_TICK,           /* next_ns of the actions has come, or later */
};

struct coord_event {
    enum coord_event_kind kind;
    struct coord_time now;
    uint64_t ticket; /* of a CALL: who is to be answered; the driver's number */
    uint64_t session;   /* of a SESSION_*: the driver's number, > 0, never used
                         again, by a later run neither (begin at random) */
    const char *method; /* of a CALL: "/retile.v1.Jobs/Submit" */
    const ProtobufCMessage *message;
};

enum coord_record_kind { COORD_JOB, COORD_HOST, COORD_REQUEST };

/* A record to be written, or removed. */
struct coord_record {
    enum coord_record_kind kind;
    struct base_str id;
    struct base_str body; /* .ptr NULL: removed */
};

struct coord_reply {
    uint64_t ticket;
    struct rpc_status status;
    const ProtobufCMessage *message; /* of RPC_OK */
};

struct coord_send {
    uint64_t session;
    const ProtobufCMessage *message; /* ToAgent; NULL: end it, with `status` */
    struct rpc_status status;
};

struct coord_actions {
    struct base_arena *arena;
    BASE_VEC(struct coord_record) records;     /* coord_flush */
    BASE_VEC(const ProtobufCMessage *) events; /* Event: to be kept and shown */
    BASE_VEC(struct coord_reply) replies;
    BASE_VEC(struct coord_send) sends; /* in order, per session */
    int64_t next_ns; /* mono: step a TICK then; INT64_MAX: no need */
};
enum base_code coord_actions_init(struct coord_actions *actions,
                                  struct base_err *err) BASE_MUST_CHECK;
void coord_actions_clear(struct coord_actions *actions); /* to be used again */
void coord_actions_done(struct coord_actions *actions);

struct coord;
void coord_free(struct coord *coord);
BASE_AUTO_DEFINE(coord);
enum base_code coord_create(const struct coord_limits *limits,
                            struct coord **ret,
                            struct base_err *err) BASE_MUST_CHECK;

/* Take a record that was written once.  In any order, before coord_begin.
 * Errors: BASE_BAD_INPUT (names kind, id and field), BASE_LIMIT, BASE_NO_MEM */
enum base_code coord_load(struct coord *coord,
                          enum coord_record_kind kind,
                          struct base_str id,
                          struct base_str body,
                          struct base_err *err) BASE_MUST_CHECK;
/* All are loaded; @revision is the highest of an event that was written.  Every
 * lease begins now.  Errors: BASE_BAD_INPUT (the records contradict each other) */
enum base_code coord_begin(struct coord *coord,
                           uint64_t revision,
                           struct coord_time now,
                           struct coord_actions *actions,
                           struct base_err *err) BASE_MUST_CHECK;

/* What @event comes to.  A request that is refused is a reply with its status;
 * only memory and our own bugs are errors, and then the driver ends.
 * Errors: BASE_NO_MEM, BASE_LIMIT (the arena's) */
enum base_code coord_step(struct coord *coord,
                          const struct coord_event *event,
                          struct coord_actions *actions,
                          struct base_err *err) BASE_MUST_CHECK;

/* Encode what changed since the last flush.  Errors: BASE_NO_MEM, BASE_LIMIT */
enum base_code coord_flush(struct coord *coord,
                           struct coord_actions *actions,
                           struct base_err *err) BASE_MUST_CHECK;

/* What must hold after each step; the text names what does not. */
bool coord_invariant(const struct coord *coord, struct base_err *err);

#endif
