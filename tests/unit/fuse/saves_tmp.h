/* A staging directory with saves over it: a fixture per test. */
#ifndef UNIT_FUSE_SAVES_TMP_H
#define UNIT_FUSE_SAVES_TMP_H

#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "fuse/saves.h"

struct saves_tmp {
    char path[64];
    int fd;
    struct fs_saves *saves;
    uint64_t dir; /* of the step that it begins with: 100 */
    struct fs_saves_guard guard;
    struct fs_saves_backing backing;
};

/* A new server over what is there. */
static inline void saves_tmp_start(struct saves_tmp *tmp)
{
    struct base_err err;

    assert_ok(fs_saves_create(tmp->fd, &tmp->saves, &err), &err);
    fs_saves_set_guard(tmp->saves, &tmp->guard);
    fs_saves_set_backing(tmp->saves, &tmp->backing);
}

/* What a kill -9 leaves: the files, nothing else. */
static inline void saves_tmp_restart(struct saves_tmp *tmp)
{
    fs_saves_free(tmp->saves);
    saves_tmp_start(tmp);
}

static inline int saves_tmp_make_in(void **state, const char *place)
{
    static struct saves_tmp tmp;

    tmp = (struct saves_tmp){0};
    (void)snprintf(tmp.path, sizeof(tmp.path), "%s/retile-unit-XXXXXX", place);
    assert_non_null(mkdtemp(tmp.path));
    tmp.fd = open(tmp.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(tmp.fd >= 0);
    saves_tmp_start(&tmp);
    assert_int_equal(fs_saves_begin(tmp.saves, 1, 100, &tmp.dir), 0);
    *state = &tmp;
    return 0;
}

static inline int saves_tmp_make(void **state)
{
    return saves_tmp_make_in(state, "/tmp");
}

static inline int saves_tmp_remove(void **state)
{
    struct saves_tmp *tmp = *state;
    struct base_err err;

    fs_saves_free(tmp->saves);
    (void)close(tmp->fd); /* was only read */
    assert_ok(base_dir_remove(AT_FDCWD, tmp->path, &err), &err);
    return 0;
}

#define saves_test(test)                                                       \
    cmocka_unit_test_setup_teardown(test, saves_tmp_make, saves_tmp_remove)

/* Is there a file of that name in the staging? */
static inline bool saves_tmp_has(const struct saves_tmp *tmp, const char *path)
{
    struct stat stat;

    return fstatat(tmp->fd, path, &stat, AT_SYMLINK_NOFOLLOW) == 0;
}

/* How many files are in gone/. */
static inline size_t saves_tmp_n_gone(const struct saves_tmp *tmp)
{
    struct base_err err;
    char **names;
    size_t n;

    assert_ok(base_dir_list(tmp->fd, "gone", 1000, &names, &n, &err), &err);
    base_names_free(names, n);
    return n;
}

/* How long a freeze that must fail waits. */
enum { WAIT_NS = 20000000 };

/* A new file with @text in it, looked up once and closed. */
static inline uint64_t write_file(struct saves_tmp *tmp,
                                  uint64_t dir,
                                  const char *name,
                                  const char *text)
{
    struct fs_saved saved;
    uint32_t backing;

    assert_int_equal(fs_saves_create_file(tmp->saves, NULL, dir, name, 0644,
                                          O_WRONLY, &saved, &backing),
                     0);
    assert_int_equal(
        fs_saves_write(tmp->saves, saved.ino, text, strlen(text), 0), 0);
    fs_saves_release(tmp->saves, NULL, saved.ino, O_WRONLY);
    return saved.ino;
}

static inline uint64_t
make_dir(struct saves_tmp *tmp, uint64_t dir, const char *name)
{
    struct fs_saved saved;

    assert_int_equal(fs_saves_mkdir(tmp->saves, NULL, dir, name, 0755, &saved),
                     0);
    return saved.ino;
}

static inline int open_file(struct saves_tmp *tmp, uint64_t ino, int flags)
{
    uint32_t backing;

    return fs_saves_open(tmp->saves, NULL, ino, flags, &backing);
}

static inline void
assert_text(struct saves_tmp *tmp, uint64_t ino, const char *text)
{
    char buf[64] = "";
    size_t n;

    assert_int_equal(
        fs_saves_read(tmp->saves, ino, buf, sizeof(buf) - 1, 0, &n), 0);
    assert_int_equal(n, strlen(text));
    assert_string_equal(buf, text);
    assert_int_equal(fs_saves_read(tmp->saves, ino, buf, 1, n, &n), 0);
    assert_int_equal(n, 0);
}

static inline int lookup(struct saves_tmp *tmp, uint64_t dir, const char *name)
{
    struct fs_saved saved;
    int rc = fs_saves_lookup(tmp->saves, NULL, dir, name, &saved);

    if (rc == 0) {
        fs_saves_forget(tmp->saves, saved.ino, 1);
    }
    return rc;
}

static inline struct fs_step step_of(struct saves_tmp *tmp, uint32_t i)
{
    struct fs_step steps[8];

    assert_true(fs_saves_steps(tmp->saves, steps, N_ITEMS(steps)) > i);
    return steps[i];
}

static inline int freeze(struct saves_tmp *tmp, uint64_t step)
{
    char *path;
    int rc = fs_saves_freeze(tmp->saves, step, WAIT_NS, &path);

    free(path);
    return rc;
}

struct backings {
    uint32_t n_open;
    uint32_t last;
};

static inline uint32_t backing_open(void *ctx, int fd)
{
    struct backings *all = ctx;

    assert_true(fd >= 0);
    all->n_open++;
    return ++all->last;
}

static inline void backing_close(void *ctx, uint32_t id)
{
    struct backings *all = ctx;

    assert_int_equal(id, all->last);
    all->n_open--;
}

/* What a listing gives, at most @max of it. */
struct names {
    char text[4096];
    uint64_t position;
    uint32_t n;
    uint32_t max;
};

static inline bool
add_name(void *ctx, const char *name, uint64_t ino, mode_t type, uint64_t at)
{
    struct names *names = ctx;

    (void)ino;
    (void)type;
    if (names->n == names->max) {
        return false;
    }
    assert_true(at > names->position);
    names->n++;
    names->position = at;
    (void)snprintf(names->text + strlen(names->text),
                   sizeof(names->text) - strlen(names->text), "%s ", name);
    return true;
}

#endif
