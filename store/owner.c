/* The owner of a store: an agent that holds flock on ROOT/owner for its life.
 *
 * The lock of changes (ROOT/lock) stays what it is, so that the agent's mounts
 * and movers can commit in their own processes; who neither is the owner nor
 * was told to serve it is refused before it waits for that lock.  The file's
 * text is the owner's pid, for the error of the others; the lock dies with the
 * owner, the file stays. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/file.h>

#include "base/io.h"
#include "base/num.h"
#include "store/root_priv.h"

#define OWNER_NAME "owner"
/* Those who only ask whether there is an owner hold the lock for a moment. */
#define OWN_WAIT_NS ((int64_t)200 * 1000000)

enum { PID_TEXT_BYTES = 24 };

/* "process 17", or less where the file does not say. */
static const char *name_of(int fd, char *text, size_t n_bytes)
{
    char digits[PID_TEXT_BYTES] = "";
    ssize_t got = pread(fd, digits, sizeof(digits) - 1, 0);
    uint64_t pid;

    if (!base_parse_u64(
            (struct base_str){digits, got > 1 ? (size_t)got - 1 : 0}, &pid)) {
        return "another process";
    }
    (void)snprintf(text, n_bytes, "process %" PRIu64, pid);
    return text;
}

/* Say who has it: for people only. */
static void sign(int fd)
{
    char text[PID_TEXT_BYTES];
    int n = snprintf(text, sizeof(text), "%ld\n", (long)getpid());

    (void)!ftruncate(fd, 0);
    (void)!pwrite(fd, text, (size_t)n, 0);
}

enum base_code store_owner_take(const struct store_root *root,
                                int *ret_fd,
                                struct base_err *err)
{
    BASE_AUTO_FD fd = -1;
    char text[48];
    bool is_same = false;
    enum base_code code;

    BASE_TRY(base_io_open(store_root_fd(root), OWNER_NAME,
                          O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK, 0600,
                          OWNER_NAME, &fd, err));
    code = store_flock(fd, LOCK_EX, OWN_WAIT_NS, OWNER_NAME, err);
    if (code == BASE_EXISTS) {
        return base_fail(err, code, "%s: belongs to %s already",
                         store_root_path(root),
                         name_of(fd, text, sizeof(text)));
    }
    BASE_TRY(code);
    BASE_TRY(store_same_file(root, OWNER_NAME, fd, &is_same, err));
    if (!is_same) {
        return base_fail(err, BASE_CHANGED, "%s/" OWNER_NAME ": was replaced",
                         store_root_path(root));
    }
    sign(fd);
    *ret_fd = base_steal_fd(&fd);
    return BASE_OK;
}

enum base_code store_owner_check(const struct store_root *root,
                                 struct base_err *err)
{
    BASE_AUTO_FD fd = -1;
    char text[48];
    enum base_code code = base_io_open(store_root_fd(root), OWNER_NAME,
                                       O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0,
                                       OWNER_NAME, &fd, err);

    if (code == BASE_NOT_FOUND) { /* it never had one */
        return BASE_OK;
    }
    BASE_TRY(code);
    code = store_flock(fd, LOCK_SH, 0, OWNER_NAME, err);
    if (code != BASE_EXISTS) {
        return code;
    }
    return base_fail(err, BASE_DENIED,
                     "%s: belongs to the agent, %s: ask it, for example "
                     "`retile rescale JOB --to ...` without --store",
                     store_root_path(root), name_of(fd, text, sizeof(text)));
}
