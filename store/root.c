/* The root: opening it, and its lock.
 *
 * The lock is flock on ROOT/lock.  It dies with its holder, so what lies in
 * staging/ when it is got was left by a change that died, and is removed (but
 * for a save.JOB of a mount that lives, staging.c; a change that has given up
 * the lock for a while, change.c; and votes, vote.c).  The
 * file's text is the holder's pid, only for the error of those who wait. */
#include "store/root.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#include "base/io.h"
#include "base/num.h"
#include "store/blob.h"
#include "store/root_priv.h"
#include "store/vote_priv.h"

enum { MAX_UNLINKED = 256 }; /* the others are freed under the lock */

/* Owner: one thread, but for what is const, which any thread may call. */
struct store_root {
    char *path;
    uint64_t budget_bytes;
    int fd;
    int lock_fd;  /* -1: not locked by us */
    int owner_fd; /* -1: not owned by us */
    bool serves_owner;
    void (*warn)(void *ctx, const char *text); /* NULL: nobody wants to know */
    void *warn_ctx;
    char id[STORE_BLOB_TEXT_BYTES];
    int unlinked[MAX_UNLINKED]; /* to be closed when the lock is given up */
    size_t n_unlinked;
};

void store_root_free(struct store_root *root)
{
    if (root == NULL) {
        return;
    }
    store_root_unlock(root);
    if (root->owner_fd >= 0) {
        (void)close(root->owner_fd); /* gives it up */
    }
    if (root->fd >= 0) {
        (void)close(root->fd); /* was only read */
    }
    free(root->path);
    free(root);
}

void store_root_on_warning(struct store_root *root,
                           void (*fn)(void *ctx, const char *text),
                           void *ctx)
{
    root->warn = fn;
    root->warn_ctx = ctx;
}

void store_root_sync_shown(const struct store_root *root,
                           const char *folder,
                           enum base_fault_point point)
{
    struct base_err err = {0};
    enum base_code code = base_fault_check(point, &err);

    if (code == BASE_OK) {
        code = base_dir_sync(root->fd, folder, &err);
    }
    if (code != BASE_OK && root->warn != NULL) {
        (void)base_wrap(&err, code,
                        "%s: what was published may not outlive a loss of "
                        "power",
                        root->path);
        root->warn(root->warn_ctx, err.text);
    }
}

const char *store_root_path(const struct store_root *root)
{
    return root->path;
}

const char *store_root_id(const struct store_root *root)
{
    return root->id;
}

int store_root_fd(const struct store_root *root)
{
    return root->fd;
}

uint64_t store_root_budget(const struct store_root *root)
{
    return root->budget_bytes;
}

bool store_root_is_locked(const struct store_root *root)
{
    return root->lock_fd >= 0;
}

enum base_code store_list(const struct store_root *root,
                          const char *path,
                          struct store_listing *ret,
                          struct base_err *err)
{
    return base_dir_list(root->fd, path, STORE_MAX_ENTRIES, &ret->names,
                         &ret->n, err);
}

enum base_code store_job_check(const char *job, struct base_err *err)
{
    struct base_err why;

    if (ptc_name_check(base_str_of(job), "job", &why) != BASE_OK) {
        return base_fail(err, BASE_BAD_ARG, "%s", why.text);
    }
    if (job[0] == '.') {
        return base_fail(err, BASE_BAD_ARG,
                         "job '%s': the name begins with '.'", job);
    }
    return BASE_OK;
}

bool store_number_parse(const char *text, uint64_t *ret)
{
    return text[0] != '0' && base_parse_u64(base_str_of(text), ret);
}

/* --- opening --- */

/* Take "KEY VALUE\n" off the front of *text. */
static bool
take_line(struct base_str *text, const char *key, struct base_str *ret_value)
{
    size_t n_key = strlen(key);
    const char *end = memchr(text->ptr, '\n', text->len);
    size_t n_line;

    if (end == NULL || !base_str_starts(*text, base_str_of(key))) {
        return false;
    }
    n_line = (size_t)(end - text->ptr);
    if (n_line < n_key) {
        return false;
    }
    *ret_value = (struct base_str){text->ptr + n_key, n_line - n_key};
    *text = (struct base_str){end + 1, text->len - n_line - 1};
    return true;
}

static enum base_code
id_parse(struct store_root *root, struct base_str text, struct base_err *err)
{
    struct base_str format;
    struct base_str id;
    struct base_str budget;
    struct ptc_blob_name name;

    if (!take_line(&text, "retile store ", &format)) {
        return base_fail(err, BASE_BAD_INPUT,
                         "%s: is no store: its id is malformed", root->path);
    }
    if (!base_str_eq(format, BASE_STR("1"))) {
        return base_fail(err, BASE_BAD_INPUT,
                         "%s: is a store of format %.*s; this program knows 1",
                         root->path, BASE_STR_FMT(format));
    }
    if (!take_line(&text, "id ", &id) || !store_blob_name_parse(id, &name) ||
        !take_line(&text, "budget ", &budget) ||
        !base_parse_u64(budget, &root->budget_bytes) || text.len != 0) {
        return base_fail(err, BASE_BAD_INPUT,
                         "%s: is no store: its id is malformed", root->path);
    }
    (void)store_blob_name_format(&name, root->id);
    return BASE_OK;
}

enum base_code
store_root_open(const char *path, struct store_root **ret, struct base_err *err)
{
    BASE_AUTO(store_root) root = calloc(1, sizeof(*root));
    BASE_AUTO_BUF text;
    enum base_code code;

    base_buf_init(&text, STORE_ID_MAX_BYTES);
    if (root == NULL) {
        return base_fail(err, BASE_NO_MEM, "%s: cannot open", path);
    }
    root->fd = -1;
    root->lock_fd = -1;
    root->owner_fd = -1;
    root->path = strdup(path);
    if (root->path == NULL) {
        return base_fail(err, BASE_NO_MEM, "%s: cannot open", path);
    }
    BASE_TRY(base_io_open(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0, path,
                          &root->fd, err));
    code = base_file_read(root->fd, "id", &text, err);
    if (code == BASE_NOT_FOUND) {
        return base_fail(err, BASE_BAD_INPUT,
                         "%s: is no store: it has no id (retile store init "
                         "makes one)",
                         path);
    }
    if (code != BASE_OK) {
        return base_wrap(err, code == BASE_LIMIT ? BASE_BAD_INPUT : code, "%s",
                         path);
    }
    BASE_TRY(id_parse(root, base_buf_str(&text), err));
    *ret = base_steal(&root);
    return BASE_OK;
}

/* --- the lock --- */

static int64_t now_ns(void)
{
    struct timespec ts;

    (void)clock_gettime(CLOCK_MONOTONIC, &ts); /* cannot fail */
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* There is no flock with a deadline, and no event tells that one was given
 * up: so it is asked for again, after 1 ms, 2 ms, ... 16 ms. */
enum base_code store_flock(int fd,
                           int operation,
                           int64_t wait_ns,
                           const char *label,
                           struct base_err *err)
{
    const int64_t started_ns = now_ns();
    int pause_ms = 1;

    for (;;) {
        int64_t left_ns;

        if (flock(fd, operation | LOCK_NB) == 0) {
            return BASE_OK;
        }
        if (errno == EINTR) {
            continue;
        }
        if (errno != EWOULDBLOCK) {
            return base_fail_errno(err, errno, "%s: cannot lock", label);
        }
        left_ns = wait_ns - (now_ns() - started_ns);
        if (left_ns <= 0) {
            return base_fail(err, BASE_EXISTS, "%s: is locked", label);
        }
        if (left_ns < (int64_t)pause_ms * 1000000) {
            pause_ms = (int)(left_ns / 1000000);
        }
        (void)poll(NULL, 0, pause_ms); /* a signal only makes it shorter */
        pause_ms = pause_ms == 0 ? 1 : pause_ms < 16 ? pause_ms * 2 : 16;
    }
}

enum base_code store_same_file(const struct store_root *root,
                               const char *path,
                               int fd,
                               bool *ret,
                               struct base_err *err)
{
    struct stat ours;
    struct stat there;

    if (fstat(fd, &ours) != 0) {
        return base_fail_errno(err, errno, "%s: cannot stat", path);
    }
    if (fstatat(root->fd, path, &there, AT_SYMLINK_NOFOLLOW) != 0) {
        if (errno != ENOENT && errno != ENOTDIR) {
            return base_fail_errno(err, errno, "%s: cannot stat", path);
        }
        *ret = false;
        return BASE_OK;
    }
    *ret = ours.st_ino == there.st_ino && ours.st_dev == there.st_dev;
    return BASE_OK;
}

enum base_code store_root_keep_lock(const struct store_root *root,
                                    struct base_err *err)
{
    bool is_same;

    BASE_TRY(store_same_file(root, "lock", root->lock_fd, &is_same, err));
    if (!is_same) {
        return base_fail(err, BASE_CHANGED,
                         "%s/lock: was removed or replaced while this program "
                         "held it",
                         root->path);
    }
    return BASE_OK;
}

static enum base_code
open_lock(const struct store_root *root, int *ret_fd, struct base_err *err)
{
    return base_io_open(root->fd, "lock",
                        O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK, 0600,
                        "lock", ret_fd, err);
}

static enum base_code
lock_fail(const struct store_root *root, int fd, struct base_err *err)
{
    char text[24] = "";
    struct base_str digits;
    uint64_t pid;
    ssize_t got = pread(fd, text, sizeof(text) - 1, 0);

    digits = (struct base_str){text, got > 1 ? (size_t)got - 1 : 0};
    if (!base_parse_u64(digits, &pid)) {
        return base_fail(err, BASE_EXISTS,
                         "%s: another program is changing the store",
                         root->path);
    }
    return base_fail(err, BASE_EXISTS,
                     "%s: process %" PRIu64 " is changing the store",
                     root->path, pid);
}

/* Say in the lock who has it. */
static enum base_code lock_sign(int fd, struct base_err *err)
{
    char text[24];
    int n = snprintf(text, sizeof(text), "%ld\n", (long)getpid());

    if (ftruncate(fd, 0) < 0) {
        return base_fail_errno(err, errno, "lock: cannot write");
    }
    return base_io_pwrite(fd, text, (size_t)n, 0, "lock", err);
}

/* Remove what dead changes left. */
static enum base_code staging_clear(struct store_root *root,
                                    struct base_err *err)
{
    STORE_AUTO_LISTING left = {0};

    BASE_TRY(store_list(root, "staging", &left, err));
    for (size_t i = 0; i < left.n; i++) {
        BASE_AUTO_MEM char *path = base_path("staging/%s", left.names[i]);
        bool is_held = false;
        struct store_vote vote;

        if (path == NULL) {
            return base_fail(err, BASE_NO_MEM, "staging: cannot clear");
        }
        if (store_staging_is_one(left.names[i])) { /* perhaps in use */
            BASE_TRY(store_staging_clear(root, path, err));
        } else if (store_vote_name_parse(left.names[i], &vote)) {
            BASE_TRY(store_vote_clear(root, path, err));
        } else {
            BASE_TRY(store_staging_is_held(root, path, &is_held, err));
            if (!is_held) { /* else it is a change that copies */
                BASE_TRY(base_dir_remove(root->fd, path, err));
            }
        }
    }
    return BASE_OK;
}

enum base_code store_root_own(struct store_root *root, struct base_err *err)
{
    return root->owner_fd >= 0 ? BASE_OK
                               : store_owner_take(root, &root->owner_fd, err);
}

void store_root_serve_owner(struct store_root *root)
{
    root->serves_owner = true;
}

/* May we change the store, if it has an owner?  Errors: BASE_DENIED */
static enum base_code check_owner(const struct store_root *root,
                                  struct base_err *err)
{
    return root->owner_fd >= 0 || root->serves_owner
               ? BASE_OK
               : store_owner_check(root, err);
}

enum base_code
store_root_lock(struct store_root *root, int64_t wait_ns, struct base_err *err)
{
    BASE_AUTO_FD fd = -1;
    bool is_same = false;
    enum base_code code;

    if (root->lock_fd >= 0) {
        return base_fail(err, BASE_EXISTS,
                         "%s: this program is changing the store already",
                         root->path);
    }
    BASE_TRY(check_owner(root, err));
    BASE_TRY(open_lock(root, &fd, err));
    code = store_flock(fd, LOCK_EX, wait_ns, "lock", err);
    if (code == BASE_EXISTS) {
        return lock_fail(root, fd, err);
    }
    if (code == BASE_OK) {
        BASE_TRY(check_owner(root, err)); /* it may have come meanwhile */
    }
    if (code == BASE_OK) {
        code = store_same_file(root, "lock", fd, &is_same, err);
    }
    if (code == BASE_OK && !is_same) {
        code = base_fail(err, BASE_CHANGED, "lock: was replaced meanwhile");
    }
    if (code == BASE_OK) {
        /* The pid is for people: on a full disk it may be missing. */
        code = lock_sign(fd, err);
        code = code == BASE_NO_SPACE ? BASE_OK : code;
    }
    if (code == BASE_OK) {
        code = staging_clear(root, err);
    }
    if (code != BASE_OK) {
        return base_wrap(err, code, "%s", root->path);
    }
    root->lock_fd = base_steal_fd(&fd);
    return BASE_OK;
}

void store_root_close_later(struct store_root *root, int fd)
{
    if (root->n_unlinked == MAX_UNLINKED) {
        (void)close(fd); /* was only opened */
        return;
    }
    root->unlinked[root->n_unlinked++] = fd;
}

void store_root_close_unlinked(struct store_root *root)
{
    while (root->n_unlinked > 0) {
        (void)close(root->unlinked[--root->n_unlinked]); /* as above */
    }
}

void store_root_take_unlinked(struct store_root *root,
                              int **ret_fds,
                              size_t *ret_n)
{
    const size_t n = root->n_unlinked;

    *ret_fds = n == 0 ? NULL : calloc(n, sizeof(**ret_fds));
    *ret_n = *ret_fds == NULL ? 0 : n;
    if (*ret_fds != NULL) {
        memcpy(*ret_fds, root->unlinked, n * sizeof(**ret_fds));
        root->n_unlinked = 0;
    }
}

void store_root_unlock(struct store_root *root)
{
    if (root->lock_fd < 0) {
        return;
    }
    /* A name that stays would only be wrong in an error's text.  The explicit
     * unlock counts where a child still has the descriptor. */
    (void)!ftruncate(root->lock_fd, 0);
    (void)flock(root->lock_fd, LOCK_UN);
    (void)close(root->lock_fd);
    root->lock_fd = -1;
    store_root_close_unlinked(root);
}

enum base_code store_root_is_busy(const struct store_root *root,
                                  bool *ret,
                                  struct base_err *err)
{
    BASE_AUTO_FD fd = -1;
    enum base_code code =
        base_io_open(root->fd, "lock", O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0,
                     "lock", &fd, err);

    if (code == BASE_OK) {
        code = store_flock(fd, LOCK_SH, 0, "lock", err);
    }
    if (code != BASE_OK && code != BASE_EXISTS && code != BASE_NOT_FOUND) {
        return code;
    }
    *ret = code == BASE_EXISTS;
    return BASE_OK;
}
