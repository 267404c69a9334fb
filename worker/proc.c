#include "worker/proc.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/num.h"

enum { MAX_TEXT_BYTES = 1 << 21 }; /* the kernel's own bound is less */

struct stat_line {
    pid_t pid;
    pid_t parent;
    pid_t group;
    char state;
    uint64_t start;
};

/* Fields 3, 4, 5 and 22: the second, the name, may have blanks and brackets. */
static bool parse_stat(const char *text, struct stat_line *ret)
{
    const char *at = strrchr(text, ')');
    int parent;
    int group;
    unsigned long long start;

    if (at == NULL ||
        /* The kernel's numbers fit. NOLINTNEXTLINE(cert-err34-c) */
        sscanf(at + 1,
               " %c %d %d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d "
               "%*d %*d %*d %llu",
               &ret->state, &parent, &group, &start) != 4) {
        return false;
    }
    ret->parent = parent;
    ret->group = group;
    ret->start = start;
    return ret->state != 'Z' && ret->state != 'X';
}

static bool read_stat(pid_t pid, struct stat_line *ret)
{
    char path[32];
    char text[1024];
    BASE_AUTO_FD fd = -1;
    ssize_t n;

    (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    n = read(fd, text, sizeof(text) - 1);
    if (n <= 0) {
        return false;
    }
    text[n] = '\0';
    ret->pid = pid;
    return parse_stat(text, ret);
}

bool worker_proc_find(pid_t pid, struct worker_proc *ret)
{
    struct stat_line line;

    if (pid <= 0 || !read_stat(pid, &line)) {
        return false;
    }
    *ret = (struct worker_proc){pid, line.start};
    return true;
}

bool worker_proc_lives(const struct worker_proc *proc)
{
    struct worker_proc now;

    return worker_proc_find(proc->pid, &now) && now.start == proc->start;
}

int worker_proc_open(const struct worker_proc *proc)
{
    /* The descriptor is one process's: whose, is asked once it is there. */
    BASE_AUTO_FD fd =
        proc->pid > 0 ? (int)syscall(SYS_pidfd_open, proc->pid, 0) : -1;

    return fd >= 0 && worker_proc_lives(proc) ? base_steal_fd(&fd) : -1;
}

void worker_proc_kill(const struct worker_proc *proc, int signal)
{
    BASE_AUTO_FD fd = worker_proc_open(proc);

    if (fd >= 0) {
        (void)syscall(SYS_pidfd_send_signal, fd, signal, NULL, 0); /* gone: */
    }
}

/* /proc/PID/NAME, its strings one after the other; empty when not readable. */
static void read_strings(pid_t pid, const char *name, struct base_buf *buf)
{
    char path[48];
    char chunk[4096];
    BASE_AUTO_FD fd = -1;
    ssize_t n;

    (void)snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    while (fd >= 0 && (n = read(fd, chunk, sizeof(chunk))) > 0) {
        (void)base_buf_add(buf, chunk, (size_t)n); /* sticky */
    }
}

static bool has_environment(pid_t pid, const char *setting)
{
    BASE_AUTO_BUF buf;
    size_t at = 0;

    base_buf_init(&buf, MAX_TEXT_BYTES);
    read_strings(pid, "environ", &buf);
    while (at < buf.len) {
        if (strcmp(buf.ptr + at, setting) == 0) {
            return true;
        }
        at += strlen(buf.ptr + at) + 1;
    }
    return false;
}

/* Is @uid its real user? */
static bool is_of_user(pid_t pid, uid_t uid)
{
    BASE_AUTO_BUF buf;
    const char *line;
    struct base_str number;
    uint64_t found;

    base_buf_init(&buf, MAX_TEXT_BYTES);
    read_strings(pid, "status", &buf);
    line = buf.len > 0 ? strstr(buf.ptr, "\nUid:\t") : NULL;
    if (line == NULL) {
        return false;
    }
    line += strlen("\nUid:\t");
    number = (struct base_str){line, strcspn(line, "\t")};
    return base_parse_u64(number, &found) && found == uid;
}

/* Call @fn for each process; it returns false to end. */
static void each_process(bool (*fn)(void *ctx, const struct stat_line *line),
                         void *ctx)
{
    DIR *dir = opendir("/proc");
    struct dirent *entry;
    bool goes_on = dir != NULL;

    /* The stream is ours alone. NOLINTNEXTLINE(concurrency-mt-unsafe) */
    while (goes_on && (entry = readdir(dir)) != NULL) {
        struct stat_line line;
        uint64_t pid;

        if (base_parse_u64(base_str_of(entry->d_name), &pid) &&
            pid <= INT32_MAX && read_stat((pid_t)pid, &line)) {
            goes_on = fn(ctx, &line);
        }
    }
    if (dir != NULL) {
        (void)closedir(dir);
    }
}

struct hunt {
    const struct worker_leftovers *what;
    char *setting; /* NULL: not looked for */
    int signal;
    size_t n;
};

static bool is_leftover(const struct hunt *hunt, const struct stat_line *line)
{
    for (size_t i = 0; i < hunt->what->n_ranks; i++) {
        const struct worker_proc *rank = &hunt->what->ranks[i];

        /* A group outlives its leader, but what is in it came later. */
        if ((line->pid == rank->pid && line->start == rank->start) ||
            (line->group == rank->pid && line->start >= rank->start)) {
            return true;
        }
    }
    return hunt->setting != NULL && has_environment(line->pid, hunt->setting);
}

static bool hunt_one(void *ctx, const struct stat_line *line)
{
    struct hunt *hunt = ctx;

    if (line->pid != getpid() && is_leftover(hunt, line) &&
        (!hunt->what->has_user || is_of_user(line->pid, hunt->what->uid))) {
        struct worker_proc proc = {line->pid, line->start};

        hunt->n++;
        if (hunt->signal != 0) {
            worker_proc_kill(&proc, hunt->signal);
        }
    }
    return true;
}

size_t worker_proc_leftovers(const struct worker_leftovers *what, int signal)
{
    struct hunt hunt = {.what = what, .signal = signal};
    BASE_AUTO_BUF setting;

    base_buf_init(&setting, MAX_TEXT_BYTES);
    if (what->directory != NULL &&
        base_buf_addf(&setting, "RETILE_DIR=%s", what->directory) == BASE_OK) {
        hunt.setting = setting.ptr;
    }
    each_process(hunt_one, &hunt);
    return hunt.n;
}

struct search {
    const char *program;
    const char *last;
    struct worker_proc found;
};

static bool is_named(const char *path, const char *program)
{
    const char *slash = strrchr(path, '/');

    return strcmp(slash == NULL ? path : slash + 1, program) == 0;
}

static bool is_command(pid_t pid, const char *program, const char *last)
{
    BASE_AUTO_BUF buf;
    const char *second;
    size_t at;

    base_buf_init(&buf, MAX_TEXT_BYTES);
    read_strings(pid, "cmdline", &buf);
    if (buf.len == 0 || buf.failed != BASE_OK || buf.ptr[buf.len - 1] != '\0') {
        return false;
    }
    second = buf.ptr + strlen(buf.ptr) + 1; /* at the end: empty */
    for (at = buf.len - 1; at > 0 && buf.ptr[at - 1] != '\0'; at--) {
    }
    return (is_named(buf.ptr, program) || is_named(second, program)) &&
           strcmp(buf.ptr + at, last) == 0;
}

static bool search_one(void *ctx, const struct stat_line *line)
{
    struct search *search = ctx;

    if (is_command(line->pid, search->program, search->last) &&
        is_of_user(line->pid, getuid()) &&
        !is_command(line->parent, search->program, search->last)) {
        search->found = (struct worker_proc){line->pid, line->start};
        return false;
    }
    return true;
}

bool worker_proc_by_command(const char *program,
                            const char *last,
                            struct worker_proc *ret)
{
    struct search search = {.program = program, .last = last};

    each_process(search_one, &search);
    if (search.found.pid != 0) {
        *ret = search.found;
    }
    return search.found.pid != 0;
}
