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

#endif
