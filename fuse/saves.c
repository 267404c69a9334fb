#include "fuse/saves.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "fuse/saves_impl.h"

int64_t saves_now_ns(void)
{
    struct timespec now = {0};

    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail */
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Of what reading and writing files gives. */
int saves_errno(enum base_code code)
{
    if (code == BASE_OK) {
        return 0;
    }
    return code == BASE_NO_SPACE ? ENOSPC : code == BASE_NO_MEM ? ENOMEM : EIO;
}

void saves_tell(const struct fs_saves *saves,
                const char *path,
                const char *reason)
{
    if (saves->guard.tell != NULL) {
        saves->guard.tell(saves->guard.ctx, path, reason);
    }
}

static bool init_locks(struct fs_saves *saves)
{
    pthread_condattr_t attr;
    bool is_done;

    if (pthread_condattr_init(&attr) != 0) {
        return false;
    }
    is_done = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0 &&
              pthread_cond_init(&saves->idle, &attr) == 0;
    (void)pthread_condattr_destroy(&attr);
    if (is_done) { /* these cannot fail here */
        (void)pthread_mutex_init(&saves->lock, NULL);
        (void)pthread_mutex_init(&saves->room_lock, NULL);
        (void)pthread_mutex_init(&saves->list_lock, NULL);
    }
    return is_done;
}

enum base_code
fs_saves_create(int dir_fd, struct fs_saves **ret, struct base_err *err)
{
    struct fs_saves *made = calloc(1, sizeof(*made));
    BASE_AUTO(fs_saves) saves = NULL;

    if (made == NULL || !init_locks(made)) {
        free(made);
        return base_fail(err, BASE_NO_MEM, "no memory for saves");
    }
    saves = made;
    saves->dir_fd = dir_fd;
    saves->next_sequence = 1;
    BASE_TRY(fs_ledger_open(dir_fd, &saves->ledger, err));
    BASE_TRY(saves_restore(saves, err));
    saves->has_leases = saves_has_leases(dir_fd);
    *ret = base_steal(&saves);
    return BASE_OK;
}

static void free_nodes(struct fs_saves *saves)
{
    size_t i;

    for (i = 0; i < saves->n_chains; i++) {
        while (saves->chains[i] != NULL) {
            struct saved_node *node = saves->chains[i];

            saves->chains[i] = node->next;
            if (node->fd >= 0) {
                (void)close(node->fd); /* nothing was buffered */
            }
            free(node->name);
            free(node);
        }
    }
    free(saves->chains);
}

void fs_saves_free(struct fs_saves *saves)
{
    uint32_t i;

    if (saves == NULL) {
        return;
    }
    free_nodes(saves);
    for (i = 0; i < saves->n_steps; i++) {
        saves_step_free(saves->steps[i]);
    }
    for (i = 0; i < FS_SAVED_LISTINGS; i++) {
        free(saves->listings[i].entries);
        free(saves->listings[i].names);
    }
    fs_ledger_free(saves->ledger);
    (void)pthread_cond_destroy(&saves->idle);
    (void)pthread_mutex_destroy(&saves->lock);
    (void)pthread_mutex_destroy(&saves->room_lock);
    (void)pthread_mutex_destroy(&saves->list_lock);
    free(saves);
}

void fs_saves_set_guard(struct fs_saves *saves,
                        const struct fs_saves_guard *guard)
{
    saves->guard = *guard;
}

void fs_saves_set_backing(struct fs_saves *saves,
                          const struct fs_saves_backing *backing)
{
    saves->backing = *backing;
}

/* Turns. */

void fs_turn_begin(struct fs_saves *saves, uint64_t unique, struct fs_turn *ret)
{
    /* A request that comes again has the highest bit set. */
    unique &= ~(UINT64_C(1) << 63);
    *ret = (struct fs_turn){.saves = saves, .entry = FS_LEDGER_NONE};
    if (unique != 0) {
        ret->entry = fs_ledger_begin(saves->ledger, unique, &ret->is_again,
                                     &ret->is_counted);
    }
}

void fs_turn_end(struct fs_turn *turn)
{
    fs_ledger_end(turn->saves->ledger, turn->entry);
}

/* What is known of a node. */

void fs_saves_forget(struct fs_saves *saves, uint64_t ino, uint64_t n_lookups)
{
    struct saved_node *node;
    int fd = -1;

    saves_lock(saves);
    node = saves_find(saves, ino);
    if (node != NULL && node->slot != FS_LEDGER_NONE) {
        const struct saved_delta delta = {
            .lookups =
                n_lookups > INT64_MAX ? INT64_MIN + 1 : -(int64_t)n_lookups,
        };

        (void)saves_count(saves, node, NULL, &delta); /* it has a slot */
        fd = saves_collect(saves, node);
    }
    saves_unlock(saves);
    if (fd >= 0) {
        (void)close(fd); /* nothing was buffered */
    }
}

int fs_saves_attr(struct fs_saves *saves, uint64_t ino, struct stat *ret)
{
    const struct saved_node *node;
    const struct saved_step *step;
    const char *name;
    int rc = ESTALE;

    saves_lock(saves);
    if ((ino & FS_SAVED_LINK_BIT) != 0) {
        step = saves_link_step(saves, ino, &name);
        if (step != NULL) {
            saves_link_attr(step, ino, name, ret);
            rc = 0;
        }
    } else {
        node = saves_find(saves, ino);
        if (node != NULL) {
            rc = saves_node_attr(saves, node, ret);
        }
    }
    saves_unlock(saves);
    return rc;
}

int fs_saves_path(struct fs_saves *saves, uint64_t ino, char *ret, size_t room)
{
    const struct saved_node *node;
    struct saved_path path;
    int rc = ENOENT;

    saves_lock(saves);
    node = saves_find(saves, ino);
    if (node != NULL) {
        rc = saves_path(node, NULL, &path);
    }
    if (rc == 0) {
        const char *rest = strchr(path.text, '/');
        bool is_open = node->step != NULL && !saves_is_sealed(node);

        if (node->is_gone || rest == NULL) {
            rest = "";
        }
        if (node->step != NULL) {
            (void)snprintf(ret, room, "%" PRIu64 "%s%s", node->step->step,
                           is_open ? ".tmp" : "", rest);
        } else {
            (void)snprintf(ret, room, "a removed file");
        }
    }
    saves_unlock(saves);
    return rc;
}
