/* retile-fuse: show a checkpoint directory, or the versions of a job, under any
 * layout; take the saves of that job. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/log.h"
#include "base/options.h"
#include "base/version.h"
#include "fuse/daemon.h"
#include "fuse/fs.h"
#include "fuse/holder.h"
#include "fuse/session.h"
#include "proto/rpc.h"

static const char *from;
static const char *table;
static const char *store;
static const char *job;
static const char *layout;
static const char *agent;
static const char *last_list; /* of -o: handled by take_lists */
static bool is_foreground;
static bool is_version;

static const struct base_option options_table[] = {
    {"from", 0, "SPEC", "the layout SRC is in, when it has no layout.yaml",
     &from, NULL},
    {"table", 0, "FILE", "the tensors of SRC, as `inspect --table` prints them",
     &table, NULL},
    {"store", 0, "ROOT", "show a job of this store, in place of SRC", &store,
     NULL},
    {"job", 0, "JOB", "which job of the store", &job, NULL},
    {"layout", 0, "SPEC", "the layout of JOB's saves while it has no version",
     &layout, NULL},
    {"agent", 0, "unix:PATH", "the agent that says what JOB's generations are",
     &agent, NULL},
    {"foreground", 'f', NULL, "stay in the foreground", NULL, &is_foreground},
    {"options", 'o', "OPT,...", "mount options; `-o help` lists them",
     &last_list, NULL},
    {"version", 0, NULL, "print the version", NULL, &is_version},
};

static const struct base_command command = {
    .program = "retile-fuse",
    .usage = "SRC MOUNTPOINT | --store ROOT --job JOB MOUNTPOINT [options]",
    .about = "Show a checkpoint directory, or the versions of a store's job,"
             "\nunder any layout, gathered when read."
             "\nA job's saves are written below gen/current/save; all else is"
             "\nread-only.  Unmount with `fusermount3 -u MOUNTPOINT`.",
    .example = "retile-fuse model/ /mnt/model\n"
               "ls /mnt/model/as/bert:tp=2,pp=2/ranks/003",
    .options = options_table,
    .n_options = sizeof(options_table) / sizeof(options_table[0]),
    .min_args = 0,
    .max_args = 2,
};

/* `-o` may be given several times, which the table cannot say: the lists of
 * all but the last are read here and taken out of @argv, together with it. */
static enum base_code take_lists(int *argc,
                                 char **argv,
                                 struct fs_options *options,
                                 bool *ret_help,
                                 struct base_err *err)
{
    int n = 1;
    int i;

    for (i = 1; i < *argc && strcmp(argv[i], "--") != 0; i++) {
        const char *list = NULL;

        if (strcmp(argv[i], "-o") == 0 || strcmp(argv[i], "--options") == 0) {
            if (i + 1 == *argc) {
                return base_fail(err, BASE_BAD_ARG, "option %s needs a value",
                                 argv[i]);
            }
            list = argv[++i];
        } else if (strncmp(argv[i], "-o", 2) == 0) {
            list = argv[i] + 2;
        } else if (strncmp(argv[i], "--options=", 10) == 0) {
            list = argv[i] + 10;
        }
        if (list == NULL) {
            argv[n++] = argv[i];
        } else if (strcmp(list, "help") == 0) {
            *ret_help = true;
        } else {
            BASE_TRY(fs_options_add(options, list, err));
        }
    }
    for (; i < *argc; i++) {
        argv[n++] = argv[i];
    }
    argv[n] = NULL;
    *argc = n;
    return BASE_OK;
}

/* What is shown, and where: SRC MOUNTPOINT, or a job of a store. */
static enum base_code take_places(char **args,
                                  int n_args,
                                  struct fs_options *options,
                                  struct base_err *err)
{
    if ((store != NULL) != (job != NULL)) {
        return base_fail(err, BASE_BAD_ARG,
                         "--store and --job go together: a mount shows one "
                         "job of a store");
    }
    if (n_args != (store != NULL ? 1 : 2)) {
        return base_fail(err, BASE_BAD_ARG, "usage: retile-fuse %s",
                         command.usage);
    }
    if (store != NULL && (from != NULL || table != NULL)) {
        return base_fail(err, BASE_BAD_ARG,
                         "--from and --table say what a directory does not; "
                         "a store knows both");
    }
    if (store == NULL && layout != NULL) {
        return base_fail(err, BASE_BAD_ARG,
                         "--layout says how the ranks of a store's job save; "
                         "of a directory, --from says what it is in");
    }
    if (agent != NULL && (store == NULL || layout != NULL)) {
        return base_fail(err, BASE_BAD_ARG,
                         "--agent is for a store's job, and says its layout, "
                         "too");
    }
    if (store == NULL && (options->is_verifying || options->is_new)) {
        return base_fail(err, BASE_BAD_ARG,
                         "-o %s is for a store's job: a directory has %s",
                         options->is_new ? "new" : "verify=read",
                         options->is_new ? "no jobs" : "no digests");
    }
    if (layout != NULL) {
        BASE_TRY(fs_options_layout(options, layout, err));
    }
    BASE_TRY(fs_options_from(options, from, table, err));
    options->job = job;
    options->agent = agent;
    if (agent != NULL) {
        struct rpc_address address;

        BASE_TRY(rpc_address_parse(agent, &address, err));
        if (address.family != RPC_FAMILY_UNIX || address.host[0] != '/') {
            return base_fail(err, BASE_BAD_ARG,
                             "--agent %s: expected unix:/PATH", agent);
        }
    }
    return fs_options_paths(options, store != NULL ? store : args[0],
                            args[n_args - 1], err);
}

/* *ret_is_done: the answer was printed, there is nothing to mount. */
static enum base_code read_command_line(int argc,
                                        char **argv,
                                        struct fs_options *options,
                                        bool *ret_is_done,
                                        struct base_err *err)
{
    char **args;
    int n_args;
    bool is_help = false;
    bool is_list_help = false;

    BASE_TRY(take_lists(&argc, argv, options, &is_list_help, err));
    BASE_TRY(base_options_parse(&command, argc, argv, &args, &n_args, &is_help,
                                err));
    *ret_is_done = true;
    if (is_help || is_list_help) {
        if (is_help) {
            base_options_help(&command, stdout);
        } else {
            fs_options_help(stdout);
        }
        return BASE_OK;
    }
    if (is_version) {
        (void)printf("retile-fuse %s\n", RETILE_VERSION);
        return BASE_OK;
    }
    *ret_is_done = false;
    options->is_foreground = is_foreground;
    return take_places(args, n_args, options, err);
}

/* A source may be thousands of files, each a descriptor. */
static void raise_file_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit); /* or stay with what we have */
    }
}

static enum base_code serve(const struct fs_options *options,
                            const struct fs_holding *holding,
                            struct fs_daemon *daemon,
                            struct base_err *err)
{
    __attribute__((cleanup(fs_close))) struct fs fs = {.daemon = daemon};

    BASE_TRY(fs_session_signals(err));
    BASE_TRY(store_guard_install(err));
    raise_file_limit();
    BASE_TRY(fs_open(&fs, options, holding, err));
    return fs_session_run(&fs, err);
}

/* Comes back in the holder and in each server: see fuse/holder.h. */
static enum base_code mount_and_serve(const struct fs_options *options,
                                      int *ret_exit,
                                      struct base_err *err)
{
    struct fs_daemon daemon = {.ready_fd = -1, .log_fd = -1};
    struct fs_holding holding = {.is_server = false};

    /* Who started us may ignore it; then nobody tells how children ended. */
    (void)signal(SIGCHLD, SIG_DFL); /* such a number: cannot fail */
    if (!options->is_foreground) {
        BASE_TRY(fs_daemon_start(&daemon, options->log, err));
    }
    /* All names are absolute; we hold no directory that somebody may want to
     * unmount. */
    if (chdir("/") != 0) {
        return base_fail_errno(err, errno, "chdir /");
    }
    BASE_TRY(fs_holder_run(options, &daemon, &holding, err));
    *ret_exit = holding.exit_code;
    return holding.is_server ? serve(options, &holding, &daemon, err) : BASE_OK;
}

int main(int argc, char **argv)
{
    struct fs_options options;
    struct base_err err = {0};
    enum base_code rc;
    bool is_done = false;
    int code = EXIT_SUCCESS;

    base_log_init("retile-fuse");
    fs_options_init(&options);
    rc = base_fault_init(&err);
    if (rc == BASE_OK) {
        rc = read_command_line(argc, argv, &options, &is_done, &err);
    }
    if (rc == BASE_OK && !is_done) {
        rc = mount_and_serve(&options, &code, &err);
    }
    if (rc == BASE_OK && fflush(stdout) != 0) {
        rc = base_fail_errno(&err, errno, "stdout");
    }
    if (rc != BASE_OK) {
        (void)fprintf(stderr, "retile-fuse: %s\n", err.text);
    }
    fs_options_done(&options);
    return rc != BASE_OK ? base_code_exit(rc) : code;
}
