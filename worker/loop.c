#include "worker/loop.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum { NS_PER_MS = 1000000, MAX_WAIT_MS = 60000 };

struct worker_loop {
    int epoll_fd;
    int wake_fd;
    bool is_ending;
    pthread_mutex_t lock;
    struct worker_post *first; /* guarded by lock, as last */
    struct worker_post *last;
};

static int64_t clock_ns(clockid_t clock)
{
    struct timespec now = {0};

    (void)clock_gettime(clock, &now); /* cannot fail for these clocks */
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t worker_now_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

int64_t worker_wall_ns(void)
{
    return clock_ns(CLOCK_REALTIME);
}

void worker_loop_free(struct worker_loop *loop)
{
    if (loop == NULL) {
        return;
    }
    if (loop->epoll_fd >= 0) {
        (void)close(loop->epoll_fd);
    }
    if (loop->wake_fd >= 0) {
        (void)close(loop->wake_fd);
    }
    (void)pthread_mutex_destroy(&loop->lock);
    free(loop);
}

enum base_code worker_loop_create(struct worker_loop **ret,
                                  struct base_err *err)
{
    BASE_AUTO(worker_loop) loop = calloc(1, sizeof(*loop));
    struct epoll_event event = {.events = EPOLLIN};

    if (loop == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot allocate a loop");
    }
    (void)pthread_mutex_init(&loop->lock, NULL); /* never fails here */
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (loop->epoll_fd < 0 || loop->wake_fd < 0 ||
        epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, loop->wake_fd, &event) < 0) {
        return base_fail_errno(err, errno, "cannot make a loop");
    }
    *ret = base_steal(&loop);
    return BASE_OK;
}

static void wake(struct worker_loop *loop)
{
    const uint64_t one = 1;

    if (write(loop->wake_fd, &one, sizeof(one)) != sizeof(one)) {
        return; /* full: it is readable, which is all that counts */
    }
}

void worker_loop_post(struct worker_loop *loop, struct worker_post *post)
{
    post->next = NULL;
    (void)pthread_mutex_lock(&loop->lock);
    if (loop->last == NULL) {
        loop->first = post;
    } else {
        loop->last->next = post;
    }
    loop->last = post;
    /* Under the lock, so that the loop cannot be freed before it is written:
     * whoever frees it has run the post. */
    wake(loop);
    (void)pthread_mutex_unlock(&loop->lock);
}

static void run_posts(struct worker_loop *loop)
{
    struct worker_post *post;

    (void)pthread_mutex_lock(&loop->lock);
    post = loop->first;
    loop->first = NULL;
    loop->last = NULL;
    (void)pthread_mutex_unlock(&loop->lock);
    while (post != NULL) {
        struct worker_post *next = post->next;

        post->fn(post);
        post = next;
    }
}

enum base_code worker_loop_watch(struct worker_loop *loop,
                                 struct worker_watch *watch,
                                 struct base_err *err)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = watch};

    if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, watch->fd, &event) < 0) {
        return base_fail_errno(err, errno, "cannot watch a descriptor");
    }
    return BASE_OK;
}

void worker_loop_unwatch(struct worker_loop *loop, struct worker_watch *watch)
{
    if (watch->fd >= 0) {
        (void)epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL);
    }
}

static int wait_ms(int64_t until_ns)
{
    int64_t left_ns = until_ns - worker_now_ns();

    if (left_ns <= 0) {
        return 0;
    }
    if (left_ns > (int64_t)MAX_WAIT_MS * NS_PER_MS) {
        return MAX_WAIT_MS;
    }
    return (int)((left_ns + NS_PER_MS - 1) / NS_PER_MS);
}

/* One event a call, so that what one handler removes cannot be met again. */
static void wait_once(struct worker_loop *loop, int timeout_ms)
{
    struct epoll_event event;
    uint64_t count;

    while (!loop->is_ending &&
           epoll_wait(loop->epoll_fd, &event, 1, timeout_ms) == 1) {
        struct worker_watch *watch = event.data.ptr;

        if (watch != NULL) {
            watch->fn(watch->ctx);
        } else {
            (void)!read(loop->wake_fd, &count, sizeof(count));
            return;
        }
        timeout_ms = 0;
    }
}

void worker_loop_run(struct worker_loop *loop,
                     int64_t (*turn)(void *ctx),
                     void *ctx)
{
    int64_t until_ns = 0;

    loop->is_ending = false;
    while (!loop->is_ending) {
        wait_once(loop, wait_ms(until_ns));
        run_posts(loop);
        until_ns = turn(ctx);
    }
}

void worker_loop_drain(struct worker_loop *loop)
{
    run_posts(loop);
}

void worker_loop_stop(struct worker_loop *loop)
{
    loop->is_ending = true;
}
