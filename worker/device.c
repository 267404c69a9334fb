#include "worker/device.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/num.h"
#include "base/str.h"
#include "worker/loop.h"

enum { OUTPUT_MAX_BYTES = 1 << 18, EXIT_NO_RUNTIME = 3, EXIT_NO_DEVICE = 4 };

extern char **environ;

static void make_slots(uint32_t n, struct worker_devices *ret)
{
    *ret = (struct worker_devices){.n = n};
    for (uint32_t i = 0; i < n; i++) {
        (void)snprintf(ret->items[i].label, sizeof(ret->items[i].label),
                       "slot %" PRIu32, i);
    }
}

/* --- the child ------------------------------------------------------------ */

static enum base_code spawn_probe(const char *library,
                                  int out_fd,
                                  pid_t *ret_pid,
                                  struct base_err *err)
{
    union {
        const char *shown;
        char *field; /* posix_spawn writes to none of them */
    } args[] = {{"/proc/self/exe"},
                {WORKER_PROBE_VERB},
                {library == NULL ? "" : library},
                {NULL}};
    char *argv[] = {args[0].field, args[1].field, args[2].field, NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    sigset_t none;
    int errnum;

    (void)sigemptyset(&none); /* as sigfillset: cannot fail */
    (void)posix_spawn_file_actions_init(&actions);
    (void)posix_spawnattr_init(&attr);
    (void)posix_spawn_file_actions_adddup2(&actions, out_fd, 1);
    (void)posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK |
                                              POSIX_SPAWN_SETPGROUP);
    (void)posix_spawnattr_setsigmask(&attr, &none);
    (void)posix_spawnattr_setpgroup(&attr, 0);
    errnum = posix_spawn(ret_pid, argv[0], &actions, &attr, argv, environ);
    (void)posix_spawnattr_destroy(&attr);
    (void)posix_spawn_file_actions_destroy(&actions);
    if (errnum != 0) {
        return base_fail_errno(err, errnum, "cannot look for devices");
    }
    return BASE_OK;
}

/* Until its end, or @until_ns. */
static void read_all(int fd, int64_t until_ns, struct base_buf *out)
{
    char chunk[4096];

    for (;;) {
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        int64_t left_ns = until_ns - worker_now_ns();
        ssize_t n;

        if (left_ns <= 0) {
            return;
        }
        if (poll(&wait, 1, (int)(left_ns / 1000000) + 1) <= 0) {
            continue;
        }
        n = read(fd, chunk, sizeof(chunk));
        if (n <= 0) {
            return;
        }
        (void)base_buf_add(out, chunk, (size_t)n); /* sticky */
    }
}

/* It printed all it has; does it end?  Killed when it does not. */
static bool wait_child(pid_t pid, int64_t until_ns, int *ret_status)
{
    int64_t left_ms = (until_ns - worker_now_ns()) / 1000000;
    struct pollfd wait = {.events = POLLIN};
    bool has_ended;

    wait.fd = (int)syscall(SYS_pidfd_open, pid, 0);
    has_ended =
        wait.fd >= 0 && poll(&wait, 1, left_ms > 0 ? (int)left_ms : 0) == 1;
    if (wait.fd >= 0) {
        (void)close(wait.fd); /* nothing was written */
    }
    if (!has_ended) {
        (void)kill(-pid, SIGKILL);
    }
    return waitpid(pid, ret_status, 0) == pid && has_ended;
}

static enum base_code take_line(struct base_str line,
                                struct worker_devices *devices,
                                struct base_err *err)
{
    BASE_AUTO_MEM char *text = strndup(line.ptr, line.len);
    struct worker_device *device;
    uint32_t index;
    uint64_t memory_bytes;
    int at = 0;

    if (text == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot look for devices");
    }
    device = &devices->items[devices->n];
    if (devices->n < WORKER_MAX_DEVICES &&
        /* Our own child's, and checked. NOLINTNEXTLINE(cert-err34-c) */
        sscanf(text, "%" SCNu32 " ! %n", &index, &at) == 1 && at > 0 &&
        index == devices->n) {
        device->is_failed = true;
        (void)snprintf(device->reason, sizeof(device->reason), "%s", text + at);
        (void)snprintf(device->label, sizeof(device->label), "GPU %" PRIu32,
                       index);
    } else if (devices->n < WORKER_MAX_DEVICES &&
               /* Our own child's, and checked. NOLINTNEXTLINE(cert-err34-c) */
               sscanf(text, "%" SCNu32 " %" SCNu64 " %n", &index, &memory_bytes,
                      &at) == 2 &&
               at > 0 && index == devices->n) {
        device->memory_bytes = memory_bytes;
        (void)snprintf(device->label, sizeof(device->label), "%s", text + at);
    } else {
        return base_fail(err, BASE_IO,
                         "the probe of the CUDA runtime said '%.100s'", text);
    }
    device->is_cuda = true;
    devices->n++;
    return BASE_OK;
}

static enum base_code take_output(struct base_str out,
                                  struct worker_devices *ret,
                                  struct base_err *err)
{
    *ret = (struct worker_devices){0};
    while (out.len > 0) {
        const char *newline = memchr(out.ptr, '\n', out.len);
        size_t n = newline == NULL ? out.len : (size_t)(newline - out.ptr);

        BASE_TRY(take_line((struct base_str){out.ptr, n}, ret, err));
        n += newline != NULL;
        out.ptr += n;
        out.len -= n;
    }
    return BASE_OK;
}

static enum base_code judge(int status, struct base_err *err)
{
    if (WIFSIGNALED(status)) {
        return base_fail(err, BASE_IO,
                         "the CUDA runtime killed its probe by signal %d",
                         WTERMSIG(status));
    }
    switch (WEXITSTATUS(status)) {
    case 0:
        return BASE_OK;
    case EXIT_NO_RUNTIME:
        return base_fail(err, BASE_NOT_FOUND,
                         "there is no CUDA runtime (libcudart.so) here; "
                         "--slots N gives the host N numbered slots");
    case EXIT_NO_DEVICE:
        return base_fail(err, BASE_NOT_FOUND,
                         "the CUDA runtime finds no device; --slots N gives "
                         "the host N numbered slots");
    default:
        return base_fail(err, BASE_IO,
                         "the CUDA runtime cannot count its devices (see what "
                         "its probe says above); --slots N does without");
    }
}

enum base_code worker_devices_find(uint32_t n_slots,
                                   const char *library,
                                   int wait_ms,
                                   struct worker_devices *ret,
                                   struct base_err *err)
{
    const int64_t until_ns = worker_now_ns() + (int64_t)wait_ms * 1000000;
    BASE_AUTO_FD read_fd = -1;
    BASE_AUTO_FD write_fd = -1;
    BASE_AUTO_BUF out;
    int fds[2];
    pid_t pid;
    int status = 0;

    base_buf_init(&out, OUTPUT_MAX_BYTES);
    if (n_slots > 0) {
        make_slots(n_slots, ret);
        return BASE_OK;
    }
    if (pipe2(fds, O_CLOEXEC) != 0) {
        return base_fail_errno(err, errno, "cannot look for devices");
    }
    read_fd = fds[0];
    write_fd = fds[1];
    BASE_TRY(spawn_probe(library, write_fd, &pid, err));
    (void)close(base_steal_fd(&write_fd)); /* nothing was written */
    read_all(read_fd, until_ns, &out);     /* past it, nothing is waited for */
    if (!wait_child(pid, until_ns, &status)) {
        return base_fail(err, BASE_TIMEOUT,
                         "the CUDA runtime has not answered in %d ms; "
                         "--slots N does without",
                         wait_ms);
    }
    BASE_TRY(judge(status, err));
    BASE_TRY(base_buf_check(&out, err));
    return take_output(base_buf_str(&out), ret, err);
}
