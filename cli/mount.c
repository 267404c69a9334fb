/* `retile mount`: runs retile-fuse, which lies beside this program. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "cli/cli.h"

enum { MAX_LISTS = 16 }; /* of mount options */

static const char *from;
static const char *table;
static const char *store;
static const char *job;
static const char *layout;
static const char *mount_options; /* the last of the lists */
static const char *mount_lists[MAX_LISTS + 1];
static bool is_foreground;

static const struct base_option options[] = {
    {"from", 0, "SPEC", "the layout SRC is in, when it has no layout.yaml",
     &from, NULL},
    {"table", 0, "FILE", "the tensors of SRC, as `inspect --table` prints them",
     &table, NULL},
    {"store", 0, "ROOT", "show a job of this store, in place of SRC", &store,
     NULL},
    {"job", 0, "JOB", "which job of the store", &job, NULL},
    {"layout", 0, "SPEC", "the layout of JOB's saves while it has no version",
     &layout, NULL},
    {"foreground", 'f', NULL, "stay in the foreground", NULL, &is_foreground},
    {"options", 'o', "OPT,...", "mount options; `-o help` lists them",
     &mount_options, NULL},
};

const struct base_command cli_mount_command = {
    .program = "retile mount",
    .usage = "SRC MOUNTPOINT | --store ROOT --job JOB MOUNTPOINT [options]",
    .about =
        "Show a checkpoint, or a store's job, under any layout; take its "
        "saves\n"
        "MOUNTPOINT gets ranks/ hf/ npy/ and as/SPEC/ for any short form,\n"
        "read-only; of a store's job, versions/N/ with these, current, a link\n"
        "to the newest, and gen/current/save/, where training ranks save:\n"
        "they write STEP.tmp/ there, and renaming it to STEP makes a version.\n"
        "Unmount with `fusermount3 -u MOUNTPOINT`.",
    .example = "retile mount model/ /mnt/model\n"
               "ls /mnt/model/as/bert:tp=2,pp=2/ranks/003\n"
               "retile mount --store /dev/shm/store --job bert /mnt/bert",
    .options = options,
    .n_options = sizeof(options) / sizeof(options[0]),
    .min_args = 0,
    .max_args = 2,
    .list_letter = 'o',
    .list = mount_lists,
    .list_room = MAX_LISTS + 1,
};

/* The program beside our own, or the bare name for execvp to look up. */
static char *sibling(const char *name)
{
    char self[4096];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    char *slash;
    char *path;

    if (n > 0) {
        self[n] = '\0';
        slash = strrchr(self, '/');
        path = base_path("%.*s/%s", (int)(slash - self), self, name);
        if (path != NULL && access(path, X_OK) == 0) {
            return path;
        }
        free(path);
    }
    return base_path("%s", name);
}

enum cli_exit cli_mount(int argc, char **argv)
{
    const char *exec_argv[20 + 2 * MAX_LISTS];
    int n = 0;
    char **args;
    int n_args;
    enum cli_exit rc;
    struct base_err err = {0};
    BASE_AUTO_MEM char *program = NULL;

    if (!cli_parse(&cli_mount_command, argc, argv, &args, &n_args, &rc)) {
        return rc;
    }
    if ((store == NULL) != (job == NULL)) {
        (void)base_fail(&err, BASE_BAD_ARG,
                        "--store ROOT and --job JOB go together: a mount "
                        "shows one job of a store");
        return cli_tell("mount", &err);
    }
    if (n_args != (store != NULL ? 1 : 2) && mount_options == NULL) {
        (void)base_fail(&err, BASE_BAD_ARG,
                        store != NULL ? "MOUNTPOINT is needed, and no SRC"
                                      : "SRC and MOUNTPOINT are needed");
        return cli_tell("mount", &err);
    }
    program = sibling("retile-fuse");
    if (program == NULL) {
        (void)base_fail(&err, BASE_NO_MEM, "out of memory");
        return cli_tell("mount", &err);
    }
    exec_argv[n++] = program;
    if (from != NULL) {
        exec_argv[n++] = "--from";
        exec_argv[n++] = from;
    }
    if (table != NULL) {
        exec_argv[n++] = "--table";
        exec_argv[n++] = table;
    }
    if (store != NULL) {
        exec_argv[n++] = "--store";
        exec_argv[n++] = store;
    }
    if (job != NULL) {
        exec_argv[n++] = "--job";
        exec_argv[n++] = job;
    }
    if (layout != NULL) {
        exec_argv[n++] = "--layout";
        exec_argv[n++] = layout;
    }
    if (is_foreground) {
        exec_argv[n++] = "-f";
    }
    for (int i = 0; mount_lists[i] != NULL; i++) {
        exec_argv[n++] = "-o";
        exec_argv[n++] = mount_lists[i];
    }
    exec_argv[n++] = "--";
    for (int i = 0; i < n_args; i++) {
        exec_argv[n++] = args[i];
    }
    exec_argv[n] = NULL;
    (void)execvp(program, (char *const *)(void *)exec_argv);
    (void)base_fail_errno(&err, errno, "%s: cannot run it", program);
    return cli_tell("mount", &err);
}
