/* Start and end of gRPC core, its log, and its clocks. */
#include <grpc/support/log.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "proto/rpc_impl.h"

static _Atomic rpc_log_fn log_to;

void rpc_log_to(rpc_log_fn log)
{
    atomic_store(&log_to, log);
}

/* Core's lines are about connections that nobody has a call on: a handshake
 * that failed has no other place to be told. */
static void core_log(gpr_log_func_args *args)
{
    rpc_log_fn log = atomic_load(&log_to);
    struct base_err line;

    if (log != NULL) {
        (void)base_fail(&line, BASE_OK, "%s", args->message);
        log(args->severity == GPR_LOG_SEVERITY_ERROR, line.text);
    }
}

static void init_once(void)
{
    /* c-ares 1.18 leaks with every lookup of localhost.  Core has no other way
     * to be told. NOLINTNEXTLINE(concurrency-mt-unsafe) */
    (void)setenv("GRPC_DNS_RESOLVER", "native", /* overwrite */ 0);
    gpr_set_log_function(core_log);
}

void rpc_init(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    (void)pthread_once(&once, init_once);
    grpc_init(); /* counted */
}

void rpc_done(void)
{
    grpc_shutdown();
}

void rpc_raise_files(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 &&
        limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit); /* else as it was */
    }
}

/* Core does not write to what its struct says it might. */
static char *arg_word(const char *text)
{
    union {
        const char *in;
        char *out;
    } word = {text};

    return word.out;
}

grpc_arg rpc_arg_int(const char *key, int value)
{
    grpc_arg arg = {.type = GRPC_ARG_INTEGER, .key = arg_word(key)};

    arg.value.integer = value;
    return arg;
}

grpc_arg rpc_arg_text(const char *key, const char *text)
{
    grpc_arg arg = {.type = GRPC_ARG_STRING, .key = arg_word(key)};

    arg.value.string = arg_word(text);
    return arg;
}

int64_t rpc_now_ns(void)
{
    struct timespec now = {0};

    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail for this clock */
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

gpr_timespec rpc_after_ns(int64_t ns)
{
    return gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                        gpr_time_from_nanos(ns, GPR_TIMESPAN));
}

bool rpc_thread_start(pthread_t *ret,
                      const char *name,
                      void *(*run)(void *ctx),
                      void *ctx)
{
    if (pthread_create(ret, NULL, run, ctx) != 0) {
        return false;
    }
    (void)pthread_setname_np(*ret, name); /* for those who look at threads */
    return true;
}

void rpc_cond_init(pthread_cond_t *cond)
{
    pthread_condattr_t attr;

    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(cond, &attr);
    (void)pthread_condattr_destroy(&attr);
}

bool rpc_cond_wait_until(pthread_cond_t *cond,
                         pthread_mutex_t *lock,
                         int64_t until_ns)
{
    const struct timespec until = {until_ns / 1000000000,
                                   until_ns % 1000000000};

    return pthread_cond_timedwait(cond, lock, &until) == 0;
}
