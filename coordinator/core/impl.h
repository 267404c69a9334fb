/* Inside the core: its state, and what its files offer each other.
 *
 * A job is its record (proto/retile/coordinator/record.proto) and a few things
 * that are not durable.  Functions that cannot go on because memory is short set
 * coord.failed, which the step returns, and do less; then the driver ends.
 *
 * What happens is noted where it happens; what follows from it is done at the
 * end of the step, by job_advance for every job that was woken, and by
 * target_publish.  Both look at the state alone. */
#ifndef COORDINATOR_CORE_IMPL_H
#define COORDINATOR_CORE_IMPL_H

#include <inttypes.h>
#include <retile/coordinator/record.pb-c.h>
#include <retile/v1/agents.pb-c.h>
#include <retile/v1/devices.pb-c.h>
#include <retile/v1/jobs.pb-c.h>
#include <retile/v1/types.pb-c.h>
#include <retile/v1/versions.pb-c.h>
#include <retile/v1/watch.pb-c.h>
#include <stdarg.h>

#include "base/hash.h"
#include "coordinator/core/core.h"

enum {
    NAME_BYTES = 129,
    REQUEST_ID_BYTES = 65,
    N_DECISIONS = 128, /* ranges of committed numbers that are kept */
    DEADLINE_S = 300,  /* to save and stop, when none is said */
    MAX_RESTARTS = 3,
    MAX_AGAIN = 3, /* other numbers for what an agent could not make */
    KEEP_VERSIONS = 2,
    /* Of all jobs' records: what a start and a host's Hello make of them has to
     * find room in the arena of the actions. */
    MAX_STATE_BYTES = 256 << 20,
    MAX_KEPT_BYTES = 64 << 20, /* of answers that are kept, the oldest go */
};
/* What hosts say of numbers and revisions is believed up to here, so that there
 * are some left. */
#define MAX_NUMBER    ((uint64_t)INT64_MAX / 2)
#define NEVER_RESTART UINT32_MAX
#define NO_NS         INT64_MAX
#define NS_PER_MS     INT64_C(1000000)

/* Shorter names of the API's constants. */
#define JOB_IMPORTING RETILE__V1__JOB_STATE__JOB_IMPORTING
#define JOB_WAITING   RETILE__V1__JOB_STATE__JOB_WAITING
#define JOB_STARTING  RETILE__V1__JOB_STATE__JOB_STARTING
#define JOB_RUNNING   RETILE__V1__JOB_STATE__JOB_RUNNING
#define JOB_DRAINING  RETILE__V1__JOB_STATE__JOB_DRAINING
#define JOB_MOVING    RETILE__V1__JOB_STATE__JOB_MOVING
#define JOB_DONE      RETILE__V1__JOB_STATE__JOB_DONE
#define JOB_FAILED    RETILE__V1__JOB_STATE__JOB_FAILED
#define JOB_LOST      RETILE__V1__JOB_STATE__JOB_LOST
#define JOB_REMOVING  RETILE__V1__JOB_STATE__JOB_REMOVING

#define GENERATION_NONE      0
#define GENERATION_PREPARING RETILE__V1__GENERATION_STATE__GENERATION_PREPARING
#define GENERATION_READY     RETILE__V1__GENERATION_STATE__GENERATION_READY
#define GENERATION_RUNNING   RETILE__V1__GENERATION_STATE__GENERATION_RUNNING
#define GENERATION_DRAINING  RETILE__V1__GENERATION_STATE__GENERATION_DRAINING
#define GENERATION_ENDED     RETILE__V1__GENERATION_STATE__GENERATION_ENDED
#define GENERATION_REVOKED   RETILE__V1__GENERATION_STATE__GENERATION_REVOKED

#define ATTEMPT_NONE      0
#define ATTEMPT_OPEN      RETILE__V1__ATTEMPT_STATE__ATTEMPT_OPEN
#define ATTEMPT_COMMITTED RETILE__V1__ATTEMPT_STATE__ATTEMPT_COMMITTED
#define ATTEMPT_READY     RETILE__V1__ATTEMPT_STATE__ATTEMPT_READY
#define ATTEMPT_ABORTED   RETILE__V1__ATTEMPT_STATE__ATTEMPT_ABORTED
#define ATTEMPT_SAVE      RETILE__V1__ATTEMPT_KIND__ATTEMPT_SAVE
#define ATTEMPT_RESCALE   RETILE__V1__ATTEMPT_KIND__ATTEMPT_RESCALE
#define ATTEMPT_IMPORT    RETILE__V1__ATTEMPT_KIND__ATTEMPT_IMPORT
#define ATTEMPT_ROLLBACK  RETILE__V1__ATTEMPT_KIND__ATTEMPT_ROLLBACK
#define ATTEMPT_COPY      RETILE__V1__ATTEMPT_KIND__ATTEMPT_COPY

#define CHANGE_NONE     0
#define CHANGE_DRAINING RETILE__V1__CHANGE_PHASE__CHANGE_DRAINING
#define CHANGE_MAKING   RETILE__V1__CHANGE_PHASE__CHANGE_MAKING
#define CHANGE_STARTING RETILE__V1__CHANGE_PHASE__CHANGE_STARTING

#define DEVICE_READY   RETILE__V1__DEVICE_STATE__DEVICE_READY
#define DEVICE_DRAINED RETILE__V1__DEVICE_STATE__DEVICE_DRAINED
#define DEVICE_FAILED  RETILE__V1__DEVICE_STATE__DEVICE_FAILED
#define DEVICE_LOST    RETILE__V1__DEVICE_STATE__DEVICE_LOST

#define HOST_UP   RETILE__V1__HOST_STATE__HOST_UP
#define HOST_LOST RETILE__V1__HOST_STATE__HOST_LOST

#define EVENT_JOB        RETILE__V1__EVENT_KIND__EVENT_JOB
#define EVENT_GENERATION RETILE__V1__EVENT_KIND__EVENT_GENERATION
#define EVENT_ATTEMPT    RETILE__V1__EVENT_KIND__EVENT_ATTEMPT
#define EVENT_VERSION    RETILE__V1__EVENT_KIND__EVENT_VERSION
#define EVENT_DEVICE     RETILE__V1__EVENT_KIND__EVENT_DEVICE
#define EVENT_HOST       RETILE__V1__EVENT_KIND__EVENT_HOST
#define EVENT_RANK       RETILE__V1__EVENT_KIND__EVENT_RANK

/* A deadline in the heap of deadlines. */
struct coord_timer {
    int64_t at_ns; /* NO_NS: none */
    size_t pos;    /* 1..: where in the heap; 0: not in it */
    void *owner;
    bool is_host;
};

/* One slot of a host, besides its message in host.rec. */
struct coord_slot {
    uint32_t n_holders;  /* jobs of which it may have processes */
    bool is_broken;      /* as its agent finds it */
    char *why;           /* given by its agent; may be NULL */
    uint32_t deadline_s; /* of a drain: for a job on it to save and stop */
};

/* A job that an agent has and we do not know: its processes are ended, nothing
 * else is done with it.  Until they are, nobody knows which devices they use. */
struct coord_stranger {
    char name[NAME_BYTES];
    bool is_clear;
};

struct coord_host {
    Retile__V1__Host *rec;    /* devices are ascending and without gaps */
    struct coord_slot *slots; /* rec->n_devices */
    uint64_t session;         /* 0: none now */
    struct coord_timer lease;
    BASE_VEC(struct coord_job *) jobs; /* whose host it is, by name */
    BASE_VEC(struct coord_stranger) strangers;
    bool is_dirty;
};

/* A rescale that is planned: a call that waits. */
struct coord_plan {
    uint64_t number;
    uint64_t ticket;
    char request_id[REQUEST_ID_BYTES];
    struct base_digest digest;
    char *to; /* what the agent is asked */
    Retile__V1__RescaleRequest *request;
};

/* A device where processes of a job may be, of this generation or before. */
struct coord_hold {
    uint32_t device;
    uint64_t generation;
};

struct coord_job {
    Retile__Coordinator__JobRecord *rec;
    struct coord_host *host; /* rec->job->host; NULL: none yet, or unknown */

    /* What the host said last, in this life of the coordinator. */
    bool is_heard;
    uint64_t seen_revision;
    uint64_t shown_generation; /* 0: no process is left */
    bool is_prepared;
    bool is_clear;
    uint32_t shown_port;
    /* It shows processes of a generation that we do not know (we are an old
     * copy), and so nobody knows on which devices. */
    bool is_astray;
    bool has_started; /* a rank of the current generation runs or ran */
    bool has_launcher;
    char *trouble;
    BASE_VEC(struct coord_hold) holds;

    struct coord_plan *plan; /* NULL: none */
    /* An OpenSave that waits for what was committed before it. */
    uint64_t save_ticket; /* 0: none */
    uint64_t save_session, save_generation, save_step;
    /* Devices of generations that ended are free when the host has seen this
     * revision; is_ended: it will be the next one. */
    uint64_t end_revision;
    bool is_ended;
    struct coord_timer timer;
    int64_t drain_ns; /* each NO_NS, or when it is too late for that */
    int64_t start_ns;
    int64_t make_ns;
    unsigned n_again; /* what is made has come so often under another number */
    int64_t backoff_ns;
    int64_t plan_ns;

    struct base_digest told; /* the target that was published last */
    bool is_told;
    size_t n_bytes; /* of its record, as it was written */
    bool is_dirty, is_woken, is_touched;
    bool is_gone; /* to be freed at the next flush */
};

struct coord_request {
    char id[REQUEST_ID_BYTES];
    Retile__Coordinator__RequestRecord *rec;
    bool is_dirty, is_gone;
};

struct coord_session {
    uint64_t number;
    struct coord_host *host;
};

struct coord {
    struct coord_limits limits;
    struct coord_time now;
    enum base_code failed;             /* sticky */
    const char *bug;                   /* what failed with BASE_CHANGED */
    uint64_t revision;                 /* the highest of an event or a target */
    BASE_VEC(struct coord_job *) jobs; /* by name */
    BASE_VEC(struct coord_host *) hosts;       /* by name */
    BASE_VEC(struct coord_session) sessions;   /* by number */
    BASE_VEC(struct coord_request *) requests; /* by id */
    BASE_VEC(struct coord_timer *) timers;     /* a heap: the least first */
    BASE_VEC(struct coord_job *) woken;        /* to be advanced */
    BASE_VEC(struct coord_job *) touched;      /* whose target may be another */
    BASE_VEC(struct coord_job *) dirty_jobs;   /* gone ones too */
    BASE_VEC(struct coord_host *) dirty_hosts;
    BASE_VEC(struct coord_request *) dirty_requests;
    BASE_VEC(struct coord_stranger) gone_hosts; /* names */
    size_t n_requests;                          /* without gone ones */
    size_t n_homeless;                          /* jobs that have no host yet */
    uint32_t most_free;            /* no host has more free devices */
    size_t n_bytes;                /* of the jobs' records */
    size_t n_kept;                 /* of answers that are kept */
    struct coord_actions *actions; /* of the step */
};

/* A call being handled. */
struct coord_call {
    uint64_t ticket;
    const char *method;
    const char *request_id; /* "": it has none */
    struct base_digest digest;
    const ProtobufCMessage *request;
};

/* ---- message.c: memory of messages ---- */

extern ProtobufCAllocator coord_allocator;
/* Set a text that the state owns.  Printf's. */
void coord_text(struct coord *coord, char **field, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* A copy that the state owns; NULL: failed. */
void *coord_copy(struct coord *coord, const void *message);
/* A copy in the actions' arena; NULL: failed. */
void *coord_copy_out(struct coord *coord, const void *message);
/* Errors: BASE_BAD_INPUT, BASE_NO_MEM.  @ret_message: a pointer to a message's
 * pointer; the message is the state's. */
enum base_code coord_unpack(const ProtobufCMessageDescriptor *descriptor,
                            struct base_str body,
                            void *ret_message) BASE_MUST_CHECK;
void coord_message_free(void *message);
/* Make room for one more pointer in a message's list; false: failed. */
bool coord_list_grow(struct coord *coord, void *items, size_t n, size_t size);
struct base_str coord_pack_out(struct coord *coord, const void *message);
char *coord_textf_out(struct coord *coord, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* Printf's, cut between characters when it is too long. */
void coord_line(char *line, size_t n, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void coord_vline(char *line, size_t n, const char *fmt, va_list args)
    __attribute__((format(printf, 3, 0)));
void coord_no_mem(struct coord *coord);
void coord_is_bug(struct coord *coord, const char *what);

/* ---- timers.c ---- */
void coord_timer_set(struct coord *coord,
                     struct coord_timer *timer,
                     int64_t at_ns);
int64_t coord_timer_next(const struct coord *coord);

/* ---- tables.c: the state machines ---- */

const char *coord_state_name(const char *machine, int state);
bool coord_may_move(const char *machine, int from, int to);

/* Say that something happened. */
struct coord_about {
    int kind;
    const struct coord_job *job;
    const char *host;
    int device; /* only with a host; -1: none */
    uint64_t generation, version, step;
};
void coord_tell(struct coord *coord,
                const struct coord_about *about,
                const char *fmt,
                ...) __attribute__((format(printf, 3, 4)));

void job_move(struct coord *coord,
              struct coord_job *job,
              int to,
              const char *reason);
void generation_move(struct coord *coord,
                     struct coord_job *job,
                     int to,
                     const char *reason);
void attempt_move(struct coord *coord,
                  struct coord_job *job,
                  int to,
                  const char *reason);
void host_move(struct coord *coord,
               struct coord_host *host,
               int to,
               const char *reason);
/* A device by what it is set to; `broken` and `lost` are seen in device_state. */
void device_move(struct coord *coord,
                 struct coord_host *host,
                 uint32_t index,
                 int to,
                 const char *reason);

/* ---- job.c ---- */
struct coord_job *job_find(const struct coord *coord, const char *name);
struct coord_job *job_add(struct coord *coord,
                          Retile__Coordinator__JobRecord *rec);
void job_free(struct coord_job *job);
void job_remove(struct coord *coord, struct coord_job *job); /* forget it */
void job_set_host(struct coord *coord,
                  struct coord_job *job,
                  struct coord_host *host);
void job_wake(struct coord *coord, struct coord_job *job);
void job_touch(struct coord *coord, struct coord_job *job); /* and dirty */
void job_wake_host(struct coord *coord, struct coord_host *host);
void job_advance(struct coord *coord, struct coord_job *job);
void job_due(struct coord *coord, struct coord_job *job);
void job_arm(struct coord *coord, struct coord_job *job);
bool job_is_over(const struct coord_job *job); /* done, failed, lost, removed */

/* ---- generation.c ---- */
Retile__V1__Generation *generation_current(const struct coord_job *job);
/* End the current one: `is_counted` as a failure of the job itself. */
void generation_end(struct coord *coord,
                    struct coord_job *job,
                    int to,
                    bool is_counted,
                    const char *fmt,
                    ...) __attribute__((format(printf, 5, 6)));
/* Begin the next one.  False: it has to wait; @why says what for. */
#define WHY_BYTES 256
bool generation_start(struct coord *coord, struct coord_job *job, char *why);
void generation_check(struct coord *coord, struct coord_job *job);
void generation_report(struct coord *coord,
                       struct coord_job *job,
                       const Retile__V1__JobStatus *status);
uint64_t generation_next_step(const struct coord_job *job);

/* ---- place.c: which devices ---- */

/* Where @n ranks of a job could run: devices of @host in the order of ranks,
 * @ret has room for n.  False: too few; *ret_n has how many there are. */
bool place_any(const struct coord_host *host,
               const struct coord_job *job,
               uint32_t n,
               uint32_t *ret,
               uint32_t *ret_n);
/* The same, on those that its change asked for if all of them are free. */
bool place_on(const struct coord_host *host,
              const struct coord_job *job,
              uint32_t n,
              uint32_t *ret,
              uint32_t *ret_n);
/* The host with the most free devices, at least @n, for a job that has none yet;
 * NULL: none. */
struct coord_host *
place_choose(struct coord *coord, const struct coord_job *job, uint32_t n);
/* How many a job that is not there could have. */
uint32_t place_free_of(const struct coord_host *host);
/* Hold the devices of @generation. */
void place_take(struct coord *coord,
                struct coord_job *job,
                const Retile__V1__Generation *generation);
/* Those where processes may be: of the newest generation, and of those before it,
 * back to one that was prepared (then nothing was left before it). */
void place_take_again(struct coord *coord, struct coord_job *job);
/* Let go of those where no process is left, or of all. */
void place_free(struct coord *coord, struct coord_job *job, bool is_all);
/* The job whose current generation has the device, or else one of which it may
 * have processes; NULL: it is free. */
struct coord_job *place_user(const struct coord_host *host, uint32_t index);
bool place_holds(const struct coord_job *job, uint32_t index);

/* ---- attempt.c ---- */
Retile__V1__Attempt *attempt_open(const struct coord_job *job); /* or NULL */
bool attempt_was_committed(const struct coord_job *job, uint64_t number);
uint64_t attempt_begin(struct coord *coord,
                       struct coord_job *job,
                       int kind,
                       uint64_t parent);
void attempt_abort(struct coord *coord,
                   struct coord_job *job,
                   const char *reason);
void attempt_commit(struct coord *coord,
                    struct coord_job *job,
                    const Retile__V1__Version *version);
void attempt_ready(struct coord *coord,
                   struct coord_job *job,
                   const Retile__V1__Version *version);
/* How long for it to be made by its host; or, a save that is committed, to be
 * published: after that the job goes on without it.  When it is published later
 * it is a version all the same. */
void attempt_wait(struct coord *coord, struct coord_job *job);
/* What was to be made will not be. */
void attempt_give_up(struct coord *coord,
                     struct coord_job *job,
                     const char *reason);
/* The same; but it is made under another number, a few times, if it may be. */
void attempt_fail(struct coord *coord,
                  struct coord_job *job,
                  const Retile__V1__StatusAttempt *status);
/* Nothing can be made of the attempt that is open, or committed: its bytes are
 * lost.  The same, and the step of a save may be saved again. */
void attempt_lose(struct coord *coord,
                  struct coord_job *job,
                  const char *reason);
/* Open what the job needs made.  False: it has to wait; @why says what for. */
bool attempt_make(struct coord *coord, struct coord_job *job, char *why);
void attempt_serve_waiting(struct coord *coord, struct coord_job *job);
void attempt_refuse_waiting(struct coord *coord,
                            struct coord_job *job,
                            const char *why);
/* A number was committed. */
void attempt_note_committed(struct coord *coord,
                            struct coord_job *job,
                            uint64_t number);
void call_open_save(struct coord *coord, const struct coord_call *call);
void call_close_save(struct coord *coord, const struct coord_call *call);
void call_vote(struct coord *coord, const struct coord_call *call);

/* ---- version.c ---- */
Retile__V1__Version *version_find(const struct coord_job *job, uint64_t number);
/* That is kept; or, when none is, the newest of those that are given up. */
const Retile__V1__Version *version_newest(const struct coord_job *job);
bool version_is_released(const struct coord_job *job, uint64_t number);
/* Refuse to make one more: there are too many. */
bool version_is_full(struct coord *coord,
                     const struct coord_call *call,
                     const struct coord_job *job);
/* Give up what need not be kept. */
void version_trim(struct coord *coord, struct coord_job *job);
void version_add(struct coord *coord,
                 struct coord_job *job,
                 const Retile__V1__Version *version);
/* What is published on the host, against what we know. */
void version_report(struct coord *coord,
                    struct coord_job *job,
                    Retile__V1__Version *const *versions,
                    size_t n);
void call_versions_list(struct coord *coord, const struct coord_call *call);
void call_pin(struct coord *coord, const struct coord_call *call);
void call_release(struct coord *coord, const struct coord_call *call);
void call_rollback(struct coord *coord, const struct coord_call *call);

/* ---- change.c: rescales, plans ---- */
void change_begin(struct coord *coord,
                  struct coord_job *job,
                  const char *what,
                  const char *layout,
                  const char *mesh,
                  uint32_t deadline_s);
void change_drop(struct coord *coord, struct coord_job *job);
void change_phase(struct coord *coord, struct coord_job *job, int phase);
void call_rescale(struct coord *coord, const struct coord_call *call);
void plan_report(struct coord *coord,
                 struct coord_job *job,
                 const Retile__V1__StatusPlan *plan);
void plan_end(struct coord *coord,
              struct coord_job *job,
              enum rpc_code code,
              const char *text);
void plan_free(struct coord_plan *plan);

/* ---- layout.c: texts of layouts ---- */
#define MESH_BYTES 512
struct coord_layout {
    struct base_buf text; /* canonical */
    char mesh[MESH_BYTES];
    uint32_t n_ranks;
};
void layout_done(struct coord_layout *layout);
#define AUTO_LAYOUT __attribute__((cleanup(layout_done))) struct coord_layout
bool layout_is_sizes(const char *text);
/* Canonical text of a spec or a short form. */
enum base_code layout_parse(const char *text,
                            struct coord_layout *ret,
                            struct base_err *err) BASE_MUST_CHECK;
/* @layout with axes of other sizes. */
enum base_code layout_resize(const char *layout,
                             const char *sizes,
                             struct coord_layout *ret,
                             struct base_err *err) BASE_MUST_CHECK;
/* The product of "pp=2,tp=4"; 0: malformed. */
uint32_t layout_mesh_ranks(const char *mesh);

/* ---- host.c, device.c ---- */
struct coord_host *host_find(const struct coord *coord, const char *name);
struct coord_host *host_of_session(const struct coord *coord, uint64_t session);
struct coord_host *host_add(struct coord *coord, Retile__V1__Host *rec);
void host_free(struct coord_host *host);
void host_dirty(struct coord *coord, struct coord_host *host);
void host_forget(struct coord *coord, struct coord_host *host);
void host_due(struct coord *coord, struct coord_host *host);
/* Is it known on which devices there are processes, but for @job's? */
bool host_is_clear(const struct coord_host *host, const struct coord_job *job);
bool host_is_stranger(const struct coord_host *host, const char *job);
void session_open(struct coord *coord,
                  uint64_t session,
                  const Retile__V1__FromAgent *message);
void session_says(struct coord *coord,
                  uint64_t session,
                  const Retile__V1__FromAgent *message);
void session_closed(struct coord *coord, uint64_t session);
int device_state(const struct coord_host *host, uint32_t index);
const char *device_reason(const struct coord_host *host, uint32_t index);
void device_found(struct coord *coord,
                  struct coord_host *host,
                  uint32_t index,
                  bool is_broken,
                  const char *why);
void call_devices_list(struct coord *coord, const struct coord_call *call);
void call_drain(struct coord *coord, const struct coord_call *call);
void call_fail(struct coord *coord, const struct coord_call *call);
void call_recover(struct coord *coord, const struct coord_call *call);
void call_forget_host(struct coord *coord, const struct coord_call *call);

/* ---- report.c ---- */
/* The host has another store: what was under way in the one before is lost.  It
 * may know the jobs all the same, from us before we were restored. */
void report_lost_store(struct coord *coord, const struct coord_host *host);
/* What a host says of a job; NULL: it has nothing of it. */
void job_report(struct coord *coord,
                struct coord_host *host,
                struct coord_job *job,
                const Retile__V1__JobStatus *status,
                bool is_hello);

/* ---- target.c ---- */
void target_publish(struct coord *coord, struct coord_job *job, bool is_again);
void target_stranger(struct coord *coord,
                     struct coord_host *host,
                     const char *name);

/* ---- submit.c ---- */
void call_submit(struct coord *coord, const struct coord_call *call);
void call_remove(struct coord *coord, const struct coord_call *call);

/* ---- show.c ---- */
void call_jobs_list(struct coord *coord, const struct coord_call *call);
void call_jobs_get(struct coord *coord, const struct coord_call *call);
Retile__V1__Job *
show_job(struct coord *coord, const struct coord_job *job, bool is_whole);
Retile__V1__Host *show_host(struct coord *coord, const struct coord_host *host);
/* What a List answers at once, when one item more does not fit. */
enum { PAGE_BYTES = 1 << 20 };
Retile__V1__Device *
show_device(struct coord *coord, const struct coord_host *host, uint32_t index);

/* ---- request.c: calls, answers, idempotency ---- */
void call_step(struct coord *coord, const struct coord_event *event);
/* Refuse.  Printf's. */
void call_refuse(struct coord *coord,
                 const struct coord_call *call,
                 enum rpc_code code,
                 const char *fmt,
                 ...) __attribute__((format(printf, 4, 5)));
/* Refuse what would make the records of jobs larger: they are large already. */
bool call_is_too_much(struct coord *coord, const struct coord_call *call);
/* Answer; @response lives in the arena.  An answer to a call with a request_id
 * is kept, unless @is_kept is false. */
void call_answer(struct coord *coord,
                 const struct coord_call *call,
                 const void *response,
                 bool is_kept);
struct coord_request *request_find(const struct coord *coord, const char *id);
void request_add(struct coord *coord,
                 const char *id,
                 Retile__Coordinator__RequestRecord *rec);
void request_free(struct coord_request *request);

/* The place of a key in a sorted list of pointers: the first that is not
 * below it.  @name gives an item's key. */
size_t coord_lower(const void *items,
                   size_t n,
                   const char *key,
                   const char *(*name)(const void *item));

#endif
