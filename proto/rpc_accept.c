/* accept4 for core, which gives up a listener for ever at the first failure
 * that it does not expect (CVE-2023-4785; fixed in 1.53, not in Debian's 1.51).
 *
 * This definition stands in the program, so core's calls come here.  Failures
 * that pass by themselves become EAGAIN.  Without free descriptors the queue
 * of connections is emptied with the help of a spare one: core waits for a
 * change, and would not learn of those that wait already. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "proto/rpc_server_impl.h"

static pthread_mutex_t guard_lock = PTHREAD_MUTEX_INITIALIZER;
static int spare_fd = -1; /* guarded by guard_lock */

/* Lock held. */
static void spare_open(void)
{
    if (spare_fd < 0) {
        spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    }
}

void rpc_accept_guard(void)
{
    (void)pthread_mutex_lock(&guard_lock);
    spare_open();
    (void)pthread_mutex_unlock(&guard_lock);
}

static int
call_accept(int fd, struct sockaddr *address, socklen_t *n_address, int flags)
{
    int accepted;

    do {
        accepted = (int)syscall(SYS_accept4, fd, address, n_address, flags);
    } while (accepted < 0 && errno == EINTR);
    return accepted;
}

/* Take one connection and drop it.  False: there is none, or no way. */
static bool drop_one(int fd)
{
    int accepted;

    (void)pthread_mutex_lock(&guard_lock);
    if (spare_fd >= 0) {
        (void)close(spare_fd);
        spare_fd = -1;
    }
    accepted = call_accept(fd, NULL, NULL, SOCK_CLOEXEC);
    if (accepted >= 0) {
        (void)close(accepted);
    }
    spare_open();
    (void)pthread_mutex_unlock(&guard_lock);
    return accepted >= 0;
}

/* NOLINTNEXTLINE(readability-inconsistent-declaration-parameter-name): glibc's */
int accept4(int fd,
            __SOCKADDR_ARG address,
            socklen_t *restrict n_address,
            int flags)
{
    const socklen_t room = n_address != NULL ? *n_address : 0;

    for (;;) {
        int accepted = call_accept(fd, address.__sockaddr__, n_address, flags);

        if (accepted >= 0) {
            return accepted;
        }
        switch (errno) {
        case EMFILE:
        case ENFILE:
            if (!drop_one(fd)) {
                errno = EAGAIN;
                return -1;
            }
            if (n_address != NULL) {
                *n_address = room;
            }
            break;
        case EBADF:
        case EFAULT:
        case EINVAL:
        case ENOTSOCK:
        case EOPNOTSUPP:
            return -1; /* the caller's mistakes */
        default:       /* none, one connection's failure, or short memory */
            errno = EAGAIN;
            return -1;
        }
    }
}
