/* Worker threads, as proto/rpc_server_impl.h describes. */
#include <stdlib.h>

#include "proto/rpc_server_impl.h"

struct rpc_pool {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* Guarded by lock. */
    struct rpc_call *first;
    struct rpc_call *last;
    unsigned n_queued;
    bool is_ending;
    /* Immutable. */
    unsigned max_queued;
    unsigned n_threads;
    pthread_t threads[];
};

static void *pool_run(void *ctx)
{
    struct rpc_pool *pool = ctx;

    (void)pthread_mutex_lock(&pool->lock);
    for (;;) {
        struct rpc_call *call = pool->first;

        if (call != NULL) {
            pool->first = call->next;
            pool->n_queued--;
            (void)pthread_mutex_unlock(&pool->lock);
            rpc_call_run(call);
            rpc_call_unref(call);
            (void)pthread_mutex_lock(&pool->lock);
        } else if (pool->is_ending) {
            break;
        } else {
            (void)pthread_cond_wait(&pool->changed, &pool->lock);
        }
    }
    (void)pthread_mutex_unlock(&pool->lock);
    return NULL;
}

struct rpc_pool *rpc_pool_create(unsigned n_threads, unsigned max_queued)
{
    struct rpc_pool *pool =
        calloc(1, sizeof(*pool) + n_threads * sizeof(pool->threads[0]));

    if (pool == NULL) {
        return NULL;
    }
    (void)pthread_mutex_init(&pool->lock, NULL);
    (void)pthread_cond_init(&pool->changed, NULL);
    pool->max_queued = max_queued;
    while (pool->n_threads < n_threads) {
        if (!rpc_thread_start(&pool->threads[pool->n_threads], "rpc-work",
                              pool_run, pool)) {
            rpc_pool_free(pool);
            return NULL;
        }
        pool->n_threads++;
    }
    return pool;
}

void rpc_pool_free(struct rpc_pool *pool)
{
    if (pool == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&pool->lock);
    pool->is_ending = true;
    (void)pthread_cond_broadcast(&pool->changed);
    (void)pthread_mutex_unlock(&pool->lock);
    for (unsigned i = 0; i < pool->n_threads; i++) {
        (void)pthread_join(pool->threads[i], NULL);
    }
    (void)pthread_cond_destroy(&pool->changed);
    (void)pthread_mutex_destroy(&pool->lock);
    free(pool);
}

bool rpc_pool_add(struct rpc_pool *pool, struct rpc_call *call, bool must)
{
    bool is_taken;

    (void)pthread_mutex_lock(&pool->lock);
    is_taken = must || pool->n_queued < pool->max_queued;
    if (is_taken) {
        call->next = NULL;
        if (pool->first == NULL) {
            pool->first = rpc_call_ref(call);
        } else {
            pool->last->next = rpc_call_ref(call);
        }
        pool->last = call;
        pool->n_queued++;
        (void)pthread_cond_signal(&pool->changed);
    }
    (void)pthread_mutex_unlock(&pool->lock);
    return is_taken;
}

unsigned rpc_pool_queued(struct rpc_pool *pool)
{
    unsigned n;

    (void)pthread_mutex_lock(&pool->lock);
    n = pool->n_queued;
    (void)pthread_mutex_unlock(&pool->lock);
    return n;
}
