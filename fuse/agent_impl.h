/* What the files of fuse/agent.h share. */
#ifndef FUSE_AGENT_IMPL_H
#define FUSE_AGENT_IMPL_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "fuse/agent.h"
#include "fuse/generation.h"
#include "proto/rpc_client.h"

enum { AGENT_MAX_CLOSES = FS_HANDOVER_CLOSES, AGENT_REASON_BYTES = 96 };

/* What is to be said of an attempt; its number is in the handover, too, in the
 * same place. */
struct agent_close {
    uint64_t attempt; /* 0: none */
    bool is_asked;
    int64_t next_ns; /* not before */
    char reason[AGENT_REASON_BYTES];
};

struct fs_agent {
    struct fs *fs;
    pid_t holder; /* an orphan's parent is another: asked once, at the start */
    struct rpc_channel *channel;
    pthread_t thread;
    bool is_running; /* owner: who starts and stops */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* Guarded by lock, all below. */
    bool is_ending;
    bool is_open; /* the call: until its on_done */
    bool is_up;   /* and an order has come */
    bool is_told; /* an order has come since this server began */
    bool has_order;
    struct fs_order order;              /* the newest, not followed yet */
    char why[BASE_ERR_TEXT_BYTES + 32]; /* the call ended */
    uint64_t ordered;                   /* whose request it is */
    char request[FS_REQUEST_BYTES];
    char *layout;
    char trouble[BASE_ERR_TEXT_BYTES];
    struct agent_close closes[AGENT_MAX_CLOSES];
};

#define AGENT_LOCKED(agent)                                                    \
    __attribute__((cleanup(agent_unlock))) pthread_mutex_t *locked_ =          \
        &(agent)->lock;                                                        \
    (void)pthread_mutex_lock(locked_)

static inline void agent_unlock(pthread_mutex_t **lock)
{
    (void)pthread_mutex_unlock(*lock);
}

int64_t agent_now_ns(void); /* monotonic */

bool agent_is_interrupted(void);

/* Send what is to be said of attempts; lock held.  Returns when to look again,
 * INT64_MAX: when told. */
int64_t agent_send_closes(struct fs_agent *agent);
/* Is there something that was not said yet?  Lock held. */
bool agent_has_closes(const struct fs_agent *agent);
/* Say what a dead server had not said; before any thread is there. */
void agent_resume_closes(struct fs_agent *agent);
/* For `changed`, INT64_MAX: without a deadline; lock held. */
void agent_wait_until(struct fs_agent *agent, int64_t ns);

#endif
