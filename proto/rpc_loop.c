/* The loop of all clients of a process, as proto/rpc_client_impl.h describes. */
#include <assert.h>

#include "proto/rpc_client_impl.h"

enum { MAX_KEPT = 64 };

static pthread_mutex_t loop_lock = PTHREAD_MUTEX_INITIALIZER;
/* Guarded by loop_lock; queue and thread stand as long as there are users. */
static struct {
    unsigned n_users;
    grpc_completion_queue *queue;
    pthread_t thread;
    unsigned n_kept;
    grpc_completion_queue *kept[MAX_KEPT];
} loop;

static void *loop_run(void *ctx)
{
    grpc_completion_queue *queue = ctx;

    for (;;) {
        grpc_event event = grpc_completion_queue_next(
            queue, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);

        if (event.type == GRPC_QUEUE_SHUTDOWN) {
            return NULL;
        }
        if (event.type == GRPC_OP_COMPLETE) {
            struct rpc_tag *tag = event.tag;

            rpc_take_over(tag);
            tag->run(tag, event.success != 0);
        }
    }
}

static void queue_free(grpc_completion_queue *queue)
{
    grpc_completion_queue_shutdown(queue); /* nothing is under way on it */
    grpc_completion_queue_destroy(queue);
}

bool rpc_loop_ref(void)
{
    bool is_good = true;

    (void)pthread_mutex_lock(&loop_lock);
    if (loop.n_users == 0) {
        assert(loop.n_kept == 0); /* core was ended since */
        rpc_init();
        loop.queue = grpc_completion_queue_create_for_next(NULL);
        is_good =
            rpc_thread_start(&loop.thread, "rpc-client", loop_run, loop.queue);
        if (!is_good) {
            queue_free(loop.queue);
            rpc_done();
        }
    }
    loop.n_users += is_good;
    (void)pthread_mutex_unlock(&loop_lock);
    return is_good;
}

void rpc_loop_unref(void)
{
    (void)pthread_mutex_lock(&loop_lock);
    loop.n_users--;
    if (loop.n_users == 0) {
        grpc_completion_queue_shutdown(loop.queue);
        (void)pthread_join(loop.thread, NULL);
        grpc_completion_queue_destroy(loop.queue);
        while (loop.n_kept > 0) {
            queue_free(loop.kept[--loop.n_kept]);
        }
        rpc_done();
    }
    (void)pthread_mutex_unlock(&loop_lock);
}

grpc_completion_queue *rpc_loop_queue(void)
{
    return loop.queue; /* stands: the caller has a channel */
}

bool rpc_loop_is_me(void)
{
    return pthread_equal(loop.thread, pthread_self()) != 0;
}

grpc_completion_queue *rpc_pluck_take(void)
{
    grpc_completion_queue *queue = NULL;

    (void)pthread_mutex_lock(&loop_lock);
    if (loop.n_kept > 0) {
        queue = loop.kept[--loop.n_kept];
    }
    (void)pthread_mutex_unlock(&loop_lock);
    return queue != NULL ? queue : grpc_completion_queue_create_for_pluck(NULL);
}

void rpc_pluck_give(grpc_completion_queue *queue)
{
    (void)pthread_mutex_lock(&loop_lock);
    if (loop.n_kept < MAX_KEPT) {
        loop.kept[loop.n_kept++] = queue;
        queue = NULL;
    }
    (void)pthread_mutex_unlock(&loop_lock);
    if (queue != NULL) {
        queue_free(queue);
    }
}
