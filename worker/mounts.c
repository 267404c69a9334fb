/* The mounts: a process each, in a process group of its own, which outlives a
 * killed agent and is found again by its command line. */
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/log.h"
#include "worker/agent.h"

/* One that lived so long is not failing again and again. */
#define WELL_NS (30 * WORKER_SECOND_NS)

extern char **environ;

void worker_mount_done(struct worker_mount *mount)
{
    if (mount->watch.fd >= 0) {
        (void)close(mount->watch.fd);
    }
    rpc_call_unref(mount->call);
    base_buf_done(&mount->order);
    free(mount->path);
}

static void enter(struct worker_mount *mount, enum worker_mount_state state)
{
    mount->state = state;
    mount->since_ns = worker_now_ns();
}

/* --- its end -------------------------------------------------------------- */

static void reap(const struct worker_mount *mount, char *text, size_t n_bytes)
{
    int status;

    if (!mount->is_child ||
        waitpid(mount->proc.pid, &status, WNOHANG) != mount->proc.pid) {
        (void)snprintf(text, n_bytes, "it was another agent's child");
    } else if (WIFSIGNALED(status)) {
        (void)snprintf(text, n_bytes, "signal %d", WTERMSIG(status));
    } else {
        (void)snprintf(text, n_bytes, "exit status %d", WEXITSTATUS(status));
    }
}

static void ended(struct worker_job *job)
{
    struct worker_mount *mount = &job->mount;
    bool was_asked = mount->state == WORKER_MOUNT_ENDING;
    int64_t now_ns = worker_now_ns();
    char how[48];

    reap(mount, how, sizeof(how));
    if (now_ns - mount->since_ns > WELL_NS) {
        mount->n_failures = 0;
    }
    mount->n_failures += !was_asked;
    mount->next_ns =
        was_asked ? 0 : now_ns + worker_backoff_ns(mount->n_failures);
    mount->proc = (struct worker_proc){0};
    mount->is_child = false;
    mount->is_dirty = worker_is_mounted(mount->path);
    enter(mount, WORKER_MOUNT_NONE);
    /* What it had voted for is ours to ask about. */
    job->are_votes_known = false;
    base_log(was_asked ? BASE_NOTICE : BASE_WARNING,
             was_asked ? "a mount has ended"
                       : "a mount died, starting it again",
             "job", job->name, "how", how);
    if (!was_asked) {
        (void)snprintf(mount->trouble, sizeof(mount->trouble), "it died: %s",
                       how);
    }
    worker_job_touch(job);
}

static void on_end(void *ctx)
{
    struct worker_job *job = ctx;
    struct worker_mount *mount = &job->mount;

    worker_loop_unwatch(job->agent->loop, &mount->watch);
    (void)close(mount->watch.fd); /* nothing was written */
    mount->watch.fd = -1;
    ended(job);
}

/* False: it has ended already. */
static bool watch(struct worker_job *job)
{
    struct worker_mount *mount = &job->mount;

    mount->watch = (struct worker_watch){
        .fd = worker_proc_open(&mount->proc), .fn = on_end, .ctx = job};
    if (mount->watch.fd < 0) {
        return false;
    }
    if (worker_loop_watch(job->agent->loop, &mount->watch, NULL) != BASE_OK) {
        (void)close(mount->watch.fd);
        mount->watch.fd = -1;
        return false;
    }
    return true;
}

void worker_mount_end(struct worker_job *job)
{
    struct worker_mount *mount = &job->mount;

    if (mount->state != WORKER_MOUNT_ENDING) {
        worker_proc_kill(&mount->proc, SIGTERM);
        enter(mount, WORKER_MOUNT_ENDING);
    }
}

/* The holder and the server, which are a process group.  One that is stopped
 * does not see SIGTERM. */
void worker_mount_kill(struct worker_job *job)
{
    struct worker_mount *mount = &job->mount;

    base_log(BASE_WARNING, "a mount does not answer, killing it", "job",
             job->name);
    if (worker_proc_lives(&mount->proc)) {
        (void)kill(-mount->proc.pid, SIGKILL);
    }
    mount->since_ns = worker_now_ns();
    mount->ordered_ns = mount->since_ns;
}

static void run_clean(struct worker_aside *aside)
{
    union {
        const char *shown;
        char *field; /* posix_spawn writes to none of them */
    } args[] = {{"fusermount3"}, {"-u"}, {"-z"}, {"-q"}, {"--"}};
    char *argv[] = {args[0].field, args[1].field, args[2].field, args[3].field,
                    args[4].field, aside->path,   NULL};
    pid_t pid;

    if (umount2(aside->path, MNT_DETACH | UMOUNT_NOFOLLOW) == 0 ||
        errno != EPERM) {
        return;
    }
    if (posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ) == 0) {
        (void)waitpid(pid, NULL,
                      0); /* what it says is looked at in mountinfo */
    }
}

static void done_clean(struct worker_aside *aside, struct worker_job *job)
{
    struct worker_mount *mount;

    if (job == NULL) {
        return;
    }
    mount = &job->mount;
    mount->is_cleaning = false;
    mount->is_dirty = worker_is_mounted(mount->path);
    mount->next_ns =
        mount->is_dirty ? worker_now_ns() + WORKER_AGAIN_NS : mount->next_ns;
    if (mount->is_dirty) {
        base_log(BASE_WARNING, "cannot take a dead mount away, retrying",
                 "path", aside->path);
    }
}

void worker_mount_clean(struct worker_job *job)
{
    struct worker_aside *aside = calloc(1, sizeof(*aside));

    if (aside == NULL) {
        return;
    }
    aside->run = run_clean;
    aside->done = done_clean;
    aside->path = strdup(job->mount.path);
    job->mount.is_cleaning = true;
    if (!worker_aside_start(job, aside)) {
        job->mount.is_cleaning = false;
    }
}

void worker_mount_leave(struct worker_agent *agent)
{
    for (size_t i = 0; i < agent->jobs.n; i++) {
        struct worker_job *job = agent->jobs.items[i];

        if (job->record.is_started && !job->record.is_clear) {
            worker_job_scan(job, 0);
        }
        if (!job->record.is_started || job->record.is_clear) {
            worker_points_remove(&agent->points, job->name); /* busy: stays */
        }
    }
}

/* --- its beginning --------------------------------------------------------- */

static void adopt(struct worker_job *job, const struct worker_proc *proc)
{
    job->mount.proc = *proc;
    job->mount.is_child = false;
    if (watch(job)) {
        enter(&job->mount, WORKER_MOUNT_STARTED);
        base_log(BASE_NOTICE, "a mount goes on", "job", job->name);
    }
}

void worker_mount_adopt(struct worker_job *job)
{
    struct worker_mount *mount = &job->mount;
    const char *program = strrchr(job->agent->options->fuse, '/') + 1;
    struct worker_proc proc;

    if (worker_proc_by_command(program, mount->path, &proc)) {
        adopt(job, &proc);
    }
    mount->is_dirty =
        mount->state == WORKER_MOUNT_NONE && worker_is_mounted(mount->path);
}

static enum base_code spawn(struct worker_job *job, struct base_err *err)
{
    const struct worker_options *options = job->agent->options;
    char owner[64] = "nosuid"; /* as it is anyway */
    union {
        const char *shown;
        char *field; /* posix_spawn writes to none of them */
    } args[] = {{options->fuse},
                {"--foreground"},
                {"--store"},
                {options->store},
                {"--job"},
                {job->name},
                {"--agent"},
                {job->agent->socket},
                {"-o"},
                {owner},
                {job->mount.path},
                {NULL}};
    char *argv[sizeof(args) / sizeof(args[0])];
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    sigset_t set;
    int errnum;

    if (options->has_user) {
        (void)snprintf(owner, sizeof(owner), "allow_other,uid=%u,gid=%u",
                       options->uid, options->gid);
    }
    for (size_t i = 0; i < sizeof(args) / sizeof(args[0]); i++) {
        argv[i] = args[i].field;
    }
    (void)posix_spawn_file_actions_init(&actions);
    (void)posix_spawnattr_init(&attr);
    (void)posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", 0, 0);
    (void)posix_spawn_file_actions_adddup2(&actions, 2, 1);
    (void)posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK |
                                              POSIX_SPAWN_SETSIGDEF |
                                              POSIX_SPAWN_SETPGROUP);
    (void)sigemptyset(&set);
    (void)posix_spawnattr_setsigmask(&attr, &set);
    (void)sigfillset(&set);
    (void)posix_spawnattr_setsigdefault(&attr, &set);
    (void)posix_spawnattr_setpgroup(&attr, 0);
    errnum = posix_spawn(&job->mount.proc.pid, argv[0], &actions, &attr, argv,
                         environ);
    (void)posix_spawnattr_destroy(&attr);
    (void)posix_spawn_file_actions_destroy(&actions);
    if (errnum != 0) {
        job->mount.proc = (struct worker_proc){0};
        return base_fail_errno(err, errnum, "%s: cannot start", options->fuse);
    }
    return BASE_OK;
}

static void start_failed(struct worker_job *job, const char *why)
{
    struct worker_mount *mount = &job->mount;

    mount->n_failures++;
    mount->next_ns = worker_now_ns() + worker_backoff_ns(mount->n_failures);
    (void)snprintf(mount->trouble, sizeof(mount->trouble), "%s", why);
    base_log(BASE_WARNING, "cannot start a mount, retrying", "job", job->name,
             "why", why);
    worker_job_touch(job);
}

void worker_mount_start(struct worker_job *job)
{
    struct worker_mount *mount = &job->mount;
    struct base_err err = {0};

    mount->is_dirty = worker_is_mounted(mount->path);
    if (mount->is_dirty) {
        worker_job_touch(job);
        return;
    }
    if (worker_points_make(&job->agent->points, job->name, &err) != BASE_OK ||
        spawn(job, &err) != BASE_OK) {
        start_failed(job, err.text);
        return;
    }
    mount->is_child = true;
    mount->shown = 0;
    /* A child that has ended is there until it is reaped, but has no start. */
    if (!worker_proc_find(mount->proc.pid, &mount->proc) || !watch(job)) {
        ended(job);
        return;
    }
    enter(mount, WORKER_MOUNT_STARTED);
    if (base_fault(BASE_FAULT_agent_mounting) != BASE_FAULT_NONE) {
        worker_mount_kill(job);
    }
}

/* --- what it says ------------------------------------------------------------ */

/* One that we did not find: its process is the caller's.  It is never init,
 * which adopts the server of a holder that was killed.  Another user who calls
 * could name any process as one to be ended. */
static void take_caller(struct worker_job *job, int64_t pid)
{
    struct worker_proc proc;

    if (!job->agent->options->has_user &&
        job->mount.state == WORKER_MOUNT_NONE && pid > 1 && pid <= INT32_MAX &&
        worker_proc_find((pid_t)pid, &proc)) {
        adopt(job, &proc);
    }
}

void worker_mount_report(struct worker_job *job,
                         struct rpc_call *call,
                         const Retile__V1__MountReport *report)
{
    struct worker_mount *mount = &job->mount;

    if (mount->call != call) {
        if (mount->call != NULL) {
            rpc_call_finish(mount->call, RPC_ABORTED,
                            "another mount of the job has called");
            rpc_call_unref(mount->call);
        }
        mount->call = rpc_call_ref(call);
        mount->order.len = 0;
        mount->ordered = 0;
        take_caller(job, report->pid);
    }
    if (mount->state == WORKER_MOUNT_STARTED) {
        enter(mount, WORKER_MOUNT_UP);
    }
    mount->shown = report->generation;
    (void)snprintf(mount->trouble, sizeof(mount->trouble), "%s",
                   report->trouble);
    worker_job_touch(job);
}

/* --- is a generation ready? ---------------------------------------------------- */

/* One that nobody has now; it is the job's to take. */
static enum base_code find_port(uint32_t *ret, struct base_err *err)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t n = sizeof(address);
    BASE_AUTO_FD fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || bind(fd, (struct sockaddr *)&address, n) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &n) != 0) {
        return base_fail_errno(err, errno, "cannot find a free port");
    }
    *ret = ntohs(address.sin_port);
    return BASE_OK;
}

static enum base_code look_at(const char *path, struct base_err *err)
{
    struct stat st;

    if (stat(path, &st) != 0) {
        return base_fail_errno(err, errno, "%s", path);
    }
    return BASE_OK;
}

static enum base_code probe(struct worker_aside *aside, struct base_err *err)
{
    if (!aside->has_load) {
        BASE_TRY(look_at(aside->path, err));
    }
    for (size_t i = 0; i < aside->n_ranks && aside->has_load; i++) {
        BASE_AUTO_MEM char *path =
            base_path("%s/load/ranks/%03" PRIu32, aside->path, aside->ranks[i]);

        if (path == NULL) {
            return base_fail(err, BASE_NO_MEM, "out of memory");
        }
        BASE_TRY(look_at(path, err));
    }
    return find_port(&aside->port, err);
}

static void run_probe(struct worker_aside *aside)
{
    aside->code = probe(aside, &aside->err);
}

static void done_probe(struct worker_aside *aside, struct worker_job *job)
{
    if (job == NULL) {
        return;
    }
    job->is_probing = false;
    job->probe_trouble[0] = '\0';
    if (!worker_job_is_wanted(job, aside->generation)) {
        return;
    }
    if (aside->code != BASE_OK) {
        job->probe_next_ns = worker_now_ns() + WORKER_SECOND_NS / 4;
        (void)snprintf(job->probe_trouble, sizeof(job->probe_trouble),
                       "generation %" PRIu64 ": %.340s", aside->generation,
                       aside->err.text);
        return;
    }
    worker_record_begin(&job->record, aside->generation, aside->port);
    worker_job_write(job);
    if (base_fault(BASE_FAULT_agent_prepared) != BASE_FAULT_NONE) {
        base_log(BASE_WARNING, "a fault that changes nothing", "point",
                 "agent.prepared");
    }
}

void worker_mount_probe(struct worker_job *job)
{
    const Retile__V1__TargetGeneration *wanted = job->target->generation;
    struct worker_aside *aside = calloc(1, sizeof(*aside));

    if (aside == NULL) {
        return;
    }
    aside->run = run_probe;
    aside->done = done_probe;
    aside->generation = wanted->number;
    aside->has_load = wanted->load != 0;
    aside->path = base_path("%s/gen/%" PRIu64, job->mount.path, wanted->number);
    aside->ranks = calloc(wanted->n_placements + 1, sizeof(*aside->ranks));
    for (size_t i = 0; aside->ranks != NULL && i < wanted->n_placements; i++) {
        aside->ranks[aside->n_ranks++] = wanted->placements[i]->rank;
    }
    job->is_probing = aside->path != NULL && aside->ranks != NULL;
    job->probing_ns = worker_now_ns();
    if (!job->is_probing) {
        free(aside->path);
        free(aside->ranks);
        free(aside);
    } else if (!worker_aside_start(job, aside)) {
        job->is_probing = false;
    }
}
