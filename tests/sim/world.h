/* A cluster in one thread, under virtual time: the coordinator's core with
 * records in memory, and small models of agents, mounts, training processes and
 * clients.  A seed decides everything that happens.
 *
 *   coordinator.c  steps the core, commits, sends; dies between any two of these
 *   agent.c        a host: its store, sessions, statuses; obeys agents.proto
 *   training.c     processes that train, save, stop when asked, fail, hang
 *   client.c       calls, asked again until they are answered; faults
 *   oracle.c       what must be true of all of it together
 *
 * Streams keep their order but break anywhere; unary calls are lost, late, and
 * come twice.  A fault stops the run with RETILE_SEED and the last events. */
#ifndef SIM_WORLD_H
#define SIM_WORLD_H

#include <retile/v1/agents.pb-c.h>
#include <retile/v1/devices.pb-c.h>
#include <retile/v1/jobs.pb-c.h>
#include <retile/v1/types.pb-c.h>
#include <retile/v1/versions.pb-c.h>
#include <retile/v1/watch.pb-c.h>

#include "base/hash.h"
#include "coordinator/core/core.h"

enum { MAX_SLOTS = 4, MAX_HOST_JOBS = 64, MAX_LOCAL_VERSIONS = 64 };

enum task_kind {
    TASK_TO_COORD, /* a message of a session arrives; a: session */
    TASK_TO_AGENT,
    TASK_COORD_CLOSED, /* that a session is over is seen; a: session */
    TASK_AGENT_CLOSED,
    TASK_CALL,  /* a call arrives; a: call, b: which try */
    TASK_REPLY, /* its answer does; a: call, b: code, c: restores; bytes */
    TASK_RETRY, /* a call is asked again; a: call, b: which try */
    TASK_COORD_TICK,
    TASK_COORD_COMMIT,
    TASK_COORD_START,
    TASK_CONNECT, /* an agent; a: epoch */
    TASK_RENEW,
    TASK_AGENT_START, /* after it died */
    TASK_WORK,        /* of an agent; a: job, b: kind of work, c: number */
    TASK_TRAIN,       /* a: job, b: generation */
    TASK_CLIENT,
    TASK_CHAOS,
};

struct task {
    int64_t at_ns;
    uint64_t order;
    enum task_kind kind;
    uint32_t host;
    uint64_t epoch; /* of the agent that made it; 0: any */
    uint64_t a, b, c;
    uint8_t *bytes; /* owned */
    size_t n_bytes;
};

struct sim_version {
    uint64_t number, step;
    uint32_t tp;
};

/* What a rank is doing. */
enum proc_state { PROC_NONE, PROC_WAITING, PROC_RUNNING, PROC_EXITED };

enum save_phase {
    SAVE_NONE,
    SAVE_OPENING, /* mkdir was called */
    SAVE_WRITING,
    SAVE_VOTING, /* the vote is written */
};

/* A job on a host. */
struct sim_job {
    char name[32];
    bool is_used;
    /* In the store: outlives the agent. */
    struct sim_version versions[MAX_LOCAL_VERSIONS];
    size_t n_versions;
    struct sim_version voted; /* .number 0: no vote */
    bool is_damaged;          /* what was voted for: it cannot be published */
    uint64_t voted_generation;
    uint64_t highest, highest_generation, started_generation;
    /* The mount and the processes: outlive the agent too. */
    uint64_t shown; /* generation that the mount shows and that is prepared */
    uint64_t run;   /* generation of the processes; 0: none were started */
    uint32_t n_ranks;
    uint32_t devices[MAX_SLOTS];
    enum proc_state procs[MAX_SLOTS];
    int exit_codes[MAX_SLOTS];
    uint64_t step, loaded_step, next_save, last_step;
    uint32_t tp;
    bool is_asked, hangs, is_over; /* over: it was revoked, nothing is saved */
    enum save_phase save;
    uint64_t save_step, save_attempt;
    /* The agent's. */
    Retile__V1__JobTarget *target;
    bool is_killing, is_preparing, is_making, is_planning, is_leaving;
    bool is_releasing, is_asking; /* a call is out */
    uint64_t failed_attempt, planned;
    bool may_come_again; /* what failed, under another number */
    uint32_t planned_tp;
    bool is_gone; /* removed, and to be told */
    uint64_t seen_revision;
};

struct sim_host {
    char name[16];
    uint64_t store;
    uint32_t n_slots;
    bool broken[MAX_SLOTS];
    bool is_up, is_paused;
    uint64_t epoch, session;          /* 0: none */
    struct sim_job *jobs;             /* world.n_host_jobs */
    uint64_t device_users[MAX_SLOTS]; /* job and generation, hashed; 0: none */
};

struct sim_session {
    uint32_t host;
    uint64_t epoch;
    bool is_open_coord, is_open_agent, is_known; /* known to the core */
    int64_t to_coord_ns, to_agent_ns; /* the last that is on its way */
};

enum call_owner { CALL_CLIENT, CALL_OPEN, CALL_CLOSE, CALL_VOTE };

struct sim_call {
    enum call_owner owner;
    uint32_t host, job;
    uint64_t epoch, number;
    const char *method;
    uint8_t *bytes;
    size_t n_bytes;
    uint64_t tries;
    bool is_done, is_dry;      /* dry: each answer is another's */
    bool is_lost;              /* a vote that nothing can be made of */
    struct base_digest answer; /* of a client's first */
    bool has_answer;
};

struct sim_record {
    enum coord_record_kind kind;
    char *id;
    char *body;
    size_t n_bytes;
};

/* A decision that was told. */
struct sim_decision {
    char job[32];
    int64_t born_ns;
    uint64_t number;
    bool is_commit;
};

struct world {
    uint64_t seed, random;
    int64_t now_ns;
    uint64_t n_tasks, n_steps, n_crashes, n_commits;
    bool is_quiet; /* no more faults */
    BASE_VEC(struct task) tasks;
    struct coord_limits limits;

    struct coord *coord; /* NULL: it is down */
    struct coord_actions actions;
    BASE_VEC(struct sim_record) records;
    uint64_t revision;
    BASE_VEC(struct sim_record) snapshot; /* records as they were once */
    uint64_t snapshot_revision;
    bool has_snapshots; /* a seed may bring an old one back */
    uint64_t n_restores;
    bool is_committing; /* a commit is due */
    uint64_t crash_in;  /* points until it dies; 0: it does not */
    int64_t tick_ns;
    BASE_VEC(struct sim_session) sessions;
    BASE_VEC(uint64_t) tickets; /* call << 8 | try */
    BASE_VEC(struct sim_call) calls;

    struct sim_host *hosts;
    uint32_t n_hosts, n_jobs, n_host_jobs;
    uint32_t n_submitted;
    uint64_t n_requests, n_client_calls;

    BASE_VEC(struct sim_decision) decisions;
    uint64_t trace[2]; /* a running digest of all that was said */
    bool is_verbose;
    char fault[512]; /* not empty: what is wrong */
    uint64_t n_done, n_events;
    uint64_t checks_in; /* coord_invariant after so many steps */
};

/* scheduler, world.c */
void world_init(struct world *world,
                uint64_t seed,
                uint32_t n_hosts,
                uint32_t n_jobs);
void world_done(struct world *world);
bool world_run(struct world *world); /* false: world->fault */
uint64_t world_random(struct world *world, uint64_t n); /* below n */
bool world_chance(struct world *world, uint64_t one_in);
void world_at(struct world *world, int64_t in_ns, struct task task);
/* @ms a few of them, at random. */
int64_t world_soon(struct world *world, int64_t ms);
int64_t world_soon_us(struct world *world, uint64_t us);
void world_fault(struct world *world, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
void world_trace(struct world *world, const void *bytes, size_t n);
void world_say(struct world *world, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
void task_pack(struct task *task, const void *message);

/* coordinator.c */
void coordinator_start(struct world *world);
void coordinator_stop(struct world *world);
void coordinator_crash(struct world *world);
/* Its records are kept aside; it dies and finds those that were. */
void coordinator_snapshot(struct world *world);
void coordinator_restore(struct world *world);
/* The first record that is not below this one. */
size_t records_lower(const struct world *world,
                     enum coord_record_kind kind,
                     struct base_str id);
void records_done(struct sim_record *items, size_t n);
void coordinator_task(struct world *world, struct task *task);

/* agent.c, agent_work.c */
static inline void sim_raise(uint64_t *number, uint64_t to)
{
    *number = *number > to ? *number : to;
}

void agent_task(struct world *world, struct task *task);
void agent_start(struct world *world, uint32_t host);
void agent_die(struct world *world, uint32_t host, int64_t for_ns);
void agent_pause(struct world *world, uint32_t host, bool is_paused);
void agent_lose_store(struct world *world, uint32_t host);
void agent_do_work(struct world *world, const struct task *task);
/* Its texts are not the caller's. */
Retile__V1__Version agent_version(const struct sim_version *from);
void agent_status(struct world *world, uint32_t host, struct sim_job *job);
void agent_reconcile(struct world *world, uint32_t host, struct sim_job *job);
void agent_break(struct world *world, uint64_t session);
void agent_reply(struct world *world,
                 struct sim_call *call,
                 enum rpc_code code,
                 const void *bytes,
                 size_t n);
void agent_device(struct world *world, uint32_t host, uint32_t index, bool bad);
void sim_publish(struct world *world, uint32_t host, struct sim_job *job);

/* training.c */
void training_start(struct world *world,
                    uint32_t host,
                    struct sim_job *job,
                    const Retile__V1__TargetGeneration *generation);
void training_task(struct world *world, struct task *task);
void training_kill(struct world *world, uint32_t host, struct sim_job *job);
void training_saved(struct world *world,
                    uint32_t host,
                    struct sim_job *job,
                    bool is_good);
bool training_is_alive(const struct sim_job *job);

/* client.c */
uint64_t
call_send(struct world *world, struct sim_call call, const void *message);
void call_task(struct world *world, struct task *task);
void client_task(struct world *world);
void chaos_task(struct world *world);
void world_heal(struct world *world);

/* oracle.c */
void oracle_vote(struct world *world,
                 const struct sim_call *call,
                 bool is_commit);
void oracle_start(struct world *world,
                  uint32_t host,
                  const struct sim_job *job);
void oracle_release(struct world *world,
                    uint32_t host,
                    const struct sim_job *job,
                    uint64_t number);
void oracle_step(struct world *world);
bool oracle_is_settled(const struct world *world, char *why, size_t n);

#endif
