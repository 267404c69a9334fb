#include "cli/dev_proc.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mountinfo.h"
#include "base/num.h"
#include "cli/cli.h"
#include "cli/connect.h"

enum {
    CMDLINE_BYTES = 1 << 16,
    MAX_MOUNTS = 4096,
    PATH_BYTES = 4096,
    STEP_MS = 20,
    KILL_WAIT_MS = 10000,
};

/* Does @word name @dir, or something in it, as "DIR", "--db=DIR" or "unix:DIR"? */
static bool names_dir(const char *word, const char *dir)
{
    size_t n = strlen(dir);

    for (const char *at = word; (at = strstr(at, dir)) != NULL; at++) {
        if ((at == word || strchr("=:,", at[-1]) != NULL) &&
            (at[n] == '\0' || at[n] == '/')) {
            return true;
        }
    }
    return false;
}

/* "retile-worker", and of `retile launch` the verb, too. */
static bool role_of(struct base_str cmdline, enum cli_dev_role *ret)
{
    static const char *const names[] = {"retile", "retile-worker",
                                        "retile-fuse", "retile-coordinator"};
    const char *slash = strrchr(cmdline.ptr, '/');
    const char *name = slash == NULL ? cmdline.ptr : slash + 1;
    size_t n = strlen(cmdline.ptr) + 1;

    for (enum cli_dev_role i = 0; i < CLI_DEV_N_ROLES; i++) {
        if (strcmp(name, names[i]) == 0) {
            *ret = i;
            return i != CLI_DEV_LAUNCH ||
                   (n < cmdline.len && strcmp(cmdline.ptr + n, "launch") == 0);
        }
    }
    return false;
}

/* Words that end in NUL each. */
static bool words_name_dir(struct base_str words, const char *dir)
{
    for (size_t at = 0; at < words.len; at += strlen(words.ptr + at) + 1) {
        if (names_dir(words.ptr + at, dir)) {
            return true;
        }
    }
    return false;
}

/* A file of /proc, which has no size; false: it is gone, or not ours to see. */
static bool read_proc(pid_t pid, const char *file, struct base_buf *buf)
{
    BASE_AUTO_MEM char *path = base_path("/proc/%d/%s", (int)pid, file);
    BASE_AUTO_FD fd =
        path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    char bytes[4096];
    ssize_t n;

    buf->len = 0;
    if (fd < 0) {
        return false;
    }
    while ((n = read(fd, bytes, sizeof(bytes))) > 0 &&
           base_buf_add(buf, bytes, (size_t)n) == BASE_OK) {
    }
    buf->failed = BASE_OK; /* what is longer is looked at in part */
    return buf->len > 0;
}

/* A launcher's agent may be in its environment alone. */
static bool belongs(pid_t pid,
                    enum cli_dev_role role,
                    struct base_buf *buf,
                    const char *dir)
{
    if (words_name_dir(base_buf_str(buf), dir)) {
        return true;
    }
    if (role != CLI_DEV_LAUNCH || !read_proc(pid, "environ", buf)) {
        return false;
    }
    for (size_t at = 0; at < buf->len; at += strlen(buf->ptr + at) + 1) {
        if (strncmp(buf->ptr + at, "RETILE_AGENT=", 13) == 0 &&
            names_dir(buf->ptr + at, dir)) {
            return true;
        }
    }
    return false;
}

enum base_code
cli_dev_find(const char *dir, cli_dev_procs *ret, struct base_err *err)
{
    BASE_AUTO_BUF buf;
    char **names = NULL;
    size_t n = 0;
    bool is_short = false;

    base_buf_init(&buf, CMDLINE_BYTES);
    BASE_TRY(base_dir_list(AT_FDCWD, "/proc", 1 << 22, &names, &n, err));
    for (size_t i = 0; i < n && !is_short; i++) {
        struct cli_dev_proc found = {0};
        uint64_t pid;

        if (!base_parse_u64(base_str_of(names[i]), &pid) || pid > INT32_MAX ||
            pid == (uint64_t)getpid()) {
            continue;
        }
        found.pid = (pid_t)pid;
        if (read_proc(found.pid, "cmdline", &buf) &&
            role_of(base_buf_str(&buf), &found.role) &&
            belongs(found.pid, found.role, &buf, dir)) {
            is_short = !base_vec_push(ret, found);
        }
    }
    base_names_free(names, n);
    return is_short ? base_fail(err, BASE_NO_MEM, "cannot list processes")
                    : BASE_OK;
}

pid_t cli_dev_pid(const cli_dev_procs *procs, enum cli_dev_role role)
{
    for (size_t i = 0; i < procs->n; i++) {
        if (procs->items[i].role == role) {
            return procs->items[i].pid;
        }
    }
    return 0;
}

/* Signal all of a role; how many there are. */
static enum base_code signal_all(const char *dir,
                                 enum cli_dev_role role,
                                 int signo,
                                 size_t *ret_n,
                                 struct base_err *err)
{
    cli_dev_procs procs = {0};
    enum base_code rc = cli_dev_find(dir, &procs, err);

    *ret_n = 0;
    for (size_t i = 0; i < procs.n && rc == BASE_OK; i++) {
        if (procs.items[i].role == role) {
            (void)kill(procs.items[i].pid, signo); /* gone: as wanted */
            (*ret_n)++;
        }
    }
    base_vec_done(&procs);
    return rc;
}

enum base_code cli_dev_end(const char *dir,
                           enum cli_dev_role role,
                           int grace_ms,
                           struct base_err *err)
{
    size_t n = 0;

    BASE_TRY(signal_all(dir, role, SIGTERM, &n, err));
    for (int ms = 0; n > 0 && ms < grace_ms; ms += STEP_MS) {
        cli_pause(STEP_MS);
        (void)waitpid(-1, NULL, WNOHANG); /* one that we have started */
        BASE_TRY(signal_all(dir, role, 0, &n, err));
    }
    for (int ms = 0; n > 0 && ms < KILL_WAIT_MS; ms += STEP_MS) {
        BASE_TRY(signal_all(dir, role, SIGKILL, &n, err));
        cli_pause(STEP_MS);
        (void)waitpid(-1, NULL, WNOHANG);
    }
    return n == 0
               ? BASE_OK
               : base_fail(err, BASE_TIMEOUT,
                           "%zu processes that use %s cannot be ended", n, dir);
}

/* --- mounts -------------------------------------------------------------- */

enum base_code cli_dev_mounts(const char *dir,
                              char ***ret,
                              size_t *ret_n,
                              struct base_err *err)
{
    FILE *file = fopen("/proc/self/mountinfo", "re");
    char **list = calloc(MAX_MOUNTS, sizeof(*list));
    BASE_AUTO_MEM char *line = NULL;
    size_t n_dir = strlen(dir);
    size_t cap = 0;
    size_t n = 0;
    bool is_short = file == NULL || list == NULL;

    while (!is_short && n < MAX_MOUNTS && getline(&line, &cap, file) > 0) {
        const char *point = base_mountinfo_point(line);

        if (point != NULL && strncmp(point, dir, n_dir) == 0 &&
            point[n_dir] == '/') {
            list[n] = strdup(point);
            is_short = list[n++] == NULL;
        }
    }
    if (file != NULL) {
        (void)fclose(file); /* it was only read */
    }
    if (is_short) {
        base_names_free(list, n);
        return base_fail(err, BASE_NO_MEM, "cannot list mounts");
    }
    for (size_t i = 0; i < n / 2; i++) { /* later ones lie on earlier ones */
        char *swap = list[i];

        list[i] = list[n - 1 - i];
        list[n - 1 - i] = swap;
    }
    *ret = list;
    *ret_n = n;
    return BASE_OK;
}

enum base_code cli_dev_unmount(const char *path, struct base_err *err)
{
    char name[] = "fusermount3";
    char unmount[] = "-uzq";
    char end[] = "--";
    BASE_AUTO_MEM char *copy = strdup(path);
    char *words[] = {name, unmount, end, copy, NULL};
    int status = 0;
    pid_t pid;

    if (copy == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot unmount");
    }
    if (umount2(path, MNT_DETACH) == 0) {
        return BASE_OK;
    }
    if (errno != EPERM) {
        return base_fail_errno(err, errno, "cannot unmount %s", path);
    }
    if (posix_spawnp(&pid, name, NULL, NULL, words, environ) != 0 ||
        waitpid(pid, &status, 0) != pid || status != 0) {
        return base_fail(err, BASE_DENIED, "fusermount3 cannot unmount %s",
                         path);
    }
    return BASE_OK;
}
