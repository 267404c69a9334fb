#include "base/parallel.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/auto.h"

struct run {
    base_parallel_fn fn; /* immutable, like ctx and n_items */
    void *ctx;
    size_t n_items;
    atomic_size_t next;    /* the next item to start */
    atomic_bool is_failed; /* no further item starts */
    pthread_mutex_t lock;
    enum base_code code; /* guarded by lock: the first failure */
    struct base_err err; /* guarded by lock */
};

struct worker {
    struct run *run;
    pthread_t thread;
    unsigned number;
};

static void work(struct run *run, unsigned number)
{
    while (!atomic_load(&run->is_failed)) {
        struct base_err err = {.code = BASE_OK};
        size_t item = atomic_fetch_add(&run->next, 1);
        enum base_code code;

        if (item >= run->n_items) {
            return;
        }
        code = run->fn(run->ctx, item, number, &err);
        if (code != BASE_OK) {
            (void)pthread_mutex_lock(&run->lock); /* cannot fail */
            if (run->code == BASE_OK) {
                run->code = code;
                run->err = err;
            }
            (void)pthread_mutex_unlock(&run->lock);
            atomic_store(&run->is_failed, true);
        }
    }
}

static void *thread_main(void *arg)
{
    struct worker *worker = arg;

    work(worker->run, worker->number);
    return NULL;
}

static enum base_code
run_here(size_t n_items, base_parallel_fn fn, void *ctx, struct base_err *err)
{
    size_t i;

    for (i = 0; i < n_items; i++) {
        BASE_TRY(fn(ctx, i, 0, err));
    }
    return BASE_OK;
}

enum base_code base_parallel(unsigned n_threads,
                             size_t n_items,
                             base_parallel_fn fn,
                             void *ctx,
                             struct base_err *err)
{
    struct run run = {.fn = fn, .ctx = ctx, .n_items = n_items};
    BASE_AUTO_MEM struct worker *workers = NULL;
    unsigned n = n_threads < n_items ? n_threads : (unsigned)n_items;
    unsigned n_started;
    unsigned i;

    if (n <= 1) {
        return run_here(n_items, fn, ctx, err);
    }
    workers = calloc(n, sizeof(*workers));
    if (workers == NULL || pthread_mutex_init(&run.lock, NULL) != 0) {
        return base_fail(err, BASE_NO_MEM, "cannot start %u threads", n);
    }
    /* The caller is thread 0.  Fewer threads than asked for still do it all. */
    for (n_started = 1; n_started < n; n_started++) {
        workers[n_started] = (struct worker){.run = &run, .number = n_started};
        if (pthread_create(&workers[n_started].thread, NULL, thread_main,
                           &workers[n_started]) != 0) {
            break;
        }
    }
    work(&run, 0);
    for (i = 1; i < n_started; i++) {
        (void)pthread_join(workers[i].thread, NULL); /* ours, joinable */
    }
    (void)pthread_mutex_destroy(&run.lock);
    if (run.code != BASE_OK && err != NULL) {
        *err = run.err;
    }
    return run.code;
}

unsigned base_n_cpus(void)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof(set), &set) != 0 || CPU_COUNT(&set) < 1) {
        return 1; /* more processors than cpu_set_t knows, or no /proc */
    }
    return (unsigned)CPU_COUNT(&set);
}
