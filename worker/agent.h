/* The agent's state, which its loop owns: the host, the session with the
 * coordinator, the jobs.
 *
 *   coordinator <== session.c ==> agent.c: after everything that happens, each
 *   mount,      <== local.c   ==>   job it concerns is decided (decide.h), what
 *   launcher                        is to be done is done (actions.c), and what
 *   store       <== work.c    ==>   others are to be told is told (report.c)
 *   processes   <== mounts.c  ==>
 *
 * All of this runs on the loop's thread.  Posts from other threads name jobs by
 * name: a job may be gone when they come. */
#ifndef WORKER_AGENT_H
#define WORKER_AGENT_H

#include <stdatomic.h>

#include "proto/check.h"
#include "proto/rpc_client.h"
#include "proto/rpc_server.h"
#include "worker/decide.h"
#include "worker/device.h"
#include "worker/host.h"
#include "worker/loop.h"
#include "worker/options.h"
#include "worker/points.h"
#include "worker/record.h"
#include "worker/work.h"

enum {
    WORKER_MAX_JOBS = 1024,
    WORKER_MAX_MESSAGE_BYTES = RPC_HELLO_MAX_BYTES,
    WORKER_TEXT_BYTES = BASE_ERR_TEXT_BYTES,
};

struct worker_agent;
struct worker_session;

/* A vote that waits for its decision, or for it to be carried out. */
struct worker_vote {
    uint64_t number;
    uint64_t generation;
    Retile__V1__Version *version; /* given; NULL: damaged */
    bool is_asked;                /* an answer, or the store, will come */
    Retile__V1__Decision decision;
    int64_t next_ns; /* nothing is tried before */
};

struct worker_mount {
    enum worker_mount_state state;
    char *path;
    struct worker_proc proc;
    struct worker_watch watch; /* a descriptor of proc; -1: none */
    bool is_child;             /* to be reaped */
    bool is_dirty;             /* a dead mount lies on path */
    bool is_cleaning;
    int64_t since_ns;
    int64_t next_ns;
    unsigned n_failures; /* in a row */
    struct rpc_call *call;
    uint64_t shown;
    char trouble[WORKER_TEXT_BYTES];
    struct base_buf order; /* what it was sent last on this call */
    uint64_t ordered;
    int64_t ordered_ns;
};

struct worker_launcher {
    struct rpc_call *call; /* NULL: none */
    struct worker_proc proc;
    uint64_t generation; /* that it has, or had */
    uint64_t told;       /* the newest that it was told to run on this call */
    bool has_running;    /* some of its ranks have not exited */
    uint32_t max_restarts;
    struct base_buf order;
};

/* Grouped by what belongs together.
 * NOLINTNEXTLINE(clang-analyzer-optin.performance.Padding) */
struct worker_job {
    struct worker_agent *agent;
    char *name;
    bool is_touched; /* to be decided in this turn */
    int64_t wake_ns;

    Retile__V1__JobTarget *target; /* NULL: none came in this run */
    int64_t revoked_ns;
    int64_t killed_ns;
    int64_t scan_next_ns;

    struct worker_versions versions;
    bool is_looked_at; /* versions are known */
    char *damaged;
    bool are_votes_known;
    int64_t look_next_ns;
    BASE_VEC(struct worker_vote) votes;
    unsigned n_working; /* pieces of work that will come back */
    uint64_t expected;  /* a version that a mount publishes now; 0: none */
    int64_t expect_until_ns;
    int64_t expect_next_ns;
    uint64_t tried;
    uint64_t failed; /* the newest attempt that failed before its vote */
    char failure[WORKER_TEXT_BYTES];
    bool may_come_again;             /* under another number */
    char trouble[WORKER_TEXT_BYTES]; /* the store's; empty: none */
    Retile__V1__StatusPlan *plan;
    int64_t tidy_next_ns;
    bool is_removed;
    bool is_gone; /* said so: nothing is left */

    struct worker_record record;
    bool is_probing;
    int64_t probing_ns; /* since when */
    int64_t probe_next_ns;
    char probe_trouble[WORKER_TEXT_BYTES];
    struct worker_mount mount;
    struct worker_launcher launcher;

    struct base_buf status; /* what the session was told last */
};

struct worker_agent {
    const struct worker_options *options;
    struct worker_host host;
    struct worker_devices devices;
    bool is_checking; /* devices, in a thread */
    int64_t check_ns; /* when they are looked at next */
    struct worker_loop *loop;
    struct worker_store *store;
    struct worker_session *session;
    struct rpc_channel *channel;
    struct rpc_server *server;
    char *socket; /* "unix:/run/retile-worker/agent.sock" */
    char *listen; /* where it is made; worker/places.h */
    char *mounts; /* the directory of mountpoints, without links */
    struct worker_points points; /* the same, open while the loop runs */
    int records_fd;              /* RUN/jobs */
    char store_id[33];
    char incarnation[33];
    uint64_t used_bytes;
    uint64_t budget_bytes;
    bool has_looked;     /* at every job there was; then the session begins */
    atomic_uint n_aside; /* threads that will post */
    bool is_ending;
    int64_t end_ns; /* not waited for longer */
    BASE_VEC(struct worker_job *) jobs;
};

/* agent.c */
int64_t worker_agent_turn(void *ctx);
/* Begin to end: mounts first.  Then each turn is worker_agent_ending. */
void worker_agent_stop(struct worker_agent *agent);
int64_t worker_agent_ending(struct worker_agent *agent, int64_t now_ns);
struct worker_job *worker_agent_job(struct worker_agent *agent,
                                    const char *name); /* NULL: none */
/* The same, made when it is not there.  NULL: no memory, or too many. */
struct worker_job *worker_agent_need(struct worker_agent *agent,
                                     const char *name);
void worker_job_free(struct worker_job *job);
void worker_job_touch(struct worker_job *job);
void worker_agent_touch_all(struct worker_agent *agent);
/* Take what the coordinator wants; @target is taken. */
void worker_agent_target(struct worker_agent *agent,
                         Retile__V1__JobTarget *target);
/* Of worker_store_create. */
void worker_agent_worked(void *ctx, struct worker_work *work);

/* check.c: GPUs are looked at again now and then; what broke, or is well again,
 * is told.  Returns when to come again. */
int64_t worker_check_turn(struct worker_agent *agent, int64_t now_ns);

/* facts.c: what is, for worker_decide. */
struct worker_facts worker_job_facts(const struct worker_job *job);
/* Is @generation of the target, and may it run? */
bool worker_job_is_wanted(const struct worker_job *job, uint64_t generation);

/* actions.c: what was decided is done. */
void worker_job_act(struct worker_job *job, unsigned todo);
/* False: no memory; decided once more in a while. */
bool worker_job_work(struct worker_job *job,
                     enum worker_work_kind kind,
                     uint64_t number);
/* Ask and carry out; votes.c. */
void worker_job_votes(struct worker_job *job, int64_t *wake_ns);

/* report.c: what others are told. */
void worker_job_tell(struct worker_job *job);
/* The job's status over the arrays of @room; borrowed from both. */
struct worker_room {
    Retile__V1__JobStatus status;
    Retile__V1__StatusGeneration generation;
    Retile__V1__StatusAttempt attempt;
    Retile__V1__RankStatus *ranks; /* given: free with worker_room_done */
    Retile__V1__RankStatus **rank_list;
    char trouble[WORKER_TEXT_BYTES];
};
void worker_room_done(struct worker_room *room);
enum base_code worker_job_status(const struct worker_job *job,
                                 struct worker_room *room,
                                 struct base_err *err) BASE_MUST_CHECK;

/* mounts.c */
void worker_mount_adopt(struct worker_job *job); /* one that runs already */
void worker_mount_start(struct worker_job *job);
void worker_mount_end(struct worker_job *job);
void worker_mount_kill(struct worker_job *job);
void worker_mount_clean(struct worker_job *job);
void worker_mount_done(struct worker_mount *mount);
/* Every mount has ended: remove the mountpoints, but those that processes may
 * still save to. */
void worker_mount_leave(struct worker_agent *agent);
void worker_mount_report(struct worker_job *job,
                         struct rpc_call *call,
                         const Retile__V1__MountReport *report);
/* Look at gen/G/load/ranks/R and find a port, in a thread; the answer touches
 * the job. */
void worker_mount_probe(struct worker_job *job);

/* aside.c: what might block, in a thread of its own. */
struct worker_aside {
    struct worker_post post; /* first */
    struct worker_agent *agent;
    char *job;
    void (*run)(struct worker_aside *aside); /* in the thread */
    /* On the loop; @job is NULL when it is gone. */
    void (*done)(struct worker_aside *aside, struct worker_job *job);
    char *path; /* given */
    uint64_t generation;
    bool has_load;
    uint32_t *ranks; /* given */
    size_t n_ranks;
    uint32_t port;
    int *fds; /* given; closed when it is freed */
    size_t n_fds;
    enum base_code code;
    struct base_err err;
};
/* False: it could not be started; @aside is freed either way. */
bool worker_aside_start(struct worker_job *job, struct worker_aside *aside);
/* Close @fds aside: it frees the bytes of files that have no name any more.  Both
 * are taken, unless there is no memory. */
void worker_aside_close(struct worker_job *job, int **fds, size_t *n);

/* orders.c: to mounts and launchers. */
void worker_job_order(struct worker_job *job);
void worker_launcher_report(struct worker_job *job,
                            struct rpc_call *call,
                            const Retile__V1__LaunchReport *report);
/* Has a launcher that is there processes of the generation in the record, or
 * may it have, since it was told to? */
bool worker_launcher_has(const struct worker_job *job);
/* Is a process left of the generation in the record?  @signal: sent to each. */
void worker_job_scan(struct worker_job *job, int signal);
void worker_job_write(struct worker_job *job); /* its record */
/* "pp=0,tp=3" of a rank in the mesh "pp=2,tp=4"; given.  NULL: no memory. */
char *worker_coords_text(const char *mesh, uint32_t rank);

/* local.c: the service on the socket. */
enum base_code worker_local_start(struct worker_agent *agent,
                                  struct base_err *err) BASE_MUST_CHECK;

/* session.c */
enum base_code worker_session_create(struct worker_agent *agent,
                                     struct base_err *err) BASE_MUST_CHECK;
void worker_session_free(struct worker_session *session);
/* Open it, renew it, give it up: when it is due.  Returns when to come again. */
int64_t worker_session_turn(struct worker_session *session);
bool worker_session_is_up(const struct worker_session *session);
uint64_t worker_session_number(const struct worker_session *session);
/* False: it is not up. */
bool worker_session_send(struct worker_session *session,
                         const Retile__V1__FromAgent *message);

#endif
