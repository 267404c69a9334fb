/* The agent's loop: one thread that owns the agent's state.
 *
 * Other threads (gRPC's, the store's) hand over posts, which the loop calls in
 * their order; descriptors and a time wake it, too.  A post is a member of what
 * it carries, so that posting allocates nothing and cannot fail: whoever posts
 * bounds how many there are.
 *
 * All but worker_loop_post: the loop's thread, or before it runs. */
#ifndef WORKER_LOOP_H
#define WORKER_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/auto.h"
#include "base/err.h"

struct worker_post {
    void (*fn)(struct worker_post *post); /* owns @post from then on */
    struct worker_post *next;             /* the loop's */
};

struct worker_watch {
    int fd; /* -1: not watched */
    void (*fn)(void *ctx);
    void *ctx;
};

struct worker_loop;
void worker_loop_free(struct worker_loop *loop);
BASE_AUTO_DEFINE(worker_loop);
enum base_code worker_loop_create(struct worker_loop **ret,
                                  struct base_err *err) BASE_MUST_CHECK;

/* Any thread, as long as the loop is there. */
void worker_loop_post(struct worker_loop *loop, struct worker_post *post);

/* Call @watch->fn whenever its descriptor can be read.  @watch must stay until
 * worker_loop_unwatch, which leaves the descriptor open. */
enum base_code worker_loop_watch(struct worker_loop *loop,
                                 struct worker_watch *watch,
                                 struct base_err *err) BASE_MUST_CHECK;
void worker_loop_unwatch(struct worker_loop *loop, struct worker_watch *watch);

/* Turn until worker_loop_stop: wait until something happens or the time that
 * @turn returned last has come, let all that happened have its say, @turn. */
void worker_loop_run(struct worker_loop *loop,
                     int64_t (*turn)(void *ctx),
                     void *ctx);
void worker_loop_stop(struct worker_loop *loop);
/* After it: call what was posted and not called; nobody posts any more. */
void worker_loop_drain(struct worker_loop *loop);

/* The time that everything here is measured by; no clock setting moves it. */
int64_t worker_now_ns(void);
/* Since 1970. */
int64_t worker_wall_ns(void);

#endif
