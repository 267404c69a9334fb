/* Memory ahead of the writers.
 *
 * The first touch of a tmpfs page costs more than the copy into it.  So when a
 * step begins, a thread makes files with room for what the last save had, in
 * the order in which that was made, and a file that is created takes the one of
 * the same path, or one of the same directory: writing it is then a copy.  A
 * file that is created before its turn comes gets nothing: two at one file hinder
 * each other.
 *
 *   spare/I    room for item I, until it is taken; removed when the step is
 *              committed, or ends otherwise
 *
 * Only on tmpfs, and only when there is room for twice the last save.  What a
 * file has too much goes when its last writer closes it (saves_trim).  The thread
 * has the lowest priority: it costs what nobody else wants.
 *
 * All is guarded by the saves' lock, which the thread has not while it works on
 * bytes; the file that it is at stays its own until it has looked again. */
#include "fuse/saves_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/file.h"
#include "base/num.h"

enum {
    MIN_BYTES = 4 << 20, /* of a file for which it is worth it */
    CHUNK_BYTES = 32 << 20,
    MAX_ITEMS = 4096,
    MAX_DEPTH = 16,
};

struct ahead_item {
    char *path; /* below the step */
    uint64_t ino;
    uint64_t n_bytes;
    int fd; /* -1: not begun, or given away */
    bool is_taken;
};

struct saves_ahead {
    BASE_VEC(struct ahead_item) items; /* the thread's while it is busy */
    uint64_t serves;                   /* sequence of a step; 0: none */
    size_t current;                    /* that the thread is at */
    pthread_t thread;
    pthread_cond_t wake;
    bool has_thread;
    bool is_busy;
    bool ends;
};

/* What the last save had. */

static void items_done(struct saves_ahead *ahead)
{
    size_t i;

    for (i = 0; i < ahead->items.n; i++) {
        free(ahead->items.items[i].path);
    }
    base_vec_done(&ahead->items);
}

static void note_dir(struct fs_saves *saves,
                     struct saves_ahead *found,
                     const char *step,
                     const char *path,
                     unsigned depth);

static void note_entry(struct fs_saves *saves,
                       struct saves_ahead *found,
                       const char *step,
                       const char *path,
                       unsigned depth)
{
    BASE_AUTO_MEM char *full = base_path("%s/%s", step, path);
    struct ahead_item item = {.fd = -1};
    struct stat stat;

    if (full == NULL ||
        fstatat(saves->dir_fd, full, &stat, AT_SYMLINK_NOFOLLOW) != 0) {
        return;
    }
    if (S_ISDIR(stat.st_mode)) {
        note_dir(saves, found, step, path, depth + 1);
    } else if (stat.st_size >= MIN_BYTES && found->items.n < MAX_ITEMS) {
        item.path = strdup(path);
        item.ino = stat.st_ino;
        item.n_bytes = (uint64_t)stat.st_size;
        if (item.path == NULL || !base_vec_push(&found->items, item)) {
            free(item.path); /* it gets nothing */
        }
    }
}

static void note_dir(struct fs_saves *saves,
                     struct saves_ahead *found,
                     const char *step,
                     const char *path,
                     unsigned depth)
{
    BASE_AUTO_MEM char *full = base_path("%s/%s", step, path);
    struct base_err err;
    char **names;
    size_t n;
    size_t i;

    if (full == NULL || depth > MAX_DEPTH ||
        base_dir_list(saves->dir_fd, full, FS_SAVES_NODES, &names, &n, &err) !=
            BASE_OK) {
        return;
    }
    for (i = 0; i < n; i++) {
        BASE_AUTO_MEM char *child = *path != '\0'
                                        ? base_path("%s/%s", path, names[i])
                                        : strdup(names[i]);

        if (child != NULL) {
            note_entry(saves, found, step, child, depth);
        }
    }
    base_names_free(names, n);
}

static int by_ino(const void *a, const void *b)
{
    const struct ahead_item *x = a;
    const struct ahead_item *y = b;

    return x->ino < y->ino ? -1 : x->ino > y->ino;
}

void saves_ahead_note(struct fs_saves *saves, const char *step)
{
    struct saves_ahead *ahead = saves->ahead;
    struct saves_ahead found = {0};

    note_dir(saves, &found, step, "", 0);
    if (found.items.n > 0) {
        qsort(found.items.items, found.items.n, sizeof(*found.items.items),
              by_ino);
    }
    saves_lock(saves);
    if (!ahead->is_busy && ahead->serves == 0) {
        items_done(ahead);
        ahead->items.items = found.items.items;
        ahead->items.n = found.items.n;
        ahead->items.cap = found.items.cap;
        found.items.items = NULL;
        found.items.n = 0;
    }
    saves_unlock(saves);
    items_done(&found);
}

/* The thread.  Lock held, but where it says so. */

static void spare_name(size_t i, char ret[32])
{
    (void)snprintf(ret, 32, "spare/%zu", i);
}

static bool goes_on(const struct saves_ahead *ahead, uint64_t sequence)
{
    return !ahead->ends && ahead->serves == sequence;
}

/* False: there is no room for more. */
static bool
prepare(struct fs_saves *saves, struct ahead_item *item, uint64_t sequence)
{
    struct saves_ahead *ahead = saves->ahead;
    uint64_t done = 0;
    bool has_room = true;

    while (has_room && done < item->n_bytes && !item->is_taken &&
           goes_on(ahead, sequence)) {
        int fd = item->fd;
        uint64_t n = base_min_u64(CHUNK_BYTES, item->n_bytes - done);

        saves_unlock(saves);
        has_room =
            fallocate(fd, FALLOC_FL_KEEP_SIZE, (off_t)done, (off_t)n) == 0;
        done += n;
        saves_lock(saves);
    }
    return has_room;
}

static void prepare_all(struct fs_saves *saves, uint64_t sequence)
{
    struct saves_ahead *ahead = saves->ahead;
    bool has_room = true;
    char name[32];
    size_t i;

    for (i = 0; i < ahead->items.n && has_room && goes_on(ahead, sequence);
         i++) {
        struct ahead_item *item = &ahead->items.items[i];

        if (item->is_taken) {
            continue;
        }
        spare_name(i, name);
        item->fd =
            openat(saves->dir_fd, name,
                   O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (item->fd < 0) {
            return;
        }
        ahead->current = i;
        has_room = prepare(saves, item, sequence);
        ahead->current = SIZE_MAX;
        if (item->is_taken) { /* by a descriptor of its own */
            (void)close(item->fd);
            item->fd = -1;
        }
    }
}

/* What nobody took.  To free memory takes time: without the lock. */
static void clear(struct fs_saves *saves)
{
    struct saves_ahead *ahead = saves->ahead;
    char name[32];
    size_t i;

    for (i = 0; i < ahead->items.n; i++) {
        struct ahead_item *item = &ahead->items.items[i];
        int fd = item->fd;

        item->is_taken = false;
        item->fd = -1;
        if (fd >= 0) {
            spare_name(i, name);
            (void)unlinkat(saves->dir_fd, name, 0); /* else the next server */
            saves_unlock(saves);
            (void)close(fd); /* was not written */
            saves_lock(saves);
        }
    }
}

static void *work(void *ctx)
{
    struct fs_saves *saves = ctx;
    struct saves_ahead *ahead = saves->ahead;

    (void)setpriority(PRIO_PROCESS, (id_t)gettid(), 19); /* or as it is */
    saves_lock(saves);
    while (!ahead->ends) {
        uint64_t sequence = ahead->serves;

        if (sequence == 0) {
            (void)pthread_cond_wait(&ahead->wake, &saves->lock);
            continue;
        }
        ahead->is_busy = true;
        prepare_all(saves, sequence);
        while (goes_on(ahead, sequence)) {
            (void)pthread_cond_wait(&ahead->wake, &saves->lock);
        }
        clear(saves);
        ahead->is_busy = false;
    }
    saves_unlock(saves);
    return NULL;
}

/* For others. */

enum base_code saves_ahead_create(struct fs_saves *saves, struct base_err *err)
{
    saves->ahead = calloc(1, sizeof(*saves->ahead));
    if (saves->ahead == NULL) {
        return base_fail(err, BASE_NO_MEM, "no memory for saves");
    }
    saves->ahead->current = SIZE_MAX;
    (void)pthread_cond_init(&saves->ahead->wake, NULL); /* never fails here */
    BASE_TRY(
        base_dir_remove(saves->dir_fd, "spare", err)); /* a dead server's */
    if (mkdirat(saves->dir_fd, "spare", 0700) != 0) {
        return base_fail_errno(err, errno, "cannot make spare in staging");
    }
    return BASE_OK;
}

void saves_ahead_free(struct fs_saves *saves)
{
    struct saves_ahead *ahead = saves->ahead;

    if (ahead == NULL) {
        return;
    }
    saves_lock(saves);
    ahead->ends = true;
    (void)pthread_cond_broadcast(&ahead->wake);
    saves_unlock(saves);
    if (ahead->has_thread) {
        (void)pthread_join(ahead->thread, NULL); /* ours, not joined yet */
    }
    items_done(ahead);
    (void)pthread_cond_destroy(&ahead->wake);
    free(ahead);
    saves->ahead = NULL;
}

static bool is_worth_it(const struct fs_saves *saves, uint64_t room_bytes)
{
    const struct saves_ahead *ahead = saves->ahead;
    uint64_t n_bytes = 0;
    struct statfs fs;
    uint64_t room;
    size_t i;

    for (i = 0; i < ahead->items.n; i++) {
        n_bytes += ahead->items.items[i].n_bytes;
    }
    if (n_bytes == 0 || fstatfs(saves->dir_fd, &fs) != 0 ||
        fs.f_type != TMPFS_MAGIC) {
        return false;
    }
    room = (uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize;
    return room / 2 > n_bytes && room_bytes / 2 > n_bytes;
}

void saves_ahead_begin(struct fs_saves *saves,
                       const struct saved_step *step,
                       uint64_t room_bytes)
{
    struct saves_ahead *ahead = saves->ahead;

    if (ahead->is_busy || ahead->serves != 0 ||
        !is_worth_it(saves, room_bytes)) {
        return;
    }
    if (!ahead->has_thread) {
        ahead->has_thread =
            pthread_create(&ahead->thread, NULL, work, saves) == 0;
    }
    if (ahead->has_thread) {
        ahead->serves = step->sequence;
        (void)pthread_cond_broadcast(&ahead->wake);
    }
}

void saves_ahead_end(struct fs_saves *saves, const struct saved_step *step)
{
    struct saves_ahead *ahead = saves->ahead;

    if (ahead->serves == step->sequence) {
        ahead->serves = 0;
        (void)pthread_cond_broadcast(&ahead->wake);
    }
}

/* The item for a new file: its own, or one of its directory (who renames later
 * begins with another name).  NULL: none. */
static struct ahead_item *item_for(struct saves_ahead *ahead, const char *path)
{
    const char *last = strrchr(path, '/');
    size_t n_dir = last != NULL ? (size_t)(last - path) + 1 : 0;
    struct ahead_item *other = NULL;
    size_t i;

    for (i = 0; i < ahead->items.n; i++) {
        struct ahead_item *item = &ahead->items.items[i];

        if (item->is_taken) {
            continue;
        }
        if (strcmp(item->path, path) == 0) {
            return item;
        }
        if (other == NULL && strncmp(item->path, path, n_dir) == 0 &&
            strchr(item->path + n_dir, '/') == NULL) {
            other = item;
        }
    }
    return other;
}

int saves_ahead_take(struct fs_saves *saves,
                     const struct saved_step *step,
                     const char *path)
{
    struct saves_ahead *ahead = saves->ahead;
    const char *below = strchr(path, '/');
    struct ahead_item *item = NULL;
    char name[32];
    size_t i;
    int fd;

    if (ahead->serves == step->sequence && below != NULL) {
        item = item_for(ahead, below + 1);
    }
    if (item == NULL) {
        return -1;
    }
    item->is_taken = true;
    if (item->fd < 0) {
        return -1; /* its turn had not come */
    }
    i = (size_t)(item - ahead->items.items);
    spare_name(i, name);
    if (renameat2(saves->dir_fd, name, saves->dir_fd, path, RENAME_NOREPLACE) !=
        0) {
        item->is_taken = false;
        return -1;
    }
    fd = ahead->current == i ? fcntl(item->fd, F_DUPFD_CLOEXEC, 0) : item->fd;
    if (ahead->current != i) {
        item->fd = -1;
    }
    if (fd < 0) { /* it is there all the same */
        fd = openat(saves->dir_fd, path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    }
    if (fd >= 0) {
        (void)futimens(fd, NULL); /* it is made now: ours */
    }
    return fd;
}

void saves_trim(int fd)
{
    struct stat stat;

    if (fstat(fd, &stat) == 0 && ftruncate(fd, stat.st_size) != 0) {
        return; /* it has some memory too much */
    }
}
