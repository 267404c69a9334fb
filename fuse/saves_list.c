/* Listing a directory.
 *
 * A position is the number of a file: entries come in the order of their
 * numbers, so that positions stay right while others come and go, on every file
 * system.  What was read for the first entries is kept for the next ones. */
#include "fuse/saves_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

/* Reading. */

static void listing_done(struct saved_listing *listing)
{
    free(listing->entries);
    free(listing->names);
    *listing = (struct saved_listing){0};
}

static int by_position(const void *a, const void *b)
{
    const struct saved_entry *x = a;
    const struct saved_entry *y = b;

    return x->position < y->position ? -1 : x->position > y->position;
}

static mode_t type_of(int fd, const struct dirent *entry)
{
    struct stat stat;

    if (entry->d_type != DT_UNKNOWN) {
        return DTTOIF((mode_t)entry->d_type);
    }
    return fstatat(fd, entry->d_name, &stat, AT_SYMLINK_NOFOLLOW) == 0
               ? stat.st_mode & S_IFMT
               : 0;
}

struct growing {
    BASE_VEC(struct saved_entry) entries;
    BASE_VEC(char) names;
};

static bool add(struct growing *to, const char *name, uint64_t ino, mode_t type)
{
    size_t n = strlen(name) + 1;
    const struct saved_entry entry = {
        .position = ino & ~(FS_SAVED_BIT | FS_SAVED_LINK_BIT),
        .ino = ino,
        .name = to->names.n,
        .type = type,
    };

    if (!base_vec_reserve(&to->names, to->names.n + n) ||
        !base_vec_push(&to->entries, entry)) {
        return false;
    }
    memcpy(to->names.items + to->names.n, name, n);
    to->names.n += n;
    return true;
}

static bool is_dots(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static int read_dir(int dir_fd, struct growing *to)
{
    DIR *dir = fdopendir(dir_fd);
    const struct dirent *entry;
    int rc = 0;

    if (dir == NULL) {
        rc = errno;
        (void)close(dir_fd); /* was only to be read */
        return rc;
    }
    while (rc == 0) {
        errno = 0;
        entry = readdir(dir); /* NOLINT(concurrency-mt-unsafe): our own DIR */
        if (entry == NULL) {
            rc = errno;
            break;
        }
        if (!is_dots(entry->d_name) &&
            !add(to, entry->d_name, FS_SAVED_BIT | entry->d_ino,
                 type_of(dir_fd, entry))) {
            rc = ENOMEM;
        }
    }
    (void)closedir(dir); /* was only read */
    return rc;
}

/* Lock held. */
static int list_links(const struct saved_step *step, struct growing *to)
{
    size_t i;

    for (i = 0; i < step->n_names; i++) {
        if (!add(to, step->names[i], saves_link_ino(step, step->names[i]),
                 S_IFLNK)) {
            return ENOMEM;
        }
    }
    return 0;
}

/* *ret_fd: a directory that is still to be read, or -1. */
static int
open_dir(struct fs_saves *saves, uint64_t ino, struct growing *to, int *ret_fd)
{
    const struct saved_node *dir = saves_find(saves, ino);
    struct saved_path path;
    int rc;

    *ret_fd = -1;
    if (dir == NULL || !dir->is_dir) {
        return dir == NULL ? ESTALE : ENOTDIR;
    }
    if (saves_is_sealed(dir) && dir->step->root == dir) {
        return list_links(dir->step, to);
    }
    rc = saves_path(dir, NULL, &path);
    if (rc == ENOENT) {
        return 0; /* removed: empty */
    }
    if (rc == 0) {
        *ret_fd = openat(saves->dir_fd, path.text,
                         O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        rc = *ret_fd < 0 && errno != ENOENT ? errno : 0;
    }
    return rc;
}

static int
read_listing(struct fs_saves *saves, uint64_t ino, struct saved_listing *ret)
{
    struct growing to = {0};
    int fd;
    int rc;

    saves_lock(saves);
    rc = open_dir(saves, ino, &to, &fd);
    saves_unlock(saves);
    if (rc == 0 && fd >= 0) {
        rc = read_dir(fd, &to);
    }
    if (rc != 0) {
        base_vec_done(&to.entries);
        base_vec_done(&to.names);
        return rc;
    }
    if (to.entries.n > 0) {
        qsort(to.entries.items, to.entries.n, sizeof(*to.entries.items),
              by_position);
    }
    *ret = (struct saved_listing){
        .dir = ino,
        .n = to.entries.n,
        .entries = to.entries.items,
        .names = to.names.items,
    };
    return 0;
}

/* Keeping.  list_lock held. */

static struct saved_listing *find_kept(struct fs_saves *saves, uint64_t ino)
{
    unsigned i;

    for (i = 0; i < FS_SAVED_LISTINGS; i++) {
        struct saved_listing *listing = &saves->listings[i];

        if (listing->used != 0 && listing->dir == ino) {
            return listing;
        }
    }
    return NULL;
}

/* The place of the one that was not used for longest; NULL: all are in use. */
static struct saved_listing *find_place(struct fs_saves *saves)
{
    struct saved_listing *oldest = NULL;
    unsigned i;

    for (i = 0; i < FS_SAVED_LISTINGS; i++) {
        struct saved_listing *listing = &saves->listings[i];

        if (listing->n_users == 0 &&
            (oldest == NULL || listing->used < oldest->used)) {
            oldest = listing;
        }
    }
    return oldest;
}

/* What is kept may still be in use: then this one is not kept. */
static struct saved_listing *keep(struct fs_saves *saves,
                                  struct saved_listing *made)
{
    struct saved_listing *at = find_kept(saves, made->dir);

    if (at != NULL && at->n_users > 0) {
        at->dir = 0; /* nobody finds it any more */
        at = NULL;
    }
    if (at == NULL) {
        at = find_place(saves);
    }
    if (at == NULL) {
        return made;
    }
    listing_done(at);
    *at = *made;
    *made = (struct saved_listing){0};
    return at;
}

static size_t first_after(const struct saved_listing *listing,
                          uint64_t position)
{
    size_t low = 0;
    size_t high = listing->n;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (listing->entries[middle].position <= position) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static void visit(const struct saved_listing *listing,
                  uint64_t position,
                  fs_saves_each_fn each,
                  void *ctx)
{
    size_t i;

    for (i = first_after(listing, position); i < listing->n; i++) {
        const struct saved_entry *entry = &listing->entries[i];

        if (!each(ctx, listing->names + entry->name, entry->ino, entry->type,
                  entry->position)) {
            return;
        }
    }
}

int fs_saves_list(struct fs_saves *saves,
                  uint64_t dir,
                  uint64_t position,
                  fs_saves_each_fn each,
                  void *ctx)
{
    struct saved_listing made = {0};
    struct saved_listing *listing = NULL;
    int rc;

    (void)pthread_mutex_lock(&saves->list_lock);
    if (position != 0) {
        listing = find_kept(saves, dir);
    }
    if (listing == NULL) {
        (void)pthread_mutex_unlock(&saves->list_lock);
        rc = read_listing(saves, dir, &made);
        if (rc != 0) {
            return rc;
        }
        (void)pthread_mutex_lock(&saves->list_lock);
        listing = keep(saves, &made);
    }
    listing->n_users++;
    listing->used = ++saves->n_listed;
    (void)pthread_mutex_unlock(&saves->list_lock);

    visit(listing, position, each, ctx);

    (void)pthread_mutex_lock(&saves->list_lock);
    listing->n_users--;
    if (listing->n_users == 0 && listing->dir == 0) {
        listing_done(listing);
    }
    (void)pthread_mutex_unlock(&saves->list_lock);
    listing_done(&made);
    return 0;
}
