#include "fuse/saves_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"

enum { STEP_NAME_BYTES = 24, DROP_NAME_BYTES = 48, MAX_NAMES = 1 << 19 };

/* How often it is looked whether a file is still mapped. */
enum { MIN_LOOK_NS = 1000000, MAX_LOOK_NS = 50000000, NS_PER_S = 1000000000 };

static void name_of(const struct saved_step *step, char ret[STEP_NAME_BYTES])
{
    (void)snprintf(ret, STEP_NAME_BYTES, "%" PRIu64, step->step);
}

/* The set of steps.  Lock held. */

static bool is_before(const struct saved_step *a, const struct saved_step *b)
{
    return a->step != b->step ? a->step < b->step
                              : a->generation < b->generation;
}

/* The one that is not sealed; NULL: none. */
struct saved_step *saves_step_open(const struct fs_saves *saves, uint64_t step)
{
    uint32_t i;

    for (i = 0; i < saves->n_steps; i++) {
        if (saves->steps[i]->step == step &&
            saves->steps[i]->state != FS_STEP_SEALED) {
            return saves->steps[i];
        }
    }
    return NULL;
}

struct saved_step *saves_step_that(const struct fs_saves *saves,
                                   uint64_t sequence)
{
    uint32_t i;

    for (i = 0; i < saves->n_steps; i++) {
        if (saves->steps[i]->sequence == sequence) {
            return saves->steps[i];
        }
    }
    return NULL;
}

static void
lose_step(struct fs_saves *saves, struct saved_node *node, void *step)
{
    if (node->step == step) {
        saves_node_detach(saves, node);
    }
}

/* Without its files. */
static void forget_step(struct fs_saves *saves, struct saved_step *step)
{
    uint32_t i = 0;

    while (saves->steps[i] != step) {
        i++;
    }
    saves->n_steps--;
    memmove(&saves->steps[i], &saves->steps[i + 1],
            (saves->n_steps - i) * sizeof(saves->steps[0]));
    saves_record_remove(saves->dir_fd, step);
    saves->n_entries -= step->n_entries;
    saves_each(saves, lose_step, step);
    saves_collect_all(saves);
    saves_step_free(step);
}

/* Make place by what was saved longest ago. */
static bool forget_oldest(struct fs_saves *saves)
{
    uint32_t i;

    for (i = 0; i < saves->n_steps; i++) {
        if (saves->steps[i]->state == FS_STEP_SEALED) {
            forget_step(saves, saves->steps[i]);
            return true;
        }
    }
    return false;
}

int saves_step_insert(struct fs_saves *saves, struct saved_step *step)
{
    struct stat stat;
    uint64_t generation;
    uint32_t i;
    int rc = saves_stat(step->record_fd, "", &stat, &generation);

    if (rc != 0) {
        return rc;
    }
    if (saves->n_steps == FS_SAVES_STEPS && !forget_oldest(saves)) {
        return ENOSPC;
    }
    step->root = saves_find(saves, FS_SAVED_BIT | stat.st_ino);
    if (step->root == NULL) {
        step->root =
            saves_node_new(saves, FS_SAVED_BIT | stat.st_ino, generation, true);
    }
    if (step->root == NULL) {
        return ENOMEM;
    }
    step->root->generation = generation;
    step->root->is_dir = true;
    step->root->step = step;
    step->time = stat.st_mtim;
    step->touched_ns = saves_now_ns();
    for (i = saves->n_steps; i > 0 && is_before(step, saves->steps[i - 1]);
         i--) {
        saves->steps[i] = saves->steps[i - 1];
    }
    saves->steps[i] = step;
    saves->n_steps++;
    if (step->sequence >= saves->next_sequence) {
        saves->next_sequence = step->sequence + 1;
    }
    return 0;
}

/* Beginning and ending. */

/* Is there room for a step of that number?  Earlier generations' may be there,
 * once their directory is not. */
static int may_begin(struct fs_saves *saves, uint64_t generation, uint64_t step)
{
    char name[STEP_NAME_BYTES];
    struct stat stat;
    bool is_there;
    uint32_t i;

    (void)snprintf(name, sizeof(name), "%" PRIu64, step);
    is_there = fstatat(saves->dir_fd, name, &stat, AT_SYMLINK_NOFOLLOW) == 0;
    for (i = 0; i < saves->n_steps; i++) {
        struct saved_step *other = saves->steps[i];

        if (other->step != step) {
            continue;
        }
        if (other->state != FS_STEP_SEALED || other->generation == generation) {
            return EEXIST;
        }
        if (is_there) {
            return EBUSY;
        }
        other->is_detached = true;
    }
    return is_there ? EEXIST : 0;
}

static int begin(struct fs_saves *saves,
                 uint64_t generation,
                 uint64_t number,
                 uint64_t *ret_ino)
{
    struct saved_step *step = calloc(1, sizeof(*step));
    char name[STEP_NAME_BYTES];
    struct stat stat;
    int rc;

    if (step == NULL) {
        return ENOMEM;
    }
    step->step = number;
    step->generation = generation;
    step->sequence = saves->next_sequence;
    rc = saves_record_make(saves->dir_fd, step, &stat);
    if (rc != 0) {
        saves_step_free(step);
        return rc;
    }
    name_of(step, name);
    if (mkdirat(saves->dir_fd, name, 0700) != 0) {
        rc = errno;
    } else {
        rc = saves_step_insert(saves, step);
        if (rc != 0) {
            (void)unlinkat(saves->dir_fd, name,
                           AT_REMOVEDIR); /* was made now */
        }
    }
    if (rc != 0) {
        saves_record_remove(saves->dir_fd, step);
        saves_step_free(step);
        return rc;
    }
    *ret_ino = step->root->ino;
    return 0;
}

int fs_saves_begin(struct fs_saves *saves,
                   uint64_t generation,
                   uint64_t step,
                   uint64_t *ret_ino)
{
    int rc = saves_charge(saves, 0);

    if (rc != 0) {
        return rc;
    }
    saves_lock(saves);
    rc = generation < saves->revoked ? EROFS
                                     : may_begin(saves, generation, step);
    if (rc == 0) {
        rc = begin(saves, generation, step, ret_ino);
    }
    saves_unlock(saves);
    return rc;
}

int fs_saves_remove(struct fs_saves *saves, uint64_t number)
{
    struct saved_step *step;
    char name[STEP_NAME_BYTES];
    int rc = 0;

    saves_lock(saves);
    step = saves_step_open(saves, number);
    if (step == NULL) {
        rc = ENOENT;
    } else if (step->state == FS_STEP_FROZEN) {
        rc = EBUSY;
    } else {
        name_of(step, name);
        if (unlinkat(saves->dir_fd, name, AT_REMOVEDIR) != 0) {
            rc = errno;
        } else {
            forget_step(saves, step);
        }
    }
    saves_unlock(saves);
    return rc;
}

/* What the kernel knows lives on. */
static void
save_file(struct fs_saves *saves, struct saved_node *node, void *ctx)
{
    if (node->step == ctx && !node->is_dir && saves_is_known(saves, node)) {
        (void)saves_to_gone(saves, node,
                            false); /* else it goes with the rest */
    }
}

static int
drop(struct fs_saves *saves, struct saved_step *step, char ret[DROP_NAME_BYTES])
{
    char name[STEP_NAME_BYTES];

    if (step->state == FS_STEP_FROZEN) {
        return EBUSY;
    }
    saves_each(saves, save_file, step);
    name_of(step, name);
    (void)snprintf(ret, DROP_NAME_BYTES, "gone/drop.%" PRIu64, step->sequence);
    if (renameat(saves->dir_fd, name, saves->dir_fd, ret) != 0 &&
        errno != ENOENT) {
        return errno;
    }
    forget_step(saves, step);
    return 0;
}

int fs_saves_drop(struct fs_saves *saves, uint64_t number)
{
    struct saved_step *step;
    char name[DROP_NAME_BYTES];
    struct base_err err;
    int rc;

    saves_lock(saves);
    step = saves_step_open(saves, number);
    rc = step != NULL ? drop(saves, step, name) : ENOENT;
    saves_unlock(saves);
    if (rc == 0 && base_dir_remove(saves->dir_fd, name, &err) != BASE_OK) {
        saves_tell(saves, name, err.text); /* the mount's end removes it */
    }
    return rc;
}

/* Committing. */

struct open_file {
    const struct saved_step *step;
    const struct saved_node *node;
};

static void
find_writer(struct fs_saves *saves, struct saved_node *node, void *ctx)
{
    struct open_file *file = ctx;

    if (node->step == file->step && saves_counts(saves, node)->n_write > 0) {
        file->node = node;
    }
}

static void find_map(struct fs_saves *saves, struct saved_node *node, void *ctx)
{
    struct open_file *file = ctx;

    if (file->node == NULL && node->step == file->step &&
        saves_is_mapped(saves, node)) {
        file->node = node;
    }
}

static bool is_busy(const struct saved_step *step)
{
    return step->n_writers > 0 || step->n_changes > 0;
}

/* Lock held, but while it waits: for a writer's end, not past @end_ns. */
static void wait_changed(struct fs_saves *saves, int64_t end_ns)
{
    const struct timespec until = {
        .tv_sec = (time_t)(end_ns / NS_PER_S),
        .tv_nsec = (long)(end_ns % NS_PER_S),
    };

    (void)pthread_cond_timedwait(&saves->idle, &saves->lock, &until);
}

/* Wait until nobody can write to @step's files.  Nobody tells of the end of a
 * map: that is looked for. */
static int wait_unwritten(struct fs_saves *saves,
                          const struct saved_step *step,
                          int64_t end_ns,
                          char **ret_path)
{
    struct open_file file = {.step = step};
    int64_t look_ns = MIN_LOOK_NS;
    struct saved_path path;

    for (;;) {
        file.node = NULL;
        if (!is_busy(step)) {
            saves_each(saves, find_map, &file);
            if (file.node == NULL) {
                return 0;
            }
        }
        if (saves->is_ending || saves_now_ns() >= end_ns) {
            break;
        }
        if (is_busy(step)) {
            wait_changed(saves, end_ns);
        } else {
            wait_changed(saves, saves_now_ns() + look_ns);
            look_ns = 2 * look_ns < MAX_LOOK_NS ? 2 * look_ns : MAX_LOOK_NS;
        }
    }
    if (file.node == NULL) {
        saves_each(saves, find_writer, &file);
    }
    if (file.node != NULL && saves_path(file.node, NULL, &path) == 0) {
        *ret_path = strdup(path.text);
    }
    return EBUSY;
}

static int freeze(struct fs_saves *saves,
                  struct saved_step *step,
                  int64_t wait_ns,
                  char **ret_path)
{
    int rc = 0;

    if (step->state == FS_STEP_FROZEN && !step->is_orphan) {
        return EBUSY;
    }
    if (step->generation < saves->revoked) {
        return EROFS;
    }
    if (step->is_full) {
        return ENOSPC;
    }
    step->state = FS_STEP_FROZEN; /* which also keeps it there */
    step->is_orphan = false;
    rc = wait_unwritten(saves, step, saves_now_ns() + wait_ns, ret_path);
    if (rc == 0) {
        rc = saves_record_write(step);
    }
    if (rc != 0) {
        step->state = FS_STEP_OPEN;
    }
    return rc;
}

int fs_saves_freeze(struct fs_saves *saves,
                    uint64_t number,
                    int64_t wait_ns,
                    char **ret_path)
{
    struct saved_step *step;
    int rc;

    *ret_path = NULL;
    saves_lock(saves);
    step = saves_step_open(saves, number);
    rc = step != NULL ? freeze(saves, step, wait_ns, ret_path) : ENOENT;
    saves_unlock(saves);
    return rc;
}

void fs_saves_end_waits(struct fs_saves *saves)
{
    saves_lock(saves);
    saves->is_ending = true;
    (void)pthread_cond_broadcast(&saves->idle);
    saves_unlock(saves);
}

void fs_saves_thaw(struct fs_saves *saves, uint64_t number)
{
    struct saved_step *step;

    saves_lock(saves);
    step = saves_step_open(saves, number);
    if (step != NULL && step->state == FS_STEP_FROZEN) {
        step->state = FS_STEP_OPEN;
        step->is_orphan = false;
        saves_touched(step);
        (void)saves_record_write(step); /* else the next server thaws it */
    }
    saves_unlock(saves);
}

static bool is_shown(const char *name)
{
    size_t n = strlen(name);

    return name[0] != '.' && n <= 255 &&
           (n < 4 || strcmp(name + n - 4, ".tmp") != 0);
}

/* What a version has, too, of the names at the top. */
static void find_names(const struct fs_saves *saves, struct saved_step *step)
{
    char name[STEP_NAME_BYTES];
    struct base_err err;
    size_t n_shown = 0;
    size_t i;

    name_of(step, name);
    if (base_dir_list(saves->dir_fd, name, MAX_NAMES, &step->names,
                      &step->n_names, &err) != BASE_OK) {
        step->names = NULL; /* they can be looked up, if not listed */
        step->n_names = 0;
        return;
    }
    for (i = 0; i < step->n_names; i++) {
        if (is_shown(step->names[i])) {
            step->names[n_shown++] = step->names[i];
        } else {
            free(step->names[i]);
        }
    }
    step->n_names = n_shown;
}

/* Its name in staging goes when the save is finished. */
static void
keep_file(struct fs_saves *saves, struct saved_node *node, void *ctx)
{
    if (node->step == ctx && !node->is_dir && saves_is_known(saves, node)) {
        (void)saves_to_gone(saves, node, true); /* an open one lives on so */
    }
}

void fs_saves_seal(struct fs_saves *saves, uint64_t number, uint64_t version)
{
    struct saved_step *step;

    saves_lock(saves);
    step = saves_step_open(saves, number);
    if (step != NULL) {
        find_names(saves, step);
        saves_each(saves, keep_file, step);
        step->version = version;
        step->state = FS_STEP_SEALED;
        step->is_orphan = false;
        saves->n_entries -= step->n_entries;
        step->n_entries = 0;
        (void)clock_gettime(CLOCK_REALTIME, &step->time); /* cannot fail */
        (void)saves_record_write(step); /* else it is committed once more,
                                           which is the same version */
    }
    saves_unlock(saves);
}

int fs_saves_set_attempt(struct fs_saves *saves,
                         uint64_t number,
                         uint64_t attempt)
{
    struct saved_step *step;
    int rc = ENOENT;

    saves_lock(saves);
    step = saves_step_open(saves, number);
    if (step != NULL) {
        step->attempt = attempt;
        rc = saves_record_write(step);
    }
    saves_unlock(saves);
    return rc;
}

void fs_saves_revoke(struct fs_saves *saves, uint64_t generation)
{
    saves_lock(saves);
    if (generation > saves->revoked) {
        saves->revoked = generation;
    }
    saves_unlock(saves);
}

/* What is known of them. */

struct clocks {
    int64_t wall_ns;
    int64_t monotonic_ns;
};

static void
look_at_writer(struct fs_saves *saves, struct saved_node *node, void *ctx)
{
    const struct clocks *now = ctx;
    struct stat stat;
    int64_t ago_ns;

    if (node->step == NULL || saves_counts(saves, node)->n_write == 0 ||
        saves_node_attr(saves, node, &stat) != 0) {
        return;
    }
    ago_ns = now->wall_ns -
             ((int64_t)stat.st_mtim.tv_sec * 1000000000 + stat.st_mtim.tv_nsec);
    if (ago_ns < 0) {
        ago_ns = 0; /* somebody set it */
    }
    if (now->monotonic_ns - ago_ns > node->step->touched_ns) {
        node->step->touched_ns = now->monotonic_ns - ago_ns;
    }
}

/* Lock held. */
void saves_look_at_writers(struct fs_saves *saves)
{
    struct clocks now = {.monotonic_ns = saves_now_ns()};
    struct timespec wall = {0};
    uint32_t n_writers = 0;
    uint32_t i;

    for (i = 0; i < saves->n_steps; i++) {
        n_writers += saves->steps[i]->n_writers;
    }
    if (n_writers > 0) {
        (void)clock_gettime(CLOCK_REALTIME, &wall); /* cannot fail */
        now.wall_ns = (int64_t)wall.tv_sec * 1000000000 + wall.tv_nsec;
        saves_each(saves, look_at_writer, &now);
    }
}

static struct fs_step describe(const struct saved_step *step)
{
    return (struct fs_step){
        .step = step->step,
        .ino = step->root->ino,
        .generation = step->generation,
        .state = step->state,
        .is_full = step->is_full,
        .version = step->version,
        .attempt = step->attempt,
        .n_writers = step->n_writers,
        .touched_ns = step->touched_ns,
    };
}

uint32_t
fs_saves_steps(struct fs_saves *saves, struct fs_step *ret, uint32_t max)
{
    uint32_t n;

    saves_lock(saves);
    for (n = 0; n < saves->n_steps && n < max; n++) {
        ret[n] = describe(saves->steps[n]);
    }
    saves_unlock(saves);
    return n;
}

int fs_saves_step_of(struct fs_saves *saves, uint64_t ino, struct fs_step *ret)
{
    const struct saved_step *step = NULL;
    const struct saved_node *node;
    const char *name;

    saves_lock(saves);
    if ((ino & FS_SAVED_LINK_BIT) != 0) {
        step = saves_link_step(saves, ino, &name);
    } else {
        node = saves_find(saves, ino);
        step = node != NULL ? node->step : NULL;
    }
    if (step != NULL) {
        *ret = describe(step);
    }
    saves_unlock(saves);
    return step != NULL ? 0 : ENOENT;
}

int fs_saves_step_node(struct fs_saves *saves,
                       struct fs_turn *turn,
                       uint64_t ino,
                       struct fs_saved *ret)
{
    const struct saved_delta one = {.lookups = 1};
    struct saved_node *node;
    int rc = ENOENT;

    saves_lock(saves);
    node = saves_find(saves, ino);
    if (node != NULL) {
        ret->ino = node->ino;
        ret->generation = node->generation;
        rc = saves_node_attr(saves, node, &ret->attr);
        if (rc == 0) {
            rc = saves_count(saves, node, turn, &one);
        }
    }
    saves_unlock(saves);
    return rc;
}
