/* Handles and bytes.  A handle is a count of its node; the node's one
 * descriptor serves all of them. */
#include "fuse/saves_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/io.h"
#include "base/num.h"

static bool may_write(int flags)
{
    return (flags & O_ACCMODE) != O_RDONLY;
}

static void close_if(int fd)
{
    if (fd >= 0) {
        (void)close(fd); /* nothing was buffered */
    }
}

/* Handles.  Lock held. */

/* Of a descriptor that cannot write: the kernel keeps it, and then only those
 * who may write count as writers of the file (saves_is_mapped). */
static uint32_t make_backing(const struct fs_saves *saves,
                             const struct saved_node *node)
{
    struct saved_path path;
    uint32_t id = 0;
    int fd = -1;

    if (saves->has_leases && saves_path(node, NULL, &path) == 0) {
        fd =
            openat(saves->dir_fd, path.text, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    }
    if (fd >= 0) {
        id = saves->backing.open(saves->backing.ctx, fd);
        close_if(fd);
    }
    return id;
}

/* The id for the first handle, or what the others have. */
static uint32_t backing_of(const struct fs_saves *saves,
                           const struct saved_node *node)
{
    const struct fs_ledger_slot *counts = saves_counts(saves, node);

    if (counts->n_open > 0) {
        return counts->backing;
    }
    return saves->backing.open != NULL ? make_backing(saves, node) : 0;
}

static void drop_backing(const struct fs_saves *saves, uint32_t id)
{
    if (id != 0 && saves->backing.close != NULL) {
        saves->backing.close(saves->backing.ctx, id);
    }
}

int saves_open_node(struct fs_saves *saves,
                    struct fs_turn *turn,
                    struct saved_node *node,
                    unsigned n_lookups,
                    int flags,
                    uint32_t *ret_backing)
{
    struct saved_delta delta = {
        .lookups = (int64_t)n_lookups,
        .open = 1,
        .write = may_write(flags),
    };
    bool is_first;
    int rc = saves_node_open(saves, node);

    if (rc == 0) {
        is_first = saves_counts(saves, node)->n_open == 0;
        delta.backing = backing_of(saves, node);
        rc = saves_count(saves, node, turn, &delta);
        if (rc != 0 && is_first) {
            drop_backing(saves, delta.backing);
        }
    }
    if (rc != 0) {
        close_if(saves_collect(saves, node)); /* rare: may take long */
        return rc;
    }
    *ret_backing = delta.backing;
    return 0;
}

/* Give back a handle and lookups; a descriptor to be closed without lock. */
static int give_back(struct fs_saves *saves,
                     struct fs_turn *turn,
                     struct saved_node *node,
                     unsigned n_lookups,
                     int flags)
{
    const struct saved_delta delta = {
        .lookups = -(int64_t)n_lookups,
        .open = -1,
        .write = may_write(flags) ? -1 : 0,
    };
    const struct fs_ledger_slot *counts = saves_counts(saves, node);
    uint32_t backing = counts->backing;

    if (node->slot == FS_LEDGER_NONE) {
        return -1; /* it has no handle */
    }
    (void)saves_count(saves, node, turn, &delta); /* it has a slot */
    if (saves_counts(saves, node)->n_open == 0) {
        drop_backing(saves, backing);
    }
    if (may_write(flags)) {
        saves_touched(node->step);
        (void)pthread_cond_broadcast(&saves->idle); /* cannot fail */
    }
    return saves_collect(saves, node);
}

static int
may_open(const struct fs_saves *saves, const struct saved_node *node, int flags)
{
    int rc;

    if (node->is_dir) {
        return EISDIR;
    }
    if (!may_write(flags) && (flags & O_TRUNC) == 0) {
        return 0;
    }
    if (node->step == NULL) {
        return EROFS; /* it may be a blob by now */
    }
    rc = saves_may_change(saves, node);
    return rc == 0 && node->step->is_full && (flags & O_TRUNC) == 0 ? ENOSPC
                                                                    : rc;
}

int fs_saves_open(struct fs_saves *saves,
                  struct fs_turn *turn,
                  uint64_t ino,
                  int flags,
                  uint32_t *ret_backing)
{
    struct saved_node *node;
    int rc = ESTALE;

    saves_lock(saves);
    node = saves_find(saves, ino);
    if (node != NULL) {
        rc = may_open(saves, node, flags);
        if (rc == 0) {
            rc = saves_open_node(saves, turn, node, 0, flags, ret_backing);
        }
    }
    saves_unlock(saves);
    return rc == 0 && (flags & O_TRUNC) != 0
               ? saves_truncate_opened(saves, ino, 0, flags)
               : rc;
}

void fs_saves_release(struct fs_saves *saves,
                      struct fs_turn *turn,
                      uint64_t ino,
                      int flags)
{
    struct saved_node *node;
    int fd = -1;

    saves_lock(saves);
    node = saves_find(saves, ino);
    if (node != NULL) {
        fd = give_back(saves, turn, node, 0, flags);
    }
    saves_unlock(saves);
    close_if(fd);
}

/* Pins. */

/* While a freeze waits for who writes, that may go on. */
static int may_write_bytes(const struct fs_saves *saves,
                           const struct saved_node *node)
{
    int rc = saves_may_change(saves, node);

    return rc == EBUSY && saves_counts(saves, node)->n_write > 0 ? 0 : rc;
}

static int pin(struct fs_saves *saves,
               struct saved_node *node,
               bool is_change,
               struct fs_pin *ret)
{
    int rc = is_change ? may_write_bytes(saves, node) : 0;

    if (rc == 0) {
        rc = saves_node_open(saves, node);
    }
    if (rc != 0) {
        return rc;
    }
    node->n_pins++;
    if (is_change && node->step != NULL) {
        node->step->n_changes++;
    }
    *ret = (struct fs_pin){
        .saves = saves,
        .node = node,
        .step = is_change && node->step != NULL ? node->step->sequence : 0,
        .fd = node->fd,
        .is_change = is_change};
    return 0;
}

int fs_saves_pin(struct fs_saves *saves,
                 uint64_t ino,
                 bool is_change,
                 struct fs_pin *ret)
{
    struct saved_node *node;
    int rc = ESTALE;

    saves_lock(saves);
    node = saves_find(saves, ino);
    if (node != NULL) {
        rc = pin(saves, node, is_change, ret);
    }
    saves_unlock(saves);
    return rc;
}

void fs_saves_unpin(struct fs_pin *pin)
{
    struct fs_saves *saves = pin->saves;
    struct saved_node *node = pin->node;
    struct saved_step *step;
    int fd;

    saves_lock(saves);
    node->n_pins--;
    step = saves_step_that(saves, pin->step);
    if (step != NULL) {
        step->n_changes--;
        saves_touched(step);
        (void)pthread_cond_broadcast(&saves->idle); /* cannot fail */
    }
    fd = saves_collect(saves, node);
    saves_unlock(saves);
    close_if(fd);
}

/* Bytes.  Lock not held. */

int saves_truncate_opened(struct fs_saves *saves,
                          uint64_t ino,
                          unsigned n_lookups,
                          int flags)
{
    struct saved_node *node;
    struct fs_pin pin;
    int fd = -1;
    int rc = fs_saves_pin(saves, ino, true, &pin);

    if (rc == 0) {
        if (ftruncate(pin.fd, 0) != 0) {
            rc = errno;
        }
        fs_saves_unpin(&pin);
    }
    if (rc != 0) {
        saves_lock(saves);
        node = saves_find(saves, ino);
        if (node != NULL) {
            fd = give_back(saves, NULL, node, n_lookups, flags);
        }
        saves_unlock(saves);
        close_if(fd);
    }
    return rc;
}

/* Would writing there take room?  Asked when there is little. */
static bool is_new_room(int fd, uint64_t offset, size_t n_bytes)
{
    off_t hole = lseek(fd, (off_t)offset, SEEK_HOLE);

    return hole < 0 || (uint64_t)hole < offset + n_bytes;
}

int fs_saves_write(struct fs_saves *saves,
                   uint64_t ino,
                   const void *bytes,
                   size_t n_bytes,
                   uint64_t offset)
{
    struct base_err err;
    struct fs_pin pin;
    int rc;

    if (offset > INT64_MAX - n_bytes) {
        return EFBIG;
    }
    rc = fs_saves_pin(saves, ino, true, &pin);
    if (rc != 0) {
        return rc;
    }
    if (saves_charge(saves, n_bytes) != 0 &&
        is_new_room(pin.fd, offset, n_bytes)) {
        rc = ENOSPC;
    } else {
        rc = saves_errno(base_io_pwrite(pin.fd, bytes, n_bytes, offset,
                                        "a saved file", &err));
    }
    fs_saves_unpin(&pin);
    return rc;
}

int fs_saves_read(struct fs_saves *saves,
                  uint64_t ino,
                  void *bytes,
                  size_t n_bytes,
                  uint64_t offset,
                  size_t *ret_bytes)
{
    enum base_code code = BASE_CHANGED;
    struct base_err err;
    struct fs_pin pin;
    struct stat stat;
    size_t n = 0;
    int rc = fs_saves_pin(saves, ino, false, &pin);

    if (rc != 0) {
        return rc;
    }
    while (rc == 0 && code == BASE_CHANGED) { /* made shorter meanwhile */
        if (fstat(pin.fd, &stat) != 0) {
            rc = errno;
            break;
        }
        n = offset >= (uint64_t)stat.st_size
                ? 0
                : (size_t)base_min_u64(n_bytes,
                                       (uint64_t)stat.st_size - offset);
        code = base_io_pread(pin.fd, bytes, n, offset, "a saved file", &err);
    }
    fs_saves_unpin(&pin);
    if (rc == 0) {
        rc = saves_errno(code);
    }
    *ret_bytes = n;
    return rc;
}

int fs_saves_allocate(struct fs_saves *saves,
                      uint64_t ino,
                      int mode,
                      uint64_t offset,
                      uint64_t n_bytes)
{
    struct fs_pin pin;
    int rc;

    if (offset > INT64_MAX || n_bytes > INT64_MAX - offset) {
        return EFBIG;
    }
    rc = fs_saves_pin(saves, ino, true, &pin);
    if (rc != 0) {
        return rc;
    }
    if ((mode & FALLOC_FL_PUNCH_HOLE) == 0 &&
        saves_charge(saves, n_bytes) != 0 &&
        is_new_room(pin.fd, offset, (size_t)n_bytes)) {
        rc = ENOSPC;
    } else if (fallocate(pin.fd, mode, (off_t)offset, (off_t)n_bytes) != 0) {
        rc = errno;
    }
    fs_saves_unpin(&pin);
    return rc;
}

int fs_saves_copy(struct fs_saves *saves,
                  uint64_t from,
                  uint64_t from_offset,
                  uint64_t to,
                  uint64_t to_offset,
                  size_t n_bytes,
                  size_t *ret_bytes)
{
    off_t in = (off_t)from_offset;
    off_t out = (off_t)to_offset;
    struct fs_pin from_pin;
    struct fs_pin to_pin;
    ssize_t n;
    int rc = fs_saves_pin(saves, from, false, &from_pin);

    if (rc != 0) {
        return rc;
    }
    rc = fs_saves_pin(saves, to, true, &to_pin);
    if (rc == 0) {
        rc = saves_charge(saves, n_bytes);
        if (rc == 0) {
            n = copy_file_range(from_pin.fd, &in, to_pin.fd, &out, n_bytes, 0);
            rc = n < 0 ? errno : 0;
            *ret_bytes = n < 0 ? 0 : (size_t)n;
        }
        fs_saves_unpin(&to_pin);
    }
    fs_saves_unpin(&from_pin);
    return rc;
}

int fs_saves_sync(struct fs_saves *saves, uint64_t ino, bool only_data)
{
    struct fs_pin pin;
    int rc = fs_saves_pin(saves, ino, false, &pin);

    if (rc == 0) {
        if ((only_data ? fdatasync(pin.fd) : fsync(pin.fd)) != 0) {
            rc = errno;
        }
        fs_saves_unpin(&pin);
    }
    return rc;
}

/* Attributes. */

static int set_size(struct fs_saves *saves, uint64_t ino, off_t size)
{
    struct fs_pin pin;
    int rc = fs_saves_pin(saves, ino, true, &pin);

    if (rc == 0) {
        if (ftruncate(pin.fd, size) != 0) {
            rc = errno;
        }
        fs_saves_unpin(&pin);
    }
    return rc;
}

static struct timespec
time_to_set(unsigned set, unsigned is_set, unsigned is_now, struct timespec to)
{
    if ((set & is_now) != 0) {
        return (struct timespec){.tv_nsec = UTIME_NOW};
    }
    return (set & is_set) != 0 ? to : (struct timespec){.tv_nsec = UTIME_OMIT};
}

/* Lock held. */
static int set_rest(struct fs_saves *saves,
                    const struct saved_node *node,
                    unsigned set,
                    const struct stat *attr)
{
    const struct timespec times[2] = {
        time_to_set(set, FS_SET_ATIME, FS_SET_ATIME_NOW, attr->st_atim),
        time_to_set(set, FS_SET_MTIME, FS_SET_MTIME_NOW, attr->st_mtim),
    };
    struct saved_path path;
    int rc = saves_path(node, NULL, &path);

    if (rc != 0) {
        return rc;
    }
    if ((set & FS_SET_MODE) != 0 &&
        fchmodat(saves->dir_fd, path.text, attr->st_mode & 0777, 0) != 0) {
        return errno;
    }
    if ((times[0].tv_nsec != UTIME_OMIT || times[1].tv_nsec != UTIME_OMIT) &&
        utimensat(saves->dir_fd, path.text, times, AT_SYMLINK_NOFOLLOW) != 0) {
        return errno;
    }
    return 0;
}

int fs_saves_set_attr(struct fs_saves *saves,
                      uint64_t ino,
                      unsigned set,
                      const struct stat *attr,
                      struct stat *ret)
{
    struct saved_node *node;
    int rc = (set & FS_SET_SIZE) != 0 ? set_size(saves, ino, attr->st_size) : 0;

    if (rc != 0) {
        return rc;
    }
    saves_lock(saves);
    node = saves_find(saves, ino);
    rc = node != NULL ? may_write_bytes(saves, node) : ESTALE;
    if (rc == 0) {
        rc = set_rest(saves, node, set, attr);
    }
    if (rc == 0) {
        rc = saves_node_attr(saves, node, ret);
    }
    saves_unlock(saves);
    return rc;
}
