/* retile-worker: the agent of a host. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/log.h"
#include "base/notify.h"
#include "proto/check.h"
#include "worker/agent.h"
#include "worker/places.h"

enum { STOP_GRACE_MS = 500 };

struct program {
    struct worker_options options;
    struct worker_agent agent;
    struct worker_watch signals;
};

/* --- signals ------------------------------------------------------------------ */

static void on_signal(void *ctx)
{
    struct program *program = ctx;
    struct signalfd_siginfo info;

    while (read(program->signals.fd, &info, sizeof(info)) ==
           (ssize_t)sizeof(info)) {
        base_log(BASE_NOTICE, "ending", "signal",
                 sigdescr_np((int)info.ssi_signo));
        worker_agent_stop(&program->agent);
    }
}

/* Before threads, which inherit what is blocked. */
static enum base_code catch_signals(struct program *program,
                                    struct base_err *err)
{
    sigset_t set;

    (void)sigemptyset(&set); /* as sigaddset: cannot fail */
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGINT);
    (void)pthread_sigmask(SIG_BLOCK, &set, NULL); /* a good set */
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGCHLD, SIG_DFL); /* who started us may ignore it */
    program->signals.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (program->signals.fd < 0) {
        return base_fail_errno(err, errno, "cannot catch signals");
    }
    program->signals.fn = on_signal;
    program->signals.ctx = program;
    return BASE_OK;
}

/* --- the store ---------------------------------------------------------------------- */

static enum base_code own_store(struct worker_agent *agent,
                                struct store_root **ret,
                                struct base_err *err)
{
    const struct worker_options *options = agent->options;
    BASE_AUTO(store_root) root = NULL;
    enum base_code code = store_root_open(options->store, &root, err);

    if (code == BASE_NOT_FOUND && options->has_budget) {
        BASE_TRY(store_root_init(options->store, options->budget_bytes, err));
        base_log(BASE_NOTICE, "made a store", "path", options->store);
        code = store_root_open(options->store, &root, err);
    } else if (code == BASE_NOT_FOUND) {
        return base_wrap(err, code, "--budget SIZE makes it");
    }
    BASE_TRY(code);
    BASE_TRY(store_root_own(root, err));
    BASE_TRY(
        store_root_usage(root, &agent->used_bytes, &agent->budget_bytes, err));
    (void)snprintf(agent->store_id, sizeof(agent->store_id), "%s",
                   store_root_id(root));
    *ret = base_steal(&root);
    return BASE_OK;
}

/* --- what was here before us ---------------------------------------------------------- */

static enum base_code
know(struct worker_agent *agent, const char *name, struct base_err *err)
{
    if (worker_host_name_is_good(name) &&
        worker_agent_need(agent, name) == NULL) {
        return base_fail(err, BASE_LIMIT, "%s: more than %d jobs, or no memory",
                         name, WORKER_MAX_JOBS);
    }
    return BASE_OK;
}

static enum base_code know_names(struct worker_agent *agent,
                                 int dir_fd,
                                 const char *path,
                                 struct base_err *err)
{
    char **names = NULL;
    size_t n = 0;
    enum base_code code = base_dir_list(
        dir_fd, path, (size_t)2 * WORKER_MAX_JOBS, &names, &n, err);

    for (size_t i = 0; code == BASE_OK && i < n; i++) {
        code = know(agent, names[i], err);
    }
    base_names_free(names, n);
    return code;
}

/* Jobs of the store, those that had processes, those that have mounts. */
static enum base_code know_jobs(struct worker_agent *agent,
                                const struct store_root *root,
                                struct base_err *err)
{
    BASE_AUTO_MEM struct store_vote *votes = NULL;
    char **names = NULL;
    size_t n = 0;
    enum base_code code = store_root_jobs(root, &names, &n, err);

    for (size_t i = 0; code == BASE_OK && i < n; i++) {
        code = know(agent, names[i], err);
    }
    base_names_free(names, n);
    BASE_TRY(code);
    BASE_TRY(store_vote_list(root, &votes, &n, err));
    for (size_t i = 0; i < n; i++) {
        BASE_TRY(know(agent, votes[i].job, err));
    }
    BASE_TRY(know_names(agent, agent->records_fd, ".", err));
    return know_names(agent, AT_FDCWD, agent->mounts, err);
}

/* --- running -------------------------------------------------------------------------- */

static enum base_code open_channel(struct worker_agent *agent,
                                   struct base_err *err)
{
    const struct worker_options *options = agent->options;
    const struct rpc_tls tls = {.ca_path = options->tls_ca,
                                .cert_path = options->tls_cert,
                                .key_path = options->tls_key,
                                .peer_name = options->tls_name};
    const struct rpc_channel_options channel = {
        .what = "the coordinator",
        .tls = options->tls_ca != NULL ? &tls : NULL,
        .check = rpc_check,
    };

    return rpc_channel_open(options->coordinator, &channel, &agent->channel,
                            err);
}

static enum base_code start(struct program *program, struct base_err *err)
{
    struct worker_agent *agent = &program->agent;
    const struct worker_options *options = &program->options;
    BASE_AUTO(store_root) root = NULL;

    base_log_set_level(options->log_level);
    base_log_set_format(options->log_format);
    agent->options = options;
    BASE_TRY(
        worker_host_read(options->host, options->address, &agent->host, err));
    BASE_TRY(worker_devices_find(options->n_slots, options->cudart,
                                 WORKER_PROBE_WAIT_MS, &agent->devices, err));
    BASE_TRY(worker_random_text(agent->incarnation, err));
    BASE_TRY(worker_places_make(agent, err));
    BASE_TRY(own_store(agent, &root, err));
    BASE_TRY(worker_loop_create(&agent->loop, err));
    BASE_TRY(worker_loop_watch(agent->loop, &program->signals, err));
    BASE_TRY(know_jobs(agent, root, err));
    BASE_TRY(worker_session_create(agent, err));
    BASE_TRY(worker_store_create(agent->loop, &root, worker_agent_worked, agent,
                                 &agent->store, err));
    BASE_TRY(open_channel(agent, err));
    BASE_TRY(worker_local_start(agent, err));
    BASE_TRY(worker_places_show(agent, err));
    /* Last: one that cannot start must not take another's cover away. */
    return worker_points_open(agent->mounts, options->has_user, &agent->points,
                              err);
}

/* Until no thread is aside, or their time is over. */
static int64_t turn_aside(void *ctx)
{
    struct worker_agent *agent = ctx;
    int64_t now_ns = worker_now_ns();

    if (atomic_load(&agent->n_aside) == 0 || now_ns > agent->end_ns) {
        worker_loop_stop(agent->loop);
    }
    return now_ns + WORKER_SECOND_NS / 100;
}

/* Threads that post end before what they post to. */
static void finish(struct program *program)
{
    struct worker_agent *agent = &program->agent;

    agent->is_ending = true;
    agent->end_ns = worker_now_ns() + 2 * WORKER_SECOND_NS;
    rpc_server_free(agent->server);
    rpc_channel_free(agent->channel);
    worker_store_stop(agent->store);
    if (agent->loop != NULL) {
        worker_loop_run(agent->loop, turn_aside, agent);
        worker_loop_drain(agent->loop);
    }
    if (agent->points.fd >= 0) {
        worker_mount_leave(agent);
        worker_points_close(&agent->points);
        worker_places_hide(agent);
    }
    if (atomic_load(&agent->n_aside) > 0) { /* it hangs in a dead mount */
        _exit(EXIT_SUCCESS);
    }
    worker_store_free(agent->store);
    for (size_t i = 0; i < agent->jobs.n; i++) {
        worker_job_free(agent->jobs.items[i]);
    }
    base_vec_done(&agent->jobs);
    worker_session_free(agent->session);
    worker_loop_free(agent->loop);
    if (agent->records_fd >= 0) {
        (void)close(agent->records_fd); /* a directory */
    }
    free(agent->socket);
    free(agent->listen);
    free(agent->mounts);
}

static enum base_code run(struct program *program, struct base_err *err)
{
    struct worker_agent *agent = &program->agent;
    enum base_code code = catch_signals(program, err);

    if (code == BASE_OK) {
        code = start(program, err);
    }
    if (code == BASE_OK) {
        base_log(BASE_NOTICE, "ready", "host", agent->host.name, "store",
                 program->options.store, "socket", agent->socket);
        base_notify("READY=1");
        worker_loop_run(agent->loop, worker_agent_turn, agent);
        base_notify("STOPPING=1");
        rpc_server_stop(agent->server, STOP_GRACE_MS);
    }
    finish(program);
    if (program->signals.fd >= 0) {
        (void)close(program->signals.fd);
    }
    return code;
}

int main(int argc, char **argv)
{
    static struct program program = {
        .signals.fd = -1, .agent = {.records_fd = -1, .points.fd = -1}};
    struct base_err err = {0};
    bool is_done = false;
    enum base_code code;

    if (argc == 3 && strcmp(argv[1], WORKER_PROBE_VERB) == 0) {
        return worker_probe_main(argv[2]);
    }
    base_log_init("retile-worker");
    code = base_fault_init(&err);
    if (code == BASE_OK) {
        code =
            worker_options_read(argc, argv, &program.options, &is_done, &err);
    }
    if (code == BASE_OK && !is_done) {
        code = run(&program, &err);
    }
    if (code == BASE_OK && fflush(stdout) != 0) {
        code = base_fail_errno(&err, errno, "stdout");
    }
    if (code != BASE_OK) {
        (void)fprintf(stderr, "retile-worker: %s\n", err.text);
    }
    worker_options_done(&program.options);
    return base_code_exit(code);
}
