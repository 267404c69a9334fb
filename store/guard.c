/* SIGBUS inside a guarded read becomes a return value.
 *
 * The handler jumps out when this thread is inside store_guard_run and the
 * kernel (not a process) sent the signal.  Otherwise it restores the default
 * and returns: the access faults again, and the process dies as it should.
 * sigsetjmp saves no mask (that would be a system call per read); the handler
 * takes the one to go back to from the interrupted context.  SA_NODEFER alone
 * does not do: under ThreadSanitizer a handler runs with all signals blocked,
 * and the next fault would be deadly. */
#include "store/guard.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stddef.h>
#include <ucontext.h>

#include "store/gather.h"

/* Where a fault in this thread goes; NULL outside a guard.  Read in a signal
 * handler, but only in one that this same thread's access raised. */
static _Thread_local sigjmp_buf *volatile guard_exit;

static void on_sigbus(int signum, siginfo_t *info, void *context)
{
    struct sigaction deadly = {.sa_handler = SIG_DFL};
    const ucontext_t *interrupted = context;

    if (guard_exit != NULL && info->si_code > 0) {
        /* cannot fail: what to do is known */
        (void)pthread_sigmask(SIG_SETMASK, &interrupted->uc_sigmask, NULL);
        siglongjmp(*guard_exit, 1);
    }
    (void)sigaction(signum, &deadly, NULL); /* cannot fail for SIGBUS */
    if (info->si_code <= 0) {
        (void)raise(signum); /* sent by a process: nothing will fault again */
    }
}

enum base_code store_guard_install(struct base_err *err)
{
    struct sigaction action = {.sa_sigaction = on_sigbus,
                               .sa_flags = SA_SIGINFO | SA_NODEFER};

    (void)sigemptyset(&action.sa_mask); /* cannot fail */
    if (sigaction(SIGBUS, &action, NULL) != 0) {
        return base_fail_errno(err, errno, "cannot handle SIGBUS");
    }
    return BASE_OK;
}

bool store_guard_run(void (*fn)(void *ctx), void *ctx)
{
    sigjmp_buf here;

    if (sigsetjmp(here, 0) != 0) {
        guard_exit = NULL;
        return false;
    }
    guard_exit = &here;
    fn(ctx);
    guard_exit = NULL;
    return true;
}
