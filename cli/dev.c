/* `retile dev`: a cluster of this machine alone, under one directory, to try and
 * to test with.
 *
 *   DIR/retile-dev        says that the directory is ours; held locked while it
 *                         is changed
 *   DIR/coordinator.sock  .db .log
 *   DIR/agent/agent.sock  and what the agent keeps, with its mounts
 *   DIR/store DIR/agent.log
 *
 * Nothing is remembered: what runs is what /proc shows (cli/dev_proc.h). */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <retile/v1/host.pb-c.h>
#include <retile/v1/watch.pb-c.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/num.h"
#include "cli/connect.h"
#include "cli/dev_proc.h"
#include "cli/job_args.h"

#define MARK "retile-dev"

enum {
    READY_WAIT_MS = 20000,
    STEP_MS = 50,
    MAX_SLOTS = 1024,
    LAUNCH_GRACE_MS = 5000,
    GRACE_MS = 10000,
    TAIL_BYTES = 2000,
};

static const char *dir_text;
static const char *slots_text;
static const char *budget_text;
static bool wants_json;

static const struct base_option options[] = {
    {"dir", 0, "DIR",
     "where it lives (default: $XDG_RUNTIME_DIR/retile-dev, or "
     "/tmp/retile-dev-UID)",
     &dir_text, NULL},
    {"slots", 0, "N", "up: numbered devices (default: 8)", &slots_text, NULL},
    {"budget", 0, "SIZE",
     "up: the most that tensors may take (default: what there is)",
     &budget_text, NULL},
    {"json", 0, NULL, "print JSON", NULL, &wants_json},
};

const struct base_command cli_dev_command = {
    .program = "retile dev",
    .usage = "up|down|status [options]",
    .about =
        "A cluster on this machine alone, to try and to test with\n"
        "up starts a coordinator and an agent under one directory, waits until "
        "both serve,\nand prints the environment that finds them.  down ends "
        "everything of it: launchers,\nmounts, agent, coordinator, the store "
        "with "
        "all its versions.\nWhat dies of it is not started again until up is "
        "said "
        "once more, which keeps what runs.",
    .example = "eval \"$(retile dev up --slots 8)\"\n"
               "retile status\n"
               "retile dev down",
    .options = options,
    .n_options = sizeof(options) / sizeof(options[0]),
    .min_args = 1,
    .max_args = 1,
};

/* --- the directory ------------------------------------------------------- */

struct dev {
    char *dir; /* absolute, without links */
    char *coordinator;
    char *agent;
    int mark_fd; /* locked */
};

static void dev_done(struct dev *dev)
{
    free(dev->dir);
    free(dev->coordinator);
    free(dev->agent);
    if (dev->mark_fd >= 0) {
        (void)close(dev->mark_fd); /* nothing was written */
    }
}

#define AUTO_DEV __attribute__((cleanup(dev_done))) struct dev

static char *default_dir(void)
{
    /* No thread yet. NOLINTNEXTLINE(concurrency-mt-unsafe) */
    const char *run = getenv("XDG_RUNTIME_DIR");

    return run != NULL && run[0] == '/'
               ? base_path("%s/retile-dev", run)
               : base_path("/tmp/retile-dev-%u", (unsigned)getuid());
}

/* Absent, or empty: we may have it. */
static enum base_code make_dir(const char *path, struct base_err *err)
{
    BASE_AUTO_MEM char *mark = base_path("%s/" MARK, path);
    char **names = NULL;
    size_t n = 0;
    struct stat st;

    if (mark == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot name a path");
    }
    if (mkdir(path, 0700) != 0 && errno != EEXIST) {
        return base_fail_errno(err, errno, "cannot make %s", path);
    }
    if (lstat(path, &st) != 0 || !S_ISDIR(st.st_mode) ||
        st.st_uid != geteuid() || (st.st_mode & 077) != 0) {
        return base_fail(err, BASE_DENIED,
                         "%s: must be a directory that is nobody else's "
                         "(chmod 700)",
                         path);
    }
    if (access(mark, F_OK) == 0) {
        return BASE_OK;
    }
    BASE_TRY(base_dir_list(AT_FDCWD, path, 1 << 20, &names, &n, err));
    base_names_free(names, n);
    if (n > 0) {
        return base_fail(err, BASE_EXISTS,
                         "%s: has other things in it; an empty or new "
                         "directory is needed",
                         path);
    }
    return base_file_write(AT_FDCWD, mark,
                           BASE_STR("made by `retile dev up`, removed by "
                                    "`retile dev down`\n"),
                           err);
}

/* @may_make: up.  BASE_NOT_FOUND: there is no cluster there. */
static enum base_code
open_dev(struct dev *dev, bool may_make, struct base_err *err)
{
    BASE_AUTO_MEM char *path =
        dir_text == NULL ? default_dir() : strdup(dir_text);
    BASE_AUTO_MEM char *mark = NULL;

    dev->mark_fd = -1;
    if (path == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot name a path");
    }
    if (may_make) {
        BASE_TRY(make_dir(path, err));
    }
    dev->dir = realpath(path, NULL);
    if (dev->dir == NULL) {
        return base_fail(err, BASE_NOT_FOUND, "there is no cluster in %s",
                         path);
    }
    mark = base_path("%s/" MARK, dev->dir);
    dev->coordinator = base_path("unix:%s/coordinator.sock", dev->dir);
    dev->agent = base_path("unix:%s/agent/agent.sock", dev->dir);
    if (mark == NULL || dev->coordinator == NULL || dev->agent == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot name a path");
    }
    dev->mark_fd = open(mark, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (dev->mark_fd < 0) {
        return base_fail(err, BASE_NOT_FOUND,
                         "%s was not made by `retile dev up`", dev->dir);
    }
    if (flock(dev->mark_fd, LOCK_EX | LOCK_NB) != 0) {
        return base_fail(err, BASE_EXISTS,
                         "another `retile dev` is at work in %s", dev->dir);
    }
    return BASE_OK;
}

/* --- up ------------------------------------------------------------------ */

/* A program of ours: beside this one. */
static char *program(const char *name)
{
    char self[4096];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    char *slash;

    if (n <= 0) {
        return strdup(name);
    }
    self[n] = '\0';
    slash = strrchr(self, '/');
    if (slash == NULL) {
        return strdup(name);
    }
    *slash = '\0';
    return base_path("%s/%s", self, name);
}

/* Start @words[0] (given words, freed) as a session of its own.  Before any
 * thread is made. */
static enum base_code daemonise(const struct dev *dev,
                                const char *log_name,
                                char **words,
                                size_t n,
                                pid_t *ret,
                                struct base_err *err)
{
    BASE_AUTO_MEM char *log = base_path("%s/%s", dev->dir, log_name);
    BASE_AUTO_FD log_fd = -1;
    BASE_AUTO_FD null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    bool is_short = log == NULL || null_fd < 0;

    for (size_t i = 0; i < n; i++) {
        is_short = is_short || words[i] == NULL;
    }
    if (is_short) {
        return base_fail(err, BASE_NO_MEM, "cannot start a program");
    }
    log_fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (log_fd < 0) {
        return base_fail_errno(err, errno, "%s", log);
    }
    *ret = fork();
    if (*ret < 0) {
        return base_fail_errno(err, errno, "cannot start %s", words[0]);
    }
    if (*ret == 0) {
        (void)setsid();
        if (dup2(null_fd, 0) >= 0 && dup2(log_fd, 1) >= 0 &&
            dup2(log_fd, 2) >= 0 && chdir("/") == 0) {
            (void)execvp(words[0], words);
        }
        (void)dprintf(2, "cannot run %s: %s\n", words[0],
                      strerrordesc_np(errno));
        _exit(127);
    }
    return BASE_OK;
}

static void words_free(char **words, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        free(words[i]);
    }
}

static enum base_code
start_coordinator(const struct dev *dev, pid_t *ret, struct base_err *err)
{
    char *words[] = {
        program("retile-coordinator"),
        base_path("--listen=%s", dev->coordinator),
        base_path("--db=%s/coordinator.db", dev->dir),
        NULL,
    };
    enum { N = sizeof(words) / sizeof(words[0]) - 1 };
    enum base_code rc = daemonise(dev, "coordinator.log", words, N, ret, err);

    words_free(words, N);
    return rc;
}

static enum base_code start_agent(const struct dev *dev,
                                  uint64_t n_slots,
                                  pid_t *ret,
                                  struct base_err *err)
{
    char *words[] = {
        program("retile-worker"),
        base_path("--coordinator=%s", dev->coordinator),
        base_path("--store=%s/store", dev->dir),
        base_path("--budget=%s", budget_text == NULL ? "0" : budget_text),
        base_path("--run=%s/agent", dev->dir),
        base_path("--slots=%" PRIu64, n_slots),
        NULL,
    };
    enum { N = sizeof(words) / sizeof(words[0]) - 1 };
    enum base_code rc = daemonise(dev, "agent.log", words, N, ret, err);

    words_free(words, N);
    return rc;
}

/* It has ended: the end of its log says why. */
static enum base_code
fail_dead(const struct dev *dev, const char *name, struct base_err *err)
{
    BASE_AUTO_MEM char *path = base_path("%s/%s.log", dev->dir, name);
    FILE *file = path == NULL ? NULL : fopen(path, "re");
    char line[TAIL_BYTES] = "";
    char last[TAIL_BYTES] = "";

    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        (void)snprintf(last, sizeof(last), "%s", line);
    }
    if (file != NULL) {
        (void)fclose(file); /* it was only read */
    }
    return base_fail(err, BASE_IO, "the %s has ended: %s (%s/%s.log)", name,
                     last, dev->dir, name);
}

/* Ask until it answers as wanted.  @pid: 0, or our child, which may die. */
static enum base_code wait_ready(const struct dev *dev,
                                 const char *name,
                                 pid_t pid,
                                 struct base_err *err)
{
    bool is_agent = strcmp(name, "agent") == 0;
    const struct rpc_channel_options how = {.what = name};
    const struct rpc_call_options call = {
        .timeout_ms = 2000, .is_interrupted = cli_was_interrupted};
    Retile__V1__HostStatusRequest status =
        RETILE__V1__HOST_STATUS_REQUEST__INIT;
    Retile__V1__RevisionRequest revision = RETILE__V1__REVISION_REQUEST__INIT;
    BASE_AUTO(rpc_channel) channel = NULL;
    struct base_err why = {0};

    BASE_TRY(rpc_channel_open(is_agent ? dev->agent : dev->coordinator, &how,
                              &channel, err));
    for (int64_t until_ns = cli_now_ns() + (int64_t)READY_WAIT_MS * 1000 * 1000;
         cli_now_ns() < until_ns && !cli_was_interrupted();) {
        CLI_AUTO_ANSWER answer = NULL;
        enum base_code rc =
            is_agent
                ? rpc_unary(channel, &retile__v1__local__descriptor, "Status",
                            &status.base, &call, &answer, &why)
                : rpc_unary(channel, &retile__v1__watch__descriptor, "Revision",
                            &revision.base, &call, &answer, &why);

        if (rc == BASE_OK &&
            (!is_agent ||
             ((const Retile__V1__HostStatusResponse *)(void *)answer)
                 ->is_connected)) {
            return BASE_OK;
        }
        if (pid != 0 && waitpid(pid, NULL, WNOHANG) == pid) {
            return fail_dead(dev, name, err);
        }
        cli_pause(STEP_MS);
    }
    return base_fail(
        err, BASE_TIMEOUT, "the %s does not serve: %s (%s/%s.log)", name,
        why.text[0] == '\0' ? "it is not connected" : why.text, dev->dir, name);
}

static enum base_code
bring_up(const struct dev *dev, bool *ret_was_up, struct base_err *err)
{
    cli_dev_procs procs = {0};
    enum base_code rc = cli_dev_find(dev->dir, &procs, err);
    pid_t coordinator = 0;
    pid_t agent = 0;
    uint64_t n_slots = 0;

    *ret_was_up = cli_dev_pid(&procs, CLI_DEV_COORDINATOR) != 0 &&
                  cli_dev_pid(&procs, CLI_DEV_WORKER) != 0;
    if (rc == BASE_OK) {
        rc =
            cli_parse_count("--slots", slots_text, 1, MAX_SLOTS, &n_slots, err);
    }
    if (rc == BASE_OK && cli_dev_pid(&procs, CLI_DEV_COORDINATOR) == 0) {
        rc = start_coordinator(dev, &coordinator, err);
    }
    if (rc == BASE_OK && cli_dev_pid(&procs, CLI_DEV_WORKER) == 0) {
        rc = start_agent(dev, n_slots == 0 ? 8 : n_slots, &agent, err);
    }
    base_vec_done(&procs);
    BASE_TRY(rc);
    cli_catch_signals();
    BASE_TRY(wait_ready(dev, "coordinator", coordinator, err));
    return wait_ready(dev, "agent", agent, err);
}

static void print_export(const char *name, const char *value)
{
    (void)printf("export %s='", name);
    for (; *value != '\0'; value++) {
        if (*value == '\'') {
            (void)fputs("'\\''", stdout);
        } else {
            (void)putchar(*value);
        }
    }
    (void)fputs("'\n", stdout);
}

/* --- down ---------------------------------------------------------------- */

static enum base_code unmount_all(const struct dev *dev, struct base_err *err)
{
    char **points = NULL;
    size_t n = 0;
    enum base_code rc = BASE_OK;

    BASE_TRY(cli_dev_mounts(dev->dir, &points, &n, err));
    for (size_t i = 0; i < n && rc == BASE_OK; i++) {
        rc = cli_dev_unmount(points[i], err);
    }
    base_names_free(points, n);
    return rc;
}

static enum base_code bring_down(const struct dev *dev, struct base_err *err)
{
    BASE_TRY(cli_dev_end(dev->dir, CLI_DEV_LAUNCH, LAUNCH_GRACE_MS, err));
    BASE_TRY(cli_dev_end(dev->dir, CLI_DEV_WORKER, GRACE_MS, err));
    BASE_TRY(unmount_all(dev, err));
    BASE_TRY(cli_dev_end(dev->dir, CLI_DEV_FUSE, GRACE_MS, err));
    BASE_TRY(cli_dev_end(dev->dir, CLI_DEV_COORDINATOR, GRACE_MS, err));
    return base_dir_remove(AT_FDCWD, dev->dir, err);
}

/* --- the verb ------------------------------------------------------------ */

static json_t *mounts_json(char **points, size_t n)
{
    json_t *list = json_array();

    for (size_t i = 0; i < n; i++) {
        (void)json_array_append_new(list, cli_json_text(points[i]));
    }
    return list;
}

static enum cli_exit
print_status(const struct dev *dev, bool is_quiet, struct base_err *err)
{
    /* What an agent of root's mounts on this directory itself is no job's. */
    BASE_AUTO_MEM char *mounts = base_path("%s/agent/mnt", dev->dir);
    cli_dev_procs procs = {0};
    char **points = NULL;
    size_t n = 0;
    pid_t coordinator;
    pid_t agent;
    enum cli_exit rc = CLI_DONE;

    if (mounts == NULL || cli_dev_find(dev->dir, &procs, err) != BASE_OK ||
        cli_dev_mounts(mounts, &points, &n, err) != BASE_OK) {
        base_vec_done(&procs);
        return cli_tell("dev", err);
    }
    coordinator = cli_dev_pid(&procs, CLI_DEV_COORDINATOR);
    agent = cli_dev_pid(&procs, CLI_DEV_WORKER);
    if (wants_json) {
        rc = cli_print_json(
            "dev",
            json_pack("{si so so so sI sI so}", "version", 1, "dir",
                      cli_json_text(dev->dir), "coordinator",
                      cli_json_text(dev->coordinator), "agent",
                      cli_json_text(dev->agent), "coordinator_pid",
                      (json_int_t)coordinator, "agent_pid", (json_int_t)agent,
                      "mounts", mounts_json(points, n)));
    } else if (is_quiet) {
        print_export("RETILE_COORDINATOR", dev->coordinator);
        print_export("RETILE_AGENT", dev->agent);
    } else {
        (void)printf("directory    %s\ncoordinator  %s, ", dev->dir,
                     dev->coordinator);
        (void)printf(coordinator == 0 ? "does not run\n" : "pid %d\n",
                     (int)coordinator);
        (void)printf("agent        %s, ", dev->agent);
        (void)printf(agent == 0 ? "does not run\n" : "pid %d\n", (int)agent);
        for (size_t i = 0; i < n; i++) {
            (void)printf("mount        %s\n", points[i]);
        }
    }
    base_names_free(points, n);
    base_vec_done(&procs);
    return rc == CLI_DONE && (coordinator == 0 || agent == 0) ? CLI_NOT_FOUND
                                                              : rc;
}

static enum cli_exit up(struct base_err *err)
{
    AUTO_DEV dev = {.mark_fd = -1};
    bool was_up = false;

    if (open_dev(&dev, true, err) != BASE_OK ||
        bring_up(&dev, &was_up, err) != BASE_OK) {
        return cli_tell("dev", err);
    }
    (void)fprintf(stderr,
                  was_up ? "retile: dev: it runs already in %s\n"
                         : "retile: dev: it runs in %s; `retile dev down` ends "
                           "it\n",
                  dev.dir);
    return print_status(&dev, true, err);
}

static enum cli_exit down(struct base_err *err)
{
    AUTO_DEV dev = {.mark_fd = -1};
    enum base_code rc = open_dev(&dev, false, err);

    if (rc == BASE_NOT_FOUND && dev.dir == NULL) {
        (void)fprintf(stderr, "retile: dev: %s\n", err->text);
        return CLI_DONE; /* it is down */
    }
    if (rc != BASE_OK || bring_down(&dev, err) != BASE_OK) {
        return cli_tell("dev", err);
    }
    if (wants_json) {
        return cli_print_json("dev",
                              json_pack("{si so ss}", "version", 1, "dir",
                                        cli_json_text(dev.dir), "is", "down"));
    }
    (void)fprintf(stderr, "retile: dev: %s: ended and removed\n", dev.dir);
    return CLI_DONE;
}

static enum cli_exit status(struct base_err *err)
{
    AUTO_DEV dev = {.mark_fd = -1};

    return open_dev(&dev, false, err) == BASE_OK
               ? print_status(&dev, false, err)
               : cli_tell("dev", err);
}

enum cli_exit cli_dev(int argc, char **argv)
{
    struct base_err err = {0};
    char **args;
    int n_args;
    enum cli_exit rc;

    if (!cli_parse(&cli_dev_command, argc, argv, &args, &n_args, &rc)) {
        return rc;
    }
    if (strcmp(args[0], "up") == 0) {
        return up(&err);
    }
    if (strcmp(args[0], "down") == 0) {
        return down(&err);
    }
    if (strcmp(args[0], "status") == 0) {
        return status(&err);
    }
    (void)base_fail(&err, BASE_BAD_ARG, "`%s`: up, down or status is needed",
                    args[0]);
    return cli_tell("dev", &err);
}
