#include "worker/work.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/rpc.h"
#include "worker/decide.h"

struct worker_store {
    struct worker_loop *loop;
    struct store_root *root; /* owner: the thread, as inventory */
    struct worker_inventory *inventory;
    void (*done)(void *ctx, struct worker_work *work);
    void *ctx;
    atomic_bool is_ending;
    bool is_counted; /* owner: the thread; since it last worked */
    pthread_t thread;
    bool is_running;
    pthread_mutex_t lock;
    pthread_cond_t is_changed; /* first, is_ending */
    struct worker_work *first; /* guarded by lock, as last */
    struct worker_work *last;
    bool has_usage; /* guarded by lock, as the next two */
    uint64_t used_bytes;
    uint64_t budget_bytes;
};

#define IDLE_NS (WORKER_SECOND_NS / 2)

void worker_work_free(struct worker_work *work)
{
    if (work == NULL) {
        return;
    }
    for (size_t i = 0; i < work->votes.n; i++) {
        if (work->votes.items[i].version != NULL) {
            rpc_message_free(&work->votes.items[i].version->base);
        }
    }
    base_vec_done(&work->votes);
    worker_versions_done(&work->versions);
    if (work->target != NULL) {
        rpc_message_free(&work->target->base);
    }
    if (work->plan != NULL) {
        rpc_message_free(&work->plan->base);
    }
    for (size_t i = 0; i < work->n_unlinked; i++) {
        (void)close(work->unlinked[i]); /* was only opened */
    }
    free(work->unlinked);
    free(work->damaged);
    free(work->job);
    free(work);
}

struct worker_work *worker_work_create(enum worker_work_kind kind,
                                       const char *job,
                                       const Retile__V1__JobTarget *target)
{
    BASE_AUTO(worker_work) work = calloc(1, sizeof(*work));

    if (work == NULL) {
        return NULL;
    }
    work->kind = kind;
    work->job = strdup(job);
    if (target != NULL) {
        work->target = rpc_message_copy(&target->base);
    }
    return work->job != NULL && (target == NULL || work->target != NULL)
               ? base_steal(&work)
               : NULL;
}

static bool on_progress(void *ctx, uint64_t done_bytes, uint64_t all_bytes)
{
    struct worker_store *store = ctx;

    (void)done_bytes;
    (void)all_bytes;
    return !store->is_ending; /* a long import ends with us */
}

/* Wait for work, or until there was none for so long that what the store takes
 * is to be counted: then NULL, as at the end. */
static struct worker_work *take(struct worker_store *store)
{
    const int64_t until_ns = worker_now_ns() + IDLE_NS;
    const struct timespec until = {.tv_sec = until_ns / WORKER_SECOND_NS,
                                   .tv_nsec = until_ns % WORKER_SECOND_NS};
    struct worker_work *work;
    int errnum = 0;

    (void)pthread_mutex_lock(&store->lock);
    while (store->first == NULL && !store->is_ending && errnum == 0) {
        errnum = store->is_counted
                     ? pthread_cond_wait(&store->is_changed, &store->lock)
                     : pthread_cond_timedwait(&store->is_changed, &store->lock,
                                              &until);
    }
    work = store->is_ending ? NULL : store->first;
    if (work != NULL) {
        store->first = work->next;
        if (store->first == NULL) {
            store->last = NULL;
        }
    }
    (void)pthread_mutex_unlock(&store->lock);
    return work;
}

static void count(struct worker_store *store)
{
    uint64_t used_bytes;
    uint64_t budget_bytes;

    store->is_counted = true; /* or, of a store that cannot be read, tried */
    if (store_root_usage(store->root, &used_bytes, &budget_bytes, NULL) !=
        BASE_OK) {
        return;
    }
    (void)pthread_mutex_lock(&store->lock);
    store->used_bytes = used_bytes;
    store->budget_bytes = budget_bytes;
    store->has_usage = true;
    (void)pthread_mutex_unlock(&store->lock);
}

bool worker_store_usage(struct worker_store *store,
                        uint64_t *ret_used_bytes,
                        uint64_t *ret_budget_bytes)
{
    bool has_usage;

    (void)pthread_mutex_lock(&store->lock);
    has_usage = store->has_usage;
    if (has_usage) {
        *ret_used_bytes = store->used_bytes;
        *ret_budget_bytes = store->budget_bytes;
    }
    (void)pthread_mutex_unlock(&store->lock);
    return has_usage;
}

static void on_post(struct worker_post *post)
{
    struct worker_work *work = (struct worker_work *)(void *)post;
    struct worker_store *store = work->ctx;

    store->done(store->ctx, work);
}

static void *run(void *ctx)
{
    struct worker_store *store = ctx;
    struct worker_work *work;

    while (!store->is_ending) {
        work = take(store);
        if (work == NULL) { /* idle, or at the end */
            if (!store->is_ending) {
                count(store);
            }
            continue;
        }
        worker_work_run(work, store->root, store->inventory, on_progress,
                        store);
        store->is_counted = false;
        work->post.fn = on_post;
        worker_loop_post(store->loop, &work->post);
    }
    return NULL;
}

void worker_store_stop(struct worker_store *store)
{
    if (store != NULL && store->is_running) {
        (void)pthread_mutex_lock(&store->lock);
        store->is_ending = true;
        (void)pthread_cond_signal(&store->is_changed);
        (void)pthread_mutex_unlock(&store->lock);
        (void)pthread_join(store->thread, NULL); /* ours, joined once */
        store->is_running = false;
    }
}

void worker_store_free(struct worker_store *store)
{
    if (store == NULL) {
        return;
    }
    worker_store_stop(store);
    while (store->first != NULL) {
        struct worker_work *work = store->first;

        store->first = work->next;
        worker_work_free(work);
    }
    (void)pthread_cond_destroy(&store->is_changed);
    (void)pthread_mutex_destroy(&store->lock);
    worker_inventory_free(store->inventory);
    store_root_free(store->root);
    free(store);
}

enum base_code worker_store_create(struct worker_loop *loop,
                                   struct store_root **root,
                                   void (*done)(void *ctx,
                                                struct worker_work *work),
                                   void *ctx,
                                   struct worker_store **ret,
                                   struct base_err *err)
{
    BASE_AUTO(worker_store) store = calloc(1, sizeof(*store));
    pthread_condattr_t attr;
    int errnum;

    if (store == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot start the store's thread");
    }
    (void)pthread_mutex_init(&store->lock, NULL); /* never fails here */
    (void)pthread_condattr_init(&attr);           /* as the next two */
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&store->is_changed, &attr);
    (void)pthread_condattr_destroy(&attr);
    store->loop = loop;
    store->done = done;
    store->ctx = ctx;
    store->inventory = worker_inventory_create();
    if (store->inventory == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot start the store's thread");
    }
    store->root = *root;
    errnum = pthread_create(&store->thread, NULL, run, store);
    if (errnum != 0) {
        store->root = NULL;
        return base_fail_errno(err, errnum, "cannot start the store's thread");
    }
    store->is_running = true;
    *root = NULL;
    *ret = base_steal(&store);
    return BASE_OK;
}

void worker_store_do(struct worker_store *store, struct worker_work *work)
{
    work->next = NULL;
    work->ctx = store;
    (void)pthread_mutex_lock(&store->lock);
    if (store->last == NULL) {
        store->first = work;
    } else {
        store->last->next = work;
    }
    store->last = work;
    (void)pthread_cond_signal(&store->is_changed);
    (void)pthread_mutex_unlock(&store->lock);
}
