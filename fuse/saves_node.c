/* The table of nodes, and what a node's path and attributes are.
 *
 * A node is there while the kernel knows it, while it is open or pinned, and
 * while a node below it is there.  A file has one name, or none. */
#include "fuse/saves_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

enum { FIRST_CHAINS = 1024 };

/* The table. */

static size_t chain_of(const struct fs_saves *saves, uint64_t ino)
{
    return (size_t)(ino * UINT64_C(0x9e3779b97f4a7c15) >> 32) &
           (saves->n_chains - 1);
}

struct saved_node *saves_find(const struct fs_saves *saves, uint64_t ino)
{
    struct saved_node *node;

    if (saves->n_chains == 0) {
        return NULL;
    }
    node = saves->chains[chain_of(saves, ino)];
    while (node != NULL && node->ino != ino) {
        node = node->next;
    }
    return node;
}

static void chain_add(struct fs_saves *saves, struct saved_node *node)
{
    size_t chain = chain_of(saves, node->ino);

    node->next = saves->chains[chain];
    saves->chains[chain] = node;
}

/* Twice as many chains.  False: no memory, which matters to the first only. */
static bool grow(struct fs_saves *saves)
{
    size_t n_old = saves->n_chains;
    size_t n = n_old == 0 ? FIRST_CHAINS : 2 * n_old;
    struct saved_node **old = saves->chains;
    struct saved_node **chains = calloc(n, sizeof(*chains));
    size_t i;

    if (chains == NULL) {
        return n_old > 0;
    }
    saves->chains = chains;
    saves->n_chains = n;
    for (i = 0; i < n_old; i++) {
        while (old[i] != NULL) {
            struct saved_node *node = old[i];

            old[i] = node->next;
            chain_add(saves, node);
        }
    }
    free(old);
    return true;
}

struct saved_node *saves_node_new(struct fs_saves *saves,
                                  uint64_t ino,
                                  uint64_t generation,
                                  bool is_dir)
{
    struct saved_node *node;

    if (saves->n_nodes >= saves->n_chains && !grow(saves)) {
        return NULL;
    }
    node = calloc(1, sizeof(*node));
    if (node != NULL) {
        node->ino = ino;
        node->generation = generation;
        node->is_dir = is_dir;
        node->slot = FS_LEDGER_NONE;
        node->fd = -1;
        chain_add(saves, node);
        saves->n_nodes++;
    }
    return node;
}

void saves_node_remove(struct fs_saves *saves, struct saved_node *node)
{
    struct saved_node **at = &saves->chains[chain_of(saves, node->ino)];

    while (*at != node) {
        at = &(*at)->next;
    }
    *at = node->next;
    saves->n_nodes--;
    saves_node_detach(saves, node);
    if (node->slot != FS_LEDGER_NONE) {
        fs_ledger_set(saves->ledger, node->slot, &(struct fs_ledger_slot){0},
                      FS_LEDGER_NONE);
    }
    if (node->fd >= 0) {
        (void)close(node->fd); /* nothing was buffered */
    }
    free(node);
}

void saves_each(struct fs_saves *saves, saves_visit_fn fn, void *ctx)
{
    size_t i;

    for (i = 0; i < saves->n_chains; i++) {
        struct saved_node *node = saves->chains[i];

        while (node != NULL) {
            struct saved_node *next = node->next;

            fn(saves, node, ctx);
            node = next;
        }
    }
}

/* Who is whose child. */

void saves_node_detach(struct fs_saves *saves, struct saved_node *node)
{
    if (node->step != NULL) {
        node->step->n_writers -= saves_counts(saves, node)->n_write;
        (void)pthread_cond_broadcast(&saves->idle);
    }
    if (node->parent != NULL) {
        node->parent->n_children--;
        node->parent = NULL;
    }
    free(node->name);
    node->name = NULL;
    node->step = NULL;
}

void saves_node_move(struct fs_saves *saves,
                     struct saved_node *node,
                     struct saved_node *parent,
                     char *name)
{
    parent->n_children++; /* first: it may be the same one */
    saves_node_detach(saves, node);
    node->parent = parent;
    node->name = name;
    node->step = parent->step;
    if (node->step != NULL) {
        node->step->n_writers += saves_counts(saves, node)->n_write;
    }
}

static void
lose_parent(struct fs_saves *saves, struct saved_node *node, void *parent)
{
    if (node->parent == parent) {
        saves_node_detach(saves, node);
    }
}

/* The kernel has not yet forgotten a directory that is no more, whose number
 * another file has got.  The two share its lookups. */
static void use_again(struct fs_saves *saves,
                      struct saved_node *node,
                      uint64_t generation,
                      bool is_dir)
{
    if (node->n_children > 0) {
        saves_each(saves, lose_parent, node);
    }
    node->generation = generation;
    node->is_dir = is_dir;
}

struct saved_node *saves_node_for(struct fs_saves *saves,
                                  struct saved_node *parent,
                                  const char *name,
                                  const struct stat *stat,
                                  uint64_t generation)
{
    uint64_t ino = FS_SAVED_BIT | stat->st_ino;
    struct saved_node *node = saves_find(saves, ino);
    BASE_AUTO_MEM char *copy = NULL;

    if (node != NULL && node->generation == generation) {
        return node;
    }
    copy = strdup(name);
    if (copy == NULL) {
        return NULL;
    }
    if (node == NULL) {
        node = saves_node_new(saves, ino, generation, S_ISDIR(stat->st_mode));
    } else {
        use_again(saves, node, generation, S_ISDIR(stat->st_mode));
    }
    if (node != NULL) {
        saves_node_move(saves, node, parent, base_steal(&copy));
    }
    return node;
}

/* Counts. */

const struct fs_ledger_slot *saves_counts(const struct fs_saves *saves,
                                          const struct saved_node *node)
{
    static const struct fs_ledger_slot none;

    return node->slot == FS_LEDGER_NONE
               ? &none
               : fs_ledger_slot(saves->ledger, node->slot);
}

static uint32_t add_u32(uint32_t n, int delta)
{
    if (delta < 0 && n < (uint32_t)-delta) {
        return 0;
    }
    return n + (uint32_t)delta;
}

int saves_count(struct fs_saves *saves,
                struct saved_node *node,
                struct fs_turn *turn,
                const struct saved_delta *delta)
{
    struct fs_ledger_slot to = *saves_counts(saves, node);
    uint32_t n_write = to.n_write;

    if (turn != NULL && turn->is_counted) {
        return 0;
    }
    if (node->slot == FS_LEDGER_NONE) {
        node->slot = fs_ledger_take(saves->ledger);
        if (node->slot == FS_LEDGER_NONE) {
            saves_tell(saves, "save", "no room to note one more open file");
            return ENOSPC;
        }
    }
    if (delta->lookups < 0 && to.n_lookups < (uint64_t)-delta->lookups) {
        to.n_lookups = 0;
    } else {
        to.n_lookups += (uint64_t)delta->lookups;
    }
    if (to.n_open == 0) {
        to.backing = delta->backing;
    }
    to.n_open = add_u32(to.n_open, delta->open);
    to.n_write = add_u32(to.n_write, delta->write);
    if (to.n_open == 0) {
        to.n_write = 0;
        to.backing = 0;
    }
    if (to.backing != 0 && to.n_write > 0) {
        to.was_passed = 1;
    }
    to.ino = node->ino;
    fs_ledger_set(saves->ledger, node->slot, &to,
                  turn != NULL ? turn->entry : FS_LEDGER_NONE);
    if (node->step != NULL) {
        node->step->n_writers += to.n_write - n_write;
    }
    return 0;
}

static bool is_needed(const struct fs_saves *saves,
                      const struct saved_node *node)
{
    return saves_is_known(saves, node) || node->n_pins > 0 ||
           node->n_children > 0 ||
           (node->step != NULL && node->step->root == node);
}

void saves_gone_name(uint64_t ino, char ret[32])
{
    (void)snprintf(ret, 32, "gone/%" PRIu64, ino & ~FS_SAVED_BIT);
}

/* What remains is a descriptor: closing that frees the file. */
static int remove_gone(const struct fs_saves *saves, struct saved_node *node)
{
    int fd = node->fd;
    char name[32];

    saves_gone_name(node->ino, name);
    if (fd < 0) {
        fd = openat(saves->dir_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    }
    (void)unlinkat(saves->dir_fd, name, 0); /* the mount's end removes all */
    node->fd = -1;
    return fd;
}

int saves_collect(struct fs_saves *saves, struct saved_node *node)
{
    int fd = -1;

    while (node != NULL && !is_needed(saves, node)) {
        struct saved_node *parent = node->parent;

        if (node->is_gone) {
            fd = remove_gone(saves, node);
        }
        saves_node_remove(saves, node);
        node = parent;
    }
    if (node != NULL && node->fd >= 0 && node->n_pins == 0 &&
        saves_counts(saves, node)->n_open == 0) {
        fd = node->fd;
        node->fd = -1;
    }
    return fd;
}

static void
remove_unneeded(struct fs_saves *saves, struct saved_node *node, void *ctx)
{
    size_t *n_removed = ctx;

    if (!is_needed(saves, node)) {
        (*n_removed)++;
        saves_node_remove(saves, node);
    }
}

void saves_collect_all(struct fs_saves *saves)
{
    size_t n_removed;

    do { /* from the leaves up */
        n_removed = 0;
        saves_each(saves, remove_unneeded, &n_removed);
    } while (n_removed > 0);
}

/* Paths. */

static bool put(struct saved_path *path, const char *name, size_t n)
{
    size_t room = (size_t)(path->text - path->room);
    bool is_last = room == sizeof(path->room) - 1;

    if (n + !is_last > room) {
        return false;
    }
    path->text -= n + !is_last;
    memcpy(path->room + (path->text - path->room), name, n);
    if (!is_last) {
        path->room[path->text - path->room + (ptrdiff_t)n] = '/';
    }
    return true;
}

int saves_path(const struct saved_node *node,
               const char *name,
               struct saved_path *ret)
{
    char text[32];

    ret->room[sizeof(ret->room) - 1] = '\0';
    ret->text = ret->room + sizeof(ret->room) - 1;
    if (name != NULL && !put(ret, name, strlen(name))) {
        return ENAMETOOLONG;
    }
    if (node->is_gone) {
        saves_gone_name(node->ino, text);
        return put(ret, text, strlen(text)) ? 0 : ENAMETOOLONG;
    }
    while (node->parent != NULL) {
        if (!put(ret, node->name, strlen(node->name))) {
            return ENAMETOOLONG;
        }
        node = node->parent;
    }
    if (node->step == NULL || node->step->root != node ||
        node->step->is_detached) {
        return ENOENT;
    }
    (void)snprintf(text, sizeof(text), "%" PRIu64, node->step->step);
    return put(ret, text, strlen(text)) ? 0 : ENAMETOOLONG;
}

/* Attributes. */

static struct timespec time_of(const struct statx_timestamp *time)
{
    return (struct timespec){.tv_sec = time->tv_sec, .tv_nsec = time->tv_nsec};
}

int saves_stat(int dir_fd,
               const char *path,
               struct stat *ret,
               uint64_t *ret_generation)
{
    int flags = AT_SYMLINK_NOFOLLOW | (*path == '\0' ? AT_EMPTY_PATH : 0);
    struct statx stat;
    uint64_t mix;

    if (statx(dir_fd, path, flags, STATX_BASIC_STATS | STATX_BTIME, &stat) !=
        0) {
        return errno;
    }
    if ((stat.stx_ino & (FS_SAVED_BIT | FS_SAVED_LINK_BIT)) != 0) {
        return EOVERFLOW;
    }
    *ret = (struct stat){
        .st_ino = stat.stx_ino,
        .st_mode = stat.stx_mode,
        .st_nlink = stat.stx_nlink,
        .st_size = (off_t)stat.stx_size,
        .st_blocks = (blkcnt_t)stat.stx_blocks,
        .st_blksize = FS_SAVES_BLOCK,
        .st_atim = time_of(&stat.stx_atime),
        .st_mtim = time_of(&stat.stx_mtime),
        .st_ctim = time_of(&stat.stx_ctime),
    };
    if (ret_generation != NULL) {
        mix = (stat.stx_mask & STATX_BTIME) != 0
                  ? (uint64_t)stat.stx_btime.tv_sec * 1000000000u +
                        stat.stx_btime.tv_nsec
                  : 0;
        /* The kernel compares 31 bits of it. */
        *ret_generation =
            (mix * UINT64_C(0x9e3779b97f4a7c15) >> 34 & 0x3fffffff) + 1;
    }
    return 0;
}

/* A directory that is no more, but somebody stands in it. */
static void stat_nowhere(const struct saved_node *node, struct stat *ret)
{
    *ret = (struct stat){
        .st_mode = node->is_dir ? S_IFDIR | 0500 : S_IFREG | 0400,
        .st_blksize = FS_SAVES_BLOCK,
    };
}

void saves_adjust(const struct saved_node *node, struct stat *ret)
{
    ret->st_ino = node->ino;
    if (node->step != NULL && node == node->step->root &&
        saves_is_sealed(node)) {
        ret->st_mode = S_IFDIR | 0500;
        ret->st_nlink = 2;
        ret->st_mtim = node->step->time;
        ret->st_ctim = node->step->time;
        ret->st_atim = node->step->time;
    } else if (node->is_gone && node->step == NULL) {
        ret->st_nlink = 0;
    } else if (!node->is_dir) {
        ret->st_nlink = 1; /* the store's links are not ours */
    }
}

int saves_node_attr(const struct fs_saves *saves,
                    const struct saved_node *node,
                    struct stat *ret)
{
    struct saved_path path;
    int rc = 0;

    if (node->fd >= 0) {
        rc = saves_stat(node->fd, "", ret, NULL);
    } else {
        rc = saves_path(node, NULL, &path);
        if (rc == 0) {
            rc = saves_stat(saves->dir_fd, path.text, ret, NULL);
        }
        if (rc == ENOENT) {
            stat_nowhere(node, ret);
            rc = 0;
        }
    }
    saves_adjust(node, ret);
    return rc;
}

/* Files. */

int saves_to_gone(struct fs_saves *saves, struct saved_node *node, bool is_link)
{
    struct saved_path path;
    char name[32];
    int rc = saves_path(node, NULL, &path);

    if (rc != 0) {
        return rc;
    }
    saves_gone_name(node->ino, name);
    if (is_link) {
        rc = linkat(saves->dir_fd, path.text, saves->dir_fd, name, 0);
    } else {
        rc = renameat(saves->dir_fd, path.text, saves->dir_fd, name);
    }
    if (rc != 0 && !(is_link && errno == EEXIST)) {
        return errno;
    }
    node->is_gone = true;
    return 0;
}

/* As the file's owner we may always; its mode may say otherwise, when we are
 * not root. */
static int open_denied(const struct fs_saves *saves, const char *path)
{
    const int flags = O_RDWR | O_NOFOLLOW | O_CLOEXEC;
    struct stat stat;
    int fd;

    if (fstatat(saves->dir_fd, path, &stat, AT_SYMLINK_NOFOLLOW) != 0 ||
        !S_ISREG(stat.st_mode) ||
        fchmodat(saves->dir_fd, path, (stat.st_mode & 07777) | 0600, 0) != 0) {
        return -1;
    }
    fd = openat(saves->dir_fd, path, flags);
    if (fd >= 0) {
        (void)fchmod(fd, stat.st_mode & 07777); /* as it was: ours */
    }
    return fd;
}

int saves_node_open(struct fs_saves *saves, struct saved_node *node)
{
    struct saved_path path;
    int flags = O_RDWR | O_NOFOLLOW | O_CLOEXEC;
    int rc;

    if (node->fd >= 0) {
        return 0;
    }
    if (node->is_dir) {
        return EISDIR;
    }
    rc = saves_path(node, NULL, &path);
    if (rc != 0) {
        return rc;
    }
    /* A sealed step's file is a blob by now: never to be written.  So may be
     * one that is gone. */
    if (saves_is_sealed(node) ||
        (node->is_gone && saves_counts(saves, node)->n_write == 0)) {
        flags = O_RDONLY | O_NOFOLLOW | O_CLOEXEC;
    }
    node->fd = openat(saves->dir_fd, path.text, flags);
    if (node->fd < 0 && errno == EACCES && (flags & O_ACCMODE) == O_RDWR) {
        node->fd = open_denied(saves, path.text);
    }
    return node->fd >= 0 ? 0 : errno;
}

/* Nobody has @path open for writing (or mapped so): then its kernel grants a
 * read lease, which is given back at once. */
static int try_lease(int dir_fd, const char *path)
{
    int fd = openat(dir_fd, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    int rc = 0;

    if (fd < 0) {
        return errno;
    }
    if (fcntl(fd, F_SETLEASE, F_RDLCK) != 0) {
        rc = errno;
    } else {
        (void)fcntl(fd, F_SETLEASE, F_UNLCK); /* closing it does, too */
    }
    (void)close(fd); /* was not written */
    return rc;
}

bool saves_has_leases(int dir_fd)
{
    const char *const name = "steps/lease";
    int fd =
        openat(dir_fd, name, O_RDONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    bool has = false;

    if (fd >= 0) {
        (void)close(fd); /* was not written */
        has = try_lease(dir_fd, name) == 0;
        (void)unlinkat(dir_fd, name, 0); /* else it is no record */
    }
    return has;
}

bool saves_is_mapped(struct fs_saves *saves, struct saved_node *node)
{
    struct saved_path path;

    if (node->is_dir || saves_counts(saves, node)->was_passed == 0) {
        return false;
    }
    if (node->n_pins > 0) {
        return true; /* our own descriptor hides others: ask again */
    }
    if (node->fd >= 0) {
        (void)close(node->fd); /* nothing was buffered; opened when needed */
        node->fd = -1;
    }
    return saves_path(node, NULL, &path) == 0 &&
           try_lease(saves->dir_fd, path.text) == EAGAIN;
}

int saves_may_change(const struct fs_saves *saves,
                     const struct saved_node *node)
{
    const struct saved_step *step = node->step;

    if (step == NULL) {
        /* A removed file lives on for those who may write it already. */
        return saves_counts(saves, node)->n_write > 0 ? 0 : EROFS;
    }
    if (step->state == FS_STEP_SEALED || step->generation < saves->revoked) {
        return EROFS;
    }
    return step->state == FS_STEP_FROZEN ? EBUSY : 0;
}

void saves_touched(struct saved_step *step)
{
    if (step != NULL) {
        step->touched_ns = saves_now_ns();
    }
}
