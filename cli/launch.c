/* `retile launch`: run a job's processes on this host, generation by generation.
 *
 * One loop (the main thread) owns the ranks, their output and the call to the
 * agent, and waits for all of it with poll(2).  Each time around it compares what
 * the newest order wants with what is there, and does what is missing:
 *
 *   nothing runs, a newer generation is wanted     start it
 *   one runs, and it is not the one wanted         SIGTERM, 2 s later SIGKILL; at
 *                                                  once SIGKILL when another is
 *   nothing is left, and the job is over           end
 *
 * Who was stopped for longer than an agent waits with killing knows nothing any
 * more: the order may be one of a revoked generation, so it is asked for again.
 *
 * A rank's end is reported at once, but the last one's only when no process of
 * the generation is left: then the agent may call it clear. */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/num.h"
#include "cli/cli.h"
#include "cli/launch_guard.h"
#include "cli/launch_link.h"
#include "cli/launch_ranks.h"

#define DEFAULT_AGENT "unix:/run/retile-worker/agent.sock"
#define DEFAULT_PATH  "/bin:/usr/bin" /* as execvp(3) */
#define MS_NS         ((int64_t)1000000)
#define GRACE_NS      (2000 * MS_NS)
#define DRAIN_NS      (2000 * MS_NS)
#define STALE_NS      (4000 * MS_NS) /* an agent waits 5 s */
#define LONELY_NS     (2000 * MS_NS) /* then it is said that we wait */
#define IDLE_NS       (1000 * MS_NS) /* then it is said that the job does */

enum {
    READ_MAX_BYTES = 1 << 18, /* of a rank and stream, each time around */
    MAX_RESTARTS = 1000000,
    MAX_TIMEOUT_S = 1000000,
};

static const char *agent_text;
static const char *restarts_text;
static const char *timeout_text;

static const struct base_option options[] = {
    {"agent", 0, "ADDRESS",
     "the agent's socket (default: RETILE_AGENT, or " DEFAULT_AGENT ")",
     &agent_text, NULL},
    {"max-restarts", 0, "N",
     "restarts in a row before the job has failed (default: the job's)",
     &restarts_text, NULL},
    {"timeout", 0, "S",
     "give up after S seconds without an agent (default: never)", &timeout_text,
     NULL},
};

const struct base_command cli_launch_command = {
    .program = "retile launch",
    .usage = "JOB [options] -- COMMAND [ARGS]",
    .about =
        "Run a job's processes on this host, one per device\n"
        "Waits until the job's next generation is ready, starts COMMAND once "
        "for\n"
        "each of its ranks here, passes their output on with the rank in "
        "front,\n"
        "kills them when the generation is revoked, and waits for the next "
        "one,\n"
        "until the job is done.  A process finds in its environment: RANK\n"
        "LOCAL_RANK WORLD_SIZE LOCAL_WORLD_SIZE MASTER_ADDR MASTER_PORT,\n"
        "RETILE_DIR (its directory in the mount), RETILE_GENERATION, "
        "RETILE_JOB,\n"
        "RETILE_LOAD (the version to begin with, 0: from nothing),\n"
        "RETILE_MESH (pp=2,dp=2,tp=4), RETILE_COORDS (pp=0,dp=1,tp=3),\n"
        "RETILE_DEVICE, and CUDA_VISIBLE_DEVICES on a GPU.\n"
        "Exit: 0 the job is done, 1 it failed, 3 no such COMMAND, 4 no agent,\n"
        "130 SIGINT, 143 SIGTERM.",
    .example = "retile launch gpt -- python3 train.py --steps 1000",
    .options = options,
    .n_options = sizeof(options) / sizeof(options[0]),
    .min_args = 2,
    .max_args = 1 << 20,
};

struct launch {
    const char *job;
    char **command;
    const char *agent;
    uint32_t max_restarts;
    int64_t timeout_ns; /* 0: never */

    struct cli_guard guard;
    struct cli_link *link;
    struct cli_ranks ranks;
    struct cli_mux muxes[CLI_N_STREAMS];
    Retile__V1__LaunchOrder *order; /* the newest; NULL: none yet */
    int64_t turn_ns;                /* when it was acted last */
    int64_t kill_ns;                /* SIGKILL then; 0: not stopping */
    bool is_ending;                 /* by signal, or without an agent */
    bool is_over;
    bool has_said_lonely;
    int64_t idle_ns; /* since when nothing is to be run; 0: something is */
    bool has_said_idle;
    bool is_changed; /* since the last report */
    enum cli_exit exit;
};

#define say(launch, ...) cli_mux_say(&(launch)->muxes[CLI_ERR], __VA_ARGS__)

static void launch_done(struct launch *launch)
{
    cli_link_free(launch->link);
    cli_ranks_done(&launch->ranks);
    cli_mux_done(&launch->muxes[CLI_OUT]);
    cli_mux_done(&launch->muxes[CLI_ERR]);
    if (launch->order != NULL) {
        retile__v1__launch_order__free_unpacked(launch->order, NULL);
    }
    if (launch->guard.signal_fd >= 0) {
        (void)close(launch->guard.signal_fd); /* cannot fail */
    }
}

/* Is there something of a generation? */
static bool is_active(const struct launch *launch)
{
    return launch->ranks.n > 0 && !launch->ranks.is_clear;
}

/* --- reporting ----------------------------------------------------------- */

static Retile__V1__RankState state_of(const struct cli_rank *rank)
{
    if (rank->has_ended) {
        return RETILE__V1__RANK_STATE__RANK_EXITED;
    }
    return rank->pid == 0 ? RETILE__V1__RANK_STATE__RANK_WAITING
                          : RETILE__V1__RANK_STATE__RANK_RUNNING;
}

static void report(struct launch *launch)
{
    Retile__V1__LaunchReport message = RETILE__V1__LAUNCH_REPORT__INIT;
    size_t n = launch->ranks.n;
    BASE_AUTO_MEM Retile__V1__RankStatus *items = calloc(n + 1, sizeof(*items));
    BASE_AUTO_MEM Retile__V1__RankStatus **list =
        calloc(n + 1, sizeof(Retile__V1__RankStatus *));
    BASE_AUTO_MEM char *job = strdup(launch->job);

    if (items == NULL || list == NULL || job == NULL) {
        return; /* is_changed stays: at the next turn */
    }
    for (size_t i = 0; i < n; i++) {
        const struct cli_rank *rank = &launch->ranks.ranks[i];

        retile__v1__rank_status__init(&items[i]);
        items[i].rank = rank->rank;
        items[i].state = state_of(rank);
        items[i].exit_code = rank->exit_code;
        items[i].signal = rank->signal;
        items[i].pid = rank->pid;
        list[i] = &items[i];
    }
    if (is_active(launch) && cli_ranks_n_running(&launch->ranks) == 0) {
        items[n - 1].state = RETILE__V1__RANK_STATE__RANK_RUNNING;
        items[n - 1].exit_code = 0;
        items[n - 1].signal = 0;
    }
    message.job = job;
    message.pid = launch->guard.pid;
    message.max_restarts = launch->max_restarts;
    message.generation = launch->ranks.generation;
    message.n_ranks = n;
    message.ranks = list;
    cli_link_report(launch->link, &message);
    launch->is_changed = false;
}

/* --- deciding ------------------------------------------------------------ */

static void on_end(void *ctx, const struct cli_rank *rank)
{
    struct launch *launch = ctx;

    launch->is_changed = true;
    if (rank->signal != 0 && launch->kill_ns == 0) {
        say(launch, "rank %" PRIu32 " was ended by signal %d (%s)", rank->rank,
            rank->signal, sigdescr_np(rank->signal));
    } else if (rank->exit_code != 0) {
        say(launch, "rank %" PRIu32 " exited with %d", rank->rank,
            rank->exit_code);
    }
}

static void reap(struct launch *launch)
{
    bool was_active = is_active(launch);

    cli_ranks_reap(&launch->ranks, on_end, launch);
    if (was_active && !is_active(launch)) {
        launch->is_changed = true;
        launch->kill_ns = 0;
        cli_ranks_read(&launch->ranks, launch->muxes, SIZE_MAX, cli_now_ns());
    }
}

static void stop(struct launch *launch, int64_t grace_ns)
{
    int64_t kill_ns = cli_now_ns() + grace_ns;

    if (launch->kill_ns == 0 && grace_ns > 0) {
        cli_ranks_signal(&launch->ranks, SIGTERM);
    }
    if (launch->kill_ns == 0 || kill_ns < launch->kill_ns) {
        launch->kill_ns = kill_ns;
    }
    if (cli_now_ns() >= launch->kill_ns) {
        cli_ranks_signal(&launch->ranks, SIGKILL);
    }
}

/* May the job still start processes?  Else *ret_exit is what we end with. */
static bool may_go_on(const Retile__V1__LaunchOrder *order,
                      enum cli_exit *ret_exit,
                      const char **ret_text)
{
    switch (order->state) {
    case RETILE__V1__JOB_STATE__JOB_DONE:
        *ret_exit = CLI_DONE;
        *ret_text = "is done";
        return false;
    case RETILE__V1__JOB_STATE__JOB_FAILED:
        *ret_exit = CLI_FAILED;
        *ret_text = "has failed";
        return false;
    case RETILE__V1__JOB_STATE__JOB_LOST:
        *ret_exit = CLI_FAILED;
        *ret_text = "is lost";
        return false;
    case RETILE__V1__JOB_STATE__JOB_REMOVING:
        *ret_exit = CLI_FAILED;
        *ret_text = "was removed";
        return false;
    default: /* a state of a later coordinator, too */
        return true;
    }
}

static void start(struct launch *launch)
{
    const Retile__V1__LaunchOrder *order = launch->order;
    struct base_err err = {0};

    say(launch, "generation %" PRIu64 ": %zu of %" PRIu32 " ranks, %s",
        order->generation, order->n_ranks, order->world_size, order->mesh);
    launch->kill_ns = 0;
    launch->is_changed = true;
    if (cli_ranks_start(&launch->ranks, order, launch->job, launch->command,
                        &launch->guard.mask, &err) != BASE_OK) {
        say(launch, "generation %" PRIu64 ": %s", order->generation, err.text);
        launch->kill_ns = cli_now_ns();
    }
    reap(launch);
}

static void follow_order(struct launch *launch)
{
    const Retile__V1__LaunchOrder *order = launch->order;
    enum cli_exit code = CLI_DONE;
    const char *text = "";
    bool goes_on;
    uint64_t wanted;

    if (order == NULL ||
        order->state == RETILE__V1__JOB_STATE__JOB_STATE_UNSPECIFIED) {
        return; /* the agent does not know yet */
    }
    goes_on = may_go_on(order, &code, &text);
    wanted = goes_on && order->n_ranks > 0 ? order->generation : 0;
    if (is_active(launch)) {
        if (wanted != launch->ranks.generation) {
            stop(launch, wanted == 0 ? GRACE_NS : 0);
        }
    } else if (!goes_on) {
        say(launch, "job %s %s%s%s", launch->job, text,
            order->reason[0] != '\0' ? ": " : "", order->reason);
        launch->exit = code;
        launch->is_over = true;
    } else if (wanted > launch->ranks.generation) {
        start(launch);
    }
}

static void forget_stale_order(struct launch *launch)
{
    int64_t now_ns = cli_now_ns();
    int64_t gone_ns = launch->turn_ns == 0 ? 0 : now_ns - launch->turn_ns;

    launch->turn_ns = now_ns;
    if (gone_ns <= STALE_NS || launch->is_ending) {
        return;
    }
    say(launch, "was stopped for %.0f s, asking the agent again",
        (double)gone_ns / 1e9);
    cli_link_renew(launch->link);
    if (launch->order != NULL) {
        retile__v1__launch_order__free_unpacked(launch->order, NULL);
        launch->order = NULL;
    }
}

static void act(struct launch *launch)
{
    forget_stale_order(launch);
    if (launch->is_ending) {
        if (is_active(launch)) {
            stop(launch, cli_guard_is_gone(&launch->guard) ? 0 : GRACE_NS);
        } else {
            launch->is_over = true;
        }
        return;
    }
    follow_order(launch);
}

/* --- waiting ------------------------------------------------------------- */

static void take_signals(struct launch *launch)
{
    struct signalfd_siginfo info;

    while (read(launch->guard.signal_fd, &info, sizeof(info)) ==
           (ssize_t)sizeof(info)) {
        if (info.ssi_signo == SIGCHLD) {
            continue; /* we look each time around */
        }
        if (launch->is_ending) {
            stop(launch, 0); /* asked for twice */
            continue;
        }
        launch->is_ending = true;
        launch->exit = (enum cli_exit)(CLI_SIGNALED + info.ssi_signo);
        say(launch, "%s: ending its processes",
            cli_guard_is_gone(&launch->guard)
                ? "the process that watches this one was killed"
                : sigdescr_np((int)info.ssi_signo));
    }
}

/* Nothing has been to be run for a while: say so once, and why if the job says
 * it. */
static void say_idle(struct launch *launch, int64_t now_ns)
{
    const Retile__V1__LaunchOrder *order = launch->order;

    if (is_active(launch) || (order != NULL && order->generation != 0)) {
        launch->idle_ns = 0;
        launch->has_said_idle = false;
    } else if (launch->idle_ns == 0) {
        launch->idle_ns = now_ns;
    } else if (now_ns - launch->idle_ns >= IDLE_NS && !launch->has_said_idle &&
               !launch->is_ending) {
        launch->has_said_idle = true;
        say(launch, "waiting for a generation of job %s%s%s", launch->job,
            order != NULL && order->reason[0] != '\0' ? ": " : "",
            order != NULL ? order->reason : "");
    }
}

static void take_link(struct launch *launch, int64_t now_ns, int64_t *ret_wait)
{
    Retile__V1__LaunchOrder *order;
    struct base_err err = {0};
    int64_t lost_ns;

    if (cli_link_tick(launch->link, now_ns, ret_wait, &err) != BASE_OK &&
        !launch->is_ending) {
        say(launch, "%s", err.text);
        launch->is_ending = true;
        launch->exit = CLI_FAILED;
    }
    order = cli_link_take(launch->link);
    if (order != NULL) {
        if (launch->order != NULL) {
            retile__v1__launch_order__free_unpacked(launch->order, NULL);
        }
        launch->order = order;
    }
    lost_ns = cli_link_lost_ns(launch->link);
    if (lost_ns == 0) {
        launch->has_said_lonely = false;
        say_idle(launch, now_ns);
    } else if (now_ns - lost_ns >= LONELY_NS && !launch->has_said_lonely) {
        launch->has_said_lonely = true;
        say(launch, "waiting for the agent at %s%s%s", launch->agent,
            cli_link_why(launch->link)[0] != '\0' ? ": " : "",
            cli_link_why(launch->link));
    }
    if (lost_ns != 0 && launch->timeout_ns != 0 && !launch->is_ending &&
        now_ns - lost_ns >= launch->timeout_ns) {
        say(launch, "no agent for %s s", timeout_text);
        launch->is_ending = true;
        launch->exit = CLI_UNREACHABLE;
    }
}

/* When to look again, at the latest, in milliseconds. */
static int wait_ms(const struct launch *launch, int64_t link_wait_ns)
{
    int64_t wait_ns = LONELY_NS; /* for --timeout and its like */

    if (link_wait_ns >= 0 && link_wait_ns < wait_ns) {
        wait_ns = link_wait_ns;
    }
    if (launch->kill_ns != 0) {
        int64_t left_ns = launch->kill_ns - cli_now_ns();

        left_ns = left_ns < 10 * MS_NS ? 10 * MS_NS : left_ns;
        wait_ns = left_ns < wait_ns ? left_ns : wait_ns;
    }
    for (size_t i = 0; i < launch->ranks.n; i++) {
        for (int k = 0; k < CLI_N_STREAMS; k++) {
            if (launch->ranks.ranks[i].lines[k].buf.len > 0 &&
                wait_ns > CLI_LINE_WAIT_NS) {
                wait_ns = CLI_LINE_WAIT_NS;
            }
        }
    }
    return (int)(wait_ns / MS_NS);
}

/* Wait, then pass on what can be. */
static void wait_and_pass(struct launch *launch, int timeout_ms)
{
    enum { N_OWN = 4 };
    static const int outs[] = {STDOUT_FILENO, STDERR_FILENO};
    size_t n = 0;
    BASE_AUTO_MEM struct pollfd *fds =
        calloc(N_OWN + launch->ranks.n * CLI_N_STREAMS, sizeof(*fds));

    if (fds == NULL) {
        return; /* turns until memory is there again */
    }
    for (int k = 0; k < CLI_N_STREAMS; k++) {
        bool has_more = cli_mux_has_more(&launch->muxes[k]);

        fds[n++] =
            (struct pollfd){.fd = has_more ? outs[k] : -1, .events = POLLOUT};
    }
    fds[n++] = (struct pollfd){.fd = launch->guard.signal_fd, .events = POLLIN};
    fds[n++] =
        (struct pollfd){.fd = cli_link_fd(launch->link), .events = POLLIN};
    for (size_t i = 0; i < launch->ranks.n; i++) {
        for (int k = 0; k < CLI_N_STREAMS; k++) {
            int fd = launch->ranks.ranks[i].fds[k];

            fds[n++] = (struct pollfd){
                .fd = cli_mux_is_full(&launch->muxes[k]) ? -1 : fd,
                .events = POLLIN};
        }
    }
    if (poll(fds, n, timeout_ms) <= 0) {
        return;
    }
    for (int k = 0; k < CLI_N_STREAMS; k++) {
        if (fds[k].revents != 0) {
            cli_mux_write(&launch->muxes[k], outs[k]);
        }
    }
}

/* Write what is left, if somebody reads it. */
static void drain(struct launch *launch)
{
    int64_t until_ns = cli_now_ns() + DRAIN_NS;

    cli_ranks_read(&launch->ranks, launch->muxes, SIZE_MAX, cli_now_ns());
    while ((cli_mux_has_more(&launch->muxes[CLI_OUT]) ||
            cli_mux_has_more(&launch->muxes[CLI_ERR])) &&
           cli_now_ns() < until_ns) {
        wait_and_pass(launch, 100);
    }
    if (launch->muxes[CLI_OUT].n_dropped_bytes > 0) {
        (void)fprintf(stderr,
                      "retile: launch: %" PRIu64 " bytes of output were not "
                      "taken by stdout\n",
                      launch->muxes[CLI_OUT].n_dropped_bytes);
    }
}

static enum cli_exit run(struct launch *launch)
{
    launch->is_changed = true;
    while (!launch->is_over) {
        int64_t now_ns = cli_now_ns();
        int64_t link_wait_ns = -1;

        take_link(launch, now_ns, &link_wait_ns);
        take_signals(launch);
        reap(launch);
        act(launch);
        if (launch->is_changed) {
            report(launch);
        }
        if (!launch->is_over) {
            cli_ranks_read(&launch->ranks, launch->muxes, READ_MAX_BYTES,
                           cli_now_ns());
            wait_and_pass(launch, wait_ms(launch, link_wait_ns));
        }
    }
    drain(launch);
    return launch->exit;
}

/* --- the verb ------------------------------------------------------------ */

static enum base_code parse_number(const char *what,
                                   const char *text,
                                   uint64_t max,
                                   uint64_t *ret,
                                   struct base_err *err)
{
    *ret = 0;
    if (text != NULL &&
        (!base_parse_u64(base_str_of(text), ret) || *ret == 0 || *ret > max)) {
        return base_fail(err, BASE_BAD_ARG,
                         "%s %s: a number from 1 to %" PRIu64 " is needed",
                         what, text, max);
    }
    return BASE_OK;
}

static enum base_code parse(struct launch *launch, struct base_err *err)
{
    /* No thread yet. NOLINTNEXTLINE(concurrency-mt-unsafe) */
    const char *env = getenv("RETILE_AGENT");
    uint64_t n;

    BASE_TRY(
        parse_number("--max-restarts", restarts_text, MAX_RESTARTS, &n, err));
    launch->max_restarts = (uint32_t)n;
    BASE_TRY(parse_number("--timeout", timeout_text, MAX_TIMEOUT_S, &n, err));
    launch->timeout_ns = (int64_t)n * 1000 * MS_NS;
    launch->agent = agent_text != NULL              ? agent_text
                    : env != NULL && env[0] != '\0' ? env
                                                    : DEFAULT_AGENT;
    return BASE_OK;
}

/* Is there something to run at @path? */
static bool is_program(const char *path)
{
    struct stat st;

    return access(path, X_OK) == 0 && stat(path, &st) == 0 &&
           S_ISREG(st.st_mode);
}

/* Find COMMAND as a rank's start will: a mistyped one is told here, once, and
 * not by all ranks until the job has failed. */
static enum base_code check_command(const char *name, struct base_err *err)
{
    /* No thread yet. NOLINTNEXTLINE(concurrency-mt-unsafe) */
    const char *path = getenv("PATH");

    if (strchr(name, '/') != NULL) {
        return is_program(name)
                   ? BASE_OK
                   : base_fail(err, BASE_NOT_FOUND,
                               "cannot run %s: it is no program", name);
    }
    for (path = path != NULL ? path : DEFAULT_PATH; *path != '\0';) {
        size_t n = strcspn(path, ":");
        BASE_AUTO_MEM char *full =
            base_path("%.*s/%s", n > 0 ? (int)n : 1, n > 0 ? path : ".", name);

        if (full == NULL) {
            return base_fail(err, BASE_NO_MEM, "cannot look for %s", name);
        }
        if (is_program(full)) {
            return BASE_OK;
        }
        path += n + (path[n] == ':');
    }
    return base_fail(err, BASE_NOT_FOUND,
                     "cannot run %s: no such program in PATH", name);
}

enum cli_exit cli_launch(int argc, char **argv)
{
    __attribute__((cleanup(launch_done))) struct launch launch = {
        .guard.signal_fd = -1};
    struct base_err err = {0};
    char **args;
    int n_args;
    enum cli_exit rc;

    if (!cli_parse(&cli_launch_command, argc, argv, &args, &n_args, &rc)) {
        return rc;
    }
    launch.job = args[0];
    launch.command = args + 1; /* argv ends in NULL */
    if (parse(&launch, &err) != BASE_OK ||
        check_command(launch.command[0], &err) != BASE_OK) {
        return cli_tell("launch", &err);
    }
    if (!cli_guard_fork(&launch.guard, &rc)) {
        return rc;
    }
    cli_mux_init(&launch.muxes[CLI_OUT]);
    cli_mux_init(&launch.muxes[CLI_ERR]);
    if (cli_link_open(launch.agent, &launch.link, &err) != BASE_OK) {
        return cli_tell("launch", &err);
    }
    return run(&launch);
}
