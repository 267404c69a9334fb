/* Orders to mounts and launchers, and what launchers report.
 *
 * An order is a function of the target and the record, sent when it differs
 * from the last one on the same call. */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/log.h"
#include "base/num.h"
#include "worker/agent.h"

void worker_job_write(struct worker_job *job)
{
    struct base_err err = {0};

    if (worker_record_write(job->agent->records_fd, job->name, &job->record,
                            &err) != BASE_OK) {
        base_log(BASE_ERROR, "cannot write what runs, going on", "job",
                 job->name, "why", err.text);
    }
}

/* Send @message on @call unless it is what was sent last. */
static bool send_changed(struct rpc_call *call,
                         struct base_buf *last,
                         const ProtobufCMessage *message)
{
    BASE_AUTO_BUF bytes;

    base_buf_init(&bytes, WORKER_MAX_MESSAGE_BYTES);
    if (worker_message_pack(message, &bytes, NULL) != BASE_OK ||
        (last->len > 0 &&
         base_str_eq(base_buf_str(last), base_buf_str(&bytes)))) {
        return false;
    }
    if (rpc_call_send(call, message) == RPC_SENT_NOT) {
        return false; /* its end will be told */
    }
    last->len = 0;
    (void)base_buf_add(last, bytes.ptr, bytes.len); /* else sent once more */
    return true;
}

/* --- mounts ----------------------------------------------------------------- */

static void order_mount(struct worker_job *job)
{
    const Retile__V1__JobTarget *target = job->target;
    const Retile__V1__TargetGeneration *wanted = target->generation;
    Retile__V1__MountOrder order = RETILE__V1__MOUNT_ORDER__INIT;

    order.generation = job->record.highest_generation;
    order.is_revoked = true;
    order.layout = target->layout;
    if (wanted != NULL && !target->is_gone) {
        order.generation = wanted->number;
        order.is_revoked = false;
        order.load = wanted->load;
        order.next_step = wanted->next_step;
        order.request = wanted->request;
    }
    if (send_changed(job->mount.call, &job->mount.order, &order.base)) {
        job->mount.ordered = order.is_revoked ? 0 : order.generation;
        job->mount.ordered_ns = worker_now_ns();
    }
}

/* --- launchers --------------------------------------------------------------- */

/* "pp=0,dp=1,tp=3" of a rank in "pp=2,dp=2,tp=4"; given.  Empty for a mesh that
 * is none. */
char *worker_coords_text(const char *mesh, uint32_t rank)
{
    enum { MAX_AXES = 16 };
    struct base_str names[MAX_AXES];
    uint64_t sizes[MAX_AXES];
    uint64_t coords[MAX_AXES];
    struct base_str rest = base_str_of(mesh);
    BASE_AUTO_BUF text;
    size_t n = 0;

    base_buf_init(&text, 4096);
    (void)base_buf_add_str(&text, BASE_STR("")); /* sticky */
    while (rest.len > 0 && n < MAX_AXES) {
        const char *comma = memchr(rest.ptr, ',', rest.len);
        size_t len = comma == NULL ? rest.len : (size_t)(comma - rest.ptr);
        const char *equals = memchr(rest.ptr, '=', len);
        size_t name = equals == NULL ? len : (size_t)(equals - rest.ptr);

        names[n] = (struct base_str){rest.ptr, name};
        if (equals == NULL ||
            !base_parse_u64((struct base_str){equals + 1, len - name - 1},
                            &sizes[n]) ||
            sizes[n] == 0) {
            return strdup("");
        }
        n++;
        len += comma != NULL;
        rest.ptr += len;
        rest.len -= len;
    }
    for (size_t i = n; i-- > 0;) {
        coords[i] = rank % sizes[i];
        rank = (uint32_t)(rank / sizes[i]);
    }
    for (size_t i = 0; i < n; i++) {
        (void)base_buf_addf(&text, "%s%.*s=%" PRIu64, i == 0 ? "" : ",",
                            BASE_STR_FMT(names[i]), coords[i]);
    }
    return base_buf_check(&text, NULL) == BASE_OK && text.ptr != NULL
               ? base_steal(&text.ptr)
               : strdup("");
}

bool worker_launcher_has(const struct worker_job *job)
{
    const struct worker_launcher *launcher = &job->launcher;
    uint64_t generation = job->record.generation;

    if (launcher->call == NULL) {
        return false;
    }
    return launcher->generation == generation ? launcher->has_running
                                              : launcher->told == generation;
}

/* The generation that the launcher is to run; 0: none.  A generation starts
 * once: by the launcher that has it, or that is the first to be told. */
static uint64_t generation_to_run(const struct worker_job *job)
{
    const Retile__V1__TargetGeneration *wanted = job->target->generation;
    const struct worker_record *record = &job->record;

    if (wanted == NULL || job->target->is_gone ||
        record->generation != wanted->number) {
        return 0;
    }
    if (record->is_started) {
        return job->launcher.generation == record->generation ||
                       job->launcher.told == record->generation
                   ? record->generation
                   : 0;
    }
    return wanted->state == RETILE__V1__GENERATION_STATE__GENERATION_READY
               ? record->generation
               : 0;
}

/* Written down before the launcher is told. */
static void begin(struct worker_job *job)
{
    const Retile__V1__TargetGeneration *wanted = job->target->generation;
    struct worker_record *record = &job->record;

    if (record->is_started) {
        return;
    }
    record->is_started = true;
    record->is_clear = false;
    record->launcher = job->launcher.proc;
    record->ranks.n = 0;
    for (size_t i = 0; i < wanted->n_placements; i++) {
        struct worker_rank rank = {.rank = wanted->placements[i]->rank};

        if (!base_vec_push(&record->ranks, rank)) {
            base_log(BASE_ERROR, "out of memory, going on", "job", job->name);
        }
    }
    worker_job_write(job);
    if (base_fault(BASE_FAULT_agent_started) != BASE_FAULT_NONE) {
        base_log(BASE_WARNING, "a fault that changes nothing", "point",
                 "agent.started");
    }
}

static int placement_cmp(const void *va, const void *vb)
{
    const Retile__V1__LaunchRank *const *a = va;
    const Retile__V1__LaunchRank *const *b = vb;

    return ((*a)->rank > (*b)->rank) - ((*a)->rank < (*b)->rank);
}

struct ranks {
    Retile__V1__LaunchRank *items;
    Retile__V1__LaunchRank **list;
    size_t n;
};

static void ranks_done(struct ranks *ranks)
{
    for (size_t i = 0; i < ranks->n; i++) {
        free(ranks->items[i].coords);
    }
    free(ranks->list);
    free(ranks->items);
}

/* False: no memory. */
static bool fill_ranks(const struct worker_job *job, struct ranks *ranks)
{
    const Retile__V1__TargetGeneration *wanted = job->target->generation;
    const struct worker_devices *devices = &job->agent->devices;
    static char cuda[] = "cuda";
    static char cpu[] = "cpu";

    ranks->items = calloc(wanted->n_placements + 1, sizeof(*ranks->items));
    ranks->list =
        calloc(wanted->n_placements + 1, sizeof(Retile__V1__LaunchRank *));
    if (ranks->items == NULL || ranks->list == NULL) {
        return false;
    }
    for (size_t i = 0; i < wanted->n_placements; i++) {
        const Retile__V1__Placement *placement = wanted->placements[i];
        Retile__V1__LaunchRank *rank = &ranks->items[i];

        *rank = (Retile__V1__LaunchRank)RETILE__V1__LAUNCH_RANK__INIT;
        rank->rank = placement->rank;
        rank->device = placement->device;
        rank->device_kind = placement->device < devices->n &&
                                    devices->items[placement->device].is_cuda
                                ? cuda
                                : cpu;
        rank->coords = worker_coords_text(wanted->mesh, placement->rank);
        ranks->list[i] = rank;
        ranks->n++;
        if (rank->coords == NULL) {
            return false;
        }
    }
    qsort(ranks->list, ranks->n, sizeof(Retile__V1__LaunchRank *),
          placement_cmp);
    for (size_t i = 0; i < ranks->n; i++) {
        ranks->list[i]->local_rank = (uint32_t)i;
    }
    return true;
}

static void order_launcher(struct worker_job *job)
{
    const Retile__V1__JobTarget *target = job->target;
    Retile__V1__LaunchOrder order = RETILE__V1__LAUNCH_ORDER__INIT;
    uint64_t generation = generation_to_run(job);
    BASE_AUTO_MEM char *directory = NULL;
    struct ranks ranks = {0};

    order.state = target->state;
    order.reason = target->reason;
    if (generation != 0) {
        const Retile__V1__TargetGeneration *wanted = target->generation;

        directory = base_path("%s/gen/%" PRIu64, job->mount.path, generation);
        if (directory == NULL || !fill_ranks(job, &ranks)) {
            ranks_done(&ranks);
            return; /* with the next event */
        }
        begin(job);
        order.generation = generation;
        order.load = wanted->load;
        order.directory = directory;
        order.mesh = wanted->mesh;
        order.world_size = wanted->world_size;
        order.master_addr = wanted->master_addr;
        order.master_port = wanted->master_port;
        order.ranks = ranks.list;
        order.n_ranks = ranks.n;
        job->launcher.told = generation;
    }
    (void)send_changed(job->launcher.call, &job->launcher.order, &order.base);
    ranks_done(&ranks);
}

void worker_job_order(struct worker_job *job)
{
    if (job->target == NULL) {
        return; /* what runs goes on */
    }
    if (job->mount.call != NULL) {
        order_mount(job);
    }
    if (job->launcher.call != NULL) {
        order_launcher(job);
    }
}

/* --- what launchers report ---------------------------------------------------- */

static enum worker_rank_state state_of(Retile__V1__RankState state)
{
    switch (state) {
    case RETILE__V1__RANK_STATE__RANK_WAITING:
        return WORKER_RANK_WAITING;
    case RETILE__V1__RANK_STATE__RANK_RUNNING:
        return WORKER_RANK_RUNNING;
    case RETILE__V1__RANK_STATE__RANK_EXITED:
        return WORKER_RANK_EXITED;
    default:
        return WORKER_RANK_UNKNOWN;
    }
}

/* States only go on.  *ret_is_new: it is worth writing down. */
static void take_rank(struct worker_record *record,
                      const Retile__V1__RankStatus *said,
                      bool *ret_is_new)
{
    struct worker_rank *rank = worker_record_rank(record, said->rank);
    enum worker_rank_state state = state_of(said->state);

    if (rank == NULL || state <= rank->state) {
        return;
    }
    rank->state = state;
    rank->exit_code = said->exit_code;
    rank->signal = said->signal;
    if (state == WORKER_RANK_RUNNING && said->pid > 0 &&
        said->pid <= INT32_MAX) {
        (void)worker_proc_find((pid_t)said->pid, &rank->proc); /* has ended */
    }
    *ret_is_new = true;
}

static void take_ranks(struct worker_job *job,
                       const Retile__V1__LaunchReport *report)
{
    struct worker_record *record = &job->record;
    bool is_new = false;

    if (report->generation != record->generation || !record->is_started) {
        return;
    }
    for (size_t i = 0; i < report->n_ranks; i++) {
        take_rank(record, report->ranks[i], &is_new);
    }
    if (is_new) {
        worker_job_write(job);
    }
}

/* One that names no rank has not said how they are. */
static bool has_running(const Retile__V1__LaunchReport *report)
{
    if (report->n_ranks == 0) {
        return true;
    }
    for (size_t i = 0; i < report->n_ranks; i++) {
        if (report->ranks[i]->state != RETILE__V1__RANK_STATE__RANK_EXITED) {
            return true;
        }
    }
    return false;
}

void worker_launcher_report(struct worker_job *job,
                            struct rpc_call *call,
                            const Retile__V1__LaunchReport *report)
{
    struct worker_launcher *launcher = &job->launcher;

    if (launcher->call != call) {
        if (launcher->call != NULL) {
            rpc_call_finish(launcher->call, RPC_ABORTED,
                            "another launcher of the job has called");
            rpc_call_unref(launcher->call);
        }
        launcher->call = rpc_call_ref(call);
        launcher->order.len = 0;
        launcher->told = 0;
        launcher->proc = (struct worker_proc){0};
        if (report->pid > 0 && report->pid <= INT32_MAX) {
            (void)worker_proc_find((pid_t)report->pid, &launcher->proc);
        }
        base_log(BASE_NOTICE, "a launcher has come", "job", job->name);
    }
    launcher->generation = report->generation;
    launcher->has_running = has_running(report);
    launcher->max_restarts = report->max_restarts;
    take_ranks(job, report);
    job->scan_next_ns = 0;
    worker_job_touch(job);
}

/* --- what is left --------------------------------------------------------------- */

/* Nobody will tell how these ended. */
static void settle_ranks(struct worker_record *record)
{
    for (size_t i = 0; i < record->ranks.n; i++) {
        struct worker_rank *rank = &record->ranks.items[i];

        if (rank->state != WORKER_RANK_EXITED) {
            rank->state = WORKER_RANK_EXITED;
            rank->exit_code = 0;
            rank->signal = SIGKILL;
        }
    }
    record->is_clear = true;
}

/* Can the launcher that was told start nothing any more? */
static bool is_certain(const struct worker_job *job)
{
    if (job->launcher.call != NULL) {
        return !worker_launcher_has(job);
    }
    return !worker_proc_lives(&job->record.launcher);
}

void worker_job_scan(struct worker_job *job, int signal)
{
    BASE_AUTO_MEM char *directory =
        base_path("%s/gen/%" PRIu64, job->mount.path, job->record.generation);
    BASE_AUTO_MEM struct worker_proc *procs =
        calloc(job->record.ranks.n + 1, sizeof(*procs));
    struct worker_leftovers what = {
        .has_user = job->agent->options->has_user,
        .uid = job->agent->options->uid,
        .directory = directory,
        .ranks = procs,
    };
    size_t n;

    if (procs == NULL) {
        return; /* decided again */
    }
    for (size_t i = 0; i < job->record.ranks.n; i++) {
        if (job->record.ranks.items[i].proc.pid != 0) {
            procs[what.n_ranks++] = job->record.ranks.items[i].proc;
        }
    }
    n = worker_proc_leftovers(&what, signal);
    job->scan_next_ns = worker_now_ns() + WORKER_SCAN_NS;
    if (n > 0 && signal != 0) {
        base_log(BASE_WARNING, "killed what was left of a generation", "job",
                 job->name);
    }
    /* What was killed by us is gone, whatever its launcher says: one that is
     * stopped says nothing, and what it may start later cannot save. */
    if (n == 0 && (signal != 0 || is_certain(job))) {
        settle_ranks(&job->record);
        worker_job_write(job);
        worker_job_touch(job);
    }
}
